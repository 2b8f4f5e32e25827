"""Which representation a client gets (RFC 9110 §12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence


def negotiate(accept: str | None, offers: Sequence[str]) -> str | None:
    """The offer that `accept` likes best; of equals the first. None: the client takes none of them."""
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [_range(part) for part in accept.split(",")[:50]]
    best, best_quality = None, 0.0
    for offer in offers:
        quality = _quality(offer, ranges)
        if quality > best_quality:
            best, best_quality = offer, quality
    return best


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return name, quality


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Of the ranges that match, the most specific one decides."""
    for pattern in (offer, offer.partition("/")[0] + "/*", "*/*"):
        matching = [quality for name, quality in ranges if name == pattern]
        if matching:
            return max(matching)
    return 0.0
