"""How loops wait: until told, until stopped, or until the time is up. They never only sleep.

A loop that waits here lives: whoever waits gives the watchdog a sign.

Never by `asyncio.wait_for`: up to Python 3.11 it forgets that it was cancelled when what it waits for comes at the same
moment, and a loop that was to end goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

from laurel import watchdog


async def sleep(until: asyncio.Event, seconds: float) -> None:
    """Return when the event is set or the time is up."""
    with watchdog.patience(seconds), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()


async def first_of(*events: asyncio.Event, seconds: float) -> None:
    """Return when one of the events is set or the time is up."""
    waits = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        with watchdog.patience(seconds):
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class Backoff:
    """Pauses that double from 0.1 s to 5 s while something fails, and begin anew once it has worked."""

    def __init__(self) -> None:
        self.seconds = 0.1

    def worked(self) -> None:
        """It works again. Say so after the act itself, not after mere connecting: a peer may answer with errors."""
        watchdog.beat()
        self.seconds = 0.1

    async def wait(self, stop: asyncio.Event) -> None:
        """Pause, with jitter so that many do not come back at once; returns early when `stop` is set."""
        await sleep(stop, self.seconds * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
        self.seconds = min(self.seconds * 2, 5.0)
