"""RFC 8785 test data of its author, and the did:key vectors of the W3C Credentials Community Group."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laurel.credential import did, jcs, keys, multibase, multikey


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_rfc_8785(vectors: Path, name: str) -> None:
    folder = vectors / "rfc8785-jcs" / "testdata"
    canonical = jcs.canonical(json.loads((folder / "input" / f"{name}.json").read_text("utf-8")))
    assert canonical == (folder / "output" / f"{name}.json").read_bytes()
    assert canonical.hex() == "".join((folder / "outhex" / f"{name}.txt").read_text().split())


def test_did_key(vectors: Path) -> None:
    cases = json.loads((vectors / "did-key" / "test-vectors" / "ed25519-x25519.json").read_text("utf-8"))
    assert len(cases) >= 5
    for identifier, case in cases.items():
        signer = keys.Ed25519Signer(bytes.fromhex(case["seed"]), f"{identifier}#x")
        assert did.did_key(signer.public_key_multibase) == identifier
        expected = case["didDocument"]
        published = expected["verificationMethod"][0]
        if "publicKeyJwk" in published:
            raw = multibase.base64url_decode(published["publicKeyJwk"]["x"])
        else:
            raw = multibase.base58_decode(published["publicKeyBase58"])
        assert multibase.ed25519_public_encode(raw) == signer.public_key_multibase
        resolved = did.resolve_did_key(identifier)
        assert resolved["id"] == expected["id"]
        assert resolved["verificationMethod"][0]["id"] == published["id"]
        assert resolved["assertionMethod"] == [published["id"]]
        assert did.find_verification_method(resolved, published["id"]) == signer.public_key_multibase


def test_did_key_of_nist_curves(vectors: Path) -> None:
    cases = json.loads((vectors / "did-key" / "test-vectors" / "nist-curves.json").read_text("utf-8"))
    seen: dict[str, int] = {}
    for identifier, case in cases.items():
        published = case["didDocument"]["verificationMethod"][0]
        if "publicKeyBase58" in published:  # written before JWK and Multikey: the key of the DID is all that counts
            scalar = multibase.base58_decode(case["verificationMethod"]["privateKeyBase58"])
            assert did.did_key(keys.EcdsaSigner("P-256", scalar, "x:y#z").public_key_multibase) == identifier
            with pytest.raises(did.DidError, match="unsupported_key"):
                did.find_verification_method(case["didDocument"], published["id"])
            continue
        secret = case["verificationMethod"]["privateKeyJwk"]
        curve = secret["crv"]
        seen[curve] = seen.get(curve, 0) + 1
        if curve not in ("P-256", "P-384"):
            with pytest.raises(did.DidError, match="unsupported_key"):
                did.resolve_did_key(identifier)
            continue
        signer = keys.EcdsaSigner(curve, multibase.base64url_decode(secret["d"]), published["id"])
        assert did.did_key(signer.public_key_multibase) == identifier
        assert multikey.from_jwk(published["publicKeyJwk"]) == signer.public_key_multibase
        assert multikey.to_jwk(signer.public_key_multibase) == published["publicKeyJwk"]
        resolved = did.resolve_did_key(identifier)
        assert did.find_verification_method(resolved, published["id"]) == signer.public_key_multibase
        # The document as published, with its JsonWebKey2020, gives the same key.
        assert did.find_verification_method(case["didDocument"], published["id"]) == signer.public_key_multibase
        with pytest.raises(multibase.MultibaseError, match="secret"):
            multikey.from_jwk(secret)
    assert seen.keys() >= {"P-256", "P-384", "P-521"}
    assert seen["P-256"] >= 2
    assert seen["P-384"] >= 2


def test_did_key_of_rsa(vectors: Path) -> None:
    cases = json.loads((vectors / "did-key" / "test-vectors" / "rsa.json").read_text("utf-8"))
    assert len(cases) >= 2
    for identifier, case in cases.items():
        published = case["didDocument"]["verificationMethod"][0]
        resolved = did.resolve_did_key(identifier)
        key = multikey.from_jwk(case["publicKeyJwk"])
        assert did.did_key(key) == identifier == resolved["id"]
        assert multikey.to_jwk(key) == case["publicKeyJwk"] == published["publicKeyJwk"]
        assert resolved["assertionMethod"] == [published["id"]]
        assert did.find_verification_method(resolved, published["id"]) == key
        assert did.find_verification_method(case["didDocument"], published["id"]) == key
        with pytest.raises(multibase.MultibaseError, match="secret"):
            multikey.from_jwk(case["privateKeyJwk"])


def test_other_did_keys_are_told_apart(vectors: Path) -> None:
    seen = 0
    for name in ("secp256k1", "bls12381"):
        for identifier in json.loads((vectors / "did-key" / "test-vectors" / f"{name}.json").read_text("utf-8")):
            with pytest.raises(did.DidError, match="unsupported_key"):
                did.resolve_did_key(identifier)
            seen += 1
    assert seen >= 5
