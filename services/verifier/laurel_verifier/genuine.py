"""Is it genuine? Steps 3 and 4 of a verification: the issuer's keys, and what the sandbox finds.

 3. Which keys do the signatures name, and are they the issuer's, for this purpose, now? (`_keys`)
 4. In the sandbox: the meaning of every word, the schema, the signature of every proof. (`examine`)

Of what else signs a credential (an enveloping JWT) the same is asked: its key goes through `Issuers` like any other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from laurel.credential import did
from laurel.credential.proofs import NOT_CHECKED, proofs_of
from laurel.credential.text import is_absolute_identifier
from laurel_verifier import domain, store
from laurel_verifier.checks import Check, failed, not_applicable, not_checked, passed
from laurel_verifier.resolution import Issuers, Resolved, Unresolvable
from laurel_verifier.sandbox import Findings, Job, Sandbox, SandboxBusy, SandboxLimit

# What a document of keys may be without being wrong: we cannot read it, which is another thing.
_KEY_UNREADABLE = {"unsupported_key", "malformed_document", "wrong_document"}
_NEEDED = ("format", "context", "issuer", "signature")


@dataclass(frozen=True)
class Presented:
    """What was handed in, and has the form of a credential. raw: the document as UTF-8 JSON; form: that step's check.

    sandbox: where it is examined. row: that of our index, where exactly this document is indexed.
    """

    document: dict[str, Any]
    raw: bytes
    form: Check
    sandbox: Sandbox
    row: store.Indexed | None = None


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


@dataclass(frozen=True)
class Genuine:
    """What steps 3 and 4 found. checks: format, context, schema, issuer, signature. resolved: the issuer's document."""

    checks: tuple[Check, ...]
    resolved: Resolved | None

    @property
    def confirmed(self) -> bool:
        """Whether the issuer has signed this very document. (A schema takes nothing from a signature.)"""
        return all(one.outcome == "passed" for one in self.checks if one.step in _NEEDED)


class Examiner:
    """Finds out whether credentials are genuine."""

    def __init__(self, issuers: Issuers) -> None:
        self._issuers = issuers

    async def examine(self, presented: Presented, now: datetime) -> Genuine:
        """Steps 3 and 4 for a document that has passed the step "format"."""
        document, form = presented.document, presented.form
        keys = await self._keys(presented, now)  # 3
        schema = domain.wants_open_badge_schema(document)
        try:
            findings = await presented.sandbox.examine(Job(presented.raw, tuple(keys.keys), schema, now))  # 4
        except SandboxLimit as error:
            context = failed("context", "limit_exceeded", str(error))
            return Genuine((form, context, keys.check, _unreached()), keys.resolved)
        except SandboxBusy as error:
            context = not_checked("context", "busy", str(error))
            return Genuine((form, context, keys.check, _unreached()), keys.resolved)
        checks = (
            form,
            _context_check(document, findings),
            _schema_check(document, findings, schema),
            keys.check,
            _signature_check(document, findings, keys),
        )
        return Genuine(checks, keys.resolved)

    async def _keys(self, presented: Presented, now: datetime) -> _Keys:
        document, row = presented.document, presented.row
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
