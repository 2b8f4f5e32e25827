"""The index: what the verifier knows of credentials and issuers, and every SQL statement of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import msgspec

from laurel.database import Database, Transaction, affected, as_table, insert_new
from laurel.events import (
    CredentialIssued,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
    EndorsementIssued,
    IssuerProfilePublished,
    Status,
)

StatusEvent = CredentialStatusChanged | CredentialRefreshOffered | CredentialMessageChanged


class Indexed(msgspec.Struct, frozen=True, gc=False):
    """One credential as the index holds it.

    document: its exact bytes; status_version: of its newest change, of whatever kind.
    """

    credential_id: str
    tenant_id: str
    issuer: str
    document: bytes
    status: Status
    status_version: int
    status_changed_at: datetime | None
    issued_at: datetime
    indexed_at: datetime
    refresh: bool = False
    message: int = 0


@dataclass(frozen=True, slots=True)
class KnownIssuer:
    """An issuer of ours, as its last event described it."""

    did: str
    version: int
    profile: dict[str, Any]
    did_document: dict[str, Any]
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Counts:
    """The verifier's numbers for `laurel reconcile`."""

    indexed: int
    active: int
    suspended: int
    revoked: int
    dead_lettered: int


# --- what events write ----------------------------------------------------------------------------------------


_INDEXED = (
    "credential_id text, tenant_id text, result_id text, achievement_id text, achievement_name text, profile_id text, "
    "issuer text, course_run text, issued_at timestamptz, valid_from timestamptz, valid_until timestamptz, kind text, "
    "document bytea"
)


def _row(event: CredentialIssued | EndorsementIssued) -> tuple[Any, ...]:
    body = bytes(event.document)
    if isinstance(event, EndorsementIssued):
        return (
            event.credential_id, event.tenant_id, "", "", event.name, event.profile_id, event.issuer, None,
            event.issued_at, event.issued_at, event.valid_until, "endorsement", body,
        )  # fmt: skip
    return (
        event.credential_id, event.tenant_id, event.result_id, event.achievement_id, event.achievement_name,
        event.profile_id, event.issuer, event.course_run, event.issued_at, event.valid_from, event.valid_until,
        "achievement", body,
    )  # fmt: skip


async def index(tx: Transaction, issued: Sequence[CredentialIssued | EndorsementIssued]) -> list[int]:
    """One row for each credential; what is there stays. Returns the places in `issued` with other bytes than stored."""
    rows = [_row(one) for one in issued]
    # In the order of the key, so that two batches that overlap (a group in the middle of a rebalance) cannot deadlock.
    # Sorted here: the server would carry the documents along.
    given = as_table(_INDEXED, sorted(rows, key=itemgetter(0)))
    written = await insert_new(
        tx,
        tx.execute,
        f"INSERT INTO credentials ({given.names}) SELECT {given.names} FROM {given.table} "  # noqa: S608 - names of ours
        "ON CONFLICT (credential_id) DO NOTHING",
        *given.arguments,
    )
    if affected(written) == len(rows):
        return []
    given = as_table("credential_id text, tenant_id text, document bytea", ((row[0], row[1], row[-1]) for row in rows))
    different = await tx.fetch(
        f"SELECT given.place FROM credentials c JOIN {given.table} USING (credential_id) "  # noqa: S608 - names of ours
        "WHERE c.document <> given.document OR c.tenant_id <> given.tenant_id ORDER BY given.place",
        *given.arguments,
    )
    return [row["place"] - 1 for row in different]


async def unindexed(tx: Transaction, changes: Sequence[StatusEvent]) -> set[str]:
    """The credential ids of `changes` that have no row of the same tenant."""
    missing = await tx.fetch(
        "SELECT c FROM unnest($1::text[], $2::text[]) AS rows (c, t) WHERE NOT EXISTS "
        "(SELECT FROM credentials WHERE credential_id = c AND tenant_id = t)",
        [change.credential_id for change in changes], [change.tenant_id for change in changes],
    )  # fmt: skip
    return {row["c"] for row in missing}


async def apply_refreshes(tx: Transaction, offers: Sequence[CredentialRefreshOffered]) -> None:
    """Note that newer ones may be had, and since which change; an offer is never taken back."""
    versions = {one.credential_id: one.version for one in offers}  # one that comes again is the same
    ordered = sorted(versions)
    await tx.execute(
        """
        UPDATE credentials SET refresh = true, refresh_version = v
        FROM unnest($1::text[], $2::bigint[]) AS rows (c, v) WHERE credential_id = c AND refresh_version < v
        """,
        ordered, [versions[one] for one in ordered],
    )  # fmt: skip


async def apply_messages(tx: Transaction, changes: Sequence[CredentialMessageChanged]) -> None:
    """Take over each credential's newest message, where it is newer than the row's.

    Statuses, offers and messages share their versions and are told apart: the newest of one says nothing of the others.
    """
    newest: dict[str, CredentialMessageChanged] = {}
    for change in sorted(changes, key=lambda one: one.version):
        newest[change.credential_id] = change
    ordered = [newest[one] for one in sorted(newest)]
    await tx.execute(
        """
        UPDATE credentials SET message = m, message_version = v
        FROM unnest($1::text[], $2::bigint[], $3::smallint[]) AS rows (c, v, m)
        WHERE credential_id = c AND message_version < v
        """,
        [one.credential_id for one in ordered], [one.version for one in ordered], [one.value for one in ordered],
    )  # fmt: skip


async def apply_statuses(tx: Transaction, changes: Sequence[CredentialStatusChanged]) -> None:
    """Take over each credential's newest status, where it is newer than the row's."""
    newest: dict[str, CredentialStatusChanged] = {}
    for change in changes:
        before = newest.get(change.credential_id)
        if before is None or before.version < change.version:
            newest[change.credential_id] = change
    ordered = [newest[one] for one in sorted(newest)]
    await tx.execute(
        """
        UPDATE credentials SET status = s, status_version = v, status_reason = r, status_changed_at = w
        FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[]) AS rows (c, v, s, r, w)
        WHERE credential_id = c AND status_version < v
        """,
        [one.credential_id for one in ordered], [one.version for one in ordered], [one.status for one in ordered],
        [one.reason for one in ordered], [one.changed_at for one in ordered],
    )  # fmt: skip


async def forget(tx: Transaction, erased: Sequence[tuple[str, str]]) -> None:
    """Take credentials, by (id, tenant), out of the index."""
    await tx.execute(
        "DELETE FROM credentials USING unnest($1::text[], $2::text[]) AS rows (c, t) "
        "WHERE credential_id = c AND tenant_id = t",
        [one for one, _ in erased], [one for _, one in erased],
    )  # fmt: skip


async def remember_issuer(tx: Transaction, published: IssuerProfilePublished) -> None:
    """Keep an issuer's newest profile and DID document; an older version changes nothing."""
    # Two statements, for two members may do this at once in the middle of a rebalance: a conflict clause that updates
    # looks at one unique key alone, and the later one would fail at the DID's.
    written = (
        published.profile_id, published.tenant_id, published.did, published.slug, published.version,
        msgspec.json.encode(published.profile), msgspec.json.encode(published.did_document), published.published_at,
    )  # fmt: skip
    await tx.execute(
        "INSERT INTO known_issuers (profile_id, tenant_id, did, slug, version, profile, did_document, published_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        *written,
    )
    await tx.execute(
        "UPDATE known_issuers SET did = $3, slug = $4, version = $5, profile = $6, did_document = $7, "
        "published_at = $8 WHERE profile_id = $1 AND tenant_id = $2 AND version < $5",
        *written,
    )


# --- what the API reads ---------------------------------------------------------------------------------------


_PUBLIC = ", ".join(Indexed.__struct_fields__)


async def public_credentials(database: Database, credential_ids: Sequence[str]) -> dict[str, Indexed]:
    """Those of these ids that are indexed, whoever's they are. `Lookups` asks for one."""
    rows = await database.fetch(f"SELECT {_PUBLIC} FROM public_credentials($1)", credential_ids)  # noqa: S608 - ours
    return {row[0]: Indexed(*row) for row in rows}


async def known_issuer(database: Database, did: str) -> KnownIssuer | None:
    """The issuer of ours that this DID names."""
    async with database.transaction(public_id=did) as tx:
        row = await tx.fetchrow(
            "SELECT did, version, profile, did_document, published_at FROM known_issuers WHERE did = $1", did
        )
    if row is None:
        return None
    return KnownIssuer(
        row["did"], row["version"], msgspec.json.decode(row["profile"]), msgspec.json.decode(row["did_document"]),
        row["published_at"],
    )  # fmt: skip


async def counts(database: Database, tenant_id: str, course_run: str | None) -> Counts:
    """How many credentials of a tenant (of one course run, or of all) are indexed, by status."""
    async with database.transaction([tenant_id]) as tx:
        row = await tx.fetchrow(
            """
            SELECT count(*) AS indexed,
                   count(*) FILTER (WHERE status = 'active') AS active,
                   count(*) FILTER (WHERE status = 'suspended') AS suspended,
                   count(*) FILTER (WHERE status = 'revoked') AS revoked,
                   (SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL AND tenant_id = $1) AS dead_lettered
            FROM credentials WHERE tenant_id = $1 AND kind = 'achievement' AND ($2::text IS NULL OR course_run = $2)
            """,
            tenant_id, course_run,
        )  # fmt: skip
    assert row is not None  # an aggregate always has a row
    return Counts(**row)


async def credential_ids(
    database: Database, tenant_id: str, course_run: str | None, *, after: str, limit: int
) -> list[str]:
    """The ids of a tenant's indexed credentials, in order, from the first one behind `after`."""
    async with database.transaction([tenant_id]) as tx:
        rows = await tx.fetch(
            "SELECT credential_id FROM credentials WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2) "
            "AND kind = 'achievement' AND credential_id > $3 ORDER BY credential_id LIMIT $4",
            tenant_id, course_run, after, limit,
        )  # fmt: skip
    return [row["credential_id"] for row in rows]
