"""Which of the errors around aiokafka mean "later"."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from laurel.bus import BusUnavailable
from laurel.bus.kafka_errors import translated


def test_writing_to_a_connection_that_was_just_lost_is_tried_again_later() -> None:
    """uvloop, under which services run, tells so by a RuntimeError, which aiokafka lets through."""

    async def write() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        )
        transport.abort()
        await asyncio.sleep(0.01)
        async with translated("commit", 1.0):
            transport.write(b"x")

    with pytest.raises(BusUnavailable, match="Kafka, commit: RuntimeError"):
        uvloop.run(write())


async def test_any_other_runtime_error_is_ours() -> None:
    with pytest.raises(RuntimeError, match="a mistake"):
        async with translated("commit", 1.0):
            raise RuntimeError("a mistake")
