"""Where in a JSON text a refusal points. It reads the text again, so only texts that are refused come here."""

from __future__ import annotations

import itertools
import json
import math
import re

from laurel.credential.text import pointer

MAX_POINTER = 1000  # characters: an answer is not as long as what it answers
MAX_DIGITS = 40  # of an integer
_MAX_PARTS = 100_000  # tenths of a second: nobody shall be kept busy by what is refused

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PART = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},:]|-?[0-9][0-9.eE+-]*|[^\s\[\]{},:"]+', re.DOTALL
).finditer


def is_bad_string(text: str) -> bool:
    """Whether it holds what no string of ours may: NUL, or half a surrogate pair."""
    return "\x00" in text or _LONE_SURROGATE.search(text) is not None


def _is_bad_number(text: str) -> bool:
    if text in ("true", "false", "null"):
        return False
    digits = text.removeprefix("-")
    try:
        return len(text) > MAX_DIGITS if digits.isdecimal() else not math.isfinite(float(text))
    except ValueError:  # no number at all: what is refused stands before it or behind it
        return False


def locate(text: str, code: str) -> tuple[str | None, int | None]:
    """JSON Pointer (None: it cannot be written) and index of the first value that is what `code` says.

    code: not_finite, bad_string or duplicate_key; up to there the text must be JSON. (None, None): too far away.
    """
    path: list[str | int] = []
    names: list[dict[str, int | None]] = []  # of each object that is open: its names, and where they stand again
    naming = False
    for part in itertools.islice(_PART(text), _MAX_PARTS):
        piece = part[0]
        if piece in ("{", "["):
            path.append("" if piece == "{" else 0)
            names.append({})
            naming = piece == "{"
        elif piece in ("}", "]"):
            path.pop()
            again = next(((name, at) for name, at in names.pop().items() if at is not None), None)
            if again is not None and code == "duplicate_key":
                return _written((*path, again[0])), again[1]
            naming = False
        elif piece == ",":
            last = path[-1]
            naming = isinstance(last, str)
            if isinstance(last, int):
                path[-1] = last + 1
        elif piece == ":":
            naming = False
        elif piece[0] == '"':
            value: str = json.loads(piece) if "\\" in piece else piece[1:-1]
            if code == "bad_string" and is_bad_string(value):
                return _written(tuple(path[:-1] if naming else path)), part.start()
            if naming:
                path[-1] = value
                known = names[-1]
                known[value] = (known[value] or part.start()) if value in known else None
        elif code == "not_finite" and _is_bad_number(piece):
            return _written(tuple(path)), part.start()
    return None, None


def _written(path: tuple[str | int, ...]) -> str | None:
    found = pointer(path)
    return found if len(found) <= MAX_POINTER and not _LONE_SURROGATE.search(found) else None
