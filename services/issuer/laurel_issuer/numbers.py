"""What this service's tables say of how it is: gauges for the alerts (deploy/prometheus/alerts.yml)."""

from __future__ import annotations

from collections.abc import Mapping

from laurel.database import Transaction

_COUNTED = 100_000  # beyond it is simply "many"


async def numbers(tx: Transaction) -> Mapping[str, float]:
    """How many passes are parked, and how many status lists have changed and are not published."""
    row = await tx.fetchrow(
        """
        SELECT (SELECT count(*) FROM (SELECT FROM parked LIMIT $1) AS counted) AS parked,
               (SELECT count(DISTINCT d.list_id) FROM status_list_dirt d JOIN status_lists l USING (list_id)
                WHERE EXISTS (SELECT 1 FROM signing_keys k
                              WHERE k.profile_id = l.profile_id AND k.state = 'active')) AS lists
        """,
        _COUNTED,
    )
    assert row is not None
    return {"laurel_parked_passes": row["parked"], "laurel_status_lists_changed": row["lists"]}
