"""The HTTP server's socket."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drop by drop"])
async def test_a_head_that_never_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, drips: bool) -> None:
    """Each such connection is an open file, and of these a process has only so many. An answer may take its time."""
    monkeypatch.setattr("laurel.process.HEAD_WITHIN_S", 0.3)
    stop, listening, (port,) = asyncio.Event(), asyncio.Event(), free_ports(1)
    answer_it = asyncio.Event()

    async def slow(_: Request) -> Response:
        await answer_it.wait()
        return Response("done")

    async def half() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        reading = asyncio.ensure_future(reader.read())
        try:
            while drips and not reading.done():
                writer.write(b"X-A: b\r\n")
                await asyncio.sleep(0.02)
            return await reading
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async with asyncio.TaskGroup() as group:
        app = Starlette(routes=[Route("/slow", slow)])
        group.create_task(serve_http(app, host="127.0.0.1", port=port, stop=stop, listening=listening))
        await listening.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            waiting = asyncio.create_task(client.get("/slow"))
            async with asyncio.timeout(30):
                assert await half() == b""
            answer_it.set()
            assert (await waiting).text == "done"
        stop.set()
