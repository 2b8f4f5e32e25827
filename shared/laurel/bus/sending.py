"""What both producers share: sends that wait at the same moment travel together, in the order of their calls."""

from __future__ import annotations

import abc
import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from laurel.bus import MAX_RECORD_BYTES, BusError, BusUnavailable, Record


@dataclass(slots=True, eq=False)
class _Waiting:
    records: Sequence[Record]
    done: asyncio.Future[None]

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # marks it as retrieved: a cancelled caller does not ask


class SharingProducer(abc.ABC):
    """One write at a time; whatever was sent meanwhile forms the next one. A subclass says how to write."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @abc.abstractmethod
    async def aclose(self) -> None: ...

    @abc.abstractmethod
    async def _missing_topics(self, topics: set[str]) -> set[str]:
        """Those of the topics that do not exist. Raises BusUnavailable."""

    @abc.abstractmethod
    async def _write(self, records: list[Record]) -> None:
        """Return when all are durable. Raises BusUnavailable or BusError; nothing of it may arrive after that."""

    async def send(self, records: Sequence[Record]) -> None:
        if not records:
            return
        for record in records:
            _check_size(record)
        waiting = _Waiting(records, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with self._writing:
                if not waiting.done.done():
                    await self._write_waiting()
        except asyncio.CancelledError:
            if waiting in self._waiting:  # not begun: it must not be written behind the caller's back
                self._waiting.remove(waiting)
            raise
        await waiting.done

    async def _write_waiting(self) -> None:
        """Write everything that waits; each waiting send learns what became of it."""
        taken = list(self._waiting)
        self._waiting.clear()
        try:
            missing = await self._missing_topics({record.topic for w in taken for record in w.records})
            fine: list[Record] = []
            for waiting in taken:
                if unknown := missing.intersection(record.topic for record in waiting.records):
                    waiting.fail(BusError(f"unknown topic {', '.join(sorted(unknown))}: call ensure_topics first"))
                else:
                    fine.extend(waiting.records)
            if fine:
                await self._write(fine)
        except BaseException as error:
            # All fail alike: which of them were written is unknown, and each caller sends its own again.
            for waiting in taken:
                waiting.fail(error if isinstance(error, Exception) else _interrupted())
            raise
        else:
            for waiting in taken:
                if not waiting.done.done():
                    waiting.done.set_result(None)


def _interrupted() -> BusUnavailable:
    return BusUnavailable("the send that this one travelled with was cancelled: send again")


def _check_size(record: Record) -> None:
    """Refuse on both transports what one of them could not carry."""
    size = len(record.key) + len(record.value)
    for name, value in record.headers:  # a loop: this is done for every record, and a generator costs twice as much
        size += len(name) + len(value)
    if size > MAX_RECORD_BYTES:
        raise BusError(
            f"record for topic {record.topic} has {size} bytes, the limit is {MAX_RECORD_BYTES}: "
            "keep large content in a store and send its id"
        )
