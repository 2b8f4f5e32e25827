"""Intake under more than it can take: refused at the door, told when to come again, and nothing half done."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import httpx
import pytest

from laurel.http_server import serve_http
from laurel_assessment import pressure
from laurel_assessment.service import open_service
from tests.component.assessment.conftest import Caller, World, learner, ndjson
from tests.conftest import free_ports


async def waits_in_the_outbox(world: World, ours: Caller, seconds: float) -> None:
    """An event that nobody has sent for so long. Publishing an achievement leaves it; no relay runs here."""
    world.clock.now -= timedelta(seconds=seconds)
    await ours.achievement()
    world.clock.now += timedelta(seconds=seconds)


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "LOOK_EVERY_S", 0.0)


async def single(caller: Caller, name: str, number: int) -> httpx.Response:
    return await caller.post("/assessment/v1/results", {"achievement": name, **learner(number)})


async def test_bulk_is_refused_first_and_single_results_later(world: World, ours: Caller, theirs: Caller) -> None:
    name = await ours.achievement()
    assert (await ours.upload(ndjson(learner(1)), achievement=name)).status_code == 202
    await world.settle()

    await waits_in_the_outbox(world, theirs, 31.0)  # another organisation's: the queue is everybody's
    # The oldest goes first: what our own achievement left stands before it.
    await world.fetch("DELETE FROM outbox WHERE id <> (SELECT max(id) FROM outbox) RETURNING id")
    refused = await ours.upload(ndjson(learner(2)), achievement=name)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= pressure.MOST_RETRY_S
    problem = refused.json()
    assert problem["type"] == "urn:laurel:problem:overloaded"
    assert (problem["errors"][0]["field"], problem["errors"][0]["code"]) == ("outbox", "overload_bulk_s")
    assert (await single(ours, name, 3)).status_code == 201, "a single pass is still taken"

    world.clock.forward(seconds=90.0)  # and now the oldest has waited for more than two minutes
    refused = await single(ours, name, 4)
    assert refused.status_code == 429
    assert refused.json()["errors"][0]["code"] == "overload_single_s"
    counted = await world.fetch("SELECT count(*) AS results, (SELECT count(*) FROM imports) AS imports FROM results")
    assert tuple(counted[0]) == (2, 1), "what was refused left nothing behind"

    await world.fetch("DELETE FROM outbox RETURNING id")  # the bus is back
    assert (await ours.upload(ndjson(learner(2)), achievement=name)).status_code == 202
    assert (await single(ours, name, 4)).status_code == 201


async def test_a_spool_that_is_full_refuses_uploads_until_it_is_worked_off(world: World, ours: Caller) -> None:
    name = await ours.achievement()
    settings = world.settings.model_copy(update={"overload_spooled_rows": 100})
    async with (
        open_service(settings, world.bus, clock=world.clock) as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=service.api), base_url="http://assessment") as http,
    ):
        caller = Caller(http, ours.tenant_id, ours.headers)
        rows = ndjson(*(learner(number) for number in range(101)))
        assert (await caller.upload(rows, achievement=name)).status_code == 202
        refused = await caller.upload(rows, achievement=name)
        assert refused.status_code == 429
        assert refused.json()["errors"][0]["code"] == "overload_spooled_rows"
        assert (await single(caller, name, 500)).status_code == 201, "single results do not go through the spool"
        await world.settle()
        assert (await caller.upload(rows, achievement=name)).status_code == 202


async def test_several_processes_see_the_same_queue(world: World, ours: Caller) -> None:
    name = await ours.achievement()
    await world.fetch("UPDATE outbox SET occurred_at = occurred_at - interval '1 hour' RETURNING id")
    for _ in range(2):
        async with (
            open_service(world.settings, world.bus, clock=world.clock) as service,
            httpx.AsyncClient(transport=httpx.ASGITransport(app=service.api), base_url="http://assessment") as http,
        ):
            caller = Caller(http, ours.tenant_id, ours.headers)
            assert (await caller.upload(ndjson(learner(1)), achievement=name)).status_code == 429


async def test_the_queues_are_looked_at_once_however_many_ask(
    world: World, ours: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await ours.achievement()
    monkeypatch.setattr(pressure, "LOOK_EVERY_S", 3600.0)
    looks = 0
    real = pressure.import_store.backlog

    async def counted(*given: object, **more: object) -> object:
        nonlocal looks
        looks += 1
        return await real(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pressure.import_store, "backlog", counted)
    answers = await asyncio.gather(*(single(ours, name, number) for number in range(40)))
    assert {one.status_code for one in answers} == {201}
    assert looks == 1


async def test_more_requests_than_may_wait_are_refused_and_every_other_one_is_decided(
    world: World, ours: Caller
) -> None:
    name = await ours.achievement()
    settings = world.settings.model_copy(update={"overload_waiting": 5, "database_pool": 2})
    async with (
        open_service(settings, world.bus, clock=world.clock) as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=service.api), base_url="http://assessment") as http,
    ):
        caller = Caller(http, ours.tenant_id, ours.headers)
        answers = await asyncio.gather(*(single(caller, name, number) for number in range(200)))
    counts = {status: sum(one.status_code == status for one in answers) for status in (201, 429)}
    assert sum(counts.values()) == 200, {one.status_code for one in answers}
    assert counts[201] >= 1
    assert counts[429] >= 1
    assert all("retry-after" in one.headers for one in answers if one.status_code == 429)
    (row,) = await world.fetch("SELECT count(*) FROM results")
    assert row["count"] == counts[201]


async def test_a_large_upload_that_is_refused_can_read_why(world: World, ours: Caller) -> None:
    """Over a real socket: a server that hung up on the unread body would reset the answer away."""
    name = await ours.achievement()
    await world.fetch("UPDATE outbox SET occurred_at = occurred_at - interval '1 hour' RETURNING id")
    (port,), stop, listening = free_ports(1), asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_http(world.service.api, host="127.0.0.1", port=port, stop=stop, listening=listening))
        await listening.wait()
        body = ndjson(*(learner(number) for number in range(100_000)))
        assert len(body) > 5 << 20
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            for _ in range(3):
                refused = await Caller(http, ours.tenant_id, ours.headers).upload(body, achievement=name)
                assert refused.status_code == 429
                assert json.loads(refused.text)["type"] == "urn:laurel:problem:overloaded"
        stop.set()
