"""Badge images: no bytes break the checks, and what passes is what it says."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel_assessment.images import MAX_IMAGE, BadImage, from_data_uri

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10">{}</svg>'


def uri(content: bytes, kind: str = "svg+xml") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def refused(text: str) -> str:
    with pytest.raises(BadImage) as caught:
        from_data_uri(text)
    return caught.value.code


@given(
    st.text(max_size=50) | st.binary(max_size=200).map(uri) | st.binary(max_size=200).map(lambda raw: uri(raw, "png"))
)
def test_whatever_comes_is_an_image_or_a_reason(text: str) -> None:
    with contextlib.suppress(BadImage):
        from_data_uri(text)


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "<g><title>Laurel</title></g>",
        '<use href="#a"/>',
        "<!-- <script/> -->",
        "<style>.a { fill: url(#b) }</style>",
    ],
)
def test_a_plain_svg_is_taken(inner: str) -> None:
    image = from_data_uri(uri(SVG.format(inner).encode()))
    assert image.media_type == "image/svg+xml"
    assert len(image.digest) == 32


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("<script/>", "active_svg"),
        ('<set attributeName="onload" to="x()"/>', "active_svg"),
        ('<a><set attributeName="xlink:href" to="x"/></a>', "active_svg"),
        ('<meta xmlns="http://www.w3.org/1999/xhtml" http-equiv="refresh" content="0"/>', "active_svg"),
        ('<g onclick="x()"/>', "active_svg"),
        ('<g xmlns:e="http://www.w3.org/2001/xml-events" e:onclick="x()"/>', "active_svg"),
        ('<a xmlns:x="http://www.w3.org/1999/xlink" x:href="&#106;avascript:x()"/>', "active_svg"),
        ('<animate attributeName="href" to="javascript:x()"/>', "active_svg"),
        ('<use href="https://example.org/x.svg#a"/>', "external_svg"),
        ('<image href="data:image/svg+xml;base64,PHN2Zy8+"/>', "external_svg"),
        ("<style>@import url(https://example.org/x.css);</style>", "external_svg"),
        ("<style>@\\69mport 'x.css';</style>", "external_svg"),
        ('<rect fill="url(//example.org/x.svg#a)"/>', "external_svg"),
        ('<g style="fill: url(https://example.org/x.svg#a)"/>', "external_svg"),
        ("<foreignObject/>", "active_svg"),
        ("<g>", "not_an_svg"),
    ],
)
def test_an_svg_that_runs_or_reaches_out_is_refused(inner: str, code: str) -> None:
    assert refused(uri(SVG.format(inner).encode())) == code


def test_entities_are_refused_before_they_expand() -> None:
    bomb = '<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + SVG.format("&b;")
    assert refused(uri(bomb.encode())) == "svg_doctype"


def test_size_is_looked_at_before_anything_is_decoded() -> None:
    assert refused(uri(b" " * (MAX_IMAGE + 1))) == "too_large"
    assert refused("data:image/png;base64," + "A" * (MAX_IMAGE * 2)) == "too_large"
    assert refused("data:image/png;base64,A") == "not_base64"
    assert refused("https://example.org/a.png") == "not_a_data_uri"


@pytest.mark.parametrize(
    "encoding", ["UTF-7", "UTF-32", "big5", "shift_jis", "x", "rot13", "zip", "idna", "cp037", "unicode_escape"]
)
def test_an_svg_in_an_encoding_that_parsers_disagree_about_is_refused(encoding: str) -> None:
    content = f'<?xml version="1.0" encoding="{encoding}"?>' + SVG.format("")
    assert refused(uri(content.encode())) == "not_an_svg"
    for good in ("UTF-8", "us-ascii", "ISO-8859-1"):
        assert from_data_uri(uri(content.replace(encoding, good, 1).encode())).media_type == "image/svg+xml"


def test_an_svg_with_a_style_sheet_of_its_own_is_refused() -> None:
    assert refused(uri(b'<?xml-stylesheet type="text/xsl" href="#x"?>' + SVG.format("").encode())) == "active_svg"
    assert from_data_uri(uri(b"<?xpacket begin='' id='x'?>" + SVG.format("").encode())).media_type == "image/svg+xml"
