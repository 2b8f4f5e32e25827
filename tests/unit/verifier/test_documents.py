"""What people hand in: told by what it is, whatever it is called; and what is none is named."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from laurel.credential.baking import bake_png, bake_svg
from laurel_verifier.documents import (
    MAX_DOCUMENT,
    Address,
    Document,
    Unreadable,
    Unsupported,
    address,
    credential_id_at,
    from_json,
    read,
)

JWS = b"eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJ4In0.c2ln"
JSON = b'{"@context":["https://www.w3.org/ns/credentials/v2"],"type":["VerifiableCredential"]}'
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return file.getvalue()


def refused(body: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        read(body)
    return caught.value.code


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n\t "])
@pytest.mark.parametrize("after", [b"", b"\n", b" \r\n"])
def test_text(before: bytes, after: bytes) -> None:
    assert read(before + JSON + after) == Document("json", JSON, json.loads(JSON))
    assert read(before + JWS + after) == Document("jwt", JWS)
    assert read(before + b"https://badges.example/c/1?a=b" + after) == Address("https://badges.example/c/1?a=b")


def test_pictures() -> None:
    for baked, what in ((bake_png(png(), JSON), "png"), (bake_svg(SVG, JSON), "svg")):
        assert read(baked) == Document("json", JSON, json.loads(JSON), what)  # type: ignore[arg-type]
    for baked, what in ((bake_png(png(), JWS), "png"), (bake_svg(SVG, JWS), "svg")):
        assert read(baked) == Document("jwt", JWS, None, what)  # type: ignore[arg-type]
    utf16 = bake_svg(SVG, JSON).decode().encode("utf-16")
    assert isinstance(read(utf16), Document)
    assert (refused(png()), refused(SVG)) == ("not_baked", "not_baked")
    assert refused(bake_png(png(), b'{"a":1,"a":2}')) == "duplicate_key"
    assert refused(png()[:-4]) == "damaged_png"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("HTTPS://BADGES.EXAMPLE/C/1", "HTTPS://BADGES.EXAMPLE/C/1"),  # QR codes of capital letters are smaller
        ("http://localhost:8080/c/1", "http://localhost:8080/c/1"),
    ],
)
def test_addresses(text: str, url: str) -> None:
    assert read(text.encode()) == Address(url)
    assert address(f" {text}\n") == Address(url)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty"), (b" \n", "empty"), (b"\xff\xfe\xfd", "not_utf8"), (b"hello", "not_json"), (b"{", "not_json"),
        (b"[" * 10_000, "too_deep"), (b'{"a":NaN}', "not_finite"), (b"a: b", "not_json"),
        (b'{"a":"' + b"x" * MAX_DOCUMENT + b'"}', "too_large"), (b"a.b." + b"c" * (MAX_DOCUMENT * 2), "too_large"),
        (b"\xff\xd8\xff\xe0", "wrong_file"), (b"GIF89a", "wrong_file"), (b"%PDF-1.7", "wrong_file"),
        (b"PK\x03\x04", "wrong_file"), (b"\x1f\x8b", "wrong_file"),
        (b"<!DOCTYPE html><html></html>", "web_page"), (b"  <HTML>", "web_page"), (b"<x/>", "not_an_svg"),
        (b"openid-credential-offer://?credential_offer_uri=https%3A%2F%2Fx", "wallet_link"),
        (b"openid4vp://authorize?client_id=x", "wallet_link"), (b"haip://x", "wallet_link"),
        (b"OPENID-VC://?request_uri=x", "wallet_link"),
        (b"did:key:z6Mk", "bad_url"), (b"mailto:a@b.example", "bad_url"), (b"javascript:alert(1)", "bad_url"),
        (b"data:image/png;base64,AAAA", "bad_url"), (b"file:///etc/passwd", "bad_url"),
        (b"https://x.example/" + b"a" * 3000, "bad_url"),
    ],
)  # fmt: skip
def test_what_is_none(body: bytes, code: str) -> None:
    assert refused(body) == code


def test_what_is_known_and_not_verified_here() -> None:
    for body in (b"a.b.c~d~", b"a.b.c~"):
        found = read(body)
        assert isinstance(found, Unsupported)
        assert found.code == "unsupported_format"
    for old in (
        {"@context": "https://w3id.org/openbadges/v2", "type": "Assertion"},
        {"@context": ["https://w3id.org/openbadges/v1"]},
    ):
        found = read(json.dumps(old).encode())
        assert found == from_json(old)
        assert isinstance(found, Unsupported)
        assert found.code == "open_badges_2"
    for new in ({}, {"@context": []}, {"@context": None}, {"@context": [{}]}, {"@context": 7}, [], None):
        assert isinstance(from_json(new), Document)
    old_picture = (
        b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:o="http://openbadges.org"><o:assertion verify="x"/></svg>'
    )
    found = read(old_picture)
    assert isinstance(found, Unsupported)
    assert (found.code, found.baked) == ("open_badges_2", "svg")


def test_only_an_address_is_an_address() -> None:
    for text in ("", "x", "ftp://x", JSON.decode(), JWS.decode(), "https://a b", "\ud800"):
        with pytest.raises(Unreadable):
            address(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://l.example/c/00-1", "00-1"), ("HTTPS://L.EXAMPLE/c/00-1", "00-1"),
        ("https://l.example/c/00-1?download=1", "00-1"),
        ("https://l.example/c/00-1#verdict", "00-1"), ("https://l.example/c/00-1/badge.png", "00-1"),
        ("https://l.example/c/00-1/badge.svg?x", "00-1"), ("https://l.example/c/", ""), ("https://l.example/c/a/b", ""),
        ("https://l.example/c/%00", ""), ("https://l.example/c/" + "a" * 65, ""),
        ("https://l.example/achievements/1", None), ("https://l.example.evil/c/1", None), ("", None),
    ],
)  # fmt: skip
def test_our_own_addresses(url: str, expected: str | None) -> None:
    assert credential_id_at(url, "https://l.example") == expected


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
@example(b"<")
@example(b"\xff\xfe<\x00")
@example(b":")
def test_whatever_comes_has_a_name(body: bytes) -> None:
    try:
        found = read(body)
    except Unreadable:
        return
    assert isinstance(found, Document | Address | Unsupported)
