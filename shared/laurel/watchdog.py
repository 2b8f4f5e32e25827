"""What notices that a process no longer works, and ends it so that its supervisor starts it again.

Three guards, because no part can notice that it stands still itself:
- `Watch`, a task: every loop of a process has a `Pulse`, which beats whenever the loop turns (`laurel.waiting`),
  commits a transaction or finishes a piece of work. One that is silent for too long belongs to an await without end.
- `guard_loop`, a thread: the event loop itself is held by code that does not give it back. It writes every stack down
  and ends the process.
- `end_within`, a timer: a process that has decided to end may hang in ending. It is ended all the same.

Silence is counted in ticks of whoever watches, not by the clock: a process that was stopped as a whole (SIGSTOP, a
laptop that sleeps) was not silent, and is not ended when it wakes up.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import structlog

from laurel import telemetry
from laurel.errors import Silent

log = structlog.get_logger()

EXIT_BLOCKED = 70  # sysexits.h EX_SOFTWARE: the loop was held by code of ours
EXIT_STUCK = 75  # sysexits.h EX_TEMPFAIL: start it again
TICK_S = 1.0
_LONGEST_TICK = 2.0  # of silence that one tick may count for, in ticks


class Pulse:
    """One loop's sign of life. silent_s: seconds without one; leaves: how much longer it may be, each of them."""

    __slots__ = ("leaves", "name", "silent_s")

    def __init__(self, name: str) -> None:
        self.name = name
        self.silent_s = 0.0
        self.leaves: list[float] = []

    def beat(self) -> None:
        """It lives."""
        self.silent_s = 0.0


class Watch:
    """The pulses of one process (or of one service in it)."""

    def __init__(self, *, stuck_after_s: float, tick_s: float = TICK_S) -> None:
        self.stuck_after_s = stuck_after_s
        self._tick_s = tick_s
        self._pulses: set[Pulse] = set()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[Pulse]:
        """Watch the loop that runs in this block."""
        pulse = Pulse(name)
        self._pulses.add(pulse)
        token = _here.set((self, pulse))
        try:
            yield pulse
        finally:
            self._pulses.discard(pulse)
            _here.reset(token)

    async def run(self, stop: asyncio.Event) -> None:
        """Look until `stop`. Raises Silent, naming the loop."""
        before = time.monotonic()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s):
                    await stop.wait()
            now = time.monotonic()
            passed, before = min(now - before, _LONGEST_TICK * self._tick_s), now
            for pulse in self._pulses:
                pulse.silent_s += passed
                if pulse.silent_s > self.stuck_after_s + max(pulse.leaves, default=0.0) and not stop.is_set():
                    raise Silent(pulse.name, self.stuck_after_s)


_here: ContextVar[tuple[Watch, Pulse] | None] = ContextVar("laurel_watchdog", default=None)


def beat() -> None:
    """The loop that this runs in lives. Outside of a watched loop it does nothing."""
    here = _here.get()
    if here is not None:
        here[1].beat()


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """What happens in this block may take so much longer than things do: it waits on purpose, or for something slow."""
    here = _here.get()
    if here is None:
        yield
        return
    pulse = here[1]
    pulse.leaves.append(seconds)
    pulse.beat()
    try:
        yield
    finally:
        pulse.leaves.remove(seconds)
        pulse.beat()


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """A loop inside a watched one gets a pulse of its own; otherwise one would answer for the other."""
    here = _here.get()
    if here is None:
        yield
        return
    with here[0].part(f"{here[1].name}: {name}"):
        yield


# --- the loop itself ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def guard_loop(*, blocked_after_s: float, tick_s: float = TICK_S) -> Iterator[None]:
    """Watch the running event loop from a thread while the block runs; end the process when the loop stands still.

    blocked_after_s: seconds after which it counts as blocked. A third of that later faulthandler's own thread ends the
    process (exit code 1), which needs no interpreter: code that holds the GIL silences our thread, too.
    """
    guard = _LoopGuard(asyncio.get_running_loop(), blocked_after_s, tick_s)
    guard.start()
    try:
        yield
    finally:
        guard.stop()


class _LoopGuard:
    def __init__(self, loop: asyncio.AbstractEventLoop, blocked_after_s: float, tick_s: float) -> None:
        self._loop = loop
        self._blocked_after_s = blocked_after_s
        self._tick_s = tick_s
        self._silent_s = 0.0
        self._due = loop.time()
        self._handle: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="laurel-loop-guard", daemon=True)

    def start(self) -> None:
        self._turn()
        self._arm()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._handle is not None:
            self._handle.cancel()
        self._thread.join(5.0)
        with contextlib.suppress(ValueError, OSError):
            faulthandler.cancel_dump_traceback_later()

    def _turn(self) -> None:
        now = self._loop.time()
        telemetry.gauge("laurel_loop_lag_seconds", max(0.0, now - self._due))
        self._silent_s = 0.0
        self._due = now + self._tick_s
        self._handle = self._loop.call_at(self._due, self._turn)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(self._tick_s):
            now = time.monotonic()
            self._silent_s += min(now - before, _LONGEST_TICK * self._tick_s)
            before = now
            if self._silent_s > self._blocked_after_s:
                log.error("event loop blocked", part="event loop", seconds=round(self._silent_s, 1), exit=EXIT_BLOCKED)
                _end(EXIT_BLOCKED)
            self._arm()

    def _arm(self) -> None:
        # Anew at each tick: our thread runs, so nobody holds the interpreter.
        with contextlib.suppress(ValueError, OSError, RuntimeError):  # standard error is closed or no file
            faulthandler.dump_traceback_later(self._blocked_after_s * 4 / 3, exit=True)


# --- ending -------------------------------------------------------------------------------------------------


def end_within(seconds: float, *, code: int = EXIT_STUCK) -> None:
    """The process ends now or in so many seconds, whatever hangs in ending."""

    def end() -> None:
        log.error("the process hung in ending", seconds=seconds, exit=code, waiting=_where_they_wait(loop))
        _end(code)

    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _where_they_wait(loop: asyncio.AbstractEventLoop | None) -> list[str]:
    """Each task that has not ended: its name, and the line at which it waits."""
    if loop is None:
        return []
    with contextlib.suppress(Exception):  # they go on meanwhile: what cannot be told must not keep us from ending
        return [f"{task.get_name()}: {_stack(task)}" for task in asyncio.all_tasks(loop)]
    return []


def _stack(task: asyncio.Task[object]) -> str:
    frames = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is None:
            break
        frames.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}")
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return " < ".join(reversed(frames[-4:]))


def _end(code: int) -> None:
    with contextlib.suppress(Exception):
        faulthandler.dump_traceback(all_threads=True)
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(code)
