"""Rows of endorsements: what was asked for and reserved, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from laurel import outbox
from laurel.database import Transaction
from laurel.events import EndorsementIssued
from laurel_issuer.domain import Prerequisites
from laurel_issuer.store_issuance import Terms, require_stored, require_usable_keys, take_places

Row = asyncpg.Record


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to have signed. comment: Markdown."""

    tenant_id: str
    credential_id: str
    profile_id: str
    subject_id: str
    subject_type: str
    comment: str
    name: str
    valid_until: datetime | None


async def prerequisites(tx: Transaction, profile_id: str) -> Prerequisites:
    """What there is of the profile and its keys."""
    row = await tx.fetchrow(
        """
        SELECT p.version, p.identity, p.securing,
               array_agg(k.key_type || ' ' || k.key_id) FILTER (WHERE k.state = 'active') AS active,
               array_agg(DISTINCT k.key_type) FILTER (WHERE k.key_id IS NOT NULL) AS made
        FROM issuer_profiles p LEFT JOIN signing_keys k USING (profile_id) WHERE p.profile_id = $1 GROUP BY p.profile_id
        """,
        profile_id,
    )
    if row is None:
        return Prerequisites(achievement_id="")
    names = tuple(row["securing"])
    return Prerequisites(
        achievement_id="", profile_id=profile_id, profile_version=row["version"], securing=names,
        profile_securing=names, keys=dict(one.split(" ", 1) for one in row["active"] or ()),
        kinds_made=frozenset(row["made"] or ()), new_kinds=row["identity"] != "did:key",
    )  # fmt: skip


async def reserved(tx: Transaction, credential_id: str) -> Row | None:
    """The reservation, and the bytes if it is signed. One whose key was compromised before it signed is dropped."""
    await tx.execute(
        "DELETE FROM endorsements e USING signing_keys k WHERE e.credential_id = $1 AND k.state = 'compromised' "
        "AND k.key_id = ANY (e.key_ids) AND NOT EXISTS "
        "(SELECT FROM credentials c WHERE c.credential_id = e.credential_id)",
        UUID(credential_id),
    )
    return await tx.fetchrow(f"{_SELECT} WHERE e.credential_id = $1", UUID(credential_id))


_SELECT = """
    SELECT e.credential_id, e.tenant_id, e.profile_id, e.profile_version, e.subject_id, e.subject_type,
           e.comment, e.name, e.valid_until, e.securing, e.key_ids, e.revocation_list, e.revocation_index, e.created_at,
           c.body, c.status, c.status_reason, c.status_version
    FROM endorsements e LEFT JOIN credentials c USING (credential_id)
"""


async def reserve(tx: Transaction, wanted: Wanted, known: Prerequisites, *, terms: Terms, now: datetime) -> None:
    """Reserve it; who comes second changes nothing. Commit before anything is signed."""
    assert known.profile_version is not None
    ((list_id, index),) = await take_places(tx, wanted.tenant_id, wanted.profile_id, "revocation", 1, 1, terms, now)
    await tx.execute(
        "INSERT INTO endorsements (credential_id, tenant_id, profile_id, profile_version, subject_id, subject_type, "
        "comment, name, valid_until, securing, key_ids, revocation_list, revocation_index, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING",
        UUID(wanted.credential_id), wanted.tenant_id, wanted.profile_id, known.profile_version, wanted.subject_id,
        wanted.subject_type, wanted.comment, wanted.name, wanted.valid_until, list(known.securing),
        list(known.key_ids), list_id, index, now,
    )  # fmt: skip


async def materials(tx: Transaction, row: Row) -> tuple[bytes, list[Row], Row]:
    """What the reservation refers to: the issuer's version, the keys (sealed), the status list."""
    issuer = await tx.fetchval(
        "SELECT issuer FROM issuer_versions WHERE profile_id = $1 AND version = $2",
        row["profile_id"], row["profile_version"],
    )  # fmt: skip
    keys = await tx.fetch(
        "SELECT key_id, verification_method, public_key_multibase, sealed_seed, key_type, ended_at FROM signing_keys "
        "WHERE key_id = ANY ($1)",
        row["key_ids"],
    )
    status_list = await tx.fetchrow("SELECT url, version FROM status_lists WHERE list_id = $1", row["revocation_list"])
    assert status_list is not None
    return issuer, keys, status_list


async def finish(tx: Transaction, row: Row, *, issuer: str, body: bytes) -> bool:
    """Store what was signed, with its event; again changes nothing. Raises NotNow when a key was compromised."""
    await require_usable_keys(tx, row["key_ids"])
    new = await tx.fetchval(
        "INSERT INTO credentials (credential_id, tenant_id, result_id, achievement_id, achievement_version, "
        "profile_id, key_id, revocation_list, revocation_index, issued_at, valid_until, body, kind) "
        "VALUES ($1, $2, '', '', 0, $3, $4, $5, $6, $7, $8, $9, 'endorsement') "
        "ON CONFLICT DO NOTHING RETURNING credential_id",
        row["credential_id"], row["tenant_id"], row["profile_id"], row["key_ids"][0], row["revocation_list"],
        row["revocation_index"], row["created_at"], row["valid_until"], body,
    )  # fmt: skip
    if new is None:
        await require_stored(tx, {str(row["credential_id"])})
        return False
    issued = EndorsementIssued(
        tenant_id=row["tenant_id"], credential_id=str(row["credential_id"]), name=row["name"],
        subject_id=row["subject_id"], subject_type=row["subject_type"], profile_id=row["profile_id"], issuer=issuer,
        issued_at=row["created_at"], valid_until=row["valid_until"], document=msgspec.Raw(body),
    )  # fmt: skip
    await outbox.append(tx, [issued])
    return True


async def place_of(tx: Transaction, tenant_id: str, credential_id: UUID) -> int | None:
    """The place of the tenant's endorsement in the order in which all tenants asked; None: it has none of that id."""
    place: int | None = await tx.fetchval(
        "SELECT seq FROM endorsements WHERE credential_id = $1 AND tenant_id = $2", credential_id, tenant_id
    )
    return place


async def listed(tx: Transaction, tenant_id: str, *, after: int, limit: int) -> list[Row]:
    """The tenant's endorsements that are signed, from behind the place `after`, as they were asked for."""
    return await tx.fetch(
        f"{_SELECT} WHERE e.tenant_id = $1 AND e.seq > $2 AND c.body IS NOT NULL ORDER BY e.seq LIMIT $3",
        tenant_id, after, limit,
    )  # fmt: skip
