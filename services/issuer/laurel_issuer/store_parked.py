"""Rows of passed assessments that wait for their achievement, issuer profile or key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from laurel.bus import Message
from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.events import AssessmentPassed


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
    await tx.execute("DELETE FROM parked WHERE credential_id = ANY ($1)", [UUID(one) for one in credential_ids])


async def ready_parked(tx: Transaction, limit: int) -> list[Message]:
    """Parked events whose achievement, profile and key are there by now, longest parked first."""
    rows = await tx.fetch(
        """
        SELECT topic, partition, "offset", key, value, headers, timestamp_ms FROM parked w
        WHERE EXISTS (
            SELECT 1 FROM achievements a
            WHERE a.achievement_id = w.achievement_id AND a.version = w.achievement_version
            AND a.tenant_id = w.tenant_id
            AND EXISTS (SELECT 1 FROM signing_keys k WHERE k.state = 'active' AND k.profile_id = (
                SELECT p.profile_id FROM issuer_profiles p
                WHERE p.tenant_id = w.tenant_id AND (a.profile_id IS NULL OR p.profile_id = a.profile_id)
                ORDER BY p.created_at, p.profile_id LIMIT 1))
        )
        ORDER BY parked_at, credential_id LIMIT $1
        """,
        limit,
    )
    return [
        Message(
            row["topic"], row["partition"], row["offset"], row["key"], row["value"],
            tuple((name, bytes(value)) for name, value in msgspec.msgpack.decode(row["headers"])), row["timestamp_ms"],
        )
        for row in rows
    ]  # fmt: skip


async def unpark_dead(tx: Transaction, consumer: str) -> None:
    """Parked events that became dead letters are settled."""
    await tx.execute(
        "DELETE FROM parked p USING dead_letters d WHERE d.consumer = $1 AND d.topic = p.topic "
        'AND d.partition = p.partition AND d."offset" = p."offset" AND d.redriven_at IS NULL',
        consumer,
    )
