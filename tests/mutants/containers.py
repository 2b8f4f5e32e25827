"""Which changes of what a credential comes in change nothing: tokens and pictures. `meaning` judges what is in them.

Of a JSON Web Token (RFC 7515), where the characters of header and payload are signed:
 T1. blanks before it and behind it;
 T2. an EnvelopedVerifiableCredential around the token, if it says nothing more (VC Data Model 2.0 §4.13.1), and
     how that is written (J1);
 T3. (r, n - s) for (r, s), as P4;
 T4. the credential in it instead of it, where that has a proof of its own;
 T5. JSON around it whose one member `credential` it is.
No other character: header or payload written otherwise is another token, and so is the same token in base64url with
padding, stray bits or line breaks (RFC 7515 §2 has none).

Of a picture (Open Badges 3.0 §5.3), which nobody has signed:
 B1. whatever else is in it: pixels, art, other chunks and elements, other text, what stands behind the end of a PNG;
 B2. how its file writes the credential, and where: XML escapes, CDATA, comments, encodings; language, translated
     keyword and compression of an iTXt chunk; blanks around it;
 B3. another picture, or none: the credential is what counts.
A picture holds a credential if it holds one alone: two chunks or elements, even of the same, are another matter.

The pictures are read here by other code than the verifier's (ElementTree, and `struct` over the chunks of a PNG), which
believes more than the verifier does: no checksum is compared.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any
from xml.etree import ElementTree

from laurel.credential import multibase
from laurel.security import BadJson, guard_json
from laurel_verifier.documents import MAX_DOCUMENT
from tests.mutants.meaning import lesser_twin, same
from tests.mutants.specimens import Specimen

_BOM = b"\xef\xbb\xbf"
_PNG = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"openbadgecredential"
_ELEMENT = "{https://purl.imsglobal.org/ob/v3p0}credential"
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII).fullmatch
_ENVELOPED = "data:application/vc+jwt,"


def says_the_same(body: bytes, specimen: Specimen) -> bool:
    """Whether these bytes say what the specimen says, whatever they come in."""
    inside = taken_out(body)
    if inside is None:
        return False
    token = token_in(inside)
    if token is not None:
        return bool(specimen.token) and _same_token(token, specimen.token.decode())
    document = parsed(inside)
    if document is None or "proof" not in specimen.document:  # T4
        return False
    return same(document, specimen.document, specimen.form)


def parsed(body: bytes) -> Any:
    """The JSON in these bytes; None where it is none."""
    try:
        return guard_json(body.removeprefix(_BOM), max_bytes=MAX_DOCUMENT)
    except BadJson:
        return None


def taken_out(body: bytes) -> bytes | None:
    """The credential in a picture (None: not one alone); of anything else the bytes themselves."""
    if body.startswith(_PNG):
        return _one(_chunks(body))
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or body.removeprefix(_BOM).lstrip()[:1] == b"<":
        return _one(_elements(body))
    return body


def _one(found: list[bytes]) -> bytes | None:
    return found[0].strip() if len(found) == 1 else None


def _chunks(body: bytes) -> list[bytes]:
    """The text of each iTXt chunk with the keyword. PNG (ISO/IEC 15948) §5.3, §11.3.4.5"""
    found = []
    place = len(_PNG)
    while place + 8 <= len(body):
        size, kind = struct.unpack_from(">I4s", body, place)
        data = body[place + 8 : place + 8 + size]
        if kind == b"IEND":
            break
        if kind == b"iTXt" and data.startswith(_KEYWORD + b"\0"):
            rest = data[len(_KEYWORD) + 1 :]
            text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]  # behind the language and the translated keyword
            try:
                found.append(zlib.decompress(text) if rest[:1] == b"\1" else text)
            except zlib.error:
                found.append(b"")
        place += 12 + size
    return found


def _elements(body: bytes) -> list[bytes]:
    """The text and the attribute `verify` of each element openbadges:credential."""
    try:
        root = ElementTree.fromstring(body.lstrip() if body[:1] not in (b"\xff", b"\xfe") else body)
    except (ElementTree.ParseError, ValueError, LookupError):
        return []
    found = []
    for element in root.iter(_ELEMENT):
        texts = [element.get("verify", ""), *element.itertext()]
        found += [text.strip().encode() for text in (texts[0], "".join(texts[1:])) if text.strip()]
    return found


# --- tokens ---------------------------------------------------------------------------------------------------------


def token_in(inside: bytes) -> str | None:
    """The token that these bytes are, or hold as an EnvelopedVerifiableCredential."""
    text = inside.removeprefix(_BOM).strip().decode("utf-8", "replace")
    if _TOKEN(text):
        return text  # T1
    document = parsed(inside)
    if isinstance(document, dict) and document.keys() == {"credential"} and isinstance(document["credential"], str):
        return token_in(document["credential"].encode())  # T5
    if not isinstance(document, dict) or document.keys() != {"@context", "id", "type"}:
        return None
    identifier = document["id"]
    enveloped = document["type"] in ("EnvelopedVerifiableCredential", ["EnvelopedVerifiableCredential"])
    if not enveloped or not isinstance(identifier, str) or not identifier.lower().startswith(_ENVELOPED):
        return None
    return identifier[len(_ENVELOPED) :]  # T2


def _same_token(token: str, original: str) -> bool:
    signed, _, signature = token.rpartition(".")
    signed_then, _, signature_then = original.rpartition(".")
    if signed != signed_then:
        return False
    if signature == signature_then:
        return True
    header = parsed(multibase.base64url_decode(signed.partition(".")[0]))
    if not str(header["alg"]).startswith("ES"):
        return False
    try:
        raw = multibase.base64url_decode(signature)
    except multibase.MultibaseError:
        return False
    return lesser_twin(raw) == lesser_twin(multibase.base64url_decode(signature_then))  # T3
