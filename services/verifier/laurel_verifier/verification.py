"""A credential, from a document to a verdict. One code path for the API, the page and the command (see `intake.py`).

The order is that of Open Badges 3.0 §9.1 (its steps stand in brackets):
 1. Look at the form. [1] A credential in a JSON Web Token is taken out of it first (`tokens.py`).
 2. Is it one of ours? Then the index has its status.
 3. Find the issuer's keys, and among them those that the proofs name (`genuine.py`).
 4. In the sandbox: the meaning of every word, the schema [1], the signature of every proof [2] (`genuine.py`).
 5. Status: from the index, or from the list that the credential names, which is a credential itself and is checked
    too. [4] What was handed in is judged, not a newer one that its issuer may offer. [3]
 6. Dates, by the clock that was handed in. [4]
 7. Whose credential it is, if the caller asks. [5]
 8. The endorsements in it, each a credential of its own with a verdict of its own (`endorsements.py`). [6]
 9. The verdict (`domain.decide`).

Nothing that a stranger sends makes this raise: whatever goes wrong becomes a check that says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from laurel import telemetry
from laurel.credential import jose
from laurel.credential.baking import Format
from laurel.credential.text import timestamp
from laurel_verifier import domain, endorsements, store, tokens
from laurel_verifier.checks import Check, complete, failed, not_applicable, not_checked
from laurel_verifier.documents import MAX_DOCUMENT
from laurel_verifier.domain import Verdict
from laurel_verifier.endorsements import Attached, Endorsement
from laurel_verifier.genuine import FREELY, Examiner, Gate, Presented
from laurel_verifier.lookups import Lookups
from laurel_verifier.resolution import Issuers, Resolved
from laurel_verifier.sandbox import Sandbox
from laurel_verifier.status_lists import StatusLists
from laurel_verifier.statuses import Notice, Told, combine, indexed_notices

MOST_STATUS_ENTRIES = 4  # of a stranger's credential
ENDORSEMENT_S = 10.0  # for one endorsement; they are checked side by side
STATUS_S = 8.0  # for all its status lists together


class Recipient(msgspec.Struct, frozen=True):
    """matches: whether it was issued to the person that the caller named; None: nobody was named, or it is hidden."""

    matches: bool | None


class Verification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found. credential_id: the id in Laurel's index, where exactly this document is indexed; id: its own.

    issuer_known: the issuer is in our register, and issuer_name from there; else that name is what it says of itself.
    baked: the kind of picture that it was taken out of.
    """

    verdict: Verdict
    checks: tuple[Check, ...]
    checked_at: str
    recipient: Recipient
    issuer_known: bool
    credential_id: str | None = None
    id: str | None = None
    issuer: str | None = None
    issuer_name: str | None = None
    baked: Format | None = None
    notices: tuple[Notice, ...] = ()
    endorsements: tuple[Endorsement, ...] = ()


class Verifier:
    """Verifies credentials. `own` is the sandbox for what we issued ourselves: strangers cannot hold it up."""

    def __init__(
        self,
        *,
        index: Lookups,
        issuers: Issuers,
        lists: StatusLists,
        own: Sandbox,
        foreign: Sandbox,
        base_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._index = index
        self._issuers = issuers
        self._examiner = Examiner(issuers)
        self._lists = lists
        self._own = own
        self._foreign = foreign
        self._base_url = base_url
        self._clock = clock

    def unread(self, check: Check) -> Verification:
        """The verdict on what could not be read as a credential. check: of its form, why."""
        return self._conclude([check])

    async def verify(
        self,
        document: Any,
        expected_recipient: str | None = None,
        *,
        content: bytes = b"",
        envelope: jose.Envelope | None = None,
        status: bool = True,
        endorsed: bool = True,
        gate: Gate = FREELY,
    ) -> Verification:
        """A document that has passed the guard. content: its UTF-8 JSON, where it came as bytes of its own.

        envelope: the token that it was taken out of. status: False asks nobody whether it was taken back; the verdict
        is then at best could_not_check. endorsed: False leaves its endorsements alone. gate: behind it a stranger's is
        examined, and of ours what takes long.
        """
        row = await self._claimed(document)
        # In our own writing, not theirs: a poison with another blank in it is the same poison (`sandbox`).
        raw = _written(document)
        form = domain.check_format(document, len(content) or len(raw), enveloped=envelope is not None)  # 1
        if len(raw) > MAX_DOCUMENT:
            form = failed("format", "too_large", f"{len(raw):,} bytes; credentials of {MAX_DOCUMENT:,} are checked")
        if form.outcome != "passed":
            return self._conclude([form], document=document)
        if domain.claims_our_address(document, self._base_url):  # 2
            row, form = await self._indexed(row, document, raw, envelope, form)
        if row is not None:  # exactly what we issued: its bytes are known to be harmless, so it waits for no stranger's
            presented = Presented(document, raw, form, self._own, row, envelope, gate)
            return await self._verify(presented, expected_recipient, ask_status=status, endorsed=endorsed)
        async with gate:
            presented = Presented(document, raw, form, self._foreign, None, envelope)
            return await self._verify(presented, expected_recipient, ask_status=status, endorsed=endorsed)

    async def unsigned(self, document: dict[str, Any], *, status: bool = True) -> tuple[Check, ...]:
        """Status and dates of a credential without a proof, whose issuer's signature around it was confirmed."""
        now = self._clock()
        dates = domain.check_dates(document, now)
        return ((await self._status(document, None, True, now))[0], dates) if status else (dates,)

    async def verify_token(
        self,
        token: str | dict[str, Any],
        expected_recipient: str | None = None,
        *,
        status: bool = True,
        endorsed: bool = True,
    ) -> tuple[Verification, dict[str, Any] | None]:
        """A credential as a compact JWS, or as an object that `tokens.is_enveloped`; the document in it too, where it
        can be read. Otherwise as `verify`."""
        try:
            if isinstance(token, str):
                envelope = await asyncio.to_thread(jose.parse, token.strip())
            else:
                envelope = await asyncio.to_thread(jose.unwrap, token)
        except jose.JoseError as error:
            return self._conclude([tokens.unread(error)]), None
        wrong = tokens.misplaced(token, envelope)
        if wrong is not None:
            return self._conclude([wrong]), None
        found = await self.verify(
            envelope.document, expected_recipient, envelope=envelope, status=status, endorsed=endorsed
        )
        return found, envelope.document

    async def verify_indexed(
        self, row: store.Indexed, expected_recipient: str | None = None, *, gate: Gate = FREELY
    ) -> tuple[Verification, dict[str, Any]]:
        """A credential of the index: the same steps, on the bytes that are stored. gate: as of `verify`."""
        document, token = jose.opened(row.document)
        envelope = None if token is None else jose.parse(token)
        form = domain.well_formed(document, len(row.document))  # lint asked for all that before it was signed
        raw = row.document if envelope is None else json.dumps(document, ensure_ascii=False).encode()
        presented = Presented(document, raw, form, self._own, row, envelope, gate)
        return await self._verify(presented, expected_recipient), document

    async def _claimed(self, document: Any) -> store.Indexed | None:
        """The row of the address that the document bears, whatever the document is."""
        found = domain.own_credential_id(document, self._base_url) if isinstance(document, dict) else None
        return None if found is None else await self._index.credential(found)

    async def _indexed(
        self,
        row: store.Indexed | None,
        document: dict[str, Any],
        raw: bytes,
        envelope: jose.Envelope | None,
        form: Check,
    ) -> tuple[store.Indexed | None, Check]:
        """The row of our address that the document bears, where it is of exactly this document, in exactly this token
        if it is in one. A document that only bears our address fails the form.
        """
        if row is not None and _is_of(row, document, raw, envelope):
            return row, form
        issuer = domain.issuer_id(document) or ""
        if row is None and (self._issuers.is_ours(issuer) or await self._issuers.is_known(issuer)):
            return None, form  # perhaps issued a moment ago: our issuer's signature will tell
        what = "another document was issued" if row is not None else "this issuer has issued nothing"
        detail = f"its id is an address of this Laurel, where {what}: it is not the credential of that address"
        return None, failed("format", "not_the_indexed_document", detail, pointer="/id")

    async def _verify(
        self,
        presented: Presented,
        expected_recipient: str | None,
        *,
        ask_status: bool = True,
        endorsed: bool = True,
    ) -> Verification:
        now = self._clock()
        document, row = presented.document, presented.row
        genuine = await self._examiner.examine(presented, now)  # 3, 4
        confirmed, checks = genuine.confirmed, [*genuine.checks, endorsements.check_refresh(document)]
        notices: tuple[Notice, ...] = ()
        if ask_status:
            status_check, notices = await self._status(document, row, confirmed, now)  # 5
            checks.append(status_check)
        checks.append(tokens.check_dates(document, presented.envelope, now))  # 6
        checks.append(domain.check_recipient(document, expected_recipient, genuine=confirmed))  # 7
        found: tuple[Endorsement, ...] = ()
        if confirmed and endorsed:  # nobody is asked in the name of a document that nobody has signed
            attached = endorsements.attached(document) if endorsements.named_in(presented.raw) else []
            if attached:
                looked_at = attached[: endorsements.MOST_ENDORSEMENTS]
                checking = (self._endorsement(one, presented.gate) for one in looked_at)
                found = tuple(await asyncio.gather(*checking))  # 8
            checks.append(endorsements.check(found, len(attached)))
        return self._conclude(
            checks, document=document, row=row, resolved=genuine.resolved, notices=notices, endorsed=found
        )

    async def _endorsement(self, one: Attached, gate: Gate) -> Endorsement:
        """One endorsement, as a credential of its own."""
        document: dict[str, Any] | None = None
        try:
            async with asyncio.timeout(ENDORSEMENT_S):
                if isinstance(one.document, str):
                    async with gate:
                        found, document = await self.verify_token(one.document, endorsed=False)
                else:
                    document = one.document
                    found = await self.verify(document, endorsed=False, gate=gate)
        except TimeoutError:
            late = not_checked("format", "timeout", f"it could not be checked within {ENDORSEMENT_S:.0f} seconds")
            found = self._conclude([late], document=document)
        wrong = None if document is None else endorsements.wrong_type(document)
        if wrong is not None:
            found = self._conclude([wrong], document=document)
        return Endorsement(
            pointer=one.pointer, verdict=found.verdict, checks=found.checks,
            concerns=endorsements.concerns(one, document), id=found.id, issuer=found.issuer,
            issuer_name=found.issuer_name, issuer_known=found.issuer_known,
        )  # fmt: skip

    async def _status(
        self, document: dict[str, Any], row: store.Indexed | None, genuine: bool, now: datetime
    ) -> tuple[Check, tuple[Notice, ...]]:
        if row is not None and genuine:
            known = Told(domain.indexed_status(row.status, row.status_changed_at, now))
            told = indexed_notices(document, refresh=row.refresh, message=row.message, where="Laurel's index")
            return combine([known, *told])
        entries = domain.status_entries(document)
        if not entries:
            return not_applicable("status", "its issuer has not said where it would be revoked"), ()
        if not genuine:
            # Its list is somebody's address: we ask nobody in the name of a document that nobody has signed.
            detail = "not looked up, because the signature could not be confirmed"
            return not_checked("status", "not_reached", detail, pointer="/credentialStatus"), ()
        if len(entries) > MOST_STATUS_ENTRIES:
            detail = f"it names {len(entries)} status entries; {MOST_STATUS_ENTRIES} are looked up"
            return not_checked("status", "too_many_entries", detail, pointer="/credentialStatus"), ()
        asking = (self._lists.check(entry, at, document, now, self._genuine_list) for at, entry in entries)
        try:
            async with asyncio.timeout(STATUS_S):
                return combine(await asyncio.gather(*asking))
        except TimeoutError:
            detail = f"its status lists did not answer within {STATUS_S:.0f} seconds"
            return not_checked("status", "timeout", detail, pointer="/credentialStatus"), ()

    async def _genuine_list(
        self, document: dict[str, Any], envelope: jose.Envelope | None, now: datetime
    ) -> str | None:
        """Why a status list credential cannot be relied on; None where it can."""
        raw = _written(document)
        form = domain.check_format(document, len(raw), enveloped=envelope is not None)
        if form.outcome != "passed":
            return form.detail
        now = max(now, self._clock())  # a list may have been published while it was asked for
        presented = Presented(document, raw, form, self._foreign, envelope=envelope)
        genuine = await self._examiner.examine(presented, now)
        checks = [*genuine.checks, tokens.check_dates(document, envelope, now)]
        wrong = [one for one in checks if one.outcome in ("failed", "not_checked") and one.step != "schema"]
        return f"{wrong[0].step}: {wrong[0].detail}" if wrong else None

    def _conclude(
        self,
        checks: Sequence[Check],
        *,
        document: Any = None,
        row: store.Indexed | None = None,
        resolved: Resolved | None = None,
        notices: tuple[Notice, ...] = (),
        endorsed: tuple[Endorsement, ...] = (),
    ) -> Verification:
        verdict = domain.decide(checks)  # 9
        at = timestamp(self._clock())
        telemetry.count("laurel_verifications_total", verdict=verdict)
        found = document if isinstance(document, dict) else {}
        identifier = found.get("id")
        holder = next((one.outcome for one in checks if one.step == "recipient"), "")
        return Verification(
            verdict=verdict,
            recipient=Recipient({"passed": True, "failed": False}.get(holder)),
            issuer_known=resolved is not None and resolved.own,
            checks=complete(checks, at),
            checked_at=at,
            credential_id=row.credential_id if row is not None else None,
            id=identifier if isinstance(identifier, str) else None,
            issuer=domain.issuer_id(found),
            issuer_name=_issuer_name(found, resolved),
            notices=notices,
            endorsements=endorsed,
        )


def _written(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _is_of(row: store.Indexed, document: dict[str, Any], raw: bytes, envelope: jose.Envelope | None) -> bool:
    """Whether the row is of this document, and of the token around it, if it came in one. raw: as we write it."""
    if envelope is None and raw == row.document:
        return True
    stored, token = jose.opened(row.document)
    if envelope is not None or token is not None:
        return envelope is not None and envelope.compact == token
    return domain.same_json(stored, document)


def _issuer_name(document: dict[str, Any], resolved: Resolved | None) -> str | None:
    if resolved is not None and resolved.name:
        return resolved.name
    issuer = document.get("issuer")
    name = issuer.get("name") if isinstance(issuer, dict) else None
    return name if isinstance(name, str) else None
