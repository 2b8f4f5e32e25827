"""The written forms: what is a DID and what only looks like one."""

from __future__ import annotations

import pytest

from laurel.credential.multibase import encode
from laurel.credential.text import is_did, parse_timestamp, timestamp


@pytest.mark.parametrize(
    "text",
    [
        "did:web:x.example",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK#z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        "did:key:" + encode(b"\x80\x24\x02" + b"\x07" * 32),  # P-256, as many wallets have
        "did:key:" + encode(b"\xec\x01" + b"\x07" * 32),
    ],
)
def test_a_did_is_one(text: str) -> None:
    assert is_did(text)


@pytest.mark.parametrize(
    "text",
    [
        "did:key:z6Mk",
        "did:key:z",
        "did:key:x",
        "did:key:6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2do",
        "did:key:" + encode(b"\xed\x01" + b"\x07" * 33),
        "did:key:" + encode(b"\xaa\x01" + b"\x07" * 32),
        "did:key:z" + "1" * 5000,
        "did:key:",
        "did:",
    ],
)
def test_what_holds_no_key_is_no_did_key(text: str) -> None:
    assert not is_did(text)


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "0001-01-01T00:00:59+00:01", "9999-12-31T23:59:59-14:00"]
)
def test_what_is_outside_the_calendar_in_utc_is_no_timestamp(text: str) -> None:
    assert parse_timestamp(text) is None


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0001-01-01T14:00:00+14:00", "0001-01-01T00:00:00Z"),
        ("9999-12-31T09:59:59-14:00", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_the_ends_of_the_calendar_are_read(text: str, written: str) -> None:
    moment = parse_timestamp(text)
    assert moment is not None
    assert timestamp(moment) == written
