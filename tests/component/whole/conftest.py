"""All four services in one process behind the gateway, on a real PostgreSQL: `laurel up` without its port."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from laurel import bus as buses
from laurel.migrate import SERVICES, migrate_all
from laurel.process import ROLES, ensure_topics, run_parts
from laurel.service import Service
from laurel_local.gateway import Gateway
from laurel_local.serve import open_service, settings_class

BASE_URL = "https://badges.example.org"
OPERATOR = "operator-token-for-tests"


@dataclass
class Tenant:
    """An organisation with its first key, which has every scope."""

    tenant_id: str
    key_id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@dataclass
class Whole:
    """The services, and what a test does with them."""

    services: dict[str, Service]
    http: httpx.AsyncClient
    admin_dsn: str

    async def sql(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the database's administrator, whom no policy binds."""
        connection = await asyncpg.connect(self.admin_dsn)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def call(self, tenant: Tenant, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = await self.http.request(method, path, headers=tenant.headers, **options)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def tenant(self, slug: str) -> Tenant:
        answer = await self.http.post(
            "/issuer/v1/organisations", json={"slug": slug, "name": slug},
            headers={"Authorization": f"Bearer {OPERATOR}"},
        )  # fmt: skip
        assert answer.status_code == 201, answer.text
        made = answer.json()
        await self.known(made["api_key"]["key_id"])
        return Tenant(made["tenant_id"], made["api_key"]["key_id"], made["api_key"]["text"])

    async def known(self, key_id: str) -> None:
        """Wait until every service has heard of an API key."""
        for service in SERVICES:
            await until(lambda service=service: self.sql(f"SELECT 1 FROM {service}.api_keys WHERE key_id = $1", key_id))

    async def key_with(self, tenant: Tenant, scopes: list[str]) -> str:
        made = await self.call(tenant, "POST", "/issuer/v1/api-keys", 201, json={"label": "x", "scopes": scopes})
        await self.known(made["key_id"])
        return str(made["text"])

    async def token(self, key: str, **form: str) -> str:
        data = {"grant_type": "client_credentials", **form}
        answer = await self.http.post("/oauth/token", data=data, auth=(key[7:19], key))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


async def until(ready: Callable[[], Any]) -> None:
    """Wait for what comes with an event."""
    async with asyncio.timeout(120):
        while not await ready():
            await asyncio.sleep(0.05)


@pytest.fixture
async def whole_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    name = f"whole_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
        await migrate_all(dsn)
        yield dsn
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@asynccontextmanager
async def opened(dsn: str, **changes: Any) -> AsyncIterator[Whole]:
    """changes: settings by field name, for all services."""
    keys = [base64.b64encode(bytes([fill]) * 32).decode() for fill in (1, 2, 3)]
    values = {
        "bus_url": dsn, "database_url": dsn, "public_url": BASE_URL, "operator_token": OPERATOR, "signers": 0,
        "id_key": keys[0], "contact_key": keys[1], "kek": keys[2], "allow_networks": "127.0.0.0/8", "database_pool": 3,
        "sandbox_processes": 1, **changes,
    }  # fmt: skip
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        bus = buses.connect(dsn)
        stack.push_async_callback(bus.close)
        await ensure_topics(bus)
        services = {}
        async with asyncio.TaskGroup() as parts:
            for name in SERVICES:
                settings = settings_class(name)(**values)
                services[name] = await stack.enter_async_context(open_service(name, settings, bus))
                parts.create_task(run_parts(services[name], bus, settings, roles=ROLES[1:], stop=stop))
            gateway = Gateway({name: service.api for name, service in services.items()})
            http = httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url=BASE_URL)
            async with http:
                try:
                    yield Whole(services, http, dsn)
                finally:
                    stop.set()


@pytest.fixture
async def whole(whole_dsn: str) -> AsyncIterator[Whole]:
    async with opened(whole_dsn) as made:
        yield made
