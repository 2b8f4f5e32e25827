from __future__ import annotations

import contextlib
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential import did, keys, multibase, multikey
from tests.unit.credential.samples import P256_SIGNER, P384_SIGNER, RSA_SIGNER, SIGNER

SIGNERS: tuple[tuple[multikey.KeyType, str, keys.Signer], ...] = (
    ("Ed25519", "z6Mk", SIGNER),
    ("P-256", "zDn", P256_SIGNER),
    ("P-384", "z82", P384_SIGNER),
    ("RSA", "z4MX", RSA_SIGNER),
)
EACH = pytest.mark.parametrize(("kind", "prefix", "signer"), SIGNERS, ids=[kind for kind, _, _ in SIGNERS])


@EACH
def test_a_key_is_the_same_in_every_form(kind: multikey.KeyType, prefix: str, signer: keys.Signer) -> None:
    text = signer.public_key_multibase
    assert text.startswith(prefix)
    key = multikey.decode_public(text)
    assert (key.type, key.multikey) == (kind, text)
    jwk = multikey.to_jwk(text)
    assert multikey.from_jwk(jwk) == text
    for algorithm in multikey.JWK_ALGORITHMS[kind]:
        meant = {"kid": "1", "use": "sig", "alg": algorithm, "key_ops": ["verify"]}
        assert multikey.from_jwk({**jwk, **meant}) == text
    identifier = did.did_key(text)
    document = did.resolve_did_key(identifier)
    for relationship in ("assertionMethod", "authentication"):
        assert did.find_verification_method(document, f"{identifier}#{text}", relationship) == text
    with pytest.raises(did.DidError, match="keyAgreement"):
        did.find_verification_method(document, f"{identifier}#{text}", "keyAgreement")


@EACH
def test_a_signature_is_of_its_key_and_data_only(kind: multikey.KeyType, prefix: str, signer: keys.Signer) -> None:
    key = multikey.decode_public(signer.public_key_multibase)
    signature = signer.sign(b"data")
    assert signature == signer.sign(b"data")
    assert pickle.loads(pickle.dumps(signer)).sign(b"data") == signature
    assert keys.verify_signature(key, signature, b"data")
    assert not keys.verify_signature(key, signature, b"date")
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), b"\xff" * len(signature)):
        assert not keys.verify_signature(key, wrong, b"data")
    for _, _, other in SIGNERS:
        if other is not signer:
            assert not keys.verify_signature(multikey.decode_public(other.public_key_multibase), signature, b"data")


@given(data=st.data())
@pytest.mark.parametrize("signer", [P256_SIGNER, P384_SIGNER], ids=["P-256", "P-384"])
def test_no_bit_of_an_ecdsa_signature_can_be_changed(signer: keys.EcdsaSigner, data: st.DataObject) -> None:
    key = multikey.decode_public(signer.public_key_multibase)
    signature = bytearray(signer.sign(b"data"))
    bit = data.draw(st.integers(0, len(signature) * 8 - 1))
    signature[bit // 8] ^= 1 << bit % 8
    assert not keys.verify_signature(key, bytes(signature), b"data")


@pytest.mark.parametrize("signer", [P256_SIGNER, P384_SIGNER], ids=["P-256", "P-384"])
def test_the_repr_of_a_signer_does_not_hold_its_secret(signer: keys.EcdsaSigner) -> None:
    assert repr(signer).startswith("EcdsaSigner('P-")
    assert "000102" not in repr(signer)


def test_scalars_out_of_range_are_refused() -> None:
    with pytest.raises(multibase.MultibaseError, match="32 bytes"):
        keys.EcdsaSigner("P-256", bytes(31), "x:y#z")
    for scalar in (bytes(32), b"\xff" * 32):
        with pytest.raises(ValueError, match=r"key|private_value"):
            keys.EcdsaSigner("P-256", scalar, "x:y#z")


P256 = multikey.decode_public(P256_SIGNER.public_key_multibase).raw


@pytest.mark.parametrize(
    "text",
    [
        "", "z", "zDn", "u7QE", P256_SIGNER.public_key_multibase[1:],
        multibase.encode(b"\x80\x24" + P256[:-1]),
        multibase.encode(b"\x80\x24" + P256 + b"\0"),
        multibase.encode(b"\x80\x24\x04" + P256[1:]),  # not compressed
        multibase.encode(b"\x80\x24\x00" + P256[1:]),
        multibase.encode(b"\x80\x24\x02" + b"\xff" * 32),  # not on the curve
        multibase.encode(b"\x81\x24" + P256),  # a key of P-256 said to be of P-384
        multibase.encode(b"\xe7\x01" + P256),  # secp256k1
        multibase.encode(b"\x82\x24" + bytes(67)),  # P-521
        multibase.encode(b"\x86\x26" + bytes(32)),  # a secret key
    ],
)  # fmt: skip
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(multibase.MultibaseError):
        multikey.decode_public(text)
    with pytest.raises(multibase.MultibaseError):
        did.did_key(text)


JWK = multikey.to_jwk(P256_SIGNER.public_key_multibase)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": "AAAA"}, "secret"),
        ({"kty": "oct", "k": "AAAA"}, "secret"),
        ({"kty": "oct"}, "kty"),
        ({"kty": "RSA"}, "base64url number"),
        ({"use": "enc"}, "meant"),
        ({"key_ops": ["deriveKey"]}, "meant"),
        ({"key_ops": []}, "meant"),
        ({"alg": "ECDH-ES"}, "meant for"),
        ({"alg": ["ES256"]}, "meant for"),
        ({"crv": "P-521"}, "crv"),
        ({"crv": "secp256k1"}, "crv"),
        ({"crv": ["P-256"]}, "crv"),
        ({"crv": "P-384"}, "32 bytes, not|has 32 bytes"),
        ({"x": JWK["y"]}, "not a point"),
        ({"x": None}, "base64url"),
        ({"x": "A" * 5000}, "base64url"),
        ({"y": JWK["y"] + "="}, "base64url"),
        ({"y": JWK["y"][:-4] + "A"}, "y of the JWK has|not base64url"),
        ({"y": 5}, "base64url"),
    ],
)
def test_a_jwk_that_is_no_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(multibase.MultibaseError, match=message):
        multikey.from_jwk({**JWK, **change})


RSA_JWK = multikey.to_jwk(RSA_SIGNER.public_key_multibase)


def rsa_jwk(bits: int, exponent: int = 65537) -> dict[str, Any]:
    def number(value: int) -> str:
        return multibase.base64url_encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))

    return {"kty": "RSA", "n": number((1 << bits) - 1), "e": number(exponent)}


@pytest.mark.parametrize(
    ("jwk", "message"),
    [
        (rsa_jwk(2047), "2047 bits"),
        (rsa_jwk(1024), "1024 bits"),
        (rsa_jwk(4097), "4096|4097 bits"),
        (rsa_jwk(9000), "at most 4096 bits"),
        (rsa_jwk(2048, 1), "exponent"),
        (rsa_jwk(2048, 65536), "exponent"),
        (rsa_jwk(2048, (1 << 32) + 1), "exponent"),
        ({**RSA_JWK, "n": "AA" + RSA_JWK["n"]}, "zero byte|not base64url"),
        ({**RSA_JWK, "e": ""}, "base64url number"),
        ({**RSA_JWK, "e": "AQAB="}, "base64url"),
        ({**RSA_JWK, "alg": "PS256"}, "meant for 'PS256'"),
        ({**RSA_JWK, "alg": "RS1"}, "meant for"),
        ({**RSA_JWK, "p": "AQAB"}, "secret"),
    ],
)
def test_an_rsa_jwk_that_is_no_key(jwk: dict[str, Any], message: str) -> None:
    with pytest.raises(multibase.MultibaseError, match=message):
        multikey.from_jwk(jwk)


def test_a_secret_rsa_key_as_text() -> None:
    secret = RSA_SIGNER.__reduce__()[1][0]
    text = multikey.encode_secret("RSA", secret)
    assert multikey.decode_secret(text) == ("RSA", secret)
    for wrong in (b"", secret[:-1], multikey.decode_public(RSA_SIGNER.public_key_multibase).raw):
        with pytest.raises(multibase.MultibaseError):
            multikey.encode_secret("RSA", wrong)
        with pytest.raises(multibase.MultibaseError):
            keys.RsaSigner(wrong, "x:y#z")
    assert multibase.base64url_encode(secret)[:20] not in repr(RSA_SIGNER)


@pytest.mark.parametrize("cut", [1, 100])
def test_an_rsa_multikey_that_is_no_key(cut: int) -> None:
    raw = multikey.decode_public(RSA_SIGNER.public_key_multibase).raw
    for wrong in (raw[:-cut], raw + bytes(cut), b""):
        with pytest.raises(multibase.MultibaseError):
            multikey.decode_public(multibase.encode(b"\x85\x24" + wrong))


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops"]),
        st.sampled_from(
            ["EC", "OKP", "RSA", "P-256", "P-384", "Ed25519", JWK["x"], JWK["y"], RSA_JWK["n"], RSA_JWK["e"]]
        )
        | st.text()
        | st.integers(),
    )
)
def test_no_jwk_makes_it_raise_anything_else(jwk: dict[str, Any]) -> None:
    with contextlib.suppress(multibase.MultibaseError):
        multikey.decode_public(multikey.from_jwk(jwk))


ISSUER = "did:web:x.example"


def document(**method: Any) -> dict[str, Any]:
    entry = {"id": f"{ISSUER}#k", "controller": ISSUER, **method}
    return {"id": ISSUER, "verificationMethod": [entry], "assertionMethod": [f"{ISSUER}#k"]}


def test_a_verification_method_as_json_web_key() -> None:
    for kind in ("JsonWebKey", "JsonWebKey2020"):
        for _, _, signer in SIGNERS:
            found = document(type=kind, publicKeyJwk=multikey.to_jwk(signer.public_key_multibase))
            assert did.find_verification_method(found, f"{ISSUER}#k") == signer.public_key_multibase


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ({"type": "JsonWebKey", "publicKeyJwk": {**JWK, "d": "AA"}}, "secret_key_published"),
        ({"type": "JsonWebKey", "publicKeyMultibase": SIGNER.public_key_multibase}, "unsupported_key"),
        ({"type": "Multikey", "publicKeyJwk": JWK}, "unsupported_key"),
        (
            {"type": "JsonWebKey", "publicKeyJwk": JWK, "publicKeyMultibase": SIGNER.public_key_multibase},
            "malformed_document",
        ),
        ({"type": ["Multikey"], "publicKeyMultibase": SIGNER.public_key_multibase}, "unsupported_key"),
        (
            {"type": "Ed25519VerificationKey2020", "publicKeyMultibase": P256_SIGNER.public_key_multibase},
            "unsupported_key",
        ),
    ],
)
def test_a_verification_method_that_is_not_read(method: dict[str, Any], code: str) -> None:
    with pytest.raises(did.DidError) as refused:
        did.find_verification_method(document(**method), f"{ISSUER}#k")
    assert refused.value.code == code
