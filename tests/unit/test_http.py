"""The guarded client: what must never be dialled, what a server may do to us, and that honest requests work."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network

import pytest
from aiohttp import web

from laurel.http import AddressPolicy, FetchFailed, FetchRefused, GuardedClient
from laurel.http_addresses import parse_url

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))


class Listener:
    """A TCP listener on loopback that counts who connects."""

    def __init__(self) -> None:
        self.accepted = 0
        self.port = 0

    async def _take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Listener]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def names(table: dict[str, list[str]]) -> Callable[[str, int], Awaitable[list[str]]]:
    async def resolve(host: str, port: int) -> list[str]:
        return table.get(host, [])

    return resolve


# --- addresses ----------------------------------------------------------------------------------------------

REFUSED_ADDRESSES = (
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.1", "192.0.0.192", "192.0.2.1", "198.51.100.7",
    "203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "168.63.129.16", "::", "::1", "::7f00:1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1",
    "::ffff:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:0:7f00:1::", "2001:20::1", "2001:2::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "fc00::1", "fd12:3456::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fe80::1%1", "fec0::1", "feff::1",
    "ff02::1", "5f00::1", "4000::1", "2a00::1%2", "nonsense", "", "127.1", "0x7f.0.0.1", "0177.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(FetchRefused) as refused:
        AddressPolicy().check(address)
    assert refused.value.code == "address_refused"


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2a00::1"])
def test_a_public_address_passes(address: str) -> None:
    AddressPolicy().check(address)
    AddressPolicy().check(ipaddress.ip_address(address))


def test_the_operator_may_allow_networks_and_no_more_than_those() -> None:
    policy = AddressPolicy.parse(" 10.1.0.0/16, ::1/128 ,")
    policy.check("10.1.2.3")
    policy.check("::1")
    for other in ("10.2.0.1", "127.0.0.1", "::ffff:10.1.2.3", "fe80::1"):
        with pytest.raises(FetchRefused):
            policy.check(other)
    with pytest.raises(FetchRefused):
        policy.only_allowed().check("8.8.8.8")
    with pytest.raises(ValueError, match=r"10\.1\.2\.3/16"):
        AddressPolicy.parse("10.1.2.3/16")


# --- URLs ---------------------------------------------------------------------------------------------------

HOSTILE_URLS = (
    # loopback in all its spellings
    "https://127.0.0.1:{port}/", "https://127.1:{port}/", "https://127.0.1:{port}/", "https://0x7f.1:{port}/",
    "https://0x7f000001:{port}/", "https://0X7F000001:{port}/", "https://2130706433:{port}/",
    "https://017700000001:{port}/", "https://0177.0.0.1:{port}/", "https://0x7f.0x0.0x0.0x1:{port}/",
    "https://127.0.0.1.:{port}/", "https://00000127.0.0.1:{port}/", "https://127.0.0.0x1:{port}/",
    "https://0:{port}/", "https://0.0.0.0:{port}/", "https://0x:{port}/", "https://[::1]:{port}/",
    "https://[::]:{port}/", "https://[0:0:0:0:0:0:0:1]:{port}/", "https://[::ffff:127.0.0.1]:{port}/",
    "https://[::ffff:7f00:1]:{port}/", "https://[::127.0.0.1]:{port}/", "https://[64:ff9b::7f00:1]:{port}/",
    "https://[2002:7f00:1::]:{port}/", "https://[fe80::1%25lo]:{port}/", "https://[fe80::1%lo]:{port}/",
    "https://[::1%25lo]:{port}/", "https://[fec0::1]:{port}/", "https://[fd00:ec2::254]:{port}/",
    # spelled so that normalisation makes it so (full-width, circled, ideographic dots)
    "https://１２７.0.0.1:{port}/", "https://①②⑦.0.0.1:{port}/", "https://127。0。0。1:{port}/",
    "https://１２７．０．０．１:{port}/", "https://ｌｏｃａｌｈｏｓｔ:{port}/", "https://⑯⑨.254.169.254/",
    # names that resolve to it
    "https://localhost:{port}/", "https://LOCALHOST:{port}/", "https://localhost.:{port}/",
    "https://inside.example:{port}/", "https://both.example:{port}/", "https://mapped.example:{port}/",
    "https://metadata.example/latest/meta-data/", "https://169.254.169.254/latest/meta-data/",
    "https://[::ffff:169.254.169.254]/", "https://2852039166/latest/", "https://100.100.100.200/", "https://192.0.0.192/",
    # userinfo, and hosts that look like others
    "https://user@127.0.0.1:{port}/", "https://user:secret@localhost:{port}/", "https://example.com@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}#@example.com/", "https://127.0.0.1:{port}?@example.com/", "https://@127.0.0.1:{port}/",
    "https://example.com:443@127.0.0.1:{port}/", "https://example.com\\@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}\\.example.com/", "https://example.com%2f@127.0.0.1:{port}/",
    "https://127.0.0.1%2eexample.com:{port}/", "https://127.0.0.1%00.example.com:{port}/",
    # schemes
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://inside.example:{port}/", "HTTP://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/_x", "unix:///tmp/x", "ws://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/", "127.0.0.1:{port}", "javascript:alert(1)", "data:text/plain,x", "dict://127.0.0.1:{port}/",
    # ports
    "https://public.example:22/", "https://public.example:25/", "https://public.example:0/", "https://public.example:99999/",
    "https://public.example:-1/", "https://public.example:8o/", "https://public.example:١/",
    # no URLs at all
    "", " ", "https://", "https:///x", "https://?x", "https://#x", "https:127.0.0.1:{port}/",
    "https:/127.0.0.1:{port}/",
    "https://exa mple.example/", " https://127.0.0.1:{port}/", "https://127.0.0.1:{port}/ x", "https://a\tb.example/",
    "https://a\r\nX-Evil: 1/", "https://\x00127.0.0.1:{port}/", "https://[127.0.0.1]:{port}/", "https://[::1:{port}/",
    "https://::1:{port}/", "https://[v1.fe80]:{port}/", "https://.example.com/", "https://a..b.example/",
    "https://-a.example/", "https://a-.example/", "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 130 + "example/",
    "https://\ud800.example/", "https://a,b.example/", "https://a;b.example/", "https://a_b!.example/",
    "https://public.example/" + "x" * 3000,
)  # fmt: skip

RESOLVER = names(
    {
        "localhost": ["127.0.0.1"],
        "inside.example": ["127.0.0.1"],
        "both.example": ["93.184.215.14", "127.0.0.1"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "metadata.example": ["169.254.169.254"],
        "public.example": ["93.184.215.14"],
    }
)


@pytest.mark.parametrize("form", HOSTILE_URLS, ids=lambda url: ascii(url)[:50])
async def test_a_hostile_url_is_refused_and_nobody_is_dialled(form: str) -> None:
    async with Listener().open() as listener, GuardedClient(AddressPolicy(), resolve=RESOLVER) as client:
        url = form.replace("{port}", str(listener.port))
        with pytest.raises(FetchRefused):
            await client.check(url)
        with pytest.raises(FetchRefused):
            await client.get(url, accept="*/*")
        with pytest.raises(FetchRefused):
            await client.post(url, body=b"{}", headers={})
        assert listener.accepted == 0


def test_there_are_enough_hostile_forms() -> None:
    assert len(set(HOSTILE_URLS)) >= 60


async def test_plain_http_to_the_public_needs_permission() -> None:
    async with GuardedClient(AddressPolicy(), resolve=RESOLVER) as client:
        with pytest.raises(FetchRefused) as refused:
            await client.check("http://public.example/")
        assert refused.value.code == "scheme_refused"
        assert await client.check("http://public.example/x#y", allow_http=True) == "http://public.example/x"
        assert await client.check("https://public.example/") == "https://public.example/"


async def test_an_allowed_network_takes_plain_http_but_a_name_that_also_points_elsewhere_does_not() -> None:
    async with GuardedClient(LOOPBACK, resolve=RESOLVER) as client:
        await client.check("http://inside.example:8080/")
        await client.check("https://both.example:8080/")
        with pytest.raises(FetchRefused):
            await client.check("http://both.example:8080/")


def test_an_international_name_is_asked_in_its_ascii_form() -> None:
    assert parse_url("https://Bücher.example/ß?q=ü").raw_host == "xn--bcher-kva.example"


# --- rebinding ----------------------------------------------------------------------------------------------


async def test_a_name_that_answers_differently_the_second_time_is_not_asked_twice() -> None:
    async with Listener().open() as listener:
        answers = [["93.184.215.14"], ["127.0.0.1"]]
        asked = 0

        async def rebinding(host: str, port: int) -> list[str]:
            nonlocal asked
            asked += 1
            return answers[min(asked, len(answers)) - 1]

        policy = AddressPolicy()
        async with GuardedClient(policy, resolve=rebinding, total_timeout=2.0) as client:
            await client.check(f"https://rebind.example:{listener.port}/")
            assert asked == 1
            for _ in range(3):  # every further lookup says 127.0.0.1: the very answer that would be dialled is refused
                with pytest.raises(FetchRefused):
                    await client.get(f"https://rebind.example:{listener.port}/", accept="*/*")
        assert asked == 4
        assert listener.accepted == 0


async def test_the_socket_looks_at_the_address_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the resolver let an address through, it is not dialled."""
    from laurel.http import _GuardedResolver

    async def careless(self: _GuardedResolver, host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    monkeypatch.setattr(_GuardedResolver, "addresses", careless)
    async with Listener().open() as listener, GuardedClient(AddressPolicy()) as client:
        with pytest.raises(FetchRefused) as refused:
            await client.get(f"https://public.example:{listener.port}/", accept="*/*")
        assert refused.value.code == "address_refused"
        assert listener.accepted == 0


async def test_one_lookup_serves_all_who_wait_for_the_name_and_outlives_who_gave_up() -> None:
    asked, release = 0, asyncio.Event()

    async def slow(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        await release.wait()
        return ["93.184.215.14"]

    async with GuardedClient(AddressPolicy(), resolve=slow) as client:
        checks = [asyncio.create_task(client.check("https://slow.example/")) for _ in range(10)]
        await asyncio.sleep(0)
        checks[0].cancel()
        await asyncio.sleep(0)
        release.set()
        results = await asyncio.gather(*checks, return_exceptions=True)
    assert asked == 1
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == ["https://slow.example/"] * 9


# --- what a server may do to us -----------------------------------------------------------------------------


async def test_redirects_are_answers_and_are_not_followed() -> None:
    async with Listener().open() as inside:

        async def elsewhere(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": f"http://127.0.0.1:{inside.port}/"})

        async with serving(elsewhere) as base, GuardedClient(LOOPBACK) as client:
            assert (await client.get(base, accept="*/*")).status == 307
            assert (await client.post(base, body=b"{}", headers={})).status == 307
        assert inside.accepted == 0


async def test_the_environment_names_no_proxy_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Listener().open() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

        async def hello(request: web.Request) -> web.Response:
            return web.Response(text="direct")

        async with serving(hello) as base, GuardedClient(LOOPBACK) as client:
            assert (await client.get(base, accept="*/*")).body == b"direct"
        assert proxy.accepted == 0


async def test_the_deadline_covers_a_lookup_and_a_body_that_drips() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with GuardedClient(AddressPolicy(), resolve=never, total_timeout=0.1) as client:
        with pytest.raises(FetchFailed) as failed:
            await client.get("https://slow.example/", accept="*/*")
        assert failed.value.code == "timeout"

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    async with serving(dripping) as base, GuardedClient(LOOPBACK, total_timeout=0.3) as client:
        with pytest.raises(FetchFailed) as failed:
            await client.get(base, accept="*/*")
        assert failed.value.code == "timeout"


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_is_cut_off_at_the_cap_also_when_it_unfolds(compressed: bool) -> None:
    bomb = gzip.compress(b"\0" * (50 << 20)) if compressed else b"\0" * (2 << 20)

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"} if compressed else {})

    async with serving(large) as base, GuardedClient(LOOPBACK, max_bytes=1 << 20) as client:
        with pytest.raises(FetchFailed) as failed:
            await client.get(base, accept="*/*")
    assert failed.value.code == "too_large"


async def test_a_body_of_exactly_the_cap_passes_plain_and_compressed() -> None:
    body = bytes(range(256)) * 4

    async def exact(request: web.Request) -> web.Response:
        if request.path == "/gzip":
            return web.Response(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})
        return web.Response(body=body)

    async with serving(exact) as base, GuardedClient(LOOPBACK, max_bytes=len(body)) as client:
        assert (await client.get(base, accept="*/*")).body == body
        assert (await client.get(base + "/gzip", accept="*/*")).body == body


@pytest.mark.parametrize(
    ("encoding", "body"), [("br", b"x"), ("deflate", zlib.compress(b"x")), ("gzip", b"no gzip"), ("gzip", b"\x1f\x8b")]
)
async def test_an_encoding_that_we_did_not_ask_for_or_that_is_broken_is_a_failure(encoding: str, body: bytes) -> None:
    async def odd(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "gzip"
        return web.Response(body=body, headers={"Content-Encoding": encoding})

    async with serving(odd) as base, GuardedClient(LOOPBACK) as client:
        with pytest.raises(FetchFailed) as failed:
            await client.get(base, accept="*/*")
    assert failed.value.code == "bad_encoding"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "disconnected"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad_response"),
    ],
)
async def test_what_is_not_http_is_a_failure_with_a_name(answer: bytes, code: str) -> None:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server, GuardedClient(LOOPBACK, total_timeout=2.0) as client:
        with pytest.raises(FetchFailed) as failed:
            await client.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", accept="*/*")
    assert failed.value.code == code


async def test_nobody_there_and_no_such_name_and_no_certificate_have_names() -> None:
    async with Listener().open() as listener:
        port = listener.port
        async with GuardedClient(LOOPBACK, resolve=names({"local.example": ["127.0.0.1"]})) as client:
            with pytest.raises(FetchFailed) as tls:
                await client.get(f"https://local.example:{port}/", accept="*/*")
            with pytest.raises(FetchFailed) as unresolvable:
                await client.get("https://nowhere.example/", accept="*/*")
    async with GuardedClient(LOOPBACK) as client:
        with pytest.raises(FetchFailed) as connect:
            await client.get(f"http://127.0.0.1:{port}/", accept="*/*")
    codes = (tls.value.code, unresolvable.value.code, connect.value.code)
    assert codes == ("tls", "unresolvable", "connect")


# --- honest requests ----------------------------------------------------------------------------------------


async def test_a_get_says_what_it_wants_and_gives_what_it_got() -> None:
    async def document(request: web.Request) -> web.Response:
        assert request.headers["Accept"] == "application/did+json"
        return web.Response(
            body=b'{"id":"did:web:x"}', content_type="application/did+json", headers={"Set-Cookie": "a=b"}
        )

    seen_cookies = []

    async def remember(request: web.Request) -> web.Response:
        seen_cookies.append(request.headers.get("Cookie"))
        return await document(request)

    async with serving(remember) as base, GuardedClient(LOOPBACK) as client:
        for _ in range(2):
            fetched = await client.get(base + "/did.json", accept="application/did+json")
    assert (fetched.status, fetched.content_type, fetched.body) == (200, "application/did+json", b'{"id":"did:web:x"}')
    assert fetched.url == base + "/did.json"
    assert seen_cookies == [None, None]


async def test_a_post_sends_these_bytes_and_headers_and_reads_a_little_of_the_answer() -> None:
    got: list[tuple[bytes, str]] = []

    async def receive(request: web.Request) -> web.Response:
        got.append((await request.read(), request.headers["webhook-id"]))
        if request.path == "/busy":
            return web.Response(status=503, headers={"Retry-After": "17"}, body=b"x" * 100_000)
        return web.Response(status=202, text="thanks")

    async with serving(receive) as base, GuardedClient(LOOPBACK) as client:
        posted = await client.post(base + "/", body=b"{}", headers={"webhook-id": "m1"})
        busy = await client.post(base + "/busy", body=b"[]", headers={"webhook-id": "m2"})
    assert got == [(b"{}", "m1"), (b"[]", "m2")]
    assert (posted.status, posted.retry_after_s, posted.body_start) == (202, None, b"thanks")
    assert (busy.status, busy.retry_after_s, busy.body_start) == (503, 17.0, b"x" * 1024)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("0", 0, 0),
        ("120", 120, 120),
        ("in an hour", 3500, 3601),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("99999999999999999999", 999_999_999, 999_999_999),
    ],
)
async def test_retry_after_is_understood(header: str, least: float, most: float) -> None:
    if header == "in an hour":
        header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)

    async def busy(request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": header})

    async with serving(busy) as base, GuardedClient(LOOPBACK) as client:
        posted = await client.post(base, body=b"", headers={})
    assert posted.retry_after_s is not None
    assert least <= posted.retry_after_s <= most


@pytest.mark.parametrize("header", ["soon", "-1", "1.5", "", "١٢", "Wed, 99 Oct 9999 99:99:99 GMT"])
async def test_a_retry_after_that_is_nonsense_is_none(header: str) -> None:
    async def busy(request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": header})

    async with serving(busy) as base, GuardedClient(LOOPBACK) as client:
        assert (await client.post(base, body=b"", headers={})).retry_after_s is None
