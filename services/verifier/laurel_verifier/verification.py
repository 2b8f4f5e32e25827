"""A credential, from bytes to a verdict. One code path for the API, the page and the form.

 1. Guard the bytes and look at the form.
 2. Is it one of ours? Then the index has its status.
 3. Find the issuer's keys, and among them those that the proofs name.
 4. In the sandbox: the meaning of every word, the schema, the signature of every proof.
 5. Dates, by the clock that was handed in.
 6. Status: from the index, or from the list that the credential names, which is a credential itself and is checked too.
 7. Whose credential it is, if the caller asks.
 8. The verdict (`domain.decide`).

Nothing that a stranger sends makes this raise: whatever goes wrong becomes a check that says so.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from laurel import telemetry
from laurel.credential import did
from laurel.credential.proofs import NOT_CHECKED, proofs_of
from laurel.credential.text import is_absolute_identifier, timestamp
from laurel.database import Database
from laurel.security import BadJson, guard_json
from laurel_verifier import domain, store
from laurel_verifier.domain import Check, Verdict, failed, not_applicable, not_checked, passed
from laurel_verifier.resolution import Issuers, Resolved, Unresolvable
from laurel_verifier.sandbox import Findings, Job, Sandbox, SandboxBusy, SandboxLimit
from laurel_verifier.status_lists import StatusLists

MAX_DOCUMENT = 1 << 20  # bytes of one credential
MOST_STATUS_ENTRIES = 4  # of a stranger's credential
STATUS_S = 8.0  # for all its status lists together

# What a document of keys may be without being wrong: we cannot read it, which is another thing.
_KEY_UNREADABLE = {"unsupported_key", "malformed_document", "wrong_document"}


class Recipient(msgspec.Struct, frozen=True):
    """matches: whether it was issued to the person that the caller named; None: nobody was named, or it is hidden."""

    matches: bool | None


class Verification(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found. credential_id: the id in Laurel's index, where exactly this document is indexed; id: its own.

    issuer_known: the issuer is in our register, and issuer_name from there; else that name is what it says of itself.
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


@dataclass
class _Keys:
    """Step 3: the check, and for each proof the Multikey ("": there is none) and whether it is the issuer's.

    problems: place → why a proof of somebody else than the issuer has no key.
    """

    check: Check
    keys: list[str] = field(default_factory=list)
    by_issuer: list[bool] = field(default_factory=list)
    problems: dict[int, Check] = field(default_factory=dict)
    resolved: Resolved | None = None


class Verifier:
    """Verifies credentials. `own` is the sandbox for what we issued ourselves: strangers cannot hold it up."""

    def __init__(
        self,
        *,
        database: Database,
        issuers: Issuers,
        lists: StatusLists,
        own: Sandbox,
        foreign: Sandbox,
        base_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._issuers = issuers
        self._lists = lists
        self._own = own
        self._foreign = foreign
        self._base_url = base_url
        self._own_prefix = did.did_web(base_url, "x").removesuffix("x")
        self._clock = clock

    async def verify_bytes(
        self, body: bytes, expected_recipient: str | None = None
    ) -> tuple[Verification, dict[str, Any] | None]:
        """Any bytes at all; the document too, where it can be read."""
        try:
            # A byte order mark is no part of JSON, but files are saved with one (RFC 8259 §8.1 lets us ignore it).
            document = guard_json(body.removeprefix(codecs.BOM_UTF8), max_bytes=MAX_DOCUMENT)  # 1
        except BadJson as error:
            return self._conclude([failed("format", error.code, error.detail)]), None
        verification = await self.verify(document, expected_recipient, size=len(body))
        return verification, document if isinstance(document, dict) else None

    async def verify(
        self, document: Any, expected_recipient: str | None = None, *, size: int = 0, status: bool = True
    ) -> Verification:
        """A document that has passed the guard. size: its bytes, where it came as bytes of its own.

        status: False asks nobody whether it was taken back; the verdict is then at best could_not_check.
        """
        raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        form = domain.check_format(document, size or len(raw))  # 1
        if len(raw) > MAX_DOCUMENT:
            form = failed("format", "too_large", f"{len(raw):,} bytes; credentials of {MAX_DOCUMENT:,} are checked")
        if form.outcome != "passed":
            return self._conclude([form], document=document)
        row, form = await self._indexed(document, form)  # 2
        if row is not None:  # exactly what we issued: its bytes are known to be harmless, so it waits for no stranger's
            return await self._verify(
                document, row.document, form, row, self._own, expected_recipient, ask_status=status
            )
        return await self._verify(document, raw, form, None, self._foreign, expected_recipient, ask_status=status)

    async def verify_indexed(
        self, row: store.Indexed, expected_recipient: str | None = None
    ) -> tuple[Verification, dict[str, Any]]:
        """A credential of the index: the same steps, on the bytes that are stored."""
        document: dict[str, Any] = json.loads(row.document)
        form = domain.check_format(document, len(row.document))
        if form.outcome != "passed":
            return self._conclude([form], document=document, row=row), document
        return await self._verify(document, row.document, form, row, self._own, expected_recipient), document

    async def _indexed(self, document: dict[str, Any], form: Check) -> tuple[store.Indexed | None, Check]:
        """The row of exactly this document. A document that only bears one of our addresses fails the form."""
        if not domain.claims_our_address(document, self._base_url):
            return None, form
        credential_id = domain.own_credential_id(document, self._base_url)
        row = None if credential_id is None else await store.public_credential(self._database, credential_id)
        if row is not None and domain.same_json(json.loads(row.document), document):
            return row, form
        if row is None and (domain.issuer_id(document) or "").startswith(self._own_prefix):
            return None, form  # perhaps issued a moment ago: our issuer's signature will tell
        what = "another document was issued" if row is not None else "this issuer has issued nothing"
        detail = f"its id is an address of this Laurel, where {what}: it is not the credential of that address"
        return None, failed("format", "not_the_indexed_document", detail)

    async def _verify(
        self,
        document: dict[str, Any],
        raw: bytes,
        form: Check,
        row: store.Indexed | None,
        sandbox: Sandbox,
        expected_recipient: str | None,
        *,
        ask_status: bool = True,
    ) -> Verification:
        now = self._clock()
        checks, keys = await self._genuine(document, raw, form, sandbox, now, row)  # 3, 4
        checks.append(domain.check_dates(document, now))  # 5
        needed = ("format", "context", "issuer", "signature")
        genuine = all(one.outcome == "passed" for one in checks if one.step in needed)
        if ask_status:
            checks.append(await self._status(document, row, genuine, now))  # 6
        checks.append(domain.check_recipient(document, expected_recipient, genuine=genuine))  # 7
        return self._conclude(checks, document=document, row=row, resolved=keys.resolved)

    async def _genuine(
        self,
        document: dict[str, Any],
        raw: bytes,
        form: Check,
        sandbox: Sandbox,
        now: datetime,
        row: store.Indexed | None,
    ) -> tuple[list[Check], _Keys]:
        """Steps 3 and 4: format, context, schema, issuer, signature (in this order)."""
        keys = await self._keys(document, row, now)
        schema = domain.wants_open_badge_schema(document)
        try:
            findings = await sandbox.examine(Job(raw, tuple(keys.keys), schema, now))
        except SandboxLimit as error:
            return [form, failed("context", "limit_exceeded", str(error)), keys.check, _unreached()], keys
        except SandboxBusy as error:
            return [form, not_checked("context", "busy", str(error)), keys.check, _unreached()], keys
        checks = [
            form,
            _context_check(document, findings),
            _schema_check(document, findings, schema),
            keys.check,
            _signature_check(document, findings, keys),
        ]
        return checks, keys

    async def _keys(self, document: dict[str, Any], row: store.Indexed | None, now: datetime) -> _Keys:
        issuer = domain.issuer_id(document)
        assert issuer is not None  # check_format saw to it
        methods = [_verification_method(proof) for proof in proofs_of(document)]
        by_issuer = [method is not None and method.partition("#")[0] == issuer for method in methods]
        found = _Keys(passed("issuer", ""), [""] * len(methods), by_issuer)
        if not any(by_issuer):
            detail = f"no proof names a key of the issuer, {_short(issuer)}: it was signed by somebody else"
            found.check = failed("issuer", "not_the_issuers_key", detail)
            found.keys = [_self_describing(method) for method in methods]  # nobody is asked in its name
            return found
        try:
            resolved = found.resolved = await self._issuers.resolve(
                issuer, [one for one, mine in zip(methods, by_issuer, strict=True) if mine and one is not None]
            )
        except Unresolvable as error:
            if error.unknown and row is None:
                found.check = failed("issuer", "unknown_issuer", error.detail)
            else:  # an issuer of ours whose own event is still on its way is not nobody
                found.check = not_checked("issuer", error.code, error.detail)
            return found
        problem: did.DidError | None = None
        for place, (method, mine) in enumerate(zip(methods, by_issuer, strict=True)):
            if mine and method is not None:
                try:
                    found.keys[place] = did.find_verification_method(resolved.document, method, now=now)
                except did.DidError as error:
                    problem = error
        if problem is not None:
            unsure = problem.code == "key_not_found" and _may_be_newer(resolved, row, methods)
            make = not_checked if unsure or problem.code in _KEY_UNREADABLE else failed
            found.check = make("issuer", problem.code, f"{problem.detail} (looked up in {resolved.source})")
            return found
        others = [(at, method) for at, method in enumerate(methods) if method is not None and not by_issuer[at]]
        await asyncio.gather(*(self._key_of_another(found, at, method, now) for at, method in others))
        name = f"{resolved.name} ({_short(issuer)})" if resolved.name else _short(issuer)
        detail = f"the key belongs to {name} and may sign credentials; looked up in {resolved.source}"
        found.check = passed("issuer", detail)
        return found

    async def _key_of_another(self, found: _Keys, place: int, method: str, now: datetime) -> None:
        """The key of one who signed beside the issuer, in a set or chain of proofs: it must be true as well."""
        try:
            resolved = await self._issuers.resolve(method.partition("#")[0], [method])
        except Unresolvable as error:
            found.problems[place] = not_checked("signature", "no_key", f"the key of {_short(method)}: {error.detail}")
            return
        try:
            found.keys[place] = did.find_verification_method(resolved.document, method, now=now)
        except did.DidError as error:
            unsure = error.code == "key_not_found" and resolved.stale
            make = not_checked if unsure or error.code in _KEY_UNREADABLE else failed
            found.problems[place] = make("signature", error.code, error.detail)

    async def _status(self, document: dict[str, Any], row: store.Indexed | None, genuine: bool, now: datetime) -> Check:
        if row is not None and genuine:
            return domain.indexed_status(row.status, row.status_changed_at, now)
        entries = domain.objects(document.get("credentialStatus"))
        if not entries:
            return not_applicable("status", "its issuer has not said where it would be revoked")
        if not genuine:
            # Its list is somebody's address: we ask nobody in the name of a document that nobody has signed.
            return not_checked("status", "not_reached", "not looked up, because the signature could not be confirmed")
        issuer = domain.issuer_id(document)
        assert issuer is not None
        if len(entries) > MOST_STATUS_ENTRIES:
            detail = f"it names {len(entries)} status entries; {MOST_STATUS_ENTRIES} are looked up"
            return not_checked("status", "too_many_entries", detail)
        asking = (self._lists.check(entry, issuer, now, self._genuine_list) for entry in entries)
        try:
            async with asyncio.timeout(STATUS_S):
                return domain.worst_status(await asyncio.gather(*asking))
        except TimeoutError:
            return not_checked("status", "timeout", f"its status lists did not answer within {STATUS_S:.0f} seconds")

    async def _genuine_list(self, document: dict[str, Any], now: datetime) -> str | None:
        """Why a status list credential cannot be relied on; None where it can."""
        raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        form = domain.check_format(document, len(raw))
        if form.outcome != "passed":
            return form.detail
        now = max(now, self._clock())  # a list may have been published while it was asked for
        checks, _ = await self._genuine(document, raw, form, self._foreign, now, None)
        checks.append(domain.check_dates(document, now))
        wrong = [one for one in checks if one.outcome in ("failed", "not_checked") and one.step != "schema"]
        return f"{wrong[0].step}: {wrong[0].detail}" if wrong else None

    def _conclude(
        self,
        checks: Sequence[Check],
        *,
        document: Any = None,
        row: store.Indexed | None = None,
        resolved: Resolved | None = None,
    ) -> Verification:
        verdict = domain.decide(checks)  # 8
        telemetry.count("laurel_verifications_total", verdict=verdict)
        found = document if isinstance(document, dict) else {}
        identifier = found.get("id")
        holder = next((one.outcome for one in checks if one.step == "recipient"), "")
        return Verification(
            verdict=verdict,
            recipient=Recipient({"passed": True, "failed": False}.get(holder)),
            issuer_known=resolved is not None and resolved.own,
            checks=domain.complete(checks),
            checked_at=timestamp(self._clock()),
            credential_id=row.credential_id if row is not None else None,
            id=identifier if isinstance(identifier, str) else None,
            issuer=domain.issuer_id(found),
            issuer_name=_issuer_name(found, resolved),
        )


def _issuer_name(document: dict[str, Any], resolved: Resolved | None) -> str | None:
    if resolved is not None and resolved.name:
        return resolved.name
    issuer = document.get("issuer")
    name = issuer.get("name") if isinstance(issuer, dict) else None
    return name if isinstance(name, str) else None


def _verification_method(proof: Any) -> str | None:
    method = proof.get("verificationMethod") if isinstance(proof, dict) else None
    return method if isinstance(method, str) and len(method) <= 2048 and is_absolute_identifier(method) else None


def _may_be_newer(resolved: Resolved, row: store.Indexed | None, methods: Sequence[str | None]) -> bool:
    """Whether the key may be missing only because `resolved` is older than it.

    Of our own: the very key that the indexed credential names, and the issuer's document in our register is not younger
    than the credential. A younger one would list the key, had it not been taken out since. (Issued-at tells seconds.)
    """
    if row is None or resolved.published_at is None:
        return resolved.stale
    if resolved.published_at.replace(microsecond=0) > row.issued_at:
        return False
    return methods == [_verification_method(proof) for proof in proofs_of(json.loads(row.document))]


def _self_describing(method: str | None) -> str:
    """The key of a did:key."""
    if method is None or not method.startswith("did:key:"):
        return ""
    try:
        return did.find_verification_method(did.resolve_did_key(method.partition("#")[0]), method)
    except did.DidError:
        return ""


def _context_check(document: dict[str, Any], findings: Findings) -> Check:
    if not findings.context_code:
        count = len(document["@context"])
        return passed("context", f"every word is defined by its {count} contexts, of which Laurel has pinned copies")
    if findings.context_code == "unknown_context":
        return not_checked("context", "unknown_context", findings.context_detail)
    return failed("context", findings.context_code, findings.context_detail)


def _schema_check(document: dict[str, Any], findings: Findings, wanted: bool) -> Check:
    if findings.schema:
        more = f" (and {len(findings.schema) - 1} more)" if len(findings.schema) > 1 else ""
        return failed("schema", "schema_violated", findings.schema[0] + more)
    if wanted:
        return passed("schema", "it follows the Open Badges 3.0 JSON schema of 1EdTech")
    named = [one.get("id") for one in domain.objects(document.get("credentialSchema"))]
    if not named:
        return not_applicable("schema", "it names no schema")
    return not_checked("schema", "unknown_schema", f"Laurel has no copy of the schema {_short(str(named[0]))}")


def _signature_check(document: dict[str, Any], findings: Findings, keys: _Keys) -> Check:
    """Every proof must be true (VC Data Integrity 1.0 §4.5): one that fails fails the document, however many pass."""
    attached = proofs_of(document)
    each = [_proof_check(findings, keys, place, len(attached)) for place in range(len(attached))]
    worst = next((one for one in each if one is not None and one.outcome == "failed"), None)
    worst = worst or next((one for one in each if one is not None), None)
    if worst is not None:
        return worst
    shown = ", ".join(dict.fromkeys(str(proof.get("cryptosuite", proof["type"])) for proof in attached))
    first = attached[keys.by_issuer.index(True) if any(keys.by_issuer) else 0]
    created = f" at {first['created']}" if "created" in first else ""
    count = f" by {len(attached)} proofs, all of them true" if len(attached) > 1 else ""
    whose = "" if any(keys.by_issuer) else ", but the key is not the issuer's"
    return passed("signature", f"signed with {shown}{created}{count}; not a character was changed since{whose}")


def _proof_check(findings: Findings, keys: _Keys, place: int, count: int) -> Check | None:
    """What is wrong with one proof; None when it is true."""
    found = findings.proofs[place]
    if found.ok:
        return None
    which = f"proof {place + 1} of {count}: " if count > 1 else ""
    if found.reason == "no_key" and place in keys.problems:
        return msgspec.structs.replace(keys.problems[place], detail=which + keys.problems[place].detail)
    make = not_checked if found.reason in NOT_CHECKED else failed
    return make("signature", found.reason, which + found.detail)


def _unreached() -> Check:
    return not_checked("signature", "not_reached", "not reached: the document could not be examined")


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:160] + "…" + text[-30:]
