"""Changes of baked pictures: the credential in them, their bytes, their chunks and elements, and second credentials."""

from __future__ import annotations

import html
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace

from laurel.credential.images import PNG_SIGNATURE, png_chunks
from tests.mutants import token_kinds, value_kinds
from tests.mutants.specimens import Specimen, strangers, strangers_tokens
from tests.mutants.value_kinds import Dice, Kind, text_of

_KEYWORD = b"openbadgecredential"
_OPEN, _CLOSE = b"<openbadges:credential", b"</openbadges:credential>"
_CDATA, _CDATA_END = b"<![CDATA[", b"]]>"
_OF_JSON: tuple[Kind, ...] = (
    value_kinds.bit_of_a_value, value_kinds.bit_of_the_file, value_kinds.characters, value_kinds.dates,
    value_kinds.types, value_kinds.removed, value_kinds.added, value_kinds.hidden, value_kinds.spelling,
    value_kinds.grafted,
)  # fmt: skip
_OF_TOKENS: tuple[Kind, ...] = (
    token_kinds.bit_of_the_token, token_kinds.letters, token_kinds.header, token_kinds.payload, token_kinds.claims,
    token_kinds.signature, token_kinds.usurped_token, token_kinds.envelope, token_kinds.swapped,
)  # fmt: skip


def _is_png(specimen: Specimen) -> bool:
    return specimen.picture.startswith(PNG_SIGNATURE)


def _inside(specimen: Specimen) -> bytes:
    return specimen.token or text_of(specimen.document)


# --- the two formats --------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _chunks(picture: bytes) -> list[bytes]:
    return [picture[one.start : one.end] for one in png_chunks(picture)]


def _png(chunks: Sequence[bytes]) -> bytes:
    return PNG_SIGNATURE + b"".join(chunks)


def _itxt(text: bytes, keyword: bytes = _KEYWORD, flags: bytes = b"\0\0", words: bytes = b"\0\0") -> bytes:
    return _chunk(b"iTXt", keyword + b"\0" + flags + words + text)


def _cut(picture: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands before the element of an SVG, the element, and what stands behind it."""
    start, end = picture.index(_OPEN), picture.index(_CLOSE) + len(_CLOSE)
    return picture[:start], picture[start:end], picture[end:]


def _escaped(text: bytes) -> bytes:
    """With XML's escapes, whatever the bytes are."""
    return html.escape(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _element(inside: bytes) -> bytes:
    """As `baking.bake_svg` writes it, for any bytes."""
    if inside[:1] != b"{":
        return _OPEN + b' verify="' + _escaped(inside) + b'">' + _CLOSE
    text = inside.replace(_CDATA_END, b"]]" + _CDATA_END + _CDATA + b">")
    return _OPEN + b">" + _CDATA + text + _CDATA_END + _CLOSE


def _baked(specimen: Specimen, inside: bytes) -> bytes:
    """The specimen's picture with other bytes in it."""
    if not _is_png(specimen):
        before, _, behind = _cut(specimen.picture)
        return before + _element(inside) + behind
    return _png([_itxt(inside) if b"iTXt" in one[:8] else one for one in _chunks(specimen.picture)])


# --- the kinds ------------------------------------------------------------------------------------------------------


def inside(dice: Dice, specimen: Specimen) -> bytes | None:
    """The credential in it, changed as it is outside of pictures, and baked again."""
    made = dice.choice(_OF_TOKENS if specimen.token else _OF_JSON)(dice, replace(specimen, picture=b""))
    if made is None:
        return None
    return _baked(specimen, made if isinstance(made, bytes) else text_of(made))


def bits(dice: Dice, specimen: Specimen) -> bytes:
    """A bit of the file; in a PNG with the checksum that it then has, or without."""
    picture = specimen.picture
    if not _is_png(specimen) or dice.random() < 0.3:
        raw = bytearray(picture)
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        return bytes(raw)
    chunks = _chunks(picture)
    place = dice.choice([1, 1, dice.randrange(len(chunks))])
    raw = bytearray(chunks[place][4:-4])
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return _png([*chunks[:place], _chunk(bytes(raw[:4]), bytes(raw[4:])), *chunks[place + 1 :]])


def pieces(dice: Dice, specimen: Specimen) -> bytes:
    """Chunks or tags twice, gone, in another order, cut off; art that is another."""
    picture = specimen.picture
    if not _is_png(specimen):
        before, element, behind = _cut(picture)
        place, end = sorted(dice.sample(range(len(picture)), 2))
        return dice.choice(
            [
                before + element + element + behind, before + behind + element, element + before + behind,
                picture[:place],
                before + behind, picture[:place] + picture[end:], picture + picture, picture[end:] + picture[:end],
                before.replace(b"<svg", b"<g><svg") + element + behind + b"</g>", before + element, element,
                before + behind.replace(b"<title>", element + b"<title>", 1),
                before + b"<g>" + element + b"</g>" + behind,
                before + element + behind.replace(b"M0", b"M9"), before + element + behind.replace(b"Data", b"Law"),
                picture[picture.index(b"<svg") :], picture.replace(b"2000/svg", b"2000/SVG"), b"\n" + picture,
            ]
        )  # fmt: skip
    chunks = _chunks(picture)
    place = dice.randrange(len(chunks))
    one, others = chunks[place], [*chunks[:place], *chunks[place + 1 :]]
    target = dice.randrange(len(others) + 1)
    cut = dice.randrange(len(picture))
    size = len(chunks[1]) + dice.choice([-1, 1, 8, 1 << 30])
    return dice.choice(
        [
            _png([*chunks[: place + 1], one, *chunks[place + 1 :]]), _png(others), picture[:cut], picture + picture,
            _png([*others[:target], one, *others[target:]]),
            _png([*chunks[:1], *chunks[2:-1], chunks[1], chunks[-1]]),
            _png([*chunks[:-1], chunks[-1] * 2]), _png([*chunks[:1], *chunks[2:], chunks[1]]),
            picture[len(PNG_SIGNATURE) :],
            _png([chunks[1], *chunks[:1], *chunks[2:]]),
            _png([chunks[0], size.to_bytes(4, "big") + chunks[1][4:], *chunks[2:]]),
            _png([chunks[0], _chunk(b"tEXt", b"Comment\0x"), *chunks[1:]]), picture[1:], b"\n" + picture,
        ]
    )  # fmt: skip


def written(dice: Dice, specimen: Specimen) -> bytes:
    """The same credential, written otherwise into the picture, or in a way that holds none."""
    return (_written_in_png if _is_png(specimen) else _written_in_svg)(dice, specimen)


def _written_in_png(dice: Dice, specimen: Specimen) -> bytes:
    text = _inside(specimen)
    packed = zlib.compress(text)
    half = dice.randrange(1, len(text))
    made = dice.choice(
        [
            _itxt(text, words=b"en\0Badge\0"), _itxt(packed, flags=b"\1\0"), _itxt(packed),
            _itxt(text, flags=b"\1\0"),
            _itxt(packed[:-3], flags=b"\1\0"), _itxt(packed + text, flags=b"\1\0"), _itxt(text, flags=b"\0\1"),
            _itxt(text, flags=b"\2\0"), _itxt(text, words=b"\0"), _itxt(text, words=b"en"),
            _itxt(b" \n" + text + b"\n"),
            _itxt(text + b"\0"), _itxt(b"\0" + text), _itxt(text, _KEYWORD.title()), _itxt(text, b"openbadges"),
            _itxt(text, _KEYWORD + b" "), _itxt(text, b" " + _KEYWORD), _itxt(text[:half]) + _itxt(text[half:]),
            *(_chunk(kind, _KEYWORD + b"\0" + more + text) for kind, more in (
                (b"tEXt", b""), (b"zTXt", b"\0"), (b"itxt", b"\0\0\0\0"), (b"iTXT", b"\0\0\0\0"), (b"eXIf", b""),
            )),
            _itxt(json.dumps(text.decode()).encode()), _itxt(b"\xef\xbb\xbf" + text),
            _itxt(text.decode().encode("utf-16")),
        ]
    )  # fmt: skip
    chunks = _chunks(specimen.picture)
    return _png([chunks[0], made, *chunks[2:]])


def _written_in_svg(dice: Dice, specimen: Specimen) -> bytes:
    text = _inside(specimen)
    before, element, behind = _cut(specimen.picture)
    plain = _escaped(text)
    place = dice.randrange(1, len(text))
    halves = _escaped(text[:place]), _escaped(text[place:])
    bound, default = (b' xmlns%s="https://purl.imsglobal.org/ob/v3p0"' % one for one in (b":o", b""))
    made = dice.choice(
        [
            _OPEN + b">" + plain + _CLOSE, _OPEN + b">" + halves[0] + b"<!-- x -->" + halves[1] + _CLOSE,
            _OPEN + b">" + halves[0] + b"<?x y?>" + halves[1] + _CLOSE,
            _OPEN + b">" + halves[0] + b"<b/>" + halves[1] + _CLOSE,
            _OPEN + b">" + halves[0] + b"<b>" + halves[1] + b"</b>" + _CLOSE,
            _OPEN + b">" + halves[0] + b"&x;" + halves[1] + _CLOSE,
            _OPEN + b' openbadges:verify="' + plain + b'">' + _CLOSE, _OPEN + b' verify="' + plain + b'">' + _CLOSE,
            _OPEN + b' verify="' + plain + b'"/>', _OPEN + b' Verify="' + plain + b'">' + _CLOSE,
            _OPEN + b"></openbadges:credential >",
            b"<!-- " + element.replace(b"--", b"- -") + b" -->",
            b"<![CDATA[" + element.replace(b"]]>", b"]]&gt;") + b"]]>",
            _OPEN + b">\n " + plain + b"\n" + _CLOSE, _OPEN + b">&#xA0;" + plain + _CLOSE,
            _OPEN + b">" + "".join(f"&#{ord(one)};" for one in text.decode()).encode() + _CLOSE,
            element.replace(b"openbadges:credential", b"openbadges:Credential"),
            element.replace(b"openbadges:", b"o:").replace(b"<o:credential", b"<o:credential" + bound, 1),
            element.replace(_OPEN, _OPEN + b' xmlns:openbadges="http://openbadges.org"', 1),
            element.replace(b"openbadges:", b"").replace(b"<credential", b"<credential" + default, 1),
            _element(b"\xef\xbb\xbf" + text), _OPEN + b">" + text.replace(b"<", b"&lt;") + _CLOSE,
        ]
    )  # fmt: skip
    whole = before + made + behind
    try:
        known = whole.decode()
    except UnicodeDecodeError:
        return whole
    declared = known.replace('encoding="UTF-8"', dice.choice(['encoding="UTF-16"', 'encoding="ISO-8859-1"', ""]))
    entity = '<!DOCTYPE svg [<!ENTITY x "">]><svg'
    return dice.choice(
        [
            whole, whole, whole, whole, known.replace("<svg", entity, 1).encode(), declared.encode("utf-16"),
            declared.encode("latin-1", "xmlcharrefreplace"), b"\xef\xbb\xbf" + whole, known.upper().encode(),
            known.replace("\n", "\r\n").encode(),
        ]
    )  # fmt: skip


def second(dice: Dice, specimen: Specimen) -> bytes:
    """A second credential beside the genuine one: the same, a changed one, or a genuine one of somebody else."""
    text = _inside(specimen)
    other = dice.choice(
        [
            text, text.replace(b"Data", b"Law"), b"{}", b"a.b.c", *strangers_tokens(),
            *(text_of(one) for one in strangers()),
        ]
    )  # fmt: skip
    if _is_png(specimen):
        chunks = _chunks(specimen.picture)
        more = dice.choice(
            [
                _itxt(other), _itxt(other), _itxt(zlib.compress(other), flags=b"\1\0"),
                _chunk(b"tEXt", _KEYWORD + b"\0" + other),
                _chunk(b"zTXt", _KEYWORD + b"\0\0" + zlib.compress(other)), _itxt(other, b"openbadges"),
                _itxt(other, b"OpenBadgeCredential"), _chunk(b"tEXt", b"openbadges\0https://x.example/assertion"),
            ]
        )  # fmt: skip
        place = dice.randrange(1, len(chunks) + 1)
        return _png([*chunks[:place], more, *chunks[place:]])
    before, element, behind = _cut(specimen.picture)
    more = _element(other)
    both = b"" if other == text else other
    return dice.choice(
        [
            before + more + element + behind, before + element + more + behind,
            before + element + b"<g>" + more + b"</g>" + behind,
            before + element + behind.replace(b"</svg>", more + b"</svg>"), before + element + behind + more,
            before + element.replace(b">", b">" + more, 1) + behind,
            before + element.replace(_CLOSE, more + _CLOSE) + behind,
            before + element.replace(_OPEN, _OPEN + b' verify="a.b.c"', 1) + behind,
            before + element.replace(_CLOSE, _escaped(both) + _CLOSE) + behind,
            before + element + b"<metadata>" + _escaped(other) + b"</metadata>" + behind,
            before + element + b"<!-- " + other.replace(b"--", b"- -") + b" -->" + behind,
            before + element + b'<o:assertion xmlns:o="http://openbadges.org" verify="x"/>' + behind,
        ]
    )  # fmt: skip
