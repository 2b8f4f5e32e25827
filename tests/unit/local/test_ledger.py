"""Every accepted row has one end; what a line of the table says adds up, and the ids behind it can be had."""

from __future__ import annotations

import json
import uuid
from datetime import date
from typing import Any

import httpx
import pytest

from laurel_local.client import Client
from laurel_local.console import Output
from laurel_local.exits import Exit
from laurel_local.reconcile import run

IDS = [str(uuid.UUID(int=n)) for n in range(1, 40)]
ISSUED, LATE, DEAD, PARKED, LOST, UNINDEXED, UNREAD = IDS[:7]
ENDS = ("issued", "erased", "not_passed", "duplicate", "rejected", "dead_lettered", "waiting", "missing")


def row(n: int, outcome: str, credential: str | None = None, run: str | None = "r1", day: str = "2026-05-01") -> Any:
    return {
        "result_id": str(uuid.UUID(int=1000 + n)), "outcome": outcome, "credential_id": credential, "course_run": run,
        "day": day,
    }  # fmt: skip


ROWS = [
    row(1, "passed", ISSUED), row(2, "passed", LATE, "r2", "2026-05-02"), row(3, "passed", DEAD),
    row(4, "passed", PARKED, "r2"), row(5, "passed", LOST), row(6, "not_passed"), row(7, "not_passed", run=None),
    row(8, "duplicate"), row(9, "rejected"), row(10, "rejected", run="r2", day="2026-05-02"),
    row(11, "passed", UNINDEXED), row(12, "passed", UNREAD),
]  # fmt: skip


class Services:
    """The reports of four services over HTTP, in pages of three."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows
        self.asked: list[dict[str, str]] = []
        self.erased: list[str] = []
        self.letters = {
            "issuer": [
                {"id": 1, "key": DEAD, "redriven_at": None, "state": "discarded"},
                {"id": 2, "key": LOST, "redriven_at": "2026-05-03T00:00:00Z", "state": "redriven"},
                {"id": 3, "key": ISSUED, "redriven_at": None, "state": "queued"},
            ],
            "verifier": [{"id": 1, "key": UNREAD, "redriven_at": None, "state": "waiting"}],
        }  # fmt: skip

    def answer(self, request: httpx.Request) -> httpx.Response:
        _, service, _, kind, *rest = request.url.path.split("/")
        query = dict(request.url.params)
        items: list[Any]
        if kind == "dead-letters":
            items = self.letters.get(service, [])
        elif rest == ["waiting"]:
            items = [{"credential_id": PARKED, "reason": "unknown_profile"}]
        elif rest == ["outcomes"]:
            self.asked.append(query)
            items = [
                one for one in self.rows
                if query.get("course_run") in (None, one["course_run"]) and query.get("day") in (None, one["day"])
            ]  # fmt: skip
            begin = int(query.get("after", 0))
            more = begin + 3 < len(items)
            return httpx.Response(200, json={"items": items[begin : begin + 3], "next": begin + 3 if more else None})
        elif rest == ["erased"]:
            items = self.erased
        else:
            items = [ISSUED, LATE, *([UNINDEXED, UNREAD] if service == "issuer" else [])]
        return httpx.Response(200, json={"items": items, "next": None})

    async def run(self, course_run: str | None = None, *, as_json: bool = True, **options: Any) -> Exit:
        client = Client("http://laurel")
        client._http = httpx.AsyncClient(base_url="http://laurel", transport=httpx.MockTransport(self.answer))
        return await run(client, course_run, Output(as_json=as_json), **options)


async def told(capsys: pytest.CaptureFixture[str], course_run: str | None = None, **options: Any) -> Any:
    await Services(ROWS).run(course_run, **options)
    return json.loads(capsys.readouterr().out)


def adds_up(line: dict[str, Any]) -> bool:
    return bool(line["accepted"] == sum(line[one] for one in ENDS))


async def test_each_line_adds_up_and_the_lines_add_up_to_the_total(capsys: pytest.CaptureFixture[str]) -> None:
    found = await told(capsys, by=["course-run", "day"])
    assert [(one["course_run"], one["day"]) for one in found["lines"]] == [
        ("(none)", "2026-05-01"), ("r1", "2026-05-01"), ("r2", "2026-05-01"), ("r2", "2026-05-02"),
    ]  # fmt: skip
    assert all(adds_up(one) for one in [*found["lines"], found["total"]])
    for name in ("accepted", "indexed", *ENDS):
        assert sum(one[name] for one in found["lines"]) == found["total"][name]
    assert found["total"] == {
        "accepted": 12, "issued": 4, "not_passed": 2, "duplicate": 1, "rejected": 2, "dead_lettered": 1, "waiting": 1,
        "missing": 1, "indexed": 2, "erased": 0,
    }  # fmt: skip
    by_day = (await told(capsys, by=["day"]))["lines"]
    assert [(one["day"], one["accepted"]) for one in by_day] == [("2026-05-01", 10), ("2026-05-02", 2)]


async def test_course_run_and_day_narrow_what_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = await told(capsys, "r2", day=date(2026, 5, 2))
    assert found["total"] | {"accepted": 2, "issued": 1, "rejected": 1} == found["total"]
    assert (found["course_run"], found["day"]) == ("r2", "2026-05-02")


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("issued", [ISSUED, LATE, UNINDEXED, UNREAD]), ("dead_lettered", [DEAD]), ("waiting", [PARKED]),
        ("missing", [LOST]), ("indexed", [ISSUED, LATE]), ("not_indexed", [UNINDEXED]),
        ("duplicate", [ROWS[7]["result_id"]]), ("rejected", [ROWS[8]["result_id"], ROWS[9]["result_id"]]),
        ("not_passed", [ROWS[5]["result_id"], ROWS[6]["result_id"]]),
        ("passed", [ISSUED, LATE, DEAD, PARKED, LOST, UNINDEXED, UNREAD]),
    ],
)  # fmt: skip
async def test_the_ids_behind_each_number(ids: Any, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert await Services(ROWS).run(as_json=False, ids=ids) == Exit.NO, "one is missing, whatever is listed"
    assert capsys.readouterr().out.split() == expected
    await Services(ROWS).run(ids=ids)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["credential_id"] or one["result_id"] for one in lines] == expected
    assert {one["end"] for one in lines} <= set(ENDS)


async def test_ids_and_numbers_agree(capsys: pytest.CaptureFixture[str]) -> None:
    total = (await told(capsys, by=["day"]))["total"]
    for name in ("accepted", "indexed", *ENDS):
        await Services(ROWS).run(as_json=False, ids=name)
        assert len(capsys.readouterr().out.split()) == total[name], name


async def test_the_answer_is_yes_when_nothing_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    well = [one for one in ROWS if one["credential_id"] != LOST]
    assert await Services(well).run(as_json=False, by=["day"]) == Exit.OK
    assert "everything is accounted for" in capsys.readouterr().out
    assert await Services(ROWS).run(as_json=False, by=["day"]) == Exit.NO
    assert "1 unaccounted for" in capsys.readouterr().out
    assert await Services([]).run(as_json=False, by=["day"]) == Exit.NO
    assert "no results" in capsys.readouterr().out
    assert await Services([]).run(as_json=False, ids="missing") == Exit.NO, "a course run that nobody knows is misspelt"
    assert "no results" in capsys.readouterr().err


async def test_what_is_erased_is_an_end_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    services = Services(ROWS)
    services.erased = [LOST, DEAD]
    assert await services.run(by=["day"]) == Exit.OK, "nothing is missing any more"
    found = json.loads(capsys.readouterr().out)["total"]
    assert (found["erased"], found["missing"], found["dead_lettered"]) == (2, 0, 0)
    assert adds_up(found)
