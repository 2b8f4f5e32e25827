"""What events lead to.

| event                                  | effect                                                          |
|----------------------------------------|-----------------------------------------------------------------|
| credential.issued, endorsement.issued  | one index row with the exact bytes                              |
| credential.status_changed              | the row's status, if the event's version is newer               |
| credential.refresh_offered             | a newer one may be had                                          |
| credential.message_changed             | the row's message, if the event's version is newer              |
| credential.erased                      | the row goes, and a tombstone keeps it out for ever             |
| issuer_profile.published               | the issuer's DID document and profile, if newer                 |
| api_key.created, api_key.revoked       | the replica of API keys (laurel.access)                         |

The signature is not checked here: the issuer has checked its own before the event, and whoever asks gets it checked
again. What is checked is that the event speaks of the document that it carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from laurel.crash_points import reach
from laurel.credential import jose
from laurel.database import Transaction
from laurel.dead_letters import forget
from laurel.envelope import Delivered
from laurel.erasure import alongside, buried, entomb_all
from laurel.errors import Reject
from laurel.events import (
    CredentialErased,
    CredentialIssued,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
    EndorsementIssued,
    IssuerProfilePublished,
)
from laurel.service import Consumer, Saving
from laurel.topics import CREDENTIAL, ISSUER
from laurel_verifier import store


def index_consumer() -> Consumer[Any]:
    """Keeps the index of credentials."""
    return Consumer(group="verifier.index", topics=(CREDENTIAL,), handler=Indexing())


def issuers_consumer() -> Consumer[Any]:
    """Keeps the issuers that we know of."""
    return Consumer(group="verifier.issuers", topics=(ISSUER,), handler=Saving(_save_issuers))


class _Head(msgspec.Struct):
    """The two members of a credential that its event repeats."""

    id: str
    issuer: str | dict[str, Any]


_head = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class _Batch:
    issued: list[tuple[Delivered, CredentialIssued | EndorsementIssued]]
    changed: list[tuple[Delivered, store.StatusEvent]]
    erased: list[CredentialErased]


class Indexing:
    """Issued credentials and their statuses. A status may stand in the batch of its issue: it comes behind it."""

    async def prepare(self, events: Sequence[Delivered]) -> _Batch:
        """Check that each event speaks of its document. Raises Reject."""
        batch = _Batch([], [], [])
        for delivered in events:
            match delivered.event:
                case (CredentialIssued() | EndorsementIssued()) as issued:
                    _check_document(delivered, issued)
                    batch.issued.append((delivered, issued))
                case CredentialStatusChanged() | CredentialRefreshOffered() | CredentialMessageChanged() as changed:
                    batch.changed.append((delivered, changed))
                case CredentialErased() as erased:
                    batch.erased.append(erased)
        return batch

    async def save(self, tx: Transaction, prepared: _Batch) -> None:
        """What is erased first, then rows, then statuses. Raises Reject."""
        if prepared.erased:
            await _erase(tx, prepared.erased)
            reach("index.erased")
        else:
            await alongside(tx)
        gone = await buried(tx, {one.credential_id for _, one in (*prepared.issued, *prepared.changed)})
        kept = [one for one in prepared.issued if (one[1].credential_id, one[1].tenant_id) not in gone]
        if kept:
            different = await store.index(tx, [issued for _, issued in kept])
            if different:
                delivered, issued = kept[different[0]]
                detail = f"{issued.credential_id} is indexed with other bytes; a credential never changes"
                raise Reject(delivered, "document_differs", detail)
        reach("index.written")
        told = [one for one in prepared.changed if (one[1].credential_id, one[1].tenant_id) not in gone]
        if told:
            missing = await store.unindexed(tx, [change for _, change in told])
            for delivered, change in told:
                if change.credential_id in missing:
                    detail = (
                        f"no credential {change.credential_id} of this tenant is indexed; its issue comes before its "
                        "status on the same key, so look for it among the dead letters"
                    )
                    raise Reject(delivered, "unknown_credential", detail)
            changes = [change for _, change in told]
            if statuses := [one for one in changes if isinstance(one, CredentialStatusChanged)]:
                await store.apply_statuses(tx, statuses)
            if offers := [one for one in changes if isinstance(one, CredentialRefreshOffered)]:
                await store.apply_refreshes(tx, offers)
            if messages := [one for one in changes if isinstance(one, CredentialMessageChanged)]:
                await store.apply_messages(tx, messages)


async def _erase(tx: Transaction, erased: Sequence[CredentialErased]) -> None:
    new = await entomb_all(tx, erased)
    await store.forget(tx, [(one.credential_id, one.tenant_id) for one in new])
    await forget(tx, [(one.credential_id, one.tenant_id) for one in erased])  # also what has died since


def _check_document(delivered: Delivered, issued: CredentialIssued | EndorsementIssued) -> None:
    body = bytes(issued.document)
    try:
        # A credential in a token is a JSON string.
        head = msgspec.convert(jose.opened(body)[0], _Head) if body.startswith(b'"') else _head.decode(body)
    except (msgspec.DecodeError, jose.JoseError) as error:
        raise Reject(delivered, "bad_document", f"the document of {issued.credential_id}: {error}") from error
    issuer = head.issuer if isinstance(head.issuer, str) else head.issuer.get("id")
    if not head.id.endswith(f"/c/{issued.credential_id}"):
        raise Reject(
            delivered, "id_mismatch", f"the event is about {issued.credential_id}, its document about {head.id[:200]}"
        )
    if issuer != issued.issuer:
        raise Reject(delivered, "issuer_mismatch", f"the event names {issued.issuer}, its document {str(issuer)[:200]}")


async def _save_issuers(tx: Transaction, events: Sequence[Delivered]) -> None:
    for delivered in events:
        if isinstance(delivered.event, IssuerProfilePublished):
            published = delivered.event
            if published.did_document.get("id") != published.did:
                raise Reject(delivered, "did_mismatch", f"the DID document of {published.did} describes another DID")
            await store.remember_issuer(tx, published)
