"""Events leave through here only: written in the transaction of the fact, relayed in order, deleted once acknowledged.

Rules that keep promise 2 (nothing lost, nothing reordered):
- the relay reads `ORDER BY id` from the start, never `id > cursor`: a row that commits late has a smaller id than one
  already sent, and a cursor would step over it;
- a shard (hash of the key) has one owner at a time: the holder of an advisory lock on the very connection that deletes;
- an owner whose process stands still (SIGSTOP, a paused container) holds its locks and moves nothing: the server
  ends its idle session, and a relay that stands by takes over;
- rows are deleted after the bus has acknowledged them; dying in between sends them again, which consumers absorb.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic

import asyncpg
import msgspec
import structlog

from laurel import envelope, telemetry
from laurel.bus import Bus, BusUnavailable, Producer, Record
from laurel.crash_points import reach
from laurel.database import UNAVAILABLE, Database, Transaction, as_table
from laurel.errors import Stuck
from laurel.events import Event
from laurel.ids import uuid7
from laurel.topics import route
from laurel.waiting import Backoff, first_of

log = structlog.get_logger()

SHARDS = 8
_OUT_OF_REACH: tuple[type[BaseException], ...] = (*UNAVAILABLE, BusUnavailable)
POLL_S = 0.2
LOOK_AT_LOCKS_S = 5.0


class LockLost(Stuck):
    """A relay's connection no longer holds the locks by which it owns its shards: another may own them, too."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """An event to send, and the trace that it continues (None: the current span's)."""

    event: Event
    traceparent: str | None = None


_ROW = (
    "event_id text, tenant_id text, shard smallint, topic text, key bytea, type text, occurred_at timestamptz, "
    "traceparent text, data bytea"
)


async def append(tx: Transaction, outgoing: Sequence[Outgoing | Event], *, now: datetime | None = None) -> None:
    """Write events to the outbox in the caller's transaction. The order of `outgoing` is kept per key."""
    if not outgoing:
        return
    occurred_at = now or datetime.now(UTC)
    current = telemetry.current_traceparent()
    rows: list[tuple[str, str, int, str, bytes, str, datetime, str | None, bytes]] = []
    for item in outgoing:
        event, traceparent = (item.event, item.traceparent) if isinstance(item, Outgoing) else (item, None)
        topic, key = route(event)
        shard = zlib.crc32(key) % SHARDS
        data = envelope.encode_data(event)
        trace = traceparent or current
        rows.append((uuid7(), event.tenant_id, shard, topic, key, event.type, occurred_at, trace, data))
    given = as_table(_ROW, rows)
    await tx.execute(
        f"INSERT INTO outbox ({given.names}) SELECT {given.names} FROM {given.table} ORDER BY place",  # noqa: S608
        *given.arguments,
    )
    await tx.execute("SELECT pg_notify(current_schema() || '_outbox', '')")


class Relay:
    """Moves one service's outbox to the bus. Several may run: each shard has one owner, the others stand by.

    idle_s: seconds without a statement after which the server takes an owner for dead. More than a send may take.
    """

    def __init__(
        self, database: Database, bus: Bus, *, service: str, batch_size: int = 1000, idle_s: float = 45.0
    ) -> None:
        self._database = database
        self._bus = bus
        self._service = service
        self._batch_size = batch_size
        self._idle_s = idle_s
        self._wake = asyncio.Event()
        self._backoff = Backoff()

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop`. Lost connections are taken up again with a back-off; rows wait meanwhile.

        Raises LockLost.
        """
        telemetry.count("laurel_relay_interrupted_total", 0, service=self._service)
        while not stop.is_set():
            try:
                async with (
                    self._database.session() as connection,
                    self._bus.producer(client_id=f"{self._service}-relay") as producer,
                ):
                    await self._relay(connection, producer, stop)
            except _OUT_OF_REACH as error:
                if isinstance(error, ValueError):
                    raise
                telemetry.count("laurel_relay_interrupted_total", service=self._service)
                log.warning(
                    "relay paused",
                    service=self._service,
                    reason=f"{type(error).__name__}: {error}",
                    seconds=self._backoff.seconds,
                )
                await self._backoff.wait(stop)

    async def _relay(
        self, connection: asyncpg.Connection[asyncpg.Record], producer: Producer, stop: asyncio.Event
    ) -> None:
        owned: list[int] = []
        await connection.execute("SELECT set_config('idle_session_timeout', $1, false)", f"{self._idle_s:g}s")
        await connection.add_listener(f"{self._database.schema}_outbox", lambda *_: self._wake.set())
        look_at = monotonic() + LOOK_AT_LOCKS_S
        while not stop.is_set():
            self._wake.clear()
            if len(owned) < SHARDS:
                owned = await self._acquire(connection, owned)
            if monotonic() >= look_at:
                await self._look_at_locks(connection, owned)
                look_at = monotonic() + LOOK_AT_LOCKS_S
            moved = await self._move(connection, producer, owned) if owned else 0
            self._backoff.worked()
            if moved < self._batch_size:
                await first_of(self._wake, stop, seconds=POLL_S)

    async def _acquire(self, connection: asyncpg.Connection[asyncpg.Record], owned: list[int]) -> list[int]:
        # A second relay is refused here until the first one's connection is gone: the lock lives and dies with it.
        free = await connection.fetch(
            "SELECT s FROM generate_series(0, $1 - 1) AS s WHERE NOT s = ANY ($2::int[]) "
            "AND pg_try_advisory_lock(hashtextextended(current_schema() || ':outbox:' || s, 0))",
            SHARDS, owned,
        )  # fmt: skip
        return sorted({*owned, *(row["s"] for row in free)})

    async def _look_at_locks(self, connection: asyncpg.Connection[asyncpg.Record], owned: list[int]) -> None:
        # A lock ends with its connection, and then so do we. A pooler that gives each statement another connection, or
        # somebody who unlocks by hand, takes it away without a word.
        held = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND granted"
        )
        if held < len(owned):
            raise LockLost(
                f"the relay of {self._service} holds {held} of its {len(owned)} locks: does a pooler in transaction "
                "mode stand before PostgreSQL? Relays need connections of their own"
            )

    async def _move(self, connection: asyncpg.Connection[asyncpg.Record], producer: Producer, owned: list[int]) -> int:
        rows = await connection.fetch(
            "SELECT id, topic, key, event_id, type, occurred_at, traceparent, data FROM outbox "
            "WHERE shard = ANY ($1::smallint[]) ORDER BY id LIMIT $2",
            owned, self._batch_size,
        )  # fmt: skip
        if not rows:
            return 0
        reach("outbox.read", self._service)
        source = f"/laurel/{self._service}"
        records = [
            Record(
                topic=row["topic"],
                key=row["key"],
                value=row["data"],
                headers=envelope.headers(
                    event_id=row["event_id"], event_type=row["type"], source=source,
                    time=row["occurred_at"], traceparent=row["traceparent"],
                ),
            )
            for row in rows
        ]  # fmt: skip
        await producer.send(records)
        reach("outbox.sent", self._service)
        await connection.execute("DELETE FROM outbox WHERE id = ANY ($1::bigint[])", [row["id"] for row in rows])
        reach("outbox.deleted", self._service)
        telemetry.count("laurel_relayed_total", len(rows), service=self._service)
        return len(rows)
