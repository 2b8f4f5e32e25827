"""JSON Canonicalization Scheme (RFC 8785)."""

from __future__ import annotations

from typing import Any

import rfc8785

from laurel.errors import LaurelError


class NotCanonicalizable(LaurelError):
    """The value has no canonical JSON: NaN, an integer beyond 2^53, a lone surrogate, a key that is no string, …"""


def canonical(value: Any) -> bytes:
    """The canonical UTF-8 JSON of `value`. Raises NotCanonicalizable (RFC 8785 §3.2.2, §3.2.3; RFC 7493 §2)."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonicalizable(f"{type(error).__name__}: {error}") from error
