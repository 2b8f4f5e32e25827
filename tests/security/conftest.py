"""One estate for all tests of this folder: whoever changes what an organisation owns makes an organisation for it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from tests.fuzz.requests import no_names
from tests.security.estate import Estate, Tenant, opened, settle_tenants


async def new_database(postgres_dsn: str) -> str:
    """The DSN of an empty database on the run's server."""
    name = f"estate_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
    finally:
        await admin.close()
    return urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))


@pytest.fixture(autouse=True)
def no_name_is_looked_up() -> Iterator[None]:
    """While a test of this folder runs, and no longer: the estate lives until all tests of the process have ended."""
    with no_names():
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def estate(postgres_dsn: str) -> AsyncIterator[Estate]:
    async with AsyncExitStack() as stack:
        with no_names():
            made = await stack.enter_async_context(opened(await new_database(postgres_dsn)))
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tenants(estate: Estate) -> list[Tenant]:
    """Two that own one of everything."""
    with no_names():
        return await settle_tenants(estate, "alpha", "beta")
