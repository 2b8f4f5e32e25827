"""The policy and what an attempt means beside those before it: pure, so tried on many."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from laurel_assessment.domain import (
    Attempt,
    History,
    Policy,
    ResultDescription,
    Rules,
    Stored,
    content_of,
    decide,
    salt_of,
    settle,
    written,
)

KEY = b"k" * 32
ATTEMPT = Attempt(
    achievement_id="a", learner="L-1", attempt=1, email="l@example.org", did=None, name="L", score=80.0, parts={},
    completed_at=None, course_run=None, external_id=None, evidence=(), locale=None,
)  # fmt: skip
RULES = Rules("a", 1, Policy(minimum_score=60.0), repeatable=False, retired=False)

numbers = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)
parts = st.dictionaries(st.sampled_from(["essay", "quiz", "lab"]), numbers, max_size=3)
policies = st.builds(
    Policy,
    version=st.just(1),
    minimum_score=st.none() | numbers,
    required_parts=parts,
    max_attempts=st.none() | st.integers(1, 5),
)


def codes(reasons: tuple[str, ...]) -> list[str]:
    return [reason.partition(":")[0] for reason in reasons]


@given(policies, st.none() | numbers, parts, st.integers(1, 9))
def test_a_pass_meets_every_rule_and_a_fail_breaks_one(
    policy: Policy, score: float | None, sent: dict[str, float], attempt: int
) -> None:
    decision = decide(policy, score=score, parts=sent, attempt=attempt)
    meets = (
        (policy.minimum_score is None or (score is not None and score >= policy.minimum_score))
        and all(part in sent and sent[part] >= least for part, least in policy.required_parts.items())
        and (policy.max_attempts is None or attempt <= policy.max_attempts)
    )
    assert decision.passed is meets
    assert decision.reasons


@given(policies, numbers, parts, st.integers(1, 9), st.floats(0, 1e6))
def test_more_points_never_hurt(
    policy: Policy, score: float, sent: dict[str, float], attempt: int, more: float
) -> None:
    before = decide(policy, score=score, parts=sent, attempt=attempt)
    after = decide(
        policy, score=score + more, parts={name: points + more for name, points in sent.items()}, attempt=attempt
    )
    assert after.passed or not before.passed


def test_every_failed_rule_is_named() -> None:
    policy = Policy(minimum_score=60, required_parts={"essay": 5, "quiz": 3}, max_attempts=2)
    decision = decide(policy, score=None, parts={"essay": 4}, attempt=3)
    assert codes(decision.reasons) == ["attempts_exhausted", "score_missing", "part_below_minimum", "part_missing"]
    assert codes(decide(Policy(), score=None, parts={}, attempt=1).reasons) == ["no_requirement"]


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([10.0, 60.0, 90.0])), max_size=12), st.booleans())
def test_whatever_comes_in_whatever_order_an_award_is_given_once(
    arrivals: list[tuple[int, float]], repeatable: bool
) -> None:
    rules = replace(RULES, repeatable=repeatable)
    history = History()
    awards: list[int] = []
    decided: dict[int, float] = {}
    for n, (number, score) in enumerate(arrivals):
        attempt = structs.replace(ATTEMPT, attempt=number, score=score)
        content = content_of(attempt, key=KEY)
        settlement = settle(attempt, rules, history, content)
        if number in decided:
            assert settlement.outcome == ("duplicate" if decided[number] == score else "rejected")
        elif score < 60:
            assert settlement.outcome == "not_passed"
        elif awards and not repeatable:
            assert settlement.outcome == "duplicate"
            assert codes(settlement.reasons) == ["already_earned"]
            assert settlement.duplicate_of is history.earned
        else:
            assert settlement.outcome == "passed"
        if settlement.award is not None:
            awards.append(settlement.award)
        if settlement.outcome in ("passed", "not_passed"):
            decided[number] = score
            history.add(number, Stored(str(n), content, settlement.outcome == "passed", None))
    assert len(set(awards)) == len(awards)
    assert repeatable or awards in ([], [1])


def test_a_conflict_names_the_next_free_attempt() -> None:
    history = History()
    for number in (1, 4):
        history.add(number, Stored("r", b"other", False, None))
    settlement = settle(ATTEMPT, RULES, history, b"content")
    assert settlement.finding is not None
    assert settlement.finding.code == "conflicting_result"
    assert "`attempt`: 5" in settlement.finding.detail


def test_a_retired_achievement_still_knows_its_duplicates() -> None:
    retired = replace(RULES, retired=True)
    history = History()
    history.add(1, Stored("r", b"content", True, "c"))
    assert settle(ATTEMPT, retired, history, b"content").outcome == "duplicate"
    fresh = settle(structs.replace(ATTEMPT, attempt=2), retired, history, b"x")
    assert fresh.finding is not None
    assert fresh.finding.code == "achievement_retired"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"score": 101.0}, "above_maximum"),
        ({"score": -1.0}, "below_minimum"),
        ({"parts": {"essay": 11.0}}, "above_maximum"),
        ({"score": 100.0, "parts": {"essay": 10.0, "lab": 1e6}}, None),
    ],
)
def test_a_value_must_fit_its_description(sent: dict[str, Any], code: str | None) -> None:
    described = (ResultDescription("#1", None, 0, 100), ResultDescription("#2", "essay", None, 10))
    settlement = settle(structs.replace(ATTEMPT, **sent), replace(RULES, descriptions=described), History(), b"")
    assert (settlement.finding.code if settlement.finding else None) == code


CHANGES: list[dict[str, Any]] = [
    {"score": 81.0}, {"score": None}, {"parts": {"essay": 1.0}}, {"completed_at": datetime(2026, 1, 1, tzinfo=UTC)},
    {"course_run": "x"}, {"email": "other@example.org"}, {"did": "did:example:1"}, {"evidence": ("https://e.org/1",)},
]  # fmt: skip


def test_content_changes_with_what_matters_and_with_nothing_else() -> None:
    same = content_of(ATTEMPT, key=KEY)
    for change in ({"name": "Other"}, {"locale": "fr"}, {"external_id": "7"}, {"email": "L@Example.org"}):
        assert content_of(structs.replace(ATTEMPT, **change), key=KEY) == same  # type: ignore[arg-type]
    different = {content_of(structs.replace(ATTEMPT, **change), key=KEY) for change in CHANGES}
    assert len(different | {same}) == len(CHANGES) + 1
    assert content_of(ATTEMPT, key=b"o" * 32) != same


@given(st.permutations(["https://e.org/1", "https://e.org/2", "https://e.org/3"]))
def test_the_order_of_evidence_and_parts_does_not_matter(evidence: list[str]) -> None:
    one = structs.replace(ATTEMPT, evidence=tuple(evidence), parts={url[-1]: 1.0 for url in evidence})
    two = structs.replace(ATTEMPT, evidence=tuple(sorted(evidence)), parts={url[-1]: 1.0 for url in sorted(evidence)})
    assert content_of(one, key=KEY) == content_of(two, key=KEY)


def test_the_salt_is_the_same_for_a_redelivery_and_unknown_without_the_key() -> None:
    assert salt_of("c", key=KEY) == salt_of("c", key=KEY)
    assert len({salt_of("c", key=KEY), salt_of("d", key=KEY), salt_of("c", key=b"o" * 32)}) == 3


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_exactly_and_without_an_exponent(number: float) -> None:
    assert float(written(number)) == number
    assert "e" not in written(number)


def test_a_reason_is_not_rounded_into_untruth() -> None:
    decision = decide(Policy(minimum_score=60.0, required_parts={"lab": 1e-7}), score=59.9999999, parts={}, attempt=1)
    assert decision.reasons == (
        "score_below_minimum: 59.9999999 is below 60",
        "part_missing: lab is required (at least 0.0000001) and was not sent",
    )
    assert [written(one) for one in (123456789012.5, 12.0, -0.0, 1e22)] == [
        "123456789012.5", "12", "0", "10000000000000000000000",
    ]  # fmt: skip
