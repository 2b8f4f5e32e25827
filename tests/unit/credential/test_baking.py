"""Baking: what goes in comes out, other people's readers see it, the picture stays, and no bytes break it."""

from __future__ import annotations

import io
import json
import struct
import xml.etree.ElementTree as ElementTree
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from laurel.credential import baking
from laurel.credential.baking import KEYWORD, MAX_CREDENTIAL, NAMESPACE, bake_png, bake_svg, unbake
from laurel.credential.images import MAX_CHUNKS, PNG_SIGNATURE, BadImage, png_chunks

JWS = b"eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJkaWQ6a2V5OnoifQ.c2lnbmF0dXJl"
JSON = '{"@context":["https://www.w3.org/ns/credentials/v2"],"name":"数据 <b>&amp;</b>","x":"]]>"}'.encode()
ART = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- drawn by hand -->\n'
    b'<svg xmlns="http://www.w3.org/2000/svg" data-x="a > b" viewBox="0 0 9 9" >\n'
    b"  <title>\xe6\x95\xb0</title><path d='M0 0'/><![CDATA[ ]]>\n</svg>\n<!-- end -->\n"
)
OPEN = b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:openbadges="%s">' % NAMESPACE.encode()
TAG = f"{{{NAMESPACE}}}credential"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["]]>", "\ufffe", "&lt;", "\x7f"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
credentials = st.one_of(
    st.builds(
        lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(),
        st.dictionaries(st.text(max_size=8), json_values, max_size=4),
        st.booleans(),
        st.sampled_from([None, 1]),
    ),
    st.lists(st.binary(min_size=1, max_size=40), min_size=3, max_size=3).map(
        lambda parts: b".".join(part.hex().encode() for part in parts)
    ),
)


def picture(text: PngImagePlugin.PngInfo | None = None) -> bytes:
    pixels = Image.new("RGBA", (5, 4), (20, 90, 60, 255))
    pixels.putpixel((2, 2), (255, 0, 0, 10))
    file = io.BytesIO()
    pixels.save(file, "PNG", pnginfo=text, dpi=(72, 72))
    return file.getvalue()


def opened(image: bytes) -> PngImagePlugin.PngImageFile:
    found = Image.open(io.BytesIO(image))
    assert isinstance(found, PngImagePlugin.PngImageFile)
    found.load()
    return found


def refused(image: bytes) -> str:
    with pytest.raises(BadImage) as caught:
        unbake(image)
    return caught.value.code


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes) -> bytes:
    """The picture, with more chunks before its end."""
    plain = picture()
    return plain[:-12] + b"".join(chunks) + plain[-12:]


# --- there and back -----------------------------------------------------------------------------------------


@given(credentials)
@example(JSON)
@example(JWS)
def test_a_png_gives_back_what_was_baked(credential: bytes) -> None:
    plain = picture()
    baked = bake_png(plain, credential)
    assert unbake(baked) == credential
    ours = [one for one in png_chunks(baked) if one.kind == b"iTXt"]
    assert len(ours) == 1
    assert baked[: ours[0].start] + baked[ours[0].end :] == plain  # the picture, byte for byte


@given(credentials)
@example(JSON)
@example(JWS)
def test_an_svg_gives_back_what_was_baked(credential: bytes) -> None:
    baked = bake_svg(ART, credential)
    expected = credential.replace("\ufffe".encode(), b"\\ufffe").replace("\uffff".encode(), b"\\uffff")
    assert unbake(baked) == expected
    if credential.startswith(b"{"):
        assert json.loads(expected) == json.loads(credential)
    start, end = baked.index(b"<openbadges:credential"), baked.index(b"</openbadges:credential>")
    rest = baked[:start] + baked[end + len(b"</openbadges:credential>") :]
    assert rest.replace(b' xmlns:openbadges="%s"' % NAMESPACE.encode(), b"", 1) == ART


def test_other_readers_find_it_in_the_png() -> None:
    for credential in (JSON, JWS):
        found = opened(bake_png(picture(), credential))
        text = found.text[KEYWORD.decode()]
        assert text.encode() == credential
        assert isinstance(text, PngImagePlugin.iTXt)
        assert (text.lang, text.tkey) == ("", "")
        assert found.tobytes() == opened(picture()).tobytes()


def test_other_readers_find_it_in_the_svg() -> None:
    root = ElementTree.fromstring(bake_svg(ART, JSON))
    assert root[0].tag == TAG  # directly after the svg tag
    assert (root[0].text, root[0].attrib) == (JSON.decode(), {})
    root = ElementTree.fromstring(bake_svg(ART, JWS))
    assert (root[0].tag, root[0].attrib, root[0].text) == (TAG, {"verify": JWS.decode()}, None)


def test_we_find_what_others_bake() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x")
    text.add_itxt(KEYWORD.decode(), JSON.decode(), lang="en", tkey="Abzeichen")
    assert unbake(picture(text)) == JSON
    compressed = PngImagePlugin.PngInfo()
    compressed.add_itxt(KEYWORD.decode(), JSON.decode(), zip=True)
    assert unbake(picture(compressed)) == JSON

    root = ElementTree.fromstring(ART)
    ElementTree.SubElement(root, TAG).text = f"\n\t{JSON.decode()}\n"  # at the end, escaped instead of in CDATA
    assert unbake(ElementTree.tostring(root)) == JSON
    assert unbake(ElementTree.tostring(root, encoding="utf-16")) == JSON
    assert unbake(ElementTree.tostring(root, encoding="iso-8859-1")) == JSON
    published = b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">'
    assert unbake(published + ElementTree.tostring(root)) == JSON  # it names a DTD that nobody reads
    both = OPEN + b'<openbadges:credential verify=""><![CDATA[ {} ]]></openbadges:credential></svg>'
    assert unbake(both) == b"{}"


def test_the_newer_credential_takes_the_place_of_the_older() -> None:
    for bake, art in ((bake_png, picture()), (bake_svg, ART)):
        for first, second in ((JSON, JWS), (JWS, JSON), (JSON, JSON)):
            assert bake(bake(art, first), second) == bake(art, second)
    twice = with_chunks(*[chunk(b"iTXt", KEYWORD + bytes(5) + JSON)] * 2)
    assert bake_png(twice, JWS) == bake_png(picture(), JWS)


@pytest.mark.parametrize(
    ("art", "root"),
    [
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', b"</svg>"),
        (b"<s:svg xmlns:s='http://www.w3.org/2000/svg' a='>'  />", b"</s:svg>"),
        (b'\xef\xbb\xbf<svg xmlns="http://www.w3.org/2000/svg" >\r\n</svg >', b"</svg >"),
        (b'<!-- <svg> --><?x <svg> ?><svg\nxmlns="http://www.w3.org/2000/svg"></svg>', b"</svg>"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:openbadges="http://openbadges.org"></svg>', b"</svg>"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:openbadges="%s"></svg>' % NAMESPACE.encode(), b"</svg>"),
    ],
)  # fmt: skip
def test_svg_roots_of_all_kinds(art: bytes, root: bytes) -> None:
    for credential in (JSON, JWS):
        baked = bake_svg(art, credential)
        assert unbake(baked) == credential
        assert root in baked
        assert ElementTree.fromstring(baked)[0].tag == TAG


def test_an_svg_of_many_pieces() -> None:
    art = b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<path d='M0 0'/>" * 20_000 + b"<!-- \xe6\x95\xb0 --></svg>"
    for credential in (JSON, JWS, b'{"a":"' + "数".encode() * 100_000 + b'"}'):
        late = bake_svg(art, credential)
        start, end = late.index(b"<openbadges:credential"), late.index(b"</openbadges:credential>") + 24
        late = late[:start] + late[end:-6] + late[start:end] + late[-6:]  # behind everything else
        assert unbake(late) == credential
        assert bake_svg(late, JWS) == bake_svg(bake_svg(art, credential), JWS)


def test_line_ends_are_xmls() -> None:
    assert unbake(bake_svg(ART, b'{\r\n"a":\r1\n}')) == b'{\n"a":\n1\n}'
    assert unbake(bake_png(picture(), b'\r\n{\r\n"a":1}\n')) == b'{\r\n"a":1}'


# --- what is refused ------------------------------------------------------------------------------------------


def test_pngs_that_are_refused() -> None:
    baked = bake_png(picture(), JSON)
    assert refused(picture()) == "not_baked"
    assert refused(PNG_SIGNATURE) == "damaged_png"
    for end in range(9, len(baked)):  # cut off anywhere
        assert refused(baked[:end]) == "damaged_png", end
    assert unbake(baked + b"what follows the end is no part of it") == JSON
    credential = chunk(b"iTXt", KEYWORD + bytes(5) + JSON)
    assert refused(with_chunks(credential, credential)) == "several_credentials"
    for kind, keyword in ((b"iTXt", b"openbadges"), (b"tEXt", b"openbadges"), (b"iTXt", b"openbadge")):
        assert refused(with_chunks(chunk(kind, keyword + bytes(5) + b"x"))) == "open_badges_2"
        assert unbake(with_chunks(chunk(kind, keyword + bytes(5) + b"x"), credential)) == JSON
    assert refused(with_chunks(chunk(b"tEXt", KEYWORD + b"\0" + JSON))) == "not_baked"
    assert refused(with_chunks(chunk(b"iTXt", KEYWORD))) == "bad_baking"
    for damaged in (bytes(1), bytes(3), b"\0\1\1\0\0{}", b"\0\0\1\0\0{}", b"\0\2\0\0\0{}", b"\0\0\0lang{}"):
        assert refused(with_chunks(chunk(b"iTXt", KEYWORD + damaged))) == "bad_baking", damaged
    for content in (b"", b"https://example.org/assertion", b"[1]", b'{"a"', b'{"\xff"}', b"a.b", b"a.b.c.d", b"a.b."):
        assert refused(with_chunks(chunk(b"iTXt", KEYWORD + bytes(5) + content))) == "bad_baking", content
    plain = picture()
    head, pixels, tail = plain[:33], plain[33:-12], plain[-12:]
    for wrong in (
        head + tail,  # no pixels
        head + head[8:] + pixels + tail,  # IHDR twice
        pixels + head + tail,
        head + pixels + chunk(b"tEXt", b"a\0b") + pixels + tail,  # IDATs apart
        head + pixels + chunk(b"t\xffXt", b"") + tail,
        head + pixels + chunk(b"IEND", b"x"),
        head + struct.pack(">I", 0xFFFFFFFF) + pixels[4:] + tail,
    ):
        assert refused(wrong if wrong.startswith(PNG_SIGNATURE) else PNG_SIGNATURE + wrong) == "damaged_png"


def test_bombs_are_not_unfolded() -> None:
    for size, code in ((MAX_CREDENTIAL + 1, "too_large"), (200 << 20, "too_large")):
        packed = zlib.compress(b"{" + b" " * size)
        assert refused(with_chunks(chunk(b"iTXt", KEYWORD + b"\0\1\0\0\0" + packed))) == code
    exactly = b'{"a":"' + b"x" * (MAX_CREDENTIAL - 8) + b'"}'
    packed = zlib.compress(exactly)
    assert unbake(with_chunks(chunk(b"iTXt", KEYWORD + b"\0\1\0\0\0" + packed))) == exactly
    assert refused(with_chunks(chunk(b"iTXt", KEYWORD + b"\0\1\0\0\0" + packed[:-5]))) == "bad_baking"
    assert refused(with_chunks(chunk(b"iTXt", KEYWORD + b"\0\1\0\0\0" + b"no zlib"))) == "bad_baking"
    assert refused(with_chunks(*[chunk(b"teXt", b"")] * MAX_CHUNKS)) == "too_complex"
    assert refused(PNG_SIGNATURE + bytes(baking.MAX_BAKED)) == "too_large"
    assert refused(OPEN + bytes(baking.MAX_SVG)) == "too_large"
    many = b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<a/>" * baking.MAX_ELEMENTS + b"</svg>"
    assert refused(many) == "too_complex"
    deep = b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<a>" * 50_000
    assert refused(deep) == "not_an_svg"


@pytest.mark.parametrize(
    ("svg", "code"),
    [
        (ART, "not_baked"),
        (b"", "not_an_svg"),
        (b"<html></html>", "not_an_svg"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "not_an_svg"),
        (b"<svg/>", "not_an_svg"),
        (b'<?xml version="1.0" encoding="rot13"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_svg"),
        (b'<?xml version="1.0" encoding="zlib"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_svg"),
        (b'<?xml version="1.0" encoding="shift_jis"?><svg xmlns="http://www.w3.org/2000/svg"/>', "not_an_svg"),
        (OPEN + b"<openbadges:credential/></svg>", "bad_baking"),
        (OPEN + b"<openbadges:credential>{}<g/></openbadges:credential></svg>", "bad_baking"),
        (OPEN + b"<openbadges:credential verify='https://example.org/x'/></svg>", "bad_baking"),
        (OPEN + b"<openbadges:credential>{}</openbadges:credential><g><openbadges:credential/></g></svg>",
         "several_credentials"),
        (OPEN + b"<openbadges:credential verify='a.b.c'>{}</openbadges:credential></svg>", "several_credentials"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:o="http://openbadges.org"><o:assertion verify="x"/></svg>',
         "open_badges_2"),
        (b'<!DOCTYPE svg [<!ENTITY a "{}">]>' + OPEN + b"<openbadges:credential>&a;</openbadges:credential></svg>",
         "svg_doctype"),
        (b'<!DOCTYPE svg SYSTEM "x">' + OPEN + b"<openbadges:credential>{&a;}</openbadges:credential></svg>",
         "svg_doctype"),
    ],
)  # fmt: skip
def test_svgs_that_are_refused(svg: bytes, code: str) -> None:
    assert refused(svg) == code


def test_what_cannot_be_baked() -> None:
    for credential in (
        b"",
        b"[]",
        b"x",
        b"https://example.org/",
        b'{"a',
        b'{"\xff"}',
        b"{" + b" " * MAX_CREDENTIAL + b"}",
    ):
        for bake, art in ((bake_png, picture()), (bake_svg, ART)):
            with pytest.raises(BadImage):
                bake(art, credential)
    latin = ART.replace(b"UTF-8", b"ISO-8859-1")
    for art in (latin, ART.decode().replace("UTF-8", "UTF-16").encode("utf-16"), b"<g/>", picture()):
        with pytest.raises(BadImage):
            bake_svg(art, JWS)
    with pytest.raises(BadImage):
        bake_png(ART, JWS)


# --- whatever comes -------------------------------------------------------------------------------------------


def survives(image: bytes) -> bytes | None:
    """What is in it, in one of the two forms; None where it is refused, as it should be."""
    try:
        found = unbake(image)
    except BadImage:
        return None
    assert baking.is_compact_jws(found) or found.startswith(b"{")
    assert len(found) <= MAX_CREDENTIAL * 4
    return found


@given(st.binary(max_size=300), st.sampled_from([b"", PNG_SIGNATURE, PNG_SIGNATURE + picture()[8:33], OPEN]))
def test_any_bytes_are_an_answer_or_a_reason(tail: bytes, start: bytes) -> None:
    survives(start + tail)


@given(st.data())
def test_a_changed_png_never_gives_another_credential(data: st.DataObject) -> None:
    """A bit that flips anywhere is found by the checksums."""
    baked = bytearray(bake_png(picture(), JSON))
    place = data.draw(st.integers(0, len(baked) - 1))
    baked[place] ^= 1 << data.draw(st.integers(0, 7))
    assert survives(bytes(baked)) is None


@given(st.data())
def test_a_mangled_svg_is_an_answer_or_a_reason(data: st.DataObject) -> None:
    baked = bake_svg(ART, data.draw(st.sampled_from([JSON, JWS])))
    start = data.draw(st.integers(0, len(baked)))
    end = data.draw(st.integers(start, min(len(baked), start + 60)))
    piece = data.draw(
        st.binary(max_size=10)
        | st.sampled_from([b"]]>", b"<![CDATA[", b"&#x0;", b"&lt;", b"<openbadges:credential>", b"/>"])
    )
    mangled = baked[:start] + piece + baked[end:]
    survives(mangled)
    try:
        again = bake_svg(mangled, JWS)
    except BadImage:
        return
    assert unbake(again) == JWS
