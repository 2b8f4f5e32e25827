"""Badge images, and what may not be one. PNG is read by its chunks, SVG by a parser without entities. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from dataclasses import dataclass
from typing import NamedTuple
from xml.parsers import expat

MAX_IMAGE = 512 * 1024
_DATA_URI = re.compile(r"data:(image/png|image/svg\+xml)(?:;charset=utf-8)?;base64,([A-Za-z0-9+/=\s]*)", re.IGNORECASE)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"  # PNG (ISO/IEC 15948) §5.2
MAX_CHUNKS = 1 << 16  # of one PNG; real ones have a few hundred
_SVG = "http://www.w3.org/2000/svg"
# Those that every XML parser reads alike (expat's own); of others Python knows many that browsers do not.
_ENCODINGS = frozenset({"utf-8", "us-ascii", "iso-8859-1", "utf-16"})
_XHTML = "http://www.w3.org/1999/xhtml"  # its elements work inside an SVG: forms, <meta http-equiv="refresh">
# What runs, loads or embeds something else. The image is served sandboxed as well; this keeps it out of downloads, too.
_ACTIVE = frozenset({"script", "foreignObject", "iframe", "object", "embed", "handler", "listener"})


# url(…) of anything but a fragment or an embedded bitmap, in presentation attributes as in CSS.
_REACHES_OUT = re.compile(r"url\((?!['\"]?(#|data:image/(png|jpeg|webp)))", re.IGNORECASE)
# What else CSS can load with; a backslash could spell any of it in another way.
_LOADING_CSS = re.compile(r"@import|https?:|//|\\", re.IGNORECASE)


class BadImage(ValueError):
    """The data is no image that a badge may have; `code` is stable, the text says what to send."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Image:
    """A checked image."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """Names this very image in its URL: 128 bits of its SHA-256, in hex."""
        return hashlib.sha256(self.content).hexdigest()[:32]


def from_data_uri(text: str) -> Image:
    """The image in a data URI (RFC 2397). Raises BadImage."""
    match = _DATA_URI.fullmatch(text.strip())
    if match is None:
        raise BadImage("not_a_data_uri", "send data:image/png;base64,… or data:image/svg+xml;base64,…")
    if len(match[2]) > MAX_IMAGE * 3 // 2:
        raise BadImage("too_large", f"the image may have {MAX_IMAGE} bytes")
    try:
        content = base64.b64decode("".join(match[2].split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadImage("not_base64", "the data URI's base64 is damaged") from None
    return checked(match[1].lower(), content)


def checked(media_type: str, content: bytes) -> Image:
    """The image, which must be a PNG ("image/png") or an SVG that runs and loads nothing. Raises BadImage."""
    if len(content) > MAX_IMAGE:
        raise BadImage("too_large", f"the image has {len(content)} bytes; {MAX_IMAGE} are allowed")
    if media_type == "image/png":
        _check_png(content)
    else:
        check_svg(content)
    return Image(media_type, content)


def png_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels. Raises BadImage."""
    header = png_chunks(content)[0]
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (header.data, header.data + 4))
    return width, height


def _check_png(content: bytes) -> None:
    width, height = png_size(content)
    if not (1 <= width <= 4096 and 1 <= height <= 4096):
        raise BadImage("bad_size", f"the image is {width} × {height}; at most 4096 × 4096 pixels")


class Chunk(NamedTuple):
    """Where one chunk of a PNG stands: its whole from `start` to `end`, its data from `data` to `end` - 4."""

    kind: bytes
    start: int
    data: int
    end: int


def png_chunks(content: bytes) -> list[Chunk]:
    """The chunks of a PNG from IHDR to IEND, their checksums compared; what follows IEND is no part of it.

    PNG (ISO/IEC 15948) §5.3 and §5.6: lengths, CRCs, IHDR first and once, IDATs in one row, IEND last. Raises BadImage.
    """
    if not content.startswith(PNG_SIGNATURE):
        raise BadImage("not_a_png", "this is not a PNG file; export the image as PNG")
    found: list[Chunk] = []
    place = len(PNG_SIGNATURE)
    pixels = 0  # 0: no IDAT yet, 1: in the row of IDATs, 2: after it
    while place + 12 <= len(content):
        if len(found) >= MAX_CHUNKS:
            raise BadImage("too_complex", f"the PNG has more than {MAX_CHUNKS:,} chunks; export it again")
        size = int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        end = place + 12 + size
        if end > len(content) or not (kind.isascii() and kind.isalpha()):
            break
        if zlib.crc32(memoryview(content)[place + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            break
        if (not found) != (kind == b"IHDR") or (kind == b"IHDR" and size != 13) or (kind == b"IEND" and size):
            break
        if kind == b"IDAT" and pixels == 2:
            break
        pixels = 1 if kind == b"IDAT" else min(2, pixels * 2)
        found.append(Chunk(kind, place, place + 8, end))
        if kind == b"IEND":
            if not pixels:
                break
            return found
        place = end
    raise BadImage("damaged_png", "the PNG is cut off or damaged; export it again")


def check_svg(content: bytes) -> None:
    """Raises BadImage where an SVG runs, loads or embeds anything, or is none."""
    parser = expat.ParserCreate(namespace_separator=" ")
    root: list[str] = []
    text: list[str] = []

    def on_declaration(_: str, encoding: str | None, __: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise BadImage("not_an_svg", f"the SVG is in the encoding {encoding[:40]!r}; save it as UTF-8")

    def on_doctype(*_: object) -> None:
        raise BadImage("svg_doctype", "the SVG has a DOCTYPE (and may expand entities); save it as plain SVG")

    def on_instruction(target: str, _: str) -> None:
        if target == "xml-stylesheet":  # an XSLT style sheet can write a script into the picture as it is shown
            raise BadImage("active_svg", "the SVG names a style sheet of its own; save it as plain SVG")

    def on_element(name: str, attributes: dict[str, str]) -> None:
        space, _, local = name.rpartition(" ")
        if not root:
            root.append(name)
            if (space, local) != (_SVG, "svg"):
                raise BadImage("not_an_svg", f"the root must be svg in the namespace {_SVG}")
        if local in _ACTIVE or space == _XHTML:
            raise BadImage("active_svg", f"the SVG has a <{local}>; a badge image must not run or embed anything")
        for attribute, value in attributes.items():
            plain = attribute.rpartition(" ")[2].lower()
            target = "".join(value.split()).lower()
            animated = target.rpartition(":")[2] if plain == "attributename" else ""
            if plain.startswith("on") or "javascript:" in target or animated == "href" or animated.startswith("on"):
                raise BadImage("active_svg", f"the SVG has a script in {plain!r}; a badge image must not run anything")
            if _REACHES_OUT.search(target) or (plain == "style" and _LOADING_CSS.search(target)):
                raise BadImage("external_svg", f"{plain!r} refers to something outside the SVG; embed it as a data URI")
            if plain == "href" and not target.startswith(("#", "data:image/png", "data:image/jpeg", "data:image/webp")):
                raise BadImage("external_svg", "the SVG refers to something outside itself; embed it as a data URI")

    def on_element_end(name: str) -> None:
        style = "".join("".join(text).split())
        if name.rpartition(" ")[2] == "style" and (_REACHES_OUT.search(style) or _LOADING_CSS.search(style)):
            raise BadImage(
                "external_svg", "the style sheet refers to something outside the SVG; embed it as a data URI"
            )
        text.clear()

    parser.XmlDeclHandler = on_declaration
    parser.StartDoctypeDeclHandler = on_doctype
    parser.ProcessingInstructionHandler = on_instruction
    parser.StartElementHandler = on_element
    parser.EndElementHandler = on_element_end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BadImage("not_an_svg", f"not well-formed XML: {error}") from None
