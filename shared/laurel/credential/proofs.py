"""Data Integrity proofs with the cryptosuites eddsa-rdfc-2022 and eddsa-jcs-2022 (W3C VC DI EdDSA 1.0).

1. Transform: the document without its proof, and the proof without its value (the "proof configuration", which takes
   the document's @context), become canonical bytes: RDFC-1.0 N-Quads (§3.2.3, §3.2.5) or JCS (§3.3.3, §3.3.5).
2. Hash: SHA-256 of the configuration, then SHA-256 of the document: 64 bytes (§3.2.4).
3. Sign these 64 bytes with Ed25519; the proofValue is base58btc multibase (§3.2.6).

Signing takes a `Linted` token and nothing else. Verifying takes anything and answers with a `ProofResult`.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from laurel.credential import contexts, jcs, jsonld, keys, multibase
from laurel.credential.lint import Linted
from laurel.credential.slots import is_utc_second
from laurel.credential.template import CanonicalTemplate, NotCompilable, Slot
from laurel.credential.text import is_absolute_identifier, parse_timestamp, timestamp
from laurel.errors import LaurelError

RDFC = "eddsa-rdfc-2022"
JCS = "eddsa-jcs-2022"
CRYPTOSUITES = (RDFC, JCS)


class ProofError(LaurelError):
    """A proof can not be made or read. `code` is one of:

    no_proof, malformed_proof, unknown_proof_type, unknown_cryptosuite, wrong_purpose, missing_verification_method,
    malformed_created, malformed_expires, malformed_proof_value, missing_previous_proof, context_mismatch,
    unknown_context, unsafe_document, unsupported_key, wrong_controller, bad_signature, proof_expired.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[ProofError], tuple[str, str]]:
        return type(self), (self.code, self.detail)


@dataclass(frozen=True)
class Proof:
    """A proof that is well formed. Whether it is true is `verify_proof`'s to say."""

    cryptosuite: str
    verification_method: str
    signature: bytes
    created: datetime | None
    expires: datetime | None
    previous: tuple[str, ...]

    @property
    def controller(self) -> str:
        """The DID (or URL) part of the verification method."""
        return self.verification_method.partition("#")[0]


@dataclass(frozen=True)
class ProofResult:
    """The verdict on one proof. `reason` is None when `ok`, else a ProofError code; `detail` is a sentence."""

    ok: bool
    reason: str | None = None
    detail: str = ""
    proof: Proof | None = None


def parse_proof(proof: object, *, purpose: str = "assertionMethod") -> Proof:
    """Check the form of a proof (Data Integrity 1.0 §2.1, §4.4; VC DI EdDSA §2.2.1). Raises ProofError."""
    if not isinstance(proof, dict):
        raise ProofError("malformed_proof", "the proof is not a JSON object")
    if proof.get("type") != "DataIntegrityProof":
        raise ProofError("unknown_proof_type", f"proof type {proof.get('type')!r}; Laurel reads DataIntegrityProof")
    suite = proof.get("cryptosuite")
    if suite not in CRYPTOSUITES:
        raise ProofError("unknown_cryptosuite", f"cryptosuite {suite!r}; Laurel reads {', '.join(CRYPTOSUITES)}")
    if proof.get("proofPurpose") != purpose:
        raise ProofError("wrong_purpose", f"proofPurpose is {proof.get('proofPurpose')!r}, not {purpose!r}")
    method = proof.get("verificationMethod")
    if not isinstance(method, str) or not is_absolute_identifier(method):
        raise ProofError("missing_verification_method", f"verificationMethod {method!r} is not an absolute URL")
    times: dict[str, datetime | None] = {}
    for name in ("created", "expires"):
        times[name] = parse_timestamp(proof[name]) if name in proof else None
        if name in proof and times[name] is None:
            raise ProofError(f"malformed_{name}", f"{name} {proof[name]!r} is not a date and time with a time zone")
    previous = proof.get("previousProof", [])
    previous = [previous] if isinstance(previous, str) else previous
    if not isinstance(previous, list) or not all(isinstance(item, str) for item in previous):
        raise ProofError("malformed_proof", "previousProof is neither a string nor a list of strings")
    return Proof(
        cryptosuite=suite,
        verification_method=method,
        signature=_signature(proof.get("proofValue")),
        created=times["created"],
        expires=times["expires"],
        previous=tuple(previous),
    )


def _signature(value: object) -> bytes:
    if not isinstance(value, str) or not value.startswith("z"):
        raise ProofError("malformed_proof_value", "proofValue is not a base58btc multibase string")
    try:
        signature = multibase.decode(value, max_length=128)
    except multibase.MultibaseError as error:
        raise ProofError("malformed_proof_value", str(error)) from None
    if len(signature) != 64:
        raise ProofError("malformed_proof_value", f"an Ed25519 signature has 64 bytes, not {len(signature)}")
    return signature


def proofs_of(document: dict[str, Any]) -> list[Any]:
    """The document's proofs: none, one, or a proof set (Data Integrity 1.0 §2.1.1)."""
    proof = document.get("proof")
    if proof is None:
        return []
    return proof if isinstance(proof, list) else [proof]


def canonical(document: dict[str, Any], cryptosuite: str) -> bytes:
    """Step 1 for a document or a proof configuration. Raises jsonld.UnsafeDocument, contexts.UnknownContext,
    jcs.NotCanonicalizable."""
    return jcs.canonical(document) if cryptosuite == JCS else jsonld.canonical_nquads(document)


def hash_data(canonical_configuration: bytes, canonical_document: bytes) -> bytes:
    """Step 2: the 64 bytes that are signed; the configuration's hash comes first."""
    return hashlib.sha256(canonical_configuration).digest() + hashlib.sha256(canonical_document).digest()


def sign(linted: Linted, signer: keys.Signer, created: datetime, cryptosuite: str = RDFC) -> dict[str, Any]:
    """The secured document: the linted one with its proof. The same arguments give the same bytes.

    Raises ProofError: unknown_cryptosuite; wrong_controller when the signer's key is not one of the document's issuer.
    """
    if not isinstance(linted, Linted):
        raise TypeError("only a Linted document can be signed; call laurel.credential.lint.lint first")
    if cryptosuite not in CRYPTOSUITES:
        raise ProofError("unknown_cryptosuite", f"cryptosuite {cryptosuite!r}")
    _require_controller(linted, signer)
    document = linted.document()
    proof = _proof_options(cryptosuite, timestamp(created), signer.verification_method)
    if cryptosuite == JCS:
        proof["@context"] = document["@context"]  # §3.3.1 step 2
        transformed = jcs.canonical(document)
    else:
        transformed = linted.canonical_nquads
    configuration = canonical({"@context": document["@context"], **proof}, cryptosuite)
    signature = signer.sign(hash_data(configuration, transformed))
    return {**document, "proof": {**proof, "proofValue": multibase.encode(signature)}}


def sign_bytes(linted: Linted, signer: keys.Signer, created: datetime) -> bytes:
    """The secured document as compact JSON: what `msgspec.json.encode(sign(…))` gives, without reading it again.

    eddsa-rdfc-2022. The proof configuration comes from a template, too. Raises ProofError as `sign`.
    """
    if not isinstance(linted, Linted):
        raise TypeError("only a Linted document can be signed; call laurel.credential.lint.lint first")
    _require_controller(linted, signer)
    moment = _repeated_timestamp(created)
    configuration = _configuration_hash(linted.contexts, signer.verification_method, moment)
    signature = signer.sign(configuration + hashlib.sha256(linted.canonical_nquads).digest())
    start = _proof_start(signer.verification_method, moment)
    return b"".join((linted.encoded()[:-1], start, multibase.encode(signature).encode(), b'"}}'))


def verify_bytes(linted: Linted, body: bytes, public_key_multibase: str) -> ProofResult:
    """Whether `body` is `linted` with a proof by this key: the check of our own work, over the canonical form.

    The canonical form is the token's and not made from `body` again; that the two belong together is lint's word.
    For documents of others, and wherever the bytes come from elsewhere: `verify_proof`.
    """
    unsigned = linted.encoded()
    parsed: Proof | None = None
    try:
        length = len(unsigned) - 1
        whole = body.startswith(b',"proof":', length) and body.endswith(b"}")
        if body[:length] != unsigned[:length] or not whole:
            raise ProofError("malformed_proof", "the bytes are not the document that was checked, with a proof")
        try:
            proof = msgspec.json.decode(body[length + len(b',"proof":') : -1])
        except msgspec.DecodeError as error:
            raise ProofError("malformed_proof", str(error)) from error
        parsed = parse_proof(proof)
        created = proof.get("created")
        signed = _proof_options(RDFC, created, parsed.verification_method) if isinstance(created, str) else None
        if signed != {name: value for name, value in proof.items() if name != "proofValue"}:
            raise ProofError("malformed_proof", "the proof has other properties than those that were signed")
        configuration = _configuration_hash(linted.contexts, parsed.verification_method, created)
        data = configuration + hashlib.sha256(linted.canonical_nquads).digest()
        if not keys.verify_ed25519(public_key_multibase, parsed.signature, data):
            raise ProofError("bad_signature", "the signature does not match the document and the key")
    except ProofError as error:
        return ProofResult(False, error.code, error.detail, parsed)
    except multibase.MultibaseError as error:
        return ProofResult(False, "unsupported_key", str(error), parsed)
    return ProofResult(True, proof=parsed)


def _require_controller(linted: Linted, signer: keys.Signer) -> None:
    if signer.verification_method.partition("#")[0] != linted.issuer:
        raise ProofError("wrong_controller", f"{signer.verification_method!r} is not a key of {linted.issuer!r}")


def _proof_options(cryptosuite: str, created: str, method: str) -> dict[str, Any]:
    return {
        "type": "DataIntegrityProof",
        "cryptosuite": cryptosuite,
        "created": created,
        "verificationMethod": method,
        "proofPurpose": "assertionMethod",
    }


_repeated_timestamp = functools.lru_cache(maxsize=64)(timestamp)  # a batch is signed as of one moment


@functools.lru_cache(maxsize=256)
def _proof_start(method: str, created: str) -> bytes:
    proof = msgspec.json.encode(_proof_options(RDFC, created, method) | {"proofValue": ""})
    return b',"proof":' + proof[: -len(b'"}')]


@functools.lru_cache(maxsize=256)
def _configuration_hash(urls: tuple[str, ...], method: str, created: str) -> bytes:
    template = _configuration_template(urls, method)
    if template is None or not is_utc_second(created):
        return hashlib.sha256(canonical({"@context": [*urls], **_proof_options(RDFC, created, method)}, RDFC)).digest()
    return hashlib.sha256(template.fill(template.fields([created]))).digest()


@functools.lru_cache(maxsize=64)
def _configuration_template(urls: tuple[str, ...], method: str) -> CanonicalTemplate | None:
    """Configurations of one key differ in their time alone."""
    example = {"@context": [*urls], **_proof_options(RDFC, "2026-01-01T00:00:00Z", method)}
    try:
        template = CanonicalTemplate(example, [Slot(("created",), False, is_utc_second)])
        made = template.fill(template.fields([example["created"]]))
    except NotCompilable:
        return None
    return template if made == canonical(example, RDFC) else None


def verify_proof(
    document: dict[str, Any],
    proof: object,
    public_key_multibase: str,
    *,
    purpose: str = "assertionMethod",
    now: datetime | None = None,
) -> ProofResult:
    """Whether `proof` (one of the document's) is the key's over this document. Never raises on hostile input.

    The caller has looked up the key under proof.verificationMethod (`did.find_verification_method`) and asks elsewhere
    about issuer, dates and status. With `now`, a proof past its `expires` is refused. Documents of others belong in a
    process with a time limit: see jsonld.canonicalize.
    """
    parsed: Proof | None = None
    try:
        if not isinstance(document, dict):
            raise ProofError("malformed_proof", "the document is not a JSON object")
        parsed = parse_proof(proof, purpose=purpose)
        assert isinstance(proof, dict)
        if now is not None and parsed.expires is not None and parsed.expires < now:
            raise ProofError("proof_expired", f"the proof expired at {proof['expires']}")
        data = _signed_bytes(document, proof, parsed)
        if not keys.verify_ed25519(public_key_multibase, parsed.signature, data):
            raise ProofError("bad_signature", "the signature does not match the document and the key")
    except ProofError as error:
        return ProofResult(False, error.code, error.detail, parsed)
    except contexts.UnknownContext as error:
        return ProofResult(False, "unknown_context", str(error), parsed)
    except (jsonld.UnsafeDocument, jcs.NotCanonicalizable, RecursionError) as error:
        return ProofResult(False, "unsafe_document", str(error), parsed)
    except multibase.MultibaseError as error:
        return ProofResult(False, "unsupported_key", str(error), parsed)
    return ProofResult(True, proof=parsed)


def _signed_bytes(document: dict[str, Any], proof: dict[str, Any], parsed: Proof) -> bytes:
    unsecured = {key: value for key, value in document.items() if key != "proof"}
    if parsed.previous:  # a proof chain signs the proofs it builds on (Data Integrity 1.0 §4.3 step 3)
        unsecured["proof"] = _previous_proofs(document, parsed.previous)
    configuration = {key: value for key, value in proof.items() if key != "proofValue"}
    if parsed.cryptosuite == RDFC:
        configuration["@context"] = document.get("@context")  # §3.2.5 step 5
    elif "@context" in proof:  # §3.3.2 steps 4.1, 4.2: the document may have gained contexts at its end, no others
        signed_contexts, present = _listed(proof["@context"]), _listed(document.get("@context"))
        if present[: len(signed_contexts)] != signed_contexts:
            raise ProofError("context_mismatch", "the document's @context does not start with the proof's @context")
        unsecured["@context"] = proof["@context"]
    return hash_data(canonical(configuration, parsed.cryptosuite), canonical(unsecured, parsed.cryptosuite))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _previous_proofs(document: dict[str, Any], wanted: tuple[str, ...]) -> list[Any]:
    found = []
    for identifier in wanted:
        matching = [proof for proof in proofs_of(document) if isinstance(proof, dict) and proof.get("id") == identifier]
        if not matching:
            raise ProofError("missing_previous_proof", f"the document has no proof with the id {identifier!r}")
        found.extend(matching)
    return found
