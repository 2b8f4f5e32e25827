"""What lint would refuse in every credential of an achievement is said to its author when it is published."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential.lint_achievement import decimal, wrong_value
from laurel_assessment.achievements import AchievementInput, descriptions_of, document_of, lint, messages_of, trial
from laurel_assessment.domain import written
from tests.unit.credential.samples import PNG

URL = "https://badges.example.org/achievements/018f9a3e-0000-7000-8000-000000000001"
GOOD: dict[str, Any] = {
    "name": "Thermodynamics",
    "description": "Heat, work and entropy.",
    "criteria": {"narrative": "Pass the *examination*: <https://lms.example/heat>.", "id": "https://lms.example/heat"},
    "image": PNG,
    "image_caption": "A flame",
    "tags": ["physics"],
    "alignment": [
        {"targetName": "apply heat", "targetUrl": "http://data.europa.eu/esco/skill/1", "targetType": "ext:ESCO"}
    ],
    "achievement_type": "MicroCredential",
    "result_descriptions": [{"name": "Score", "valueMin": "0", "valueMax": "100", "requiredValue": "60"}],
    "language": "en",
}


def told(changes: dict[str, Any]) -> set[tuple[str, str]]:
    """(field, code) of everything that the author is told, as the API does it."""
    given = AchievementInput.model_validate({**GOOD, **changes})
    findings, image = lint(given)
    findings = findings or trial(
        document_of(given, url=URL, version=1, image=image), messages_of(given), given.status_reference
    )
    assert len(set(findings)) == len(findings)  # each is told once
    assert all(one.detail for one in findings)
    return {(one.field, one.code) for one in findings}


def test_a_good_achievement_is_told_nothing() -> None:
    assert told({}) == set()


def described(**changes: Any) -> dict[str, Any]:
    return {"result_descriptions": [{**GOOD["result_descriptions"][0], **changes}]}


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"name": "Heat of {{ course }}"}, "/name", "text_leftovers"),
        ({"name": "Heat \u202eand work"}, "/name", "text_characters"),
        ({"description": "Gr\ufffd\ufffdsse"}, "/description", "text_characters"),
        ({"tags": ["lorem ipsum"]}, "/tags/0", "text_leftovers"),
        ({"image_caption": "a <flame> here"}, "/image_caption", "markup"),
        ({"image_caption": "nil"}, "/image_caption", "text_leftovers"),
        ({"criteria": {"narrative": "[pass](javascript:alert(1))"}}, "/criteria/narrative", "markdown_links"),
        ({"criteria": {"narrative": "[pass](/exam)"}}, "/criteria/narrative", "markdown_links"),
        ({"achievement_type": "ext:Grand Medal"}, "/achievement_type", "unknown_term"),
        (described(requiredValue="101"), "/result_descriptions/0/requiredValue", "required_results"),
        (described(requiredValue="nearly all"), "/result_descriptions/0/requiredValue", "required_results"),
        (described(valueMin="100", valueMax="0"), "/result_descriptions/0/valueMin", "bad_range"),
        (described(resultType="Marks"), "/result_descriptions/0/resultType", "unknown_term"),
        (described(resultType="Status"), "/result_descriptions/0/resultType", "status_not_sent"),
        ({"name": "\u200b\u00ad"}, "/name", "blank"),
        ({"description": "\u3164 \u2800"}, "/description", "blank"),
    ],
)
def test_what_the_issuer_would_refuse_is_told_to_the_author(changes: dict[str, Any], field: str, code: str) -> None:
    assert (field, code) in told(changes)


def test_a_leftover_in_the_name_is_told_once() -> None:
    assert told({"name": "{{name}}"}) == {("/name", "text_leftovers")}


def test_the_messages_of_the_status_count_towards_the_size() -> None:
    long = [{"status": f"0x{n:x}", "message": "\N{SNOWMAN}" * 255} for n in range(200)]
    assert ("", "too_large") in told({"status_purposes": ["revocation", "message"], "status_messages": long})


@pytest.mark.parametrize("text", ["1_0", "\u0661\u0660", "1e999", "inf", "nan", "0x10"])
def test_a_bound_is_a_number_for_intake_and_for_lint_alike(text: str) -> None:
    described = {"result_descriptions": [{"name": "Score", "valueMax": text}]}
    (one,) = descriptions_of(described, url=URL)
    assert one.maximum is None
    assert wrong_value({"valueMax": text}, "11") is None


def test_a_description_of_a_status_shows_nothing_of_a_result() -> None:
    assert descriptions_of({"result_descriptions": [{"name": "Done", "resultType": "Status"}]}, url=URL) == ()


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
def test_every_number_that_intake_takes_is_one_for_lint(number: float) -> None:
    assert decimal(written(number)) == number
    assert wrong_value({"valueMin": "-1000000000000", "valueMax": "1000000000000"}, written(number)) is None


@pytest.mark.parametrize("number", [5.55e-17, 1.2345678901234567e-15, 1e-40, 5e-324])
def test_a_tiny_number_is_one_too(number: float) -> None:
    assert wrong_value({"valueMin": "0", "valueMax": "1"}, written(number)) is None
