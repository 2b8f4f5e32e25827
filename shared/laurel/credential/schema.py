"""The JSON schemas of Open Badges, as they are bundled (`contexts.load_schema`), held against documents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

import jsonschema_rs

from laurel.credential.contexts import OPEN_BADGES_SCHEMA, load_schema
from laurel.credential.text import parse_timestamp, pointer

_MAX_FINDINGS = 20
_MAX_MESSAGE = 300


class SchemaFinding(NamedTuple):
    """`pointer`: JSON Pointer to the value, or to the property that is missing; `message`: what the schema asks for."""

    pointer: str
    message: str


def open_badge_findings(document: Any, url: str = OPEN_BADGES_SCHEMA) -> list[SchemaFinding]:
    """Where `document` breaks a schema of Open Badges that `contexts.load_schema` has; at most 20 findings, in the
    schema's order."""
    findings: list[SchemaFinding] = []
    try:
        for error in _validator(url).iter_errors(document):
            findings.append(_finding(_nearest(error)))
            if len(findings) == _MAX_FINDINGS:
                break
    except ValueError as error:  # jsonschema-rs reads 255 levels
        findings.append(SchemaFinding("", f"it cannot be held against the schema: {error}"))
    return findings


def _nearest(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """What is wrong in the alternative that comes nearest to the value, where the schema has several (anyOf, oneOf)."""
    while alternatives := getattr(error.kind, "context", None):
        at = error.instance_path
        meant = [
            errors
            for errors in alternatives
            if errors and not any(one.kind.name == "type" and one.instance_path == at for one in errors)
        ]
        if not meant:
            break
        error = min(meant, key=len)[0]
    return error


def _finding(error: jsonschema_rs.ValidationError) -> SchemaFinding:
    place = tuple(error.instance_path)
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        place = (*place, error.kind.property)
    half = _MAX_MESSAGE // 2
    message = error.message
    return SchemaFinding(
        pointer(place), message if len(message) <= _MAX_MESSAGE else f"{message[:half]} … {message[-half:]}"
    )


@functools.cache
def _validator(url: str) -> jsonschema_rs.Draft201909Validator:
    return jsonschema_rs.Draft201909Validator(load_schema(url), validate_formats=True, formats=_FORMATS)


def _is_date_time(value: str) -> bool:
    return parse_timestamp(value) is not None


def _is_date(value: str) -> bool:
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_FORMATS: dict[str, Callable[[str], bool]] = {"date-time": _is_date_time, "date": _is_date}
