"""The results that the demo sends: the example file, and as many made-up learners beyond it as are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

PART_ROWS = 20_000
_PIECE = 1 << 16
_HEADER = b"learner,email,name,score,part:project,attempt,completed_at,result_id\n"


@dataclass(frozen=True)
class Part:
    """One upload. key: its Idempotency-Key, the same for the same bytes. rows: how many results it holds, if known."""

    name: str
    key: str
    file: Path | None = None
    first: int = 0
    count: int = 0

    async def body(self) -> AsyncIterator[bytes]:
        """The bytes, piece by piece: an upload is never held whole."""
        if self.file is not None:
            with self.file.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
            return
        yield _HEADER
        for start in range(self.first, self.first + self.count, 1000):
            yield b"".join(learner(n) for n in range(start, min(start + 1000, self.first + self.count)))


def parts(file: Path, learners: int) -> Iterator[Part]:
    """The file, then made-up learners 0 to `learners` - 1 in uploads of 20,000.

    Learner n is the same in every run, so a larger number continues a smaller one: what was sent is recognised.
    """
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    yield Part(file.name, f"demo-{digest[:32]}", file=file)
    for first in range(0, learners, PART_ROWS):
        count = min(PART_ROWS, learners - first)
        yield Part(f"learners {first + 1:,}–{first + count:,}", f"demo-made-{first}-{count}", first=first, count=count)


def learner(number: int) -> bytes:
    """The result of made-up learner `number`: nine of ten pass."""
    draw = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=4).digest()
    score = 60 + draw[0] % 41 if draw[1] >= 26 else draw[0] % 60  # 26 of 256: one in ten
    name = f"Learner {number + 1}"
    day, minute = 1 + draw[2] % 28, draw[3] % 60
    return (
        f"m{number:08d},learner.{number + 1}@example.com,{name},{score},{50 + draw[2] % 51},1,"
        f"2025-11-{day:02d}T12:{minute:02d}:00Z,m{number:08d}-1\n"
    ).encode()
