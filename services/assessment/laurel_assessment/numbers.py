"""What this service's tables say of how it is: gauges for the alerts (deploy/prometheus/alerts.yml)."""

from __future__ import annotations

from collections.abc import Mapping

from laurel.database import Transaction


async def numbers(tx: Transaction) -> Mapping[str, float]:
    """Rows of uploads that nobody has decided yet, and for how long no upload has been worked on although one waits."""
    row = await tx.fetchrow(
        """
        SELECT coalesce(sum(rows - processed), 0)::float8 AS rows,
               extract(epoch FROM now() - max(coalesce(worked_at, created_at))
                       FILTER (WHERE status = 'processing'))::float8 AS silent
        FROM imports WHERE status IN ('receiving', 'processing')
        """
    )
    assert row is not None
    return {"laurel_import_rows_waiting": row["rows"], "laurel_import_silent_seconds": max(0.0, row["silent"] or 0.0)}
