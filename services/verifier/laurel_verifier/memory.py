"""What is remembered for a while, and how much of it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """The last `most` values, each for its own number of seconds."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, if it is there and its time is not over."""
        found = self._kept.get(key)
        if found is None or found[0] <= self._clock():
            self._kept.pop(key, None)
            return None
        self._kept.move_to_end(key)
        return found[1]

    def forget(self, key: K) -> None:
        """Drop the value, if there is one."""
        self._kept.pop(key, None)

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep `value`; the one that was used least recently makes room."""
        self._kept[key] = (self._clock() + seconds, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
