"""Requests to all four services, by the hundred thousand: no server error, no exception, no memory without bound.

`python -m tests.fuzz requests --runs 1000000`. The applications run in this process on a real PostgreSQL;
`request_maker` makes the requests from the services' own OpenAPI documents. Nothing leaves the machine: no name is
looked up.

Counted as a failure, and kept in .fuzz/requests-…: a status of 500 or more, an exception, a refusal that is no problem
document (a page, where a person asked for one), no answer to a client that is still there. A machine that is busy with
other things may answer 503 "try again" where PostgreSQL does not get its turn within two seconds; such a request is
sent again, and is a failure unless it then succeeds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

import laurel.http
from tests.fuzz.request_maker import Maker, Request
from tests.security.estate import Estate, call, opened, settle_tenants

AT_ONCE = 16
MAX_GROWTH = 256 << 20  # bytes of resident memory that may come after the first tenth of the requests
_KEPT = 20
_PAUSES = (1.0, 4.0, 15.0)


@dataclass
class Outcome:
    """What came of a run. growth: bytes of resident memory since its first tenth."""

    statuses: Counter[int] = field(default_factory=Counter)
    hung_up: int = 0
    again: int = 0
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    growth: int = 0
    rss: int = 0

    @property
    def total(self) -> int:
        return sum(self.statuses.values()) + self.hung_up + self.failed


async def run(
    estate: Estate,
    runs: int,
    *,
    seed: int,
    seconds: float = float("inf"),
    report_every: int = 0,
    keep: Path | None = None,
) -> Outcome:
    """Send `runs` requests, or as many as there is time for."""
    tenants = await settle_tenants(estate, "alpha", "beta")
    documents = []
    for tenant in tenants:
        for name in ("credential_id", "endorsement_id"):
            documents.append(await call(estate, tenant, "GET", f"/verifier/v1/credentials/{tenant.owns[name]}"))
    documents = [one["document"] for one in documents]
    maker = Maker(estate, tenants, documents, seed)
    outcome = Outcome()
    begun, end, early = time.monotonic(), time.monotonic() + seconds, 0
    left = iter(range(runs))

    async def worker() -> None:
        nonlocal early
        for number in left:
            if time.monotonic() > end:
                return
            request = maker.request()
            failure = await _one(estate.gateway, request, outcome, maker)
            if failure is not None:
                outcome.failed += 1
                if len(outcome.failures) < _KEPT:
                    outcome.failures.append(_kept(request, failure, keep))
            if number == max(1000, runs // 10):
                early = _resident()
            if report_every and number and number % report_every == 0:
                rate = outcome.total / (time.monotonic() - begun)
                told = f"{outcome.total} requests, {rate:.0f}/s, {_resident() >> 20} MiB, {outcome.again} again, "
                told += f"{outcome.failed} failed"
                print(told, dict(sorted(outcome.statuses.items())), flush=True)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())
    outcome.rss = _resident()
    outcome.growth = outcome.rss - early if early else 0
    return outcome


async def _one(app: ASGIApp, request: Request, outcome: Outcome, maker: Maker) -> str | None:
    """Send one and look at its answer; what is wrong with that."""
    answer = await send(app, request)
    for pause in _PAUSES:
        if isinstance(answer, str) or answer.status != 503 or b"unavailable" not in answer.body:
            break
        outcome.again += 1
        await asyncio.sleep(pause)
        answer = await send(app, request)
    if isinstance(answer, str):
        return answer
    if answer.status is None:
        if request.gone_after is None:
            return "no answer"
        outcome.hung_up += 1
        return None
    kind = answer.headers.get(b"content-type", b"").partition(b";")[0]
    if answer.status >= 500:
        return f"{answer.status}: {answer.body[:300]!r}"
    refused = answer.status >= 400 and request.method != "HEAD" and request.gone_after is None
    kinds = {b"application/problem+json", b"text/html"}
    if request.raw_path.startswith(b"/oauth/token"):
        kinds.add(b"application/json")  # RFC 6749 §5.2
    if refused and kind not in kinds:
        return f"{answer.status} as {kind!r}"
    outcome.statuses[answer.status] += 1
    if answer.status in (200, 201, 202) and kind == b"application/json" and len(answer.body) < 20_000:
        maker.learn(json.loads(answer.body))
    return None


@dataclass
class Answer:
    """status: None if there was none."""

    status: int | None
    headers: dict[bytes, bytes]
    body: bytes


async def send(app: ASGIApp, request: Request) -> Answer | str:
    """The answer, or the exception that came out of the application."""
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method, "scheme": "http",
        "path": unquote(request.raw_path.decode("ascii")), "raw_path": request.raw_path, "query_string": request.query,
        "root_path": "", "headers": request.headers, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        "state": {},
    }  # fmt: skip
    pieces = list(request.pieces)
    sent = 0
    answer = Answer(None, {}, b"")
    done = asyncio.Event()

    async def receive() -> Message:
        nonlocal sent
        if request.gone_after is not None and sent >= request.gone_after:
            return {"type": "http.disconnect"}
        if sent < len(pieces):
            sent += 1
            return {"type": "http.request", "body": pieces[sent - 1], "more_body": sent < len(pieces)}
        await done.wait()
        return {"type": "http.disconnect"}

    async def take(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.lower(): value for name, value in message["headers"]}
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body", False):
                done.set()

    try:
        await app(scope, receive, take)
    except Exception as error:  # noqa: BLE001 - any is a failure, and told
        return f"{type(error).__name__}: {error}"
    return answer


def _kept(request: Request, failure: str, folder: Path | None) -> str:
    told = json.dumps({"failure": failure, **request.told()}, indent=1)
    if folder is not None:
        folder.mkdir(exist_ok=True)
        (folder / f"requests-{hashlib.sha256(told.encode()).hexdigest()[:12]}.json").write_text(told)
    return f"{failure}\n{told[:4000]}"


def _resident() -> int:
    """Bytes of resident memory, of this process alone."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextmanager
def no_names() -> Iterator[None]:
    """No name can be looked up, so that nothing is sent to anybody."""
    before = laurel.http._ask_system

    async def nobody(host: str, port: int, executor: object) -> list[str]:
        return []

    laurel.http._ask_system = nobody
    try:
        yield
    finally:
        laurel.http._ask_system = before


def main(runs: int, seed: int, seconds: float) -> None:
    """The long run. Exits with 1 if anything failed."""
    from tests.conftest import private_postgres

    async def fuzz(dsn: str) -> Outcome:
        async with opened(dsn, database_pool=AT_ONCE) as estate:
            return await run(estate, runs, seed=seed, seconds=seconds, report_every=20_000, keep=Path(".fuzz"))

    with no_names(), private_postgres() as server:
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        outcome = asyncio.run(fuzz(server.get_uri()))
    print(
        f"{outcome.total} requests: {dict(sorted(outcome.statuses.items()))}, {outcome.hung_up} hung up on, "
        f"{outcome.again} sent again"
    )
    print(
        f"{outcome.failed} failed; {outcome.rss >> 20} MiB resident, {outcome.growth >> 20} MiB since the first tenth"
    )
    for failure in outcome.failures:
        print(failure)
    sys.exit(outcome.failed > 0 or outcome.growth > MAX_GROWTH)
