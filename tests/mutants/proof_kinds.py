"""Changes of proofs: their options, their values, their sets, and whose they are."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

from laurel.credential import multibase, proofs
from laurel.credential.text import timestamp
from tests.mutants.meaning import _ORDERS
from tests.mutants.places import Path, put
from tests.mutants.specimens import MALLORY, OTHER, P256, SECOND, SIGNER, Specimen, strangers
from tests.mutants.value_kinds import Dice, characters
from tests.mutants.world import NOW


def _first_proof(document: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    return (
        (("proof",), document["proof"]) if isinstance(document["proof"], dict) else (("proof", 0), document["proof"][0])
    )


def proof_swapped(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """The proof, or a part of it, from another credential or of another key."""
    path, proof = _first_proof(specimen.document)
    other = copy.deepcopy(dice.choice(strangers())["proof"])
    methods = [one.verification_method for one in (SIGNER, SECOND, P256, OTHER, MALLORY)]
    match dice.randrange(5):
        case 0:
            return dict(put(specimen.document, ("proof",), other))
        case 1:
            return dict(put(specimen.document, (*path, "proofValue"), other["proofValue"]))
        case 2:
            return dict(put(specimen.document, (*path, "verificationMethod"), dice.choice(methods)))
        case 3:
            both = [proof, other] if dice.random() < 0.5 else [other, proof]
            return dict(put(specimen.document, ("proof",), both))
        case _:
            name = dice.choice(["created", "cryptosuite", "type", "verificationMethod", "proofPurpose"])
            return dict(put(specimen.document, path, {**proof, name: other[name]}))


def proof_options(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """Another option of the proof, or one more."""
    path, proof = _first_proof(specimen.document)
    name, value = dice.choice(
        [
            ("created", "2026-01-01T00:00:00Z"), ("expires", "2099-01-01T00:00:00Z"),
            ("expires", "2020-01-01T00:00:00Z"),
            ("proofPurpose", "authentication"), ("domain", "https://x.example"), ("challenge", "x"), ("nonce", "x"),
            ("id", "urn:uuid:00000000-0000-4000-8000-00000000000f"), ("previousProof", []),
            ("previousProof", "urn:x:y"),
            ("type", "Ed25519Signature2020"), ("type", ["DataIntegrityProof"]), ("@context", "https://w3id.org/security/v2"),
            ("@context", specimen.document["@context"]), ("@context", specimen.document["@context"][:1]),
            ("@context", {}),
            *(("cryptosuite", one) for one in (*proofs.CRYPTOSUITES, "eddsa-2022", "EDDSA-RDFC-2022", "none")),
            ("https://w3id.org/security#expiration", "2099-01-01T00:00:00Z"),
            ("verificationMethod", [proof["verificationMethod"]]),
            ("proof", proof), ("jws", "x"), ("@type", "DataIntegrityProof"), ("created", [proof["created"]]),
        ]
    )  # fmt: skip
    return dict(put(specimen.document, (*path, name), value))


def proof_value(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """The signature itself: its bits, its length, its encoding, and the twins that its algebra has."""
    path, proof = _first_proof(specimen.document)
    raw = multibase.decode(proof["proofValue"])
    half = len(raw) // 2
    flipped = bytearray(raw)
    flipped[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    order = _ORDERS.get(len(raw), 1)
    s = int.from_bytes(raw[half:], "big")
    edwards = 2**252 + 27742317777372353535851937790883648493
    beyond = (int.from_bytes(raw[half:], "little") + edwards).to_bytes(half + 1, "little")[:half]
    value = dice.choice(
        [
            multibase.encode(bytes(flipped)), multibase.encode(bytes(flipped)), multibase.encode(raw + b"\0"),
            multibase.encode(b"\0" + raw), multibase.encode(raw[:-1]), multibase.encode(raw[half:] + raw[:half]),
            multibase.encode(raw[:half] + ((order - s) % order).to_bytes(half, "big")),
            multibase.encode(bytes(len(raw))),
            multibase.encode(raw[:half] + beyond), multibase.encode(raw[:half] + bytes(half)),
            "u" + multibase.base64url_encode(raw),
            "z1" + proof["proofValue"][1:], proof["proofValue"][1:], "Z" + proof["proofValue"][1:],
            proof["proofValue"] + " ",
            multibase.encode(b"\1" + bytes(len(raw) - 1)), proof["proofValue"].swapcase(), "z",
        ]
    )  # fmt: skip
    return dict(put(specimen.document, (*path, "proofValue"), value))


def proof_sets(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """Proofs in an array: fewer, more, twice, in another order, with a stranger's own true or false one."""
    attached = copy.deepcopy(specimen.document["proof"])
    attached = attached if isinstance(attached, list) else [attached]
    false = {**attached[0], "verificationMethod": MALLORY.verification_method}
    changed: Any = dice.choice(
        [
            [], attached[:1], attached[1:], attached[::-1], attached + attached, [*attached, false], [false, *attached],
            [*attached, {}], [*attached, None], {"@graph": attached}, {"@set": attached}, [attached], attached * 9, "x",
            [*attached, _true_proof_of_a_stranger(specimen.document)], [_true_proof_of_a_stranger(specimen.document)],
        ]
    )  # fmt: skip
    return dict(put(specimen.document, ("proof",), changed))


def _true_proof_of_a_stranger(document: dict[str, Any]) -> dict[str, Any]:
    """Mallory signs what somebody else has issued, with a key of her own; everybody can."""
    bare = {name: value for name, value in document.items() if name != "proof"}
    proof = proofs.proof_options(proofs.RDFC, timestamp(NOW - timedelta(days=1)), MALLORY.verification_method)
    configuration = proofs.canonical({"@context": bare["@context"], **proof}, proofs.RDFC)
    signature = MALLORY.sign(proofs.hash_data(configuration, proofs.canonical(bare, proofs.RDFC)))
    return {**proof, "proofValue": multibase.encode(signature)}


def usurped(dice: Dice, specimen: Specimen) -> dict[str, Any]:
    """Mallory changes a value and signs the whole anew with her own key, under whichever name."""
    made = characters(dice, specimen) or copy.deepcopy(specimen.document)
    try:
        proof = _true_proof_of_a_stranger(made)
    except Exception:  # noqa: BLE001 - she cannot sign what means nothing: a false proof then
        proof = copy.deepcopy(_first_proof(specimen.document)[1])
    if dice.random() < 0.5:
        proof["verificationMethod"] = dice.choice([SIGNER, SECOND, OTHER]).verification_method
    return {**made, "proof": proof}
