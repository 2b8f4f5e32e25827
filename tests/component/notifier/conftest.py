"""A migrated database for each test, and a notifier on it."""

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
from tests.component.notifier.kit import Mailbox, Notifier, Sink, opened


@pytest.fixture(scope="module")
def template(postgres_dsn: str) -> str:
    """A migrated database that tests copy: cheaper than migrating for each."""
    name = f"notifier_{uuid.uuid4().hex[:8]}"

    async def make() -> None:
        admin = await asyncpg.connect(postgres_dsn)
        await admin.execute(f"CREATE DATABASE {name}")
        await admin.close()
        dsn = _with_database(postgres_dsn, name)
        await migrate(dsn, "notifier")
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
async def notifier(admin_dsn: str) -> AsyncIterator[Notifier]:
    async with opened(admin_dsn) as made:
        yield made


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink().open() as made:
        yield made


def _with_database(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with Mailbox().open() as made:
        yield made


@pytest.fixture
async def mailing(admin_dsn: str, mailbox: Mailbox) -> AsyncIterator[Notifier]:
    async with opened(admin_dsn, smtp_url=mailbox.url, mail_from="Beispiel-Universität <badges@uni.example>") as made:
        yield made
