"""Data Integrity proofs: made of a document and a key, and checked one at a time (W3C VC Data Integrity 1.0 §4).

1. `cryptosuites` makes the bytes that are signed: canonical forms of the proof configuration and the document, hashed.
2. The key signs them; the proofValue is base58btc multibase.
3. A proof that builds on others (`previousProof`) signs these along with the document (§4.3).

Signing takes a `Linted` token and nothing else. Verifying takes anything and answers with a `ProofResult`.
`proof_sets` verifies all the proofs of a document together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from laurel.credential import contexts, jcs, jsonld, keys, multibase, multikey
from laurel.credential.cryptosuites import (
    DATA_INTEGRITY,
    ECDSA_JCS,
    ECDSA_RDFC,
    ED25519_2020,
    JCS,
    RDFC,
    SUITES,
    canonical,
    hash_data,
)
from laurel.credential.lint import Linted
from laurel.credential.text import is_absolute_identifier, parse_timestamp, timestamp
from laurel.errors import LaurelError

__all__ = [
    "CRYPTOSUITES", "ECDSA_JCS", "ECDSA_RDFC", "ED25519_2020", "JCS", "NOT_CHECKED", "RDFC", "Order", "Proof",
    "ProofError", "ProofResult", "canonical", "hash_data", "parse_proof", "parse_signature", "proof_options",
    "proofs_of", "require_controller", "sign", "sign_all", "unsecured", "verify_proof",
]  # fmt: skip

CRYPTOSUITES = (RDFC, JCS, ECDSA_RDFC, ECDSA_JCS)
"""The cryptosuites that Laurel signs with; `cryptosuites.SUITES` are those that it reads."""

# What a proof may be without being wrong: we cannot read it, which is another thing.
NOT_CHECKED = frozenset({"unknown_context", "unknown_proof_type", "unknown_cryptosuite", "unsupported_key", "no_key"})

_MAX_SIGNATURE_TEXT = 140  # characters: 96 bytes in base58 have 132
_MAX_PREVIOUS = 16


class ProofError(LaurelError):
    """A proof can not be made or read. `code` is one of:

    no_proof, malformed_proof, unknown_proof_type, unknown_cryptosuite, wrong_purpose, missing_verification_method,
    malformed_created, malformed_expires, malformed_proof_value, missing_previous_proof, previous_proof_failed,
    context_mismatch, unknown_context, unsafe_document, unsupported_key, no_key, wrong_key_type, wrong_controller,
    wrong_challenge, wrong_domain, bad_signature, proof_expired.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[ProofError], tuple[str, str]]:
        return type(self), (self.code, self.detail)


class Proof(msgspec.Struct, frozen=True, gc=False):
    """A proof that is well formed. Whether it is true is `verify_proof`'s to say.

    cryptosuite: a name of `cryptosuites.SUITES`. previous: the ids of the proofs that it builds on.
    """

    cryptosuite: str
    verification_method: str
    signature: bytes
    created: datetime | None
    expires: datetime | None
    previous: tuple[str, ...]
    id: str | None = None
    domain: frozenset[str] = frozenset()
    challenge: str | None = None

    @property
    def controller(self) -> str:
        """The DID (or URL) part of the verification method."""
        return self.verification_method.partition("#")[0]


class ProofResult(msgspec.Struct, frozen=True, gc=False):
    """The verdict on one proof. `reason` is None when `ok`, else a code of ProofError or of did.DidError; `detail` is
    a sentence."""

    ok: bool
    reason: str | None = None
    detail: str = ""
    proof: Proof | None = None

    @property
    def outcome(self) -> Literal["passed", "failed", "not_checked"]:
        """not_checked: the proof may be right, Laurel just cannot tell (an unknown cryptosuite, no key, …)."""
        if self.ok:
            return "passed"
        return "not_checked" if self.reason in NOT_CHECKED else "failed"


def parse_proof(proof: object, *, purpose: str = "assertionMethod") -> Proof:
    """Check the form of a proof (Data Integrity 1.0 §2.1, §4.4; the suites' §2.2). Raises ProofError."""
    if not isinstance(proof, dict):
        raise ProofError("malformed_proof", "the proof is not a JSON object")
    suite = _suite(proof)
    if proof.get("proofPurpose") != purpose:
        raise ProofError("wrong_purpose", f"proofPurpose is {proof.get('proofPurpose')!r}, not {purpose!r}")
    method = proof.get("verificationMethod")
    if not isinstance(method, str) or not is_absolute_identifier(method):
        raise ProofError("missing_verification_method", f"verificationMethod {method!r} is not an absolute URL")
    identifier = proof.get("id")
    if "id" in proof and not (isinstance(identifier, str) and is_absolute_identifier(identifier)):
        raise ProofError("malformed_proof", "the proof's id is not an absolute URL or URN")
    times: dict[str, datetime | None] = {}
    for name in ("created", "expires"):
        times[name] = parse_timestamp(proof[name]) if name in proof else None
        if name in proof and times[name] is None:
            raise ProofError(f"malformed_{name}", f"{name} {proof[name]!r} is not a date and time with a time zone")
    for name in ("challenge", "nonce"):
        if not isinstance(proof.get(name, ""), str):
            raise ProofError("malformed_proof", f"{name} is not a string")
    previous = _strings(proof, "previousProof")
    if identifier in previous:
        raise ProofError("malformed_proof", "the proof builds on itself")
    return Proof(
        cryptosuite=suite,
        verification_method=method,
        signature=parse_signature(proof.get("proofValue"), suite),
        created=times["created"],
        expires=times["expires"],
        previous=previous,
        id=identifier,
        domain=frozenset(_strings(proof, "domain")),
        challenge=proof.get("challenge"),
    )


def _suite(proof: dict[str, Any]) -> str:
    kind, suite = proof.get("type"), proof.get("cryptosuite")
    if kind == ED25519_2020:
        if suite is not None:
            raise ProofError("malformed_proof", f"a proof of type {ED25519_2020} has no cryptosuite")
        return ED25519_2020
    if kind != DATA_INTEGRITY:
        raise ProofError("unknown_proof_type", f"proof type {kind!r}; Laurel reads {DATA_INTEGRITY} and {ED25519_2020}")
    if not isinstance(suite, str) or suite not in CRYPTOSUITES:
        raise ProofError("unknown_cryptosuite", f"cryptosuite {suite!r}; Laurel reads {', '.join(CRYPTOSUITES)}")
    return suite


def _strings(proof: dict[str, Any], name: str) -> tuple[str, ...]:
    value = proof.get(name, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ProofError("malformed_proof", f"{name} is neither a string nor a list of strings")
    if len(value) > _MAX_PREVIOUS or len(set(value)) < len(value):
        raise ProofError("malformed_proof", f"{name} has more than {_MAX_PREVIOUS} values, or one of them twice")
    return tuple(value)


def parse_signature(value: object, suite: str) -> bytes:
    """The signature that a proofValue spells, of a length that the suite has. Raises ProofError."""
    if not isinstance(value, str) or not value.startswith("z"):
        raise ProofError("malformed_proof_value", "proofValue is not a base58btc multibase string")
    try:
        signature = multibase.decode(value, max_length=_MAX_SIGNATURE_TEXT)
    except multibase.MultibaseError as error:
        raise ProofError("malformed_proof_value", str(error)) from None
    sizes = SUITES[suite].signature_sizes
    if len(signature) not in sizes.values():
        right = ", ".join(f"{size} ({kind})" for kind, size in sizes.items())
        raise ProofError("malformed_proof_value", f"a signature of {suite} has {right} bytes, not {len(signature)}")
    return signature


def proofs_of(document: dict[str, Any]) -> list[Any]:
    """The document's proofs: none, one, or a proof set (Data Integrity 1.0 §2.1.1)."""
    proof = document.get("proof")
    if proof is None:
        return []
    return proof if isinstance(proof, list) else [proof]


def unsecured(document: dict[str, Any]) -> dict[str, Any]:
    """The document without its proofs."""
    return {name: value for name, value in document.items() if name != "proof"}


@dataclass(frozen=True)
class Order:
    """One proof to make. id: a URN or URL, which a later proof of the same document may name in its `previous`."""

    signer: keys.Signer
    cryptosuite: str
    created: datetime
    expires: datetime | None = None
    id: str | None = None
    previous: tuple[str, ...] = ()


def sign(linted: Linted, signer: keys.Signer, created: datetime, cryptosuite: str = RDFC) -> dict[str, Any]:
    """The secured document: the linted one with its proof. The same arguments give the same bytes. Raises as
    `sign_all`."""
    return sign_all(linted, [Order(signer, cryptosuite, created)])


def sign_all(linted: Linted, orders: Sequence[Order], attached: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The document secured with every proof ordered: a single one, a set, or a chain (§4.2, §4.3).

    attached: proofs that the document has already: they stay, and the new ones may build on them.

    Raises ProofError: unknown_cryptosuite; wrong_controller when a signer's key is not one of the document's issuer;
    wrong_key_type when the cryptosuite does not take the signer's kind of key; malformed_proof when an id is given
    twice; missing_previous_proof when a `previous` is not the id of an earlier proof. ValueError: no orders at all.
    With strangers' `attached` to build on also what `cryptosuites.canonical` raises.
    """
    if not isinstance(linted, Linted):
        raise TypeError("only a Linted document can be signed; call laurel.credential.lint.lint first")
    if not orders:
        raise ValueError("no proof was ordered")
    made = list(attached)
    for order in orders:
        if order.id is not None and any(proof.get("id") == order.id for proof in made):
            raise ProofError("malformed_proof", f"two proofs have the id {order.id!r}")
        made.append(_make(linted, order, made))
    return {**linted.document(), "proof": made[0] if len(made) == 1 else made}


def _make(linted: Linted, order: Order, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    suite = order.cryptosuite
    if suite not in CRYPTOSUITES:
        raise ProofError("unknown_cryptosuite", f"cryptosuite {suite!r}; Laurel signs with {', '.join(CRYPTOSUITES)}")
    signer = order.signer
    require_controller(linted, signer)
    key = multikey.decode_public(signer.public_key_multibase)
    _check_key_type(suite, key)
    proof = proof_options(suite, timestamp(order.created), signer.verification_method)
    if order.id is not None:
        proof["id"] = order.id
    if order.expires is not None:
        proof["expires"] = timestamp(order.expires)
    if order.previous:
        proof["previousProof"] = order.previous[0] if len(order.previous) == 1 else list(order.previous)
    document = linted.document()
    if SUITES[suite].canonicalization == "JCS":
        proof["@context"] = document["@context"]  # VC DI EdDSA §3.3.1 step 2
    if order.previous:
        document["proof"] = _previous_proofs(earlier, order.previous)
        transformed = canonical(document, suite, key.type)
    elif SUITES[suite].canonicalization == "RDFC-1.0" and key.type != "P-384":
        transformed = linted.canonical_nquads
    else:
        transformed = canonical(document, suite, key.type)
    configuration = canonical({"@context": document["@context"], **proof}, suite, key.type)
    signature = signer.sign(hash_data(configuration, transformed, key.type))
    return {**proof, "proofValue": multibase.encode(signature)}


def require_controller(linted: Linted, signer: keys.Signer) -> None:
    if signer.verification_method.partition("#")[0] != linted.issuer:
        raise ProofError("wrong_controller", f"{signer.verification_method!r} is not a key of {linted.issuer!r}")


def proof_options(cryptosuite: str, created: str, method: str) -> dict[str, Any]:
    return {
        "type": DATA_INTEGRITY,
        "cryptosuite": cryptosuite,
        "created": created,
        "verificationMethod": method,
        "proofPurpose": "assertionMethod",
    }


def _check_key_type(suite: str, key: multikey.PublicKey) -> None:
    kinds = SUITES[suite].signature_sizes
    if key.type not in kinds:
        raise ProofError("wrong_key_type", f"{suite} takes a key of {' or '.join(kinds)}, not of {key.type}")


def verify_proof(
    document: dict[str, Any],
    proof: object,
    public_key_multibase: str,
    *,
    purpose: str = "assertionMethod",
    now: datetime | None = None,
    challenge: str | None = None,
    domain: str | Collection[str] | None = None,
    statements: jsonld.Statements | None = None,
) -> ProofResult:
    """Whether `proof` (one of the document's) is the key's over this document. Never raises on hostile input.

    The caller has looked up the key under proof.verificationMethod (`did.find_verification_method`) and asks elsewhere
    about issuer, dates and status. With `now`, a proof past its `expires` is refused; with `challenge` and `domain`, a
    proof that was made for something else (Data Integrity 1.0 §4.4). Whether the proofs that this one builds on are
    true is `proof_sets.verify_proofs`' to say. `statements`: those of the document without its proofs, where the caller
    has them. Documents of others belong in a process with a time limit: see
    jsonld.canonicalize.
    """
    parsed: Proof | None = None
    try:
        if not isinstance(document, dict):
            raise ProofError("malformed_proof", "the document is not a JSON object")
        parsed = parse_proof(proof, purpose=purpose)
        assert isinstance(proof, dict)
        _check_options(parsed, now, challenge, domain)
        key = multikey.decode_public(public_key_multibase)
        _check_key_type(parsed.cryptosuite, key)
        data = _signed_bytes(document, proof, parsed, key.type, statements)
        if not keys.verify_signature(key, parsed.signature, data):
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


def _check_options(
    parsed: Proof, now: datetime | None, challenge: str | None, domain: str | Collection[str] | None
) -> None:
    if now is not None and parsed.expires is not None and parsed.expires < now:
        raise ProofError("proof_expired", f"the proof expired at {timestamp(parsed.expires)}")
    if challenge is not None and parsed.challenge != challenge:
        raise ProofError("wrong_challenge", "the proof does not answer the challenge that was given")
    wanted = {domain} if isinstance(domain, str) else None if domain is None else set(domain)
    if wanted is not None and parsed.domain != wanted:
        raise ProofError("wrong_domain", f"the proof was made for {sorted(parsed.domain)}, not for {sorted(wanted)}")


def _signed_bytes(
    document: dict[str, Any],
    proof: dict[str, Any],
    parsed: Proof,
    key_type: multikey.KeyType,
    statements: jsonld.Statements | None,
) -> bytes:
    signed = unsecured(document)
    if parsed.previous:  # a proof chain signs the proofs it builds on (Data Integrity 1.0 §4.3 step 3)
        signed["proof"] = _previous_proofs(proofs_of(document), parsed.previous)
    configuration = {key: value for key, value in proof.items() if key != "proofValue"}
    if SUITES[parsed.cryptosuite].canonicalization == "RDFC-1.0":
        known = _listed(document.get("@context"))
        if any(
            one not in known for one in _listed(proof.get("@context", []))
        ):  # §3.2.5 step 5 puts another in its place
            raise ProofError(
                "context_mismatch", "the proof has an @context that its document has not; it is not signed"
            )
        configuration["@context"] = document.get("@context")
    elif "@context" in proof:  # §3.3.2 steps 4.1, 4.2: the document may have gained contexts at its end, no others
        signed_contexts, present = _listed(proof["@context"]), _listed(document.get("@context"))
        if present[: len(signed_contexts)] != signed_contexts:
            raise ProofError("context_mismatch", "the document's @context does not start with the proof's @context")
        signed["@context"] = proof["@context"]
    suite = parsed.cryptosuite
    if statements is not None and not parsed.previous and SUITES[suite].canonicalization == "RDFC-1.0":
        transformed = statements.canonical(sha384=key_type == "P-384")
    else:
        transformed = canonical(signed, suite, key_type)
    return hash_data(canonical(configuration, suite, key_type), transformed, key_type)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _previous_proofs(proofs: Sequence[Any], wanted: tuple[str, ...]) -> list[Any]:
    found = []
    for identifier in wanted:
        matching = [proof for proof in proofs if isinstance(proof, dict) and proof.get("id") == identifier]
        if not matching:
            raise ProofError("missing_previous_proof", f"the document has no proof with the id {identifier!r}")
        if len(matching) > 1:
            raise ProofError("malformed_proof", f"{len(matching)} proofs have the id {identifier!r}")
        found.append(matching[0])
    return found
