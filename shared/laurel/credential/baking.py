"""Baked badges: a credential inside the PNG or SVG of its badge, put in and taken out (Open Badges 3.0 §5.3). Pure.

 1. PNG: an iTXt chunk with the keyword `openbadgecredential`, not compressed, right behind IHDR. Its text is the JSON
    of a credential with embedded proofs, or the compact JWS of one that is signed as a JWT.
 2. SVG: the element `openbadges:credential`, first in the svg element. The JSON is its text, in CDATA; a compact JWS
    is its attribute `verify`.

Everything else in the image stays as it is, byte for byte: no pixel is encoded again and no tag is written anew. An
image that holds a credential already gets the new one in its place.

What comes out is untrusted: it is what somebody wrote into a picture. It still has to be verified.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal
from xml.parsers import expat

from laurel.credential.images import PNG_SIGNATURE, BadImage, Chunk, png_chunks

MAX_BAKED = 4 << 20  # bytes of an image that is read
MAX_SVG = 2 << 20  # of an SVG, whose parser calls back for every tag
MAX_CREDENTIAL = 1 << 20  # bytes of the credential in it, also after inflating
MAX_ELEMENTS = 100_000  # of an SVG

KEYWORD = b"openbadgecredential"  # Open Badges 3.0 §5.3.1
NAMESPACE = "https://purl.imsglobal.org/ob/v3p0"  # Open Badges 3.0 §5.3.2
_SVG = "http://www.w3.org/2000/svg"
_ELEMENT = f"{NAMESPACE} credential"
# Open Badges 2.0, Baking: keyword and element. Mozilla's first bakers wrote `openbadge` and plain tEXt.
_KEYWORDS_OF_2 = (b"openbadges", b"openbadge")
_ELEMENT_OF_2 = "http://openbadges.org assertion"

_COMPACT_JWS = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").fullmatch  # RFC 7515 §3.1
_PIECE = 1 << 16  # bytes that are parsed at a time; other threads have their turn in between
_BLANK = b" \t\r\n"  # RFC 8259 §2
_START_TAG = re.compile(rb"""<([^\s/>]+)(?:[^>"']|"[^"]*"|'[^']*')*>""")

Format = Literal["png", "svg"]
FORMATS: dict[Format, str] = {"png": "image/png", "svg": "image/svg+xml"}


def is_compact_jws(text: bytes) -> bool:
    """Whether these bytes have the form of a compact JWS: three base64url parts, none of them empty (RFC 7515 §3.1)."""
    return _COMPACT_JWS(text) is not None


def bake_png(image: bytes, credential: bytes) -> bytes:
    """The PNG with the credential in it: UTF-8 JSON, or a compact JWS. Raises BadImage."""
    credential = _checked(credential)
    chunks = png_chunks(image)
    # PNG §11.3.4.5: keyword, 0, compression flag, compression method, language tag, 0, translated keyword, 0, text
    text = _chunk(b"iTXt", KEYWORD + b"\0\0\0\0\0" + credential)
    kept = [image[one.start : one.end] for one in chunks if _keyword(image, one) != KEYWORD]
    return b"".join((PNG_SIGNATURE, kept[0], text, *kept[1:]))


def bake_svg(image: bytes, credential: bytes) -> bytes:
    """The SVG, which must be UTF-8, with the credential in it: UTF-8 JSON, or a compact JWS. Raises BadImage.

    XML knows no carriage return and neither U+FFFE nor U+FFFF: line ends become line feeds and those two characters
    JSON's escapes. Every other byte of the credential comes out again as it was.
    """
    credential = _checked(credential)
    parsed = _parse_svg(image)
    if parsed.encoding.lower() not in ("", "utf-8"):
        raise BadImage("svg_encoding", f"the SVG is encoded as {parsed.encoding[:40]}; save it as UTF-8")
    if is_compact_jws(credential):
        element = b' verify="%s">' % credential
    else:
        credential = credential.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        credential = credential.replace(b"\xef\xbf\xbe", rb"\ufffe").replace(b"\xef\xbf\xbf", rb"\uffff")
        element = b"><![CDATA[%s]]>" % credential.replace(b"]]>", b"]]]]><![CDATA[>")
    declared = parsed.prefixes.get("openbadges")
    declaration = b' xmlns:openbadges="%s"' % NAMESPACE.encode()
    # Where the art means something else by our prefix, the declaration stands at our element and not at the root.
    root_more, own_more = (b"", declaration) if declared else (declaration, b"")
    if declared == NAMESPACE:
        own_more = b""
    element = b"<openbadges:credential%s%s</openbadges:credential>" % (own_more, element)

    tag = _START_TAG.match(image, parsed.root)
    if tag is None:  # for instance UTF-16, whose bytes are not ASCII's
        raise BadImage("svg_encoding", "the SVG is not encoded as UTF-8; save it as UTF-8")
    name_end, tag_end = tag.end(1), tag.end()
    before, rest = image[: parsed.root], _without(image, parsed.elements, tag_end)
    opening = image[parsed.root : name_end] + root_more
    if tag[0].endswith(b"/>"):
        baked = before + opening + image[name_end : tag_end - 2] + b">" + element + b"</" + tag[1] + b">" + rest
    else:
        baked = before + opening + image[name_end:tag_end] + element + rest
    if unbake_svg(baked) != credential:
        raise BadImage("not_bakeable", "the credential does not come out of this SVG as it went in")
    return baked


def unbake(image: bytes) -> bytes:
    """The credential in a PNG or SVG: UTF-8 JSON (it begins with `{`) or a compact JWS. Raises BadImage.

    Codes: too_large, too_complex, not_a_png, damaged_png, not_an_svg, svg_doctype, not_baked, several_credentials,
    open_badges_2, bad_baking.
    """
    return unbake_png(image) if image.startswith(PNG_SIGNATURE) else unbake_svg(image)


def unbake_png(image: bytes) -> bytes:
    """The credential in a PNG. Raises BadImage."""
    _check_size(image, MAX_BAKED)
    found = [(one, _keyword(image, one)) for one in png_chunks(image)]
    credentials = [one for one, keyword in found if keyword == KEYWORD]
    if not credentials:
        if any(keyword in _KEYWORDS_OF_2 for _, keyword in found):
            raise _open_badges_2()
        raise BadImage("not_baked", f"this PNG holds no credential: it has no iTXt chunk {KEYWORD.decode()!r}")
    if len(credentials) > 1:
        raise BadImage("several_credentials", f"this PNG holds {len(credentials)} credentials; one is allowed")
    return _taken_out(_itxt_text(image, credentials[0]), "the PNG's iTXt chunk")


def unbake_svg(image: bytes) -> bytes:
    """The credential in an SVG. Raises BadImage."""
    _check_size(image, MAX_SVG)
    parsed = _parse_svg(image)
    if not parsed.elements:
        if parsed.open_badges_2:
            raise _open_badges_2()
        raise BadImage("not_baked", "this SVG holds no credential: it has no element openbadges:credential")
    if len(parsed.elements) > 1 or (parsed.verify and parsed.text):
        raise BadImage("several_credentials", "this SVG holds more than one credential; one is allowed")
    return _taken_out((parsed.verify or parsed.text).encode(), "the SVG's element openbadges:credential")


def _checked(credential: bytes) -> bytes:
    credential = credential.strip(_BLANK)
    if len(credential) > MAX_CREDENTIAL:
        raise BadImage("too_large", f"the credential has {len(credential):,} bytes; {MAX_CREDENTIAL:,} are baked")
    return _taken_out(credential, "what is to be baked")


def _taken_out(credential: bytes, where: str) -> bytes:
    credential = credential.strip(_BLANK)
    if is_compact_jws(credential) or (credential[:1] == b"{" and credential[-1:] == b"}" and _is_utf8(credential)):
        return credential
    raise BadImage("bad_baking", f"{where} holds neither JSON in UTF-8 nor a compact JWS (Open Badges 3.0 §5.3)")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_size(image: bytes, most: int) -> None:
    if len(image) > most:
        raise BadImage("too_large", f"the image is larger than {most:,} bytes")


def _open_badges_2() -> BadImage:
    return BadImage(
        "open_badges_2", "this is an Open Badges 2.0 badge; Open Badges 3.0 is what is verified here: ask for a new one"
    )


# --- PNG ------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _keyword(image: bytes, chunk: Chunk) -> bytes:
    """The keyword of a text chunk that could hold a badge, b"" for every other. Of 3.0 badges: iTXt only."""
    if chunk.kind not in (b"iTXt", b"tEXt", b"zTXt"):
        return b""
    keyword = image[chunk.data : min(chunk.data + 80, chunk.end - 4)].partition(b"\0")[0]  # 1 to 79 bytes
    return keyword if chunk.kind == b"iTXt" or keyword in _KEYWORDS_OF_2 else b""


def _itxt_text(image: bytes, chunk: Chunk) -> bytes:
    rest = image[chunk.data + len(KEYWORD) + 1 : chunk.end - 4]
    flags, rest = rest[:2], rest[2:]
    _, language_end, rest = rest.partition(b"\0")
    _, translated_end, text = rest.partition(b"\0")
    if len(flags) != 2 or flags not in (b"\0\0", b"\1\0") or not language_end or not translated_end:
        raise BadImage("bad_baking", "the PNG's iTXt chunk with the credential is not built as PNG §11.3.4.5 says")
    if flags[0]:  # Open Badges 3.0 forbids compression; the signature in it is not worse for it
        text = _inflated(text)
    if len(text) > MAX_CREDENTIAL:
        raise BadImage("too_large", f"the credential in the PNG has more than {MAX_CREDENTIAL:,} bytes")
    return text


def _inflated(text: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(text, MAX_CREDENTIAL + 1)
    except zlib.error as error:
        raise BadImage("bad_baking", f"the compressed credential in the PNG is damaged: {error}") from None
    if len(plain) <= MAX_CREDENTIAL and not inflate.eof:
        raise BadImage("bad_baking", "the compressed credential in the PNG is cut off")
    return plain


# --- SVG ------------------------------------------------------------------------------------------------------


@dataclass
class _Svg:
    """root: the place of its start tag. elements: from where to where each credential stands."""

    encoding: str = ""
    root: int = -1
    prefixes: dict[str, str] = field(default_factory=dict)
    elements: list[tuple[int, int]] = field(default_factory=list)
    open_badges_2: bool = False
    verify: str = ""
    text: str = ""


def _parse_svg(content: bytes) -> _Svg:
    found = _Svg()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    text: list[str] = []
    depth = count = 0
    inside = 0  # the depth of the credential that we are in

    def on_declaration(version: str, encoding: str | None, standalone: int) -> None:
        found.encoding = encoding or ""

    def on_doctype(name: str, system: str | None, public: str | None, has_internal_subset: int) -> None:
        # Drawing programs name SVG's own DTD, which nobody fetches. Only the internal subset could define anything.
        if has_internal_subset:
            raise BadImage("svg_doctype", "the SVG defines entities in its DOCTYPE; save it as plain SVG")

    def on_entity(*_: object) -> None:
        raise BadImage("svg_doctype", "the SVG uses an entity of its DOCTYPE; save it as plain SVG")

    def on_prefix(prefix: str | None, address: str | None) -> None:
        if depth == 0:
            found.prefixes[prefix or ""] = address or ""

    def on_element(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count, inside
        depth += 1
        count += 1
        if count > MAX_ELEMENTS:
            raise BadImage("too_complex", f"the SVG has more than {MAX_ELEMENTS:,} elements")
        if depth == 1:
            if name != f"{_SVG} svg":
                raise BadImage("not_an_svg", f"the root must be svg in the namespace {_SVG}")
            found.root = parser.CurrentByteIndex
        if inside:
            raise BadImage("bad_baking", "the SVG's element openbadges:credential has elements in it")
        if name == _ELEMENT and depth > 1:
            inside = depth
            found.elements.append((parser.CurrentByteIndex, -1))
            found.verify = found.verify or attributes.get("verify", "").strip()
        found.open_badges_2 = found.open_badges_2 or name == _ELEMENT_OF_2

    def on_element_end(name: str) -> None:
        nonlocal depth, inside
        if inside == depth:
            inside = 0
            at = parser.CurrentByteIndex  # of the end tag; of an empty element, of the element
            found.elements[-1] = (found.elements[-1][0], _tag_end(content, at))
        depth -= 1

    def on_text(piece: str) -> None:
        if inside:
            text.append(piece)

    parser.XmlDeclHandler = on_declaration
    parser.StartDoctypeDeclHandler = on_doctype
    parser.EntityDeclHandler = parser.SkippedEntityHandler = on_entity
    parser.StartNamespaceDeclHandler = on_prefix
    parser.StartElementHandler = on_element
    parser.EndElementHandler = on_element_end
    parser.CharacterDataHandler = on_text
    _run(parser, content)
    found.text = "".join(text).strip()
    if max(len(found.text), len(found.verify)) > MAX_CREDENTIAL:
        raise BadImage("too_large", f"the credential in the SVG has more than {MAX_CREDENTIAL:,} characters")
    return found


def _run(parser: Any, content: bytes) -> None:
    view = memoryview(content)
    try:
        for start in range(0, len(content), _PIECE):
            parser.Parse(view[start : start + _PIECE], False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BadImage("not_an_svg", f"not well-formed XML: {error}") from None
    except BadImage:
        raise
    except (ValueError, LookupError) as error:  # what Python says of encodings that it cannot or will not read
        raise BadImage("not_an_svg", f"its encoding cannot be read: {str(error)[:200]}") from None


def _tag_end(content: bytes, start: int) -> int:
    tag = _START_TAG.match(content, start)
    return tag.end() if tag is not None else content.find(b">", start) + 1


def _without(content: bytes, ranges: list[tuple[int, int]], start: int) -> bytes:
    """`content` from `start`, less the ranges."""
    kept = bytearray()
    for begin, end in ranges:
        kept += content[start:begin]
        start = end
    return bytes(kept + content[start:])
