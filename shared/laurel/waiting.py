"""How loops wait: until told, until stopped, or until the time is up. They never only sleep."""

from __future__ import annotations

import asyncio
import contextlib


async def sleep(until: asyncio.Event, seconds: float) -> None:
    """Return when the event is set or the time is up."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(until.wait(), seconds)


async def first_of(*events: asyncio.Event, seconds: float) -> None:
    """Return when one of the events is set or the time is up."""
    waits = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
