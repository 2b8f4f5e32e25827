"""The HTTP server: its socket, its patience, and bytes that two readers may take for two things."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import weakref
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from laurel import http_server
from laurel.edge import ARRIVED
from laurel.http_server import serve_http
from laurel.problems import Problem
from tests.conftest import free_ports


async def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that leaves in two segments: with Nagle's algorithm the second waits out the client's delayed ACK."""
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


async def test_head_and_body_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of the system costs as much as a lookup's question to the database."""
    sent: list[bytes] = []
    send = socket.socket.send

    def noted(self: socket.socket, data: bytes, *flags: int) -> int:
        if data.startswith(b"HTTP/") or sent:
            sent.append(bytes(data))
        return send(self, data, *flags)

    async def answer(request: Request) -> Response:
        return Response(b"x" * 3000)

    monkeypatch.setattr(socket.socket, "send", noted)
    said = await bytes_of(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", app=Starlette(routes=[Route("/", answer)]))
    assert sent == [said]
    assert said.endswith(b"\r\n\r\n" + b"x" * 3000)


async def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    """Who sends a batch may want to see the 200 before it sends the rest."""
    seen = asyncio.Event()

    async def later(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            await seen.wait()
            yield b"behind it"

        return StreamingResponse(pieces())

    stop, listening, (port,) = asyncio.Event(), asyncio.Event(), free_ports(1)
    async with asyncio.TaskGroup() as group, asyncio.timeout(30):
        app = Starlette(routes=[Route("/", later)])
        group.create_task(serve_http(app, host="127.0.0.1", port=port, stop=stop, listening=listening))
        await listening.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        seen.set()
        assert b"behind it" in await reader.read()
        writer.close()
        stop.set()


async def test_no_request_waits_for_the_cyclic_collector() -> None:
    """Which is asked seldom: scopes that held what holds them would fill the memory."""
    scopes: list[weakref.ref[Scope]] = []

    class Noted(dict[str, Any]):
        """A dict that can be looked for."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept = scope["kept"] = Noted()
        scopes.append(weakref.ref(kept))
        assert scope[ARRIVED]()
        await Response(b"")(scope, receive, send)

    gc.disable()
    try:
        await bytes_of(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" * 3, app=app)
        assert [one() for one in scopes] == [None] * 3
    finally:
        gc.enable()


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
    monkeypatch.setattr("laurel.http_server.HEAD_WITHIN_S", 0.3)
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


# --- bytes that two readers may take for two things --------------------------------------------------------------


async def tell(request: Request) -> Response:
    """What came of a request."""
    body = await request.body()
    said = {"method": request.method, "path": request.url.path, "body": body.decode(), "headers": [*request.headers]}
    return Response(json.dumps(said))


class Told(NamedTuple):
    """An answer, and what the application was asked (None: it was not)."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


async def bytes_of(*parts: bytes, app: ASGIApp | None = None) -> bytes:
    """What is said to bytes that come one part after the other, until both sides have ended."""
    stop, listening, (port,) = asyncio.Event(), asyncio.Event(), free_ports(1)
    app = app or Starlette(routes=[Route("/{path:path}", tell, methods=["GET", "POST"])])
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_http(app, host="127.0.0.1", port=port, stop=stop, listening=listening))
        await listening.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):  # it has hung up
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.05)  # so that it is read by itself
            writer.write_eof()
        said = bytearray()
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(1 << 16):
                said += more
        writer.close()
        stop.set()
    return bytes(said)


async def told(*parts: bytes, app: ASGIApp | None = None) -> list[Told]:
    """The answers in it."""
    said, answers = await bytes_of(*parts, app=app), []
    while said:
        head, _, said = said.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = {one.partition(": ")[0].lower(): one.partition(": ")[2] for one in fields}
        size = int(headers["content-length"])
        answers.append(Told(int(line.split()[1]), headers, json.loads(said[:size])))
        said = said[size:]
    return answers


def in_parts(request: bytes) -> list[list[bytes]]:
    """In one piece, head and body apart, and cut within both."""
    head, _, body = request.partition(b"\r\n\r\n")
    return [[request], [head + b"\r\n\r\n", body], [head[:9], head[9:] + b"\r\n\r\n" + body[:3], body[3:]]]


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"junk"])
async def test_an_upgrade_is_ignored_and_its_body_is_read(protocol: bytes) -> None:
    """Clients that offer HTTP/2 over plain http do so with every request, and send the body all the same."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\n" % protocol
    length = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    for request in (head + length + SMUGGLED, head + chunks):
        for parts in in_parts(request + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"):
            first, second = await told(*parts)
            assert (first.status, first.body["path"], first.body["body"]) == (200, "/a", SMUGGLED.decode())
            assert (second.status, second.body["path"], second.body["body"]) == (200, "/b", "")
    (only,) = await told(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol)
    assert (only.status, only.body["body"]) == (200, "")
    later = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    many = await told((head + length + SMUGGLED) * 3 + later, later)
    assert [one.body["path"] for one in many] == ["/a", "/a", "/a", "/b", "/b"]


async def test_trailers_are_no_headers() -> None:
    """What stands before a handler has looked at the head, and at nothing that comes after the body."""
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for parts in in_parts(head + b"2\r\n{}\r\n0\r\nAuthorization: Bearer a\r\nContent-Type: a/b\r\n\r\n"):
        (only,) = await told(*parts)
        assert (only.status, only.body["headers"], only.body["body"]) == (200, ["host", "transfer-encoding"], "{}")


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [HEAD + b"A: " + b"x" * 70_000 + b"\r\n\r\n"], [HEAD, *[b"A: " + b"x" * 4000 + b"\r\n"] * 20],
        [HEAD + b"A: ", *[b"x" * 4000] * 20], [HEAD + b"A: b\r\n" * 12_000 + b"\r\n"],
        [b"GET /", *[b"x" * 4000] * 20], [CHUNKED + b"2\r\n{}\r\n0\r\n", *[b"A: " + b"x" * 4000 + b"\r\n"] * 20],
        [CHUNKED + b"2;", *[b"x" * 4000] * 20],
    ],
    ids=["a value", "many", "a value in parts", "small ones", "a path", "trailers", "a chunk's extension"],
)  # fmt: skip
async def test_a_head_has_a_limit(parts: list[bytes]) -> None:
    """It is kept in memory until it ends, whoever sends it."""
    (only,) = await told(*parts)
    assert (only.status, only.body["type"]) == (431, "urn:laurel:problem:head_too_large")
    assert only.headers["connection"] == "close"


async def test_what_is_below_the_limit_is_taken() -> None:
    (only,) = await told(HEAD + b"A: " + b"x" * 60_000 + b"\r\n\r\n")
    assert only.status == 200
    body = b"%x\r\n%b\r\n" % (60_000, b"x" * 60_000)
    (only,) = await told(CHUNKED + body * 5, body * 5 + b"0\r\n\r\n")
    assert len(only.body["body"]) == 600_000


async def test_what_is_no_http_is_refused_as_everything_else_is() -> None:
    for wrong in (
        b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", CHUNKED + b"zz\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    ):  # fmt: skip
        (only,) = await told(wrong)
        assert (only.status, only.headers["content-type"]) == (400, "application/problem+json")
        assert only.headers["x-content-type-options"] == "nosniff"
        assert only.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"POST /a HTTP/2.0\r\nHost: x\r\n", "not_http"), (b"POST /a HTTP/0.9\r\nHost: x\r\n", "not_http"),
        (b"POST /a\r\nHost: x\r\n", "not_http"), (b"FOO /a HTTP/1.1\r\nHost: x\r\n", "not_http"),
        (b"POST /a HTTP/1.1\r\nHost: a b/c@d?e\r\n", "bad_header"),
        (b"POST /a HTTP/1.1\r\nHost: \xff\xfe\r\n", "bad_header"),
        (b"POST /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "bad_header"),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n", "bad_transfer_coding"),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n", "bad_transfer_coding"),
    ],
)  # fmt: skip
async def test_a_head_that_is_read_in_two_ways_is_refused(head: bytes, code: str) -> None:
    (only,) = await told(head + b"\r\n2\r\n{}\r\n0\r\n\r\n")
    assert (only.status, only.body["type"]) == (400, f"urn:laurel:problem:{code}")
    assert only.headers["connection"] == "close"


async def test_what_was_refused_is_not_kept() -> None:
    """An exception that is raised again and again holds on to each connection that it was raised for."""
    for wrong in (
        b"GET / HTTP/1.1\r\n\r\n",
        HEAD + b"Host: y\r\n\r\n",
        HEAD + b"A: " + b"x" * 70_000,
        b"nonsense\r\n\r\n",
    ):
        await told(wrong)
    constants = [one for one in vars(http_server).values() if isinstance(one, Problem)]
    assert len(constants) >= 4
    assert [one for one in constants if one.__traceback__ is not None or one.__context__ is not None] == []


@pytest.mark.parametrize("host", [b"x", b"", b"badges.example.org:8080", b"[2001:db8::7]:80", b"127.0.0.1:"])
async def test_hosts_as_they_are_written(host: bytes) -> None:
    (only,) = await told(b"GET /a HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    assert only.status == 200


async def test_who_has_ended_its_side_hears_the_answer() -> None:
    """With its last request (RFC 9112 §9.6), as `nc -N` does; one that is not whole is nobody's any more."""
    ended = asyncio.Event()

    async def slow(request: Request) -> Response:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.3):  # until long after the end of the other side was read
                await ended.wait()
        return await tell(request)

    app = Starlette(routes=[Route("/{path:path}", slow, methods=["GET", "POST"])])
    post = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    (only,) = await told(post, app=app)
    assert (only.status, only.body["body"], only.headers["connection"]) == (200, "{}", "close")
    both = await told(post + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", app=app)
    assert [one.body["path"] for one in both] == ["/a", "/b"]
    assert await told(post[:-1], app=app) == []


async def test_a_body_that_was_announced_and_not_asked_for_ends_the_connection() -> None:
    """Whether it comes after all, nobody knows: the next request could be read as it (RFC 9110 §10.1.1)."""

    async def deaf(_: Request) -> Response:
        return Response(json.dumps({"path": "deaf"}), 413)

    routes = [Route("/deaf", deaf, methods=["POST"]), Route("/{path:path}", tell, methods=["GET", "POST"])]
    app = Starlette(routes=routes)
    expects = b"POST /%b HTTP/1.%d\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    later = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    (only,) = await told(expects % (b"deaf", 1), later, app=app)
    assert (only.status, only.headers["connection"]) == (413, "close")
    proceed = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await bytes_of(expects % (b"a", 1), b"{}" + later, app=app)).startswith(proceed)
    assert (await bytes_of(expects % (b"a", 1), b"{}" + later, app=app)).count(b"HTTP/1.1 200 OK") == 2
    assert (await bytes_of(expects % (b"a", 0), b"{}", app=app)).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("many", [1, 2, 3])
async def test_nonsense_behind_requests_takes_nothing_from_their_answers(many: int) -> None:
    """A client would take the answer to nonsense for that of a request before it."""
    good = HEAD + b"\r\n"
    for parts in ([good * many + b"nonsense\r\n\r\n"], [good * many, b"nonsense\r\n\r\n"]):
        answers = await told(*parts)
        assert [one.status for one in answers] == [200] * many + [400]
    upgraded = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: gzip\r\n\r\n{}"
    for broken in (CHUNKED + b"zz\r\n", upgraded):
        answers = await told(good * many + broken)
        assert [one.status for one in answers] == [200] * many + [400]
        assert answers[-1].headers["connection"] == "close"


async def test_a_trailer_that_ends_the_connection_swallows_no_request() -> None:
    request = CHUNKED + b"2\r\n{}\r\n0\r\nConnection: close\r\n\r\n"
    for parts in ([request], [request, HEAD + b"\r\n"], [request + HEAD + b"\r\n"]):
        (only,) = await told(*parts)
        assert (only.status, only.headers["connection"]) == (200, "close")
