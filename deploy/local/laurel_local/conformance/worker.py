"""The process that reads suites' documents: the verifier's sandbox, which here also judges and signs.

Only here are the contexts of the suites known (`contexts.unsafe_extra`); the process that serves people never loads
them. A frame is a `Job` of the verifier's sandbox, or one of the letters below and a msgpack value:
 C, P  a credential's or a presentation's JSON → the findings of the data model;
 S     a `Signing` → `Signed`.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import msgspec

from laurel.credential import contexts, did, jcs, jose, jsonld, lint, proof_sets, proofs, vcdm
from laurel.credential.lint_rules import Finding
from laurel.credential.multikey import KeyType
from laurel_local.conformance.ring import RunKey
from laurel_verifier import sandbox
from laurel_verifier.checks import Step

# Published by W3C for examples and tests: every word that is not defined elsewhere becomes one of these.
EXTRA_CONTEXTS: dict[str, dict[str, Any]] = {
    "https://www.w3.org/ns/credentials/examples/v2": {
        "@context": {"@vocab": "https://www.w3.org/ns/credentials/examples#"}
    },
}
# The base context of the Candidate Recommendation of VC Data Model 2.0: the suite of 2025 still has its digests.
EARLIER_DIGESTS = {
    contexts.CREDENTIALS_V2: (
        bytes.fromhex("24a18c90e9856d526111f29376e302d970b2bd10182e33959995b0207d7043b9"),  # its appendix B.1
        base64.b64decode("NSOcNpmdIVUxIJGvGUoe22FjTWrXiaXlsZ8q6912LdnR3KraQO2n75Ica4wK4Qeg"),
    )
}


class Signing(msgspec.Struct, frozen=True):
    """A document to lint by `profile` and sign. kind, secret: of a `RunKey`. previous: ids of proofs to build on.

    attached: the proofs that the document has already, as a JSON list. form: of `options.FORMATS`. now: when attached
    proofs are judged. proof_id, created, expires: of the new proof.
    """

    document: bytes
    profile: lint.Profile
    kind: KeyType
    secret: bytes
    verification_method: str
    cryptosuite: str
    now: datetime
    created: datetime
    expires: datetime | None = None
    previous: tuple[str, ...] = ()
    proof_id: str | None = None
    attached: bytes = b"[]"
    form: str = "ldp_vc"


class Signed(msgspec.Struct, frozen=True):
    """The secured document as JSON, or why it was not signed. step: at which that was found."""

    document: bytes = b""
    findings: tuple[Finding, ...] = ()
    step: Step = "format"


class Sandbox(sandbox.Sandbox):
    """The verifier's sandbox with this module's workers."""

    def __init__(self, *, processes: int, seconds: float, memory: int) -> None:
        super().__init__(processes=processes, seconds=seconds, memory=memory, module=__name__)

    async def credential_findings(self, document: Any) -> tuple[Finding, ...]:
        """`vcdm.credential_findings`. Raises NotExamined, as the other two do."""
        return await self._findings(b"C", document)

    async def presentation_findings(self, document: Any) -> tuple[Finding, ...]:
        """`vcdm.presentation_findings`."""
        return await self._findings(b"P", document)

    async def sign(self, signing: Signing) -> Signed:
        """Lint and sign."""
        answer = await self.exchange(b"S" + msgspec.msgpack.encode(signing))
        return msgspec.msgpack.decode(answer, type=Signed)

    async def _findings(self, letter: bytes, document: Any) -> tuple[Finding, ...]:
        answer = await self.exchange(letter + json.dumps(document, ensure_ascii=False).encode())
        return msgspec.msgpack.decode(answer, type=tuple[Finding, ...])


def answer(frame: bytes) -> bytes:
    """One frame, answered."""
    letter, rest = frame[:1], frame[1:]
    with contexts.unsafe_extra(EXTRA_CONTEXTS, digests=EARLIER_DIGESTS):
        if letter == b"C":
            return msgspec.msgpack.encode(_short(vcdm.credential_findings(json.loads(rest))))
        if letter == b"P":
            return msgspec.msgpack.encode(_short(vcdm.presentation_findings(json.loads(rest))))
        if letter == b"S":
            return msgspec.msgpack.encode(_sign(msgspec.msgpack.decode(rest, type=Signing)))
        return sandbox.examined(frame)


def _sign(signing: Signing) -> Signed:
    signer = RunKey(signing.kind, signing.secret).signer(signing.verification_method)
    bare, attached = json.loads(signing.document), json.loads(signing.attached)
    try:
        issuer = signing.verification_method.partition("#")[0]
        linted = lint.lint(bare, profile=signing.profile, issuer=issuer)
    except lint.LintError as error:
        return Signed(findings=_short(tuple(one for one in error.findings if one.level == "error")))
    if signing.form == "vc+jwt":
        return Signed(document=json.dumps(jose.enveloped(jose.sign_vc_jose(linted, signer))).encode())
    if signing.form == "vc-jwt":
        return Signed(document=json.dumps(jose.sign_vc_jwt(linted, signer).decode("ascii")).encode())
    if attached:
        document = {**bare, "proof": attached}
        if findings := vcdm.credential_findings(document):
            return Signed(findings=_short(findings))
        if findings := _untrue(document, signing):
            return Signed(findings=_short(findings), step="signature")
    order = proofs.Order(
        signer, signing.cryptosuite, signing.created,
        expires=signing.expires, id=signing.proof_id, previous=signing.previous,
    )  # fmt: skip
    try:
        document = proofs.sign_all(linted, [order], attached)
    except (proofs.ProofError, jsonld.UnsafeDocument, jcs.NotCanonicalizable, contexts.UnknownContext) as refused:
        rule = refused.code if isinstance(refused, proofs.ProofError) else "processable"
        finding = Finding(rule, "error", "/proof", str(refused), "VC Data Integrity 1.0 §4.3 (Add Proof Chain)")
        return Signed(findings=_short((finding,)), step="signature")
    return Signed(document=json.dumps(document, ensure_ascii=False).encode())


def _untrue(document: dict[str, Any], signing: Signing) -> tuple[Finding, ...]:
    """Why no proof is added to those that the document has: the ones that are not true.

    Nobody is asked for keys: one that is no did:key may stand beside the new proof, which cannot build on it.
    """
    findings = []
    for place, result in enumerate(proof_sets.verify_proofs(document, _key_in_the_method, now=signing.now)):
        attached = document["proof"][place]
        built_on = attached.get("id") in signing.previous
        if result.outcome == "failed" or (built_on and not result.ok):
            clause = "VC Data Integrity 1.0 §4.3 (Add Proof Set/Chain)" if built_on else "VC Data Integrity 1.0 §4.5"
            message = f"this proof is not true, so none is added to it: {result.detail}"
            findings.append(Finding(str(result.reason), "error", f"/proof/{place}", message, clause))
    return tuple(findings)


def _key_in_the_method(method: str) -> str:
    """A `proof_sets.ResolveKey` for did:key alone."""
    controller = method.partition("#")[0]
    if not controller.startswith("did:key:"):
        raise proofs.ProofError("no_key", f"{method[:200]} would have to be looked up")
    return did.find_verification_method(did.resolve_did_key(controller), method)


def _short(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(one._replace(message=one.message[:600], pointer=one.pointer[:600]) for one in findings[:50])


if __name__ == "__main__":
    sandbox.main(answer)
