"""The fuzzer of requests, a little: what `python -m tests.fuzz requests` does by the hundred thousand."""

from __future__ import annotations

import os
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from tests.fuzz.request_maker import Request
from tests.fuzz.requests import AT_ONCE, MAX_GROWTH, Outcome, _one, no_names, run
from tests.security.conftest import new_database
from tests.security.estate import opened

RUNS = int(os.environ.get("LAUREL_FUZZ_REQUESTS", "5000"))


@pytest.mark.timeout(1200)
async def test_thousands_of_requests_and_no_server_error(postgres_dsn: str) -> None:
    with no_names():
        async with opened(await new_database(postgres_dsn), database_pool=AT_ONCE) as estate:
            outcome = await run(estate, RUNS, seed=7)
    assert outcome.failures == []
    assert outcome.total == RUNS
    assert outcome.growth < MAX_GROWTH
    # It gets past the door and is refused there, both: a fuzzer of which all is refused at once tries nothing.
    assert {200, 201, 202, 204, 400, 401, 404, 405, 409, 422} <= set(outcome.statuses)
    assert outcome.statuses[401] < RUNS / 4


class _Learner:
    def learn(self, answer: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (500, b"application/problem+json", "500"),
        (400, b"text/plain", "400 as"),
        (0, b"", "RuntimeError"),
        (-1, b"", "no answer"),
    ],
)
async def test_it_tells_what_is_wrong(status: int, kind: bytes, told: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if status == 0:
            raise RuntimeError("broken")
        if status > 0:
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": b"x"})

    outcome = Outcome()
    failure = await _one(app, Request("GET", b"/", b"", [], [b""]), outcome, _Learner())  # type: ignore[arg-type]
    assert failure is not None
    assert failure.startswith(told)
