"""The proxy itself: a fault that does nothing would make every run look good."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from tests.conftest import free_ports
from tests.faults.proxy import Link


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    """In front of a server that answers what it is told, and says goodbye at the end."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    port, own = free_ports(2)
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    async with Link("echo", own, ("127.0.0.1", port)) as made:
        yield made
    server.close()


async def dial(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", link.port)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"hello") -> bytes:
    writer.write(data)
    await writer.drain()
    return await reader.readexactly(len(data))


async def silent(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.3):
            return not await reader.read(1) and False
    except TimeoutError:
        return True


async def test_forwards_much_and_the_end(link: Link) -> None:
    reader, writer = await dial(link)
    sent = random.Random(1).randbytes(5_000_000)
    writer.write(sent)
    assert await reader.readexactly(len(sent)) == sent
    writer.close()
    assert await reader.read() == b""


async def test_cut_resets_what_is_open_and_lets_new_ones_in(link: Link) -> None:
    reader, writer = await dial(link)
    assert await ask(reader, writer) == b"hello"
    assert link.cut() == 1
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await ask(reader, writer)
    assert await ask(*await dial(link)) == b"hello"


async def test_refuses_until_told_otherwise(link: Link) -> None:
    link.refuse(True)
    reader, writer = await dial(link)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await ask(reader, writer)
    link.refuse(False)
    assert await ask(*await dial(link)) == b"hello"


async def test_what_a_frozen_link_holds_comes_whole_and_in_order(link: Link) -> None:
    reader, writer = await dial(link)
    await ask(reader, writer)
    link.freeze(True)
    for piece in (b"one ", b"two ", b"three"):
        writer.write(piece)
        await asyncio.sleep(0.02)
    assert await silent(reader)
    link.freeze(False)
    assert await reader.readexactly(13) == b"one two three"


async def test_a_delay_keeps_the_order_also_at_its_end(link: Link) -> None:
    reader, writer = await dial(link)
    link.delay(0.2)
    writer.write(b"slow ")
    await asyncio.sleep(0.05)
    link.delay(0.0)
    writer.write(b"fast")
    assert await reader.readexactly(9) == b"slow fast"


@pytest.mark.parametrize("side", ["client", "server"])
async def test_half_open_leaves_one_side_waiting(link: Link, side: str) -> None:
    reader, writer = await dial(link)
    await ask(reader, writer)
    left = link.half_open(side)
    if side == "client":
        writer.write(b"anybody?")
        assert await silent(reader)
    else:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask(reader, writer)
        assert len(link.pairs) == 1, "the server still waits"
    assert await ask(*await dial(link)) == b"hello"
    link.reset(left)
    if side == "client":
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask(reader, writer)


async def test_truncates_in_the_middle(link: Link) -> None:
    reader, writer = await dial(link)
    await ask(reader, writer)
    assert link.truncate(random.Random(3), most=1000) == 1
    writer.write(bytes(100_000))
    received = b""
    try:
        while piece := await reader.read(65536):
            received += piece
    except ConnectionError:
        pass
    assert len(received) < 1000
