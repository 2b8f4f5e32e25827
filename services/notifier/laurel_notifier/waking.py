"""How the workers of this service wait: for a notification from PostgreSQL, for a while, for the end."""

from __future__ import annotations

import asyncio
import contextlib

from laurel.database import UNAVAILABLE, Database

_AGAIN_S = 5.0


async def wake_on(database: Database, channel: str, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Set `wake` whenever somebody notifies `channel`, until `stop`. Losing the connection only costs promptness: every
    waiter looks by itself now and then."""
    while not stop.is_set():
        with contextlib.suppress(*UNAVAILABLE):
            async with database.session() as connection:
                await connection.add_listener(channel, lambda *_: wake.set())
                wake.set()  # what was notified before we listened
                while not stop.is_set() and not connection.is_closed():
                    await sleep(stop, _AGAIN_S)
        await sleep(stop, _AGAIN_S)


async def sleep(until: asyncio.Event, seconds: float) -> None:
    """Return when the event is set or the time is up."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)


async def first(*events: asyncio.Event, timeout: float) -> None:
    """Return when one of the events is set or the time is up."""
    waits = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
