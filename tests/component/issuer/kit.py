"""A whole issuer: real PostgreSQL, the postgres:// bus, HTTP through ASGI, a clock that stands still."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import msgspec

from laurel import bus as buses
from laurel import envelope, ids
from laurel.bus import Bus, Message
from laurel.events import AchievementPublished, AssessmentPassed, Event, Recipient, ResultValue
from laurel.service import Engine, Service
from laurel.topics import EVENT_TYPES, route
from laurel_issuer.config import Settings
from laurel_issuer.service import open_service

BASE_URL = "https://badges.example.org"
OPERATOR = "operator-token-for-tests"
START = datetime(2026, 3, 1, 9, 30, 15, 250_000, tzinfo=UTC)
ID_KEY = bytes(range(32))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Tenant:
    """An organisation with its key."""

    tenant_id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@dataclass
class Issuer:
    """The service and what a test does with it."""

    service: Service
    bus: Bus
    http: httpx.AsyncClient
    clock: Clock
    settings: Settings
    admin_dsn: str
    offsets: dict[str, int] = field(default_factory=dict)

    async def sql(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the database's administrator, whom no policy binds."""
        connection = await asyncpg.connect(self.admin_dsn, server_settings={"search_path": "issuer"})
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def outbox(self, event_type: type[Event]) -> list[Event]:
        rows = await self.sql("SELECT data FROM outbox WHERE type = $1 ORDER BY id", event_type.type)
        return [msgspec.json.decode(row["data"], type=EVENT_TYPES[event_type.type]) for row in rows]

    def messages(self, events: Sequence[Event], *, partition: int = 0) -> list[Message]:
        """The events as a consumer would get them, at offsets of their own."""
        made = []
        for event in events:
            topic, key = route(event)
            offset = self.offsets[topic] = self.offsets.get(topic, -1) + 1
            headers = envelope.headers(
                event_id=str(uuid.uuid4()), event_type=event.type, source="/laurel/test", time=START, traceparent=None
            )
            made.append(Message(topic, partition, offset, key, envelope.encode_data(event), headers, 0))
        return made

    def engine(self, group: str) -> Engine[Any]:
        consumer = next(one for one in self.service.consumers if one.group == group)
        return Engine(consumer, bus=self.bus, database=self.service.worker_database, member_id="test")

    async def process(self, events: Sequence[Event] | Sequence[Message], group: str = "issuer.issuance") -> None:
        """Through the real engine, as one batch."""
        messages = [one for one in events if isinstance(one, Message)]
        messages = messages or self.messages([one for one in events if isinstance(one, Event)])
        assert await self.engine(group).process(messages, asyncio.Event())

    @property
    def issuance(self) -> Any:
        return next(one for one in self.service.consumers if one.group == "issuer.issuance").handler

    async def work(self, name: str) -> None:
        """Run a worker until it has nothing to do."""
        worker = next(one for one in self.service.workers if one.name == name)
        owner: Any = worker.run.__self__  # type: ignore[attr-defined]
        if name == "parked":
            while await owner.issue_ready(asyncio.Event()):
                pass
        else:
            while await owner.publish_dirty():
                pass

    async def tenant(self, slug: str = "uni") -> Tenant:
        answer = await self.http.post(
            "/issuer/v1/organisations",
            json={"slug": slug, "name": f"University {slug}"},
            headers={"Authorization": f"Bearer {OPERATOR}"},
        )
        assert answer.status_code == 201, answer.text
        return Tenant(answer.json()["tenant_id"], answer.json()["api_key"]["text"])

    async def profile(self, tenant: Tenant, slug: str = "physics", *, key: bool = True) -> dict[str, Any]:
        body = {"slug": slug, "name": "Department of Physics", "url": "https://physics.example.org/"}
        answer = await self.http.post("/issuer/v1/profiles", json=body, headers=tenant.headers)
        assert answer.status_code == 201, answer.text
        profile: dict[str, Any] = answer.json()
        if key:
            await self.rotate(tenant, profile)
        return profile

    async def rotate(self, tenant: Tenant, profile: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(f"/issuer/v1/profiles/{profile['profile_id']}/keys", headers=tenant.headers)
        assert answer.status_code == 201, answer.text
        key: dict[str, Any] = answer.json()
        return key

    async def achievement(self, tenant: Tenant, profile_id: str | None = None, **changes: Any) -> AchievementPublished:
        event = achievement_of(tenant, profile_id, **changes)
        await self.process([event], "issuer.achievements")
        return event

    async def post(self, tenant: Tenant, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = await self.http.post(path, json=body, headers=tenant.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, tenant: Tenant | None, path: str, *, status: int = 200) -> Any:
        answer = await self.http.get(path, headers=tenant.headers if tenant else {})
        assert answer.status_code == status, answer.text
        return answer.json()


def achievement_of(tenant: Tenant, profile_id: str | None = None, **changes: Any) -> AchievementPublished:
    achievement_id = changes.pop("achievement_id", None) or ids.uuid7()
    definition = {
        "id": f"{BASE_URL}/achievements/{achievement_id}",
        "type": ["Achievement"],
        "achievementType": "Course",
        "name": "Thermodynamics",
        "description": "Heat, work and entropy.",
        "criteria": {"narrative": "Pass the examination with at least 60 points."},
        **changes.pop("definition", {}),
    }
    return AchievementPublished(
        tenant_id=tenant.tenant_id,
        achievement_id=achievement_id,
        version=changes.pop("version", 1),
        profile_id=profile_id,
        achievement=definition,
        published_at=START,
        **changes,
    )


def passed_of(achievement: AchievementPublished, learner: int, **changes: Any) -> AssessmentPassed:
    """The event of one learner's pass; the credential id is the derived one."""
    credential_id = ids.credential_id(
        ID_KEY,
        tenant_id=achievement.tenant_id,
        achievement_id=achievement.achievement_id,
        learner=f"learner-{learner}",
        award=1,
    )
    fields: dict[str, Any] = {
        "tenant_id": achievement.tenant_id,
        "credential_id": credential_id,
        "result_id": ids.uuid7(),
        "achievement_id": achievement.achievement_id,
        "achievement_version": achievement.version,
        "award": 1,
        "course_run": "2026-spring",
        "recipient": Recipient(identity_hash="sha256$" + f"{learner:064x}", salt=f"salt-{learner}"),
        "results": (ResultValue(value="85"),),
        "evidence": ("https://lms.example.org/submissions/1",),
        "achieved_at": START - timedelta(days=1),
        "decided_at": START - timedelta(hours=1),
    }
    return AssessmentPassed(**{**fields, **changes})


def secret(fill: int) -> str:
    return base64.b64encode(bytes([fill]) * 32).decode()


@asynccontextmanager
async def opened(admin_dsn: str, clock: Clock, **changes: Any) -> AsyncIterator[Issuer]:
    settings = Settings.model_validate(
        {
            "bus_url": admin_dsn,
            "database_url": admin_dsn,
            "public_url": BASE_URL,
            "id_key": base64.b64encode(ID_KEY).decode(),
            "contact_key": secret(2),
            "kek": secret(3),
            "operator_token": OPERATOR,
            "signers": 0,
            **changes,
        }
    )
    async with AsyncExitStack() as stack:
        bus = buses.connect(admin_dsn)
        stack.push_async_callback(bus.close)
        service = await stack.enter_async_context(open_service(settings, bus, clock=clock))
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app=service.api), base_url=BASE_URL)
        )
        yield Issuer(service, bus, http, clock, settings, admin_dsn)
