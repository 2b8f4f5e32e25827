"""What stays of a credential whose learner was erased: a tombstone, so that no event brings anything of it back.

issuer, verifier and notifier keep one row for each, under an id that names nobody (ADR 0016). Events of one credential
keep their order, but a consumer that lost its partition may still commit, a parked event or a dead letter may come at
any time, and a replay brings everything again. So whoever writes what an event holds takes `alongside` first and then
leaves out what is `buried`; whoever erases takes `alone` first. Both before any row is locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from laurel.database import Transaction
from laurel.events import CredentialErased
from laurel.tables import row_level_security

REASON = "the data of the learner were erased"
"""Why the credential of an erased learner is revoked, and all that its webhooks say of it."""

_LOCK = "(hashtextextended(current_schema() || ':erasure:' || $1, 0))"


def tombstone_table(service: str) -> list[str]:
    """Statements of a migration. last_version: of the status change that tells of the erasure; 0: none does."""
    policies = row_level_security("erased_credentials", service).rstrip(";\n").split(";\n")
    return [
        """
CREATE TABLE erased_credentials (
    credential_id text COLLATE "C" NOT NULL,
    tenant_id     text NOT NULL,
    erasure_id    text NOT NULL,
    last_version  integer NOT NULL,
    erased_at     timestamptz NOT NULL,
    PRIMARY KEY (credential_id, tenant_id)
)
""",
        "CREATE INDEX erased_credentials_erasure ON erased_credentials (tenant_id, erasure_id)",
        *policies,
    ]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An erased credential."""

    credential_id: str
    tenant_id: str
    erasure_id: str
    last_version: int
    erased_at: datetime


async def alongside(tx: Transaction, what: str = "") -> None:
    """Hold off erasures until the transaction ends. what: a tenant, where erasures of others are no matter."""
    await tx.execute(f"SELECT pg_advisory_xact_lock_shared{_LOCK}", what)


async def alone(tx: Transaction, what: str = "") -> None:
    """Wait for everybody who writes `alongside`, and hold them off until the transaction ends."""
    await tx.execute(f"SELECT pg_advisory_xact_lock{_LOCK}", what)


async def buried(tx: Transaction, credential_ids: Iterable[str]) -> dict[tuple[str, str], Tombstone]:
    """Those of the credentials that are erased, by (id, tenant)."""
    rows = await tx.fetch(
        "SELECT credential_id, tenant_id, erasure_id, last_version, erased_at FROM erased_credentials "
        "WHERE credential_id = ANY ($1::text[])",
        list(credential_ids),
    )  # fmt: skip
    return {(row["credential_id"], row["tenant_id"]): Tombstone(*row.values()) for row in rows}


async def entomb_all(tx: Transaction, events: Sequence[CredentialErased]) -> list[Tombstone]:
    """`entomb` what the issuer tells; waits for `alone` first. Nothing is done for no event."""
    if not events:
        return []
    await alone(tx)
    stones = [Tombstone(one.credential_id, one.tenant_id, one.erasure_id, one.version, one.erased_at) for one in events]
    return await entomb(tx, stones)


async def entomb(tx: Transaction, erased: Sequence[Tombstone]) -> list[Tombstone]:
    """Write tombstones; those that are new, in the order given. One that is there stays as it is."""
    rows = await tx.fetch(
        """
        INSERT INTO erased_credentials (credential_id, tenant_id, erasure_id, last_version, erased_at)
        SELECT DISTINCT ON (c, t) c, t, e, v, a
        FROM unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::timestamptz[]) AS rows (c, t, e, v, a)
        ORDER BY c, t
        ON CONFLICT DO NOTHING RETURNING credential_id, tenant_id
        """,
        [one.credential_id for one in erased], [one.tenant_id for one in erased], [one.erasure_id for one in erased],
        [one.last_version for one in erased], [one.erased_at for one in erased],
    )  # fmt: skip
    new = {tuple(row) for row in rows}
    given = {(one.credential_id, one.tenant_id): one for one in erased}
    return [one for pair, one in given.items() if pair in new]


@dataclass(frozen=True, slots=True)
class Progress:
    """How many credentials of an erasure this service has erased, and when the last one."""

    credentials: int
    erased_at: datetime


async def progress(tx: Transaction, tenant_id: str, erasure_id: str) -> Progress | None:
    """How far an erasure is here; None: nothing of it has come."""
    row = await tx.fetchrow(
        "SELECT count(*), max(erased_at) FROM erased_credentials WHERE tenant_id = $1 AND erasure_id = $2",
        tenant_id, erasure_id,
    )  # fmt: skip
    return None if row is None or not row[0] else Progress(row[0], row[1])


async def erased_ids(tx: Transaction, tenant_id: str, *, after: str, limit: int) -> list[str]:
    """The ids of a tenant's erased credentials, in order, from the first one behind `after`."""
    rows = await tx.fetch(
        "SELECT credential_id FROM erased_credentials WHERE tenant_id = $1 AND credential_id > $2 "
        "ORDER BY credential_id LIMIT $3",
        tenant_id, after, limit,
    )  # fmt: skip
    return [row["credential_id"] for row in rows]
