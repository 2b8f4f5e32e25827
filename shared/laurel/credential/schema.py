"""The Open Badges 3.0 JSON schema as 1EdTech publishes it, with its formats checked.

Two readers of one schema: `jsonschema`, which says what is wrong, and a set of functions compiled once from the same
schema, which only says yes, more than ten times faster. A document that the functions do not accept goes to
`jsonschema`, whose word counts. A keyword that the compiler does not know makes it step back altogether.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import jsonschema
from jsonschema.protocols import Validator

from laurel.credential.contexts import OPEN_BADGES_SCHEMA, load_schema
from laurel.credential.text import parse_timestamp, pointer

_MAX_FINDINGS = 20
_MAX_MESSAGE = 300

Check = Callable[[Any], bool]


class SchemaFinding(NamedTuple):
    """`pointer`: JSON Pointer to the value, or to the property that is missing; `message`: what the schema asks for."""

    pointer: str
    message: str


def open_badge_findings(document: Any, definition: str | None = None) -> list[SchemaFinding]:
    """Where `document` breaks the OB 3.0 AchievementCredential schema, or one of its definitions such as
    "EndorsementCredential"; at most 20 findings, in document order."""
    if accepts(OPEN_BADGES_SCHEMA, definition)(document):
        return []
    findings: list[SchemaFinding] = []
    for error in _validator(OPEN_BADGES_SCHEMA, definition).iter_errors(document):
        best = jsonschema.exceptions.best_match([error]) or error
        place = tuple(best.absolute_path)
        if best.validator == "required" and (lacking := _LACKING(best.message)):
            place = (*place, lacking[1])
        findings.append(SchemaFinding(pointer(place), _shortened(best.message)))
        if len(findings) == _MAX_FINDINGS:
            break
    return findings


_LACKING = re.compile(r"'(\w+)' is a required property").fullmatch


def _shortened(message: str) -> str:
    half = _MAX_MESSAGE // 2
    return message if len(message) <= _MAX_MESSAGE else f"{message[:half]} … {message[-half:]}"


@functools.cache
def _validator(url: str, definition: str | None = None) -> Validator:
    formats = jsonschema.FormatChecker(formats=())
    for name, check in _FORMATS.items():
        formats.checks(name)(check)
    return jsonschema.Draft201909Validator(_schema(url, definition), format_checker=formats)


def _schema(url: str, definition: str | None) -> dict[str, Any]:
    schema = load_schema(url)
    return schema if definition is None else {**schema["$defs"][definition], "$defs": schema["$defs"]}


@functools.cache
def accepts(url: str, definition: str | None = None) -> Check:
    """A quick check for the bundled schema `url`: True means valid; False means ask `jsonschema`."""
    schema = _schema(url, definition)
    try:
        return _Compiler(schema.get("$defs", {})).check({key: schema[key] for key in schema if key != "$defs"})
    except _UnknownKeywordError:
        return lambda document: False


def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or parse_timestamp(value) is not None


def _is_date(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_FORMATS: dict[str, Check] = {"date-time": _is_date_time, "date": _is_date}

# JSON Schema Core §4.2.1: true is not a number, and 1.0 is an integer.
_TYPES: dict[str, Check] = {
    "string": lambda value: isinstance(value, str),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
}


class _UnknownKeywordError(Exception):
    pass


class _Compiler:
    """JSON Schema → functions, for the keywords of draft 2019-09 that 1EdTech uses."""

    _IGNORED = frozenset({"$schema", "$id", "$comment", "title", "description"})

    def __init__(self, definitions: dict[str, Any]) -> None:
        self._definitions = definitions
        self._compiled: dict[str, Check] = {}

    def check(self, schema: Any) -> Check:
        if isinstance(schema, bool):
            return lambda value: schema
        checks = [self._keyword(key, schema) for key in schema if key not in self._IGNORED]
        found = [check for check in checks if check is not None]
        if len(found) == 1:
            return found[0]
        return lambda value: all(check(value) for check in found)

    def _keyword(self, key: str, schema: dict[str, Any]) -> Check | None:
        compile_keyword = getattr(self, "_" + key.replace("$", ""), None)
        if compile_keyword is None:
            raise _UnknownKeywordError(key)
        check: Check | None = compile_keyword(schema[key], schema)
        return check

    def _ref(self, reference: str, schema: dict[str, Any]) -> Check:
        name = reference.removeprefix("#/$defs/")
        if name not in self._compiled:
            self._compiled[name] = lambda value: self._compiled[name](value)  # definitions refer to themselves
            self._compiled[name] = self.check(self._definitions[name])
        return lambda value: self._compiled[name](value)

    def _type(self, name: Any, schema: dict[str, Any]) -> Check:
        if not isinstance(name, str) or name not in _TYPES:
            raise _UnknownKeywordError(f"type {name}")
        return _TYPES[name]

    def _enum(self, values: list[Any], schema: dict[str, Any]) -> Check:
        if not all(isinstance(value, str) for value in values):
            raise _UnknownKeywordError("enum of other values than strings")
        allowed = frozenset(values)
        return lambda value: isinstance(value, str) and value in allowed

    def _pattern(self, pattern: str, schema: dict[str, Any]) -> Check:
        search = re.compile(pattern).search
        return lambda value: not isinstance(value, str) or search(value) is not None

    def _format(self, name: str, schema: dict[str, Any]) -> Check | None:
        return _FORMATS.get(name)

    def _anyOf(self, alternatives: list[Any], schema: dict[str, Any]) -> Check:  # noqa: N802 - the keyword's name
        checks = [self.check(alternative) for alternative in alternatives]
        return lambda value: any(check(value) for check in checks)

    def _allOf(self, parts: list[Any], schema: dict[str, Any]) -> Check:  # noqa: N802
        checks = [self.check(part) for part in parts]
        return lambda value: all(check(value) for check in checks)

    def _oneOf(self, alternatives: list[Any], schema: dict[str, Any]) -> Check:  # noqa: N802
        checks = [self.check(alternative) for alternative in alternatives]
        return lambda value: sum(check(value) for check in checks) == 1

    def _required(self, names: list[str], schema: dict[str, Any]) -> Check:
        wanted = frozenset(names)
        return lambda value: not isinstance(value, dict) or value.keys() >= wanted

    def _properties(self, properties: dict[str, Any], schema: dict[str, Any]) -> Check:
        checks = {name: self.check(part) for name, part in properties.items()}

        def check(value: Any) -> bool:
            if not isinstance(value, dict):
                return True
            return all(name not in checks or checks[name](inner) for name, inner in value.items())

        return check

    def _additionalProperties(self, extra: Any, schema: dict[str, Any]) -> Check:  # noqa: N802
        known, check_extra = frozenset(schema.get("properties", {})), self.check(extra)

        def check(value: Any) -> bool:
            if not isinstance(value, dict):
                return True
            return all(name in known or check_extra(inner) for name, inner in value.items())

        return check

    def _propertyNames(self, names: Any, schema: dict[str, Any]) -> Check:  # noqa: N802
        check_name = self.check(names)
        return lambda value: not isinstance(value, dict) or all(check_name(name) for name in value)

    def _items(self, items: Any, schema: dict[str, Any]) -> Check:
        if isinstance(items, list):
            checks = [self.check(item) for item in items]
            rest = self.check(schema.get("additionalItems", True))

            def check_tuple(value: Any) -> bool:
                if not isinstance(value, list):
                    return True
                first = all(check(entry) for check, entry in zip(checks, value, strict=False))
                return first and all(rest(entry) for entry in value[len(checks) :])

            return check_tuple
        check_item = self.check(items)
        return lambda value: not isinstance(value, list) or all(check_item(entry) for entry in value)

    def _additionalItems(self, extra: Any, schema: dict[str, Any]) -> Check | None:  # noqa: N802
        return None  # read by `_items`; without a list of items it says nothing

    def _minItems(self, least: int, schema: dict[str, Any]) -> Check:  # noqa: N802
        return lambda value: not isinstance(value, list) or len(value) >= least

    def _contains(self, part: Any, schema: dict[str, Any]) -> Check:
        check = self.check(part)
        return lambda value: not isinstance(value, list) or any(check(entry) for entry in value)
