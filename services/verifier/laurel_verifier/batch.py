"""Many credentials, one a line: cut out of a stream as it comes, judged side by side, answered in their order.

A batch's way (the same numbers stand at the code):
 1. `Lines` cuts whole lines out of the pieces. A line that is too long costs itself: it is passed over, not kept.
 2. A line enters the window; while the window is full nothing more is read, so that whoever sends faster than we judge
    waits, and memory is bounded.
 3. The judge answers, for some lines side by side. Whatever becomes of a line becomes its answer, and nobody else's.
 4. What a stranger may have made long waits for a place: a batch has some of its own, and all batches share as many
    again, so that a large one delays neither the others nor those who ask about one credential.
 5. Answers leave in the order of the lines; what is answered leaves the window.

Whatever ends `Batch.run` before its time (a reader that has gone, above all) ends the work on every line.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from laurel.errors import LaurelError

WINDOW = 6 << 20  # bytes of lines that are read and not answered yet
_ANSWER = 4096  # bytes that a line is counted for beside its own: its answer
_TOGETHER = 64 << 10  # bytes of answers that leave in one piece
_SIDE_BY_SIDE = 32  # lines of a batch that are judged: those who look the same thing up share a question
_PLACES = 2  # lines at once, for each process that judges: one is worked on, and the next is at hand
_SHARE = 2  # batches that may judge with all their places at the same time


class Line(NamedTuple):
    """number: from 1, blank lines counted. too_long: raw was passed over and is empty."""

    number: int
    raw: bytes
    too_long: bool = False


class Lines:
    """Cuts lines of at most `longest` bytes out of pieces of any size; blank ones are counted and left out."""

    def __init__(self, longest: int) -> None:
        self.begun = 0  # lines so far
        self._longest = longest
        self._rest = bytearray()
        self._too_long = False

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that end within `piece`."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            yield from self._ended(piece[start:end])
            start = end + 1
        self._keep(piece[start:])

    def finish(self) -> Iterator[Line]:
        """The last line, if it has no line end."""
        if self._rest or self._too_long:
            yield from self._ended(b"")

    def _keep(self, part: bytes) -> None:
        if self._too_long or len(self._rest) + len(part) > self._longest:
            self._too_long = True
            self._rest.clear()
        else:
            self._rest += part

    def _ended(self, part: bytes) -> Iterator[Line]:
        self._keep(part)
        self.begun += 1
        raw, too_long = bytes(self._rest), self._too_long
        self._rest.clear()
        self._too_long = False
        raw = (raw.removeprefix(codecs.BOM_UTF8) if self.begun == 1 else raw).strip(b" \t\r")
        if raw or too_long:
            yield Line(self.begun, raw, too_long)


class Ended(LaurelError):
    """The rest of a body is not judged. code: stable; detail: why, and what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Judge(Protocol):
    """What a batch asks. Answers are lines without their line end; making them raises nothing."""

    async def answer(self, line: Line, place: Place) -> bytes:
        """What became of a line. place: where everything is done that may take long."""
        ...

    def last(self, number: int, ended: Ended) -> bytes:
        """The last answer of a batch that ends before its body does. number: of the first line that is not judged."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one body. longest: bytes of one line."""

    longest: int
    lines: int
    size: int

    def too_large(self) -> Ended:
        """The body has more bytes than `size`."""
        return Ended("too_large", f"a batch has {self.size:,} bytes at most; send the rest as another")

    def too_many(self) -> Ended:
        """The body has more lines than `lines`."""
        return Ended("too_many_lines", f"a batch has {self.lines:,} lines at most; send the rest as another")


class Places:
    """Where what takes long is done. processes: those that do it; all of them have something to do at any time."""

    def __init__(self, processes: int) -> None:
        self._each = _PLACES * processes
        self._shared = asyncio.Semaphore(_SHARE * self._each)

    def of_one(self) -> Place:
        """For one batch."""
        return Place(asyncio.Semaphore(self._each), self._shared)


@dataclass(frozen=True, slots=True)
class Place:
    """An async context manager: one of its own batch's places, and one of all batches'."""

    own: asyncio.Semaphore
    shared: asyncio.Semaphore

    async def __aenter__(self) -> None:
        await self.own.acquire()
        try:
            await self.shared.acquire()
        except BaseException:
            self.own.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.shared.release()
        self.own.release()


class Batch:
    """One body on its way."""

    def __init__(self, judge: Judge, places: Places, limits: Limits, *, window: int = WINDOW) -> None:
        self._judge = judge
        self._place = places.of_one()
        self._side_by_side = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._limits = limits
        self._window = window
        self._held = 0  # bytes in the window
        self._waiting: deque[tuple[int, asyncio.Future[bytes]]] = deque()
        self._done = False  # reading
        self._changed = asyncio.Event()  # something came to wait
        self._room = asyncio.Event()  # something left the window

    async def run(self, pieces: AsyncIterator[bytes], send: Callable[[bytes], Awaitable[None]]) -> None:
        """Answer every line of `pieces`, which may raise Ended. What it or `send` raises otherwise ends everything."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(group, pieces))
            await self._write(send)

    # --- reading ----------------------------------------------------------------------------------------------

    async def _read(self, group: asyncio.TaskGroup, pieces: AsyncIterator[bytes]) -> None:
        lines = Lines(self._limits.longest)
        try:
            await self._read_all(group, pieces, lines)
        except Ended as ended:
            last: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            last.set_result(self._judge.last(lines.begun + 1, ended))
            self._waiting.append((0, last))
        self._done = True
        self._changed.set()

    async def _read_all(self, group: asyncio.TaskGroup, pieces: AsyncIterator[bytes], lines: Lines) -> None:
        size = taken = 0
        async for piece in pieces:
            size += len(piece)
            if size > self._limits.size:
                raise self._limits.too_large()
            for line in lines.feed(piece):  # 1
                taken = await self._take(group, lines, line, taken)
            if lines.begun - taken > self._limits.lines:  # as many blank ones may stand between them: they are cut, too
                raise self._limits.too_many()
            await asyncio.sleep(0)  # pieces may come as fast as they are cut: others have their turn
        for line in lines.finish():
            taken = await self._take(group, lines, line, taken)

    async def _take(self, group: asyncio.TaskGroup, lines: Lines, line: Line, taken: int) -> int:
        if taken >= self._limits.lines:
            lines.begun -= 1  # this one is not judged
            raise self._limits.too_many()
        weight = len(line.raw) + _ANSWER
        while self._held and self._held + weight > self._window:  # 2
            self._room.clear()
            await self._room.wait()
        self._held += weight
        self._waiting.append((weight, group.create_task(self._judged(line))))
        self._changed.set()
        return taken + 1

    async def _judged(self, line: Line) -> bytes:
        async with self._side_by_side:
            return await self._judge.answer(line, self._place)  # 3 4

    # --- writing ----------------------------------------------------------------------------------------------

    async def _write(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        while True:
            while not self._waiting:
                if self._done:
                    return
                self._changed.clear()
                await self._changed.wait()
            out = bytearray()
            while self._waiting and (not out or (self._waiting[0][1].done() and len(out) < _TOGETHER)):  # 5
                weight, answer = self._waiting[0]
                out += await answer + b"\n"
                self._waiting.popleft()
                self._held -= weight
            self._room.set()
            await send(bytes(out))
