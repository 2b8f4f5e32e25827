"""The service as a process of its own, behind a real socket: clients that hang up, kill -9 in the middle of a file."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from laurel import bus as buses
from laurel import envelope
from laurel.bus import Record, TopicPartition
from laurel.events import ApiKeyCreated
from laurel.ids import uuid7
from laurel.process import ensure_topics
from laurel.security import SCOPES, new_api_key
from laurel.topics import ASSESSMENT, ISSUANCE_GROUP, route
from laurel.watchdog import Watch
from tests.component.assessment.conftest import NOW, TABLES, World, achievement, learner, ndjson
from tests.conftest import free_ports

IMPORTS = "/assessment/v1/results/imports"


@pytest.fixture
async def environment(assessment_dsn: str) -> dict[str, str]:
    admin = await asyncpg.connect(assessment_dsn)
    await admin.execute("SET search_path TO assessment")
    await admin.execute(f"TRUNCATE {TABLES}")
    await admin.close()
    (port,) = free_ports(1)
    separator = "&" if "?" in assessment_dsn else "?"
    return {
        **os.environ,
        "LAUREL_BUS_URL": f"{assessment_dsn}{separator}bus_schema=bus_{uuid7().replace('-', '')[:20]}",
        "LAUREL_DATABASE_URL": assessment_dsn,
        "LAUREL_ID_KEY": base64.b64encode(b"i" * 32).decode(),
        "LAUREL_CONTACT_KEY": base64.b64encode(b"c" * 32).decode(),
        "LAUREL_PORT": str(port),
    }


@asynccontextmanager
async def running(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "laurel_assessment", env=environment)
    try:
        async with httpx.AsyncClient() as http, asyncio.timeout(60):
            while True:
                assert process.returncode is None
                try:
                    ready = await http.get(f"http://127.0.0.1:{environment['LAUREL_PORT']}/readyz")
                    if ready.status_code == 200:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)


async def announce_key(environment: dict[str, str]) -> dict[str, str]:
    """A key as the issuer would announce it, by its event alone."""
    key = new_api_key()
    created = ApiKeyCreated(
        tenant_id=uuid7(), key_id=key.key_id, secret_hash=key.secret_hash, scopes=SCOPES, label="test", created_at=NOW
    )
    topic, name = route(created)
    headers = envelope.headers(
        event_id=uuid7(), event_type=created.type, source="/laurel/issuer", time=NOW, traceparent=None
    )
    bus = buses.connect(environment["LAUREL_BUS_URL"])
    await ensure_topics(bus)
    async with bus.producer(client_id="test") as producer:
        await producer.send([Record(topic, name, envelope.encode_data(created), headers)])
    await bus.close()
    return {"authorization": f"Bearer {key.text}"}


@asynccontextmanager
async def working_off(environment: dict[str, str]) -> AsyncIterator[None]:
    """What the issuer does, as far as imports keep pace with it: it reads on."""

    async def read() -> None:
        bus = buses.connect(environment["LAUREL_BUS_URL"])
        async with bus.consumer(group=ISSUANCE_GROUP, topics=[ASSESSMENT.name], member_id="issuer") as consumer:
            while True:
                messages = await consumer.poll(2000, 0.5)
                await consumer.commit({TopicPartition(one.topic, one.partition): one.offset + 1 for one in messages})

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def status_of(http: httpx.AsyncClient, import_id: str, wanted: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            found: dict[str, Any] = (await http.get(f"{IMPORTS}/{import_id}")).json()
            if found["status"] == wanted:
                return found
            await asyncio.sleep(0.05)


async def test_hanging_up_and_being_killed_lose_and_double_nothing(environment: dict[str, str]) -> None:
    headers = await announce_key(environment)
    port = int(environment["LAUREL_PORT"])
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60)
    rows = [learner(n % 11_000, score=50 + n % 40) for n in range(12_000)]

    async with client as http:
        async with running(environment) as process:
            async with asyncio.timeout(30):
                while (made := await http.post("/assessment/v1/achievements", json=achievement())).status_code == 401:
                    await asyncio.sleep(0.1)
            name = made.json()["achievement_id"]

            # A client that hangs up in the middle of its body.
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            body = ndjson(*rows[:3000])
            writer.write(
                f"POST {IMPORTS}?achievement={name} HTTP/1.1\r\nhost: x\r\n"
                f"authorization: {headers['authorization']}\r\n"
                f"content-type: application/x-ndjson\r\ncontent-length: {2 * len(body)}\r\n\r\n".encode()
                + body
            )
            await writer.drain()
            async with asyncio.timeout(30):
                while not (broken := (await http.get(IMPORTS)).json()["items"]) or broken[0]["rows"] < 2000:
                    await asyncio.sleep(0.02)
            assert broken[0]["status"] == "receiving"
            writer.transport.abort()
            failed = await status_of(http, broken[0]["import_id"], "failed")
            assert (failed["accepted"], failed["processed"]) == (0, 0)

            # A whole file, and kill -9 while it is worked on.
            taken = await http.post(
                IMPORTS,
                params={"achievement": name},
                content=ndjson(*rows),
                headers={"content-type": "application/x-ndjson"},
            )
            assert taken.status_code == 202
            import_id = taken.json()["import_id"]
            while (await http.get(f"{IMPORTS}/{import_id}")).json()["processed"] == 0:
                await asyncio.sleep(0.01)
            process.kill()
            await process.wait()

        async with running(environment), working_off(environment):
            done = await status_of(http, import_id, "done")
            counts = (await http.get("/assessment/v1/reports/reconcile")).json()["counts"]
            async with asyncio.timeout(60):
                while (await http.get("/assessment/v1/reports/reconcile")).json()["counts"]["unsent_events"]:
                    await asyncio.sleep(0.1)

    assert done["accepted"] == done["processed"] == 12_000
    assert sum(done[one] for one in ("passed", "not_passed", "duplicate", "rejected")) == 12_000
    assert {one: counts[one] for one in ("accepted", "passed", "duplicate")} == {
        one: done[one] for one in ("accepted", "passed", "duplicate")
    }
    bus = buses.connect(environment["LAUREL_BUS_URL"])
    keys: list[bytes] = []
    async with bus.consumer(group="test", topics=["laurel.assessment"], member_id="one") as consumer:
        async with asyncio.timeout(60):
            while len(set(keys)) < done["passed"]:
                keys += [message.key for message in await consumer.poll(2000, 0.5)]
        keys += [message.key for message in await consumer.poll(2000, 0.5)]
    await bus.close()
    # The relay may send what it sent just before it died once more; no credential is owed that did not pass.
    assert len(set(keys)) == done["passed"]


async def test_an_import_worker_with_nothing_to_do_is_not_taken_for_one_that_stands_still(world: World) -> None:
    watch, stop = Watch(stuck_after_s=5.0, tick_s=0.1), asyncio.Event()

    async def works() -> None:
        with watch.part("imports"):
            await world.worker.run(stop)

    working = asyncio.create_task(works())
    watching = asyncio.create_task(watch.run(stop))
    await asyncio.wait({watching}, timeout=8.0)  # raises before where nothing beats
    stop.set()
    await asyncio.gather(working, watching)
