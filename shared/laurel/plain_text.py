"""Strangers' words among ours: what no terminal, log or page may take for more than text."""

from __future__ import annotations

import unicodedata

_CONTROLS = ("Cc", "Cs", "Cf")


def legible(text: str) -> str:
    """A stranger's words for one line of ours: they move no cursor, begin no line and turn no text around."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def is_plain(text: str) -> bool:
    """Whether it may be kept as somebody's words: no control or format characters (Unicode's Cc, Cf), no half of a
    surrogate pair."""
    return all(unicodedata.category(one) not in _CONTROLS for one in text)
