"""Data Integrity proofs on the fast path: a document as bytes in, its secured bytes out, nothing read again.

eddsa-rdfc-2022 alone, with the token's canonical form; the proof configuration comes from a template, too (ADR 0006).
What `proofs.sign` gives, byte for byte; everything else is its job.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from datetime import datetime

import msgspec

from laurel.credential import keys, multibase
from laurel.credential.cryptosuites import RDFC, canonical
from laurel.credential.lint import Linted
from laurel.credential.proofs import (
    Proof,
    ProofError,
    ProofResult,
    parse_proof,
    parse_signature,
    proof_options,
    require_controller,
)
from laurel.credential.slots import is_utc_second
from laurel.credential.template import CanonicalTemplate, NotCompilable, Slot
from laurel.credential.text import timestamp

_END = b'"}}'  # of the proof value, the proof and the document
_NO_VALUE = multibase.encode(bytes(64)).encode()  # a proof value of the right form


def sign_bytes(linted: Linted, signer: keys.Signer, created: datetime) -> bytes:
    """The secured document as compact JSON: what `msgspec.json.encode(sign(…))` gives, without reading it again.

    eddsa-rdfc-2022. The proof configuration comes from a template, too. Raises ProofError as `sign`.
    """
    if not isinstance(linted, Linted):
        raise TypeError("only a Linted document can be signed; call laurel.credential.lint.lint first")
    method = signer.verification_method
    require_controller(linted, signer)
    configuration, start = _constant_parts(linted.contexts, method, created)
    signature = signer.sign(configuration + hashlib.sha256(linted.canonical_nquads).digest())
    return b"".join((linted.encoded()[:-1], start, multibase.encode(signature).encode(), _END))


def verify_bytes(linted: Linted, body: bytes, public_key_multibase: str) -> ProofResult:
    """Whether `body` is `linted` with a proof by this key: the check of our own work, over the canonical form.

    The canonical form is the token's and not made from `body` again; that the two belong together is lint's word.
    For documents of others, and wherever the bytes come from elsewhere: `verify_proof`.
    """
    proof: Proof | None = None
    try:
        proof, data = _claimed(linted, body)
        if not keys.verify_ed25519(public_key_multibase, proof.signature, data):
            raise ProofError("bad_signature", "the signature does not match the document and the key")
    except ProofError as error:
        return ProofResult(False, error.code, error.detail, proof)
    except multibase.MultibaseError as error:
        return ProofResult(False, "unsupported_key", str(error), proof)
    return ProofResult(True, proof=proof)


def verify_made(made: Sequence[tuple[Linted, bytes]], public_key_multibase: str) -> list[ProofResult]:
    """What `verify_bytes` says of each, at less than half its price: for signatures that this very process has made.

    Ed25519 is checked for all of them at once, and singly where that does not succeed (keys.made_by_ed25519).
    """
    try:
        claimed = [_claimed(linted, body) for linted, body in made]
        signed = [(proof.signature, data) for proof, data in claimed]
        if keys.made_by_ed25519(public_key_multibase, signed):
            return [ProofResult(True, proof=proof) for proof, _ in claimed]
    except (ProofError, multibase.MultibaseError):
        pass  # told of the one that it is about
    return [verify_bytes(linted, body, public_key_multibase) for linted, body in made]


def _claimed(linted: Linted, body: bytes) -> tuple[Proof, bytes]:
    """The proof of `body`, and what it must have signed if `body` is `linted`. Raises ProofError."""
    unsigned = linted.encoded()[:-1]
    if not body.startswith(unsigned) or not body.endswith(_END):
        raise ProofError("malformed_proof", "the bytes are not the document that was checked, with a proof")
    value = body.rfind(b'"', 0, -len(_END)) + 1
    method, created, moment = _read_start(body[len(unsigned) : value])
    signature = parse_signature(body[value : -len(_END)].decode("ascii", "replace"), RDFC)
    configuration = _configuration_hash(linted.contexts, method, created)
    data = configuration + hashlib.sha256(linted.canonical_nquads).digest()
    return Proof(RDFC, method, signature, moment, None, ()), data


@functools.lru_cache(maxsize=256)
def _constant_parts(urls: tuple[str, ...], method: str, created: datetime) -> tuple[bytes, bytes]:
    """Of all proofs of a batch, which is signed as of one moment: their configuration's hash, and how they start."""
    moment = timestamp(created)
    return _configuration_hash(urls, method, moment), _proof_start(method, moment)


@functools.lru_cache(maxsize=256)
def _proof_start(method: str, created: str) -> bytes:
    """What stands between the document and the proof value."""
    proof = msgspec.json.encode(proof_options(RDFC, created, method) | {"proofValue": ""})
    return b',"proof":' + proof[: -len(_END) + 1]


@functools.lru_cache(maxsize=256)
def _read_start(start: bytes) -> tuple[str, str, datetime | None]:
    """The key and the time (as text, too) of a proof that starts so. Raises ProofError where none of ours does."""
    try:
        whole = msgspec.json.decode(start.removeprefix(b',"proof":') + _NO_VALUE + _END[:-1])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProofError("malformed_proof", str(error)) from error
    parsed = parse_proof(whole)
    created = whole.get("created")
    if not isinstance(created, str) or start != _proof_start(parsed.verification_method, created):
        raise ProofError("malformed_proof", "the proof has other properties than those that were signed")
    return parsed.verification_method, created, parsed.created


@functools.lru_cache(maxsize=256)
def _configuration_hash(urls: tuple[str, ...], method: str, created: str) -> bytes:
    template = _configuration_template(urls, method)
    if template is None or not is_utc_second(created):
        return hashlib.sha256(canonical({"@context": [*urls], **proof_options(RDFC, created, method)}, RDFC)).digest()
    return hashlib.sha256(template.fill(template.fields([created]))).digest()


@functools.lru_cache(maxsize=64)
def _configuration_template(urls: tuple[str, ...], method: str) -> CanonicalTemplate | None:
    """Configurations of one key differ in their time alone."""
    example = {"@context": [*urls], **proof_options(RDFC, "2026-01-01T00:00:00Z", method)}
    try:
        template = CanonicalTemplate(example, [Slot(("created",), False, is_utc_second)])
        made = template.fill(template.fields([example["created"]]))
    except NotCompilable:
        return None
    return template if made == canonical(example, RDFC) else None
