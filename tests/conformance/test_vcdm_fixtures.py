"""Every fixture of the W3C suite for VC Data Model 2.0 is accepted or refused as its file name says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laurel.credential import contexts, keys, lint, proofs, vcdm
from tests.conformance.conftest import VECTORS
from tests.unit.credential.samples import CREATED

FOLDER = VECTORS / "w3c-vcdm2-testsuite-inputs" / "tests" / "input"
# The fixtures use it, and production never loads it: it gives a meaning to every word.
EXAMPLES = {
    "https://www.w3.org/ns/credentials/examples/v2": {
        "@context": {"@vocab": "https://www.w3.org/ns/credentials/examples#"}
    }
}
SIGNER = keys.Ed25519Signer(bytes(range(32)), "did:key:placeholder")
ISSUER = f"did:key:{SIGNER.public_key_multibase}"
SIGNER = keys.Ed25519Signer(bytes(range(32)), f"{ISSUER}#{SIGNER.public_key_multibase}")
# What the suite writes into a fixture at run time.
DATES = {"PAST DATE": "2024-01-01T00:00:00Z", "FUTURE DATE": "2044-01-01T00:00:00Z"}


def fixtures(prefix: str) -> list[Path]:
    return sorted(path for path in FOLDER.rglob("*.json") if path.name.startswith(prefix))


def judged(path: Path) -> bool | None:
    """What the name says: accepted, refused, or (None) neither."""
    if path.stem.endswith(("-fail", "-fail-or-inject")):
        return False
    return True if path.stem.endswith("-ok") else None


def completed(credential: dict[str, Any]) -> dict[str, Any]:
    """The credential as the suite sends it: it fills in the issuer where none is given, and the dates."""
    issuer = credential.get("issuer", ISSUER)
    if isinstance(issuer, dict) and "id" not in issuer:
        issuer = {**issuer, "id": ISSUER}
    dates = {
        name: DATES.get(credential[name], credential[name])
        for name in ("validFrom", "validUntil")
        if name in credential
    }
    return {**credential, "issuer": issuer, **dates}


@pytest.fixture(autouse=True)
def examples(vectors: Path) -> Iterator[None]:
    with contexts.unsafe_extra(EXAMPLES):
        yield


def identifier(path: Path) -> str:
    return path.stem


CREDENTIALS = fixtures("credential-") + fixtures("issuer-")
PRESENTATIONS = fixtures("presentation-")


def test_no_fixture_is_left_out(vectors: Path) -> None:
    everything = set(FOLDER.rglob("*.json"))
    assert len(everything) == len(CREDENTIALS) + len(PRESENTATIONS) == 120
    undecided = {path.stem for path in everything if judged(path) is None}
    assert undecided == {
        "presentation-self-asserted-vc-holder-mismatch", "presentation-self-asserted-vc-issuer-mismatch",
        "presentation-self-asserted-vc-no-holder",
    }  # fmt: skip


@pytest.mark.parametrize("path", CREDENTIALS, ids=identifier)
def test_credentials(path: Path) -> None:
    document = completed(json.loads(path.read_text("utf-8")))
    found = vcdm.credential_findings(document)
    assert (not found) is judged(path), [f"{one.rule} {one.pointer}: {one.message}" for one in found]
    assert all(one.rule and one.clause and one.level == "error" for one in found)


@pytest.mark.parametrize("path", PRESENTATIONS, ids=identifier)
def test_presentations(path: Path) -> None:
    document = json.loads(path.read_text("utf-8"))
    found = vcdm.presentation_findings(document)
    if judged(path) is not None:
        assert (not found) is judged(path), [f"{one.rule} {one.pointer}: {one.message}" for one in found]
    if "self-asserted" in path.stem:
        credential = document["verifiableCredential"][0]
        assert vcdm.is_self_asserted(credential, document) is path.stem.endswith("-ok")


@pytest.mark.parametrize("cryptosuite", [proofs.RDFC, proofs.JCS])
@pytest.mark.parametrize("path", [path for path in CREDENTIALS if judged(path)], ids=identifier)
def test_what_is_accepted_can_be_signed_and_verified(path: Path, cryptosuite: str) -> None:
    document = completed(json.loads(path.read_text("utf-8")))
    document.pop("proof", None)
    if isinstance(document["issuer"], str):
        document["issuer"] = ISSUER
    signed = proofs.sign(lint.lint(document, profile="vcdm", issuer=ISSUER), SIGNER, CREATED, cryptosuite)
    assert proofs.verify_proof(signed, signed["proof"], SIGNER.public_key_multibase).ok
    signed["credentialSubject"] = {"id": "did:example:somebody-else"}
    assert proofs.verify_proof(signed, signed["proof"], SIGNER.public_key_multibase).reason == "bad_signature"


@pytest.mark.parametrize("path", [path for path in CREDENTIALS if not judged(path)], ids=identifier)
def test_what_is_refused_cannot_be_signed(path: Path) -> None:
    with pytest.raises(lint.LintError):
        lint.lint(completed(json.loads(path.read_text("utf-8"))), profile="vcdm")
