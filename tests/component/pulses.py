"""Every loop of a service gives a sign of life while it has nothing to do: a quiet hour ends no process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from laurel import process
from laurel.bus import Bus
from laurel.process import ROLES, run_parts
from laurel.service import Service
from laurel.settings import Settings
from laurel.watchdog import Pulse, Watch

_LONG = 1e6


async def every_loop_lives(service: Service, bus: Bus, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the watched loops, once each was seen to beat or to wait on purpose after it had been marked."""
    made: list[Watch] = []

    def watch(**_: Any) -> Watch:
        made.append(Watch(stuck_after_s=1e9))
        return made[0]

    monkeypatch.setattr(process, "Watch", watch)
    stop = asyncio.Event()
    running = asyncio.create_task(run_parts(service, bus, settings, roles=ROLES, stop=stop, member="pulses"))
    expected = 3 + len(service.consumers) + len(service.workers)  # database, numbers, relay
    try:
        async with asyncio.timeout(120):
            while not made or len(made[0]._pulses) < expected:
                assert not running.done()
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)  # loops inside of loops begin, too
            pulses: list[Pulse] = list(made[0]._pulses)
            for pulse in pulses:
                pulse.silent_s = _LONG
            while silent := [one.name for one in pulses if one.silent_s >= _LONG and not one.leaves]:
                assert not running.done(), silent
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"no sign of life from {silent}")
    finally:
        stop.set()
        await running
    return {pulse.name for pulse in pulses}
