"""In which forms an indexed credential is handed out: as it was issued, under the media types that name what it is."""

from __future__ import annotations

from dataclasses import dataclass

from laurel.credential import jose

HTML = "text/html"
JSON_TYPES = ("application/vc+ld+json", "application/vc", "application/ld+json", "application/json")
# VC-JOSE-COSE 1.0 §6.1; Open Badges 3.0 §6.2 answers a compact JWS as text, RFC 7519 §10.3 has a name for it.
TOKEN_TYPES: dict[str, tuple[str, ...]] = {
    "vc+jwt": ("application/vc+jwt", "application/jwt", "text/plain"),
    "vc-jwt": ("text/plain", "application/jwt"),
}
# All that a credential may come as.
MEDIA_TYPES = (*JSON_TYPES, *dict.fromkeys(name for names in TOKEN_TYPES.values() for name in names))


@dataclass(frozen=True, slots=True)
class Representation:
    """content: the exact JSON, or the compact JWS. offers: its media types, the best first. suffix: of its file."""

    content: bytes
    offers: tuple[str, ...]
    suffix: str


def representation(stored: bytes) -> Representation:
    """What an index row holds, as a client takes it."""
    if not stored.startswith(b'"'):
        return Representation(stored, JSON_TYPES, "json")
    _, token = jose.opened(stored)
    assert token is not None
    return Representation(token.encode(), TOKEN_TYPES[jose.parse(token).format], "jwt")
