"""The whole verifier on a real database and the embedded bus, its HTTP through ASGI, its clock in the test's hand."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from laurel import bus as buses
from laurel import envelope
from laurel.bus import Bus, Record
from laurel.events import ApiKeyCreated, Event
from laurel.ids import uuid7
from laurel.migrate import migrate
from laurel.process import ensure_topics, run_parts
from laurel.security import new_api_key
from laurel.service import Service
from laurel.topics import route
from laurel_verifier.config import Settings
from laurel_verifier.service import open_service
from tests.component.verifier.issuing import BASE_URL, NOW, TENANT, TestIssuer, issued

SECRET = base64.b64encode(b"0" * 32).decode()


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


def says_where(found: dict[str, Any]) -> None:
    """Each refusal names the step, the property ("" for the whole document) and the clause."""
    for check in found["checks"]:
        if check["outcome"] in ("failed", "not_checked"):
            assert check["clause"], check
            assert check.get("pointer") is not None, check


@dataclass
class Verifier:
    """What a test of the verifier needs. `feed` publishes events and returns when the verifier has handled them."""

    service: Service
    client: httpx.AsyncClient
    bus: Bus
    settings: Settings
    clock: Clock

    async def publish(self, *events: Event) -> None:
        records = []
        for event in events:
            topic, key = route(event)
            headers = envelope.headers(
                event_id=uuid7(), event_type=event.type, source="/test", time=NOW, traceparent=None
            )
            records.append(Record(topic, key, envelope.encode_data(event), headers))
        async with self.bus.producer(client_id="test") as producer:
            for record in records:  # one by one: their order is what some tests are about
                await producer.send([record])

    async def feed(self, *events: Event) -> None:
        await self.publish(*events)
        stop = asyncio.Event()
        running = asyncio.create_task(
            run_parts(self.service, self.bus, self.settings, roles=("worker",), stop=stop, member="m")
        )
        try:
            while await self.lag():
                if running.done():
                    break
                await asyncio.sleep(0.02)
        finally:
            stop.set()
            await running

    async def lag(self) -> int:
        total = 0
        for consumer in self.service.consumers:
            found = await self.bus.lag(consumer.group, [topic.name for topic in consumer.topics])
            total += sum(found.values())
        return total

    async def verify(self, body: Any) -> dict[str, Any]:
        answer = await self.client.post("/verifier/v1/credentials/verify", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        says_where(found)
        return found

    async def rows(self, query: str) -> list[dict[str, Any]]:
        async with self.service.worker_database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(query)]

    async def dead_letters(self) -> list[str]:
        return [row["code"] for row in await self.rows("SELECT code FROM dead_letters ORDER BY id")]

    async def api_key(self, tenant_id: str = TENANT, scopes: tuple[str, ...] = ("reports:read",)) -> dict[str, str]:
        key = new_api_key()
        await self.feed(
            ApiKeyCreated(
                tenant_id=tenant_id, key_id=key.key_id, secret_hash=key.secret_hash, scopes=scopes, label="t",
                created_at=NOW,
            )
        )  # fmt: skip
        return {"Authorization": f"Bearer {key.text}"}


@pytest.fixture(scope="session")
def verifier_dsn(postgres_dsn: str) -> str:
    """A database of its own on the run's server, migrated."""
    name = f"verifier_{uuid.uuid4().hex[:8]}"

    async def create() -> str:
        admin = await asyncpg.connect(postgres_dsn)
        try:
            await admin.execute(f"CREATE DATABASE {name}")
        finally:
            await admin.close()
        dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
        await migrate(dsn, "verifier")
        return dsn

    return asyncio.run(create())


def make_settings(dsn: str, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "bus_url": dsn, "database_url": dsn, "public_url": BASE_URL, "id_key": SECRET, "contact_key": SECRET,
        "allow_networks": "127.0.0.0/8", "sandbox_processes": 1, "sandbox_seconds": 3.0, "database_pool": 4,
    }  # fmt: skip
    return Settings(**{**values, **changes})


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    """Settings that a test module wants otherwise."""
    return {}


@pytest.fixture
async def verifier(verifier_dsn: str, changed_settings: dict[str, Any]) -> AsyncIterator[Verifier]:
    admin = await asyncpg.connect(verifier_dsn)
    try:
        await admin.execute(
            "TRUNCATE verifier.credentials, verifier.erased_credentials, verifier.known_issuers, verifier.dead_letters"
        )
    finally:
        await admin.close()
    separator = "&" if "?" in verifier_dsn else "?"
    bus = buses.connect(f"{verifier_dsn}{separator}bus_schema=bus_{uuid.uuid4().hex[:8]}")
    clock = Clock()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.close)
        await ensure_topics(bus)
        settings = make_settings(verifier_dsn, **changed_settings)
        service = await stack.enter_async_context(open_service(settings, bus, clock=clock))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(service.api), base_url=BASE_URL)
        )
        yield Verifier(service, client, bus, settings, clock)


@pytest.fixture
def issuer() -> TestIssuer:
    return TestIssuer()


@pytest.fixture
async def one(verifier: Verifier, issuer: TestIssuer) -> dict[str, Any]:
    """A badge that was issued and indexed, of an issuer that is known."""
    document = issuer.badge()
    await verifier.feed(issuer.published(), issued(document))
    return document
