"""The embedded default: topics, groups and offsets in PostgreSQL (docs/adr/0002-postgres-bus.md).

How a record travels:
1. ``send`` appends under the lock of each partition's row, in one transaction (postgres_schema.append): offsets have no
   gaps and become visible in order, so a reader never passes a record that commits late.
2. NOTIFY wakes the consumers of the topic; a poll every half second covers a lost wake-up.
3. A consumer owns a partition through a session advisory lock and commits on that very connection
   (postgres_consumer): who loses the connection has lost the partition.

Sessions, advisory locks and LISTEN need a direct connection or a session-pooling proxy, never transaction pooling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from time import monotonic
from uuid import uuid4

import msgspec

from laurel.bus import MAX_POLL_BYTES, BusError, Message, Record, TopicPartition, TopicSpec, positions
from laurel.bus.postgres_consumer import READ_PAGE, READER_SETTINGS, PostgresConsumer, messages_of
from laurel.bus.postgres_schema import migrate
from laurel.bus.postgres_session import FENCE, Connection, Session, advisory_key, split_url
from laurel.bus.sending import SharingProducer
from laurel.crash_points import reach
from laurel.database import transaction_on

# One append is one transaction of at most this much; a larger send takes several, in order.
_APPEND_BYTES = 8 * 1024 * 1024
# How long a producer believes a topic's number of partitions (Kafka's metadata.max.age.ms is 5 min).
_PARTITIONS_AGE = 60.0

_TOPIC_ROWS = "SELECT id, topic, partition FROM {s}.partitions WHERE topic = ANY ($1) ORDER BY topic, partition"
_APPEND = "SELECT {s}.append($1, $2, $3, $4, $5, $6, $7, $8)"
_UPSERT_TOPIC = """
    INSERT INTO {s}.topics (topic, partitions, retention_ms, compacted) VALUES ($1, $2, $3, $4)
    ON CONFLICT (topic) DO UPDATE SET partitions = greatest({s}.topics.partitions, excluded.partitions),
        retention_ms = excluded.retention_ms, compacted = excluded.compacted
"""
_ADD_PARTITIONS = """
    INSERT INTO {s}.partitions (topic, partition) SELECT $1, generate_series(0, $2 - 1)
    ON CONFLICT (topic, partition) DO NOTHING
"""
_LAG = """
    SELECT p.topic, p.partition,
        p.next_offset - greatest(coalesce(o.next_offset, 0), coalesce(
            (SELECT m."offset" FROM {s}.messages m WHERE m.partition_id = p.id ORDER BY m."offset" LIMIT 1),
            p.next_offset)) AS lag
    FROM {s}.partitions p LEFT JOIN {s}.offsets o ON o.partition_id = p.id AND o.grp = $1
    WHERE p.topic = ANY ($2)
"""
_RETAINED = """
    SELECT p.topic, p.partition, coalesce(
            (SELECT m."offset" FROM {s}.messages m WHERE m.partition_id = p.id AND ($2::bigint IS NULL OR m.ts >= $2)
             ORDER BY m."offset" LIMIT 1), p.next_offset) AS begin,
        CASE WHEN $3::bigint IS NULL THEN p.next_offset ELSE coalesce(
            (SELECT m."offset" FROM {s}.messages m WHERE m.partition_id = p.id AND m.ts >= $3
             ORDER BY m."offset" LIMIT 1), p.next_offset) END AS stop
    FROM {s}.partitions p WHERE p.topic = ANY ($1)
"""


class PostgresBus:
    """See :func:`laurel.bus.connect`."""

    def __init__(self, url: str, *, request_timeout: float, session_timeout: float, rebalance_timeout: float) -> None:
        self._dsn, self._schema = split_url(url)
        self._request_timeout = request_timeout
        self._session_timeout = session_timeout
        self._rebalance_timeout = rebalance_timeout
        self._session = Session(self._dsn, name="laurel bus", timeout=request_timeout)

    async def ensure_topics(self, topics: Iterable[TopicSpec]) -> None:
        wanted = list(topics)
        async with self._session.use("ensure topics") as connection:
            await migrate(connection, self._schema)
            async with transaction_on(connection):
                await connection.execute("SELECT pg_advisory_xact_lock($1)", advisory_key(self._schema, "topics"))
                for topic in wanted:
                    await connection.execute(
                        _UPSERT_TOPIC.format(s=self._schema),
                        topic.name,
                        topic.partitions,
                        topic.retention_ms,
                        topic.compacted,
                    )
                    await connection.execute(_ADD_PARTITIONS.format(s=self._schema), topic.name, topic.partitions)

    def producer(self, *, client_id: str) -> PostgresProducer:
        return PostgresProducer(self._dsn, self._schema, client_id, self._request_timeout)

    def consumer(self, *, group: str, topics: Sequence[str], member_id: str) -> PostgresConsumer:
        return PostgresConsumer(
            self._dsn,
            self._schema,
            group=group,
            topics=topics,
            member_id=member_id,
            request_timeout=self._request_timeout,
            session_timeout=self._session_timeout,
            rebalance_timeout=self._rebalance_timeout,
        )

    async def lag(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        async with self._session.use("read lag") as connection:
            rows = await connection.fetch(_LAG.format(s=self._schema), group, list(topics))
        return {TopicPartition(row["topic"], row["partition"]): row["lag"] for row in rows}

    async def retained(
        self, topics: Sequence[str], *, from_ms: int | None = None, to_ms: int | None = None
    ) -> dict[TopicPartition, range]:
        async with self._session.use("look up offsets") as connection:
            rows = await connection.fetch(_RETAINED.format(s=self._schema), list(topics), from_ms, to_ms)
        if missing := set(topics) - {row["topic"] for row in rows}:
            raise BusError(f"PostgreSQL bus: there is no topic {', '.join(sorted(missing))}")
        return {
            TopicPartition(row["topic"], row["partition"]): range(row["begin"], max(row["begin"], row["stop"]))
            for row in rows
        }

    async def read(
        self, offsets: Mapping[TopicPartition, range], *, max_records: int = 500
    ) -> AsyncIterator[list[Message]]:
        session = Session(self._dsn, name="laurel bus reader", timeout=self._request_timeout, settings=READER_SETTINGS)
        try:
            async with session.use("look up topics") as connection:
                topics = sorted({one.topic for one in offsets})
                rows = await connection.fetch(_TOPIC_ROWS.format(s=self._schema), topics)
            ids = {TopicPartition(row["topic"], row["partition"]): row["id"] for row in rows}
            for partition, wanted in sorted(offsets.items(), key=lambda one: one[0]):
                if partition not in ids:
                    raise BusError(f"PostgreSQL bus: there is no {partition.topic}[{partition.partition}]")
                position = wanted.start
                while position < wanted.stop:
                    async with session.use("read") as connection:
                        page = await connection.fetch(
                            READ_PAGE.format(s=self._schema), ids[partition], position, max_records, MAX_POLL_BYTES
                        )
                    found = [one for one in messages_of(partition, page) if one.offset < wanted.stop]
                    if not found:
                        break
                    position = found[-1].offset + 1
                    yield found
        finally:
            await session.close()

    async def close(self) -> None:
        await self._session.close()


class _ProducerSession(Session):
    """A connection that fences its predecessors.

    A send that timed out may still be on its way in an old connection. Both hold the producer's advisory lock, so the
    new one is of use only when the old backend has ended: nothing of a failed attempt can arrive after a later one.
    """

    _ever = False

    def __init__(self, dsn: str, *, name: str, timeout: float) -> None:
        super().__init__(dsn, name=name, timeout=timeout, settings={"work_mem": "64MB"})
        self._lock_key = advisory_key("producer", str(uuid4()))

    async def prepare(self, connection: Connection) -> None:
        if self._ever:
            await connection.execute(FENCE, self._lock_key)
        await connection.execute("SELECT pg_advisory_lock($1)", self._lock_key)
        self._ever = True


class PostgresProducer(SharingProducer):
    """Appends in transactions of at most 8 MiB."""

    def __init__(self, dsn: str, schema: str, client_id: str, request_timeout: float) -> None:
        super().__init__()
        self._schema = schema
        self._session = _ProducerSession(dsn, name=f"laurel producer {client_id}", timeout=request_timeout)
        self._append = _APPEND.format(s=schema)
        self._partitions: dict[str, list[int]] = {}  # topic → partition ids, in the order of partition
        self._partitions_until = 0.0

    async def aclose(self) -> None:
        await self._session.close()

    async def _missing_topics(self, topics: set[str]) -> set[str]:
        if monotonic() >= self._partitions_until or not topics <= self._partitions.keys():
            topics = topics | self._partitions.keys()
            found: dict[str, list[int]] = {}
            async with self._session.use("look up topics") as connection:
                for row in await connection.fetch(_TOPIC_ROWS.format(s=self._schema), sorted(topics)):
                    found.setdefault(row["topic"], []).append(row["id"])
            self._partitions = found
            self._partitions_until = monotonic() + _PARTITIONS_AGE
        return topics - self._partitions.keys()

    async def _write(self, records: list[Record]) -> None:
        async with self._session.use("send") as connection:
            for chunk in _chunks(records):
                await self._append_chunk(connection, chunk)

    async def _append_chunk(self, connection: Connection, chunk: Sequence[Record]) -> None:
        partitions = self._partitions
        counts: Counter[int] = Counter()
        ids: list[int] = []
        nths: list[int] = []
        for record, place in zip(chunk, positions([one.key for one in chunk]), strict=True):
            rows = partitions[record.topic]
            row = rows[place % len(rows)]
            ids.append(row)
            nths.append(counts[row])
            counts[row] += 1
        await connection.execute(
            self._append,
            list(counts.keys()),
            list(counts.values()),
            list({record.topic for record in chunk}),
            ids,
            nths,
            [record.key for record in chunk],
            [record.value for record in chunk],
            [msgspec.msgpack.encode(record.headers) for record in chunk],
        )
        reach("bus.postgres.sent")


def _chunks(records: Iterable[Record]) -> Iterable[list[Record]]:
    chunk: list[Record] = []
    size = 0
    for record in records:
        if chunk and size + len(record.value) > _APPEND_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record.key) + len(record.value) + 64
    if chunk:
        yield chunk
