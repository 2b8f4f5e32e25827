"""A batch's lines and window, with a judge in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel_verifier.batch import Batch, Ended, Limits, Line, Lines, Place, Places

LIMITS = Limits(longest=100_000, lines=1000, size=10 << 20)


class HeldJudge:
    """Answers when it is told to. working: behind the place; begun: there and before it."""

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Event] = {}
        self.begun = 0
        self.working = 0
        self.most = 0

    def gate(self, number: int) -> asyncio.Event:
        return self.gates.setdefault(number, asyncio.Event())

    async def answer(self, line: Line, place: Place) -> bytes:
        self.begun += 1
        async with place:
            self.working += 1
            self.most = max(self.most, self.working)
            try:
                await self.gate(line.number).wait()
            finally:
                self.working -= 1
        self.begun -= 1
        return b"%d" % line.number

    def last(self, number: int, ended: Ended) -> bytes:
        return b"%d %s" % (number, ended.code.encode())


class Source:
    """Pieces, and how many of them were taken."""

    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.left:
            self.taken += 1
            yield piece


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@given(
    st.lists(st.sampled_from([b"", b" ", b"a", b"bc", b"def", b"ghijk", b"\r", b"x" * 9, b" yz "]), max_size=12),
    st.lists(st.integers(1, 8), min_size=1, max_size=12),
)
def test_lines_do_not_depend_on_the_pieces(parts: list[bytes], sizes: list[int]) -> None:
    body = b"\n".join(parts)
    lines = Lines(5)
    found, rest, turn = [], body, 0
    while rest:
        size = sizes[turn % len(sizes)]
        found += lines.feed(rest[:size])
        rest, turn = rest[size:], turn + 1
    found += lines.finish()
    expected = [
        Line(number, b"" if len(part) > 5 else part.strip(b" \t\r"), len(part) > 5)
        for number, part in enumerate(parts, 1)
    ]
    assert found == [one for one in expected if one.raw or one.too_long]


async def test_answers_keep_the_order_of_the_lines_and_all_places_are_used() -> None:
    judge, out = HeldJudge(), bytearray()

    async def send(piece: bytes) -> None:
        out.extend(piece)

    source = Source(b"x\n" * 40)
    running = asyncio.ensure_future(Batch(judge, Places(3), LIMITS).run(aiter(source), send))
    await settled()
    assert (judge.begun, judge.working) == (32, 6)
    for number in range(40, 1, -1):
        judge.gate(number).set()
    await settled()
    assert not out  # the first is not answered yet
    judge.gate(1).set()
    await running
    assert out == b"".join(b"%d\n" % number for number in range(1, 41))
    assert judge.most == 6


async def test_two_batches_share_and_do_not_wait_for_each_other() -> None:
    judges = [HeldJudge() for _ in range(3)]
    places = Places(1)

    async def send(piece: bytes) -> None:
        pass

    running = [
        asyncio.ensure_future(Batch(one, places, LIMITS).run(aiter(Source(b"x\n" * 20)), send)) for one in judges
    ]
    await settled()
    assert [one.working for one in judges] == [2, 2, 0]
    judges[0].gate(1).set()
    await settled()
    assert [one.working for one in judges] == [1, 2, 1]  # the third comes before the first one's next
    for one in running:
        one.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert [one.working for one in judges] == [0, 0, 0]


async def test_a_full_window_takes_nothing_more() -> None:
    """Neither while lines are being judged nor while nobody reads the answers."""
    judge, reading = HeldJudge(), asyncio.Event()
    sent = 0

    async def send(piece: bytes) -> None:
        nonlocal sent
        await reading.wait()
        sent += piece.count(b"\n")

    source = Source(*[b"y" * 10_000 + b"\n"] * 50)
    batch = Batch(judge, Places(2), LIMITS, window=100_000)
    running = asyncio.ensure_future(batch.run(aiter(source), send))
    await settled()
    assert source.taken == 8  # 7 in the window with room for their answers, and the one that waits
    for number in range(1, 51):
        judge.gate(number).set()
    await settled()
    assert source.taken <= 17  # one piece of answers is on its way, and nobody takes it
    reading.set()
    await running
    assert (source.taken, sent) == (50, 50)


@pytest.mark.parametrize(
    ("limits", "body", "last"),
    [
        (Limits(10, 3, 1000), b"a\n\nb\nc\nd\ne\n", b"5 too_many_lines"),
        (Limits(10, 3, 10), b"a\nb\n" + b" " * 20, b"1 too_large"),
    ],
)
async def test_a_limit_is_the_last_line(limits: Limits, body: bytes, last: bytes) -> None:
    judge, out = HeldJudge(), bytearray()

    async def send(piece: bytes) -> None:
        out.extend(piece)

    for number in range(1, 10):
        judge.gate(number).set()
    await Batch(judge, Places(1), limits).run(aiter(Source(body)), send)
    assert out.splitlines()[-1] == last


async def test_a_source_that_breaks_off_ends_all_work() -> None:
    judge = HeldJudge()

    class Gone(Exception):
        pass

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x\n" * 30
        await settled()
        assert judge.working == 2
        raise Gone

    async def send(piece: bytes) -> None:
        pass

    with pytest.raises(ExceptionGroup) as caught:
        await Batch(judge, Places(1), LIMITS).run(pieces(), send)
    assert caught.group_contains(Gone)
    assert judge.working == 0
