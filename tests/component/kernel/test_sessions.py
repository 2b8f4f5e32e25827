"""A session that is told to end ends, whatever its server does meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from laurel.database import Database


async def test_a_session_that_is_cancelled_while_it_closes_does_not_forget_it(postgres_dsn: str) -> None:
    """A loop that asks again after each failure, as the probes and the relays do, over a server that stands still."""
    backends: list[int] = []
    failed = asyncio.Event()

    async def ask_for_ever(database: Database) -> None:
        while True:
            try:
                async with database.session() as connection:
                    backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
                    os.kill(backends[-1], signal.SIGSTOP)
                    try:
                        await connection.fetchval("SELECT 1", timeout=0.1)
                    finally:
                        failed.set()  # from here on the session says goodbye to somebody who does not listen
            except (TimeoutError, OSError):
                continue

    async with Database(postgres_dsn, schema="public", size=1) as database:
        asking = asyncio.create_task(ask_for_ever(database))
        try:
            async with asyncio.timeout(20):
                await failed.wait()
                await asyncio.sleep(0)  # now it closes
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            assert len(backends) == 1
        finally:
            asking.cancel()
            for backend in backends:
                os.kill(backend, signal.SIGCONT)
