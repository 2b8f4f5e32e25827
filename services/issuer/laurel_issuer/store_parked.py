"""Rows of passed assessments that wait for their achievement, issuer profile or key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from laurel.bus import Message
from laurel.credential.securing import CHAIN, SECURINGS, of_lists
from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.events import AssessmentPassed
from laurel_issuer.store_issuance import PROFILE_OF_A


async def park(tx: Transaction, waiting: Sequence[tuple[Delivered, str]], now: datetime) -> None:
    """Keep events until what they wait for is there; the partition goes on. Parked again only changes the reason."""
    if not waiting:
        return
    rows: list[tuple[Any, ...]] = []
    for delivered, reason in waiting:
        event, message = delivered.event, delivered.message
        assert isinstance(event, AssessmentPassed)
        rows.append(
            (
                UUID(event.credential_id), event.tenant_id, event.achievement_id, event.achievement_version,
                event.course_run, reason, message.topic, message.partition, message.offset, message.key, message.value,
                msgspec.msgpack.encode(message.headers), message.timestamp_ms, now,
            )
        )  # fmt: skip
    rows.sort(key=lambda row: row[0])  # members that park the same events wait for one another, not crosswise
    await tx.executemany(
        """
        INSERT INTO parked (credential_id, tenant_id, achievement_id, achievement_version, course_run, reason, topic,
            partition, "offset", key, value, headers, timestamp_ms, parked_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (credential_id) DO UPDATE SET reason = excluded.reason
        """,
        rows,
    )
    # What they wait for may have come in while this transaction was open.
    await tx.execute("SELECT pg_notify(current_schema() || '_parked', '')")


async def unpark(tx: Transaction, credential_ids: Iterable[str]) -> None:
    """Events that were settled."""
    await tx.execute("DELETE FROM parked WHERE credential_id = ANY ($1)", list(credential_ids))


async def ready_parked(tx: Transaction, limit: int) -> dict[UUID, Message]:
    """Up to `limit` parked events, by credential id, whose achievement, profile and key are there by now.

    Looks at each (tenant, achievement, version) once, however many events wait for it.
    """
    rows = await tx.fetch(
        f"""
        WITH RECURSIVE groups AS (
            (SELECT tenant_id, achievement_id, achievement_version AS version FROM parked ORDER BY 1, 2, 3 LIMIT 1)
            UNION ALL
            SELECT following.* FROM groups g, LATERAL (
                SELECT tenant_id, achievement_id, achievement_version FROM parked
                WHERE (tenant_id, achievement_id, achievement_version) > (g.tenant_id, g.achievement_id, g.version)
                ORDER BY 1, 2, 3 LIMIT 1
            ) following
        )
        SELECT w.credential_id, w.topic, w.partition, w."offset", w.key, w.value, w.headers, w.timestamp_ms
        FROM groups g
        JOIN achievements a
            ON a.achievement_id = g.achievement_id AND a.version = g.version AND a.tenant_id = g.tenant_id
        JOIN LATERAL ({PROFILE_OF_A}) p ON true
        JOIN LATERAL (
            -- Every kind of key that is needed is active, or was never made and will be when it is issued.
            SELECT bool_and(k.active OR (NOT k.made AND p.identity <> 'did:key')) AS usable
            FROM unnest($2::text[], $3::text[], $4::text[]) AS t (name, key_type, list_type)
            CROSS JOIN LATERAL (
                VALUES (t.key_type, t.name = ANY (p.ways)),
                       (t.list_type, t.name = (array_remove(p.securing, '{CHAIN}'))[1])
            ) AS n (kind, needed)
            CROSS JOIN LATERAL (
                SELECT count(*) > 0 AS made, count(*) FILTER (WHERE state = 'active') > 0 AS active
                FROM signing_keys WHERE profile_id = p.profile_id AND key_type = n.kind
            ) k
            WHERE n.needed
        ) keys ON keys.usable
        JOIN LATERAL (
            SELECT * FROM parked WHERE tenant_id = g.tenant_id AND achievement_id = g.achievement_id
                AND achievement_version = g.version LIMIT $1
        ) w ON true
        WHERE EXISTS (SELECT FROM signing_keys WHERE profile_id = p.profile_id AND state = 'active')
        LIMIT $1
        """,  # noqa: S608 - a constant of ours
        limit, list(SECURINGS), [one.key_type for one in SECURINGS.values()],
        [of_lists([name]).key_type for name in SECURINGS],
    )  # fmt: skip
    return {
        row["credential_id"]: Message(
            row["topic"], row["partition"], row["offset"], row["key"], row["value"],
            tuple((name, bytes(value)) for name, value in msgspec.msgpack.decode(row["headers"])), row["timestamp_ms"],
        )
        for row in rows
    }  # fmt: skip


async def still_parked(tx: Transaction, credential_ids: Iterable[UUID]) -> int:
    """How many of these are parked."""
    count: int = await tx.fetchval("SELECT count(*) FROM parked WHERE credential_id = ANY ($1)", list(credential_ids))
    return count


async def unpark_dead(tx: Transaction, consumer: str, credential_ids: Iterable[UUID]) -> None:
    """Those of these events that became dead letters are settled."""
    await tx.execute(
        "DELETE FROM parked p USING dead_letters d WHERE p.credential_id = ANY ($2) AND d.consumer = $1 "
        'AND d.topic = p.topic AND d.partition = p.partition AND d."offset" = p."offset" AND d.redriven_at IS NULL',
        consumer, list(credential_ids),
    )  # fmt: skip
