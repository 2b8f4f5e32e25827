from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential import multibase


@pytest.mark.parametrize(
    ("data", "text"),
    [  # draft-msporny-base58-03 §5 and edge cases
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (
            b"The quick brown fox jumps over the lazy dog.",
            "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
        ),
        (bytes.fromhex("0000287fb4cd"), "11233QC4"),
        (b"", ""),
        (b"\0", "1"),
        (b"\0\0\0", "111"),
        (b"9", "z"),
        (b":", "21"),
    ],
)
def test_base58_vectors(data: bytes, text: str) -> None:
    assert multibase.base58_encode(data) == text
    assert multibase.base58_decode(text) == data


@given(st.binary(max_size=300))
def test_base58_round_trip_and_one_spelling(data: bytes) -> None:
    text = multibase.base58_encode(data)
    number, spelled = int.from_bytes(data, "big"), ""  # the textbook way, digit by digit
    while number:
        number, digit = divmod(number, 58)
        spelled = multibase._ALPHABET[digit] + spelled
    assert text == "1" * (len(data) - len(data.lstrip(b"\0"))) + spelled
    assert multibase.base58_decode(text) == data


@pytest.mark.parametrize("text", ["0", "O", "I", "l", "abc!", "ab c", "é", "2\ud800"])
def test_foreign_characters_are_refused(text: str) -> None:
    with pytest.raises(multibase.MultibaseError):
        multibase.base58_decode(text)


def test_long_text_is_refused_before_it_costs_anything() -> None:
    with pytest.raises(multibase.MultibaseError, match="at most"):
        multibase.decode("z" + "2" * 1_000_000)


@given(st.binary(max_size=60))
def test_base64url_round_trip(data: bytes) -> None:
    text = multibase.base64url_encode(data)
    assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert multibase.base64url_decode(text) == data
    assert multibase.decode("u" + text) == data


@pytest.mark.parametrize("text", ["a", "abcde", "ab==", "a+b/", "ab\n", "aaé", "aB", "abF"])
def test_base64url_is_strict(text: str) -> None:
    with pytest.raises(multibase.MultibaseError):
        multibase.base64url_decode(text)


def test_multikeys_name_their_type() -> None:
    public = multibase.ed25519_public_encode(bytes(32))
    secret = multibase.ed25519_seed_encode(bytes(32))
    assert public.startswith("z6Mk")
    assert secret.startswith("z3u2")
    assert multibase.ed25519_public_decode(public) == multibase.ed25519_seed_decode(secret) == bytes(32)
    p256 = multibase.encode(b"\x80\x24" + bytes(33))
    for wrong in (secret, p256, public[:-1], "z", "", "u" + public[1:], "f00"):
        with pytest.raises(multibase.MultibaseError):
            multibase.ed25519_public_decode(wrong)
    with pytest.raises(multibase.MultibaseError):
        multibase.ed25519_public_encode(bytes(31))
