"""Results in bulk: streamed, spooled, settled a chunk a transaction; whatever dies, the numbers add up."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from starlette.requests import ClientDisconnect

from laurel.events import AssessmentPassed
from laurel.ids import uuid7
from laurel.topics import ASSESSMENT
from laurel_assessment import import_store, imports, intake
from laurel_assessment.import_worker import ImportWorker
from tests.component.assessment.conftest import BASE, Caller, World, learner, ndjson

IMPORTS = "/assessment/v1/results/imports"


async def settled(world: World, caller: Caller, response: Any) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    await world.settle()
    return await caller.imported(response.json()["import_id"])


def counted(found: dict[str, Any]) -> tuple[int, int, int, int, int]:
    return (found["accepted"], found["passed"], found["not_passed"], found["duplicate"], found["rejected"])


async def rejections(caller: Caller, found: dict[str, Any]) -> dict[int, tuple[str, str]]:
    response = await caller.get(f"{IMPORTS}/{found['import_id']}/rejections", limit=1000)
    assert response.status_code == 200
    return {one["line"]: (one["field"], one["code"]) for one in response.json()["items"]}


async def adds_up(world: World, caller: Caller) -> Counter[str]:
    """Promise 1, on the rows themselves: one outcome a row, one event a pass, every id derived and distinct."""
    rows = await world.fetch("SELECT outcome, credential_id::text, result_id::text FROM results")
    passed = {row["credential_id"]: row["result_id"] for row in rows if row["outcome"] == "passed"}
    events = await world.events(AssessmentPassed)
    assert {event.credential_id: event.result_id for event in events} == passed
    assert len(events) == len(passed)
    report = (await caller.get("/assessment/v1/reports/reconcile")).json()["counts"]
    counts = Counter(row["outcome"] for row in rows)
    assert report["accepted"] == len(rows) + report["waiting"]
    assert {name: report[name] for name in ("passed", "not_passed", "duplicate", "rejected")} == {
        name: counts[name] for name in ("passed", "not_passed", "duplicate", "rejected")
    }
    return counts


# --- NDJSON -------------------------------------------------------------------------------------------------


async def test_every_row_ends_as_exactly_one_outcome(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    rows = [
        learner(1),  # 1 passed
        learner(2, score=10),  # 2 not passed
        learner(1),  # 3 duplicate within the chunk
        learner(2, score=70, attempt=2),  # 4 passed at the second attempt
        learner(2, score=90, attempt=3),  # 5 has it already
        learner(1, score=81),  # 6 conflicting
        learner(3, email=None),  # 7 nobody to give it to
        {"learner": "Ｌ-全角", "email": "全角@例え.jp", "score": 60, "name": "山田 太郎"},  # 8 passed
    ]
    response = await ours.upload(ndjson(*rows), achievement=achievement, course_run="dl-2026")
    assert response.headers["location"] == response.json()["url"] == f"{IMPORTS}/{response.json()['import_id']}"
    before = await ours.imported(response.json()["import_id"])
    assert (before["status"], before["rows"], before["processed"], before["finished_at"]) == ("processing", 8, 0, None)
    found = await settled(world, ours, response)
    assert found["status"] == "done"
    assert counted(found) == (8, 3, 1, 2, 2)
    assert found["processed"] == found["rows"] == 8
    assert found["finished_at"] is not None
    assert await rejections(ours, found) == {6: ("/attempt", "conflicting_result"), 7: ("/email", "no_recipient")}
    items = (await ours.get(f"{found_path(found)}/results")).json()["items"]
    assert [one["outcome"] for one in items] == [
        "passed", "not_passed", "duplicate", "passed", "duplicate", "rejected", "rejected", "passed",
    ]  # fmt: skip
    assert items[0]["credential_id"] == items[2]["credential_id"]
    assert items[3]["credential_id"] == items[4]["credential_id"]
    assert await adds_up(world, ours) == {"passed": 3, "not_passed": 1, "duplicate": 2, "rejected": 2}
    report = (await ours.get("/assessment/v1/reports/reconcile", course_run="dl-2026")).json()["counts"]
    assert report["accepted"] == 8
    assert (await ours.get("/assessment/v1/reports/reconcile", course_run="other")).json()["counts"]["accepted"] == 0
    owed = (await ours.get("/assessment/v1/reports/credentials", course_run="dl-2026", limit=2)).json()
    rest = (await ours.get("/assessment/v1/reports/credentials", limit=2, after=owed["next"])).json()
    assert owed["items"] + rest["items"] == sorted(
        event.credential_id for event in await world.events(AssessmentPassed)
    )
    assert rest["next"] is None


def found_path(found: dict[str, Any]) -> str:
    return f"{IMPORTS}/{found['import_id']}"


HOSTILE: list[tuple[bytes, str, str]] = [
    (b'{"learner": "a", "learner": "b", "email": "a@example.org"}', "", "duplicate_key"),
    (b'{"learner": "a", "email": "a@example.org", "parts": {"x": 1, "x": 2}}', "", "duplicate_key"),
    (b'{"learner": "a\\"b", "learner": "b", "email": "a@example.org"}', "", "duplicate_key"),
    (b'{"learner": "a", "score": NaN}', "", "not_finite"),
    (b'{"learner": "a", "score": 1e999}', "", "not_finite"),
    (b'{"learner": "a", "score": -Infinity}', "", "not_finite"),
    (b'{"learner": "\\ud800", "email": "a@example.org"}', "", "bad_string"),
    (b'{"learner": "a\\u0000b", "email": "a@example.org"}', "", "bad_string"),
    (b'{"learner": "a\x00b", "email": "a@example.org"}', "", "not_json"),
    (b'{"learner": "\xff\xfe", "email": "a@example.org"}', "", "not_utf8"),
    (b'{"learner": ' + b"[" * 900 + b"]" * 900 + b"}", "", "too_deep"),
    (b'{"x": ' + b'{"x":' * 5000 + b"1" + b"}" * 5001, "", "too_deep"),
    (b'{"learner": "' + b"a" * 70_000 + b'"}', "", "row_too_long"),
    (b'{"learner": "a", "email": "a@example.org"', "", "not_json"),
    (b"not json", "", "not_json"),
    (b"[]", "", "not_an_object"),
    (b"42", "", "not_an_object"),
    (b'{"learner": "a", "email": "a@example.org", "grade": 1}', "/grade", "unknown_field"),
    (b'{"learner": "a", "email": "a@example.org", "score": "80"}', "/score", "wrong_type"),
    (b'{"learner": "a", "email": "a@example.org", "score": false}', "/score", "wrong_type"),
    (b'{"learner": "a", "email": "a@example.org", "attempt": 99999999999999999999}', "/attempt", "out_of_range"),
    (b'{"learner": "a", "email": "a@example.org", "achievement": "no"}', "/achievement", "unknown_achievement"),
]


async def test_a_hostile_row_is_a_rejected_row_and_spoils_no_other(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    body = b""
    for n, (row, _, _) in enumerate(HOSTILE):
        body += row + b"\r\n" + ndjson(learner(n)) + b"\n"
    found = await settled(world, ours, await ours.upload(body, achievement=achievement))
    assert counted(found) == (2 * len(HOSTILE), len(HOSTILE), 0, 0, len(HOSTILE))
    expected = {1 + 3 * n: (field, code) for n, (_, field, code) in enumerate(HOSTILE)}
    assert await rejections(ours, found) == expected
    await adds_up(world, ours)


async def test_a_byte_order_mark_blank_lines_and_a_missing_last_line_end_are_nothing_special(
    world: World, ours: Caller
) -> None:
    achievement = await ours.achievement()
    body = b"\xef\xbb\xbf" + ndjson(learner(1)) + b"\r\n  \r\n" + ndjson(learner(2)).rstrip()
    found = await settled(world, ours, await ours.upload(pieces(body, 1), achievement=achievement))
    assert counted(found) == (2, 2, 0, 0, 0)


async def pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for place in range(0, len(body), size):
        yield body[place : place + size]


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/csv"])
@pytest.mark.parametrize("body", [b"", b"\n\r\n \n", b"\xef\xbb\xbf"])
async def test_an_empty_body_is_refused(world: World, ours: Caller, kind: str, body: bytes) -> None:
    response = await ours.upload(body, kind=kind)
    assert response.status_code == 422
    assert response.json()["type"] == "urn:laurel:problem:empty"
    assert await world.fetch("SELECT 1 FROM imports") == []


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", ""])
async def test_another_media_type_is_refused(ours: Caller, kind: str) -> None:
    response = await ours.upload(b"{}", kind=kind)
    assert response.status_code == 415


async def test_an_unknown_default_achievement_is_refused(ours: Caller, theirs: Caller) -> None:
    foreign = await theirs.achievement()
    answers = [await ours.upload(ndjson(learner(1)), achievement=name) for name in (foreign, uuid7(), "x")]
    assert [one.status_code for one in answers] == [422] * 3
    assert len({one.text for one in answers}) == 1


# --- CSV ----------------------------------------------------------------------------------------------------


async def test_csv_as_spreadsheets_write_it(world: World, ours: Caller) -> None:
    achievement = await ours.achievement(policy={"minimum_score": 60, "required_parts": {"essay": 5}})
    body = (
        "\ufeffLearner;Email;Name;Score;part:essay;Attempt;Completed at;Evidence\r\n"
        'A-1;a1@example.org;"Doe; Jane";87,5;6;;2026-05-31T17:00:00Z;https://example.org/1 https://example.org/2\r\n'
        'A-2;a2@example.org;"Line\none";60;5,5;1;;\r\n'
        'A-3;a3@example.org;"The ""best""";59;5;;;;;\r\n'
        "A-4;a4@example.org;;1,000;5;;;\r\n"
        "A-5;a5@example.org;;70\r\n"
        ";;;;;;;\r\n"
        'A-6;a6@example.org;"x"y;70;5;;;\r\n'
        'A-7;a7@example.org;5 " disk;70;5;2.0;;\r\n'
    ).encode()
    found = await settled(world, ours, await ours.upload(body, kind="text/csv; charset=utf-8", achievement=achievement))
    items = (await ours.get(f"{found_path(found)}/results")).json()["items"]
    assert [(one["line"], one["learner"], one["outcome"]) for one in items] == [
        (2, "A-1", "passed"),
        (3, "A-2", "rejected"),
        (5, "A-3", "not_passed"),
        (6, "A-4", "rejected"),
        (7, None, "rejected"),
        (9, None, "rejected"),
        (10, "A-7", "passed"),
    ]
    assert await rejections(ours, found) == {
        3: ("name", "bad_string"),
        6: ("score", "wrong_type"),
        7: ("", "wrong_column_count"),
        9: ("", "bad_csv"),
    }
    first = await world.events(AssessmentPassed)
    assert first[0].evidence == ("https://example.org/1", "https://example.org/2")


async def test_an_unclosed_quote_costs_its_row_only(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    lines = [f"L-{n},l{n}@example.org,70" for n in range(50)]
    lines[10] = 'L-10,l10@example.org,"70'
    body = ("learner,email,score\n" + "\n".join(lines)).encode()
    found = await settled(world, ours, await ours.upload(pieces(body, 7), kind="text/csv", achievement=achievement))
    assert counted(found) == (50, 49, 0, 0, 1)
    assert await rejections(ours, found) == {12: ("", "unclosed_quote")}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"achievement,learner,email,grade,Nickname\n", {("grade", "unknown_column"), ("nickname", "unknown_column")}),
        (b"email,score\n", {("learner", "missing_column"), ("achievement", "missing_column")}),
        (b"achievement,learner\n", {("email", "missing_column")}),
        (b"achievement,learner,email,learner\n", {("learner", "duplicate_column")}),
        (b"achievement,learner,email,parts\n", {("parts", "unknown_column")}),
        (b"a,b,c\n", {("header", "no_header")}),
        (b"L-1,l1@example.org,80\n", {("header", "no_header")}),
        (b"learner,em\xffail\n", {("header", "not_utf8")}),
        (b"learner,email\rL-1,a@example.org\r", {("header", "bad_line_ends")}),
        (b"learner,em\x00ail\n", {("header", "bad_string")}),
        (b"x" * 200_000, {("header", "no_header")}),
    ],
)
async def test_a_header_that_cannot_be_used_stores_nothing(
    world: World, ours: Caller, header: bytes, expected: set[tuple[str, str]]
) -> None:
    response = await ours.upload(header + b"L-1,l1@example.org,80,1\n", kind="text/csv")
    assert response.status_code == 422
    assert {(one["field"], one["code"]) for one in response.json()["errors"]} == expected
    assert await world.fetch("SELECT 1 FROM imports UNION ALL SELECT 1 FROM import_chunks") == []


async def test_utf_16_is_named(ours: Caller) -> None:
    for kind in ("text/csv", "application/x-ndjson"):
        response = await ours.upload("learner,email\n".encode("utf-16"), kind=kind)
        assert response.status_code == 422
        assert response.json()["type"] == "urn:laurel:problem:not_utf8"


async def test_a_column_names_each_rows_achievement(world: World, ours: Caller, theirs: Caller) -> None:
    one, two, foreign = await ours.achievement(), await ours.achievement(), await theirs.achievement()
    rows = [
        f"{name},L-1,l1@example.org,70,run-{n}" for n, name in enumerate((one, f"{BASE}/achievements/{two}", foreign))
    ]
    body = "\n".join(["achievement,learner,email,score,course_run", *rows]).encode()
    found = await settled(world, ours, await ours.upload(body, kind="text/csv"))
    assert counted(found) == (3, 2, 0, 0, 1)
    assert await rejections(ours, found) == {4: ("achievement", "unknown_achievement")}
    assert {event.course_run for event in await world.events(AssessmentPassed)} == {"run-0", "run-1"}


# --- idempotency and interruption ---------------------------------------------------------------------------


async def test_the_same_key_and_body_is_one_import(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    body = ndjson(learner(1), learner(2))
    first = await ours.upload(body, key="k", achievement=achievement)
    again = await ours.upload(pieces(body, 10), key="k", achievement=achievement)
    assert (first.status_code, first.content) == (again.status_code, again.content) == (202, first.content)
    for response in (
        await ours.upload(ndjson(learner(1)), key="k", achievement=achievement),
        await ours.upload(body, key="k", achievement=achievement, course_run="other"),
    ):
        assert response.status_code == 422
        assert response.json()["type"] == "urn:laurel:problem:idempotency_key_reused"
    assert counted(await settled(world, ours, first)) == (2, 2, 0, 0, 0)
    assert len((await ours.get(IMPORTS)).json()["items"]) == 1


async def test_without_a_key_the_rows_themselves_are_the_guard(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    body = ndjson(*(learner(n) for n in range(20)))
    first = await settled(world, ours, await ours.upload(body, achievement=achievement))
    second = await settled(world, ours, await ours.upload(body, achievement=achievement))
    assert counted(first) == (20, 20, 0, 0, 0)
    assert counted(second) == (20, 0, 0, 20, 0)
    await adds_up(world, ours)


async def test_a_key_in_flight_is_a_conflict_and_the_status_is_truthful_meanwhile(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield ndjson(*(learner(n) for n in range(1500)))
        await go_on.wait()
        yield ndjson(*(learner(n) for n in range(1500, 1600)))

    upload = asyncio.create_task(ours.upload(slowly(), key="k", achievement=achievement))
    while not (found := (await ours.get(IMPORTS)).json()["items"]):
        await asyncio.sleep(0.01)
    assert (found[0]["status"], found[0]["rows"], found[0]["accepted"]) == ("receiving", 1000, 0)
    assert await world.settle() == 0  # nothing is processed before the whole body is here
    refused = await ours.upload(ndjson(learner(1)), key="k", achievement=achievement)
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:laurel:problem:in_flight"
    assert "has begun and has not ended" in refused.json()["detail"]
    assert "35 s" in refused.json()["detail"]  # import_idle_s is 5 here
    assert int(refused.headers["retry-after"]) > 0
    go_on.set()
    found = await settled(world, ours, await upload)
    assert counted(found) == (1600, 1600, 0, 0, 0)


async def test_of_two_uploads_that_begin_with_one_key_at_once_one_is_taken(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    begun, go_on = 0, asyncio.Event()

    async def together() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1  # past the look whether the key is known
        await go_on.wait()
        yield ndjson(*(learner(n) for n in range(20)))

    uploads = [asyncio.create_task(ours.upload(together(), key="k", achievement=achievement)) for _ in range(2)]
    while begun < 2:
        await asyncio.sleep(0.01)
    go_on.set()
    answers = await asyncio.gather(*uploads)
    assert sorted(one.status_code for one in answers) == [202, 409]
    found = await settled(world, ours, next(one for one in answers if one.status_code == 202))
    assert counted(found) == (20, 20, 0, 0, 0)
    assert len(await world.fetch("SELECT 1 FROM imports")) == 1


class Gone(Exception):
    """The client's connection broke."""


@pytest.mark.parametrize("how", ["error", "cancelled", "silent", "disconnect"])
async def test_a_broken_upload_fails_and_nothing_of_it_is_processed(world: World, ours: Caller, how: str) -> None:
    achievement = await ours.achievement()

    async def breaking() -> AsyncIterator[bytes]:
        yield ndjson(*(learner(n) for n in range(2500)))
        if how == "error":
            raise Gone
        if how == "disconnect":
            raise ClientDisconnect
        await asyncio.sleep(30)

    upload = imports.Upload(
        world.service.database, ours.tenant_id, csv=False,
        defaults=imports.Defaults(BASE, achievement, None), key="k", max_bytes=1 << 30,
        idle_s=0.2 if how == "silent" else 9,
        answer=lambda import_id: import_id.encode(), clock=world.clock,
    )  # fmt: skip
    task = asyncio.create_task(upload.receive(breaking()))
    if how == "cancelled":
        while not await world.fetch("SELECT 1 FROM imports WHERE rows >= 2000"):
            await asyncio.sleep(0.01)
        task.cancel()
    expected = {"error": Gone, "cancelled": asyncio.CancelledError, "silent": imports.Refused}
    with pytest.raises(expected.get(how, ClientDisconnect)):
        await task
    (found,) = (await ours.get(IMPORTS)).json()["items"]
    assert found["status"] == "failed"
    assert found["accepted"] == 0
    assert found["failure"].startswith(("upload_interrupted", "upload_timeout"))
    assert await world.settle() == 0
    assert await world.fetch("SELECT 1 FROM import_chunks UNION ALL SELECT 1 FROM results") == []
    # The key is free again: the client sends the whole file once more.
    again = await ours.upload(ndjson(learner(1)), key="k", achievement=achievement)
    assert counted(await settled(world, ours, again)) == (1, 1, 0, 0, 0)


async def test_a_body_that_is_too_large_fails(world: World, ours: Caller) -> None:
    defaults = imports.Defaults(BASE, await ours.achievement(), None)
    upload = imports.Upload(
        world.service.database, ours.tenant_id, csv=False, defaults=defaults, key=None, max_bytes=300_000, idle_s=5,
        answer=lambda import_id: import_id.encode(), clock=world.clock,
    )  # fmt: skip
    with pytest.raises(imports.Refused, match="larger than 300000") as refused:
        await upload.receive(pieces(ndjson(*(learner(n) for n in range(10_000))), 10_000))
    assert refused.value.status == 413
    (found,) = (await ours.get(IMPORTS)).json()["items"]
    assert found["status"] == "failed"


async def test_an_upload_whose_process_died_is_swept(world: World, ours: Caller) -> None:
    request = import_store.Request(import_store.Form(), None, None, None)
    async with world.service.database.transaction([ours.tenant_id]) as tx:
        for name in ("old", "new"):
            assert await import_store.begin(tx, ours.tenant_id, uuid7(), request, key=name, now=world.clock())
    async with world.service.worker_database.transaction() as tx:
        await tx.execute(
            "UPDATE imports SET heard_at = now() - interval '1 hour' WHERE import_id = "
            "(SELECT import_id FROM idempotency_keys WHERE key = 'old')"
        )
    async with world.service.worker_database.transaction() as tx:
        assert len(await import_store.fail_abandoned(tx, silent_s=300)) == 1
    statuses = [one["status"] for one in (await ours.get(IMPORTS)).json()["items"]]
    assert statuses == ["failed", "receiving"]
    assert [row["key"] for row in await world.fetch("SELECT key FROM idempotency_keys")] == ["new"]


# --- dying in the middle ------------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for kill -9 at this very instruction: nothing after it runs, the transaction is never committed."""


@pytest.mark.parametrize("where", ["after_results", "after_outbox", "before_count", "after_count"])
async def test_a_worker_that_dies_inside_a_transaction_leaves_no_trace_of_it(
    world: World, ours: Caller, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    achievement = await ours.achievement()
    rows = [learner(n % 2200, score=50 + n % 30) for n in range(2500)]
    response = await ours.upload(ndjson(*rows), achievement=achievement)
    assert await world.worker.step()  # the first chunk is settled
    done = await ours.imported(response.json()["import_id"])
    assert done["processed"] == 1000

    places: dict[str, tuple[Any, str]] = {
        "after_results": (intake.store, "record"),
        "after_outbox": (intake.outbox, "append"),
        "before_count": (import_store, "chunk_settled"),
        "after_count": (import_store, "chunk_settled"),
    }
    owner, name = places[where]
    real = getattr(owner, name)

    async def dying(*given: Any, **named: Any) -> Any:
        if where != "before_count":
            await real(*given, **named)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying)
        with pytest.raises(Died):
            await world.worker.step()
    assert (await ours.imported(response.json()["import_id"]))["processed"] == 1000
    assert len(await world.fetch("SELECT 1 FROM results")) == 1000

    # Another process takes over.
    world.worker = ImportWorker(world.service.worker_database, keys=world.keys, clock=world.clock)
    found = await settled(world, ours, response)
    assert found["status"] == "done"
    assert found["accepted"] == found["processed"] == 2500
    assert sum(counted(found)[1:]) == 2500
    await adds_up(world, ours)


async def test_a_backend_killed_in_the_middle_is_only_a_delay(world: World, ours: Caller) -> None:
    """The running loops, several imports, and PostgreSQL ending their sessions under them again and again."""
    achievement = await ours.achievement()
    responses = [
        await ours.upload(ndjson(*(learner(n + 700 * part) for n in range(1400))), achievement=achievement)
        for part in range(4)
    ]
    stop = asyncio.Event()
    running = asyncio.create_task(world.worker.run(stop))
    admin = await asyncpg.connect(world.admin_dsn)
    kills = 0
    try:
        while True:
            found = [await ours.imported(one.json()["import_id"]) for one in responses]
            if all(one["status"] == "done" for one in found) or running.done():
                break
            if kills < 6:
                kills += await admin.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE usename = 'laurel_assessment_worker' AND state <> 'idle'"
                )
            await asyncio.sleep(0.02)
    finally:
        await admin.close()
        stop.set()
        await running
    assert kills > 0
    assert sum(one["accepted"] for one in found) == 5600
    for one in found:
        assert sum(counted(one)[1:]) == one["processed"] == 1400
    # Each learner stands in two files: 4 × 700 + 700 distinct ones.
    assert await adds_up(world, ours) == {"passed": 3500, "duplicate": 2100}


async def test_imports_take_turns(world: World, ours: Caller, theirs: Caller) -> None:
    large, small = await ours.achievement(), await theirs.achievement()
    first = await ours.upload(ndjson(*(learner(n) for n in range(5000))), achievement=large)
    second = await theirs.upload(ndjson(*(learner(n) for n in range(10))), achievement=small)
    for _ in range(2):
        await world.worker.step()
    assert (await theirs.imported(second.json()["import_id"]))["status"] == "done"
    assert (await ours.imported(first.json()["import_id"]))["processed"] == 1000


async def test_two_workers_settle_the_same_learners_once(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    rows = [learner(n) for n in range(1500)]
    for order in (rows, rows[::-1], rows[700:] + rows[:700]):
        assert (await ours.upload(ndjson(*order), achievement=achievement)).status_code == 202
    others = [ImportWorker(world.service.worker_database, keys=world.keys, clock=world.clock) for _ in range(3)]

    async def work(worker: ImportWorker) -> None:
        while await world.fetch("SELECT 1 FROM imports WHERE status = 'processing' LIMIT 1"):
            try:
                await worker.step()
            except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
                continue

    await asyncio.gather(*(work(one) for one in others))
    assert await adds_up(world, ours) == {"passed": 1500, "duplicate": 3000}


async def test_a_row_that_breaks_us_is_rejected_alone(
    world: World, ours: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    achievement = await ours.achievement()
    real = intake.settle

    def broken(attempt: Any, *others: Any) -> Any:
        if attempt.learner == "L-000007":
            raise ZeroDivisionError("a bug of ours")
        return real(attempt, *others)

    monkeypatch.setattr(intake, "settle", broken)
    found = await settled(
        world, ours, await ours.upload(ndjson(*(learner(n) for n in range(20))), achievement=achievement)
    )
    assert counted(found) == (20, 19, 0, 0, 1)
    assert await rejections(ours, found) == {8: ("", "internal_error")}
    await adds_up(world, ours)


# --- memory, order, tenancy ---------------------------------------------------------------------------------


async def test_two_hundred_thousand_rows_are_never_held(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    row = json.dumps(learner(0, name="N" * 40, course_run="big")).encode() + b"\n"
    size = 0

    async def stream() -> AsyncIterator[bytes]:
        nonlocal size
        for _ in range(400):
            size += len(row) * 500
            yield row * 500

    upload = imports.Upload(
        world.service.database, ours.tenant_id, csv=False, defaults=imports.Defaults(BASE, achievement, None), key=None,
        max_bytes=1 << 30, idle_s=30, answer=lambda import_id: import_id.encode(), clock=world.clock,
    )  # fmt: skip
    gc.collect()
    tracemalloc.start()
    try:
        import_id = (await upload.receive(stream())).decode()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 25_000_000
    assert peak < 4_000_000
    found = await ours.imported(import_id)
    assert (found["rows"], found["bytes"]) == (200_000, size)
    largest = await world.fetch("SELECT max(rows) AS rows, max(octet_length(payload)) AS bytes FROM import_chunks")
    assert largest[0]["rows"] <= imports.CHUNK_ROWS
    assert largest[0]["bytes"] < imports.CHUNK_BYTES * 1.1


async def test_passes_reach_the_bus_in_order_and_once(world: World, ours: Caller) -> None:
    achievement = await ours.achievement(repeatable=True)
    rows = [learner(n % 60, attempt=1 + n // 60) for n in range(300)]
    await settled(world, ours, await ours.upload(ndjson(*rows), achievement=achievement))
    expected = {event.credential_id: event for event in await world.events(AssessmentPassed)}
    assert len(expected) == 300

    stop = asyncio.Event()
    relay = asyncio.create_task(world.service.relay.run(stop))
    received: list[Any] = []
    try:
        async with world.bus.consumer(group="test", topics=[ASSESSMENT.name], member_id="one") as consumer:
            while len(received) < 300:
                received += await consumer.poll(500, 1.0)
    finally:
        stop.set()
        await relay
    assert Counter(message.key.decode() for message in received) == dict.fromkeys(expected, 1)
    assert await world.fetch("SELECT 1 FROM outbox WHERE topic = $1", ASSESSMENT.name) == []


async def test_another_organisations_import_is_not_there(world: World, ours: Caller, theirs: Caller) -> None:
    achievement = await theirs.achievement()
    response = await theirs.upload(ndjson(learner(1)), achievement=achievement)
    await world.settle()
    foreign, absent = response.json()["import_id"], uuid7()
    for path in ("", "/rejections", "/results"):
        answers = [await ours.get(f"{IMPORTS}/{name}{path}") for name in (foreign, absent, "x")]
        assert [one.status_code for one in answers] == [404] * 3
        assert len({one.json()["detail"] for one in answers}) == 1
    assert (await ours.get(IMPORTS)).json()["items"] == []
    assert (await ours.get("/assessment/v1/reports/reconcile")).json()["counts"]["accepted"] == 0
    assert (await ours.get("/assessment/v1/reports/credentials")).json()["items"] == []


async def test_the_database_itself_keeps_tenants_apart(world: World, ours: Caller, theirs: Caller) -> None:
    for caller in (ours, theirs):
        achievement = await caller.achievement()
        await caller.upload(ndjson(learner(1)), achievement=achievement)
        await world.settle()
    for caller in (ours, theirs):
        achievement = await caller.achievement()
        await caller.upload(ndjson(learner(2)), achievement=achievement, key="k")  # stays spooled
    tables = (
        "achievements", "achievement_versions", "policies", "results", "imports", "import_chunks", "idempotency_keys",
        "outbox", "api_keys",
    )  # fmt: skip
    for table in tables:
        async with world.service.database.transaction([ours.tenant_id]) as tx:
            seen = {row["tenant_id"] for row in await tx.fetch(f"SELECT tenant_id FROM {table}")}
        assert seen == {ours.tenant_id}, table
        async with world.service.database.transaction() as tx:
            assert await tx.fetch(f"SELECT 1 FROM {table}") == [], table
        async with world.service.database.transaction([ours.tenant_id]) as tx:
            assert await tx.execute(f"DELETE FROM {table} WHERE tenant_id <> '{ours.tenant_id}'") == "DELETE 0"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with world.service.database.transaction([ours.tenant_id]) as tx:
            await tx.execute("UPDATE achievements SET tenant_id = $1", theirs.tenant_id)
    rows = await world.fetch(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AS forced FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'assessment' AND c.relkind = 'r' AND c.relname <> 'alembic_version'"
    )
    assert [row["relname"] for row in rows if not row["forced"]] == []


async def test_a_callers_trace_goes_on_in_every_event(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    traces = [f"00-{n:032x}-00000000000000aa-01" for n in (1, 2)]
    await ours.post("/assessment/v1/results", learner(1, achievement=achievement), traceparent=traces[0])
    headers = {**ours.headers, "content-type": "application/x-ndjson", "traceparent": traces[1]}
    body = ndjson(*(learner(n, achievement=achievement) for n in (2, 3)))
    await world.http.post(IMPORTS, content=body, headers=headers)
    await world.settle()
    rows = await world.fetch("SELECT traceparent FROM outbox WHERE topic = $1 ORDER BY id", ASSESSMENT.name)
    assert [row["traceparent"].split("-")[1] for row in rows] == [f"{n:032x}" for n in (1, 2, 2)]
