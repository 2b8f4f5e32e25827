"""Access tokens: JSON Web Tokens as RFC 9068 profiles them, signed by the issuer service, checked by every service.

Pure. One algorithm (Ed25519, RFC 9864 §2.2), which no header may choose: `alg` is compared, never followed. A token
carries no authority of its own: `laurel.callers` holds it against the API key that it names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

ALGORITHM = "Ed25519"
TYPE = "at+jwt"  # RFC 9068 §2.1
MAX_TOKEN = 4096  # characters
LEEWAY_S = 5.0  # that two machines' clocks may differ by

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").fullmatch
_KID = re.compile(r"[0-9A-Za-z-]{1,64}").fullmatch
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+").fullmatch  # RFC 6749 §3.3 scope-token


class BadToken(Exception):
    """No access token of ours, or one that does not hold here and now. Never tells the token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says (RFC 9068 §2.2). expires_at: Unix time."""

    client_id: str
    token_id: str
    scopes: frozenset[str]
    expires_at: float


def sign(
    seed: bytes,
    kid: str,
    *,
    issuer: str,
    client_id: str,
    token_id: str,
    scopes: tuple[str, ...],
    now: float,
    ttl_s: int,
) -> str:
    """A token. seed: 32 bytes of an Ed25519 key. issuer: also the audience, for our services are one resource.

    now: Unix time.
    """
    header = {"typ": TYPE, "alg": ALGORITHM, "kid": kid}
    claims: dict[str, Any] = {
        "iss": issuer, "aud": issuer, "sub": client_id, "client_id": client_id, "scope": " ".join(scopes),
        "iat": int(now), "exp": int(now) + ttl_s, "jti": token_id,
    }  # fmt: skip
    return jwt.encode(header, claims, _private(seed), algorithms=[ALGORITHM])


def key_named(text: str) -> str:
    """The `kid` of a token's header, of which nothing else is believed. Raises BadToken."""
    if len(text) > MAX_TOKEN or not _COMPACT(text):
        raise BadToken
    try:
        header = jws.extract_compact(text.encode()).headers()
    except (JoseError, ValueError) as error:
        raise BadToken from error
    kid = header.get("kid")
    if header.get("alg") != ALGORITHM or header.get("typ") not in (TYPE, f"application/{TYPE}"):
        raise BadToken
    if not isinstance(kid, str) or not _KID(kid):
        raise BadToken
    return kid


def verify(text: str, public_key: bytes, *, issuer: str, now: float) -> Claims:
    """What a token says that `public_key` (32 bytes) signed and that holds now (RFC 9068 §4). Raises BadToken."""
    key_named(text)
    rules = jwt.JWTClaimsRegistry(
        now=int(now), leeway=int(LEEWAY_S),
        iss={"essential": True, "value": issuer}, aud={"essential": True, "value": issuer},
        exp={"essential": True}, iat={"essential": True}, sub={"essential": True}, jti={"essential": True},
        client_id={"essential": True}, scope={"essential": True, "allow_blank": True},
    )  # fmt: skip
    try:
        claims = jwt.decode(text, _public(public_key), algorithms=[ALGORITHM]).claims
        rules.validate(claims)
    except (JoseError, ValueError, TypeError) as error:
        raise BadToken from error
    client, token_id, scope = (claims[name] for name in ("client_id", "jti", "scope"))
    if not all(isinstance(one, str) for one in (client, token_id, scope)) or client != claims["sub"]:
        raise BadToken
    return Claims(client, token_id, frozenset(scope.split()), float(claims["exp"]) + LEEWAY_S)


def _private(seed: bytes) -> OKPKey:
    return OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(seed))


def _public(public_key: bytes) -> OKPKey:
    return OKPKey.import_key(Ed25519PublicKey.from_public_bytes(public_key))


def public_key_of(seed: bytes) -> bytes:
    """The 32 bytes that verify what `seed` signs."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def scope_tokens(text: str) -> tuple[str, ...] | None:
    """The scopes of a `scope` parameter, each once (RFC 6749 §3.3); None where it is not written as one."""
    parts = text.split(" ")
    return tuple(dict.fromkeys(parts)) if all(_SCOPE(one) for one in parts) else None
