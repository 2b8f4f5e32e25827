"""Whatever the document: the lint ends in a token or in findings, and the schema has one meaning."""

from __future__ import annotations

from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laurel.credential import contexts, lint, schema
from tests.unit.credential.samples import badge, status_list
from tests.unit.credential.test_proofs import JSON_LEAF, at

ANY_JSON = st.recursive(
    JSON_LEAF
    | st.sampled_from(["https://x.example/", "urn:x:y", "Profile", "2026-01-01T00:00:00Z", "data:", "z", "u"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "type", "en", "de-AT", "@value", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def nodes(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        found += [inner for key, child in value.items() for inner in nodes(child, (*path, key))]
    elif isinstance(value, list):
        found += [inner for index, child in enumerate(value) for inner in nodes(child, (*path, index))]
    return found


@st.composite
def mutated(draw: st.DrawFn, original: dict[str, Any]) -> dict[str, Any]:
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(nodes(original)))
        parent = at(original, path[:-1])
        if draw(st.booleans()):
            parent[path[-1]] = draw(ANY_JSON)
        elif isinstance(parent, dict) and draw(st.booleans()):
            parent[draw(st.sampled_from(["id", "type", "image", "result", "endorsement", "parentOrg"]))] = draw(
                ANY_JSON
            )
        else:
            del parent[path[-1]]
    return original


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), profile=st.sampled_from(["openbadge", "statuslist"]))
def test_the_lint_never_fails_otherwise(data: st.DataObject, profile: lint.Profile) -> None:
    document = data.draw(mutated(badge() if profile == "openbadge" else status_list(5)))
    findings, linted = (), None
    try:
        linted = lint.lint(document, profile=profile)
    except lint.LintError as refused:
        findings = refused.findings
    if linted is None:
        assert "error" in {finding.level for finding in findings}
    else:
        assert linted.document() == document
        assert {finding.level for finding in linted.findings} <= {"warning"}


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_schema_has_the_verdicts_of_another_implementation(data: st.DataObject) -> None:
    document = data.draw(mutated(badge()))
    assert (not schema.open_badge_findings(document)) == OTHER.is_valid(document)


def _other() -> jsonschema.Draft201909Validator:
    formats = jsonschema.FormatChecker(formats=())
    for name, check in schema._FORMATS.items():
        formats.checks(name)(lambda value, check=check: not isinstance(value, str) or check(value))
    return jsonschema.Draft201909Validator(contexts.load_schema(contexts.OPEN_BADGES_SCHEMA), format_checker=formats)


OTHER = _other()


def test_a_document_that_is_too_deep_for_the_schema_has_a_finding() -> None:
    document: dict[str, Any] = badge()
    for _ in range(300):
        document = {"a": document}
    assert "cannot be held" in schema.open_badge_findings({**badge(), "name": document})[0].message
