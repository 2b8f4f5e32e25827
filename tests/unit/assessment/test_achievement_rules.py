"""What lint would refuse in every credential of an achievement is said to its author when it is published."""

from __future__ import annotations

from typing import Any

import pytest

from laurel_assessment.achievements import AchievementInput, document_of, lint, trial
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
    findings = findings or trial(document_of(given, url=URL, version=1, image=image))
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
    ],
)
def test_what_the_issuer_would_refuse_is_told_to_the_author(changes: dict[str, Any], field: str, code: str) -> None:
    assert (field, code) in told(changes)
