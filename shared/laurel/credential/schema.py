"""The Open Badges 3.0 JSON schema, compiled once, with its formats checked.

1EdTech's schema is validated as published, after rewritings that change no verdict but most of the cost: annotations
go; `oneOf` over alternatives of different JSON types becomes `anyOf` (only one can ever match, so none is counted); and
such alternatives become one schema with several types where each keyword speaks of one type only.
"""

from __future__ import annotations

import functools
from datetime import date
from typing import Any, NamedTuple

import jsonschema
from jsonschema.protocols import Validator

from laurel.credential.contexts import OPEN_BADGES_SCHEMA, load_schema
from laurel.credential.text import parse_timestamp, pointer

_ANNOTATIONS = frozenset({"description", "$comment", "title"})
# Keywords that say something about values of one JSON type only, and nothing about the others (JSON Schema §7.6.1).
_KEYWORDS_OF_TYPE = {
    "string": frozenset({"pattern", "format", "minLength", "maxLength"}),
    "object": frozenset({"properties", "required", "additionalProperties", "propertyNames"}),
    "array": frozenset({"items", "additionalItems", "minItems", "maxItems", "contains"}),
}
_MAX_FINDINGS = 20


class SchemaFinding(NamedTuple):
    """`pointer`: JSON Pointer to the value; `message`: what the schema asks for."""

    pointer: str
    message: str


def open_badge_findings(document: Any) -> list[SchemaFinding]:
    """Where `document` breaks the OB 3.0 AchievementCredential schema; at most 20 findings, in document order."""
    validator = _validator(OPEN_BADGES_SCHEMA)
    if validator.is_valid(document):
        return []
    findings = []
    for error in validator.iter_errors(document):
        best = jsonschema.exceptions.best_match([error]) or error
        findings.append(SchemaFinding(pointer(tuple(best.absolute_path)), _shortened(best.message)))
        if len(findings) == _MAX_FINDINGS:
            break
    return findings


def _shortened(message: str) -> str:
    return message if len(message) <= 300 else message[:140] + " … " + message[-140:]


@functools.cache
def _validator(url: str) -> Validator:
    schema = load_schema(url)
    formats = jsonschema.FormatChecker(formats=())
    formats.checks("date-time")(_is_date_time)
    formats.checks("date")(_is_date)
    return jsonschema.Draft201909Validator(_Rewriter(schema).rewritten(), format_checker=formats)


def _is_date_time(value: object) -> bool:
    return not isinstance(value, str) or parse_timestamp(value) is not None


def _is_date(value: object) -> bool:
    if not isinstance(value, str):
        return True
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _merged(alternatives: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One schema for alternatives of different types, or None when a keyword would reach into another alternative."""
    types: list[str] = []
    keywords: dict[str, Any] = {}
    for alternative in alternatives:
        own = alternative.get("type", [])
        own = [own] if isinstance(own, str) else own
        rest = {key: value for key, value in alternative.items() if key != "type"}
        allowed = frozenset().union(*(_KEYWORDS_OF_TYPE.get(kind, frozenset()) for kind in own))
        if not own or not rest.keys() <= allowed or rest.keys() & keywords.keys() or set(own) & set(types):
            return None
        types += own
        keywords |= rest
    return {"type": types, **keywords}


class _Rewriter:
    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._definitions: dict[str, Any] = schema.get("$defs", {})

    def rewritten(self) -> dict[str, Any]:
        result: dict[str, Any] = self._walk(self._schema)
        return result

    def _walk(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        result: dict[str, Any] = {}
        for key, value in node.items():
            if key in ("properties", "$defs"):  # here the keys are names, not keywords
                result[key] = {name: self._walk(schema) for name, schema in value.items()}
            elif key in _ANNOTATIONS:
                continue
            elif key == "oneOf" and self._disjoint(value) and "anyOf" not in node:
                alternatives = self._walk(value)
                merged = _merged(alternatives)
                if merged is None or set(node) - _ANNOTATIONS != {"oneOf"}:
                    result["anyOf"] = alternatives
                else:
                    result |= merged
            elif key in ("enum", "const", "required"):
                result[key] = value
            else:
                result[key] = self._walk(value)
        return result

    def _disjoint(self, alternatives: list[dict[str, Any]]) -> bool:
        kinds = [self._kinds(alternative) for alternative in alternatives]
        return all(kinds) and len(frozenset().union(*kinds)) == sum(len(kind) for kind in kinds)

    def _kinds(self, node: dict[str, Any]) -> frozenset[str]:
        """The JSON types that `node` can match; empty when they are not known."""
        if "$ref" in node:
            return self._kinds(self._definitions[node["$ref"].removeprefix("#/$defs/")])
        if "type" in node:
            return frozenset([node["type"]]) if isinstance(node["type"], str) else frozenset(node["type"])
        for keyword in ("oneOf", "anyOf"):
            if keyword in node:
                several = [self._kinds(alternative) for alternative in node[keyword]]
                return frozenset().union(*several) if all(several) else frozenset()
        if "allOf" in node:
            return next((kinds for part in node["allOf"] if (kinds := self._kinds(part))), frozenset())
        return frozenset()
