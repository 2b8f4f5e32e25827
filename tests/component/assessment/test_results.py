"""Single results: decided, stored with their reasons, reported by an event in the same transaction."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from laurel.credential.model import identity_hash
from laurel.events import AssessmentPassed
from laurel.ids import credential_id, uuid7
from laurel.security import unseal
from laurel_assessment.intake import Arrival, take_in
from laurel_assessment.row_json import from_mapping
from laurel_assessment.rows import Defaults, check
from tests.component.assessment.conftest import BASE, NOW, Caller, World, learner

PATH = "/assessment/v1/results"


def codes(response: httpx.Response) -> set[tuple[str, str]]:
    return {(one["field"], one["code"]) for one in response.json()["errors"]}


async def test_a_pass_is_stored_answered_and_reported(world: World, ours: Caller) -> None:
    achievement = await ours.achievement(
        result_descriptions=[{"name": "Score", "resultType": "Percent"}, {"name": "Essay", "part": "essay"}]
    )
    response = await ours.post(
        PATH,
        learner(
            1, achievement=achievement, name="Zoë Ångström", score=87.5, parts={"essay": 12, "quiz": 3},
            completed_at="2026-05-31T19:00:00+02:00", course_run="dl-2026", result_id="LMS-77",
            evidence=["https://example.org/work/1"], locale="sv",
        ),
    )  # fmt: skip
    assert response.status_code == 201
    answer = response.json()
    owed = credential_id(
        world.keys.id_key, tenant_id=ours.tenant_id, achievement_id=achievement, learner="L-000001", award=1
    )
    assert answer["outcome"] == "passed"
    assert answer["reasons"] == ["score_reached: 87.5 of at least 60"]
    assert answer["credential_id"] == owed
    assert answer["credential_url"] == f"{BASE}/c/{owed}"

    (event,) = await world.events(AssessmentPassed)
    assert event.credential_id == owed
    assert event.result_id == answer["result_id"]
    assert (event.achievement_id, event.achievement_version, event.award) == (achievement, 1, 1)
    assert event.achieved_at == datetime(2026, 5, 31, 17, 0, tzinfo=UTC)
    assert event.decided_at == NOW
    assert event.course_run == "dl-2026"
    assert event.evidence == ("https://example.org/work/1",)
    assert [(one.value, one.result_description) for one in event.results] == [
        ("87.5", f"{BASE}/achievements/{achievement}#result-1"),
        ("12", f"{BASE}/achievements/{achievement}#result-2"),
    ]
    assert event.recipient.identity_hash == identity_hash("learner1@example.org", event.recipient.salt)
    contact = json.loads(unseal(world.keys.contact_key, event.contact, purpose="contact"))
    assert contact == {"learner": "L-000001", "email": "learner1@example.org", "name": "Zoë Ångström", "locale": "sv"}

    ((row,),) = [await world.fetch("SELECT key, data, traceparent FROM outbox WHERE type LIKE '%passed%'")]
    assert row["key"] == owed.encode()
    assert b"learner1@" not in row["data"]
    assert b"L-000001" not in row["data"]

    shown = (await ours.get(f"{PATH}/{answer['result_id']}")).json()
    assert shown["policy_version"] == 1
    assert shown["external_id"] == "LMS-77"
    assert shown["parts"] == {"essay": 12, "quiz": 3}


async def test_a_fail_says_why_and_sends_nothing(world: World, ours: Caller) -> None:
    achievement = await ours.achievement(
        policy={"minimum_score": 60, "required_parts": {"essay": 5}, "max_attempts": 2}
    )
    response = await ours.post(PATH, learner(1, achievement=achievement, score=59.9, attempt=3))
    assert response.status_code == 201
    assert response.json()["outcome"] == "not_passed"
    assert [reason.partition(":")[0] for reason in response.json()["reasons"]] == [
        "attempts_exhausted", "score_below_minimum", "part_missing",
    ]  # fmt: skip
    assert "credential_id" not in response.json()
    assert await world.events(AssessmentPassed) == []


async def test_the_same_attempt_again_is_a_duplicate_and_other_content_a_conflict(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    first = await ours.post(PATH, learner(1, achievement=achievement))
    again = await ours.post(PATH, learner(1, achievement=achievement, name="A corrected name"))
    assert again.status_code == 200
    assert again.json()["outcome"] == "duplicate"
    assert again.json()["result_id"] == first.json()["result_id"]
    assert again.json()["credential_id"] == first.json()["credential_id"]

    other = await ours.post(PATH, learner(1, achievement=achievement, score=99))
    assert other.status_code == 409
    assert other.json()["type"] == "urn:laurel:problem:conflicting_result"
    assert "`attempt`: 2" in other.json()["detail"]

    second = await ours.post(PATH, learner(1, achievement=achievement, score=99, attempt=2))
    assert second.status_code == 200
    assert second.json()["reasons"][0].startswith("already_earned")
    assert len(await world.events(AssessmentPassed)) == 1
    outcomes = [row["outcome"] for row in await world.fetch("SELECT outcome FROM results ORDER BY result_id")]
    assert outcomes == ["passed", "duplicate", "duplicate"]


async def test_a_repeatable_achievement_is_earned_once_an_attempt(world: World, ours: Caller) -> None:
    achievement = await ours.achievement(repeatable=True)
    answers = [await ours.post(PATH, learner(1, achievement=achievement, attempt=n)) for n in (1, 2, 2)]
    assert [one.status_code for one in answers] == [201, 201, 200]
    events = await world.events(AssessmentPassed)
    assert [event.award for event in events] == [1, 2]
    assert len({event.credential_id for event in events}) == 2


async def test_a_did_stands_in_place_of_an_address(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    did = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
    response = await ours.post(
        PATH, {"achievement": f"{BASE}/achievements/{achievement}", "learner": "x", "did": did, "score": 61}
    )
    assert response.status_code == 201
    (event,) = await world.events(AssessmentPassed)
    assert event.recipient.did == did
    assert event.recipient.identity_hash is None
    assert event.achieved_at == NOW


async def test_many_at_once_decide_one_attempt_once(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    # The same learner: the same attempt five times, and two further passes, all at the same time.
    rows = [learner(1, achievement=achievement) for _ in range(5)]
    rows += [learner(1, achievement=achievement, attempt=n, score=90) for n in (2, 3)]
    answers = await asyncio.gather(*(ours.post(PATH, row) for row in rows))
    assert sorted(one.status_code for one in answers) == [200] * 6 + [201]
    assert len({one.json()["credential_id"] for one in answers}) == 1
    assert len(await world.events(AssessmentPassed)) == 1


@pytest.mark.parametrize("score", [80, 10])
async def test_two_transactions_cannot_decide_one_attempt(world: World, ours: Caller, score: int) -> None:
    """Neither sees the other's rows. What decides is the unique index, also where no credential is owed."""
    row = from_mapping(learner(1, achievement=await ours.achievement(), score=score))
    assert not isinstance(row, list)
    attempt = check(row, Defaults(BASE), received_at=NOW)
    assert not isinstance(attempt, list)

    async def decide(decided: asyncio.Event, commit: asyncio.Event) -> None:
        async with world.service.database.transaction([ours.tenant_id]) as tx:
            await take_in(tx, ours.tenant_id, [Arrival(None, attempt)], keys=world.keys, received_at=NOW, now=NOW)
            decided.set()
            await commit.wait()

    decided, commit = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(decide(decided, commit))
    await decided.wait()
    second = asyncio.create_task(decide(asyncio.Event(), commit))
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    admin = await asyncpg.connect(world.admin_dsn)
    try:
        async with asyncio.timeout(20):
            while not second.done() and not await admin.fetch(waits):
                await asyncio.sleep(0.01)
    finally:
        await admin.close()
    commit.set()
    await first
    with pytest.raises(asyncpg.UniqueViolationError):
        await second


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"learner": None}, ("/learner", "missing")),
        ({"learner": "  "}, ("/learner", "missing")),
        ({"learner": 7}, ("/learner", "wrong_type")),
        ({"email": None}, ("/email", "no_recipient")),
        ({"email": "nobody"}, ("/email", "not_an_email")),
        ({"email": "a@b@example.org"}, ("/email", "not_an_email")),
        ({"did": "did:"}, ("/did", "not_a_did")),
        ({"score": "80"}, ("/score", "wrong_type")),
        ({"score": True}, ("/score", "wrong_type")),
        ({"score": 10**30}, ("/score", "out_of_range")),
        ({"parts": {"essay": "12"}}, ("/parts/essay", "wrong_type")),
        ({"parts": [1]}, ("/parts", "wrong_type")),
        ({"attempt": 0}, ("/attempt", "out_of_range")),
        ({"attempt": 1.5}, ("/attempt", "wrong_type")),
        ({"attempt": 10**12}, ("/attempt", "out_of_range")),
        ({"completed_at": "2026-05-31"}, ("/completed_at", "not_a_timestamp")),
        ({"completed_at": "2026-05-31T10:00:00"}, ("/completed_at", "not_a_timestamp")),
        ({"completed_at": "2026-06-03T00:00:00Z"}, ("/completed_at", "in_the_future")),
        ({"evidence": ["javascript:alert(1)"]}, ("/evidence/0", "not_a_url")),
        ({"evidence": ["https://example.org/cafe\u0301"]}, ("/evidence/0", "not_a_url")),
        ({"evidence": ["https://example.org/\u202ecod"]}, ("/evidence/0", "not_a_url")),
        ({"evidence": "https://example.org"}, ("/evidence", "wrong_type")),
        ({"evidence": ["https://x.example/?q=[1]"]}, ("/evidence/0", "not_a_url")),
        ({"evidence": ["https://x.example/a", "https://x.example/%zz"]}, ("/evidence/1", "not_a_url")),
        ({"evidence": ["https://x.example/%"]}, ("/evidence/0", "not_a_url")),
        ({"evidence": ["https://x.example/#a#b"]}, ("/evidence/0", "not_a_url")),
        ({"locale": "a b"}, ("/locale", "not_a_locale")),
        ({"name": "x" * 300}, ("/name", "too_long")),
        ({"name": "a\nb"}, ("/name", "bad_string")),
        ({"achievement": "nonsense"}, ("/achievement", "unknown_achievement")),
        ({"grade": 5}, ("/grade", "unknown_field")),
    ],
)
async def test_what_is_wrong_is_named(
    world: World, ours: Caller, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    achievement = await ours.achievement()
    response = await ours.post(PATH, {**learner(1, achievement=achievement), **changes})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert expected in codes(response)
    assert await world.fetch("SELECT 1 FROM results") == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"learner": "a", "learner": "b"}', 400),
        (b'{"score": NaN}', 400),
        (b'{"score": 1e999}', 400),
        (b'{"learner": "\\ud800"}', 400),
        (b'{"learner": "\\u0000"}', 400),
        (b'{"learner": "\xff"}', 400),
        (b"[" * 900 + b"]" * 900, 400),
        (b'{"a":' * 900 + b"1" + b"}" * 900, 400),
        (b"", 400),
        (b"nonsense", 400),
        (b'["a"]', 422),
        (b"null", 422),
        (b'{"learner": "' + b"a" * (1 << 20) + b'"}', 413),
    ],
)
async def test_hostile_bodies_are_refused(ours: Caller, body: bytes, status: int) -> None:
    response = await ours.post(PATH, body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


async def test_another_organisations_things_are_not_there(world: World, ours: Caller, theirs: Caller) -> None:
    achievement = await theirs.achievement()
    result = (await theirs.post(PATH, learner(1, achievement=achievement))).json()["result_id"]
    foreign = await ours.post(PATH, learner(1, achievement=achievement))
    absent = await ours.post(PATH, learner(1, achievement=uuid7()))
    assert foreign.status_code == absent.status_code == 422
    assert foreign.json() == absent.json()
    for name in (result, uuid7(), "x", "../etc"):
        response = await ours.get(f"{PATH}/{name}")
        assert response.status_code == 404
    assert (await ours.get(PATH)).json() == {"items": [], "next": None}
    # The same learner id in two organisations is two learners.
    mine = await ours.achievement()
    assert (await ours.post(PATH, learner(1, achievement=mine))).json()["outcome"] == "passed"
    assert len({event.credential_id for event in await world.events(AssessmentPassed)}) == 2


async def test_a_key_needs_its_scope(world: World, ours: Caller) -> None:
    reader = await world.caller(ours.tenant_id, scopes=("results:read",))
    assert (await reader.post(PATH, learner(1))).status_code == 403
    assert (await reader.upload(b"{}")).status_code == 403
    assert (await reader.post("/assessment/v1/achievements", {})).status_code == 403
    writer = await world.caller(ours.tenant_id, scopes=("results:write",))
    assert (await writer.get(PATH)).status_code == 403
    assert (await writer.get("/assessment/v1/reports/reconcile")).status_code == 403
    assert (await world.http.get(PATH)).status_code == 401


async def test_what_became_of_a_learner(ours: Caller) -> None:
    achievement = await ours.achievement()
    for number in (1, 2):
        for attempt, score in ((1, 10), (2, 70), (2, 70)):
            await ours.post(
                PATH, learner(number, achievement=achievement, attempt=attempt, score=score, course_run=f"run-{number}")
            )
    found = (await ours.get(PATH, learner="L-000001")).json()["items"]
    assert [(one["attempt"], one["outcome"]) for one in found] == [(1, "not_passed"), (2, "passed"), (2, "duplicate")]
    assert len((await ours.get(PATH, course_run="run-2")).json()["items"]) == 3
    assert len((await ours.get(PATH, achievement=achievement)).json()["items"]) == 6
    first = (await ours.get(PATH, limit=4)).json()
    rest = (await ours.get(PATH, limit=4, after=first["next"])).json()
    assert len(first["items"]) == 4
    assert len(rest["items"]) == 2
    assert rest["next"] is None
    assert (await ours.get(PATH, after="x")).status_code == 422
    assert (await ours.get(PATH, limit=0)).status_code == 422


# --- Idempotency-Key ----------------------------------------------------------------------------------------


async def test_the_same_key_and_body_is_answered_the_same(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    row = learner(1, achievement=achievement)
    first = await ours.post(PATH, row, idempotency_key="k-1")
    world.clock.forward(minutes=5)
    again = await ours.post(PATH, row, idempotency_key="k-1")
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.json()["outcome"] == "passed"
    assert len(await world.fetch("SELECT 1 FROM results")) == 1

    other = await ours.post(PATH, learner(2, achievement=achievement), idempotency_key="k-1")
    assert other.status_code == 422
    assert other.json()["type"] == "urn:laurel:problem:idempotency_key_reused"
    assert (await ours.post(PATH, row, idempotency_key="k\tx")).status_code == 422


async def test_keys_of_two_organisations_do_not_meet(ours: Caller, theirs: Caller) -> None:
    for caller in (ours, theirs):
        achievement = await caller.achievement()
        response = await caller.post(PATH, learner(1, achievement=achievement), idempotency_key="same")
        assert response.status_code == 201


async def test_a_key_that_is_being_answered_is_in_flight(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    row = learner(1, achievement=achievement)
    # Hold what the first request would hold: its learner's attempt, by a transaction that has not ended yet.
    async with world.service.worker_database.transaction() as tx:
        await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", f"result:{ours.tenant_id}:k-1")
        response = await ours.post(PATH, row, idempotency_key="k-1")
        assert response.status_code == 409
        assert response.json()["type"] == "urn:laurel:problem:in_flight"
    assert (await ours.post(PATH, row, idempotency_key="k-1")).status_code == 201


async def test_a_refusal_does_not_use_up_a_key(ours: Caller) -> None:
    achievement = await ours.achievement()
    assert (await ours.post(PATH, {"learner": "x"}, idempotency_key="k-1")).status_code == 422
    assert (await ours.post(PATH, learner(1, achievement=achievement), idempotency_key="k-1")).status_code == 201


async def test_a_retired_achievement_is_earned_no_more(ours: Caller) -> None:
    achievement = await ours.achievement()
    row = learner(1, achievement=achievement)
    assert (await ours.post(PATH, row)).status_code == 201
    assert (await ours.post(f"/assessment/v1/achievements/{achievement}/retire")).status_code == 200
    refused = await ours.post(PATH, learner(2, achievement=achievement))
    assert refused.status_code == 422
    assert ("/achievement", "achievement_retired") in codes(refused)
    assert (await ours.post(PATH, row)).json()["outcome"] == "duplicate"


async def test_a_policys_new_version_decides_from_then_on(world: World, ours: Caller) -> None:
    from tests.component.assessment.conftest import achievement as written

    achievement = await ours.achievement(policy={"minimum_score": 90})
    assert (await ours.post(PATH, learner(1, achievement=achievement, score=80))).json()["outcome"] == "not_passed"
    changed = await ours.put(f"/assessment/v1/achievements/{achievement}", written(policy={"minimum_score": 70}))
    assert changed.json()["policy"]["version"] == 2
    answer = (await ours.post(PATH, learner(2, achievement=achievement, score=80))).json()
    assert (answer["outcome"], answer["policy_version"]) == ("passed", 2)
    (event,) = await world.events(AssessmentPassed)
    assert (event.policy_version, event.achievement_version) == (2, 2)
    # What was decided stays decided.
    assert (await ours.post(PATH, learner(1, achievement=achievement, score=80))).json()["outcome"] == "duplicate"


async def test_times_near_now_are_taken(ours: Caller) -> None:
    achievement = await ours.achievement()
    ahead = (NOW + timedelta(hours=20)).isoformat()
    assert (await ours.post(PATH, learner(1, achievement=achievement, completed_at=ahead))).status_code == 201


async def test_a_value_that_no_credential_could_show_is_refused(world: World, ours: Caller) -> None:
    achievement = await ours.achievement(
        result_descriptions=[{"name": "Score", "resultType": "Percent", "valueMin": "0", "valueMax": "100"}]
    )
    for score, code in ((100.5, "above_maximum"), (-1, "below_minimum")):
        response = await ours.post(PATH, learner(1, achievement=achievement, score=score))
        assert response.status_code == 422
        assert codes(response) == {("/score", code)}
    assert (await ours.post(PATH, learner(1, achievement=achievement, score=100))).json()["outcome"] == "passed"


async def test_a_signed_value_is_the_one_that_was_sent(world: World, ours: Caller) -> None:
    achievement = await ours.achievement(result_descriptions=[{"name": "Score", "resultType": "RawScore"}])
    response = await ours.post(PATH, learner(1, achievement=achievement, score=123456789012.5))
    assert response.json()["reasons"] == ["score_reached: 123456789012.5 of at least 60"]
    (event,) = await world.events(AssessmentPassed)
    assert [one.value for one in event.results] == ["123456789012.5"]
