"""JSON Canonicalization Scheme (RFC 8785)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import rfc8785

from laurel.errors import LaurelError


class NotCanonicalizable(LaurelError):
    """The value has no canonical JSON: NaN, an integer that no double holds, a lone surrogate, a key that is no string,
    …"""


def canonical(value: Any) -> bytes:
    """The canonical UTF-8 JSON of `value`. Raises NotCanonicalizable (RFC 8785 §3.2.2, §3.2.3; RFC 7493 §2)."""
    try:
        try:
            return rfc8785.dumps(value)
        except rfc8785.IntegerDomainError:
            return rfc8785.dumps(_with_doubles(value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonicalizable(f"{type(error).__name__}: {error}") from error


def _with_doubles(value: Any) -> Any:
    """Integers beyond 2^53 that stand for one double, as that double (§3.2.2.3).

    7.12e16 is written 71200000000000000, which Python reads as an integer; an integer between two doubles stays one.
    """
    if isinstance(value, dict):
        return {name: _with_doubles(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_doubles(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        double = float(value)
        return double if double == value or int(Decimal(repr(double))) == value else value
    return value
