"""The delivery queue in PostgreSQL: taking what is due, fairly, and settling what became of it, in batches.

A lease makes a crash harmless: a row that its worker never settled is due again when the lease ends. Workers skip rows
that another one is taking at the moment, so any number of them can run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from laurel.database import Transaction, as_table
from laurel_notifier.domain import Verdict

ATTEMPTS_KEPT = 100  # of a delivery, the newest; a person may ask for any number


class Due(msgspec.Struct, frozen=True, gc=False):
    """A delivery that this worker holds until lease_until. Secrets are sealed; previous_secret only while valid."""

    delivery_id: UUID
    endpoint_id: UUID
    lease_until: datetime
    url: str
    secret: str
    previous_secret: str | None
    attempt: int
    retrying_since: datetime | None
    message_id: str
    traceparent: str | None
    body: bytes


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What one attempt led to."""

    delivery_id: UUID
    endpoint_id: UUID
    verdict: Verdict
    status: int | None
    error: str | None
    started_at: datetime
    duration_ms: int
    retrying_since: datetime


class _Attempt(msgspec.Struct):
    at: datetime
    status: int | None
    error: str | None
    duration_ms: int


_encode = msgspec.json.Encoder().encode


async def take_due(
    tx: Transaction, *, lease: UUID, lease_for: timedelta, room: int, rooms: Mapping[UUID, int], default_room: int
) -> list[Due]:
    """Take at most `room` due deliveries, the oldest of each endpoint first and the endpoints in turns.

    rooms: how many an endpoint may get; those not named may get default_room.
    """
    rows = await tx.fetch(
        """
        WITH RECURSIVE waiting AS (  -- the endpoints with anything pending: one index probe each, not one a row
            (SELECT endpoint_id FROM deliveries WHERE state = 'pending' ORDER BY endpoint_id LIMIT 1)
            UNION ALL
            SELECT (SELECT d.endpoint_id FROM deliveries d WHERE d.state = 'pending' AND d.endpoint_id > w.endpoint_id
                    ORDER BY d.endpoint_id LIMIT 1)
            FROM waiting w WHERE w.endpoint_id IS NOT NULL
        ), lanes AS (
            SELECT w.endpoint_id, coalesce(r.room, $6) AS room
            FROM waiting w JOIN endpoints e ON e.endpoint_id = w.endpoint_id AND e.enabled
                 LEFT JOIN unnest($4::uuid[], $5::int[]) AS r (endpoint_id, room) ON r.endpoint_id = w.endpoint_id
            WHERE coalesce(r.room, $6) > 0
        ), taken AS (
            SELECT due.delivery_id, row_number() OVER (PARTITION BY l.endpoint_id) AS turn
            FROM lanes l CROSS JOIN LATERAL (
                SELECT d.delivery_id FROM deliveries d
                WHERE d.endpoint_id = l.endpoint_id AND d.state = 'pending' AND d.next_attempt_at <= now()
                      AND (d.lease_until IS NULL OR d.lease_until < now())
                ORDER BY d.next_attempt_at, d.delivery_id LIMIT least(l.room, $3)
                FOR UPDATE OF d SKIP LOCKED
            ) due
            ORDER BY turn LIMIT $3
        )
        UPDATE deliveries d SET lease = $1, lease_until = now() + $2
        FROM taken t, messages m, endpoints e
        WHERE d.delivery_id = t.delivery_id AND m.message_no = d.message_no AND e.endpoint_id = d.endpoint_id
        RETURNING d.delivery_id, d.endpoint_id, d.lease_until, e.url, e.secret,
                  CASE WHEN e.previous_secret_until > now() THEN e.previous_secret END AS previous_secret,
                  d.attempt_count + 1 AS attempt, d.retrying_since, m.message_id, m.traceparent, m.body
        """,
        lease, lease_for, room, list(rooms), list(rooms.values()), default_room,
    )  # fmt: skip
    due = [Due(*row.values()) for row in rows]
    due.sort(key=lambda one: one.delivery_id)  # uuidv7: as they were written
    return due


async def settle(tx: Transaction, lease: UUID, settled: Sequence[Settled]) -> None:
    """Write down what became of these deliveries, each with its attempt, and disable the endpoints that said "gone".

    A worker whose lease ran out meanwhile is believed when it delivered, and otherwise not: the row is somebody else's.
    """
    gone = list({one.endpoint_id for one in settled if one.verdict.disable})
    # Rows of endpoints first, as everywhere: the order of locks is endpoints, then deliveries. Held until the end, they
    # are as the next statement sees them: one that waited for a delivery would look at that anew, and at them not.
    await tx.execute(
        "SELECT FROM endpoints WHERE endpoint_id = ANY ($1::uuid[]) ORDER BY endpoint_id FOR "
        + ("UPDATE" if gone else "SHARE"),
        list({one.endpoint_id for one in settled}),
    )
    if gone:
        await tx.execute(
            "UPDATE endpoints SET enabled = false, disabled_reason = 'the endpoint answered 410 Gone', "
            "updated_at = now() WHERE endpoint_id = ANY ($1::uuid[]) AND enabled",
            gone,
        )
    given = as_table(
        "delivery_id uuid, state text, next_attempt_at timestamptz, status int, error text, "
        "retrying_since timestamptz, attempt jsonb",
        (
            (
                one.delivery_id, one.verdict.state, one.verdict.next_attempt_at, one.status,
                one.verdict.reason or one.error, one.retrying_since,
                _encode(_Attempt(one.started_at, one.status, one.error, one.duration_ms)).decode(),
            )
            for one in settled
        ),
        after=1,
    )  # fmt: skip
    await tx.execute(
        f"""
        UPDATE deliveries d
        SET state = CASE WHEN given.state <> 'pending' OR e.enabled THEN given.state
                         WHEN e.deleted_at IS NULL THEN 'held' ELSE 'cancelled' END,
            next_attempt_at = CASE WHEN given.state = 'pending' THEN given.next_attempt_at ELSE d.next_attempt_at END,
            settled_at = CASE WHEN given.state = 'pending' AND e.deleted_at IS NULL THEN NULL ELSE now() END,
            attempt_count = d.attempt_count + 1, retrying_since = given.retrying_since,
            last_status = given.status, last_error = given.error,
            attempts = CASE WHEN jsonb_array_length(d.attempts) < {ATTEMPTS_KEPT} THEN d.attempts
                            ELSE d.attempts - 0 END || given.attempt,
            lease = NULL, lease_until = NULL
        FROM {given.table}, endpoints e
        WHERE d.delivery_id = given.delivery_id AND e.endpoint_id = d.endpoint_id
              AND (d.lease = $1 OR (given.state = 'delivered' AND d.state <> 'delivered'))
        """,  # noqa: S608 - names of ours
        lease, *given.arguments,
    )  # fmt: skip
    if gone:
        await tx.execute(
            "UPDATE deliveries SET state = 'held' WHERE endpoint_id = ANY ($1::uuid[]) AND state = 'pending'", gone
        )


async def give_back(tx: Transaction, lease: UUID, deliveries: Sequence[UUID]) -> None:
    """Let others take deliveries that were taken and not attempted."""
    await tx.execute(
        "UPDATE deliveries SET lease = NULL, lease_until = NULL WHERE delivery_id = ANY ($2::uuid[]) AND lease = $1",
        lease, deliveries,
    )  # fmt: skip
