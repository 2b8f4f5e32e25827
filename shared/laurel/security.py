"""API keys, sealed personal data, secrets at rest, and the guard that incoming JSON passes before any parser."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# --- API keys -----------------------------------------------------------------------------------------------

SCOPES: tuple[str, ...] = (
    "achievements:write", "results:write", "results:read", "credentials:read", "credentials:write",
    "profiles:write", "keys:write", "webhooks:write", "webhooks:read", "reports:read",
)  # fmt: skip

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_KEY = re.compile(r"laurel_([0-9a-z]{12})_([0-9a-z]{32})([0-9a-z]{7})").fullmatch


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling."""

    tenant_id: str
    key_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made: `text` is shown once, `key_id` and `secret_hash` are stored."""

    text: str
    key_id: str
    secret_hash: str


def new_api_key(randomness: bytes | None = None) -> NewApiKey:
    """A key of the form laurel_<id>_<secret><checksum>: 160 secret bits, recognisable to secret scanners."""
    raw = os.urandom(44) if randomness is None else randomness
    letters = "".join(_ALPHABET[byte & 31] for byte in raw)
    key_id, secret = letters[:12], letters[12:44]
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
    """Bytes that no parser of ours should see. `pointer` is a JSON pointer where one is known."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


# Without its strings a text shows what opens and closes: enough to measure depth without parsing. One that does not end
# goes to the end, behind which no parser comes; nothing in it is read twice.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def guard_json(body: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON that a stranger sent.

    Refuses with BadJson: too_large, not_utf8, too_deep, not_json, not_finite (NaN, Infinity, 1e999), duplicate_key,
    bad_string (NUL or a lone surrogate).
    """
    if len(body) > max_bytes:
        raise BadJson("too_large", f"the body has {len(body)} bytes; {max_bytes} are allowed")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson("not_utf8", f"byte {error.start} is not UTF-8 (RFC 8259 §8.1)") from None
    if body.count(b"[") + body.count(b"{") > max_depth and _depth(body) > max_depth:
        raise BadJson("too_deep", f"nested deeper than {max_depth} levels")
    try:
        value = _decode(text)
    except BadJson:
        raise
    except (ValueError, RecursionError) as error:
        raise BadJson("not_json", f"not JSON: {error}") from None
    if "\\u" in text or "\x00" in text:  # only an escape can hide a NUL or a surrogate: UTF-8 has neither left here
        _check_strings(value)
    return value


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for bracket in _STRINGS.sub(b"", body).translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > deepest:
                deepest = depth
        else:
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadJson("duplicate_key", f"the key {name[:80]!r} stands twice in one object (RFC 8259 §4)")
            seen.add(name)
    return made


def _constant(name: str) -> Any:
    raise BadJson("not_finite", f"{name} is not JSON (RFC 8259 §6)")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise BadJson("not_finite", f"the number {text[:40]} is out of range")
    return value


def _int(text: str) -> int:
    if len(text) > 40:
        raise BadJson("not_finite", f"an integer of {len(text)} digits is out of range")
    return int(text)


_decode = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
).decode


def _check_strings(value: Any) -> None:
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if "\x00" in one or _LONE_SURROGATE.search(one):
                raise BadJson("bad_string", "a string holds NUL or a lone surrogate")
        elif isinstance(one, Mapping):
            pending.extend(one.keys())
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)


class KnownKeys:
    """A short memory of API keys that were checked, so that a busy caller does not cost a query a request."""

    def __init__(self, *, seconds: float = 5.0, most: int = 10_000) -> None:
        self._seconds = seconds
        self._most = most
        self._known: dict[str, tuple[float, Principal]] = {}

    def get(self, key_id: str, secret_hash: str) -> Principal | None:
        """The principal, if this very key and secret were confirmed a moment ago."""
        found = self._known.get(key_id + secret_hash)
        return found[1] if found is not None and found[0] > time.monotonic() else None

    def put(self, secret_hash: str, principal: Principal, *, most_s: float | None = None) -> None:
        """Remember a confirmed key for a few seconds (that is also how long a revocation takes to bite).

        most_s: seconds until the key expires, None for never.
        """
        if len(self._known) >= self._most:
            self._known.clear()
        seconds = self._seconds if most_s is None else min(self._seconds, most_s)
        self._known[principal.key_id + secret_hash] = (time.monotonic() + seconds, principal)
