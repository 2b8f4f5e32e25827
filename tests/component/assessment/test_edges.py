"""Hostile parameters, and course runs: one form at intake, in queries and in reports."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest

from tests.component.assessment.conftest import Caller, World, learner, ndjson

PATH = "/assessment/v1/results"
RECONCILE = "/assessment/v1/reports/reconcile"
RUN = "Höst 2026 – Ångström"
DECOMPOSED = unicodedata.normalize("NFD", RUN)
HOSTILE = ("%00", "a%00b", "%ED%A0%80", "%FF", "%E2%80%AE", "", "%20", "9" * 40, "-1", "x" * 3000)


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post", "put", "delete")
    ]


async def test_no_parameter_of_any_route_breaks_it(world: World, ours: Caller) -> None:
    found = operations((await world.http.get("/assessment/v1/openapi.json")).json())
    tried = 0
    for path, method, operation in found:
        parameters = [one for one in operation.get("parameters", []) if one["in"] in ("path", "query")]
        for hostile in HOSTILE:
            for parameter in parameters:
                url = path
                for other in parameters:
                    if other["in"] == "path":
                        value = hostile if other is parameter else "01a2011e-05f0-7e18-9946-913a0139a4b5"
                        url = url.replace("{" + other["name"] + "}", value or "%00")
                if parameter["in"] == "query":
                    url += f"?{parameter['name']}={hostile}"
                response = await world.http.request(
                    method, url, headers={**ours.headers, "content-type": "application/x-ndjson"}, content=b"{}"
                )
                assert response.status_code < 500, (method, url, response.text)
                tried += 1
    assert tried > 150


@pytest.mark.parametrize("path", [PATH, RECONCILE, "/assessment/v1/reports/credentials"])
@pytest.mark.parametrize("run", ["\x00", "CR\x001", "\u202erun", " ", "x" * 201, ""])
async def test_a_course_run_that_cannot_be_is_refused(ours: Caller, path: str, run: str) -> None:
    response = await ours.get(path, course_run=run)
    assert response.status_code == 422, response.text
    assert "course_run" in response.json()["errors"][0]["field"]


@pytest.mark.parametrize("run", ["a\u202eb", "a\u2066b", "x" * 201, "a\x85b", "\u0958" * 150])
async def test_a_course_run_that_nobody_could_ask_for_is_not_accepted(ours: Caller, run: str) -> None:
    achievement = await ours.achievement()
    response = await ours.post(PATH, learner(1, achievement=achievement, course_run=run))
    assert response.status_code == 422
    assert {one["field"] for one in response.json()["errors"]} == {"/course_run"}


async def test_a_course_run_is_found_however_its_accents_are_composed(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    assert (await ours.post(PATH, learner(1, achievement=achievement, course_run=DECOMPOSED))).status_code == 201
    taken = await ours.upload(ndjson(learner(2)), achievement=achievement, course_run=f" {DECOMPOSED} ")
    assert taken.status_code == 202
    await world.settle()
    for run in (RUN, DECOMPOSED, f" {DECOMPOSED} "):
        assert (await ours.get(RECONCILE, course_run=run)).json()["counts"]["passed"] == 2
        assert len((await ours.get(PATH, course_run=run)).json()["items"]) == 2
        assert len((await ours.get("/assessment/v1/reports/credentials", course_run=run)).json()["items"]) == 2


async def test_every_decided_row_is_reported_once_with_its_end_and_its_day(
    world: World, ours: Caller, theirs: Caller
) -> None:
    path = "/assessment/v1/reports/outcomes"
    achievement = await ours.achievement()
    for number in range(5):
        row = learner(number, course_run=f"CR{number % 2}", achievement=achievement, score=90 if number < 3 else 1)
        assert (await ours.post(PATH, row)).status_code == 201
    world.clock.forward(days=1)
    assert (await ours.post(PATH, learner(7, course_run="CR1", achievement=achievement))).status_code == 201

    async def listed(**query: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            more = {} if after is None else {"after": after}
            page = (await ours.get(path, limit=2, **query, **more)).json()
            items += page["items"]
            after = page["next"]
            if after is None:
                return items

    found = await listed()
    assert len({one["result_id"] for one in found}) == len(found) == 6
    assert sorted(one["day"] for one in found) == ["2026-06-01"] * 5 + ["2026-06-02"]
    assert {one["outcome"]: one["credential_id"] is not None for one in found} == {"passed": True, "not_passed": False}
    counts = (await ours.get(RECONCILE)).json()["counts"]
    for outcome in ("passed", "not_passed", "duplicate", "rejected"):
        assert len(await listed(outcome=outcome)) == counts[outcome]
    assert len(await listed(course_run="CR1")) == 3
    assert len(await listed(day="2026-06-02")) == 1
    assert len(await listed(day="2026-06-01", course_run="CR1", outcome="passed")) == 1
    for none in ("2026-05-31", "9999-12-31", "0001-01-01"):
        assert await listed(day=none) == []
    assert (await theirs.get(path)).json()["items"] == []
    for wrong in ({"day": "soon"}, {"outcome": "odd"}, {"after": "x"}, {"limit": 10_001}):
        assert (await ours.get(path, **wrong)).status_code == 422


CSV_HEADER = b"learner,email,score,course_run,achievement\n"


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/csv"])
async def test_a_rejected_row_stays_in_its_own_course_run(world: World, ours: Caller, kind: str) -> None:
    achievement = await ours.achievement()
    rows = [
        learner(1, course_run="CR1", achievement=achievement),
        {**learner(2, course_run="CR1", achievement=achievement), "email": "not-an-address"},
        {**learner(3, course_run="CR1", achievement=achievement), "score": "many"},
        {**learner(4, course_run="a\u202eb", achievement=achievement)},
        {**learner(5, achievement=achievement), "email": "nor-this"},
    ]
    body = ndjson(*rows)
    if kind == "text/csv":
        fields = ("learner", "email", "score", "course_run", "achievement")
        body = CSV_HEADER + b"".join(
            ",".join(str(row.get(name, "")) for name in fields).encode() + b"\n" for row in rows
        )
    taken = await ours.upload(body, kind=kind, course_run="whole")
    assert taken.status_code == 202, taken.text
    await world.settle()
    first = (await ours.get(RECONCILE, course_run="CR1")).json()["counts"]
    assert (first["accepted"], first["passed"], first["rejected"]) == (3, 1, 2)
    whole = (await ours.get(RECONCILE, course_run="whole")).json()["counts"]
    assert (whole["accepted"], whole["rejected"]) == (1, 1)
    assert (await ours.get(RECONCILE)).json()["counts"]["rejected"] == 4
    (second,) = (await ours.get(PATH, learner="L-000002")).json()["items"]
    assert (second["outcome"], second["course_run"], second["achievement_id"]) == ("rejected", "CR1", achievement)
    assert len((await ours.get(PATH, achievement=achievement)).json()["items"]) == 5


async def test_rows_that_wait_are_never_missing_from_a_course_run(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    named = ndjson(*(learner(n, course_run="CR1") for n in range(3)))
    await ours.upload(named, achievement=achievement)
    plain = b"learner,email\nL-1,a@example.org\nL-2,b@example.org\n"
    await ours.upload(plain, kind="text/csv", achievement=achievement, course_run="CR2")
    waiting = {}
    for run in ("CR1", "CR2", "CR3"):
        counts = (await ours.get(RECONCILE, course_run=run)).json()["counts"]
        assert counts["accepted"] == counts["waiting"]
        waiting[run] = counts["waiting"]
    # The file without a column for it says where its rows belong; the other may hold rows of any run.
    assert waiting == {"CR1": 3, "CR2": 5, "CR3": 3}
    await world.settle()
    assert [(await ours.get(RECONCILE, course_run=run)).json()["counts"]["accepted"] for run in waiting] == [3, 2, 0]


async def test_good_rows_between_stray_quotes_are_decided(world: World, ours: Caller) -> None:
    achievement = await ours.achievement()
    lines = ['O,o@example.org,80,"open', "P,p@example.org,80,x", 'Q,q@example.org,80,"fine"', "R,r@example.org,80,x"]
    body = "\n".join(["learner,email,score,name", *lines]).encode()
    taken = await ours.upload(body, kind="text/csv", achievement=achievement)
    await world.settle()
    path = taken.json()["url"]
    items = (await ours.get(f"{path}/results")).json()["items"]
    assert [(one["line"], one["outcome"]) for one in items] == [
        (2, "rejected"), (3, "passed"), (4, "passed"), (5, "passed"),
    ]  # fmt: skip
    (rejected,) = (await ours.get(f"{path}/rejections")).json()["items"]
    assert (rejected["line"], rejected["code"]) == (2, "unclosed_quote")
    assert json.dumps(rejected["row"]) == json.dumps(lines[0])
