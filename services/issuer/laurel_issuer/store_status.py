"""Rows of what became of credentials, and of the status lists that tell the world.

A change of status is a row. A list's bytes are never edited: they are made anew from the rows, under a lock, with the
next version. Each change leaves a row in status_list_dirt; the publisher deletes those that it has taken into account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from laurel import outbox
from laurel.credential.securing import of_lists
from laurel.database import Transaction
from laurel.events import CredentialMessageChanged, CredentialRefreshOffered, CredentialStatusChanged, Event, Status
from laurel_issuer.keyring import SealedKey
from laurel_issuer.standing import Change, Refusal, Standing, decide, shown_value

Row = asyncpg.Record


@dataclass(frozen=True, slots=True)
class Where:
    """Which credentials a change by query is about; what is None does not narrow it."""

    achievement_id: str | None = None
    course_run: str | None = None
    issued_from: datetime | None = None
    issued_to: datetime | None = None
    credential_ids: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change of status came to for one credential."""

    credential_id: str
    status: Status
    version: int
    changed: bool
    refusal: Refusal | None = None


async def matching(tx: Transaction, tenant_id: str, where: Where, *, after: int, limit: int) -> list[tuple[int, UUID]]:
    """(place, id) of the tenant's credentials that `where` names, in the order in which they were issued."""
    rows = await tx.fetch(
        """
        SELECT seq, credential_id FROM credentials
        WHERE tenant_id = $1 AND kind = 'achievement' AND seq > $7 AND ($2::text IS NULL OR achievement_id = $2)
            AND ($3::text IS NULL OR course_run = $3) AND ($4::timestamptz IS NULL OR issued_at >= $4)
            AND ($5::timestamptz IS NULL OR issued_at < $5) AND ($6::uuid[] IS NULL OR credential_id = ANY ($6))
        ORDER BY seq LIMIT $8
        """,
        tenant_id, where.achievement_id, where.course_run, where.issued_from, where.issued_to, where.credential_ids,
        after, limit,
    )  # fmt: skip
    return [(row["seq"], row["credential_id"]) for row in rows]


async def unknown_ids(tx: Transaction, tenant_id: str, credential_ids: Sequence[UUID]) -> list[str]:
    """Those of the ids that are no credential of the tenant, in their order."""
    rows = await tx.fetch(
        "SELECT w.id FROM unnest($2::uuid[]) WITH ORDINALITY AS w (id, place) WHERE NOT EXISTS "
        "(SELECT FROM credentials WHERE credential_id = w.id AND tenant_id = $1) ORDER BY w.place",
        tenant_id, credential_ids,
    )  # fmt: skip
    return [str(row["id"]) for row in rows]


_PURPOSES = ("revocation", "suspension", "refresh", "message")
_CURRENT = """
    SELECT credential_id, status, refresh, message, status_version, erased_at, revocation_list, suspension_list,
        refresh_list, message_list,
        coalesce((SELECT a.status_messages FROM achievements a WHERE message_list IS NOT NULL
            AND (a.achievement_id, a.version) = (c.achievement_id, c.achievement_version)), '{}') AS messages
    FROM credentials c WHERE credential_id = ANY ($1) AND tenant_id = $2 ORDER BY credential_id
"""


@dataclass(frozen=True, slots=True)
class _Changed:
    credential_id: UUID
    standing: Standing
    version: int
    messages: Sequence[str]


async def change_status(
    tx: Transaction,
    tenant_id: str,
    credential_ids: Sequence[UUID],
    change: Change,
    *,
    reason: str,
    key_id: str,
    now: datetime,
    dry_run: bool = False,
) -> list[Outcome]:
    """Change what may be changed of these credentials, with events; ids that are not the tenant's are left out.

    Row locks are taken in the order of the ids, so that changes at the same time follow one another.
    """
    rows = await tx.fetch(_CURRENT if dry_run else _CURRENT + " FOR UPDATE OF c", credential_ids, tenant_id)
    outcomes: list[Outcome] = []
    changed: list[_Changed] = []
    dirty: set[UUID] = set()
    for row in rows:
        credential_id, version = str(row["credential_id"]), row["status_version"]
        current = Standing(row["status"], row["refresh"], row["message"])
        lists = {purpose: row[f"{purpose}_list"] for purpose in _PURPOSES if row[f"{purpose}_list"] is not None}
        decided = decide(current, change, has=lists, messages=row["messages"])
        if row["erased_at"] is not None and isinstance(decided, Standing):
            decided = Refusal("erased", "its learner was erased; there is nothing left to tell about it")
        if decided is None or isinstance(decided, Refusal):
            outcomes.append(Outcome(credential_id, current.status, version, False, decided))
            continue
        outcomes.append(Outcome(credential_id, decided.status, version + 1, True))
        changed.append(_Changed(row["credential_id"], decided, version + 1, row["messages"]))
        for purpose, list_id in lists.items():
            before, after = (
                shown_value(purpose, one, has_suspension_entry="suspension" in lists) for one in (current, decided)
            )
            if before != after:
                dirty.add(list_id)
    if changed and not dry_run:
        await _store(tx, tenant_id, changed, change, reason=reason, key_id=key_id, now=now)
        await mark_dirty(tx, tenant_id, sorted(dirty))
    return outcomes


async def _store(
    tx: Transaction,
    tenant_id: str,
    changed: Sequence[_Changed],
    change: Change,
    *,
    reason: str,
    key_id: str,
    now: datetime,
) -> None:
    kind = change.action if change.action in ("refresh", "message") else "status"
    ids = [one.credential_id for one in changed]
    statuses = [one.standing.status for one in changed]
    versions = [one.version for one in changed]
    columns = {
        "status": "status = w.status, status_reason = $6, status_changed_at = $7",
        "refresh": "refresh = true",
        "message": "message = w.message",
    }[kind]
    await tx.execute(
        f"""
        WITH w AS (SELECT * FROM unnest($1::uuid[], $2::text[], $3::int[], $4::smallint[])
                            AS w (credential_id, status, version, message)),
            history AS (
                INSERT INTO status_changes
                    (credential_id, status, version, message, tenant_id, change, reason, key_id, changed_at)
                SELECT w.credential_id, w.status, w.version, CASE WHEN $5 = 'message' THEN w.message END, $9, $5, $6,
                    $8, $7::timestamptz
                FROM w)
        UPDATE credentials c SET status_version = w.version, {columns} FROM w WHERE c.credential_id = w.credential_id
        """,  # noqa: S608 - constants of ours
        ids, statuses, versions, [one.standing.message for one in changed], kind, reason, now, key_id, tenant_id,
    )  # fmt: skip
    await outbox.append(tx, [_event(one, tenant_id, kind, reason, now) for one in changed])


def _event(one: _Changed, tenant_id: str, kind: str, reason: str, now: datetime) -> Event:
    credential_id, standing = str(one.credential_id), one.standing
    if kind == "refresh":
        return CredentialRefreshOffered(
            tenant_id=tenant_id, credential_id=credential_id, version=one.version, reason=reason, changed_at=now
        )
    if kind == "message":
        return CredentialMessageChanged(
            tenant_id=tenant_id, credential_id=credential_id, version=one.version, value=standing.message,
            message=one.messages[standing.message], reason=reason, changed_at=now,
        )  # fmt: skip
    return CredentialStatusChanged(
        tenant_id=tenant_id, credential_id=credential_id, version=one.version, status=standing.status, reason=reason,
        changed_at=now,
    )  # fmt: skip


async def status_history(tx: Transaction, credential_id: UUID) -> list[Row]:
    """A credential's changes of status, first to last, with what changed. message: the value from then on."""
    return await tx.fetch(
        "SELECT version, change, status, message, reason, key_id, changed_at FROM status_changes "
        "WHERE credential_id = $1 ORDER BY version",
        credential_id,
    )


# --- lists --------------------------------------------------------------------------------------------------


async def mark_dirty(tx: Transaction, tenant_id: str, list_ids: Sequence[UUID]) -> None:
    """Have lists published anew, once this transaction is committed."""
    if list_ids:
        await tx.execute(
            "INSERT INTO status_list_dirt (tenant_id, list_id) SELECT $1, * FROM unnest($2::uuid[])",
            tenant_id,
            list_ids,
        )
        await tx.execute("SELECT pg_notify(current_schema() || '_status', '')")


async def mark_signed_with(tx: Transaction, tenant_id: str, key_id: str) -> None:
    """Have every list published anew that a key has signed: the key is compromised."""
    rows = await tx.fetch("SELECT list_id FROM status_lists WHERE key_id = $1 ORDER BY list_id", key_id)
    await mark_dirty(tx, tenant_id, [row["list_id"] for row in rows])


async def notify_publisher(tx: Transaction) -> None:
    """Have the publisher look again: what it waited for may be there."""
    await tx.execute("SELECT pg_notify(current_schema() || '_status', '')")


async def due_lists(tx: Transaction, limit: int, *, ending: datetime | None) -> list[UUID]:
    """Lists to publish whose profile has a key to sign with: longest dirty first, then those that end soonest.

    ending: a published list is due when it ends before then, or never ends; None: when it ends at all.
    """
    rows = await tx.fetch(
        """
        SELECT l.list_id FROM status_lists l
        LEFT JOIN (SELECT list_id, min(id) AS since FROM status_list_dirt GROUP BY list_id) d USING (list_id)
        WHERE (d.since IS NOT NULL OR (l.version > 0 AND CASE WHEN $2::timestamptz IS NULL
                THEN l.valid_until IS NOT NULL ELSE coalesce(l.valid_until < $2, true) END))
            AND EXISTS (SELECT 1 FROM signing_keys k WHERE k.profile_id = l.profile_id AND k.state = 'active')
        ORDER BY d.since, l.valid_until LIMIT $1
        """,
        limit, ending,
    )  # fmt: skip
    return [row["list_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class ListState:
    """A list under lock: what its next version is made of.

    values: (index, value) of every entry that is not 0; dirt: the rows that this version takes into account. securing:
    how it is signed; key: the active key of that kind, if there is one.
    """

    url: str
    purpose: str
    size: int
    version: int
    did: str
    securing: str
    key: SealedKey | None
    values: tuple[tuple[int, int], ...]
    dirt: tuple[int, ...]


async def lock_list(tx: Transaction, list_id: UUID) -> ListState | None:
    """Take the list's lock until the end of the transaction and read its rows. None: there is no such list."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 2))", f"list:{list_id}")
    # Read the dirt before the bits: whatever a dirt row stands for is committed, and in the bits that follow.
    dirt = await tx.fetch("SELECT id FROM status_list_dirt WHERE list_id = $1", list_id)
    row = await tx.fetchrow(
        "SELECT l.url, l.purpose, l.size, l.version, l.profile_id, p.did, p.securing FROM status_lists l "
        "JOIN issuer_profiles p USING (profile_id) WHERE l.list_id = $1",
        list_id,
    )
    if row is None:
        return None
    way = of_lists(row["securing"])
    found = await tx.fetchrow(
        "SELECT key_id, verification_method, public_key_multibase, sealed_seed, key_type FROM signing_keys "
        "WHERE profile_id = $1 AND state = 'active' AND key_type = $2",
        row["profile_id"], way.key_type,
    )  # fmt: skip
    key = None if found is None else SealedKey(**dict(found))
    return ListState(
        url=row["url"], purpose=row["purpose"], size=row["size"], version=row["version"], did=row["did"],
        securing=way.name, key=key, values=tuple(await _values(tx, list_id, row["purpose"])),
        dirt=tuple(one["id"] for one in dirt),
    )  # fmt: skip


# Which credentials of a list of each purpose may have something else than 0 to tell; `shown_value` tells what.
_TELLING = {
    "revocation": "status <> 'active'",
    "suspension": "status = 'suspended'",
    "refresh": "refresh",
    "message": "message <> 0",
}


async def _values(tx: Transaction, list_id: UUID, purpose: str) -> list[tuple[int, int]]:
    rows = await tx.fetch(
        f"""
        SELECT {purpose}_index AS place, status, refresh, message, suspension_list IS NOT NULL AS two
        FROM credentials WHERE {purpose}_list = $1 AND {_TELLING[purpose]}
        """,  # noqa: S608 - constants of ours
        list_id,
    )
    return [
        (
            row["place"],
            shown_value(
                purpose, Standing(row["status"], row["refresh"], row["message"]), has_suspension_entry=row["two"]
            ),
        )
        for row in rows
    ]


async def store_list(
    tx: Transaction,
    list_id: UUID,
    state: ListState,
    *,
    key_id: str,
    body: bytes,
    now: datetime,
    ttl_s: int,
    valid_until: datetime | None,
) -> None:
    """Publish the next version of a list that is under lock. ttl_s, valid_until: as the bytes tell them."""
    await tx.execute(
        "UPDATE status_lists SET version = $2, key_id = $3, body = $4, published_at = $5, ttl_s = $6, valid_until = $7 "
        "WHERE list_id = $1",
        list_id, state.version + 1, key_id, body, now, ttl_s, valid_until,
    )  # fmt: skip
    await tx.execute("DELETE FROM status_list_dirt WHERE id = ANY ($1::bigint[])", state.dirt)


async def published_list(tx: Transaction, list_id: UUID) -> Row | None:
    """A list's current version, in a transaction that names its id as public."""
    return await tx.fetchrow("SELECT version, body, ttl_s, valid_until FROM status_lists WHERE list_id = $1", list_id)
