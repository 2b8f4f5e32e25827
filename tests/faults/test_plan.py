"""A seed means the same faults and the same results every time."""

from __future__ import annotations

import itertools

import pytest

from tests.faults.load import Course, rows
from tests.faults.nemesis import KINDS, Stage, plan, possible

LINKS = ("bus-issuer", "mail", "partner", "postgres-issuer")


@pytest.mark.parametrize("bus", ["kafka", "postgres"])
def test_the_short_plan_has_each_kind_that_can_be_done_once(bus: str) -> None:
    for disks in ((), ("postgres",)):
        stage = Stage(bus, LINKS, disks)
        kinds = [fault.kind for faults in plan(3, stage, short=True) for fault in faults]
        assert sorted(kinds) == sorted(possible(stage))
        assert ("disk_full" in kinds) == bool(disks)
        assert ("broker_kill_9" in kinds) == (bus == "kafka")


def test_a_seed_plans_the_same_faults_and_another_seed_others() -> None:
    stage = Stage("kafka", LINKS, ("kafka", "postgres"))
    first, again, other = (list(itertools.islice(plan(seed, stage, short=False), 300)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    kinds = {fault.kind for faults in first for fault in faults}
    assert kinds == set(KINDS), "500 faults leave no kind out"


def test_a_seed_makes_the_same_results_and_a_third_of_them_pass() -> None:
    course = Course("south", "a", "south-0", 6)
    lines = list(rows(7, 3, 2000, course))
    assert lines == list(rows(7, 3, 2000, course))
    assert lines != list(rows(8, 3, 2000, course))
    outcomes = [outcome for _, outcome in lines]
    assert 500 < outcomes.count("passed") < 700
    assert {"passed", "not_passed", "duplicate", "rejected"} == set(outcomes)
    assert any(b"@example.org" in line for line, outcome in lines if outcome == "passed")
