"""A consumer group's member on the PostgreSQL bus.

One connection carries everything that ownership means: the heartbeat, the advisory locks, the reads and the commits.
When it ends, for whatever reason, ownership has ended; a commit can therefore never come from a former owner.

A background task (`_run`) keeps the membership: it dials, joins, and every half second, or when woken:
1. heartbeats and reads who lives,
2. drains and releases partitions that are another member's share now,
3. takes free partitions of its own share, and reads their committed offsets after the lock is held.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import msgspec

from laurel.bus import MAX_POLL_BYTES, BusError, BusUnavailable, Drain, Message, PartitionsLost, TopicPartition
from laurel.bus.postgres_group import Member, assignments, heartbeat, join, leave, notify_group
from laurel.bus.postgres_retention import trim
from laurel.bus.postgres_session import (
    Connection,
    Session,
    open_connection,
    translated,
)
from laurel.crash_points import reach
from laurel.database import close_quietly

log = logging.getLogger(__name__)

_TICK = 0.5  # seconds between looks at the group, and the longest that a lost wake-up can cost
_TRIM_EVERY = 60.0

READER_SETTINGS = {
    # Plans that read a partition in index order even where the statistics are still empty, and never sort bodies.
    "enable_bitmapscan": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    # Heartbeats and offsets need not wait for the disk: after a crash of the server the last ones may be missing,
    # and records that were committed in its last moment come again.
    "synchronous_commit": "off",
}

_HEADS = "SELECT id, next_offset FROM {s}.partitions WHERE id = ANY ($1)"
READ_PAGE = """
    SELECT "offset", key, value, headers, ts FROM (
        SELECT "offset", key, value, headers, ts,
            sum(octet_length(value)) OVER (ORDER BY "offset" ROWS UNBOUNDED PRECEDING) - octet_length(value) AS before
        FROM {s}.messages WHERE partition_id = $1 AND "offset" >= $2 ORDER BY "offset" LIMIT $3) AS page
    WHERE before < $4
"""
_TRY_LOCKS = "SELECT key, pg_try_advisory_lock(key) AS held FROM unnest($1::bigint[]) AS key"
_UNLOCKS = "SELECT pg_advisory_unlock(key) FROM unnest($1::bigint[]) AS key"
_REGISTER = """
    INSERT INTO {s}.offsets (grp, partition_id, next_offset) SELECT $1, id, 0 FROM unnest($2::integer[]) AS id
    ON CONFLICT (grp, partition_id) DO NOTHING
"""
_OFFSETS = "SELECT partition_id, next_offset FROM {s}.offsets WHERE grp = $1 AND partition_id = ANY ($2)"
_COMMIT = """
    UPDATE {s}.offsets o SET next_offset = c.next_offset, updated_at = now()
    FROM unnest($2::integer[], $3::bigint[]) AS c (id, next_offset)
    WHERE o.grp = $1 AND o.partition_id = c.id
"""

_HEADERS = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])


@dataclass(slots=True)
class _Owned:
    """A partition in our hands. ``position``: next offset to read; ``committed``: next offset as stored."""

    id: int
    position: int
    committed: int


class PostgresConsumer:
    def __init__(
        self,
        dsn: str,
        schema: str,
        *,
        group: str,
        topics: Sequence[str],
        member_id: str,
        request_timeout: float,
        session_timeout: float,
        rebalance_timeout: float,
    ) -> None:
        self._dsn = dsn
        self._schema = schema
        self._member = Member(schema, group, member_id, uuid4(), tuple(topics))
        self._request_timeout = request_timeout
        self._session_timeout = session_timeout
        self._rebalance_timeout = rebalance_timeout
        self._read, self._heads = READ_PAGE.format(s=schema), _HEADS.format(s=schema)

        self._connection: Connection | None = None
        self._turn = asyncio.Lock()  # statements on the connection, one at a time
        self._owned: dict[TopicPartition, _Owned] = {}
        self._leaving: frozenset[TopicPartition] = frozenset()  # being drained: silent, but may still commit
        self._paused: set[TopicPartition] = set()
        self._drain: Drain | None = None
        self._news = asyncio.Event()  # something to read, or a change of ownership
        self._look = asyncio.Event()  # the group changed: look at once
        self._trouble: BusError | None = None  # why there is no connection now
        self._fatal: BusError | None = None
        self._heartbeat_at = 0.0  # when the next heartbeat is due
        self._first_next = 0  # the partition that the next poll begins with
        self._next_trim = monotonic() + _TRIM_EVERY
        self._running: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        self._trimming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run(), name=f"bus member {self._member.member_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._running, self._draining, self._trimming):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        connection = self._connection
        self._forget()
        if connection is not None and not connection.is_closed():
            # Once the row is gone the others stop counting us; the locks go with the connection.
            with contextlib.suppress(BusError), translated("leave the group"):
                async with asyncio.timeout(2.0):
                    await leave(connection, self._member)
            await close_quietly(connection)

    # -- what the engine calls ------------------------------------------------------------------------------

    def on_revoke(self, drain: Drain) -> None:
        self._drain = drain

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)
        self._news.set()

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._owned)

    async def poll(self, max_records: int, timeout: float) -> list[Message]:
        until = monotonic() + timeout
        while True:
            if self._fatal is not None:
                raise self._fatal
            self._news.clear()  # before the read: what arrives during it wakes us again
            if self._connection is not None:
                messages = await self._fetch(max_records)
                if messages:
                    return messages
            left = until - monotonic()
            if left <= 0:
                if self._connection is None and self._trouble is not None:
                    raise BusUnavailable(f"{self._trouble}; the member rejoins by itself")
                return []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _TICK)):
                    await self._news.wait()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._refuse_lost(offsets)
        try:
            await self._commit(offsets)
        except PartitionsLost as error:
            # Named after what was to be committed, whatever else went with the connection.
            raise PartitionsLost(error.partitions & offsets.keys() or offsets, error.reason) from error

    async def _commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        async with self._alone("commit") as connection:
            self._refuse_lost(offsets)  # again: ownership may have gone while others had the connection
            changed = {p: n for p, n in offsets.items() if n > self._owned[p].committed}
            if not changed:
                return
            await connection.execute(
                _COMMIT.format(s=self._schema),
                self._member.group,
                [self._owned[p].id for p in changed],
                list(changed.values()),
            )
            reach("bus.postgres.committed")
            for partition, offset in changed.items():
                self._owned[partition].committed = offset

    def _refuse_lost(self, offsets: Mapping[TopicPartition, int]) -> None:
        if lost := offsets.keys() - self._owned.keys():
            raise PartitionsLost(lost, "another member of the group owns it, or the connection was lost")
        # A batch that was polled in an earlier ownership: its records come (or came) again, to us or to another member.
        if ahead := [p for p, offset in offsets.items() if offset > self._owned[p].position]:
            raise PartitionsLost(ahead, "it was lost and taken again since these records were polled")

    # -- reading ----------------------------------------------------------------------------------------------

    async def _fetch(self, max_records: int) -> list[Message]:
        """Read from the partitions in turn until the batch is full, beginning after the last one that was read."""
        messages: list[Message] = []
        budget = MAX_POLL_BYTES
        try:
            async with self._alone("read") as connection:
                ready = [p for p in sorted(self._owned) if p not in self._paused and p not in self._leaving]
                if not ready:
                    return []
                heads = {
                    row["id"]: row["next_offset"]
                    for row in await connection.fetch(self._heads, [self._owned[p].id for p in ready])
                }
                start = self._first_next % len(ready)
                for partition in ready[start:] + ready[:start]:
                    owned = self._owned.get(partition)
                    if owned is None or owned.position >= heads.get(owned.id, 0):
                        continue
                    self._first_next = ready.index(partition) + 1
                    rows = await connection.fetch(
                        self._read, owned.id, owned.position, max_records - len(messages), budget
                    )
                    messages.extend(messages_of(partition, rows))
                    # A head without rows: retention removed them. Skip what is gone.
                    owned.position = rows[-1]["offset"] + 1 if rows else heads[owned.id]
                    budget -= sum(len(row["value"]) for row in rows)
                    if len(messages) >= max_records or budget <= 0:
                        break
        except PartitionsLost:
            return []
        if messages:
            reach("bus.postgres.read")
        if self._leaving or len(self._owned) < len(ready):
            # Given up while we read: what was not handed out before the drain is the next owner's to read.
            kept = self._owned.keys() - self._leaving
            return [m for m in messages if TopicPartition(m.topic, m.partition) in kept]
        return messages

    @contextlib.asynccontextmanager
    async def _alone(self, doing: str, *, within: float | None = None) -> AsyncIterator[Connection]:
        """The member's connection, for one caller at a time, within the deadline (default: the request timeout).

        Any failure of it ends the ownership of everything: raises PartitionsLost after that, and the member rejoins.
        """
        connection = self._connection
        try:
            with translated(doing):
                async with asyncio.timeout(within or self._request_timeout), self._turn:
                    connection = self._connection
                    if connection is None or connection.is_closed():
                        raise BusUnavailable(f"PostgreSQL bus, {doing}: not connected")
                    yield connection
        except PartitionsLost:
            raise
        except BusError as error:
            lost = frozenset(self._owned)
            if connection is not None and connection is self._connection:
                self._trouble = error
                self._forget()
                connection.terminate()
            if isinstance(error, BusUnavailable):
                raise PartitionsLost(lost, f"the connection to PostgreSQL was lost ({error})") from error
            raise

    def _forget(self) -> None:
        self._connection = None
        self._owned.clear()
        self._leaving = frozenset()
        self._news.set()
        self._look.set()

    # -- membership -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = 0.1
        again = False
        while True:
            try:
                await self._enter(again=again)
                again, pause = True, 0.1
                while self._connection is not None:
                    await self._tick()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TICK):
                            await self._look.wait()
                    self._look.clear()
            except (BusUnavailable, PartitionsLost) as error:
                log.warning("member %s of group %s: %s", self._member.member_id, self._member.group, error)
                self._trouble = error
            except BusError as error:
                self._fatal = error
                self._news.set()
                return
            except Exception as error:
                log.exception("member %s of group %s", self._member.member_id, self._member.group)
                self._fatal = BusError(f"the member's membership task failed: {error!r}")
                self._forget()
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    async def _enter(self, *, again: bool) -> None:
        """Dial, listen, join the group."""
        member = self._member
        connection: Connection | None = None
        try:
            with translated("join the group"):
                async with asyncio.timeout(self._request_timeout):
                    connection = await open_connection(
                        self._dsn,
                        name=f"laurel consumer {member.group} {member.member_id}",
                        timeout=self._request_timeout,
                        settings=READER_SETTINGS,
                    )
                    await connection.add_listener(self._schema, self._heard)
                    connection.add_termination_listener(self._hung_up)
                    await join(connection, member, self._session_timeout, again=again)
        except BaseException:
            if connection is not None:
                connection.terminate()
            raise
        self._connection, self._trouble = connection, None
        reach("bus.postgres.joined")

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        kind, _, name = str(payload).partition(":")
        if kind == "t" and name in self._member.topics:
            self._news.set()
        elif kind == "g" and name == self._member.group:
            self._look.set()

    def _hung_up(self, connection: Any) -> None:
        if connection is self._connection:
            self._trouble = BusUnavailable("PostgreSQL bus: the server ended the member's connection")
            self._forget()

    async def _tick(self) -> None:
        member = self._member
        async with self._alone("look at the group", within=self._session_timeout) as connection:
            if monotonic() >= self._heartbeat_at:
                if not await heartbeat(connection, member):
                    # Somebody declared us silent, or took our name. Join anew: that says which.
                    raise BusUnavailable("the group had expelled this member")
                self._heartbeat_at = monotonic() + min(2.0, self._session_timeout / 5)
            ids, share = await assignments(connection, member, self._session_timeout)
            await self._take(connection, {p: ids[p] for p in share - self._owned.keys()})
        surplus = frozenset(self._owned) - share
        if surplus and self._draining is None:
            self._leaving = surplus
            self._draining = asyncio.create_task(self._give_up(surplus))
        if monotonic() >= self._next_trim:
            self._next_trim = monotonic() + _TRIM_EVERY
            self._trimming = asyncio.create_task(self._trim())

    async def _take(self, connection: Connection, wanted: Mapping[TopicPartition, int]) -> None:
        if not wanted:
            return
        keys = {self._member.partition_key(p): p for p in wanted}
        rows = await connection.fetch(_TRY_LOCKS, list(keys))
        got = [keys[row["key"]] for row in rows if row["held"]]
        if not got:
            return
        # After the locks, in statements of their own: their snapshots see the last commit of the former owner.
        ids = [wanted[p] for p in got]
        await connection.execute(_REGISTER.format(s=self._schema), self._member.group, ids)
        rows = await connection.fetch(_OFFSETS.format(s=self._schema), self._member.group, ids)
        committed = {row["partition_id"]: row["next_offset"] for row in rows}
        for partition in got:
            offset = committed[wanted[partition]]
            self._paused.discard(partition)  # a new ownership begins unpaused, as on Kafka
            self._owned[partition] = _Owned(wanted[partition], position=offset, committed=offset)
        reach("bus.postgres.taken")
        self._news.set()

    async def _give_up(self, surplus: frozenset[TopicPartition]) -> None:
        """Let the engine finish what is in hand, then release."""
        try:
            if self._drain is not None:
                async with asyncio.timeout(self._rebalance_timeout):
                    await self._drain(surplus)
        except Exception:
            # Released all the same: what was not committed comes again, at the next owner.
            log.exception("draining %s for a rebalance failed", sorted(surplus))
        try:
            async with self._alone("release partitions") as connection:
                keys = [self._member.partition_key(p) for p in surplus if self._owned.pop(p, None) is not None]
                await connection.fetch(_UNLOCKS, keys)
                reach("bus.postgres.released")
                await notify_group(connection, self._member)
        except BusError as error:
            log.warning("releasing %s: %s", sorted(surplus), error)  # the locks went with the connection
        finally:
            self._leaving = frozenset()
            self._draining = None

    async def _trim(self) -> None:
        """Retention, on a connection of its own: heartbeats and commits never wait for it."""
        session = Session(self._dsn, name="laurel bus retention", timeout=self._request_timeout)
        try:
            async with session.use("trim") as connection:
                await trim(connection, self._schema)
        except BusError as error:
            log.warning("retention: %s", error)  # it comes again in a minute
        finally:
            await session.close()


def messages_of(partition: TopicPartition, rows: Sequence[Any]) -> list[Message]:
    topic, number = partition.topic, partition.partition
    return [
        Message(topic, number, offset, key, value, _HEADERS.decode(headers), ts)
        for offset, key, value, headers, ts in rows
    ]
