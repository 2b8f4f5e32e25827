"""Multibase, Multikey and JSON Web Keys: refused with a reason, or written again as they were."""

from __future__ import annotations

from laurel.credential import multibase, multikey
from tests.fuzz.shaping import Bytes
from tests.unit.credential.samples import SIGNER

JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "fyNYMN0976ci7xqiSdag3buk-ZCwgXU4kz9XNkBlNUI",
    "y": "hW2ojTNfH7Jbi8--CJUo3OCbH3y5n91g-IMA9MLMbTU",
}
SEEDS = (
    b"\x00" + SIGNER.public_key_multibase.encode(), b"\x00zDnaepBuvsQ8cpsWrVKw8fbpGpvPeNSjVPTWoq6cRqaYzBKVP",
    b"\x00z82LkvCwHNreneWpsgPEbV3gu1C6NFJEBg4srfJ5gdxEsMGRJUz2sG9FE42shbn2xkZJh54", b"\x00uAAEC", b"\x00z1111",
    b"\x01\x05\x07",
)  # fmt: skip


def read(data: bytes) -> None:
    source = Bytes(data)
    if source.number() % 2:
        try:
            multikey.from_jwk(source.changed(dict(JWK)))
        except multibase.MultibaseError:
            pass
        return
    text = data[1:].decode("utf-8", "replace")
    try:
        raw = multibase.decode(text)
    except multibase.MultibaseError:
        raw = None
    if raw is not None and text[:1] == "z":
        assert multibase.encode(raw) == text
    if raw is not None and text[:1] == "u":
        assert "u" + multibase.base64url_encode(raw) == text
    try:
        key = multikey.decode_public(text)
    except multibase.MultibaseError:
        return
    assert raw is not None
    assert key.type
