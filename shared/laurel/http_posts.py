"""POST at volume: HTTP/1.1 on kept connections with httptools, and nothing more around the bytes than webhooks need.

A client for everything costs three times as much a request as this (ADR 0010), and a million webhooks are a million
requests. The guards are not here but in http.py, which hands over a way to connect that looks at each address.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, cast

import httptools
import msgspec
from yarl import URL

from laurel.errors import LaurelError

KEEP_ALIVE_S = 4.0  # below the 5 s after which common servers hang up: a closed connection must not be written into
_BODY_START = 1024
_DRAIN = 16 * 1024  # of an answer we read this much to keep the connection, and hang up on more
_HEAD_MOST = 32 * 1024  # of all header fields of an answer together
_LOOK_S = 0.1  # between looks at who has not answered in time; a timer for each took a twentieth of the notifier


class FetchFailed(LaurelError):
    """The request was allowed and did not succeed; it may another time. code: timeout, unresolvable, connect, tls,
    disconnected, too_large, bad_encoding, bad_response."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Answered(msgspec.Struct, frozen=True, gc=False):
    """An answer. retry_after: the field as it was sent; body_start: at most 1 KiB."""

    status: int
    retry_after: str | None
    body_start: bytes


class Origin(NamedTuple):
    """Where connections may be shared (RFC 6454). host: a name or an address without brackets."""

    scheme: str
    host: str
    port: int


Connect = Callable[[str, int], Awaitable[socket.socket]]


class Posts:
    """The kept connections of one client. connect: gives a connected socket to (host, port), or raises."""

    def __init__(self, connect: Connect, tls: ssl.SSLContext, user_agent: str) -> None:
        self._connect = connect
        self._tls = tls
        self._user_agent = user_agent
        self._idle: dict[Origin, list[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None

    def head(self, url: URL) -> bytes:
        """The start of every request to this URL."""
        return (
            f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n"
            f"User-Agent: {self._user_agent}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        ).encode("latin-1")

    async def post(
        self, origin: Origin, head: bytes, headers: Mapping[str, str], body: bytes, *, within: float
    ) -> Answered:
        """Send once: a connection that breaks is not tried again. within: seconds until the answer is complete.

        Raises FetchFailed (disconnected, bad_response), TimeoutError, ValueError for a header with a line break, and
        what `connect` and TLS raise.
        """
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if fields.count("\r") != len(headers) or fields.count("\n") != len(headers):
            raise ValueError("a header field holds a line break")
        request = b"%b%bContent-Length: %d\r\n\r\n%b" % (head, fields.encode("latin-1"), len(body), body)
        loop = asyncio.get_running_loop()
        until = loop.time() + within
        connection = self._kept(origin)
        if connection is None:
            async with asyncio.timeout_at(until):
                connection = await self._open(origin)
        if self._looking is None:
            self._looking = loop.call_later(_LOOK_S, self._look)
        try:
            answer = await connection.ask(request, until)
        except BaseException:
            connection.hang_up()
            raise
        if connection.reusable:
            self._keep(origin, connection)
        else:
            connection.hang_up()
        return answer

    async def close(self) -> None:
        """Hang up on everybody."""
        for timer in (self._sweeping, self._looking):
            if timer is not None:
                timer.cancel()
        self._idle.clear()
        for connection in list(self._all):
            connection.hang_up()

    def _kept(self, origin: Origin) -> _Connection | None:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.reusable:
                return connection
            connection.hang_up()
        return None

    def _keep(self, origin: Origin, connection: _Connection) -> None:
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(KEEP_ALIVE_S / 4, self._sweep)

    def _look(self) -> None:
        """Give up what has not answered in time."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        waiting = [one for one in self._all if one.waits(now)]
        self._looking = loop.call_later(_LOOK_S, self._look) if waiting else None

    def _sweep(self) -> None:
        # The last one in is the first one out, so that those at the front have been idle the longest.
        loop = asyncio.get_running_loop()
        before = loop.time() - KEEP_ALIVE_S
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since < before or not idle[0].reusable):
                idle.pop(0).hang_up()
            if not idle:
                del self._idle[origin]
        self._sweeping = loop.call_later(KEEP_ALIVE_S / 4, self._sweep) if self._idle else None

    async def _open(self, origin: Origin) -> _Connection:
        loop = asyncio.get_running_loop()
        connected = await self._connect(origin.host, origin.port)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = self._tls if origin.scheme == "https" else None
            _, connection = await loop.create_connection(
                lambda: _Connection(loop, origin.host, self._all),
                sock=connected, ssl=secure, server_hostname=origin.host if secure else None,
            )  # fmt: skip
        except BaseException:
            connected.close()
            raise
        return connection


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, everybody: set[_Connection]) -> None:
        self._loop = loop
        self._host = host
        self._everybody = everybody
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answered] | None = None
        self.reusable = True
        self.idle_since = 0.0
        self._until = 0.0  # when the answer to what was asked must be here, by the loop's clock

    # -- the request -----------------------------------------------------------------------------------------

    def ask(self, request: bytes, until: float) -> asyncio.Future[Answered]:
        """Write the request; the answer comes by the future."""
        waiting = self._waiting = self._loop.create_future()
        self._until = until
        if self._transport is None:
            self._fail("disconnected", f"{self._host} hung up")
            return waiting
        self._parser = httptools.HttpResponseParser(self)
        self._retry_after: str | None = None
        self._head_size = 0
        self._framed = False
        self._in_body = False
        self._body = bytearray()
        self._transport.write(request)
        return waiting

    def waits(self, now: float) -> bool:
        """Whether an answer is waited for. Who has waited for longer than said is told so by TimeoutError."""
        if self._waiting is not None and self._until <= now:
            self._end(TimeoutError())
        return self._waiting is not None

    def hang_up(self) -> None:
        """Close at once; what was not sent yet is not sent."""
        self.reusable = False
        self._everybody.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            body = bytes(self._body[:_BODY_START])
            waiting.set_result(Answered(self._parser.get_status_code(), self._retry_after, body))

    def _fail(self, code: str, detail: str) -> None:
        self._end(FetchFailed(code, detail))

    def _end(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        self.reusable = False
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    # -- asyncio.Protocol ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its bases
        self._everybody.add(self)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:  # it speaks without having been asked: whatever comes next is no answer to us
            self.hang_up()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail("bad_response", f"{self._host} did not speak HTTP as it should: {type(error).__name__}")
        if self._head_size > _HEAD_MOST:
            self._fail("bad_response", f"{self._host} sent more than {_HEAD_MOST} bytes of header fields")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._everybody.discard(self)
        self.reusable = False
        if self._waiting is None:
            return
        if self._in_body and not self._framed and exc is None:  # RFC 9112 §6.3: its end is the end of the body
            self._answer()
        elif self._in_body:
            self._fail("bad_response", f"{self._host} hung up in the middle of its answer")
        else:
            self._fail("disconnected", f"{self._host} hung up without an answer")

    # -- httptools -------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        lowered = name.lower()
        if lowered == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif lowered in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self._in_body = self._parser.get_status_code() >= 200

    def on_body(self, data: bytes) -> None:
        if self._waiting is None:
            return
        self._body += data
        if len(self._body) > _DRAIN:
            self.reusable = False
            self._answer()

    def on_message_complete(self) -> None:
        if not self._in_body:  # RFC 9110 §15.2: an interim answer, others follow
            self._framed, self._retry_after = False, None
            return
        if self._waiting is None:  # a second answer to one question
            self.reusable = False
            return
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self._answer()
