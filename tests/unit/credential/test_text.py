"""The written forms: what is a DID and what only looks like one."""

from __future__ import annotations

import pytest

from laurel.credential.multibase import encode
from laurel.credential.text import is_did, parse_timestamp, timestamp, usual_timestamp


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


# XML Schema 1.1 §3.3.7, and what it is in UTC; beyond the calendar its last or first moment.
UNUSUAL = [
    ("2020-01-01T24:00:00Z", "2020-01-02T00:00:00Z"),
    ("2019-12-31T24:00:00.000+01:00", "2019-12-31T23:00:00Z"),
    ("2020-02-29T23:59:59.1234567890123Z", "2020-02-29T23:59:59Z"),
    (f"2020-02-29T23:59:59.{'9' * 5000}-00:30", "2020-03-01T00:29:59Z"),
    ("10000-12-31T00:00:00Z", "9999-12-31T23:59:59Z"),
    ("10000-01-01T00:00:00+14:00", "9999-12-31T10:00:00Z"),
    ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z"),
    ("9999-12-31T24:00:00Z", "9999-12-31T23:59:59Z"),
    (f"{'9' * 6000}6-02-29T00:00:00Z", "9999-12-31T23:59:59Z"),
    ("0000-02-29T00:00:00Z", "0001-01-01T00:00:00Z"),
    ("0000-12-31T23:59:59-01:00", "0001-01-01T00:59:59Z"),
    ("-0044-03-15T00:00:00Z", "0001-01-01T00:00:00Z"),
    (f"-{'9' * 6000}-02-28T00:00:00Z", "0001-01-01T00:00:00Z"),
    ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z"),
    ("0001-01-01T00:00:59+00:01", "0001-01-01T00:00:00Z"),
]


@pytest.mark.parametrize(("text", "written"), UNUSUAL)
def test_every_timestamp_of_xml_schema_is_read_and_the_unusual_are_not_taken_in(text: str, written: str) -> None:
    moment = parse_timestamp(text)
    assert moment is not None
    assert timestamp(moment) == written
    assert usual_timestamp(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01T24:00:01Z", "2020-01-01T24:00:00.001Z", "2020-01-01T24:00:00", "2020-01-01T25:00:00Z",
        "2021-02-29T24:00:00Z", "10001-02-29T00:00:00Z", "-0001-02-29T00:00:00Z", "10000-00-10T00:00:00Z",
        f"{'9' * 6000}-02-29T00:00:00Z", "012345-01-01T00:00:00Z", "+2020-01-01T00:00:00Z", "2020-06-30T23:59:60Z",
        "2020-01-01T00:00:00.Z", "2020-01-01T00:00:00+14:01", "020-01-01T00:00:00Z", "", None, 20200101,
    ],
)  # fmt: skip
def test_what_xml_schema_does_not_allow_is_no_timestamp(text: object) -> None:
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
    moment = usual_timestamp(text)
    assert moment is not None
    assert timestamp(moment) == written
