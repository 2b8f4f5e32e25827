"""Rows that are hardly ever there already: inserted plainly, and where one is there, as the statement says."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from laurel.database import insert_new

INSERT = "INSERT INTO kept (id, place) SELECT * FROM unnest($1::int[], $1::int[]) ON CONFLICT {}DO NOTHING RETURNING id"


class Listening:
    """A connection, and what it was asked."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        self.asked.append("stepping aside" if "ON CONFLICT" in statement else "plain")
        return await self._connection.fetch(statement, *arguments)


@pytest.fixture
async def schema(postgres_dsn: str) -> Any:
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute("DROP SCHEMA IF EXISTS insert_new CASCADE; CREATE SCHEMA insert_new")
    await admin.execute("CREATE TABLE insert_new.kept (id int PRIMARY KEY, place int UNIQUE)")
    yield {"dsn": postgres_dsn, "server_settings": {"search_path": "insert_new"}}
    await admin.execute("DROP SCHEMA insert_new CASCADE")
    await admin.close()


@pytest.fixture
async def connection(schema: Any) -> Any:
    opened = await asyncpg.connect(**schema)
    yield Listening(opened)
    await opened.close()


async def test_what_is_new_is_asked_for_once(connection: Any) -> None:
    async with connection.transaction():
        rows = await insert_new(connection, connection.fetch, INSERT.format("(id) "), [1, 2])
    assert [row["id"] for row in rows] == [1, 2]
    assert connection.asked == ["plain"]
    assert await connection.fetchval("SELECT count(*) FROM kept") == 2


@pytest.mark.parametrize("named", ["", "(id) ", "(place) "])
async def test_what_is_there_steps_aside_and_the_transaction_goes_on(connection: Any, named: str) -> None:
    await connection.execute("INSERT INTO kept VALUES (2, 2)")
    async with connection.transaction():
        await connection.execute("INSERT INTO kept VALUES (10, 10)")
        rows = await insert_new(connection, connection.fetch, INSERT.format(named), [1, 2, 3, 3])
    assert [row["id"] for row in rows] == [1, 3]
    assert connection.asked == ["plain", "stepping aside"]
    ids = await connection.fetchval("SELECT array_agg(id ORDER BY id) FROM kept")
    assert ids == [1, 2, 3, 10]


async def test_another_refusal_is_told(connection: Any) -> None:
    with pytest.raises(asyncpg.NotNullViolationError):
        async with connection.transaction():
            await insert_new(connection, connection.fetch, INSERT.format(""), [1, None])
    assert connection.asked == ["plain"]
    assert await connection.fetchval("SELECT count(*) FROM kept") == 0


async def test_who_inserts_the_same_at_once_waits_and_steps_aside(connection: Any, schema: Any) -> None:
    other = await asyncpg.connect(**schema)
    try:
        async with connection.transaction():
            await insert_new(connection, connection.fetch, INSERT.format(""), [1, 2])
            later = asyncio.create_task(_in_transaction(other, [2, 3]))
            async with asyncio.timeout(10):
                while not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    assert not later.done()
        assert await later == [3]
    finally:
        await other.close()


async def _in_transaction(connection: Any, ids: list[int]) -> list[int]:
    async with connection.transaction():
        return [row["id"] for row in await insert_new(connection, connection.fetch, INSERT.format(""), ids)]
