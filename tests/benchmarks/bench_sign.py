"""How many credentials a second one core signs: by template, by the full way, plainly, and with eddsa-jcs-2022.

    python -m tests.benchmarks.bench_sign [--n 20000] [--json]

From event bytes to signed bytes, in CPU time of this process. "plain" is what one would write with PyLD (URDNA2015,
contexts bundled) and cryptography; "full" is Laurel's own long way, with processed contexts kept and all lint rules.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pyld import jsonld as pyld

from laurel.credential import contexts, jcs, lint, multibase, proof_bytes, proofs
from laurel.credential.keys import Ed25519Signer, verify_ed25519
from laurel.credential.text import timestamp
from laurel.events import AssessmentPassed, Recipient, ResultValue
from laurel_issuer.domain import IssuerProfile, StatusPlace, build_credential, varying, varying_paths
from laurel_issuer.signing import CHUNK

BASE = "https://badges.example.org"
DID = "did:web:badges.example.org:issuers:physics"
SEED = bytes(range(32))
SIGNER = Ed25519Signer(SEED, f"{DID}#key-1")
NOW = datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)
ISSUER = IssuerProfile(DID, "Department of Physics", "https://physics.example.org/")
GRADE = "urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e6f"
DEFINITION: dict[str, Any] = {
    "id": f"{BASE}/achievements/018f9a3e-0000-7000-8000-000000000001",
    "type": ["Achievement"],
    "name": "Thermodynamics",
    "description": "Heat, work and entropy.",
    "criteria": {"narrative": "Pass the examination with at least 60 %."},
    "resultDescription": [
        {"id": GRADE, "type": ["ResultDescription"], "name": "Grade", "resultType": "Percent",
         "valueMin": "0", "valueMax": "100"}
    ],
}  # fmt: skip

ROUNDS = 40

Event = tuple[bytes, dict[str, Any]]  # a stored event, and the other arguments of build_credential
Work = Callable[[Sequence[Event]], list[bytes]]

_decoder = msgspec.json.Decoder(AssessmentPassed)


def events(count: int) -> list[Event]:
    """Passed assessments as they are stored, and the other arguments of build_credential."""
    found = []
    for number in range(count):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        passed = AssessmentPassed(
            tenant_id="t", credential_id=digest[:32], result_id="r", achievement_id="a", achievement_version=1, award=1,
            recipient=Recipient(identity_hash=f"sha256${digest}", salt=digest[:22]),
            results=(ResultValue(value=str(number % 101), result_description=GRADE),),
            achieved_at=NOW - timedelta(seconds=number), decided_at=NOW,
        )  # fmt: skip
        hexed = f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
        place = StatusPlace(f"{BASE}/status/018f9a3e-0000-7000-8000-000000000007", number, "revocation")
        rest = {"document_url": f"{BASE}/c/{hexed}", "created": NOW, "places": (place,), "validity_days": None}
        found.append((msgspec.json.encode(passed), rest))
    return found


def _document(event: bytes, rest: dict[str, Any]) -> dict[str, Any]:
    return build_credential(_decoder.decode(event), definition=DEFINITION, issuer=ISSUER, **rest)


def by_template() -> tuple[Work, Work]:
    """Signing, and signing with the check of one's own signature; a chunk at a time, as the signing processes do it."""
    event, rest = events(1)[0]
    shape = varying(_decoder.decode(event), **rest).shape
    template = lint.lint_template(_document(event, rest), varying_paths(shape), issuer=DID)

    def fill(event: bytes, rest: dict[str, Any]) -> lint.Linted:
        found = varying(_decoder.decode(event), **rest)
        assert found.shape == shape
        return template.linted(found.values)

    def sign_chunk(items: Sequence[Event], check: bool) -> list[bytes]:
        linted = [fill(*item) for item in items]
        bodies = [
            proof_bytes.sign_bytes(one, SIGNER, rest["created"]) for one, (_, rest) in zip(linted, items, strict=True)
        ]
        if check:
            made = zip(linted, bodies, strict=True)
            assert all(one.ok for one in proof_bytes.verify_made([*made], SIGNER.public_key_multibase))
        return bodies

    def work(check: bool) -> Work:
        return lambda items: [
            body for start in range(0, len(items), CHUNK) for body in sign_chunk(items[start : start + CHUNK], check)
        ]

    return work(check=False), work(check=True)


def singly(sign: Callable[[bytes, dict[str, Any]], bytes]) -> Work:
    """A way that takes one after the other."""
    return lambda items: [sign(*item) for item in items]


def full(event: bytes, rest: dict[str, Any]) -> bytes:
    linted = lint.lint(_document(event, rest), issuer=DID)
    return msgspec.json.encode(proofs.sign(linted, SIGNER, rest["created"]))


def _load(url: str, _options: object) -> dict[str, Any]:
    return {"contextUrl": None, "documentUrl": url, "document": contexts.load(url)}


_key = Ed25519PrivateKey.from_private_bytes(SEED)


def _options(document: dict[str, Any], created: datetime, suite: str) -> dict[str, Any]:
    return {
        "@context": document["@context"], "type": "DataIntegrityProof", "cryptosuite": suite,
        "created": timestamp(created), "verificationMethod": SIGNER.verification_method,
        "proofPurpose": "assertionMethod",
    }  # fmt: skip


def plain(event: bytes, rest: dict[str, Any]) -> bytes:
    document = _document(event, rest)
    proof = _options(document, rest["created"], proofs.RDFC)
    how = {"algorithm": "URDNA2015", "format": "application/n-quads", "documentLoader": _load}
    hashes = [hashlib.sha256(pyld.normalize(one, how).encode()).digest() for one in (proof, document)]
    proof["proofValue"] = multibase.encode(_key.sign(b"".join(hashes)))
    del proof["@context"]
    return msgspec.json.encode({**document, "proof": proof})


def by_jcs(event: bytes, rest: dict[str, Any]) -> bytes:
    document = _document(event, rest)
    proof = _options(document, rest["created"], proofs.JCS)
    hashes = [hashlib.sha256(jcs.canonical(one)).digest() for one in (proof, document)]
    return msgspec.json.encode({**document, "proof": {**proof, "proofValue": multibase.encode(
        SIGNER.sign(b"".join(hashes)))}})  # fmt: skip


_signature = SIGNER.sign(bytes(64))


def verify_alone(_event: bytes, _rest: dict[str, Any]) -> bytes:
    assert verify_ed25519(SIGNER.public_key_multibase, _signature, bytes(64))
    return b""


def per_second(work: Work, items: Sequence[Event]) -> float:
    """The best round, by CPU time: what else runs on the machine only ever makes it slower."""
    work(items[:100])
    best = 0.0
    for part in range(ROUNDS):
        some = items[part::ROUNDS]
        start = time.process_time()
        work(some)
        best = max(best, len(some) / (time.process_time() - start))
    return best


def measure(count: int) -> dict[str, Any]:
    """The figures; the ways are compared byte by byte first."""
    items = events(count)
    sign, sign_and_check = by_template()
    bodies = sign(items[:50])
    assert bodies == sign_and_check(items[:50]) == singly(full)(items[:50]) == singly(plain)(items[:50])
    slow = items[: max(150, count // 50)]
    return {
        "sign_rdfc_per_s": per_second(sign, items),
        "sign_rdfc_checked_per_s": per_second(sign_and_check, items),
        "sign_rdfc_full_per_s": per_second(singly(full), slow),
        "sign_rdfc_plain_per_s": per_second(singly(plain), slow),
        "sign_jcs_per_s": per_second(singly(by_jcs), items[: max(150, count // 5)]),
        "ed25519_sign_per_s": per_second(singly(lambda _, __: SIGNER.sign(bytes(64))), items),
        "ed25519_verify_per_s": per_second(singly(verify_alone), items),
        "bytes": len(bodies[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(arguments.n)
    if arguments.json:
        print(json.dumps(figures))
        return
    print(f"CPython {platform.python_version()} on {platform.machine()}; credentials of {figures.pop('bytes')} bytes")
    fastest = figures["sign_rdfc_per_s"]
    for name, value in figures.items():
        print(f"{name:26} {value:10,.0f} /s  {1e6 / value:8.1f} us   template is {fastest / value:6.1f} times as fast")


if __name__ == "__main__":
    main()
