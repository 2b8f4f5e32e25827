"""The event loop that every process runs on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on uvloop where there is one: a socket costs about half there."""
    _open_as_many_files_as_we_may()
    try:
        import uvloop
    except ImportError:  # Windows, PyPy
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _open_as_many_files_as_we_may() -> None:
    """A connection is an open file, and a shell often lets a process have 1024 of the many that it may take itself.

    That low limit protects select(2) alone, which nothing here uses.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS lets nobody have as many as its limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def do_not_preempt(pid: int = 0) -> None:
    """Let a process (0: this thread, and what it starts) not interrupt others each time that it wakes up.

    SCHED_BATCH of sched(7): its share of the processor is the same, only it waits for its turn. For work in batches;
    what answers requests alone is to be awake at once (ADR 0017). A policy that somebody chose stays.
    """
    with contextlib.suppress(AttributeError, OSError):  # not Linux; a sandbox that does not allow it
        if os.sched_getscheduler(pid) == os.SCHED_OTHER:
            os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


def collect_rarely() -> None:
    """Let the cyclic collector leave what is there now alone, and look seldom: for a process that has started.

    A batch makes some ten thousand objects, none of them in a cycle; by default each of them makes the collector walk
    through all modules again and again, a twentieth of a service's processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
