"""Connections of the PostgreSQL bus: deadlines, lock keys, and the one place that says which errors mean "later"."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from hashlib import blake2b
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from laurel.bus import BusError, BusUnavailable
from laurel.database import KEEPALIVE, close_quietly, connecting

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# Which errors mean "not now": the connection, the server's own state (SQLSTATE classes 08, 53, 57), or a
# transaction that lost against another one (class 40). Everything else is a mistake and says so.
UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    EOFError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # its deadline met its answer, as after a SIGSTOP: of no use any more
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
)

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}\Z")


def split_url(url: str) -> tuple[str, str]:
    """The DSN for asyncpg and the bus's schema (``?bus_schema=``, default ``bus``)."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    schema = options.pop("bus_schema", "bus")
    if not _SCHEMA_NAME.match(schema):
        raise ValueError(f"bus_schema={schema!r} in the bus URL: use lower-case letters, digits and _")
    return urlunsplit(parts._replace(query=urlencode(options))), schema


def advisory_key(*parts: str) -> int:
    """A signed 64-bit key for PostgreSQL's advisory locks; 64 bits make an accidental clash improbable."""
    digest = blake2b("\x00".join(parts).encode(), digest_size=8, person=b"laurel-bus").digest()
    return int.from_bytes(digest, "big", signed=True)


# End the session that holds the advisory lock $1. Needs that session's role, or pg_signal_backend.
FENCE = """
    SELECT pg_terminate_backend(l.pid) FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ((l.classid::bigint << 32) | l.objid::bigint) = $1
"""


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what the driver raises into BusUnavailable (later) or BusError (never)."""
    try:
        yield
    except TimeoutError as error:
        raise BusUnavailable(f"PostgreSQL bus, {doing}: no answer within the request timeout") from error
    except UNAVAILABLE as error:
        raise BusUnavailable(f"PostgreSQL bus, {doing}: {type(error).__name__}: {error}") from error
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError) as error:
        raise BusError(
            f"PostgreSQL bus, {doing}: {error}; the bus's tables are made by ensure_topics: call it first"
        ) from error
    except asyncpg.PostgresError as error:
        raise BusError(f"PostgreSQL bus, {doing}: {type(error).__name__}: {error}") from error


async def open_connection(dsn: str, *, name: str, timeout: float, settings: Mapping[str, str]) -> Connection:
    """Dial within ``timeout`` seconds. ``settings`` are session settings on top of the bus's own."""
    with connecting():
        return await asyncpg.connect(
            dsn,
            timeout=timeout,
            command_timeout=timeout,
            server_settings={
                "application_name": name[:63],
                "default_transaction_isolation": "read committed",
                "jit": "off",
                **KEEPALIVE,
                **settings,
            },
        )


class Session:
    """One connection that is dialled when needed and again after a failure. Its users take turns."""

    def __init__(self, dsn: str, *, name: str, timeout: float, settings: Mapping[str, str] | None = None) -> None:
        self._dsn = dsn
        self._name = name
        self._timeout = timeout
        self._settings = dict(settings or {})
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._refused = ""  # why it could not be dialled the last time
        self._closed = False

    async def prepare(self, connection: Connection) -> None:
        """What a new connection needs before its first use; a subclass may say."""

    @contextlib.asynccontextmanager
    async def use(self, doing: str) -> AsyncIterator[Connection]:
        """The connection, alone, for at most the timeout. Any error throws the connection away."""
        with translated(doing):
            try:
                async with asyncio.timeout(self._timeout), self._turn:
                    if self._closed:
                        raise BusError(f"PostgreSQL bus, {doing}: it was closed before")
                    connection = await self._dial()
                    try:
                        yield connection
                    except BaseException:
                        self._drop()
                        raise
            except TimeoutError:
                if not self._refused:
                    raise
                raise ConnectionError(f"{self._refused}, for {self._timeout:g} s") from None

    async def _dial(self) -> Connection:
        """Try until the deadline of the caller: a restart of the server costs a moment, not an error."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        pause = 0.05
        while True:
            connection: Connection | None = None
            try:
                connection = await open_connection(
                    self._dsn, name=self._name, timeout=self._timeout, settings=self._settings
                )
                await self.prepare(connection)
            except UNAVAILABLE as error:
                self._refused = f"{type(error).__name__}: {error}"
                if connection is not None:
                    connection.terminate()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            except BaseException:
                if connection is not None:
                    connection.terminate()
                raise
            else:
                self._connection, self._refused = connection, ""
                return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await close_quietly(connection)
