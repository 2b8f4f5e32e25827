"""The written forms: what is a DID and what only looks like one."""

from __future__ import annotations

import pytest

from laurel.credential.multibase import encode
from laurel.credential.text import is_did


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
