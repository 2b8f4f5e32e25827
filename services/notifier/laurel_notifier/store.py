"""Endpoints, what events lead to, and the lists and reports of the API. The workers' SQL: queue.py and mailbox.py."""

# ruff: noqa: S608 - the column lists put into statements are the constants of this file

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from laurel.database import Transaction, as_table, insert_new
from laurel.erasure import REASON
from laurel_notifier.domain import Message, message_prefix

Record = asyncpg.Record

DELIVERIES_CHANNEL = "notifier_deliveries"
EMAILS_CHANNEL = "notifier_emails"


# --- what events lead to ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Email:
    """An e-mail that is owed to a learner. contact: still sealed. error: why it can never be sent, if so."""

    credential_id: str
    tenant_id: str
    course_run: str | None
    contact: str
    achievement_id: str
    achievement_name: str
    issuer_name: str
    locale: str | None
    valid_until: datetime | None
    issued_at: datetime
    traceparent: str | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Subscription:
    """An enabled endpoint. Secrets are sealed; previous_secret only while valid."""

    endpoint_id: UUID
    tenant_id: str
    event_types: frozenset[str]
    url: str
    secret: str
    previous_secret: str | None


async def subscriptions(tx: Transaction, tenants: Sequence[str]) -> dict[UUID, Subscription]:
    """The enabled endpoints of these tenants.

    They stay as they are until the transaction ends: nobody can disable one between this look and the deliveries that
    are written for it.
    """
    rows = await tx.fetch(
        "SELECT endpoint_id, tenant_id, event_types, url, secret, "
        "CASE WHEN previous_secret_until > now() THEN previous_secret END FROM endpoints "
        "WHERE tenant_id = ANY ($1::text[]) AND enabled AND deleted_at IS NULL ORDER BY endpoint_id FOR SHARE",
        tenants,
    )
    return {row[0]: Subscription(row[0], row[1], frozenset(row[2]), row[3], row[4], row[5]) for row in rows}


@dataclass(frozen=True, slots=True)
class Held:
    """New deliveries that are born with a lease: for each endpoint so many, the oldest messages first."""

    lease: UUID
    lease_for: timedelta
    rooms: Mapping[UUID, int]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of messages. made: deliveries by endpoint; held: (delivery, endpoint, lease_until, message_id)."""

    made: dict[UUID, int]
    held: list[tuple[UUID, UUID, datetime, str]]


_MESSAGE = (
    "message_id text, tenant_id text, event_type text, credential_id text, course_run text, traceparent text, "
    "body bytea"
)


async def write_messages(
    tx: Transaction, messages: Sequence[Message], hold: Held, subscribed: Sequence[UUID]
) -> Written:
    """Store each message once and one delivery for each of the endpoints `subscribed` that wants it.

    A message that is there already (a redelivered event) gets no further deliveries.
    """
    if not messages:
        return Written({}, [])
    given = as_table(
        _MESSAGE,
        (
            (m.message_id, m.tenant_id, m.event_type, m.credential_id, m.course_run, m.traceparent, m.body)
            for m in messages
        ),
        after=5,
    )
    rows = await insert_new(
        tx, tx.fetch,
        f"""
        WITH fresh AS (
            INSERT INTO messages ({given.names}) SELECT {given.names} FROM {given.table}
            ON CONFLICT (message_id) DO NOTHING
            RETURNING message_no, message_id, tenant_id, event_type
        ), wanted AS (
            SELECT f.tenant_id, e.endpoint_id, f.message_no,
                   row_number() OVER (PARTITION BY e.endpoint_id ORDER BY f.message_no) <= coalesce(r.room, 0) AS held
            FROM fresh f
                 JOIN endpoints e ON e.endpoint_id = ANY ($5) AND e.tenant_id = f.tenant_id
                                     AND f.event_type = ANY (e.event_types)
                 LEFT JOIN unnest($3::uuid[], $4::int[]) AS r (endpoint_id, room) ON r.endpoint_id = e.endpoint_id
        ), owed AS (
            INSERT INTO deliveries (tenant_id, endpoint_id, message_no, lease, lease_until)
            SELECT tenant_id, endpoint_id, message_no, CASE WHEN held THEN $1::uuid END,
                   CASE WHEN held THEN now() + $2::interval END
            FROM wanted ORDER BY message_no
            ON CONFLICT (message_no, endpoint_id) DO NOTHING
            RETURNING delivery_id, endpoint_id, message_no, lease_until
        )
        SELECT o.delivery_id, o.endpoint_id, o.lease_until, f.message_id, 0 AS made
        FROM owed o JOIN fresh f USING (message_no) WHERE o.lease_until IS NOT NULL
        UNION ALL
        SELECT NULL, endpoint_id, NULL, NULL, count(*) FROM owed GROUP BY endpoint_id
        """,
        hold.lease, hold.lease_for, list(hold.rooms), list(hold.rooms.values()), subscribed, *given.arguments,
    )  # fmt: skip
    held = [(row[0], row[1], row[2], row[3]) for row in rows if row[0] is not None]
    made = {row[1]: row[4] for row in rows if row[0] is None}
    if len(held) < sum(made.values()):
        await tx.execute("SELECT pg_notify($1, '')", DELIVERIES_CHANNEL)
    return Written(made, held)


_EMAIL = (
    "credential_id text, tenant_id text, course_run text, contact text, achievement_id text, achievement_name text, "
    "issuer_name text, locale text, valid_until timestamptz, issued_at timestamptz, traceparent text, last_error text, "
    "state text"
)


async def write_emails(tx: Transaction, emails: Sequence[Email], *, state: str) -> None:
    """Owe each learner at most one e-mail a credential; a redelivered event changes nothing. state: pending or held."""
    if not emails:
        return
    given = as_table(
        _EMAIL,
        (
            (
                one.credential_id, one.tenant_id, one.course_run, one.contact, one.achievement_id, one.achievement_name,
                one.issuer_name, one.locale, one.valid_until, one.issued_at, one.traceparent, one.error,
                state if one.error is None else "failed",
            )
            for one in emails
        ),
    )  # fmt: skip
    await tx.execute(
        f"INSERT INTO emails ({given.names}) SELECT {given.names} FROM {given.table} "
        "ON CONFLICT (credential_id) DO NOTHING",
        *given.arguments,
    )
    await tx.execute("SELECT pg_notify($1, '')", EMAILS_CHANNEL)


async def erase(tx: Transaction, erased: Sequence[tuple[str, str]]) -> None:
    """Empty all messages about these credentials, by (id, tenant), and their e-mails; nothing of them is sent any more.

    A delivery that a worker has in hand at this moment still goes out, and is settled as delivered.
    """
    for credential_id, tenant_id in erased:  # one learner's: few
        low = message_prefix(credential_id)  # as in `list_deliveries`: the unique index serves it
        rows = await tx.fetch(
            "UPDATE messages SET body = '', traceparent = NULL WHERE message_id >= $1 AND message_id < $2 "
            "AND tenant_id = $3 RETURNING message_no",
            low, low[:-1] + chr(ord(low[-1]) + 1), tenant_id,
        )  # fmt: skip
        await tx.execute(
            "UPDATE deliveries SET state = 'cancelled', last_error = $2, settled_at = now(), lease = NULL, "
            "lease_until = NULL WHERE message_no = ANY ($1::bigint[]) AND state IN ('pending', 'held', 'failed')",
            [row[0] for row in rows], REASON,
        )  # fmt: skip
        await tx.execute(
            "UPDATE emails SET contact = NULL, locale = NULL, last_error = CASE WHEN state = 'sent' THEN NULL ELSE $3 "
            "END, state = CASE WHEN state = 'sent' THEN 'sent' ELSE 'cancelled' END "
            "WHERE credential_id = $1 AND tenant_id = $2",
            credential_id, tenant_id, REASON,
        )  # fmt: skip


# --- endpoints ----------------------------------------------------------------------------------------------

_ENDPOINT = (
    "endpoint_id, url, description, event_types, enabled, disabled_reason, secret, previous_secret_until, "
    "created_at, updated_at"
)


async def count_endpoints(tx: Transaction, tenant_id: str) -> int:
    """How many a tenant has. Counts of one tenant wait for each other: two creations cannot both pass a limit."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended('endpoints:' || $1, 0))", tenant_id)
    counted = await tx.fetchval("SELECT count(*) FROM endpoints WHERE tenant_id = $1 AND deleted_at IS NULL", tenant_id)
    return int(counted)


async def create_endpoint(
    tx: Transaction,
    *,
    endpoint_id: str,
    tenant_id: str,
    url: str,
    description: str,
    event_types: Sequence[str],
    secret: str,
) -> Record:
    """A new endpoint; `secret` is sealed."""
    row = await tx.fetchrow(
        "INSERT INTO endpoints (endpoint_id, tenant_id, url, description, event_types, secret) "
        f"VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_ENDPOINT}",
        endpoint_id, tenant_id, url, description, list(event_types), secret,
    )  # fmt: skip
    assert row is not None
    return row


async def list_endpoints(tx: Transaction, tenant_id: str, *, after: UUID | None, limit: int) -> list[Record]:
    """In the order of their creation."""
    return await tx.fetch(
        f"SELECT {_ENDPOINT} FROM endpoints WHERE tenant_id = $1 AND deleted_at IS NULL "
        "AND ($2::uuid IS NULL OR endpoint_id > $2) ORDER BY endpoint_id LIMIT $3",
        tenant_id, after, limit,
    )  # fmt: skip


async def find_endpoint(
    tx: Transaction, tenant_id: str, endpoint_id: UUID, *, for_update: bool = False
) -> Record | None:
    """One endpoint of the tenant."""
    return await tx.fetchrow(
        f"SELECT {_ENDPOINT} FROM endpoints WHERE endpoint_id = $1 AND tenant_id = $2 "
        "AND deleted_at IS NULL" + (" FOR UPDATE" if for_update else ""),
        endpoint_id, tenant_id,
    )  # fmt: skip


async def change_endpoint(
    tx: Transaction,
    tenant_id: str,
    endpoint_id: UUID,
    *,
    url: str | None,
    description: str | None,
    event_types: Sequence[str] | None,
    enabled: bool | None,
) -> Record | None:
    """Change what is not None. Disabling holds the deliveries that wait; enabling lets them go again."""
    row = await tx.fetchrow(
        "UPDATE endpoints SET url = coalesce($3, url), description = coalesce($4, description), "
        "event_types = coalesce($5, event_types), enabled = coalesce($6, enabled), "
        "disabled_reason = CASE WHEN $6 THEN NULL WHEN NOT $6 AND enabled THEN 'by request' ELSE disabled_reason END, "
        "updated_at = now() WHERE endpoint_id = $1 AND tenant_id = $2 AND deleted_at IS NULL "
        f"RETURNING {_ENDPOINT}",
        endpoint_id, tenant_id, url, description, None if event_types is None else list(event_types), enabled,
    )  # fmt: skip
    if row is not None and enabled is True:
        await tx.execute(
            "UPDATE deliveries SET state = 'pending', next_attempt_at = now(), retrying_since = NULL "
            "WHERE endpoint_id = $1 AND state = 'held'",
            endpoint_id,
        )
        await tx.execute("SELECT pg_notify($1, '')", DELIVERIES_CHANNEL)
    elif row is not None and enabled is False:
        await tx.execute(
            "UPDATE deliveries SET state = 'held' WHERE endpoint_id = $1 AND state = 'pending'", endpoint_id
        )
    return row


async def delete_endpoint(tx: Transaction, tenant_id: str, endpoint_id: UUID) -> bool:
    """Take an endpoint out; what still waits for it is cancelled, what was delivered stays on record."""
    row = await tx.fetchrow(
        "UPDATE endpoints SET deleted_at = now(), enabled = false, disabled_reason = 'deleted', updated_at = now() "
        "WHERE endpoint_id = $1 AND tenant_id = $2 AND deleted_at IS NULL RETURNING 1",
        endpoint_id, tenant_id,
    )  # fmt: skip
    if row is None:
        return False
    await tx.execute(
        "UPDATE deliveries SET state = 'cancelled', last_error = 'the endpoint was deleted', settled_at = now() "
        "WHERE endpoint_id = $1 AND state IN ('pending', 'held')",
        endpoint_id,
    )
    return True


async def rotate_secret(
    tx: Transaction, tenant_id: str, endpoint_id: UUID, *, secret: str, previous_until: datetime
) -> Record | None:
    """Sign with a new secret from now on, and with the one before until `previous_until` as well."""
    return await tx.fetchrow(
        "UPDATE endpoints SET previous_secret = secret, previous_secret_until = $4, secret = $3, updated_at = now() "
        "WHERE endpoint_id = $1 AND tenant_id = $2 AND deleted_at IS NULL "
        f"RETURNING {_ENDPOINT}",
        endpoint_id, tenant_id, secret, previous_until,
    )  # fmt: skip


async def write_test(tx: Transaction, endpoint_id: UUID, message: Message) -> UUID:
    """One message to one endpoint. Returns the delivery's id."""
    message_no = await tx.fetchval(
        "INSERT INTO messages (message_id, tenant_id, event_type, traceparent, body) VALUES ($1, $2, $3, $4, $5) "
        "RETURNING message_no",
        message.message_id, message.tenant_id, message.event_type, message.traceparent, message.body,
    )  # fmt: skip
    made: UUID = await tx.fetchval(
        "INSERT INTO deliveries (tenant_id, endpoint_id, message_no) VALUES ($1, $2, $3) RETURNING delivery_id",
        message.tenant_id, endpoint_id, message_no,
    )  # fmt: skip
    await tx.execute("SELECT pg_notify($1, '')", DELIVERIES_CHANNEL)
    return made


# --- deliveries, as the API shows them ----------------------------------------------------------------------

_DELIVERY = (
    "d.delivery_id, d.endpoint_id, d.state, d.attempt_count, d.next_attempt_at, d.last_status, d.last_error, "
    "d.attempts, d.created_at, d.settled_at, m.body = '' AS emptied, m.message_id, m.event_type, m.credential_id, "
    "m.course_run"
)


async def list_deliveries(
    tx: Transaction,
    tenant_id: str,
    *,
    endpoint_id: UUID | None,
    state: str | None,
    credential_id: str | None,
    after: UUID | None,
    limit: int,
) -> list[Record]:
    """The newest first."""
    # The message ids of one credential share a prefix, which the unique index serves: no second index to keep.
    low = None if credential_id is None else message_prefix(credential_id)
    high = None if low is None else low[:-1] + chr(ord(low[-1]) + 1)
    of_credential = "" if low is None else "AND m.message_id >= $6 AND m.message_id < $7"
    return await tx.fetch(
        f"SELECT {_DELIVERY} FROM deliveries d JOIN messages m USING (message_no) "
        "WHERE d.tenant_id = $1 AND ($2::uuid IS NULL OR d.endpoint_id = $2) AND ($3::text IS NULL OR d.state = $3) "
        f"AND ($4::uuid IS NULL OR d.delivery_id < $4) {of_credential} ORDER BY d.delivery_id DESC LIMIT $5",
        tenant_id, endpoint_id, state, after, limit, *(() if low is None else (low, high)),
    )  # fmt: skip


async def find_delivery(tx: Transaction, tenant_id: str, delivery_id: UUID) -> Record | None:
    """One delivery of the tenant."""
    return await tx.fetchrow(
        f"SELECT {_DELIVERY} FROM deliveries d JOIN messages m USING (message_no) "
        "WHERE d.delivery_id = $1 AND d.tenant_id = $2",
        delivery_id, tenant_id,
    )  # fmt: skip


async def retry_delivery(tx: Transaction, delivery_id: UUID) -> None:
    """Make it due now, with the full schedule before it. One that a worker holds at this moment is left alone."""
    await tx.execute(
        "UPDATE deliveries SET state = 'pending', next_attempt_at = now(), retrying_since = NULL, settled_at = NULL, "
        "lease = NULL, lease_until = NULL WHERE delivery_id = $1 AND coalesce(lease_until < now(), true)",
        delivery_id,
    )
    await tx.execute("SELECT pg_notify($1, '')", DELIVERIES_CHANNEL)


# --- reports ------------------------------------------------------------------------------------------------


async def counts(tx: Transaction, tenant_id: str, course_run: str | None) -> dict[str, int]:
    """How many messages, deliveries and e-mails there are, and in which state."""
    rows = await tx.fetch(
        """
        SELECT 'messages' AS name, count(*) AS n FROM messages
        WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2) AND credential_id IS NOT NULL
        UNION ALL
        SELECT 'deliveries_' || d.state, count(*) FROM deliveries d JOIN messages m USING (message_no)
        WHERE d.tenant_id = $1 AND ($2::text IS NULL OR m.course_run = $2) AND m.credential_id IS NOT NULL
        GROUP BY d.state
        UNION ALL
        SELECT 'emails_' || state, count(*) FROM emails
        WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2) GROUP BY state
        UNION ALL
        SELECT 'dead_lettered', count(*) FROM dead_letters WHERE tenant_id = $1 AND redriven_at IS NULL
        """,
        tenant_id, course_run,
    )  # fmt: skip
    return {row["name"]: row["n"] for row in rows}


async def report_deliveries(
    tx: Transaction, tenant_id: str, *, course_run: str | None, event_type: str, after: UUID | None, limit: int
) -> list[Record]:
    """delivery_id, credential_id, endpoint_id, state; the oldest first."""
    return await tx.fetch(
        "SELECT d.delivery_id, m.credential_id, d.endpoint_id, d.state FROM deliveries d JOIN messages m "
        "USING (message_no) WHERE d.tenant_id = $1 AND m.event_type = $2 AND ($3::text IS NULL OR m.course_run = $3) "
        "AND ($4::uuid IS NULL OR d.delivery_id > $4) ORDER BY d.delivery_id LIMIT $5",
        tenant_id, event_type, course_run, after, limit,
    )  # fmt: skip
