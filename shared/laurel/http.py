"""Outgoing HTTP to addresses that others chose: webhooks, did:web documents, status lists. One guarded client.

How a request is kept away from our own network (the same numbers stand at the code):
 1. the URL: https, no userinfo, no numeric tricks in the host, a port that web servers use;
 2. the name is resolved once, and refused if any of its addresses is not public;
 3. the socket dials an address of that very answer, and looks at it once more before it connects: a name that
    answers differently the second time (DNS rebinding) is never asked a second time;
 4. redirects are not followed, proxies and .netrc of the environment are not used, cookies are not kept;
 5. one deadline covers everything from the lookup to the last byte, and the body is cut off at a size, also when it
    grows while it is decompressed.

aiohttp because its resolver and socket hooks are public, and because it is the fastest client that we measured. POST,
which webhooks do a million times, goes through http_posts.py, with the same steps 1 to 5.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Self

import aiohappyeyeballs
import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from laurel.http_addresses import AddressPolicy, FetchRefused, literal, parse_url
from laurel.http_posts import KEEP_ALIVE_S, FetchFailed, Origin, Posts
from laurel.plain_text import legible

__all__ = ["AddressPolicy", "FetchFailed", "FetchRefused", "Fetched", "GuardedClient", "Posted", "Resolve"]

USER_AGENT = "Laurel/1.0"
_LOOKUPS = 32  # names that may be looked up at the same time; a name that hangs holds one
_HAPPY_EYEBALLS_S = 0.25  # RFC 8305 §8: until the next address is tried beside the first

# (host, port) → the addresses as text. Injected by tests; the default asks the operating system.
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer to a GET, whatever its status (a redirect is an answer like any other). url: as it was asked."""

    status: int
    content_type: str
    body: bytes
    url: str


class Posted(msgspec.Struct, frozen=True, gc=False):
    """An answer to a POST. retry_after_s: what the server asks for (RFC 9110 §10.2.3); body_start: at most 1 KiB."""

    status: int
    retry_after_s: float | None
    body_start: bytes


async def _ask_system(host: str, port: int, executor: ThreadPoolExecutor) -> list[str]:
    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    return await asyncio.get_running_loop().run_in_executor(executor, look_up)


class _DialRefused(OSError):
    """An address that got past the resolver: aiohttp wraps it as a failed connect, we take it out again."""


class _GuardedResolver(AbstractResolver):
    """Step 2. One lookup at a time for one name, so that a name that hangs cannot take all the threads."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._running: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await self.addresses(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a name, each checked. Raises FetchRefused if any is refused, OSError if there are none."""
        running = self._running.get((host, port))
        if running is None:
            running = self._running[host, port] = asyncio.ensure_future(self._resolve(host, port))
            running.add_done_callback(lambda task: self._finished(host, port, task))
        # A caller that gives up must not end the lookup for the others that wait for it.
        addresses = await asyncio.shield(running)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address")
        for address in addresses:
            self._policy.check(address)
        return addresses

    def _finished(self, host: str, port: int, task: asyncio.Task[list[str]]) -> None:
        self._running.pop((host, port), None)
        if not task.cancelled():
            task.exception()  # nobody may be waiting any more; an exception that nobody fetched is a warning

    async def close(self) -> None:
        for task in list(self._running.values()):
            task.cancel()


class GuardedClient:
    """An async context manager. One for each purpose: the deadline and the size cap hold for all its requests.

    policy: which addresses may be reached. http URLs (without TLS) are refused unless a call says `allow_http` or every
    address of the host lies in the policy's `allow_networks`: what stays in the operator's own network.
    total_timeout: seconds for one request, lookup and body included. max_bytes: of a fetched body, after decompression.
    resolve, tls: replaced in tests, or by an institution with its own certificate authority.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        total_timeout: float = 5.0,
        max_bytes: int = 1 << 20,
        user_agent: str = USER_AGENT,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._total_timeout = total_timeout
        self._max_bytes = max_bytes
        self._user_agent = user_agent
        self._resolve = resolve
        self._tls = tls
        self._executor: ThreadPoolExecutor | None = None
        # They differ in what they may reach: plain http goes to allowed networks alone, unless a call says otherwise.
        self._any: _Session | None = None
        self._inside: _Session | None = None
        # What needs no lookup is decided once for a URL: a worker posts to the same few again and again.
        self._prepared = lru_cache(maxsize=4096)(self._prepare)

    async def __aenter__(self) -> Self:
        resolve = self._resolve
        if resolve is None:
            executor = self._executor = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="laurel-dns")

            async def resolve(host: str, port: int) -> list[str]:
                return await _ask_system(host, port, executor)

        self._any = _Session(self._policy, resolve, self._tls, self._user_agent)
        self._inside = _Session(self._policy.only_allowed(), resolve, self._tls, self._user_agent)
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in (self._any, self._inside):
            if session is not None:
                await session.close()
        self._any = self._inside = None
        self._prepared.cache_clear()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def check(self, url: str, *, allow_http: bool = False) -> str:
        """Everything that a request would be refused for, without sending one (steps 1 and 2). Returns the URL as it
        will be asked. Raises FetchRefused; FetchFailed where the name cannot be resolved now."""
        parsed, session = self._prepared(url, allow_http)
        with _failures(parsed):
            async with asyncio.timeout(self._total_timeout):
                host, port = parsed.raw_host, parsed.port
                assert host is not None
                assert port is not None
                if literal(host) is None:
                    await session.resolver.addresses(host, port)
        return str(parsed)

    async def get(self, url: str, *, accept: str, allow_http: bool = False, max_bytes: int | None = None) -> Fetched:
        """Fetch a small document. max_bytes: of this one, instead of the client's. Raises FetchRefused, FetchFailed."""
        parsed, session = self._prepared(url, allow_http)
        headers = {"Accept": accept, "Accept-Encoding": "gzip"}
        with _failures(parsed):
            async with (
                asyncio.timeout(self._total_timeout),
                session.http.get(parsed, headers=headers, allow_redirects=False) as response,
            ):
                try:
                    body = await self._read(response, max_bytes or self._max_bytes)
                except BaseException:
                    response.close()  # the rest must not be read to keep the connection
                    raise
                return Fetched(response.status, response.headers.get("Content-Type", ""), body, str(parsed))

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], allow_http: bool = False) -> Posted:
        """Send a body once: no attempt is repeated here. Raises FetchRefused, FetchFailed."""
        parsed, session = self._prepared(url, allow_http)
        origin, head = session.post_to(parsed)
        with _failures(parsed):
            answered = await session.posts.post(origin, head, headers, body, within=self._total_timeout)
        return Posted(answered.status, _seconds(answered.retry_after), answered.body_start)

    def _prepare(self, url: str, allow_http: bool) -> tuple[URL, _Session]:
        if self._any is None or self._inside is None:
            raise RuntimeError("the client is not open: use `async with GuardedClient(...)`")
        parsed = parse_url(url)  # 1
        session = self._any if parsed.scheme == "https" or allow_http else self._inside
        address = literal(parsed.raw_host or "")
        if address is not None:  # no lookup will follow
            session.policy.check(address)
        return parsed, session

    async def _read(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:  # 5
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        inflate: Any = None
        if encoding in ("gzip", "x-gzip"):
            inflate = zlib.decompressobj(wbits=31)
        elif encoding not in ("identity", ""):
            raise FetchFailed("bad_encoding", f"the server answers in an encoding we did not ask for: {encoding[:40]}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            # max_length bounds what a bomb may unfold to; the next byte over the cap ends the matter.
            body += chunk if inflate is None else inflate.decompress(chunk, max_bytes + 1 - len(body))
            if len(body) > max_bytes:
                raise FetchFailed("too_large", f"the answer is larger than {max_bytes} bytes")
        if inflate is not None and not inflate.eof:
            raise FetchFailed("bad_encoding", f"the {encoding} stream ends too early")
        return bytes(body)


@lru_cache(maxsize=1)
def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Session:
    """What gets, and what posts; every connection of both passes one policy."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve, tls: ssl.SSLContext | None, user_agent: str) -> None:
        tls = _default_tls() if tls is None else tls
        self.policy = policy
        self.resolver = _GuardedResolver(policy, resolve)
        self.posts = Posts(self._connect, tls, user_agent)
        self.post_to = lru_cache(maxsize=4096)(self._post_to)
        connector = aiohttp.TCPConnector(
            resolver=self.resolver,
            socket_factory=self._dial,
            use_dns_cache=False,  # every new connection is checked anew
            ssl=tls,
            limit=0,  # callers bound their own concurrency
            keepalive_timeout=KEEP_ALIVE_S,
        )
        self.http = aiohttp.ClientSession(  # 4
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),  # asyncio.timeout in each call covers all phases
            headers={"User-Agent": user_agent},
        )

    def _dial(self, address: tuple[Any, ...]) -> socket.socket:  # 3
        family, kind, protocol, _, place = address
        try:
            self.policy.check(str(place[0]))
        except FetchRefused as error:
            raise _DialRefused(errno.EACCES, error.detail) from None
        return socket.socket(family=family, type=kind, proto=protocol)

    async def _connect(self, host: str, port: int) -> socket.socket:
        addresses = [host] if literal(host) is not None else await self.resolver.addresses(host, port)  # 2
        refused: list[_DialRefused] = []

        def dial(address: tuple[Any, ...]) -> socket.socket:
            try:
                return self._dial(address)
            except _DialRefused as error:
                refused.append(error)
                raise

        try:
            return await aiohappyeyeballs.start_connection(
                [_address_info(address, port) for address in addresses],
                happy_eyeballs_delay=_HAPPY_EYEBALLS_S,
                interleave=1,
                socket_factory=dial,
            )
        except OSError as error:
            if refused:
                raise FetchRefused("address_refused", f"{host}: {refused[0].strerror}") from None
            raise FetchFailed("connect", f"cannot connect to {host}: {_short(error)}") from error

    def _post_to(self, url: URL) -> tuple[Origin, bytes]:
        assert url.raw_host is not None
        assert url.port is not None
        return Origin(url.scheme, url.raw_host, url.port), self.posts.head(url)

    async def close(self) -> None:
        await self.posts.close()
        await self.http.close()
        await self.resolver.close()


def _address_info(address: str, port: int) -> tuple[int, int, int, str, tuple[Any, ...]]:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


class _failures:  # noqa: N801 - reads as a verb at the call: `with _failures(url):`
    """Turns what aiohttp and the network raise into our two errors, in words for an operator."""

    def __init__(self, url: URL) -> None:
        self._host = url.raw_host

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, (FetchRefused, FetchFailed)):
            return
        host = self._host
        refused = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
        if isinstance(refused, _DialRefused):
            raise FetchRefused("address_refused", f"{host}: {refused.strerror}") from None
        if isinstance(error, TimeoutError):
            raise FetchFailed("timeout", f"{host} did not answer completely in time") from None
        if isinstance(error, (aiohttp.ClientConnectorDNSError, socket.gaierror, UnicodeError)):
            raise FetchFailed("unresolvable", f"the name {host} cannot be resolved") from error
        if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
            raise FetchFailed("tls", f"no secure connection to {host}: {_short(error)}") from error
        if isinstance(error, aiohttp.ClientConnectorError):
            raise FetchFailed("connect", f"cannot connect to {host}: {_short(error.os_error)}") from error
        if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError)):
            raise FetchFailed("disconnected", f"{host} hung up: {_short(error)}") from error
        if isinstance(error, zlib.error):
            raise FetchFailed("bad_encoding", f"{host} sent a broken compressed body") from error
        if isinstance(error, (aiohttp.ClientError, OSError, ValueError)):
            raise FetchFailed("bad_response", f"{host} did not speak HTTP as it should: {_short(error)}") from error


def _short(error: BaseException) -> str:
    # May quote what a stranger's server sent: nothing in it may reach a terminal or a text column as a control.
    return legible((str(error) or type(error).__name__)[:200])


def _seconds(retry_after: str | None) -> float | None:
    """RFC 9110 §10.2.3: delay-seconds or an HTTP-date. Nonsense is None."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
