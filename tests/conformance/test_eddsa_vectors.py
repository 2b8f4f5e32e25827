"""W3C VC DI EdDSA 1.0, appendix B: transformation, hash, signature bytes and verification of the official vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from laurel.credential import jsonld, keys, multibase, proofs

EXAMPLES_V2 = "https://www.w3.org/ns/credentials/examples/v2"
# The vectors use a context that production never loads; what it says stands inline here (same expansion).
EXAMPLES_INLINE = {"@vocab": "https://www.w3.org/ns/credentials/examples#"}


@pytest.fixture(scope="module")
def folder(vectors: Path) -> Path:
    return vectors / "w3c-vc-di-eddsa" / "TestVectors"


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def inlined(document: dict[str, Any]) -> dict[str, Any]:
    listed = [EXAMPLES_INLINE if url == EXAMPLES_V2 else url for url in document["@context"]]
    return {**document, "@context": listed}


def signer(folder: Path) -> keys.Ed25519Signer:
    pair = read(folder / "keyPair.json")
    seed = multibase.ed25519_seed_decode(pair["privateKeyMultibase"])
    made = keys.Ed25519Signer(seed, "did:key:x#x")
    assert made.public_key_multibase == pair["publicKeyMultibase"]
    assert multibase.ed25519_seed_encode(seed) == pair["privateKeyMultibase"]
    return made


CASES = [(proofs.RDFC, "eddsa-rdfc-2022", "DataInt"), (proofs.JCS, "eddsa-jcs-2022", "JCS")]


@pytest.mark.parametrize(("cryptosuite", "name", "suffix"), CASES)
def test_each_step_gives_the_published_bytes(folder: Path, cryptosuite: str, name: str, suffix: str) -> None:
    here = folder / name
    unsigned, configuration = read(folder / "unsigned.json"), read(here / f"proofConfig{suffix}.json")
    if cryptosuite == proofs.RDFC:
        unsigned, configuration = inlined(unsigned), inlined(configuration)
    document_form = proofs.canonical(unsigned, cryptosuite)
    configuration_form = proofs.canonical(configuration, cryptosuite)
    assert document_form.decode() == (here / f"canonDoc{suffix}.txt").read_text("utf-8")
    assert configuration_form.decode() == (here / f"proofCanon{suffix}.txt").read_text("utf-8")
    assert hashlib.sha256(document_form).hexdigest() == (here / f"docHash{suffix}.txt").read_text()
    assert hashlib.sha256(configuration_form).hexdigest() == (here / f"proofHash{suffix}.txt").read_text()
    data = proofs.hash_data(configuration_form, document_form)
    assert data.hex() == (here / f"combinedHash{suffix}.txt").read_text()
    signature = signer(folder).sign(data)
    assert signature.hex() == (here / f"sigHex{suffix}.txt").read_text()
    assert multibase.encode(signature) == (here / f"sigBTC58{suffix}.txt").read_text()


@pytest.mark.parametrize(("cryptosuite", "name", "suffix"), CASES)
def test_the_signed_document_verifies_and_a_changed_one_does_not(
    folder: Path, cryptosuite: str, name: str, suffix: str
) -> None:
    document = read(folder / name / f"signed{suffix}.json")
    public = read(folder / "keyPair.json")["publicKeyMultibase"]
    if cryptosuite == proofs.RDFC:
        assert proofs.verify_proof(document, document["proof"], public).reason == "unknown_context"
        document = inlined(document)
    assert proofs.verify_proof(document, document["proof"], public).ok
    document["credentialSubject"]["alumniOf"] = "Another School"
    assert proofs.verify_proof(document, document["proof"], public).reason == "bad_signature"


def test_the_second_rdfc_vector_from_its_canonical_forms(folder: Path) -> None:
    # Its citizenship context is not published with the vectors: start from the canonical forms.
    here = folder / "eddsa-rdfc-2022" / "employ"
    document_form = (here / "canonDocDataInt.txt").read_bytes()
    configuration_form = (here / "proofCanonDataInt.txt").read_bytes()
    assert jsonld.canonicalize(document_form) == document_form
    data = proofs.hash_data(jsonld.canonicalize(configuration_form), document_form)
    assert data.hex() == (here / "combinedHashDataInt.txt").read_text()
    assert multibase.encode(signer(folder).sign(data)) == (here / "sigBTC58DataInt.txt").read_text()


@pytest.mark.parametrize(
    ("name", "count"),
    [("signedProofSet1", 1), ("signedProofSet2", 2), ("signedProofChain1", 3), ("signedProofChain2", 4)],
)
def test_proof_sets_and_chains_verify(folder: Path, name: str, count: int) -> None:
    document = inlined(read(folder / "proof-set-chain" / f"{name}.json"))
    attached = proofs.proofs_of(document)
    assert len(attached) == count
    for proof in attached:
        public = proof["verificationMethod"].partition("#")[2]
        result = proofs.verify_proof(document, proof, public)
        assert result.ok, result
        if "previousProof" in proof:
            earlier = next(other for other in attached if other.get("id") in proof["previousProof"])
            changed = {**earlier, "created": "2020-01-01T00:00:00Z"}
            tampered = {**document, "proof": [changed if other is earlier else other for other in attached]}
            assert proofs.verify_proof(tampered, proof, public).reason == "bad_signature"
            alone = {**document, "proof": [proof]}
            assert proofs.verify_proof(alone, proof, public).reason == "missing_previous_proof"
