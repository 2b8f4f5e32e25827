"""What this service's tables say of how it is: gauges for the alerts (deploy/prometheus/alerts.yml)."""

from __future__ import annotations

from collections.abc import Mapping

from laurel.database import Transaction


async def numbers(tx: Transaction) -> Mapping[str, float]:
    """For how long the oldest delivery and the oldest e-mail have been due that nobody has in hand."""
    row = await tx.fetchrow(
        """
        WITH RECURSIVE waiting AS (  -- as queue.take_due: one index probe an endpoint
            (SELECT endpoint_id FROM deliveries WHERE state = 'pending' ORDER BY endpoint_id LIMIT 1)
            UNION ALL
            SELECT (SELECT d.endpoint_id FROM deliveries d WHERE d.state = 'pending' AND d.endpoint_id > w.endpoint_id
                    ORDER BY d.endpoint_id LIMIT 1)
            FROM waiting w WHERE w.endpoint_id IS NOT NULL
        )
        SELECT (SELECT min(due.since) FROM waiting w
                JOIN endpoints e ON e.endpoint_id = w.endpoint_id AND e.enabled
                CROSS JOIN LATERAL (
                    SELECT d.next_attempt_at AS since FROM deliveries d
                    WHERE d.endpoint_id = w.endpoint_id AND d.state = 'pending'
                          AND (d.lease_until IS NULL OR d.lease_until < now())
                    ORDER BY d.next_attempt_at LIMIT 1
                ) due) AS deliveries,
               (SELECT min(next_attempt_at) FROM emails WHERE state = 'pending') AS emails, now() AS now
        """
    )
    assert row is not None
    late = {name: (row["now"] - row[name]).total_seconds() if row[name] else 0.0 for name in ("deliveries", "emails")}
    return {
        "laurel_deliveries_overdue_seconds": max(0.0, late["deliveries"]),
        "laurel_emails_overdue_seconds": max(0.0, late["emails"]),
    }
