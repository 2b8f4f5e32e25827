"""What somebody handed in, purely: from any bytes to the credential in them, by what they are and not by their label.

JSON, a compact JWS (a credential signed as a JWT), a PNG or SVG with one of these baked in, or the address where one of
them is. The text of a QR code is the text of one of these. Whatever else people take for a credential is told by name.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from laurel.credential.baking import Format, is_compact_jws, unbake
from laurel.credential.images import PNG_SIGNATURE, BadImage
from laurel.errors import LaurelError
from laurel.security import BadJson, guard_json

MAX_DOCUMENT = 1 << 20  # bytes of one credential
_MAX_TEXT = MAX_DOCUMENT * 4 // 3 + 1024  # a JWT of it: base64url, header and signature
_MAX_WRAPPER = _MAX_TEXT + (64 << 10)  # one of them as a member, and what may stand beside it
MAX_ADDRESS = 2048  # characters
MAX_RECIPIENT = 320  # characters
OWN_FILES = ("badge.png", "badge.svg")  # below the page of a credential

# The request may be right, but no document came of it: what the address answered, not what was handed in.
ADDRESS_CODES = frozenset({"fetch_refused", "fetch_failed", "not_found", "bad_answer"})

_OTHER_FILES = (
    (b"\xff\xd8\xff", "a JPEG picture"), (b"GIF8", "a GIF picture"), (b"RIFF", "a WebP picture"),
    (b"%PDF-", "a PDF document"), (b"PK\x03\x04", "a ZIP archive"), (b"\x1f\x8b", "a gzip archive"),
)  # fmt: skip
_CREDENTIAL_ID = re.compile(r"[0-9A-Za-z-]{1,64}").fullmatch
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|meta)\b", re.IGNORECASE).match
_UTF16_TAG = (b"\xff\xfe<\0", b"\xfe\xff\0<")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,40}):").match
_SD_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+~[A-Za-z0-9_.~-]*").fullmatch
# OpenID for Verifiable Credential Issuance and Presentations, and their profiles: what wallets' QR codes hold.
_FOR_WALLETS = re.compile(r"(openid|haip|eudi|siop|mdoc|didcomm|iden3comm|dccrequest).*", re.IGNORECASE).fullmatch
_OPEN_BADGES_2 = re.compile(
    r"https?://(w3id\.org/openbadges|openbadgespec\.org|purl\.imsglobal\.org/spec/ob/v2p)"
).match


class Unreadable(LaurelError):
    """No credential could be had from what was handed in. code: stable; detail: why, and what to do.

    pointer: JSON Pointer (RFC 6901) of what is wrong; offset: the byte where it begins; clause: the text that asks for
    it. None: not known.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        pointer: str | None = None,
        offset: int | None = None,
        clause: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.offset = offset
        self.clause = clause


@dataclass(frozen=True, slots=True)
class Document:
    """A credential as it was handed in. content: UTF-8 JSON or a compact JWS; value: the parsed JSON.

    baked: the picture that it was taken out of.
    """

    kind: Literal["json", "jwt"]
    content: bytes
    value: Any = None
    baked: Format | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where a credential is said to be."""

    url: str


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A credential of a kind that is known and not verified here: neither right nor wrong."""

    code: str
    detail: str
    baked: Format | None = None


def read(body: bytes) -> Document | Address | Unsupported:
    """What these bytes are. Raises Unreadable, at once also for what is too large, too deep or a bomb."""
    if body.startswith(PNG_SIGNATURE):
        return _unbaked(body, "png")
    text = body.removeprefix(codecs.BOM_UTF8).lstrip()
    start, text = len(body) - len(text), text.rstrip()
    if text[:1] == b"<" or body[:4] in _UTF16_TAG:
        if _HTML(text):
            raise Unreadable("web_page", "this is a web page; give the credential itself, or its address")
        return _unbaked(body, "svg")
    for magic, what in _OTHER_FILES:
        if body.startswith(magic):
            detail = f"this is {what}; a credential is baked into a PNG or SVG, or comes as JSON or a JWT"
            raise Unreadable("wrong_file", f"{detail} (Open Badges 3.0 §5.3)")
    if is_compact_jws(text):
        return _jwt(text)
    if text[:1] in (b"{", b"["):
        return _json(text, start=start)
    return _text(text, start)


def is_wrapper(found: Document | Address | Unsupported) -> bool:
    """Whether it is JSON around what was meant: {credential} or {url}, with an expected_recipient or without."""
    if not isinstance(found, Document) or found.baked is not None or not isinstance(found.value, dict):
        return False
    return "@context" not in found.value and ("credential" in found.value or "url" in found.value)


def unwrap(body: dict[str, Any]) -> tuple[Document | Address | Unsupported, str | None]:
    """What is in a wrapper, and the recipient that it names. Raises Unreadable."""
    recipient = body.get("expected_recipient")
    if recipient is not None and (not isinstance(recipient, str) or len(recipient) > MAX_RECIPIENT):
        raise _unfit("/expected_recipient", "must be an e-mail address or a DID")
    if "url" in body:
        if "credential" in body:
            raise _unfit("/url", "there is a /credential as well; send one of them")
        if not isinstance(body["url"], str):
            raise _unfit("/url", "must be the address of a credential")
        return _member(body, "url", address), recipient
    if isinstance(body["credential"], str):
        return _member(body, "credential", lambda text: read(text.encode())), recipient
    if not isinstance(body["credential"], dict):
        raise _unfit("/credential", "must be the credential as a JSON object, or a JWT")
    return from_json(body["credential"]), recipient


def _unfit(pointer: str, why: str) -> Unreadable:
    return Unreadable("invalid_input", f"{pointer}: {why}", pointer=pointer)


def _member(
    body: dict[str, Any], name: str, reading: Callable[[str], Document | Address | Unsupported]
) -> Document | Address | Unsupported:
    """What the text of a member is; places within the text are none of the body."""
    try:
        return reading(body[name])
    except Unreadable as error:
        error.pointer, error.offset = f"/{name}", None
        raise


def address(url: str) -> Address:
    """An address that somebody gave as one. Raises Unreadable for what is none, or is no credential's."""
    url = url.strip()
    found = _text(url.encode("utf-8", "replace"))
    if not isinstance(found, Address):
        raise Unreadable("bad_url", "this is not a web address: it begins with https://")
    return found


def credential_id_at(url: str, base_url: str) -> str | None:
    """The id of the credential at an address below our own /c/, "" where it can be none's; None: not our address."""
    prefix = f"{base_url}/c/"
    if not url.lower().startswith(prefix.lower()):
        return None
    name = re.split("[?#]", url[len(prefix) :], maxsplit=1)[0]
    for suffix in OWN_FILES:
        name = name.removesuffix("/" + suffix)
    return name if _CREDENTIAL_ID(name) else ""


def from_json(value: Any, content: bytes = b"", baked: Format | None = None) -> Document | Unsupported:
    """Parsed JSON that has passed the guard. Assertions of Open Badges 2.0 or older, which hold no proof, are told."""
    contexts = value.get("@context") if isinstance(value, dict) else None
    first = contexts[0] if isinstance(contexts, list) and contexts else contexts
    if isinstance(first, str) and _OPEN_BADGES_2(first):
        detail = "this is an Open Badges 2.0 assertion; Open Badges 3.0 is what is verified here: ask for a new one"
        return Unsupported("open_badges_2", detail, baked)
    return Document("json", content, value, baked)


def _unbaked(body: bytes, baked: Format) -> Document | Unsupported:
    try:
        inside = unbake(body)
    except BadImage as error:
        if error.code == "open_badges_2":
            return Unsupported(error.code, error.detail, baked)
        raise Unreadable(error.code, f"{error.detail} (Open Badges 3.0 §5.3)") from None
    return _jwt(inside, baked) if is_compact_jws(inside) else _json(inside, baked, start=None)


def _jwt(text: bytes, baked: Format | None = None) -> Document:
    if len(text) > _MAX_TEXT:
        raise Unreadable("too_large", f"the JWT has {len(text):,} bytes; {_MAX_TEXT:,} are checked")
    return Document("jwt", text, None, baked)


def _json(text: bytes, baked: Format | None = None, *, start: int | None) -> Document | Unsupported:
    """start: the byte of what was handed in where the text begins; None: it does not stand there as it is."""
    try:
        value = guard_json(text, max_bytes=_MAX_WRAPPER)
    except BadJson as error:
        offset = None if start is None or error.offset is None else start + error.offset
        raise Unreadable(error.code, error.detail, pointer=error.pointer, offset=offset, clause=error.clause) from None
    found = from_json(value, text, baked)
    if len(text) > MAX_DOCUMENT and not is_wrapper(found):
        raise Unreadable("too_large", f"the credential has {len(text):,} bytes; {MAX_DOCUMENT:,} are checked")
    return found


def _text(body: bytes, start: int = 0) -> Address | Document | Unsupported:
    if not body:
        raise Unreadable("empty", "there is nothing in it")
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        offset = start + error.start
        detail = f"byte {offset} is not UTF-8; a credential is JSON, a JWT, or a PNG or SVG that holds one"
        raise Unreadable("not_utf8", detail, offset=offset, clause="RFC 8259 §8.1") from None
    if _SD_JWT(text):
        detail = "this is an SD-JWT, which is not verified here: ask for an Open Badge 3.0"
        return Unsupported("unsupported_format", detail)
    if text.startswith("eyJ"):  # base64url of '{"'
        detail = "this looks like a JSON Web Token that is damaged or not signed: it has three parts of base64url"
        raise Unreadable("malformed_jwt", f"{detail} with a point between them, and no padding or line breaks")
    scheme = _SCHEME(text[:60])
    if scheme is None or any(letter.isspace() for letter in text[:MAX_ADDRESS]):
        return _json(body, start=start)  # the guard says what is wrong with it
    if scheme[1].lower() in ("http", "https"):
        if len(text) > MAX_ADDRESS:
            raise Unreadable("bad_url", f"the address is longer than {MAX_ADDRESS:,} characters")
        return Address(text)
    if _FOR_WALLETS(scheme[1]):
        detail = "this is an offer or a request to a wallet, not a credential: open it with a wallet"
        raise Unreadable("wallet_link", f"{detail}, and verify what the wallet then holds")
    if scheme[1].lower() == "did":
        detail = "this is a DID, the name of an issuer or a holder"
        raise Unreadable("bad_url", f"{detail}; a credential's address begins with https://")
    raise Unreadable(
        "bad_url", f"addresses of {scheme[1][:40]}: are not looked up; a credential's begins with https://"
    )
