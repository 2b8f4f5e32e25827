"""W3C VC DI EdDSA 1.0, appendix B: transformation, hash, signature bytes and verification of the official vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from laurel.credential import did, jsonld, keys, multibase, proof_sets, proofs


@pytest.fixture(scope="module")
def folder(vectors: Path) -> Path:
    return vectors / "w3c-vc-di-eddsa" / "TestVectors"


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def signer(folder: Path) -> keys.Ed25519Signer:
    pair = read(folder / "keyPair.json")
    seed = multibase.ed25519_seed_decode(pair["privateKeyMultibase"])
    made = keys.Ed25519Signer(seed, "did:key:x#x")
    assert made.public_key_multibase == pair["publicKeyMultibase"]
    assert multibase.ed25519_seed_encode(seed) == pair["privateKeyMultibase"]
    return made


CASES = [
    (proofs.RDFC, "eddsa-rdfc-2022", "DataInt"),
    (proofs.JCS, "eddsa-jcs-2022", "JCS"),
    (proofs.ED25519_2020, "Ed25519Signature2020", "EdSig"),
]


@pytest.mark.usefixtures("examples_context")
@pytest.mark.parametrize(("cryptosuite", "name", "suffix"), CASES)
def test_each_step_gives_the_published_bytes(folder: Path, cryptosuite: str, name: str, suffix: str) -> None:
    here = folder / name
    document, configuration = read(here / f"signed{suffix}.json"), read(here / f"proofConfig{suffix}.json")
    proof = document.pop("proof")
    document_form = proofs.canonical(document, cryptosuite)
    configuration_form = proofs.canonical(configuration, cryptosuite)
    assert document_form.decode() == (here / f"canonDoc{suffix}.txt").read_text("utf-8")
    assert configuration_form.decode() == (here / f"proofCanon{suffix}.txt").read_text("utf-8")
    assert hashlib.sha256(document_form).hexdigest() == (here / f"docHash{suffix}.txt").read_text()
    assert hashlib.sha256(configuration_form).hexdigest() == (here / f"proofHash{suffix}.txt").read_text()
    data = proofs.hash_data(configuration_form, document_form)
    assert data.hex() == (here / f"combinedHash{suffix}.txt").read_text()
    signature = signer(folder).sign(data)
    assert signature.hex() == (here / f"sigHex{suffix}.txt").read_text()
    assert multibase.encode(signature) == (here / f"sigBTC58{suffix}.txt").read_text() == proof["proofValue"]


@pytest.mark.usefixtures("examples_context")
@pytest.mark.parametrize(("cryptosuite", "name", "suffix"), CASES)
def test_the_signed_document_verifies_and_a_changed_one_does_not(
    folder: Path, cryptosuite: str, name: str, suffix: str
) -> None:
    document = read(folder / name / f"signed{suffix}.json")
    public = read(folder / "keyPair.json")["publicKeyMultibase"]
    result = proofs.verify_proof(document, document["proof"], public)
    assert result.ok, result
    assert result.proof is not None
    assert result.proof.cryptosuite == cryptosuite
    document["name"] = "Another name"
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


def test_the_contexts_of_the_vectors_are_not_bundled(folder: Path) -> None:
    public = read(folder / "keyPair.json")["publicKeyMultibase"]
    for name in ("eddsa-rdfc-2022", "eddsa-rdfc-2022/employ"):
        document = read(folder / name / "signedDataInt.json")
        result = proofs.verify_proof(document, document["proof"], public)
        assert (result.reason, result.outcome) == ("unknown_context", "not_checked")


def resolve(method: str) -> str:
    return did.find_verification_method(did.resolve_did_key(method.partition("#")[0]), method)


SETS_AND_CHAINS = [("signedProofSet1", 1), ("signedProofSet2", 2), ("signedProofChain1", 3), ("signedProofChain2", 4)]


@pytest.mark.usefixtures("examples_context")
@pytest.mark.parametrize(("name", "count"), SETS_AND_CHAINS)
def test_proof_sets_and_chains_verify(folder: Path, name: str, count: int) -> None:
    document = read(folder / "proof-set-chain" / f"{name}.json")
    results = proof_sets.verify_proofs(document, resolve)
    assert len(results) == count
    assert all(result.ok for result in results), results
    for result in proof_sets.verify_proofs({**document, "name": "Another name"}, resolve):
        assert result.reason == "bad_signature"


@pytest.mark.usefixtures("examples_context")
@pytest.mark.parametrize(("name", "dependent"), [("signedProofChain1", {2}), ("signedProofChain2", {2, 3})])
def test_a_chain_is_worth_no_more_than_what_it_builds_on(folder: Path, name: str, dependent: set[int]) -> None:
    document = read(folder / "proof-set-chain" / f"{name}.json")
    attached = document["proof"]
    changed = {**attached[0], "created": "2020-01-01T00:00:00Z"}
    results = proof_sets.verify_proofs({**document, "proof": [changed, *attached[1:]]}, resolve)
    assert {place for place, result in enumerate(results) if not result.ok} == {0} | dependent
    results = proof_sets.verify_proofs({**document, "proof": attached[1:]}, resolve)
    assert results[0].ok
    assert results[1].reason == "missing_previous_proof"
    assert not any(result.ok for result in results[1:])
    # The order in which the proofs stand says nothing.
    assert all(result.ok for result in proof_sets.verify_proofs({**document, "proof": attached[::-1]}, resolve))
