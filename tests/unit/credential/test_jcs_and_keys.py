from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from laurel.credential import jcs, keys, multibase
from tests.unit.credential.samples import SIGNER


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53 + 1, -(10**400), {1: 2}, "\ud800", {"a": object()}, b"x"]
)
def test_what_has_no_canonical_json_is_named(value: Any) -> None:
    with pytest.raises(jcs.NotCanonicalizable):
        jcs.canonical(value)


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (7.12e16, b"71200000000000000"),
        (71_200_000_000_000_000, b"71200000000000000"), (2**53 + 2, b"9007199254740994"),
        (-(2**60), b"-1152921504606847000"), (-1_152_921_504_606_847_000, b"-1152921504606847000"), (10**21, b"1e+21"),
    ],
)  # fmt: skip
def test_an_integer_that_is_a_double_is_written_as_one(number: float, written: bytes) -> None:
    assert jcs.canonical({"n": [number, True]}) == b'{"n":[' + written + b",true]}"
    assert jcs.canonical(json.loads(written)) == written


def test_canonical_json_orders_by_utf16() -> None:
    assert jcs.canonical({"\ufb33": 1, "\U0001f600": 2, "a": [1.0, -0.0, 1e21]}) == (
        '{"a":[1,0,1e+21],"\U0001f600":2,"\ufb33":1}'.encode()
    )


def test_ed25519_vector_of_rfc_8032() -> None:
    # RFC 8032 §7.1 TEST 3
    signer = keys.Ed25519Signer(
        bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"), "did:example:a#k"
    )
    public = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    expected = bytes.fromhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    assert multibase.ed25519_public_decode(signer.public_key_multibase) == public
    assert signer.sign(b"\xaf\x82") == expected
    assert keys.verify_ed25519(signer.public_key_multibase, expected, b"\xaf\x82")


def test_a_wrong_signature_is_false_and_a_wrong_key_is_an_error() -> None:
    good = SIGNER.sign(b"data")
    public = SIGNER.public_key_multibase
    assert not keys.verify_ed25519(public, good, b"Data")
    assert not keys.verify_ed25519(public, good[:-1], b"data")
    assert not keys.verify_ed25519(public, b"", b"data")
    assert not keys.verify_ed25519(public, bytes(64), b"data")
    with pytest.raises(multibase.MultibaseError):
        keys.verify_ed25519("z6MkNotAKey", good, b"data")


def _signed(count: int) -> list[tuple[bytes, bytes]]:
    return [(SIGNER.sign(data), data) for data in (b"credential %d" % number for number in range(count))]


@pytest.mark.parametrize("count", [1, 2, 125])
def test_what_this_process_signed_is_checked_at_once(count: int) -> None:
    assert keys.made_by_ed25519(SIGNER.public_key_multibase, _signed(count))


def test_one_fault_among_many_signatures_is_seen() -> None:
    key, signed = SIGNER.public_key_multibase, _signed(9)
    signature, data = signed[4]

    def seen(*wrong: tuple[bytes, bytes]) -> bool:
        return not keys.made_by_ed25519(key, [*signed[:4], *wrong, *signed[5:]])

    for position in range(64):
        for bit in range(8):
            changed = bytearray(signature)
            changed[position] ^= 1 << bit
            assert seen((bytes(changed), data)), (position, bit)
    assert seen((signature, data + b" "))
    assert seen((SIGNER.sign(b"other"), data))
    assert seen((signature[:-1], data))
    assert seen((signature + b"\0", data))
    assert seen((b"", data))
    assert seen((bytes(64), data))
    other = keys.Ed25519Signer(bytes(31) + b"\1", SIGNER.verification_method)
    assert seen((other.sign(data), data))
    assert not keys.made_by_ed25519(other.public_key_multibase, signed)
    (one, first), (two, second) = signed[:2]
    assert not keys.made_by_ed25519(key, [(two, first), (one, second), *signed[2:]])
    # Verifiers refuse a scalar beyond the order of the base point (RFC 8032 §5.1.7), though its equation holds.
    order = 2**252 + 27742317777372353535851937790883648493
    beyond = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert seen((signature[:32] + beyond, data))


def test_nothing_signed_is_not_told_as_checked() -> None:
    assert not keys.made_by_ed25519(SIGNER.public_key_multibase, [])
    with pytest.raises(multibase.MultibaseError):
        keys.made_by_ed25519("zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", _signed(1))


def test_a_signer_travels_to_worker_processes_and_keeps_its_secret_from_logs() -> None:
    clone = pickle.loads(pickle.dumps(SIGNER))
    assert clone.sign(b"x") == SIGNER.sign(b"x")
    assert clone.verification_method == SIGNER.verification_method
    assert multibase.ed25519_seed_encode(bytes(range(32))) not in repr(SIGNER)
    assert bytes(range(32)).hex() not in repr(SIGNER)
