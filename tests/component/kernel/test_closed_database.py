"""A database that takes no connections is out of reach for now; the same SQLSTATE within a statement is a bug."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from laurel.bus import BusUnavailable
from laurel.bus.postgres_session import open_connection, translated
from laurel.database import Database, is_unavailable
from laurel.web import create_app


@pytest.fixture
async def closed(postgres_dsn: str) -> AsyncIterator[str]:
    name = f"closed_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} ALLOW_CONNECTIONS false")
        yield urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def test_connecting_says_not_now(closed: str) -> None:
    async with Database(closed, schema="public", size=1) as database:
        with pytest.raises(ConnectionError, match="not currently accepting") as pooled:
            await database.fetch("SELECT 1")
        with pytest.raises(ConnectionError):
            async with database.session():
                pass
        with pytest.raises(ConnectionError):
            await database.ping()
    assert is_unavailable(pooled.value)
    with pytest.raises(BusUnavailable), translated("testing"):
        await open_connection(closed, name="t", timeout=5.0, settings={})


async def test_an_api_answers_503_with_a_time_to_come_again(closed: str) -> None:
    async with Database(closed, schema="public", size=1) as database:
        app = create_app("test", title="t", description="t", database=database)

        @app.get("/rows")
        async def rows() -> int:
            return len(await database.fetch("SELECT 1"))

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t") as http:
            answer = await http.get("/rows")
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text


async def test_within_a_statement_it_stays_a_bug(postgres_dsn: str) -> None:
    async with Database(postgres_dsn, schema="public", size=1) as database:
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError) as raised:
            await database.fetch("DO $$ BEGIN RAISE SQLSTATE '55000'; END $$")
    assert not is_unavailable(raised.value)


async def test_a_pool_that_is_closed_says_not_now(postgres_dsn: str) -> None:
    async with Database(postgres_dsn, schema="public", size=1) as database:
        pass
    with pytest.raises(ConnectionError):
        await database.fetch("SELECT 1")
