"""The HTTP server before every API: uvicorn, and what it is too kind about.

Whoever reads the same bytes otherwise than we do (a proxy, a guard) can be made to pass something by: so what is
doubtful is refused or has no effect, and a connection that was not understood is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import weakref
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httptools
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from laurel.edge import ARRIVED, SECURITY_HEADERS
from laurel.problems import Problem

HEAD_WITHIN_S = 30.0  # a connection must have sent the head of its request
_LOOKS = 3  # in that time
_LINGER_S = 1.0
MAX_HEAD = 64 << 10  # bytes: of a head, and of what frames a body (chunk sizes and trailers) without any of it between

_NOT_HTTP = Problem(
    400, "not_http", "these bytes are no request of HTTP 1.0 or 1.1 with a method that is known here (RFC 9112 §3)"
)
_NO_HOST = Problem(400, "missing_header", "Host is missing; HTTP/1.1 asks for it (RFC 9112 §3.2)")
_BAD_HOST = Problem(400, "bad_header", "Host is no host with an optional port, or stands there twice (RFC 9112 §3.2)")
_BAD_CODING = Problem(
    400,
    "bad_transfer_coding",
    "the only Transfer-Encoding here is chunked, by itself (RFC 9112 §6.1)",
)
_HEAD_TOO_LARGE = Problem(431, "head_too_large", f"the request line and the headers are larger than {MAX_HEAD} bytes")


class _EndsTheParser(Exception):
    """The head is refused; `_refused` says why."""


class _Joined:
    """A transport that sends the head of an answer together with what is written behind it before the loop goes on.

    uvicorn writes a head and a body one after the other, and each write is a call of the system and a packet.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class _Protocol(HttpToolsProtocol):
    """uvicorn's, and what differs.

    - An Upgrade is ignored (RFC 9110 §7.8), and the body behind it is read; httptools takes what follows for another
      protocol, and uvicorn takes that for the next request.
    - Trailers are left out (RFC 9110 §6.5.1); httptools tells of them as of headers, when a guard has seen those.
    - A head has a limit, names one host, and a version and a framing that everybody reads alike.
    - Who has ended its side of the connection (a half-close) hears the answer all the same.
    - What is refused is refused by a problem document, with the headers of every answer of ours.
    """

    _unread = 0  # bytes since the parser last told of a head, a part of a body or an end
    _in_head = True
    _carrying_on = False
    _refused: Problem | None = None
    _over = False  # what comes now is read and forgotten

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]  # all of it that is used

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    data = data[upgrade.args[0] :]
                    self._carry_on()
        except httptools.HttpParserError:
            self._refuse(self._refused or _NOT_HTTP)
            return
        if self._unread > MAX_HEAD:
            self._refuse(_HEAD_TOO_LARGE)

    def _carry_on(self) -> None:
        """With a parser that has seen the same request without its Upgrade, and now waits for the body, if any."""
        framing = [one for one in self.headers if one[0] in (b"content-length", b"transfer-encoding")]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._carrying_on = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % one for one in framing) + b"\r\n")
        self._carrying_on = False

    def on_message_begin(self) -> None:
        if not self._carrying_on:
            self._unread, self._in_head = 0, True
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._carrying_on:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._carrying_on:
            return
        self._unread, self._in_head = 0, False
        version = self.parser.get_http_version()
        self._refused = _wrong_head(version, self.url, self.headers)
        if self._refused is not None:
            raise _EndsTheParser  # a new one each time: one for all would keep every frame that it was raised through
        if version == "1.0":  # RFC 9110 §10.1.1: it knows of no 100 (Continue)
            self.expect_100_continue = False
        super().on_headers_complete()
        self.scope[ARRIVED] = _arrival(self.cycle)  # type: ignore[literal-required]  # a key of ours

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        if self.parser.should_upgrade():
            return  # its body is still to come: `_carry_on`
        if not self.parser.should_keep_alive():  # a trailer may say so, too: the parser then takes no further request
            self.cycle.keep_alive = False
        super().on_message_complete()

    def _cycle_of_nobody(self) -> RequestResponseCycle:
        """For the answer to what is no request, behind those to requests."""
        cycle = RequestResponseCycle(
            scope={**self.scope, "method": "GET"}, transport=self.transport, flow=self.flow, logger=self.logger,
            access_logger=self.access_logger, access_log=False, default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(), expect_100_continue=False, keep_alive=False,
            on_response=self.on_response_complete,
        )  # fmt: skip
        cycle.more_body = False
        return cycle

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's says nothing; asyncio.Protocol's may
        """Whether to keep our side open: there is a whole request to answer, which is the last one."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        self._over, cycle.keep_alive = True, False
        return True

    def _refuse(self, problem: Problem) -> None:
        """Say so behind the answers to the requests before it, and hang up."""
        self._over = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:  # a whole request, whose answer comes first
                self.cycle = self._cycle_of_nobody()
                self.pipeline.appendleft((self.cycle, _answer(problem)))  # type: ignore[arg-type]  # as below
                return
            if self.pipeline:  # its turn has not come
                self.pipeline[0] = (cycle, _answer(problem))  # type: ignore[assignment]  # Starlette's and ours differ in names
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(_bytes_of(_answer(problem)))
        # A socket that is closed over unread bytes takes back what was written: whoever still sends would not hear it.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)


def _arrival(cycle: RequestResponseCycle) -> Callable[[], bool]:
    known = weakref.ref(cycle)  # which holds the scope that holds this: neither must keep the other

    def arrived() -> bool:
        found = known()
        return found is not None and not found.more_body

    return arrived


_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?").fullmatch  # RFC 3986 §3.2.2


def _wrong_head(version: str, url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Problem | None:
    if len(url) + sum(len(name) + len(value) + 4 for name, value in headers) > MAX_HEAD:
        return _HEAD_TOO_LARGE
    if version not in ("1.0", "1.1"):
        return _NOT_HTTP
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts and version == "1.1":
        return _NO_HOST
    if len(hosts) > 1 or (hosts and _HOST(hosts[0]) is None):
        return _BAD_HOST
    if any(name == b"transfer-encoding" and value.strip().lower() != b"chunked" for name, value in headers):
        return _BAD_CODING
    return None


class _HangsUpUnasked:
    """Ends the connection where a body was announced and never asked for (Expect: 100-continue, RFC 9110 §10.1.1).

    Whether it comes after all, nobody knows: what comes next could be read as it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == b"expect" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        asked = False

        async def asking() -> Message:
            nonlocal asked
            asked = True
            return await receive()

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and not asked:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, asking, closing)


def _answer(problem: Problem) -> Response:
    response = problem.response()
    response.raw_headers += [*SECURITY_HEADERS, (b"connection", b"close")]
    return response


def _bytes_of(response: Response) -> bytes:
    line = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}\r\n".encode()
    return line + b"".join(b"%b: %b\r\n" % one for one in response.raw_headers) + b"\r\n" + bytes(response.body)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: one place stops the whole process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def hang_up_on_the_silent(self) -> None:
        """For ever: close connections that have begun no request for some HEAD_WITHIN_S, though they sent parts of one.

        uvicorn closes those that are quiet between two requests, and waits without end for the rest of a head. Bodies
        may take their time: whoever reads them says how long.
        """
        quiet: dict[Any, tuple[object, int]] = {}  # connection → its last request, and at how many looks it was that
        while True:
            await asyncio.sleep(HEAD_WITHIN_S / _LOOKS)
            before, quiet = quiet, {}
            for connection in self.server_state.connections:
                cycle = getattr(connection, "cycle", None)
                if cycle is not None and not cycle.response_complete:
                    continue
                last, looks = before.get(connection, (cycle, 0))
                quiet[connection] = (cycle, looks + 1 if last is cycle else 1)
                if quiet[connection][1] > _LOOKS:
                    connection.transport.close()


async def serve_http(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    listening: asyncio.Event | None = None,
    tls: tuple[Path, Path] | None = None,
    proxies: str = "127.0.0.1,::1",
) -> None:
    """Serve until `stop`. `listening` is set once connections are accepted. Raises OSError when the port is taken.

    proxies: whose X-Forwarded-For is believed (Settings.trusted_proxies).
    tls: the PEM files of a certificate and of its key; None for plain http, as behind a gateway.
    """
    # Bound here, so that a taken port is an exception like any other and not uvicorn's sys.exit.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=2048)
    # asyncio sets this only on sockets that name their protocol, which create_server's do not. Connections inherit it;
    # without it an answer in pieces waits some 40 ms for an acknowledgement (RFC 896, RFC 1122 §4.2.3.2).
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        _HangsUpUnasked(app),
        log_config=None,
        access_log=False,
        http=_Protocol,
        ws="none",  # no service speaks it
        lifespan="off",
        timeout_graceful_shutdown=10,
        server_header=False,
        forwarded_allow_ips=proxies,
        backlog=2048,
        ssl_certfile=tls[0] if tls is not None else None,
        ssl_keyfile=tls[1] if tls is not None else None,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    stopping = asyncio.create_task(stop.wait())
    hanging_up = asyncio.create_task(server.hang_up_on_the_silent())
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn offers a flag, no event
        if listening is not None:
            listening.set()
        await asyncio.wait({serving, stopping, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        if hanging_up.done():
            hanging_up.result()  # raises: by itself it never ends
    finally:
        stopping.cancel()
        hanging_up.cancel()
        if not serving.done():  # another part has failed: nobody is answered any more by what is being closed
            server.should_exit = server.force_exit = True
            await asyncio.wait({serving}, timeout=2.0)
            serving.cancel()
        bound.close()
