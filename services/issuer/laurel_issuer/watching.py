"""A loop that works when PostgreSQL tells it to (NOTIFY), and now and then without having been told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from laurel.database import Database, is_unavailable
from laurel.errors import NotNow
from laurel.waiting import Backoff, first_of

log = structlog.get_logger()


async def watch(
    database: Database, channel: str, work: Callable[[], Awaitable[int]], stop: asyncio.Event, *, look_s: float
) -> None:
    """Call `work` until `stop`: again at once while it finds something, else when told or after `look_s` seconds.

    channel: NOTIFY <schema>_<channel>. What is "not now" is waited for with a back-off; any other error ends the loop.
    """
    backoff = Backoff()
    told = asyncio.Event()
    while not stop.is_set():
        try:
            async with database.session() as connection:
                await connection.add_listener(f"{database.schema}_{channel}", lambda *_: told.set())
                while not stop.is_set() and not connection.is_closed():
                    told.clear()  # before the work: who tells us during it is heard
                    found = await work()
                    backoff.worked()
                    if not found:
                        await first_of(told, stop, seconds=look_s)
        except Exception as error:
            if not (isinstance(error, NotNow) or is_unavailable(error)):
                raise
            log.warning(
                "worker waits", channel=channel, reason=f"{type(error).__name__}: {error}", seconds=backoff.seconds
            )
            await backoff.wait(stop)
