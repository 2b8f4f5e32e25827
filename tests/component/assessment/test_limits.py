"""How often an API key may call, on the real routes."""

from __future__ import annotations

from laurel.limits import Buckets, Limits, Rate
from tests.component.assessment.conftest import Caller, World


async def test_a_key_that_calls_too_often_is_refused_and_others_are_not(
    world: World, ours: Caller, theirs: Caller
) -> None:
    own = theirs.headers["authorization"].split("_")[1]
    world.service.api.state.limits = Limits(keys=Buckets(Rate(0.5, 3), monotonic=lambda: 0.0), own={own: Rate(1.0, 6)})
    answers = [await ours.get("/assessment/v1/achievements") for _ in range(5)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429, 429]
    assert answers[0].headers["ratelimit-policy"] == '"key";q=3;w=6'
    assert [one.headers["ratelimit"] for one in answers[:4]] == [
        '"key";r=2;t=2', '"key";r=1;t=4', '"key";r=0;t=6', '"key";r=0;t=6'
    ]  # fmt: skip
    refused = answers[3]
    assert refused.headers["retry-after"] == "2"
    assert refused.json()["type"] == "urn:laurel:problem:rate_limited"
    assert refused.json()["errors"][0] == {
        "field": "Authorization", "code": "rate_limited",
        "detail": "this API key may send 0.5 requests a second, 3 at once; send this one again in 2 s",
    }  # fmt: skip
    assert [(await theirs.get("/assessment/v1/achievements")).status_code for _ in range(7)] == [200] * 6 + [429]


async def test_a_key_that_is_refused_has_changed_nothing(world: World, ours: Caller) -> None:
    world.service.api.state.limits = Limits(keys=Buckets(Rate(0.5, 1), monotonic=lambda: 0.0))
    first = await ours.post("/assessment/v1/achievements", {"name": "x"})
    assert first.status_code == 422
    assert (await ours.post("/assessment/v1/results", {"learner": "L"})).status_code == 429
    assert [tuple(row) for row in await world.fetch("SELECT count(*) FROM results")] == [(0,)]
