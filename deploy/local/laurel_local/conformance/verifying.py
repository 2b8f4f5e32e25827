"""Verifies other people's credentials and presentations: the data model, then what the verifier does.

1. Does the document conform to the data model? (`vcdm`, in the sandbox)
2. Credentials: `laurel_verifier.verification`, whose steps the caller may choose (`checks`).
3. Presentations: the proofs of its holder, for this challenge and domain; then each of its credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from laurel.credential import did, jose, jose_keys, vcdm
from laurel.credential.lint_rules import Finding
from laurel.credential.proofs import proofs_of
from laurel_local.conformance.worker import Sandbox
from laurel_verifier import tokens
from laurel_verifier.checks import Check, Step
from laurel_verifier.domain import MAX_PROOFS, issuer_id, named_schemas
from laurel_verifier.issuer_keys import KEYS_S
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
# Where a step's failure is at home among the published problem types.
_VCDM = "https://www.w3.org/TR/vc-data-model#"  # VC Data Model 2.0 §7.1
_SECURITY = "https://w3id.org/security#"  # VC Data Integrity 1.0 §4.7
_STATUS = "https://www.w3.org/ns/credentials/status-list#"  # Bitstring Status List 1.0 §3.5
_TYPES: dict[str, str] = {
    "format": _VCDM + "MALFORMED_VALUE_ERROR",
    "context": _SECURITY + "DATA_LOSS_DETECTION_ERROR",
    "schema": _VCDM + "MALFORMED_VALUE_ERROR",
    "issuer": _SECURITY + "PROOF_VERIFICATION_ERROR",
    "signature": _SECURITY + "PROOF_VERIFICATION_ERROR",
    "dates": _VCDM + "RANGE_ERROR",
    "status": _STATUS + "STATUS_VERIFICATION_ERROR",
    "challenge": _SECURITY + "INVALID_CHALLENGE_ERROR",
    "domain": _SECURITY + "INVALID_DOMAIN_ERROR",
    "limit": _VCDM + "PARSING_ERROR",
    "enveloped": _VCDM + "PARSING_ERROR",
}


@dataclass
class Outcome:
    """What came of a verification. problems: problem details (RFC 9457); none when it is verified."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        return not self.problems

    def add(self, step: str, code: str, detail: str, pointer: str = "", clause: str | None = None) -> None:
        """Say what is wrong: at which step, where, and by which clause."""
        problem = {"type": _TYPES[step], "title": code, "detail": detail, "step": step, "pointer": pointer}
        self.problems.append(problem | ({"clause": clause} if clause else {}))

    def add_check(self, check: Check) -> None:
        """What a step of the verifier's has against it. A schema that nobody has a copy of takes nothing from it."""
        if check.outcome == "failed" or (check.outcome == "not_checked" and check.step != "schema"):
            self.add(check.step, check.code or check.outcome, check.detail, clause=check.clause)

    def add_findings(self, findings: Collection[Finding]) -> None:
        """What the data model has against it."""
        for one in findings:
            step = "context" if one.rule == "processable" else "format"
            self.add(step, one.rule, f"{one.pointer or '/'}: {one.message}", one.pointer, one.clause)


class Conformance:
    """`credential` and `presentation`. issuers: finds the keys of anybody."""

    def __init__(self, verifier: Verifier, issuers: Issuers, sandbox: Sandbox, clock: Callable[[], datetime]) -> None:
        self._verifier = verifier
        self._issuers = issuers
        self._sandbox = sandbox
        self._clock = clock

    async def credential(self, document: dict[str, Any] | str, checks: Collection[str] | None) -> Outcome:
        """document: JSON, an enveloped credential, or a compact JWS. checks: keys of CHECKS; None: all that apply."""
        outcome = Outcome()
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
        Data Model 2.0 appendix A.2). Else it is refused where the issuer says which keys are its own: a DID does, and
        so does a URL that answers with a document of keys. The W3C's test vectors name an issuer https://vc.example/…
        that nobody can ask, and are signed with a did:key.
        """
        if checks is not None:
            return "issuer" in checks
        issuer = issuer_id(document) or "did:"
        if issuer.startswith("did:"):
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
        for credential in vcdm.one_or_more(document.get("verifiableCredential")):
            if "proof" in document and vcdm.is_self_asserted(credential, document):
                presented.append(await self._self_asserted(credential, document, checks))
            else:
                presented.append(await self.credential(credential, checks))
        return outcome, presented

    async def _self_asserted(
        self, credential: dict[str, Any], presentation: dict[str, Any], checks: Collection[str] | None
    ) -> Outcome:
        """A credential of the holder's without a proof: all that is checked but who signed it (§6.2)."""
        outcome = Outcome(warnings=["self-asserted: its issuer is the holder, whose proof covers it"])
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
                outcome.add("limit", "limit_exceeded", str(error))
            else:
                for line in found.schema[:50]:
                    outcome.add("schema", "schema_violated", line, line.partition(": ")[0])
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
            outcome.add("format", "bad_proof", f"between 1 and {MAX_PROOFS} proofs are checked", "/proof")
            return
        holder = vcdm.holder_id(document)
        multikeys = [await self._key(proof, holder, outcome) for proof in proofs]
        if not outcome.verified:
            return
        # Without a challenge a holder may also just assert (VC Data Integrity 1.0 §2.3).
        purposes = {proof.get("proofPurpose") for proof in proofs if isinstance(proof, dict)}
        purpose = "assertionMethod" if challenge is None and purposes == {"assertionMethod"} else "authentication"
        raw = json.dumps(document, ensure_ascii=False).encode()
        job = Job(raw, tuple(multikeys), False, self._clock(), purpose, challenge, domain)
        for finding in (await self._sandbox.examine(job)).proofs:
            if not finding.ok:
                step = {"wrong_challenge": "challenge", "wrong_domain": "domain"}.get(finding.reason, "signature")
                outcome.add(step, finding.reason, finding.detail, "/proof")

    async def _token_of_holder(
        self, envelope: jose.Envelope, challenge: str | None, domain: tuple[str, ...] | None, outcome: Outcome
    ) -> None:
        """nonce and aud are to a token what challenge and domain are to a proof."""
        named = (envelope.kid or "").partition("#")[0]
        holder = vcdm.holder_id(envelope.document) or envelope.claims.issuer or named
        if ":" in named and named != holder:
            outcome.add("issuer", "not_the_holders_key", f"{named[:200]} is not the holder", "/holder")
            return
        # Without a challenge a holder may also just assert, as with a proof.
        purposes = ("authentication",) if challenge is not None else ("authentication", "assertionMethod")
        try:
            resolved = await self._issuers.resolve(str(holder))
            key = _first_key(envelope, resolved.document, purposes, self._clock())
        except (Unresolvable, did.DidError) as error:
            outcome.add("issuer", error.code, error.detail, "/holder")
            return
        result = jose.verify(envelope, key, now=self._clock())
        if not result.ok:
            outcome.add("signature", result.reason or "bad_signature", result.detail)
        if challenge is not None and envelope.claims.nonce != challenge:
            outcome.add(
                "challenge", "wrong_challenge", "the token's nonce does not answer the challenge that was given"
            )
        if domain is not None and not envelope.claims.audience & set(domain):  # RFC 7519 §4.1.3
            outcome.add("domain", "wrong_domain", f"the token was made for {sorted(envelope.claims.audience)}")

    async def _key(self, proof: Any, holder: Any, outcome: Outcome) -> str:
        method = proof.get("verificationMethod") if isinstance(proof, dict) else None
        if not isinstance(method, str):
            outcome.add("signature", "missing_verification_method", "the proof names no key", "/proof")
            return ""
        controller = method.partition("#")[0]
        if holder is not None and holder != controller:
            outcome.add("issuer", "not_the_holders_key", f"{method[:200]} is not a key of the holder", "/holder")
            return ""
        try:
            resolved = await self._issuers.resolve(controller)
            return did.find_verification_method(resolved.document, method, "authentication")
        except (Unresolvable, did.DidError) as error:
            outcome.add("issuer", error.code, error.detail, "/proof/verificationMethod")
            return ""


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
        step = "enveloped" if error.code == "unknown_envelope" else tokens.unread(error).step
        outcome.add(step, error.code, error.detail)
        return None
    if envelope.format not in formats:
        outcome.add("format", "wrong_typ", f"a token of the type {envelope.format} was not asked for")
        return None
    return envelope
