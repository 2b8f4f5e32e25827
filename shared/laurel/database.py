"""PostgreSQL: one pool a role, one transaction at a time, every row under a tenant.

Each service has a schema and two roles: `laurel_<service>` (the API) sees the rows of the tenants that its transaction
names; `laurel_<service>_worker` (relay, consumers, workers) sees all. Neither owns a table nor bypasses row-level
security, which is forced on every table.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy
from asyncpg.protocol import protocol

from laurel import watchdog

if TYPE_CHECKING:
    Transaction: TypeAlias = PoolConnectionProxy[asyncpg.Record]
else:
    Transaction = PoolConnectionProxy  # asyncpg's classes are generic in its stubs only

log = structlog.get_logger()

# Of each value of an array asyncpg asks whether it is an array itself, by the abstract classes of these names: half of
# what a value costs. These are the arrays that we hand in, and asking for them is one comparison each.
_ARRAYS: tuple[type, ...] = (list, tuple, set, frozenset, type({}.keys()), type({}.values()))
for _name in ("IterableABC", "SizedABC"):
    setattr(protocol, _name, _ARRAYS)

# What asyncpg raises when the server is away, restarting, overloaded or told us to try again: "not now", never "never".
UNAVAILABLE: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a deadline met its answer, as after a SIGSTOP: of no use any more
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
)

# Seconds, at the server's end; without effect on a Unix socket. A client whose machine is gone says no goodbye: for two
# hours the server would keep its session, and with it the shards and partitions that it has locked.
KEEPALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3"}

_CLOSE_S = 2.0
# An AttributeError is asyncpg's where a connection is cut between two messages of a statement.
_CUT: tuple[type[BaseException], ...] = (*UNAVAILABLE, AttributeError)
_RELEASE_S = 2.0  # nothing is sent at a release, but where a statement was cancelled
_PING_S = 2.0
BEGIN_WITHIN_S = 8.0  # of a pool that serves requests: whoever asks is told within ten seconds that nobody answers


def is_unavailable(error: BaseException) -> bool:
    """Whether `error` says that the database is out of reach for now.

    asyncpg's InterfaceError also stands for values that do not fit a column (then it is a ValueError too): waiting
    does not mend those.
    """
    return isinstance(error, UNAVAILABLE) and not isinstance(error, ValueError)


class Given(NamedTuple):
    """Rows for a statement. table: for its FROM, with the row's `place` from 1 beside the columns; names: of these."""

    table: str
    names: str
    arguments: list[Any]


def as_table(columns: str, rows: Iterable[Sequence[Any]], *, after: int = 0) -> Given:
    """Rows (at least one) as a table `given`.

    columns: names and types, "credential_id uuid, tenant_id text"; the first is an id. The type "words" is a text[]
    that is handed in as one text, with blanks between. after: how many parameters the statement has before these.

    What a batch has in common (its tenant, its achievement, what is NULL) is sent once: for each value of an array
    asyncpg takes a microsecond, and the server half of one. UUIDs go faster as text.
    """
    first, *rest = zip(*rows, strict=True)
    common = tuple(one[0] == one[-1] and one.count(one[0]) == len(one) for one in rest)
    arguments = [first, *(one[0] if same else one for one, same in zip(rest, common, strict=True))]
    return Given(*_as_table(columns, common, after), arguments)


@functools.lru_cache(maxsize=256)
def _as_table(columns: str, common: tuple[bool, ...], after: int) -> tuple[str, str]:
    names, shown, arrays, unnested = [], [], [], []
    for number, (column, same) in enumerate(zip(columns.split(","), (False, *common), strict=True), after + 1):
        name, kind = column.split()
        sent = "text" if kind == "words" else kind
        value = f"${number}::{sent}" if same else name
        names.append(name)
        shown.append(f"string_to_array({value}, ' ') AS {name}" if kind == "words" else f"{value} AS {name}")
        if not same:
            arrays.append(f"${number}::{sent}[]")
            unnested.append(name)
    source = f"unnest({', '.join(arrays)}) WITH ORDINALITY AS v ({', '.join(unnested)}, place)"
    return f"(SELECT {', '.join(shown)}, place FROM {source}) AS given", ", ".join(names)  # noqa: S608 - names of ours


def affected(tag: str) -> int:
    """How many rows a statement has written, by its command tag: "INSERT 0 500"."""
    return int(tag.rpartition(" ")[2])


@contextmanager
def connecting() -> Iterator[None]:
    """While connecting, SQLSTATE 55000 says that no connections are taken for now; anywhere else it is a bug."""
    try:
        yield
    except asyncpg.ObjectNotInPrerequisiteStateError as error:
        raise ConnectionError(str(error)) from error


async def close_quietly(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Say goodbye within 2 s, or hang up."""
    await _quietly(connection.close, connection.terminate, within=_CLOSE_S)


async def _quietly(close: Callable[[], Awaitable[None]], hang_up: Callable[[], None], *, within: float) -> None:
    """Close in time or hang up; what fails in that says nothing new.

    asyncpg tells by a CancelledError of its own that it gave up. One that is meant for us goes on: a loop that forgot
    it would never end.
    """
    task = asyncio.current_task()
    assert task is not None
    cancelling = task.cancelling()
    try:
        async with asyncio.timeout(within):
            await close()
    except (Exception, asyncio.CancelledError) as error:
        with suppress(Exception):
            hang_up()
        if task.cancelling() > cancelling:
            raise asyncio.CancelledError from error


@asynccontextmanager
async def transaction_on(connection: Transaction | asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[None]:
    """A transaction, within another one a savepoint: what asyncpg's does, and it ends.

    asyncpg's waits with its ROLLBACK for a statement that was cancelled, for as long as a command may take. A server
    that does not answer soon is cut off, by which it rolls back as well.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        try:
            async with asyncio.timeout(_RELEASE_S):
                await transaction.rollback()
        except UNAVAILABLE:
            with suppress(asyncpg.InterfaceError):  # a savepoint inside has cut it off before
                connection.terminate()
        raise
    await transaction.commit()


T = TypeVar("T")


async def insert_new(tx: Transaction, run: Callable[..., Awaitable[T]], statement: str, *arguments: Any) -> T:
    """An INSERT … ON CONFLICT … DO NOTHING of rows that are hardly ever there already. run: tx.execute or tx.fetch.

    It is tried without its clause first: a row that may have to step aside is written as a guess and then confirmed,
    which is a seventh of what it costs. Where one is there after all (a redelivery), PostgreSQL logs an error of a
    duplicate key, and all are inserted as the statement says.
    """
    try:
        async with transaction_on(tx):
            return await run(_without_clause(statement), *arguments)
    except asyncpg.UniqueViolationError:
        return await run(statement, *arguments)


@functools.lru_cache(maxsize=256)
def _without_clause(statement: str) -> str:
    return re.sub(r"ON CONFLICT (?:\([a-z_, ]+\) )?DO NOTHING", "", statement)


class _Deadline:
    """Hangs up on a server that lets it pass. Whatever waits for an answer then is told so at once.

    Nothing is cancelled: asyncpg would ask for that over another connection, and wait for its end for as long as a
    command may take. A server that stands still takes no question back either.
    """

    __slots__ = ("_connection", "_timer", "passed")

    def __init__(self, connection: Transaction, at: float | None) -> None:
        """at: in the time of the event loop; None: never by itself."""
        self._connection = connection
        self._timer = None if at is None else asyncio.get_running_loop().call_at(at, self.hang_up)
        self.passed = False

    def hang_up(self) -> None:
        self.passed = True
        with suppress(asyncpg.InterfaceError):  # it has gone back to the pool, or was cut off before
            self._connection.terminate()

    def met(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Database:
    """A pool for one service and one role. Open with `async with Database(...) as database`.

    begin_within: seconds until a transaction has begun (a connection, BEGIN), and for a `fetch` whole; then it fails
    with a TimeoutError, and nobody waits for the server any longer. None: as long as connecting and a command may take.
    """

    def __init__(
        self,
        dsn: str,
        *,
        schema: str,
        size: int = 8,
        connect_timeout: float = 10.0,
        command_timeout: float = 60.0,
        begin_within: float | None = None,
    ) -> None:
        self.dsn = dsn
        self.schema = schema
        self._size = size
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._begin_within = begin_within
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._under_way: set[_Deadline] = set()
        self.waiting = 0  # of our callers, for a connection

    async def __aenter__(self) -> Database:
        self._pool = await asyncpg.create_pool(
            min_size=0,
            max_size=self._size,
            max_inactive_connection_lifetime=60.0,
            command_timeout=self._command_timeout,
            reset=_nothing_to_reset,
            **connect_arguments(self.dsn, schema=self.schema, timeout=self._connect_timeout),
        )
        return self

    async def __aexit__(self, failure: object, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            # What has failed may be the server itself: it gets no time to say goodbye.
            await _quietly(pool.close, pool.terminate, within=5.0 if failure is None else 0.5)

    @asynccontextmanager
    async def transaction(
        self, tenants: Iterable[str] = (), *, public_id: str = "", within: float | None = None
    ) -> AsyncIterator[Transaction]:
        """A transaction that sees the rows of `tenants`, and the public row that `public_id` names (if any).

        For a worker's role the policies admit every row; naming tenants is then not needed.
        within: seconds for all of it, after which it fails with a TimeoutError; default: what begin_within says.
        """
        async with (
            self._connection(self._begin_within if within is None else within) as (connection, deadline),
            transaction_on(connection),
        ):
            named = ",".join(tenants)
            if named or public_id:  # else nothing is set, which admits nothing: both end with their transaction
                await connection.execute(
                    "SELECT set_config('laurel.tenants', $1, true), set_config('laurel.public_id', $2, true)",
                    named,
                    public_id,
                )
            if within is None:
                deadline.met()
            yield connection
        watchdog.beat()

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of one statement that needs no transaction around it: it names the rows that it may see itself."""
        async with self._connection(self._begin_within) as (connection, _):
            return await connection.fetch(query, *arguments)

    @asynccontextmanager
    async def _connection(self, within: float | None) -> AsyncIterator[tuple[Transaction, _Deadline]]:
        """A connection, and the deadline of what is done on it: `within` seconds from now, with the wait for one."""
        if (pool := self._pool) is None:  # who asks while the process ends is told to come again
            raise ConnectionError("the database is not open")
        until = None if within is None else asyncio.get_running_loop().time() + within
        patience = self._connect_timeout if within is None else min(within, self._connect_timeout)
        self.waiting += 1
        try:
            with connecting():
                connection = await pool.acquire(timeout=patience)
        finally:
            self.waiting -= 1
        deadline = _Deadline(connection, until)
        self._under_way.add(deadline)
        try:
            yield connection, deadline
        except _CUT as error:
            if deadline.passed:
                raise TimeoutError("PostgreSQL did not answer in time, and its connection was cut") from error
            raise
        finally:
            self._under_way.discard(deadline)
            deadline.met()
            with suppress(TimeoutError):  # of a server that does not take back a statement either: it is cut off
                await pool.release(connection, timeout=_RELEASE_S)

    def hang_up(self) -> None:
        """Cut every connection in use: the server gives no answer. Whoever waits for one gets a TimeoutError."""
        for deadline in list(self._under_way):
            deadline.hang_up()

    @asynccontextmanager
    async def session(self, *, timeout: float | None = None) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection of one's own, outside the pool: for advisory locks and LISTEN. Raises one of UNAVAILABLE.

        timeout: seconds to connect in; default: as the pool's.
        """
        with connecting():
            connection = await asyncpg.connect(
                command_timeout=self._command_timeout,
                **connect_arguments(self.dsn, schema=self.schema, timeout=timeout or self._connect_timeout),
            )
        try:
            yield connection
        finally:
            await close_quietly(connection)

    async def ping(self) -> None:
        """Raises one of UNAVAILABLE when the database does not answer within two seconds."""
        async with self._connection(_PING_S) as (connection, _):
            await connection.fetchval("SELECT 1")


async def _nothing_to_reset(_: object) -> None:
    """Instead of asyncpg's statement at each release, a round trip: what we set holds for a transaction alone.

    Listeners are dropped and an open transaction is rolled back all the same; session locks live in `session()`.
    """


def connect_arguments(dsn: str, *, schema: str, timeout: float) -> dict[str, Any]:
    """Arguments for asyncpg.connect and create_pool. A socket folder may stand in the URL's query as `host=/folder`."""
    parts = urlsplit(dsn)
    socket = parse_qs(parts.query).get("host", [None])[0]
    arguments: dict[str, Any] = {
        "dsn": dsn,
        "timeout": timeout,
        "server_settings": {
            "search_path": schema,
            "application_name": f"laurel-{schema}",
            "idle_in_transaction_session_timeout": "120000",
            "jit": "off",
            **KEEPALIVE,
        },
    }
    if socket is not None:
        arguments["host"] = socket
    return arguments
