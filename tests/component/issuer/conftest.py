"""A migrated database for each test, and an issuer on it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from laurel import bus as buses
from laurel.migrate import migrate
from laurel.process import ensure_topics
from tests.component.issuer.kit import Clock, Issuer, opened


@pytest.fixture(scope="module")
def template(postgres_dsn: str) -> str:
    """A migrated database that tests copy: cheaper than migrating for each."""
    name = f"issuer_{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        admin = await asyncpg.connect(postgres_dsn)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        dsn = _with_database(postgres_dsn, name)
        await migrate(dsn, "issuer")
        bus = buses.connect(dsn)
        await ensure_topics(bus)
        await bus.close()

    asyncio.run(make())
    return name


@pytest.fixture
async def admin_dsn(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    name = f"t_{uuid.uuid4().hex[:10]}"
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield _with_database(postgres_dsn, name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def issuer(admin_dsn: str, clock: Clock) -> AsyncIterator[Issuer]:
    async with opened(admin_dsn, clock) as made:
        yield made


def _with_database(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))
