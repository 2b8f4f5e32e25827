"""Retention on the PostgreSQL bus: by time, and by key for compacted topics.

A record goes when it is older than its topic's retention AND every group has read it. A group holds records back
while it is in use: when it has not committed for a whole retention, it is taken as abandoned, as a lost
learner's badge is worse than a full disk, but a forgotten test group must not keep everything for ever.
"""

from __future__ import annotations

from laurel.bus.postgres_session import Connection, advisory_key
from laurel.database import affected

_PAGE = 5_000  # rows a statement removes; keeps the locks and the WAL bursts short
_PAGES = 20  # statements a call makes for one partition

# Lowest offset that a group in use has not read yet, per partition; NULL where there is none.
_PLAN = """
    SELECT p.id, p.next_offset, p.compacted_to, t.compacted,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - t.retention_ms AS older_than,
        (SELECT min(o.next_offset) FROM {s}.offsets o WHERE o.partition_id = p.id AND (t.retention_ms IS NULL
            OR o.updated_at > clock_timestamp() - t.retention_ms * interval '1 millisecond')) AS unread
    FROM {s}.partitions p JOIN {s}.topics t ON t.topic = p.topic
    WHERE t.retention_ms IS NOT NULL OR t.compacted
    ORDER BY p.id
"""
_TRIM = """
    DELETE FROM {s}.messages WHERE partition_id = $1 AND "offset" IN (
        SELECT "offset" FROM {s}.messages WHERE partition_id = $1 AND "offset" < $2 ORDER BY "offset" LIMIT $4
    ) AND ts < $3
"""
# A record is superseded when a later one of its key is also read by all groups; the last one stays.
_COMPACT = """
    DELETE FROM {s}.messages m USING (
        SELECT "offset", max("offset") OVER (PARTITION BY key) AS last
        FROM {s}.messages WHERE partition_id = $1 AND "offset" < $2
    ) AS k WHERE m.partition_id = $1 AND m."offset" = k."offset" AND k."offset" < k.last
"""
_COMPACTED = "UPDATE {s}.partitions SET compacted_to = $2 WHERE id = $1"


async def trim(connection: Connection, schema: str) -> int:
    """Remove what may go, one member at a time; returns the number of rows. A long backlog takes several calls."""
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", advisory_key(schema, "trim")):
        return 0
    removed = 0
    try:
        for row in await connection.fetch(_PLAN.format(s=schema)):
            unread = row["next_offset"] if row["unread"] is None else min(row["unread"], row["next_offset"])
            if row["older_than"] is not None:
                for _ in range(_PAGES):
                    status = await connection.execute(
                        _TRIM.format(s=schema), row["id"], unread, row["older_than"], _PAGE
                    )
                    removed += affected(status)
                    if affected(status) < _PAGE:
                        break
            if row["compacted"] and unread > row["compacted_to"]:
                removed += affected(await connection.execute(_COMPACT.format(s=schema), row["id"], unread))
                await connection.execute(_COMPACTED.format(s=schema), row["id"], unread)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", advisory_key(schema, "trim"))
    return removed
