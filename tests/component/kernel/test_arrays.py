"""What PostgreSQL is handed as an array: told by its very type, which is quicker than asyncpg's own question."""

from __future__ import annotations

from collections import deque
from typing import Any

import asyncpg
import pytest

from laurel import database


@pytest.fixture
async def connection(postgres_dsn: str) -> Any:
    opened = await asyncpg.connect(postgres_dsn)
    yield opened
    await opened.close()


@pytest.mark.parametrize("given", [["a", "b"], ("a", "b"), {"a", "b"}, frozenset("ab"), {"a": 1, "b": 2}.keys()])
async def test_what_we_hand_in_is_an_array(connection: Any, given: Any) -> None:
    assert sorted(await connection.fetchval("SELECT $1::text[]", given)) == ["a", "b"]
    assert await connection.fetchval("SELECT $1::bytea[]", [b"a", None]) == [b"a", None]
    assert await connection.fetchval("SELECT $1::int[]", [[1, 2], [3, 4]]) == [[1, 2], [3, 4]]


@pytest.mark.parametrize("given", ["ab", b"ab", {"a": 1}, 1])
async def test_what_is_no_array_is_refused(connection: Any, given: Any) -> None:
    with pytest.raises(asyncpg.DataError, match="expected"):
        await connection.fetchval("SELECT $1::text[]", given)


async def test_asyncpg_asks_no_abstract_class(connection: Any) -> None:
    """Should it ask in another way one day, this passes a deque: look then at what a value of an array costs."""
    assert database.protocol.IterableABC is database.protocol.SizedABC
    with pytest.raises(asyncpg.DataError, match="expected"):
        await connection.fetchval("SELECT $1::text[]", deque(["a"]))
