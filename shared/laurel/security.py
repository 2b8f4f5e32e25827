"""API keys, sealed personal data, secrets at rest, and the guard that incoming JSON passes before any parser."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from laurel import json_places

# --- API keys -----------------------------------------------------------------------------------------------

SCOPE_MEANINGS: dict[str, str] = {
    "achievements:read": "See achievements.",
    "achievements:write": "Make, change and retire achievements.",
    "results:read": "See results and imports: learners' data.",
    "results:write": "Send results.",
    "credentials:read": "See credentials and endorsements: learners' data.",
    "credentials:write": "Revoke, suspend, reinstate; tell of refreshes and messages; endorse.",
    "profiles:read": "See the organisation, its issuer profiles and their public keys.",
    "profiles:write": "Make and change issuer profiles and their signing keys.",
    "keys:read": "See API keys, never their secrets.",
    "keys:write": "Make, rotate and revoke API keys.",
    "webhooks:read": "See webhook endpoints, deliveries and e-mails: learners' data.",
    "webhooks:write": "Make, change and delete webhook endpoints; send again.",
    "reports:read": "See counts, ids for reconciling, and lists of dead letters.",
    "dead-letters:read": "See what dead letters hold: learners' data.",
    "dead-letters:write": "Redrive and discard them.",
    "erasures:read": "See how far erasures are.",
    "erasures:write": "Erase a learner, for ever.",
    "audit:read": "See the audit log.",
}
SCOPES: tuple[str, ...] = tuple(SCOPE_MEANINGS)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_KEY = re.compile(r"laurel_([0-9a-z]{12})_([0-9a-z]{32})([0-9a-z]{7})").fullmatch


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: an API key, itself or by an access token that it got (then token_id is the token's `jti`).

    scopes: of the key; of a token, those that it and its key both have.
    """

    tenant_id: str
    key_id: str
    scopes: frozenset[str]
    token_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made: `text` is shown once, `key_id` and `secret_hash` are stored."""

    text: str
    key_id: str
    secret_hash: str


def new_api_key(randomness: bytes | None = None, *, key_id: str | None = None) -> NewApiKey:
    """A key of the form laurel_<id>_<secret><checksum>: 160 secret bits, recognisable to secret scanners.

    key_id: of a key that gets another secret.
    """
    raw = os.urandom(44) if randomness is None else randomness
    letters = "".join(_ALPHABET[byte & 31] for byte in raw)
    key_id, secret = key_id or letters[:12], letters[12:44]
    return NewApiKey(f"laurel_{key_id}_{secret}{_checksum(key_id + secret)}", key_id, hash_secret(secret))


def parse_api_key(text: str) -> tuple[str, str] | None:
    """(key id, secret) of a well-formed key; None for anything else, without a look at the database."""
    match = _KEY(text)
    if match is None or not hmac.compare_digest(match[3], _checksum(match[1] + match[2])):
        return None
    return match[1], match[2]


def hash_secret(secret: str) -> str:
    """Hex SHA-256. The secret has 160 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(text: str) -> str:
    value = zlib.crc32(text.encode())
    return "".join(_ALPHABET[(value >> (5 * place)) & 31] for place in range(7))


# --- sealing ------------------------------------------------------------------------------------------------


class CannotUnseal(Exception):
    """The sealed text was made with another key, for another purpose, or was changed."""


def seal(key: bytes, plain: bytes, *, purpose: str) -> str:
    """AES-256-GCM, bound to its purpose; base64url text. For contact data in events and for signing keys at rest."""
    nonce = os.urandom(12)
    return base64.urlsafe_b64encode(nonce + AESGCM(key).encrypt(nonce, plain, purpose.encode())).decode()


def unseal(key: bytes, sealed: str, *, purpose: str) -> bytes:
    """The plain bytes. Raises CannotUnseal."""
    try:
        raw = base64.urlsafe_b64decode(sealed)
        return AESGCM(key).decrypt(raw[:12], raw[12:], purpose.encode())
    except (InvalidTag, ValueError) as error:
        raise CannotUnseal(f"cannot unseal {purpose}: wrong key or damaged text") from error


# --- incoming JSON ------------------------------------------------------------------------------------------

MAX_DEPTH = 32


class BadJson(ValueError):
    """Bytes that no parser of ours should see. clause: the text that says so; it stands at the end of detail, too.

    pointer: JSON Pointer (RFC 6901) of what is wrong, where it is known; offset: the byte where it begins.
    """

    def __init__(self, code: str, detail: str, clause: str, *, offset: int | None = None) -> None:
        super().__init__(f"{detail} ({clause})")
        self.code = code
        self.detail = f"{detail} ({clause})"
        self.clause = clause
        self.pointer: str | None = None
        self.offset = offset


# A string; one that does not end goes to the end, behind which no parser comes: nothing is read twice.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)'
_STRINGS = re.compile(_STRING, re.DOTALL)
_STRINGS_AND_BRACKETS = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# RFC 8259 §9: an implementation may set limits on the size of texts, the depth of nesting, the range and precision of
# numbers, and the length and character contents of strings. RFC 7493 is I-JSON.
_LIMITS = "RFC 8259 §9"


def guard_json(body: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON that a stranger sent.

    Refuses with BadJson: too_large, not_utf8, too_deep, not_json, not_finite (NaN, Infinity, 1e999), duplicate_key,
    bad_string (NUL or a lone surrogate).
    """
    if len(body) > max_bytes:
        raise BadJson("too_large", f"the body has {len(body)} bytes; {max_bytes} are allowed", _LIMITS)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson("not_utf8", f"byte {error.start} is not UTF-8", "RFC 8259 §8.1", offset=error.start) from None
    if body.count(b"[") + body.count(b"{") > max_depth and _is_deeper(body, max_depth):
        detail = f"nested deeper than {max_depth} levels"
        raise BadJson("too_deep", detail, _LIMITS, offset=_too_deep_at(body, max_depth))
    try:
        value = _decode(text)
        if "\\u" in text or "\x00" in text:  # only an escape can hide a NUL or a surrogate: UTF-8 has neither left here
            _check_strings(value)
    except BadJson as error:
        error.pointer, place = json_places.locate(text, error.code)
        error.offset = None if place is None else len(text[:place].encode())
        raise
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise BadJson("not_json", f"not JSON: {error}", "RFC 8259 §2", offset=offset) from None
    except (ValueError, RecursionError) as error:
        raise BadJson("not_json", f"not JSON: {error}", "RFC 8259 §2") from None
    return value


def _is_deeper(body: bytes, most: int) -> bool:
    """Whether it is nested deeper, without parsing: what is left of a text without its strings opens and closes."""
    depth = 0
    for bracket in _STRINGS.sub(b"", body).translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > most:
                return True
        else:
            depth -= 1
    return False


def _too_deep_at(body: bytes, most: int) -> int:
    depth = 0
    for token in _STRINGS_AND_BRACKETS.finditer(body):
        depth += 1 if token[0] in (b"[", b"{") else -1 if token[0] in (b"]", b"}") else 0
        if depth > most:
            return token.start()
    raise AssertionError("it is not as deep as that")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                detail = f"the key {name[:80]!r} stands twice in one object"
                raise BadJson("duplicate_key", detail, "RFC 8259 §4; RFC 7493 §2.3")
            seen.add(name)
    return made


def _constant(name: str) -> Any:
    raise BadJson("not_finite", f"{name} is not JSON", "RFC 8259 §6")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadJson("not_finite", f"the number {text[:40]} is out of range", "RFC 7493 §2.2")
    return value


def _int(text: str) -> int:
    if len(text) > json_places.MAX_DIGITS:
        raise BadJson("not_finite", f"an integer of {len(text)} digits is out of range", "RFC 7493 §2.2")
    return int(text)


_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
).decode


def _check_strings(value: Any) -> None:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if json_places.is_bad_string(one):
                raise BadJson("bad_string", "a string holds NUL or a lone surrogate", f"RFC 7493 §2.1; {_LIMITS}")
        elif isinstance(one, Mapping):
            pending.extend(one.keys())
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)
