"""Token buckets with a clock that moves when it is told to, and what the answers say of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.requests import HTTPConnection

from laurel.database import Database
from laurel.limits import Buckets, Limits, Rate, public_address
from laurel.settings import Settings
from laurel.web import create_app


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    clock = Clock()
    buckets = Buckets(Rate(2.0, 5), monotonic=clock)
    assert [buckets.take("a").remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    refused = buckets.take("a")
    assert (refused.allowed, refused.retry_s) == (False, pytest.approx(0.5))
    clock.now += 0.5
    assert buckets.take("a").allowed
    assert not buckets.take("a").allowed
    clock.now += 60.0
    assert sum(buckets.take("a").allowed for _ in range(10)) == 5, "never more than its burst"


def test_what_is_refused_costs_nothing_and_other_callers_nothing_at_all() -> None:
    clock = Clock()
    buckets = Buckets(Rate(1.0, 1), monotonic=clock)
    assert buckets.take("a").allowed
    assert not any(buckets.take("a").allowed for _ in range(100))
    assert buckets.take("b").allowed
    clock.now += 1.0
    assert buckets.take("a").allowed


def test_a_caller_may_have_a_rate_of_its_own() -> None:
    buckets = Buckets(Rate(1.0, 1), monotonic=Clock())
    assert sum(buckets.take("a", Rate(10.0, 20)).allowed for _ in range(30)) == 20


def test_only_so_many_callers_are_remembered() -> None:
    buckets = Buckets(Rate(1.0, 1), most=3, monotonic=Clock())
    for caller in "abcd":
        assert buckets.take(caller).allowed
    assert buckets.take("a").allowed, "the one that was not heard of for longest was forgotten"
    assert not buckets.take("d").allowed


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.1, 20), st.integers(1, 20))
def test_no_sequence_gets_more_than_burst_and_rate_allow(pauses: list[float], per_s: float, burst: int) -> None:
    clock = Clock()
    buckets = Buckets(Rate(per_s, burst), monotonic=clock)
    began, allowed = clock.now, 0
    for pause in pauses:
        clock.now += pause
        decision = buckets.take("a")
        allowed += decision.allowed
        assert 0 <= decision.remaining <= burst
        assert allowed <= burst + (clock.now - began) * per_s + 1e-3
        if not decision.allowed:
            assert 0 < decision.retry_s <= 1 / per_s + 1e-6


@pytest.mark.parametrize(
    ("host", "caller"),
    [
        ("9.9.9.9", "9.9.9.9"), ("::ffff:9.9.9.9", "9.9.9.9"), ("2620:fe::fe", "2620:fe::/64"),
        ("2620:fe::1:2:3:4", "2620:fe::/64"), ("127.0.0.1", None), ("10.1.2.3", None), ("172.18.0.1", None),
        ("fd00::1", None), ("testclient", None),
    ],
)  # fmt: skip
def test_callers_from_outside_are_told_apart_by_address(host: str, caller: str | None) -> None:
    assert public_address(HTTPConnection({"type": "http", "headers": [], "client": (host, 1)})) == caller


def _settings(**given: Any) -> Settings:
    key = "aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk="
    return Settings(bus_url="postgres://x", database_url="postgres://x", id_key=key, contact_key=key, **given)


def test_rates_of_single_keys_come_from_the_settings() -> None:
    limits = Limits.of(_settings(rate_per_address=0, key_rates="0123456789ab=500/2000, zzzzzzzzzzzz=0.5/1"))
    assert limits.own == {"0123456789ab": Rate(500.0, 2000), "zzzzzzzzzzzz": Rate(0.5, 1)}
    assert limits.addresses is None
    for wrong in ("0123456789ab", "short=1/1", "0123456789ab=0/5", "0123456789ab=1/0", "0123456789ab=1/5=2"):
        with pytest.raises(ValidationError, match="KEY_ID=RATE/BURST"):
            _settings(key_rates=wrong)


# --- what an API answers ------------------------------------------------------------------------------------


def _app(limits: Limits) -> FastAPI:
    app = create_app(
        "test", title="t", description="d", database=Database("postgres://x", schema="x"), metered=["/dear/.*"]
    )
    app.state.limits = limits

    @app.post("/dear/door")
    async def dear() -> dict[str, str]:
        return {"done": "yes"}

    @app.get("/cheap")
    async def cheap() -> dict[str, str]:
        return {"done": "yes"}

    return app


async def test_a_dear_door_is_shut_for_an_address_that_comes_too_often_and_for_nobody_else() -> None:
    app = _app(Limits(addresses=Buckets(Rate(0.25, 2), monotonic=Clock())))

    def client(host: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(host, 1)), base_url="http://x")

    async with client("9.9.9.9") as often, client("8.8.8.8") as other, client("127.0.0.1") as near:
        first = await often.post("/dear/door")
        assert first.headers["ratelimit-policy"] == '"address";q=2;w=8'
        assert first.headers["ratelimit"] == '"address";r=1;t=4'
        assert (await often.post("/dear/door")).status_code == 200
        refused = await often.post("/dear/door")
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["retry-after"] == "4"
        assert refused.headers["ratelimit"] == '"address";r=0;t=8'
        assert refused.json()["type"] == "urn:laurel:problem:rate_limited"
        assert refused.json()["errors"][0]["field"] == "address"
        assert (await often.get("/cheap")).status_code == 200
        assert (await other.post("/dear/door")).status_code == 200
        assert [(await near.post("/dear/door")).status_code for _ in range(5)] == [200] * 5
