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
from laurel.database import Transaction
from laurel.events import CredentialStatusChanged, Status
from laurel_issuer.domain import Action, Refusal, decide_status, shows_bit
from laurel_issuer.signing import SealedKey

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
        WHERE tenant_id = $1 AND seq > $7 AND ($2::text IS NULL OR achievement_id = $2)
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


_CURRENT = (
    "SELECT credential_id, status, status_version, revocation_list, suspension_list FROM credentials "
    "WHERE credential_id = ANY ($1) AND tenant_id = $2 ORDER BY credential_id"
)


async def change_status(
    tx: Transaction,
    tenant_id: str,
    credential_ids: Sequence[UUID],
    action: Action,
    *,
    reason: str,
    key_id: str,
    now: datetime,
    dry_run: bool = False,
) -> list[Outcome]:
    """Change what may be changed of these credentials, with events; ids that are not the tenant's are left out.

    Row locks are taken in the order of the ids, so that changes at the same time follow one another.
    """
    rows = await tx.fetch(_CURRENT if dry_run else _CURRENT + " FOR UPDATE", credential_ids, tenant_id)
    outcomes: list[Outcome] = []
    changed: list[tuple[UUID, Status, int]] = []
    lists: set[UUID] = set()
    for row in rows:
        credential_id, current, version = str(row["credential_id"]), row["status"], row["status_version"]
        decided = decide_status(current, action)
        if decided is None or isinstance(decided, Refusal):
            outcomes.append(Outcome(credential_id, current, version, False, decided))
            continue
        outcomes.append(Outcome(credential_id, decided, version + 1, True))
        changed.append((row["credential_id"], decided, version + 1))
        has_suspension = row["suspension_list"] is not None
        for purpose, list_id in (("revocation", row["revocation_list"]), ("suspension", row["suspension_list"])):
            before, after = (shows_bit(purpose, one, has_suspension_entry=has_suspension) for one in (current, decided))
            if list_id is not None and before != after:
                lists.add(list_id)
    if changed and not dry_run:
        await _store(tx, tenant_id, changed, reason=reason, key_id=key_id, now=now)
        await mark_dirty(tx, tenant_id, sorted(lists))
    return outcomes


async def _store(
    tx: Transaction,
    tenant_id: str,
    changed: Sequence[tuple[UUID, Status, int]],
    *,
    reason: str,
    key_id: str,
    now: datetime,
) -> None:
    ids, statuses, versions = zip(*changed, strict=True)
    await tx.execute(
        """
        UPDATE credentials c
        SET status = w.status, status_version = w.version, status_reason = $4, status_changed_at = $5
        FROM unnest($1::uuid[], $2::text[], $3::int[]) AS w (credential_id, status, version)
        WHERE c.credential_id = w.credential_id
        """,
        ids, statuses, versions, reason, now,
    )  # fmt: skip
    await tx.execute(
        "INSERT INTO status_changes (credential_id, status, version, tenant_id, reason, key_id, changed_at) "
        "SELECT w.*, $4, $5, $6, $7 FROM unnest($1::uuid[], $2::text[], $3::int[]) AS w",
        ids, statuses, versions, tenant_id, reason, key_id, now,
    )  # fmt: skip
    await outbox.append(
        tx,
        [
            CredentialStatusChanged(
                tenant_id=tenant_id, credential_id=str(credential_id), version=version, status=status, reason=reason,
                changed_at=now,
            )
            for credential_id, status, version in changed
        ],
    )  # fmt: skip


async def status_history(tx: Transaction, credential_id: UUID) -> list[Row]:
    """A credential's changes of status, first to last."""
    return await tx.fetch(
        "SELECT version, status, reason, key_id, changed_at FROM status_changes "
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


async def dirty_lists(tx: Transaction, limit: int) -> list[UUID]:
    """Lists to publish whose profile has a key to sign with; longest dirty first."""
    rows = await tx.fetch(
        """
        SELECT d.list_id, min(d.id) AS since FROM status_list_dirt d JOIN status_lists l USING (list_id)
        WHERE EXISTS (SELECT 1 FROM signing_keys k WHERE k.profile_id = l.profile_id AND k.state = 'active')
        GROUP BY d.list_id ORDER BY since LIMIT $1
        """,
        limit,
    )
    return [row["list_id"] for row in rows]


@dataclass(frozen=True, slots=True)
class ListState:
    """A list under lock: what its next version is made of. dirt: the rows that this version takes into account."""

    url: str
    purpose: str
    version: int
    did: str
    key: SealedKey | None
    indexes: tuple[int, ...]
    dirt: tuple[int, ...]


async def lock_list(tx: Transaction, list_id: UUID) -> ListState | None:
    """Take the list's lock until the end of the transaction and read its rows. None: there is no such list."""
    await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 2))", f"list:{list_id}")
    # Read the dirt before the bits: whatever a dirt row stands for is committed, and in the bits that follow.
    dirt = await tx.fetch("SELECT id FROM status_list_dirt WHERE list_id = $1", list_id)
    row = await tx.fetchrow(
        "SELECT l.url, l.purpose, l.version, p.did, k.key_id, k.verification_method, k.public_key_multibase, "
        "k.sealed_seed FROM status_lists l JOIN issuer_profiles p USING (profile_id) "
        "LEFT JOIN signing_keys k ON k.profile_id = l.profile_id AND k.state = 'active' WHERE l.list_id = $1",
        list_id,
    )
    if row is None:
        return None
    key = None
    if row["key_id"] is not None:
        key = SealedKey(row["key_id"], row["verification_method"], row["public_key_multibase"], row["sealed_seed"])
    return ListState(
        url=row["url"], purpose=row["purpose"], version=row["version"], did=row["did"], key=key,
        indexes=tuple(await _set_indexes(tx, list_id, row["purpose"])), dirt=tuple(one["id"] for one in dirt),
    )  # fmt: skip


async def _set_indexes(tx: Transaction, list_id: UUID, purpose: str) -> list[int]:
    if purpose == "suspension":
        rows = await tx.fetch(
            "SELECT suspension_index AS place, status, true AS two FROM credentials "
            "WHERE suspension_list = $1 AND status = 'suspended'",
            list_id,
        )
    else:
        rows = await tx.fetch(
            "SELECT revocation_index AS place, status, suspension_list IS NOT NULL AS two FROM credentials "
            "WHERE revocation_list = $1 AND status <> 'active'",
            list_id,
        )
    return [row["place"] for row in rows if shows_bit(purpose, row["status"], has_suspension_entry=row["two"])]


async def store_list(
    tx: Transaction, list_id: UUID, state: ListState, *, key_id: str, body: bytes, now: datetime
) -> None:
    """Publish the next version of a list that is under lock."""
    await tx.execute(
        "UPDATE status_lists SET version = $2, key_id = $3, body = $4, published_at = $5 WHERE list_id = $1",
        list_id, state.version + 1, key_id, body, now,
    )  # fmt: skip
    await tx.execute("DELETE FROM status_list_dirt WHERE id = ANY ($1::bigint[])", state.dirt)


async def published_list(tx: Transaction, list_id: UUID) -> Row | None:
    """A list's current version, in a transaction that names its id as public."""
    return await tx.fetchrow("SELECT version, body, published_at FROM status_lists WHERE list_id = $1", list_id)
