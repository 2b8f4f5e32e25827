"""What may vary between the credentials of one template, and the rule by which a value surely passes lint.

A rule may say no to a value that lint would take (the credential then goes the full way), never yes to one that lint
would refuse. Each names the lint rules that it stands for. The JSON schema asks of these properties that they are
strings, and of times that they are timestamps; nothing else in it looks at a value that varies here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from laurel.credential.lint_achievement import result_descriptions, wrong_value
from laurel.credential.lint_open_badge import SHA256_IDENTITY
from laurel.credential.lint_text import FREE_TEXT, is_clean
from laurel.credential.template import (
    NotCompilable,
    Path,
    Slot,
    iri_slot,
    is_plain_iri,
    is_plain_text,
    value_at,
    web_slot,
)
from laurel.credential.text import is_did, is_plausible, shows_nothing

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z").fullmatch
_INDEX = re.compile(r"0|[1-9][0-9]{0,15}").fullmatch
_ORDINARY = re.compile(r"[!#-;=?-Z^-z|~]+").fullmatch  # ASCII: no space, nothing to escape


def slot_at(document: dict[str, Any], path: Path) -> Slot:
    """The slot for the string at `path` of an Open Badge. Raises NotCompilable for a place that may not vary."""
    match path:
        case ("credentialSubject", "id"):
            # recipient, self-awarded (an identifier that stands elsewhere goes the full way), absolute-ids
            return Slot(path, True, _is_plain_learner)
        case ("id",):
            return iri_slot(path)  # credential-id, described-once
        case ("evidence", int(), "id"):
            return web_slot(path)  # evidence, absolute-ids, described-once
        case ("credentialStatus", "id") | ("credentialStatus", int(), "id"):
            return iri_slot(path)  # absolute-ids, status-unique
        case ("credentialStatus", "statusListIndex") | ("credentialStatus", int(), "statusListIndex"):
            return Slot(path, False, _INDEX)  # status-entries
        case ("validFrom",) | ("validUntil",) | ("awardedDate",):
            return Slot(path, False, is_utc_second)  # timestamps, plausible-years; their order: `ordered`
        case ("credentialSubject", "activityStartDate") | ("credentialSubject", "activityEndDate"):
            return Slot(path, False, is_utc_second)
        case ("credentialSubject", "identifier", int(), "identityHash"):
            return Slot(path, False, SHA256_IDENTITY)  # identity-hash; MD5 has a warning of its own
        case ("credentialSubject", "identifier", int(), "salt"):
            return Slot(path, False, _text_rule("salt"))
        case ("credentialSubject", "result", int(), "value"):
            return Slot(path, False, _result_rule(document, path))
        case ("evidence", int(), ("name" | "narrative" | "description" | "genre" | "audience") as name):
            return Slot(path, False, _text_rule(name))
        case ("credentialSubject", ("licenseNumber" | "role" | "term") as name):
            return Slot(path, False, _text_rule(name))
    raise NotCompilable(f"{path} may not vary")


def varying_paths(document: dict[str, Any]) -> Iterator[Path]:
    """Every place of an Open Badge that may vary and holds a string."""
    stack: list[Path] = [()]
    while stack:
        path = stack.pop()
        value = value_at(document, path)
        if isinstance(value, dict):
            stack.extend((*path, key) for key in reversed(value))
        elif isinstance(value, list):
            stack.extend((*path, index) for index in reversed(range(len(value))))
        elif isinstance(value, str) and _may_vary(document, path):
            yield path


def _may_vary(document: dict[str, Any], path: Path) -> bool:
    try:
        slot_at(document, path)
    except NotCompilable:
        return False
    return True


class Order(NamedTuple):
    """The time number `last` may not be before the time number `first`, as far as their first `length` characters."""

    first: int
    last: int
    length: int


# A credential that is awarded on the day from which it is valid is awarded within a day of it (rule awarded-date).
_ORDERED: tuple[tuple[Path, Path, int], ...] = (
    (("validFrom",), ("validUntil",), len("2026-05-04T12:30:00Z")),
    (("credentialSubject", "activityStartDate"), ("credentialSubject", "activityEndDate"), len("2026-05-04T12:30:00Z")),
    (("awardedDate",), ("validFrom",), len("2026-05-04")),
)


def ordered(document: dict[str, Any], paths: tuple[Path, ...]) -> tuple[list[Order], tuple[str, ...]]:
    """Which times may not be before which (periods, awarded-date), by their numbers among the values; and the fixed
    times that are compared with, which follow the values.

    Raises NotCompilable where lint compares a varying time with one of another form, or two entries in one list.
    """
    found: list[Order] = []
    fixed: list[str] = []

    def number(path: Path) -> int:
        if path in paths:
            return paths.index(path)
        time: str = value_at(document, path)
        if not is_utc_second(time):
            raise NotCompilable(f"{path} is a time of another form, with which texts can not be compared")
        fixed.append(time)
        return len(paths) + len(fixed) - 1

    for first, last, length in _ORDERED:
        there = value_at(document, first) is not None and value_at(document, last) is not None
        if there and (first in paths or last in paths):
            found.append(Order(number(first), number(last), length))
    entries = document.get("credentialStatus")
    lists = [entry.get("statusListCredential") for entry in entries] if isinstance(entries, list) else []
    if len(set(lists)) != len(lists):
        raise NotCompilable("two status entries are in one list, where their indexes may not be equal")
    return found, tuple(fixed)


@functools.lru_cache(maxsize=4096)
def is_utc_second(text: str) -> bool:
    """Whether `text` is a plausible time in UTC, as `text.timestamp` writes it; such texts sort by time."""
    if _TIME(text) is None:
        return False
    try:
        return is_plausible(datetime.fromisoformat(text))
    except ValueError:
        return False


def _is_plain_learner(text: str) -> bool:
    return is_plain_iri(text) and (not text.startswith("did:") or is_did(text))


def _text_rule(name: str) -> Callable[[str], bool]:
    """The rules for text by their own functions, no-empty-values, plain-json; and nothing that needs an escape."""

    def accepts(text: str) -> bool:
        if name not in FREE_TEXT and name != "value" and _ORDINARY(text) is not None:
            return True
        return is_plain_text(text) and not shows_nothing(text) and is_clean(name, text)

    return accepts


def _result_rule(document: dict[str, Any], path: Path) -> Callable[[str], bool]:
    """result-values, and what holds for every text."""
    text_rule = _text_rule("value")
    reference = value_at(document, (*path[:-1], "resultDescription"))
    described = result_descriptions(value_at(document, ("credentialSubject", "achievement")) or {})
    description = {} if reference is None else described.get(str(reference), {})

    @functools.lru_cache(maxsize=1024)
    def accepts(text: str) -> bool:
        return text_rule(text) and wrong_value(description, text) is None

    return accepts
