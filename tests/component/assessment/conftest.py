"""The assessment service on a real PostgreSQL, called through ASGI, with two organisations that must never meet."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from laurel import bus as buses
from laurel.access import store_api_key
from laurel.bus import Bus
from laurel.envelope import EVENT_TYPES
from laurel.events import ApiKeyCreated, Event, IssuerProfilePublished
from laurel.ids import uuid7
from laurel.migrate import migrate
from laurel.process import ensure_topics
from laurel.security import SCOPES, new_api_key
from laurel.service import Service
from laurel_assessment import store
from laurel_assessment.config import Settings
from laurel_assessment.import_worker import ImportWorker
from laurel_assessment.intake import Keys
from laurel_assessment.service import open_service

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
BASE = "https://badges.example"
TABLES = (
    "achievements, achievement_versions, achievement_images, policies, results, imports, import_chunks, "
    "idempotency_keys, erasures, issuer_profiles, outbox, dead_letters, dead_letter_actions, api_keys"
)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Caller:
    """An organisation's key, as an HTTP client uses it."""

    http: httpx.AsyncClient
    tenant_id: str
    headers: dict[str, str]

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.http.get(path, params=query, headers=self.headers)

    async def post(self, path: str, value: Any = None, **headers: str) -> httpx.Response:
        given = {**self.headers, "content-type": "application/json"}
        given.update({name.replace("_", "-"): text for name, text in headers.items()})
        content = value if isinstance(value, bytes) else json.dumps(value)
        return await self.http.post(path, content=content, headers=given)

    async def put(self, path: str, value: Any) -> httpx.Response:
        return await self.http.put(path, json=value, headers=self.headers)

    async def achievement(self, **fields: Any) -> str:
        response = await self.post("/assessment/v1/achievements", achievement(**fields))
        assert response.status_code == 201, response.text
        return str(response.json()["achievement_id"])

    async def upload(
        self, body: bytes | AsyncIterator[bytes], *, kind: str = "application/x-ndjson", key: str = "", **query: str
    ) -> httpx.Response:
        headers = {**self.headers, "content-type": kind}
        if key:
            headers["idempotency-key"] = key
        return await self.http.post("/assessment/v1/results/imports", content=body, params=query, headers=headers)

    async def imported(self, import_id: str) -> dict[str, Any]:
        response = await self.get(f"/assessment/v1/results/imports/{import_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


@dataclass
class World:
    """The running parts of the service and its surroundings."""

    service: Service
    bus: Bus
    settings: Settings
    keys: Keys
    clock: Clock
    admin_dsn: str
    http: httpx.AsyncClient
    worker: ImportWorker
    callers: list[Caller] = field(default_factory=list)

    async def caller(self, tenant_id: str | None = None, *, scopes: tuple[str, ...] = SCOPES) -> Caller:
        tenant = tenant_id or uuid7()
        key = new_api_key()
        created = ApiKeyCreated(
            tenant_id=tenant,
            key_id=key.key_id,
            secret_hash=key.secret_hash,
            scopes=scopes,
            label="test",
            created_at=NOW,
        )
        async with self.service.worker_database.transaction() as tx:
            await store_api_key(tx, created)
        return Caller(self.http, tenant, {"authorization": f"Bearer {key.text}"})

    async def profile(self, tenant_id: str, did: str = "did:web:badges.example") -> str:
        """A profile of this organisation, as its event leaves it here."""
        profile_id = uuid7()
        async with self.service.worker_database.transaction() as tx:
            await store.keep_profile(tx, profile_published(tenant_id, profile_id, did=did))
        return profile_id

    async def settle(self) -> int:
        """Work off every chunk that is owed; how many there were."""
        steps = 0
        while await self.worker.step():
            steps += 1
        return steps

    async def events(self, kind: type[Event]) -> list[Any]:
        """The events of a kind that wait in the outbox, in order."""
        async with self.service.worker_database.transaction() as tx:
            rows = await tx.fetch("SELECT type, data FROM outbox WHERE type = $1 ORDER BY id", kind.type)
        return [msgspec.json.decode(row["data"], type=EVENT_TYPES[row["type"]]) for row in rows]

    async def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """What really stands in the tables."""
        async with self.service.worker_database.transaction() as tx:
            found: list[asyncpg.Record] = await tx.fetch(query, *values)
        return found


@pytest.fixture(scope="session")
def assessment_dsn(postgres_dsn: str) -> str:
    asyncio.run(migrate(postgres_dsn, "assessment"))
    return postgres_dsn


@pytest.fixture
async def world(assessment_dsn: str) -> AsyncIterator[World]:
    admin = await asyncpg.connect(assessment_dsn)
    await admin.execute("SET search_path TO assessment")
    await admin.execute(f"TRUNCATE {TABLES}")
    await admin.close()
    async with opened(assessment_dsn) as world:
        yield world


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[World]:
    """The service on a database that has its tables."""
    separator = "&" if "?" in dsn else "?"
    bus_url = f"{dsn}{separator}bus_schema=bus_{uuid7().replace('-', '')[:20]}"
    settings = Settings(
        bus_url=bus_url, database_url=dsn, public_url=BASE + "/", import_idle_s=5.0,
        id_key=base64.b64encode(b"i" * 32).decode(), contact_key=base64.b64encode(b"c" * 32).decode(),
    )  # type: ignore[arg-type]  # fmt: skip
    keys = Keys(b"i" * 32, b"c" * 32, BASE)
    clock = Clock()
    bus = buses.connect(bus_url)
    await ensure_topics(bus)
    async with (
        open_service(settings, bus, clock=clock) as service,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=service.api), base_url="http://assessment") as http,
    ):
        worker = ImportWorker(service.worker_database, keys=keys, poll_s=0.02, clock=clock)
        yield World(service, bus, settings, keys, clock, dsn, http, worker)
    await bus.close()


@pytest.fixture
async def ours(world: World) -> Caller:
    return await world.caller()


@pytest.fixture
async def theirs(world: World) -> Caller:
    return await world.caller()


def achievement(**fields: Any) -> dict[str, Any]:
    """An achievement as an author would write it."""
    return {
        "name": "Data literacy",
        "description": "Reads, questions and explains data.",
        "criteria": {"narrative": "Pass the final exam."},
        "policy": {"minimum_score": 60},
        **fields,
    }


def profile_published(
    tenant_id: str, profile_id: str, version: int = 1, did: str = "did:web:badges.example"
) -> IssuerProfilePublished:
    """What the issuer says of a profile."""
    return IssuerProfilePublished(
        tenant_id=tenant_id, profile_id=profile_id, slug="school", version=version, did=did,
        profile={"id": f"{BASE}/issuers/school"}, did_document={}, published_at=NOW,
    )  # fmt: skip


def ndjson(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def learner(number: int, **fields: Any) -> dict[str, Any]:
    return {"learner": f"L-{number:06d}", "email": f"learner{number}@example.org", "score": 80, **fields}


Maker = Callable[..., dict[str, Any]]
