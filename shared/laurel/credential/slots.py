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
from typing import Any

from laurel.credential import lint_open_badge as badge
from laurel.credential import lint_rules as common
from laurel.credential.template import NotCompilable, Path, Slot, iri_slot, is_plain_iri, is_plain_text, value_at
from laurel.credential.text import is_did

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z").fullmatch
_SHA256 = re.compile(r"sha256\$[0-9a-fA-F]{64}").fullmatch  # MD5 has a warning of its own
_INDEX = re.compile(r"0|[1-9][0-9]{0,15}").fullmatch
_ORDINARY = re.compile(r"[!#-;=?-Z^-z|~]+").fullmatch  # ASCII: no space, nothing to escape


def slot_at(document: dict[str, Any], path: Path) -> Slot:
    """The slot for the string at `path` of an Open Badge. Raises NotCompilable for a place that may not vary."""
    match path:
        case ("credentialSubject", "id"):
            return Slot(path, True, _is_plain_learner)  # recipient, absolute-ids, clean-text, no-empty-values
        case ("id",) | ("evidence", int(), "id"):
            return iri_slot(path)  # absolute-ids, clean-text, no-empty-values
        case ("credentialStatus", "id") | ("credentialStatus", int(), "id"):
            return iri_slot(path)
        case ("credentialStatus", "statusListIndex") | ("credentialStatus", int(), "statusListIndex"):
            return Slot(path, False, _INDEX)  # status-entries
        case ("validFrom",) | ("validUntil",) | ("awardedDate",):
            return Slot(path, False, is_utc_second)  # dates; their order: `ordered`
        case ("credentialSubject", "activityStartDate") | ("credentialSubject", "activityEndDate"):
            return Slot(path, False, is_utc_second)
        case ("credentialSubject", "identifier", int(), "identityHash"):
            return Slot(path, False, _SHA256)  # recipient
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


def ordered(document: dict[str, Any], paths: tuple[Path, ...]) -> list[tuple[int, int]]:
    """Numbers of the times of which the second may not be before the first (rule dates).

    Raises NotCompilable where lint compares a varying value with a fixed one: a period that varies at one end, two
    entries in one status list.
    """
    found = []
    for first, last in (
        (("validFrom",), ("validUntil",)),
        (("credentialSubject", "activityStartDate"), ("credentialSubject", "activityEndDate")),
    ):
        if value_at(document, first) is None or value_at(document, last) is None:
            continue
        if (first in paths) != (last in paths):
            raise NotCompilable(f"{first} and {last} have an order, and only one of them varies")
        if first in paths:
            found.append((paths.index(first), paths.index(last)))
    entries = document.get("credentialStatus")
    lists = [entry.get("statusListCredential") for entry in entries] if isinstance(entries, list) else []
    if len(set(lists)) != len(lists):
        raise NotCompilable("two status entries are in one list, where their indexes may not be equal")
    return found


@functools.lru_cache(maxsize=4096)
def is_utc_second(text: str) -> bool:
    """Whether `text` is a day and a time of it in UTC, as `text.timestamp` writes them; such texts sort by time."""
    if _TIME(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_plain_learner(text: str) -> bool:
    return is_plain_iri(text) and (not text.startswith("did:") or is_did(text))


def _text_rule(name: str) -> Callable[[str], bool]:
    """clean-text, no-empty-values, plain-json, in the words of lint itself; and nothing that needs an escape."""

    def accepts(text: str) -> bool:
        if _ORDINARY(text) is not None and name not in common.FREE_TEXT:
            return True
        return is_plain_text(text) and bool(text.strip()) and next(common.text_findings((), name, text), None) is None

    return accepts


def _result_rule(document: dict[str, Any], path: Path) -> Callable[[str], bool]:
    """results, and what holds for every text."""
    text_rule = _text_rule("value")
    reference = value_at(document, (*path[:-1], "resultDescription"))
    described = badge.result_descriptions(value_at(document, ("credentialSubject", "achievement")) or {})
    description = described.get(str(reference))
    if reference is None or description is None:
        return text_rule
    fixed: dict[str, Any] = description

    @functools.lru_cache(maxsize=1024)
    def accepts(text: str) -> bool:
        return text_rule(text) and next(badge.value_in_range(fixed, text, (), ""), None) is None

    return accepts
