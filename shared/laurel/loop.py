"""The event loop that every process runs on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on uvloop where there is one: a socket costs about half there."""
    try:
        import uvloop
    except ImportError:  # Windows, PyPy
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def collect_rarely() -> None:
    """Let the cyclic collector leave what is there now alone, and look seldom: for a process that has started.

    A batch makes some ten thousand objects, none of them in a cycle; by default each of them makes the collector walk
    through all modules again and again, a twentieth of a service's processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
