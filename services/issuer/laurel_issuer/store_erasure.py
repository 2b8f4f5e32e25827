"""Rows of learners that were erased: what is removed of their credentials here, and the facts that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from laurel import outbox
from laurel.database import Transaction
from laurel.dead_letters import forget
from laurel.erasure import REASON, Tombstone, entomb
from laurel.events import CredentialErased, LearnerErased
from laurel_issuer.standing import Change
from laurel_issuer.store_status import change_status

ACTOR = "system:erasure"
"""Who revokes the credentials of erased learners; the audit log of assessment says who asked for it."""


async def erase(tx: Transaction, erased: Sequence[LearnerErased], *, now: datetime) -> None:
    """Revoke and empty these credentials, whether they were issued, are being issued, wait, died, or never came.

    An erasure that comes again changes nothing. The transaction holds `laurel.erasure.alone`.
    """
    found = [Tombstone(one.credential_id, one.tenant_id, one.erasure_id, 0, one.erased_at) for one in erased]
    tenants: dict[str, list[Tombstone]] = {}
    for one in await entomb(tx, found):
        tenants.setdefault(one.tenant_id, []).append(one)
    for tenant_id, theirs in sorted(tenants.items()):
        await _erase(tx, tenant_id, theirs, now)
    await forget(tx, [(one.credential_id, one.tenant_id) for one in erased])  # also what has died since


async def _erase(tx: Transaction, tenant_id: str, erased: Sequence[Tombstone], now: datetime) -> None:
    ids = sorted(UUID(one.credential_id) for one in erased)
    keys = [one.credential_id.encode() for one in erased]
    # What has not left yet need not leave: it holds documents, contacts and reasons.
    await tx.execute("DELETE FROM outbox WHERE tenant_id = $1 AND key = ANY ($2::bytea[])", tenant_id, keys)
    rows = await tx.fetch(
        "SELECT credential_id::text, status, status_version FROM credentials "
        "WHERE credential_id = ANY ($1) AND tenant_id = $2 ORDER BY credential_id FOR UPDATE",
        ids, tenant_id,
    )  # fmt: skip
    versions = {row["credential_id"]: row["status_version"] + 1 for row in rows if row["status"] != "revoked"}
    # Before the change of status: nobody who has forgotten the credential may take that for one that is missing.
    events = [
        CredentialErased(
            tenant_id=tenant_id, credential_id=one.credential_id, erasure_id=one.erasure_id,
            version=versions.get(one.credential_id, 0), erased_at=one.erased_at,
        )
        for one in erased
    ]  # fmt: skip
    await outbox.append(tx, events, now=now)
    await change_status(tx, tenant_id, ids, Change("revoke"), reason=REASON, key_id=ACTOR, now=now)
    await tx.execute(
        "UPDATE credentials SET body = '', erased_at = $3, status_reason = $4 "
        "WHERE credential_id = ANY ($1) AND tenant_id = $2",
        ids, tenant_id, now, REASON,
    )  # fmt: skip
    await tx.execute(
        "UPDATE status_changes SET reason = $3 WHERE credential_id = ANY ($1) AND tenant_id = $2",
        ids, tenant_id, REASON,
    )  # fmt: skip
    await tx.execute("DELETE FROM intents WHERE credential_id = ANY ($1) AND tenant_id = $2", ids, tenant_id)
    await tx.execute("DELETE FROM parked WHERE credential_id = ANY ($1) AND tenant_id = $2", ids, tenant_id)
