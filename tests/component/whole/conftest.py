"""All four services in one process behind the gateway, on a real PostgreSQL: `laurel up` without its port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from laurel.migrate import SERVICES, migrate_all
from laurel.process import ROLES, run_parts
from laurel.service import Service
from tests.security import estate
from tests.security.conftest import new_database
from tests.security.estate import OPERATOR


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
    dsn = await new_database(postgres_dsn)
    await migrate_all(dsn)
    yield dsn
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f"DROP DATABASE {urlsplit(dsn).path[1:]} WITH (FORCE)")
    finally:
        await admin.close()


@asynccontextmanager
async def opened(dsn: str, **changes: Any) -> AsyncIterator[Whole]:
    """An estate in which everything runs. changes: settings by field name, for all services."""
    stop = asyncio.Event()
    async with estate.opened(dsn, **{"allow_networks": "127.0.0.0/8", **changes}) as made, asyncio.TaskGroup() as parts:
        for name, service in made.services.items():
            parts.create_task(run_parts(service, made.bus, made.settings[name], roles=ROLES[1:], stop=stop))
        try:
            yield Whole(made.services, made.http, dsn)
        finally:
            stop.set()


@pytest.fixture
async def whole(whole_dsn: str) -> AsyncIterator[Whole]:
    async with opened(whole_dsn) as made:
        yield made
