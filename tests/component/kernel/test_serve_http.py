"""The HTTP server's socket."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from starlette.applications import Starlette

from laurel.process import serve_http
from tests.conftest import free_ports


async def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and body leave in two segments: with Nagle's algorithm the second waits out the client's delayed ACK."""
    flags: list[int] = []
    accept = socket.socket.accept

    def accepted(self: socket.socket) -> tuple[socket.socket, object]:
        connection, address = accept(self)
        flags.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return connection, address

    monkeypatch.setattr(socket.socket, "accept", accepted)
    stop, listening, (port,) = asyncio.Event(), asyncio.Event(), free_ports(1)
    async with asyncio.TaskGroup() as group:
        serving = serve_http(Starlette(), host="127.0.0.1", port=port, stop=stop, listening=listening)
        group.create_task(serving)
        await listening.wait()
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 404
        stop.set()
    assert flags == [1]


async def test_who_asks_for_another_protocol_is_answered_as_anybody_else() -> None:
    """No service speaks WebSocket; RFC 9110 §7.8 lets a server ignore Upgrade."""
    stop, listening, (port,) = asyncio.Event(), asyncio.Event(), free_ports(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_http(Starlette(), host="127.0.0.1", port=port, stop=stop, listening=listening))
        await listening.wait()
        asked = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/", headers=asked)).status_code == 404
        stop.set()


async def test_when_another_part_fails_nobody_is_answered_any_more() -> None:
    """Also over a connection that was open before: what would answer is being closed."""
    listening, (port,) = asyncio.Event(), free_ports(1)
    serving = asyncio.create_task(
        serve_http(Starlette(), host="127.0.0.1", port=port, stop=asyncio.Event(), listening=listening)
    )
    await listening.wait()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 404
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://127.0.0.1:{port}/")
