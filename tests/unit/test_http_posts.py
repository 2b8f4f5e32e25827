"""What posts webhooks: answers of every form, connections that are kept or not, and servers that do not play fair."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
import uvloop

from laurel import http_posts
from laurel.http import AddressPolicy, FetchFailed, FetchRefused, GuardedClient, Posted

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))
OK = b"HTTP/1.1 204 No Content\r\n\r\n"

Run = Callable[[Coroutine[object, object, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """On both loops: their transports differ."""

    def on_loop(work: Coroutine[object, object, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(work, 30))

    return on_loop


class Server:
    """Answers each request with the next of `answers`, as these very bytes; None hangs up, "hold" says nothing."""

    def __init__(self, *answers: bytes | str | None, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.connections = 0
        self.requests: list[bytes] = []
        self.gone = asyncio.Event()
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer == "hold":
                    await reader.read()
                if not isinstance(answer, bytes):
                    break
                writer.write(answer)
                await writer.drain()
                if self.close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?x=1"
        try:
            yield self
        finally:
            server.close()


def _ask(run: Run, server: Server, work: Callable[[GuardedClient], Awaitable[object]], timeout: float = 10.0) -> None:
    async def whole() -> None:
        async with server.open(), GuardedClient(LOOPBACK, total_timeout=timeout) as client:
            await work(client)

    run(whole())


def _posting(
    run: Run, server: Server, times: int = 1, timeout: float = 10.0, headers: dict[str, str] | None = None
) -> list[Posted | FetchFailed]:
    got: list[Posted | FetchFailed] = []

    async def work(client: GuardedClient) -> None:
        for _ in range(times):
            try:
                got.append(await client.post(server.url, body=b'{"a":1}', headers=headers or {"webhook-id": "m"}))
            except FetchFailed as failed:
                got.append(failed)

    _ask(run, server, work, timeout)
    return got


def test_one_connection_serves_many_requests_and_each_holds_what_was_given(run: Run) -> None:
    server = Server(OK, OK, OK)
    assert [one.status for one in _posting(run, server, 3) if isinstance(one, Posted)] == [204, 204, 204]
    assert server.connections == 1
    start, _, rest = server.requests[0].partition(b"\r\n")
    head, _, body = rest.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
    assert (start, body) == (b"POST /hook?x=1 HTTP/1.1", b'{"a":1}')
    assert fields[b"Host"] == server.url.split("/")[2].encode()
    assert (fields[b"webhook-id"], fields[b"Content-Length"], fields[b"Accept-Encoding"]) == (b"m", b"7", b"identity")
    assert set(server.requests) == {server.requests[0]}


@pytest.mark.parametrize(
    ("answer", "status", "body", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", 200, b"hi!", True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, b"",
         True),
        (b"HTTP/1.1 410 Gone\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 410, b"x", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, 500, b"x" * 1024, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", False),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 301, b"", True),
    ],
)  # fmt: skip
def test_an_answer_is_read_to_its_end_and_the_connection_kept_where_it_can_be(
    run: Run, answer: bytes, status: int, body: bytes, kept: bool
) -> None:
    server = Server(answer, OK)
    first, second = _posting(run, server, 2)
    assert isinstance(first, Posted)
    assert isinstance(second, Posted)
    assert (first.status, first.body_start, second.status) == (status, body, 204)
    assert server.connections == (1 if kept else 2)


def test_a_body_without_a_length_ends_with_the_connection(run: Run) -> None:
    (posted,) = _posting(run, Server(b"HTTP/1.1 200 OK\r\n\r\nto the end", close=True))
    assert isinstance(posted, Posted)
    assert (posted.status, posted.body_start) == (200, b"to the end")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, "disconnected"),
        (b"HTTP/1.1 200", "disconnected"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "bad_response"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 10, "disconnected"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad_response"),
    ],
)
def test_what_is_no_answer_is_a_failure_with_a_name_and_the_connection_is_gone(
    run: Run, answer: bytes | None, code: str
) -> None:
    server = Server(answer, close=True)
    (failed,) = _posting(run, server)
    assert isinstance(failed, FetchFailed)
    assert failed.code == code
    assert "127.0.0.1" in failed.detail


def test_a_server_that_says_nothing_is_left_at_the_deadline_and_hung_up_on(run: Run) -> None:
    server = Server("hold")

    async def work(client: GuardedClient) -> None:
        with pytest.raises(FetchFailed, match="timeout"):
            await client.post(server.url, body=b"", headers={})
        await server.gone.wait()

    _ask(run, server, work, timeout=0.3)


def test_a_kept_connection_that_the_server_closes_or_talks_on_is_not_used_again(run: Run) -> None:
    server = Server(OK, OK, close=True)

    async def closed(client: GuardedClient) -> None:
        await client.post(server.url, body=b"", headers={})
        await server.gone.wait()
        await asyncio.sleep(0.05)  # until its FIN was read; written into earlier, the request would only fail
        await client.post(server.url, body=b"", headers={})

    _ask(run, server, closed)
    assert server.connections == 2


def test_idle_connections_are_hung_up_on_after_a_while(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_posts, "KEEP_ALIVE_S", 0.05)
    server = Server(OK)

    async def work(client: GuardedClient) -> None:
        await client.post(server.url, body=b"", headers={})
        await server.gone.wait()

    _ask(run, server, work)


def test_a_header_cannot_end_early(run: Run) -> None:
    server = Server(OK)

    async def work(client: GuardedClient) -> None:
        for hostile in ("a\r\nHost: other", "a\nb", "a\rb", "\r\n"):
            with pytest.raises(FetchFailed, match="bad_response"):
                await client.post(server.url, body=b"", headers={"webhook-id": hostile})
        for port in (1, 0):
            with pytest.raises(FetchRefused):
                await client.post(f"http://127.0.0.1:{port}/", body=b"", headers={})

    _ask(run, server, work)
    assert server.connections == 0


async def test_every_new_connection_looks_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the resolver let an address through, it is not dialled."""
    from laurel.http import _GuardedResolver

    async def careless(self: _GuardedResolver, host: str, port: int) -> list[str]:
        return ["127.0.0.1", "::1"]

    monkeypatch.setattr(_GuardedResolver, "addresses", careless)
    server = Server(OK)
    async with server.open(), GuardedClient(AddressPolicy()) as client:
        port = server.url.split(":")[2].partition("/")[0]
        with pytest.raises(FetchRefused) as refused:
            await client.post(f"https://public.example:{port}/", body=b"", headers={})
    assert refused.value.code == "address_refused"
    assert server.connections == 0


async def test_a_name_is_resolved_and_tls_and_a_refused_connection_have_names() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return {"local.example": ["127.0.0.1"], "inside.example": ["127.0.0.1", "10.0.0.1"]}.get(host, [])

    server = Server(OK)
    async with GuardedClient(LOOPBACK, resolve=resolve, total_timeout=5.0) as client:
        async with server.open():
            port = server.url.split(":")[2].partition("/")[0]
            assert (await client.post(f"http://local.example:{port}/", body=b"", headers={})).status == 204
            with pytest.raises(FetchRefused):
                await client.post(f"http://inside.example:{port}/", body=b"", headers={})
        async with await asyncio.start_server(lambda _, writer: writer.write(b"220 mail\r\n"), "127.0.0.1", 0) as plain:
            port = plain.sockets[0].getsockname()[1]
            with pytest.raises(FetchFailed) as tls:
                await client.post(f"https://local.example:{port}/", body=b"", headers={})
        with pytest.raises(FetchFailed) as unresolvable:
            await client.post("https://nowhere.example/", body=b"", headers={})
        with pytest.raises(FetchFailed) as connect:
            await client.post("http://127.0.0.1:1025/", body=b"", headers={})
    assert (tls.value.code, unresolvable.value.code, connect.value.code) == ("tls", "unresolvable", "connect")
