"""Verifies other people's credentials and presentations: the data model, then what the verifier does.

1. Does the document conform to the data model? (`vcdm`, in the sandbox)
2. Credentials: `laurel_verifier.verification`, whose steps the caller may choose (`checks`).
3. Presentations: the proofs of its holder, for this challenge and domain; then each of its credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from laurel.credential import did, jose, jose_keys, vcdm
from laurel.credential.proofs import proofs_of
from laurel.credential.text import is_web_url
from laurel_local.conformance.outcomes import Outcome
from laurel_local.conformance.worker import Sandbox
from laurel_verifier import tokens
from laurel_verifier.checks import Step
from laurel_verifier.domain import MAX_PROOFS, issuer_id, named_schemas
from laurel_verifier.genuine import MEMBERS
from laurel_verifier.issuer_keys import KEYS_S, proof_pointer
from laurel_verifier.resolution import Issuers, Unresolvable
from laurel_verifier.sandbox import Job, NotExamined
from laurel_verifier.verification import Verifier

# VC-API `checks` → the verifier's steps. A document is always read whole: its form and its words come before all.
_ALWAYS: tuple[Step, ...] = ("format", "context")
CHECKS: dict[str, tuple[Step, ...]] = {
    "proof": ("issuer", "signature"),
    "issuer": ("issuer", "signature"),
    "credentialStatus": ("status",),
    "status": ("status",),
    "validity": ("dates",),
    "credentialSchema": ("schema",),
}
# RFC 2606 §2, §3; RFC 6761 §6.2 to §6.5.
_RESERVED = re.compile(r".+\.(?:test|example|invalid|localhost)|(?:.+\.)?example\.(?:com|net|org)").fullmatch
_HOLDERS = "VC Data Model 2.0 §4.13; Controlled Identifiers 1.0 §3.3"
_OF_PROOFS = "VC Data Integrity 1.0 §4.4, §4.5"
_OF_TOKENS = "VC-JOSE-COSE 1.0 §4.1"
_STEP_OF: dict[str, Literal["challenge", "domain"]] = {"wrong_challenge": "challenge", "wrong_domain": "domain"}
# The member of a token that a code speaks of, as `laurel_verifier.tokens` has it.
_MEMBERS_OF_TOKENS = {"wrong_key": "/jwk", "wrong_key_type": "/alg", "proof_expired": "/exp", "not_yet_valid": "/nbf"}


class Conformance:
    """`credential` and `presentation`. issuers: finds the keys of anybody."""

    def __init__(self, verifier: Verifier, issuers: Issuers, sandbox: Sandbox, clock: Callable[[], datetime]) -> None:
        self._verifier = verifier
        self._issuers = issuers
        self._sandbox = sandbox
        self._clock = clock

    async def credential(
        self, document: dict[str, Any] | str, checks: Collection[str] | None, *, at: str = ""
    ) -> Outcome:
        """document: JSON, an enveloped credential, or a compact JWS. checks: keys of CHECKS; None: all that apply.

        at: JSON Pointer to it, where it is a part of something.
        """
        outcome = Outcome(at=at)
        envelope: jose.Envelope | None = None
        if isinstance(document, str) or vcdm.ENVELOPED_CREDENTIAL in vcdm.one_or_more(document.get("type")):
            envelope = await _opened(outcome, document, vcdm.ENVELOPED_CREDENTIAL, ("vc-jwt", "vc+jwt"))
            if envelope is None:
                return outcome
        inside: Any = document if envelope is None else envelope.document
        try:
            outcome.add_findings(await self._sandbox.credential_findings(inside))  # 1
        except NotExamined as error:
            outcome.add("limit", error.code, str(error))
        if outcome.verified:
            await self._checked(inside, checks, outcome, envelope)  # 2
        return outcome

    async def _checked(
        self,
        document: dict[str, Any],
        checks: Collection[str] | None,
        outcome: Outcome,
        envelope: jose.Envelope | None,
    ) -> None:
        wanted = _steps(checks)
        found = await self._verifier.verify(document, envelope=envelope, status="status" in wanted, endorsed=False)
        for check in found.checks:
            if check.step not in wanted and check.step not in _ALWAYS:
                continue
            if check.code == "not_the_issuers_key" and not await self._must_be_issuers(document, checks):
                outcome.warnings.append(f"{check.code}: {check.detail}")
                continue
            outcome.add_check(check)

    async def _must_be_issuers(self, document: dict[str, Any], checks: Collection[str] | None) -> bool:
        """Whether a proof that is true, but by a key that is not the issuer's, is refused: elsewhere it always is.

        Whoever asks for `checks` without "issuer" asks for the proof (VC Data Integrity 1.0 §4.4), not whose it is (VC
        Data Model 2.0 appendix A.2). Else it is refused, but for one kind of issuer: the W3C's test vectors name one at
        https://vc.example/… that nobody can ask, and are signed with a did:key. Should such a URL answer with a
        document of keys, then it is held to that.
        """
        if checks is not None:
            return "issuer" in checks
        issuer = issuer_id(document) or ""
        if not _is_nobodys(issuer):
            return True
        try:
            async with asyncio.timeout(KEYS_S):
                await self._issuers.resolve(issuer)
        except (Unresolvable, TimeoutError):
            return False
        return True

    async def presentation(
        self,
        document: dict[str, Any] | str,
        *,
        challenge: str | None,
        domain: tuple[str, ...] | None,
        checks: Collection[str] | None,
    ) -> tuple[Outcome, list[Outcome]]:
        """The presentation's own outcome, and that of each of its credentials."""
        outcome = Outcome()
        envelope: jose.Envelope | None = None
        if isinstance(document, str) or vcdm.ENVELOPED_PRESENTATION in vcdm.one_or_more(document.get("type")):
            envelope = await _opened(outcome, document, vcdm.ENVELOPED_PRESENTATION, ("vp+jwt",))
            if envelope is None:
                return outcome, []
            document = envelope.document
        assert isinstance(document, dict)
        try:
            outcome.add_findings(await self._sandbox.presentation_findings(document))  # 1
            if outcome.verified and envelope is not None:
                await self._token_of_holder(envelope, challenge, domain, outcome)  # 3
            if outcome.verified and (envelope is None or "proof" in document):
                await self._holder(document, challenge, domain, outcome)  # 3
        except NotExamined as error:
            outcome.add("limit", error.code, str(error))
        if not outcome.verified:
            return outcome, []
        presented = []
        held = document.get("verifiableCredential")
        for place, credential in enumerate(vcdm.one_or_more(held)):
            at = f"/verifiableCredential/{place}" if isinstance(held, list) else "/verifiableCredential"
            if "proof" in document and vcdm.is_self_asserted(credential, document):
                presented.append(await self._self_asserted(credential, document, checks, at))
            else:
                presented.append(await self.credential(credential, checks, at=at))
        return outcome, presented

    async def _self_asserted(
        self, credential: dict[str, Any], presentation: dict[str, Any], checks: Collection[str] | None, at: str
    ) -> Outcome:
        """A credential of the holder's without a proof: all that is checked but who signed it (§6.2)."""
        outcome = Outcome(warnings=["self-asserted: its issuer is the holder, whose proof covers it"], at=at)
        wanted = _steps(checks)
        for check in await self._verifier.unsigned(credential, status="status" in wanted):
            if check.step in wanted:
                outcome.add_check(check)
        if "schema" in wanted and named_schemas(credential)[0]:
            inherited = {"@context": presentation["@context"], **credential}
            raw = json.dumps(inherited, ensure_ascii=False).encode()
            try:
                found = await self._sandbox.examine(Job(raw, (), True, self._clock()))
            except NotExamined as error:
                outcome.add("limit", error.code, str(error))
            else:
                for line in found.schema[:50]:
                    outcome.add("schema", "schema_violated", line, line.partition(": ")[0].removesuffix("/"))
        return outcome

    async def _holder(
        self, document: dict[str, Any], challenge: str | None, domain: tuple[str, ...] | None, outcome: Outcome
    ) -> None:
        if "proof" not in document:
            why = "the presentation is not signed"
            if challenge is not None:
                outcome.add("challenge", "wrong_challenge", f"{why}: nobody has answered the challenge", "/proof")
            if domain is not None:
                outcome.add("domain", "wrong_domain", f"{why}: nobody has named the domain", "/proof")
            if outcome.verified:
                outcome.warnings.append(f"{why}: who presents it, and for which challenge, is open")
            return
        proofs = proofs_of(document)
        if not 0 < len(proofs) <= MAX_PROOFS:
            detail = f"between 1 and {MAX_PROOFS} proofs are checked"
            outcome.add("format", "bad_proof", detail, "/proof", "VC Data Integrity 1.0 §2.1; Laurel")
            return
        holder = vcdm.holder_id(document)
        # Without a challenge a holder may also just assert (VC Data Integrity 1.0 §2.3).
        asserts = all(isinstance(proof, dict) and proof.get("proofPurpose") == "assertionMethod" for proof in proofs)
        purpose = "assertionMethod" if challenge is None and asserts else "authentication"
        now = self._clock()
        places = [proof_pointer(document, place) for place in range(len(proofs))]
        multikeys = [
            await self._key(proof, at, holder, purpose, now, outcome) for proof, at in zip(proofs, places, strict=True)
        ]
        if not outcome.verified:
            return
        raw = json.dumps(document, ensure_ascii=False).encode()
        job = Job(raw, tuple(multikeys), False, now, purpose, challenge, domain)
        for finding, at in zip((await self._sandbox.examine(job)).proofs, places, strict=True):
            if not finding.ok:
                at += MEMBERS.get(finding.reason, "")
                outcome.add(_STEP_OF.get(finding.reason, "signature"), finding.reason, finding.detail, at, _OF_PROOFS)

    async def _token_of_holder(
        self, envelope: jose.Envelope, challenge: str | None, domain: tuple[str, ...] | None, outcome: Outcome
    ) -> None:
        """nonce and aud are to a token what challenge and domain are to a proof."""
        named = (envelope.kid or "").partition("#")[0]
        holder = vcdm.holder_id(envelope.document) or envelope.claims.issuer or named
        if ":" in named and named != holder:
            outcome.add("issuer", "not_the_holders_key", f"{named[:200]} is not the holder", "/holder", _HOLDERS)
            return
        # Without a challenge a holder may also just assert, as with a proof.
        purposes = ("authentication",) if challenge is not None else ("authentication", "assertionMethod")
        try:
            resolved = await self._issuers.resolve(str(holder))
            key = _first_key(envelope, resolved.document, purposes, self._clock())
        except (Unresolvable, did.DidError) as error:
            at = "/holder" if envelope.kid is None else "/kid"
            outcome.add("issuer", error.code, error.detail, at, _HOLDERS)
            return
        result = jose.verify(envelope, key, now=self._clock())
        if not result.ok:
            reason = result.reason or "bad_signature"
            outcome.add("signature", reason, result.detail, _MEMBERS_OF_TOKENS.get(reason, ""), _OF_TOKENS)
        if challenge is not None and envelope.claims.nonce != challenge:
            detail = "the token's nonce does not answer the challenge that was given"
            outcome.add("challenge", "wrong_challenge", detail, "/nonce", "OpenID Connect Core 1.0 §2 (nonce)")
        if domain is not None and not envelope.claims.audience & set(domain):
            detail = f"the token was made for {sorted(envelope.claims.audience)}"
            outcome.add("domain", "wrong_domain", detail, "/aud", "RFC 7519 §4.1.3")

    async def _key(self, proof: Any, at: str, holder: Any, purpose: str, now: datetime, outcome: Outcome) -> str:
        """The holder's key of a proof, which must be made, and the key listed, for `purpose` (VC Data Integrity 1.0
        §4.4; Controlled Identifiers 1.0 §3.3). "": there is none, and the outcome says why. at: where the proof is."""
        said = proof.get("proofPurpose") if isinstance(proof, dict) else None
        if said != purpose:
            detail = f"proofPurpose is {str(said)[:60]!r}, not {purpose!r}"
            outcome.add("signature", "wrong_purpose", detail, at + "/proofPurpose", _OF_PROOFS)
            return ""
        method, at = proof.get("verificationMethod"), at + "/verificationMethod"
        if not isinstance(method, str):
            outcome.add("signature", "missing_verification_method", "the proof names no key", at, _OF_PROOFS)
            return ""
        controller = method.partition("#")[0]
        if holder is not None and holder != controller:
            outcome.add("issuer", "not_the_holders_key", f"{method[:200]} is not a key of the holder", at, _HOLDERS)
            return ""
        try:
            resolved = await self._issuers.resolve(controller)
            return did.find_verification_method(resolved.document, method, purpose, now=now)
        except (Unresolvable, did.DidError) as error:
            outcome.add("issuer", error.code, error.detail, at, _HOLDERS)
            return ""


def _is_nobodys(issuer: str) -> bool:
    """Whether it is an https URL whose host stands in examples and tests, and can never be registered."""
    if not is_web_url(issuer) or not issuer.lower().startswith("https:"):
        return False
    return _RESERVED((urlsplit(issuer).hostname or "").removesuffix(".")) is not None


def _steps(checks: Collection[str] | None) -> set[Step]:
    return {step for name in (CHECKS if checks is None else checks) for step in CHECKS[name]}


def _first_key(envelope: jose.Envelope, document: Any, purposes: tuple[str, ...], now: datetime) -> str:
    """The key of the first purpose for which the document has it. Raises DidError."""
    for purpose in purposes[:-1]:
        with contextlib.suppress(did.DidError):
            return jose_keys.find_key(envelope, document, relationship=purpose, now=now)
    return jose_keys.find_key(envelope, document, relationship=purposes[-1], now=now)


async def _opened(
    outcome: Outcome, document: dict[str, Any] | str, wanted: str, formats: tuple[str, ...]
) -> jose.Envelope | None:
    """The token, or None: then the outcome says what is wrong with it."""
    if isinstance(document, dict):
        outcome.add_findings(vcdm.envelope_findings(document, wanted))
        if not outcome.verified:
            return None
    try:
        if isinstance(document, str):
            envelope = await asyncio.to_thread(jose.parse, document)
        else:
            envelope = await asyncio.to_thread(jose.unwrap, document)
    except jose.JoseError as error:
        if error.code == "unknown_envelope":
            outcome.add("enveloped", error.code, error.detail, error.pointer or "")
        else:
            outcome.add_check(tokens.unread(error))
        return None
    if envelope.format not in formats:
        detail = f"a token of the type {envelope.format} was not asked for"
        outcome.add("format", "wrong_typ", detail, "/typ", "VC-JOSE-COSE 1.0 §3.1; RFC 8725 §3.11")
        return None
    return envelope
