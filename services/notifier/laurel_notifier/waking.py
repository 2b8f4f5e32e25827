"""Workers of this service wait for a notification from PostgreSQL, and look by themselves now and then."""

from __future__ import annotations

import asyncio
import contextlib

from laurel import watchdog
from laurel.database import UNAVAILABLE, Database
from laurel.waiting import sleep

_AGAIN_S = 5.0


async def wake_on(database: Database, channel: str, wake: asyncio.Event, stop: asyncio.Event) -> None:
    """Set `wake` whenever somebody notifies `channel`, until `stop`. Losing the connection only costs promptness: every
    waiter looks by itself now and then."""
    with watchdog.part("listening"):
        while not stop.is_set():
            with contextlib.suppress(*UNAVAILABLE):
                async with database.session() as connection:
                    await connection.add_listener(channel, lambda *_: wake.set())
                    wake.set()  # what was notified before we listened
                    while not stop.is_set() and not connection.is_closed():
                        await sleep(stop, _AGAIN_S)
            await sleep(stop, _AGAIN_S)
