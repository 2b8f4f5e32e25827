"""The e-mail queue in PostgreSQL.

A mail is `sending` before the first word to the mail server. If its worker dies then, nobody knows whether the server
took it: it becomes `uncertain` and is not sent again by itself (a person may ask for it). We never send a second mail
knowingly.
"""

# ruff: noqa: S608 - the column list put into statements is the constant of this file

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import asyncpg

from laurel.database import Transaction
from laurel_notifier.store import EMAILS_CHANNEL

MailState = Literal["sent", "pending", "failed", "uncertain"]


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail that this worker is sending. contact: sealed."""

    credential_id: str
    contact: str
    achievement_id: str
    achievement_name: str
    issuer_name: str
    locale: str | None
    valid_until: datetime | None
    issued_at: datetime
    traceparent: str | None
    attempt: int
    created_at: datetime
    taken_at: datetime  # by the database's clock, as created_at


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of it. next_attempt_at matters for `pending` alone."""

    credential_id: str
    state: MailState
    next_attempt_at: datetime
    error: str | None = None


async def release_held(tx: Transaction) -> None:
    """Let go what waited for a mail server to be configured."""
    await tx.execute("UPDATE emails SET state = 'pending', next_attempt_at = now() WHERE state = 'held'")


async def lock_worker(connection: asyncpg.Connection[asyncpg.Record], worker: UUID) -> None:
    """Say that this worker lives, until the connection ends."""
    await connection.execute("SELECT pg_advisory_lock(hashtextextended('notifier_mail:' || $1, 0))", str(worker))


async def mark_uncertain(tx: Transaction) -> int:
    """Say of mails whose worker died over them that nobody knows. Returns how many.

    A worker is dead when nobody holds its lock. One that only lost its connection may still settle its mails.
    """
    rows = await tx.fetch(
        """
        WITH workers AS (SELECT DISTINCT sending_by FROM emails WHERE state = 'sending'),
             dead AS (SELECT sending_by FROM workers
                      WHERE pg_try_advisory_xact_lock(hashtextextended('notifier_mail:' || sending_by, 0)))
        UPDATE emails SET state = 'uncertain',
                          last_error = 'the process ended while it was being sent; it may have arrived'
        WHERE state = 'sending' AND (sending_until < now() OR sending_by IN (SELECT sending_by FROM dead))
        RETURNING 1
        """
    )
    return len(rows)


async def take_mails(tx: Transaction, *, worker: UUID, hold: timedelta, limit: int) -> list[Mail]:
    """Take due mails, the oldest first; they are `sending` from here on."""
    rows = await tx.fetch(
        """
        UPDATE emails SET state = 'sending', sending_by = $1, sending_until = now() + $2,
                          attempt_count = attempt_count + 1
        WHERE credential_id IN (SELECT credential_id FROM emails WHERE state = 'pending' AND next_attempt_at <= now()
                                ORDER BY next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED)
        RETURNING credential_id, contact, achievement_id, achievement_name, issuer_name, locale, valid_until, issued_at,
                  traceparent, attempt_count, created_at, now()
        """,
        worker, hold, limit,
    )  # fmt: skip
    return [Mail(*row.values()) for row in rows]


def _unless_revoked(state: str) -> str:
    """A mail on its way has lost its contact only where its credential was revoked (`cancel_mails`)."""
    return f"CASE WHEN m.contact IS NULL AND {state} IN ('pending', 'failed') THEN 'cancelled' ELSE {state} END"


async def give_back(tx: Transaction, worker: UUID, credential_ids: Sequence[str]) -> None:
    """Let others take mails that were taken and about which the server has heard nothing."""
    back = _unless_revoked("'pending'")
    await tx.execute(
        f"UPDATE emails m SET state = {back}, attempt_count = attempt_count - 1 "
        "WHERE credential_id = ANY ($2::text[]) AND sending_by = $1 AND state = 'sending'",
        worker, credential_ids,
    )  # fmt: skip


async def settle_mails(tx: Transaction, worker: UUID, sent: Sequence[Sent]) -> None:
    """Write down what became of them. A sent mail's contact is forgotten: we need it no more."""
    await tx.execute(
        f"""
        UPDATE emails m
        SET state = {_unless_revoked('s.state')}, next_attempt_at = s.next_attempt_at,
            last_error = CASE WHEN m.contact IS NULL AND s.state <> 'sent' THEN m.last_error ELSE s.error END,
            contact = CASE WHEN s.state = 'sent' THEN NULL ELSE m.contact END,
            sent_at = CASE WHEN s.state = 'sent' THEN now() END
        FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::text[]) AS s (credential_id, state, next_attempt_at, error)
        WHERE m.credential_id = s.credential_id AND m.sending_by = $1 AND m.state IN ('sending', 'uncertain')
        """,  # noqa: E501
        worker, [one.credential_id for one in sent], [one.state for one in sent],
        [one.next_attempt_at for one in sent], [one.error for one in sent],
    )  # fmt: skip


# --- as the API shows them ----------------------------------------------------------------------------------

_EMAIL = (
    "credential_id, course_run, achievement_id, state, attempt_count, next_attempt_at, last_error, created_at, sent_at"
)


async def list_emails(
    tx: Transaction, tenant_id: str, *, state: str | None, after: str | None, limit: int
) -> list[asyncpg.Record]:
    """In the order of credential ids; without addresses, which stand here only sealed."""
    return await tx.fetch(
        f"SELECT {_EMAIL} FROM emails WHERE tenant_id = $1 AND ($2::text IS NULL OR state = $2) "
        "AND ($3::text IS NULL OR credential_id > $3) ORDER BY credential_id LIMIT $4",
        tenant_id, state, after, limit,
    )  # fmt: skip


async def cancel_mails(tx: Transaction, credential_ids: Sequence[str]) -> None:
    """Nobody is congratulated on a credential that was revoked before its mail went out.

    What is being sent, or may have been, stays so until more is known; without its contact it is not sent again.
    """
    await tx.execute(
        "UPDATE emails SET state = CASE WHEN state IN ('sending', 'uncertain') THEN state ELSE 'cancelled' END, "
        "contact = NULL, last_error = 'the credential was revoked' WHERE credential_id = ANY ($1::text[]) "
        "AND state IN ('pending', 'held', 'failed', 'sending', 'uncertain')",
        credential_ids,
    )


async def retry_email(tx: Transaction, tenant_id: str, credential_id: str) -> asyncpg.Record | None:
    """Send a failed or uncertain mail again; None for any other, and for a credential that was revoked meanwhile.

    The schedule starts anew.
    """
    row = await tx.fetchrow(
        "UPDATE emails SET state = 'pending', next_attempt_at = now(), attempt_count = 0, created_at = now() "
        "WHERE credential_id = $1 AND tenant_id = $2 AND state IN ('failed', 'uncertain') AND contact IS NOT NULL "
        f"RETURNING {_EMAIL}",
        credential_id, tenant_id,
    )  # fmt: skip
    if row is not None:
        await tx.execute("SELECT pg_notify($1, '')", EMAILS_CHANNEL)
    return row


async def find_email(tx: Transaction, tenant_id: str, credential_id: str) -> asyncpg.Record | None:
    """One e-mail of the tenant."""
    return await tx.fetchrow(
        f"SELECT {_EMAIL} FROM emails WHERE credential_id = $1 AND tenant_id = $2",
        credential_id, tenant_id,
    )  # fmt: skip
