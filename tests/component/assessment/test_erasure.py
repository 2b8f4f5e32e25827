"""A learner is erased: what goes, what stays, and that nothing that comes later brings anything back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from laurel.events import AssessmentPassed, LearnerErased
from tests.component.assessment.conftest import Caller, World

ERASE = "/assessment/v1/learners/erase"
MARKS = ("ada-l", "ada@learner.example", "Ada Lovelace", "lms-r", "73.5")


def row(achievement: str, learner: str = "ada-l", **more: Any) -> dict[str, Any]:
    return {
        "achievement": achievement, "learner": learner, "email": "ada@learner.example", "name": "Ada Lovelace",
        "score": 73.5, "result_id": f"lms-r-{learner}", **more,
    }  # fmt: skip


async def erase(caller: Caller, learner: str = "ada-l", status: int = 202) -> dict[str, Any]:
    answer = await caller.post(ERASE, {"learner": learner})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def everything(world: World) -> str:
    """All rows of all tables, as text; bytes as they are."""
    tables = await world.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'assessment'")
    found = []
    for table in tables:
        if table["tablename"] not in ("alembic_version", "achievements", "achievement_versions", "policies"):
            for one in await world.fetch(f"SELECT * FROM {table['tablename']}"):
                found.append(repr(dict(one)))
    return "\n".join(found)


async def test_nothing_says_who_it_was_and_the_counts_stay(world: World, ours: Caller) -> None:
    first, second = await ours.achievement(), await ours.achievement(name="Statistics", repeatable=True)
    await ours.post("/assessment/v1/results", row(first), Idempotency_Key="k1")
    await ours.post("/assessment/v1/results", row(first))  # a duplicate
    await ours.post("/assessment/v1/results", row(second, attempt=1))
    await ours.post("/assessment/v1/results", row(second, attempt=2, score=12))
    lines = [row(first, email="ada@learner.example@"), row(first, "somebody-else", email="b@c.example", name="B")]
    await ours.upload("".join(json.dumps(one) + "\n" for one in lines).encode())
    await world.settle()
    before = (await ours.get("/assessment/v1/reports/reconcile")).json()["counts"]
    assert before | {"unsent_events": 0} == {
        "accepted": 6, "passed": 3, "not_passed": 1, "duplicate": 1, "rejected": 1, "waiting": 0, "unsent_events": 0,
        "dead_letters": 0,
    }  # fmt: skip
    text = await everything(world)
    assert all(mark in text for mark in MARKS[:2])
    owed = {one.credential_id for one in await world.events(AssessmentPassed)}
    world.clock.forward(seconds=5)

    found = await erase(ours)
    assert (found["results"], found["credentials"]) == (5, 2)
    text = await everything(world)
    assert [mark for mark in MARKS if mark in text and mark not in ("lms-r", "73.5")] == []
    assert "lms-r-ada-l" not in text
    counts = (await ours.get("/assessment/v1/reports/reconcile")).json()["counts"]
    assert counts | {"unsent_events": 0} == before | {"unsent_events": 0}, "promise 1: every row keeps its outcome"
    told = await world.events(LearnerErased)
    (kept,) = await world.events(AssessmentPassed)
    assert {one.credential_id for one in told} == owed - {kept.credential_id}
    assert {one.erasure_id for one in told} == {found["erasure_id"]}
    assert (await ours.get("/assessment/v1/results", learner="ada-l")).json()["items"] == []
    assert (await ours.get(found["url"])).json() == found
    (entry,) = [
        one for one in (await ours.get("/assessment/v1/audit")).json()["items"] if one["action"] == "learner.erase"
    ]
    assert (entry["subject"], entry["details"]) == (found["erasure_id"], {"results": 5, "credentials": 2})


async def test_asking_again_is_the_same_erasure(world: World, ours: Caller, theirs: Caller) -> None:
    achievement = await ours.achievement()
    await ours.post("/assessment/v1/results", row(achievement))
    first = await erase(ours)
    again = await erase(ours, "  ada-l ")
    assert again == first
    assert len(await world.events(LearnerErased)) == 1
    assert (await erase(theirs))["results"] == 0, "another organisation's learner of that name is somebody else"
    assert (await theirs.get(first["url"])).status_code == 404


async def test_a_request_that_is_sent_again_does_nothing(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    first = await ours.post("/assessment/v1/results", row(achievement), Idempotency_Key="k1")
    await erase(ours)
    again = await ours.post("/assessment/v1/results", row(achievement), Idempotency_Key="k1")
    assert again.status_code == 201
    assert again.json()["credential_id"] == first.json()["credential_id"]
    assert (again.json()["external_id"], again.json()["reasons"]) == (None, [])
    assert await world.events(AssessmentPassed) == []


async def test_who_comes_back_is_somebody_new(world: World, ours: Caller) -> None:
    """Neither a duplicate of what is gone, nor under the old credential's id."""
    achievement = await ours.achievement()
    first = (await ours.post("/assessment/v1/results", row(achievement))).json()
    erased = await erase(ours)
    answer = await ours.post("/assessment/v1/results", row(achievement))
    assert answer.status_code == 201, answer.text
    second = answer.json()
    assert second["outcome"] == "passed"
    assert second["credential_id"] != first["credential_id"]
    assert (await ours.post("/assessment/v1/results", row(achievement))).json()["outcome"] == "duplicate"
    (shown, _) = (await ours.get("/assessment/v1/results", learner="ada-l")).json()["items"]
    assert shown["credential_id"] == second["credential_id"]
    again = await erase(ours)
    assert again["erasure_id"] != erased["erasure_id"]
    assert [one.credential_id for one in await world.events(LearnerErased)] == [
        first["credential_id"], second["credential_id"],
    ]  # fmt: skip
    third = (await ours.post("/assessment/v1/results", row(achievement))).json()
    assert third["credential_id"] not in (first["credential_id"], second["credential_id"])


@pytest.mark.parametrize(("known", "of_the_version_before"), [(True, False), (False, False), (False, True)])
async def test_rows_of_an_import_that_waits_are_refused(
    world: World, ours: Caller, known: bool, of_the_version_before: bool
) -> None:
    """They were sent before the erasure: each has an outcome, and nothing of them is kept."""
    # Processes have clocks of their own: whoever comes later may have an earlier time. The version before went by that.
    later = {"seconds": 5 if of_the_version_before else -60}
    achievement = await ours.achievement()
    if known:
        await ours.post("/assessment/v1/results", row(achievement, attempt=2))
    lines = [row(achievement), row(achievement, email="none"), row(achievement, "bob", email="b@c.example")]
    taken = await ours.upload("".join(json.dumps(one) + "\n" for one in lines).encode())
    world.clock.forward(**later)
    await erase(ours)
    if of_the_version_before:
        async with world.service.worker_database.transaction() as tx:
            await tx.execute("UPDATE erasures SET imports = NULL")
    await world.settle()
    done = await ours.imported(taken.json()["import_id"])
    assert (done["passed"], done["rejected"], done["accepted"]) == (1, 2, 3)
    items = (await ours.get(f"{taken.json()['url']}/rejections")).json()["items"]
    assert [(one["code"], one["row"]) for one in items] == [("learner_erased", None)] * 2
    text = await everything(world)
    assert not [mark for mark in MARKS[:2] if mark in text]
    world.clock.forward(**later)
    again = await ours.upload((json.dumps(row(achievement)) + "\n").encode())
    await world.settle()
    assert (await ours.imported(again.json()["import_id"]))["passed"] == 1, "sent afterwards: a new relation"


@pytest.mark.parametrize(
    ("body", "code"),
    [({"learner": " "}, "blank"), ({"learner": "x" * 256}, "too_long"), ({"learner": "a\x07b"}, "bad_string")],
)
async def test_what_names_no_learner_is_told(ours: Caller, body: dict[str, str], code: str) -> None:
    answer = await ours.post(ERASE, body)
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [("/learner", code)]
    assert (await ours.post(ERASE, {})).status_code == 422
    assert (await ours.post(ERASE, {"learner": "a", "email": "b"})).status_code == 422


async def test_it_needs_a_scope_of_its_own(world: World) -> None:
    reader = await world.caller(scopes=("results:read", "results:write", "erasures:read"))
    assert (await reader.post(ERASE, {"learner": "a"})).status_code == 403
