"""Endorsements: signed while the caller waits, and like every credential a function of what was reserved before.

 1. reserve: id, place in a status list, keys, time and content are stored;
 2. build, 3. lint, 4. sign, 5. check: in the signing processes, after the status list is published;
 6. finish: the bytes and `endorsement.issued`, in one transaction.

The id follows from the Idempotency-Key, or else from the content: who sends the same again, perhaps because we died in
between, finds the reservation and gets the very same credential.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from laurel import audit
from laurel.credential import model, status
from laurel.database import Database
from laurel.errors import LaurelError
from laurel.security import Principal
from laurel_issuer import store_endorsements
from laurel_issuer.domain import IssuerProfile, kinds_to_make, profile_model, waits_for
from laurel_issuer.keyring import KeyMaker, SealedKey
from laurel_issuer.signing import Signers
from laurel_issuer.status_lists import Publisher
from laurel_issuer.store_endorsements import Row, Wanted
from laurel_issuer.store_issuance import Terms

_CONTENT = ("profile_id", "subject_id", "subject_type", "comment", "name", "valid_until")


class NoKey(LaurelError):
    """The profile has no active key to sign with."""


class AnotherRequest(LaurelError):
    """The Idempotency-Key was used for another endorsement."""


class Endorser:
    """Issues endorsements. database: as the API sees it, one tenant at a time."""

    def __init__(
        self,
        database: Database,
        signers: Signers,
        publisher: Publisher,
        *,
        keys: KeyMaker,
        terms: Terms,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._signers = signers
        self._publisher = publisher
        self._keys = keys
        self._terms = terms
        self._clock = clock

    async def issue(self, wanted: Wanted, actor: Principal) -> tuple[Row, bool]:
        """The endorsement, and whether it is new.

        Raises NoKey, AnotherRequest, lint.LintError, NotNow, Inconsistent.
        """
        row = await self._reserve(wanted)  # 1
        if row["body"] is not None:
            return row, False
        async with self._database.transaction([wanted.tenant_id]) as tx:
            encoded, keys, status_list = await store_endorsements.materials(tx, row)
        if status_list["version"] == 0:
            await self._publisher.publish(row["revocation_list"], only_first=True)
        issuer = msgspec.json.decode(encoded, type=IssuerProfile)
        document = model.build_endorsement(  # 2
            id=f"{self._terms.base_url}/c/{wanted.credential_id}",
            issuer=profile_model(issuer),
            subject_id=row["subject_id"],
            comment=row["comment"],
            name=row["name"],
            valid_from=row["created_at"],
            valid_until=row["valid_until"],
            status=status.status_entry(status_list["url"], row["revocation_index"], "revocation"),
        )
        by_id = {key["key_id"]: SealedKey(**dict(key)) for key in keys}
        body = await self._signers.sign_endorsement(  # 3 4 5
            document, tuple(row["securing"]), tuple(by_id[one] for one in row["key_ids"]), row["created_at"]
        )
        async with self._database.transaction([wanted.tenant_id]) as tx:
            new = await store_endorsements.finish(tx, row, issuer=issuer.did, body=body)  # 6
            stored = await store_endorsements.reserved(tx, wanted.credential_id)
            if new:
                await audit.record(tx, wanted.tenant_id, actor, "endorsement.issue", wanted.credential_id)
        assert stored is not None
        return stored, new

    async def _reserve(self, wanted: Wanted) -> Row:
        now = self._clock().replace(microsecond=0)
        for last in (False, True):
            async with self._database.transaction([wanted.tenant_id]) as tx:
                row = await store_endorsements.reserved(tx, wanted.credential_id)
                if row is None:
                    known = await store_endorsements.prerequisites(tx, wanted.profile_id)
                    if waits_for(known) is None:
                        await store_endorsements.reserve(tx, wanted, known, terms=self._terms, now=now)
                        row = await store_endorsements.reserved(tx, wanted.credential_id)
                if row is not None:
                    if any(row[name] != getattr(wanted, name) for name in _CONTENT):
                        raise AnotherRequest("this Idempotency-Key was used for another endorsement; use a new one")
                    return row
                kinds = kinds_to_make(known)
            if last or not kinds:
                break
            await self._keys.make_missing(wanted.profile_id, kinds)
        raise NoKey("the profile has no active key to sign with; make one, then send this again")
