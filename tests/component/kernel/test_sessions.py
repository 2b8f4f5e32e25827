"""What is told to end ends, whatever the server does meanwhile: it takes neither a goodbye nor a ROLLBACK."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import asyncpg
import pytest

from laurel.database import Database, Transaction, transaction_on


class Stopper:
    """Stops the server's process behind a connection, and says so before it is asked anything more."""

    def __init__(self) -> None:
        self.backends: list[int] = []
        self.asked = asyncio.Event()

    async def ask(self, connection: Transaction | asyncpg.Connection[asyncpg.Record], *, patience: float) -> None:
        self.backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
        os.kill(self.backends[-1], signal.SIGSTOP)
        asyncio.get_running_loop().call_soon(self.asked.set)
        await connection.fetchval("SELECT 1", timeout=patience)


@pytest.fixture
def stopper() -> Stopper:
    return Stopper()


async def cancelled(stopper: Stopper, asking: asyncio.Task[None], *, after: float) -> None:
    """It is told to end so long after the question, ends soon, and asks nobody a second time."""
    try:
        await stopper.asked.wait()
        await asyncio.sleep(after)
        asking.cancel()
        await asyncio.wait([asking], timeout=30)
        assert asking.cancelled(), asking
        assert len(stopper.backends) == 1
    finally:
        asking.cancel()
        for backend in stopper.backends:
            os.kill(backend, signal.SIGCONT)


async def test_a_session_that_is_cancelled_while_it_closes_does_not_forget_it(
    postgres_dsn: str, stopper: Stopper
) -> None:
    """A loop that asks again after each failure, as the probes and the relays do."""

    async def ask_for_ever() -> None:
        while True:
            try:
                async with database.session() as connection:
                    await stopper.ask(connection, patience=0.1)
            except (TimeoutError, OSError):
                continue

    async with Database(postgres_dsn, schema="public", size=1) as database:
        # Behind the deadline of the question, and within the time that a goodbye may take.
        await cancelled(stopper, asyncio.create_task(ask_for_ever()), after=1.0)


@pytest.mark.parametrize("nested", [False, True], ids=["transaction", "savepoint"])
async def test_a_transaction_that_is_cancelled_waits_for_no_rollback(
    postgres_dsn: str, stopper: Stopper, nested: bool
) -> None:
    async def ask() -> None:
        async with database.transaction() as tx:
            if nested:
                async with transaction_on(tx):
                    await stopper.ask(tx, patience=600)
            await stopper.ask(tx, patience=600)

    async with Database(postgres_dsn, schema="public", size=1) as database:
        await cancelled(stopper, asyncio.create_task(ask()), after=0.1)
        assert [tuple(row) for row in await database.fetch("SELECT 1")] == [(1,)], "the pool has room for another one"


async def test_a_connection_that_is_cut_between_two_messages_of_a_statement_is_out_of_time(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg prepares a statement and then binds it, and looks in between at nothing."""
    prepare = asyncpg.Connection._get_statement  # type: ignore[attr-defined]

    async def prepared_and_cut(*arguments: Any, **named: Any) -> Any:
        statement = await prepare(*arguments, **named)
        database.hang_up()
        return statement

    monkeypatch.setattr(asyncpg.Connection, "_get_statement", prepared_and_cut)
    async with Database(postgres_dsn, schema="public", size=1) as database:
        with pytest.raises(TimeoutError, match="did not answer"):
            await database.fetch("SELECT $1::int", 1)
        with pytest.raises(TimeoutError, match="did not answer"):
            async with database.transaction(["t1"]):
                pass
        monkeypatch.undo()
        assert [tuple(row) for row in await database.fetch("SELECT $1::int", 1)] == [(1,)]


@pytest.mark.parametrize("gives_up", [asyncio.CancelledError(), RuntimeError("the handler is closed"), OSError("away")])
async def test_a_pool_that_cannot_be_closed_hides_no_failure(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, gives_up: BaseException
) -> None:
    """asyncpg says by a CancelledError of its own that it gave up, and uvloop by a RuntimeError."""

    async def close(_: object) -> None:
        raise gives_up

    monkeypatch.setattr(asyncpg.Pool, "close", close)
    with pytest.raises(KeyError, match="what happened"):
        async with Database(postgres_dsn, schema="public", size=1) as database:
            await database.fetch("SELECT 1")
            raise KeyError("what happened")
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
