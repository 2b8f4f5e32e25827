"""All four services in one process on a real database, with two organisations that own one of everything.

Also what the request fuzzer drives, so nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount

from laurel import bus as buses
from laurel.bus import Bus
from laurel.database import Database
from laurel.migrate import SERVICES, migrate_all
from laurel.process import ensure_topics
from laurel.service import Engine, Service
from laurel.settings import Settings
from laurel_local.gateway import Gateway
from laurel_local.up import open_service, settings_class

BASE_URL = "https://badges.example.org"
OPERATOR = "operator-token-for-tests"
PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PARTNER = "https://93.184.215.14/hook"  # a public address by its number: no name is looked up, and nothing is sent
_SETTLED_S = 60.0


@dataclass
class Tenant:
    """An organisation, its key with every scope, and the ids of what it owns, by the names that paths give them."""

    slug: str
    tenant_id: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    owns: dict[str, str] = field(default_factory=dict)
    marks: set[str] = field(default_factory=set)  # texts that nobody else may ever read

    def of(self, service: str) -> dict[str, str]:
        """What it owns, by the names in the paths of one service: each service has dead letters of its own."""
        own = {name: self.owns.get(f"{service}_{name}", "") for name in ("letter_id", "request_id")}
        return {**self.owns, **own}


@dataclass(frozen=True)
class Door:
    """One method of one route. documented: it stands in the OpenAPI document."""

    service: str
    method: str
    path: str
    documented: bool

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Estate:
    """The services as one application, and a client of it."""

    services: dict[str, Service]
    settings: dict[str, Settings]
    bus: Bus
    admin_dsn: str
    http: httpx.AsyncClient
    gateway: Gateway

    def doors(self) -> list[Door]:
        """Every method of every route of every service; mounts of static files count as GET."""
        found = []
        for name, service in self.services.items():
            app: Any = service.api
            documented = {
                (method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods
            }
            known: set[tuple[str, str]] = set()
            for method, path in _routes(app.routes):
                if (method, path) not in known:
                    known.add((method, path))
                    found.append(Door(name, method, path, (method, path) in documented))
            assert documented <= known, documented - known
        return found

    async def sql(self, schema: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the administrator, whom no policy binds."""
        connection = await asyncpg.connect(self.admin_dsn, server_settings={"search_path": schema})
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def settle(self, *kept_back: str) -> None:
        """Relays, consumers and workers run until nothing is owed; webhooks and e-mails are not sent."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for service in self.services.values():
                group.create_task(service.relay.run(stop))
                for consumer in service.consumers:
                    engine: Engine[Any] = Engine(
                        consumer, bus=self.bus, database=service.worker_database, member_id=f"m-{consumer.group}"
                    )
                    group.create_task(engine.run(stop))
                for worker in service.workers:
                    if service.name in ("assessment", "issuer"):
                        group.create_task(worker.run(stop))
            try:
                async with asyncio.timeout(_SETTLED_S):
                    while await self._owed():
                        await asyncio.sleep(0.05)
            finally:
                stop.set()

    async def _owed(self) -> int:
        owed = 0
        for service in self.services.values():
            async with service.worker_database.transaction() as tx:
                owed += await tx.fetchval("SELECT count(*) FROM outbox")
                if service.name == "assessment":
                    owed += await tx.fetchval(
                        "SELECT count(*) FROM imports WHERE status IN ('receiving', 'processing')"
                    )
            for consumer in service.consumers:
                found = await self.bus.lag(consumer.group, [topic.name for topic in consumer.topics])
                owed += sum(found.values())
        return owed


def _routes(routes: list[Any]) -> Iterator[tuple[str, str]]:
    """Every (method, path). `iter_route_contexts` is FastAPI's own way through included routers."""
    for route in iter_route_contexts(routes):
        if route.methods:
            for method in sorted(route.methods):
                assert route.path is not None
                yield method, route.path
        else:
            mount = route.original_route
            assert isinstance(mount, Mount), f"{mount!r} is a kind of route that this enumeration does not know"
            yield "GET", f"{mount.path}/{{file}}"


def _secret(fill: int) -> str:
    return base64.b64encode(bytes([fill]) * 32).decode()


@asynccontextmanager
async def opened(admin_dsn: str, **changes: Any) -> AsyncIterator[Estate]:
    """Migrates the database and opens everything; nothing runs but what `settle` runs."""
    await migrate_all(admin_dsn)
    values = {
        "bus_url": admin_dsn, "database_url": admin_dsn, "public_url": BASE_URL, "id_key": _secret(1),
        "contact_key": _secret(2), "kek": _secret(3), "operator_token": OPERATOR, "signers": 0, "database_pool": 4,
        "sandbox_processes": 1, "sandbox_seconds": 5.0, "status_valid_s": 0, **changes,
    }  # fmt: skip
    async with AsyncExitStack() as stack:
        bus = buses.connect(admin_dsn)
        stack.push_async_callback(bus.close)
        await ensure_topics(bus)
        settings = {name: settings_class(name)(**values) for name in SERVICES}
        services = {name: await stack.enter_async_context(open_service(name, settings[name], bus)) for name in SERVICES}
        gateway = Gateway({name: service.api for name, service in services.items()})
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=BASE_URL, timeout=None)
        )
        yield Estate(services, settings, bus, admin_dsn, http, gateway)


async def settle_tenants(estate: Estate, *slugs: str) -> list[Tenant]:
    """Organisations that own one of everything that a path can name, and their marks."""
    tenants = [await _organisation(estate, slug) for slug in slugs]
    await estate.settle()
    for tenant in tenants:
        await _before_issuing(estate, tenant)
    await estate.settle()
    for tenant in tenants:
        await _after_issuing(estate, tenant)
    return tenants


async def call(estate: Estate, tenant: Tenant, method: str, path: str, *expected: int, **given: Any) -> Any:
    """A JSON call that must be answered as expected (200 to 202 if nothing is said)."""
    headers = {**tenant.headers, **given.pop("headers", {})}
    answer = await estate.http.request(method, path, headers=headers, **given)
    assert answer.status_code in (expected or (200, 201, 202)), (method, path, answer.status_code, answer.text)
    return answer.json() if answer.content else None


async def _organisation(estate: Estate, slug: str) -> Tenant:
    made = Tenant(slug)
    operator = Tenant("", headers={"Authorization": f"Bearer {OPERATOR}"})
    found = await call(
        estate, operator, "POST", "/issuer/v1/organisations", json={"slug": slug, "name": f"Mark of {slug}"}
    )
    made.tenant_id = found["tenant_id"]
    made.headers = {"Authorization": f"Bearer {found['api_key']['text']}"}
    made.marks = {f"Mark of {slug}", made.tenant_id, f"mark-{slug}"}
    return made


async def _before_issuing(estate: Estate, tenant: Tenant) -> None:
    slug, owns = tenant.slug, tenant.owns
    profile = await call(
        estate, tenant, "POST", "/issuer/v1/profiles",
        json={"slug": f"mark-{slug}", "name": f"Mark of {slug}", "url": "https://school.example/"},
    )  # fmt: skip
    owns["profile_id"], owns["slug"] = profile["profile_id"], profile["slug"]
    keys = f"/issuer/v1/profiles/{owns['profile_id']}/keys"
    owns["signing_key_id"] = (await call(estate, tenant, "POST", keys))["key_id"]
    await estate.settle()
    made = await call(
        estate, tenant, "POST", "/assessment/v1/achievements",
        json={
            "name": f"Mark of {slug}", "description": f"mark-{slug}", "criteria": {"narrative": f"mark-{slug}"},
            "policy": {"minimum_score": 50}, "image": PNG, "profile_id": owns["profile_id"],
        },
    )  # fmt: skip
    owns["achievement_id"] = made["achievement_id"]
    endpoint = await call(
        estate, tenant, "POST", "/notifier/v1/endpoints",
        json={"url": f"{PARTNER}?mark-{slug}", "event_types": ["credential.issued"], "description": f"mark-{slug}"},
    )  # fmt: skip
    owns["endpoint_id"] = endpoint["endpoint_id"]
    await estate.settle()
    row = {
        "achievement": owns["achievement_id"],
        "learner": f"mark-{slug}-1",
        "email": "l@learner.example",
        "score": 80,
    }
    row |= {"course_run": f"mark-{slug}", "result_id": f"mark-{slug}-r"}
    result = await call(estate, tenant, "POST", "/assessment/v1/results", json=row)
    owns["result_id"], owns["credential_id"] = result["result_id"], result["credential_id"]
    lines = [{**row, "learner": f"mark-{slug}-2", "result_id": f"mark-{slug}-i"}, {"learner": f"mark-{slug}-bad"}]
    taken = await call(
        estate, tenant, "POST", "/assessment/v1/results/imports", params={"course_run": f"mark-{slug}"},
        content="".join(json.dumps(line) + "\n" for line in lines), headers={"content-type": "application/x-ndjson"},
    )  # fmt: skip
    owns["import_id"] = taken["import_id"]
    gone = {**row, "learner": f"mark-{slug}-gone", "result_id": f"mark-{slug}-g"}
    result = await call(estate, tenant, "POST", "/assessment/v1/results", json=gone)
    owns["erased_id"] = result["credential_id"]
    erased = await call(estate, tenant, "POST", "/assessment/v1/learners/erase", json={"learner": gone["learner"]})
    owns["erasure_id"] = erased["erasure_id"]


async def _after_issuing(estate: Estate, tenant: Tenant) -> None:
    slug, owns = tenant.slug, tenant.owns
    found = await call(estate, tenant, "GET", f"/issuer/v1/credentials/{owns['credential_id']}")
    owns["list_id"] = found["document"]["credentialStatus"]["statusListCredential"].rpartition("/")[2]
    endorsement = await call(
        estate, tenant, "POST", "/issuer/v1/endorsements",
        json={
            "profile_id": owns["profile_id"], "endorsement_comment": f"mark-{slug}",
            "subject": {"id": f"{BASE_URL}/issuers/mark-{slug}", "type": "Profile"},
        },
    )  # fmt: skip
    owns["endorsement_id"] = endorsement["credential_id"]
    key = await call(
        estate, tenant, "POST", "/issuer/v1/api-keys", json={"label": f"mark-{slug}", "scopes": ["reports:read"]}
    )
    owns["api_key_id"] = key["key_id"]
    await estate.settle()
    deliveries = await call(estate, tenant, "GET", "/notifier/v1/deliveries")
    owns["delivery_id"] = deliveries["items"][0]["delivery_id"]
    for name, service in estate.services.items():
        owns[f"{name}_letter_id"] = await _dead_letter(service.worker_database, tenant, name)
        other = await _dead_letter(service.worker_database, tenant, name)
        asked = await call(
            estate, tenant, "POST", f"/{name}/v1/dead-letters/redrive",
            json={"ids": [other], "note": f"mark-{slug}"},
        )  # fmt: skip
        owns[f"{name}_request_id"] = asked["request_id"]
    owns["parked_id"] = await _parked(estate.services["issuer"].worker_database, tenant)
    tenant.marks |= {value for name, value in owns.items() if name != "slug"}


async def _dead_letter(database: Database, tenant: Tenant, service: str) -> str:
    async with database.transaction() as tx:
        made = await tx.fetchval(
            "INSERT INTO dead_letters (tenant_id, consumer, topic, partition, \"offset\", key, value, headers, code, "
            "detail) VALUES ($1, $2, 'laurel.test', 0, (SELECT count(*) FROM dead_letters), $3, '', '\\x90', 'test', "
            "$4) RETURNING id",
            tenant.tenant_id, f"{service}.test", tenant.slug.encode(), f"mark-{tenant.slug}",
        )  # fmt: skip
    return str(made)


async def _parked(database: Database, tenant: Tenant) -> str:
    """A pass that waits for an achievement that never comes."""
    made = str(uuid.uuid4())
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO parked (credential_id, tenant_id, achievement_id, achievement_version, course_run, reason, "
            "topic, partition, \"offset\", key, value, headers, timestamp_ms, parked_at) VALUES ($1, $2, $3, 1, $4, "
            "'unknown_achievement', 'laurel.assessment', 0, 1000, '', '', '\\x90', 0, now())",
            uuid.UUID(made), tenant.tenant_id, str(uuid.uuid4()), f"mark-{tenant.slug}",
        )  # fmt: skip
    return made
