"""Reading a result that is written as JSON: fast where all is well, slowly where it must be said what is not. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from laurel.security import BadJson, guard_json
from laurel_assessment.domain import Finding
from laurel_assessment.rows import FIELDS, MAX_ROW, TEXTS, Read, Row, pointer_step

_decoder = msgspec.json.Decoder(Row)


def read_json(raw: bytes) -> Read:
    """Read one JSON object. Whatever the typed decoder does not like is read again slowly, to say what and where."""
    try:
        row = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_slowly(raw)
    if b'\\"' in raw or b"\\u0000" in raw or raw.count(b'"') != _quotes(row):
        return _read_slowly(raw)
    return row


def _quotes(row: Row) -> int:
    """How many quotation marks this row's JSON has if no key stands twice (RFC 8259 §4): the decoder would not say."""
    quotes = 0
    for name in FIELDS:
        value = getattr(row, name)
        if value is UNSET:
            continue
        quotes += 2
        if isinstance(value, str):
            quotes += 2
        elif isinstance(value, list | dict):
            quotes += 2 * len(value)
    return quotes


def texts_of_json(raw: bytes) -> Row:
    """The texts alone of a row that is rejected for something else; an empty row where there are none."""
    try:
        value = guard_json(raw, max_bytes=MAX_ROW)
    except BadJson:
        return Row()
    known = value if isinstance(value, dict) else {}
    return Row(**{name: known[name] for name in TEXTS if isinstance(known.get(name), str)})


def _read_slowly(raw: bytes) -> Read:
    try:
        value = guard_json(raw, max_bytes=MAX_ROW)
    except BadJson as error:
        return [Finding("", error.code, error.detail)]
    if not isinstance(value, dict):
        return [Finding("", "not_an_object", f"a result is a JSON object, not {_kind(value)}")]
    return from_mapping(value)


def from_mapping(value: Mapping[str, Any]) -> Read:
    """The row of a JSON object that passed the guard."""
    findings: list[Finding] = []
    for name, given in value.items():
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            findings.append(
                Finding(f"/{pointer_step(name)}", "unknown_field", f"a result has no such field; it has {known}")
            )
        elif given is not None:
            findings += _type_findings(name, given)
    if findings:
        return findings
    row = Row(**value)
    if isinstance(row.score, int):
        row.score = float(row.score)
    if isinstance(row.attempt, float):
        row.attempt = int(row.attempt)
    if isinstance(row.parts, dict):
        row.parts = {part: float(points) for part, points in row.parts.items()}
    return row


def _type_findings(name: str, given: Any) -> list[Finding]:
    place = f"/{name}"
    if name in TEXTS:
        return [] if isinstance(given, str) else [_wrong_type(place, "a string", given)]
    if name == "score":
        return [] if _is_number(given) else [_wrong_type(place, "a number", given)]
    if name == "attempt":
        whole = _is_number(given) and float(given).is_integer()
        return [] if whole else [_wrong_type(place, "a whole number", given)]
    if name == "evidence":
        if not isinstance(given, list):
            return [_wrong_type(place, "an array of URLs", given)]
        return [_wrong_type(f"{place}/{n}", "a string", one) for n, one in enumerate(given) if not isinstance(one, str)]
    if not isinstance(given, dict):
        return [_wrong_type(place, 'an object such as {"essay": 12}', given)]
    return [
        _wrong_type(f"{place}/{pointer_step(part)}", "a number", points)
        for part, points in given.items()
        if not _is_number(points)
    ]


def _wrong_type(place: str, expected: str, given: Any) -> Finding:
    return Finding(place, "wrong_type", f"send {expected}, not {_kind(given)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", int: "a number"}
    return names.get(type(value), "a number" if isinstance(value, float) else "null")
