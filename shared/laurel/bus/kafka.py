"""Kafka through aiokafka, wrapped thinly.

URL: ``kafka://[user:password@]host:port[,host:port][?option=value&…]`` with the options

- ``compression``: ``zstd`` (default), ``lz4``, ``none``
- ``replication_factor``: of topics that ``ensure_topics`` creates; default: the brokers' default.replication.factor
- ``membership``: ``static`` (default: a member that crashed and comes back with its member_id takes its
  place at once) or ``dynamic`` (where member ids cannot be told apart)
- ``security_protocol``: ``PLAINTEXT`` (default), ``SSL``, ``SASL_PLAINTEXT``, ``SASL_SSL``
- ``sasl_mechanism``: ``PLAIN``, ``SCRAM-SHA-256``, ``SCRAM-SHA-512``; needs user and password in the URL
- ``ssl_cafile``: a PEM file instead of the system's authorities

aiokafka's traps and where they are met: sends, commits, `getmany` and `stop` can wait for ever when a broker dies
(every await stands under `translated`); `stop` can raise CancelledError (`stop_quietly`); after a broker's loss
`getmany` can stay silent for ever (`_check` in kafka_consumer); the rebalance timeout defaults to the session's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, TopicAlreadyExistsError, for_code

from laurel.bus import BusError, BusUnavailable, Message, Record, TopicPartition, TopicSpec, positions
from laurel.bus.kafka_consumer import KafkaConsumer
from laurel.bus.kafka_errors import stop_quietly, translated
from laurel.bus.kafka_reader import read_offsets
from laurel.bus.sending import SharingProducer
from laurel.crash_points import reach

# Compressed together; below message.max.bytes (1 MiB) even where nothing compresses.
_BATCH_BYTES = 512 * 1024
_OPTIONS = {
    "compression": ("zstd", "lz4", "none"),
    "replication_factor": None,
    "membership": ("static", "dynamic"),
    "security_protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl_mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    "ssl_cafile": None,
}


@dataclass(frozen=True)
class KafkaAddress:
    """What the URL says. ``client`` are the arguments that every aiokafka client takes."""

    servers: tuple[str, ...]
    client: dict[str, Any] = field(repr=False)  # holds the password
    compression: str | None = "zstd"
    replication_factor: int = -1  # KIP-464: the brokers' default
    static: bool = True


def parse_url(url: str) -> KafkaAddress:
    """Raises ValueError naming the part of the URL and the fix."""
    rest = url.partition("://")[2]
    rest, _, query = rest.partition("?")
    credentials, _, hosts = rest.rstrip("/").rpartition("@")
    if "@" in query:  # quoted by the refusals below it could be the half of a password
        raise ValueError("bus URL: write signs of a password, such as ? and /, as %XX")
    servers = tuple(server for server in hosts.split(",") if server)
    if not servers or not all(server.rpartition(":")[2].isdigit() for server in servers):
        raise ValueError("bus URL: write each broker as host:port, for example kafka://localhost:9092")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in _OPTIONS:
            raise ValueError(f"bus URL option {name!r} is unknown: use one of {', '.join(_OPTIONS)}")
        allowed = _OPTIONS[name]
        if allowed is not None and value not in allowed:
            raise ValueError(f"bus URL option {name}={value!r}: use one of {', '.join(allowed)}")
    protocol = options.get("security_protocol", "PLAINTEXT")
    client: dict[str, Any] = {"bootstrap_servers": list(servers), "security_protocol": protocol}
    if protocol.endswith("SSL"):
        client["ssl_context"] = ssl.create_default_context(cafile=options.get("ssl_cafile"))
    if protocol.startswith("SASL"):
        user, _, password = credentials.partition(":")
        if not user or not password:
            raise ValueError(f"bus URL: security_protocol={protocol} needs kafka://user:password@host:port")
        client["sasl_mechanism"] = options.get("sasl_mechanism", "PLAIN")
        client["sasl_plain_username"], client["sasl_plain_password"] = unquote(user), unquote(password)
    replication = options.get("replication_factor", "-1")
    if not replication.lstrip("-").isdigit():
        raise ValueError(f"bus URL option replication_factor={replication!r}: write a number")
    compression = options.get("compression", "zstd")
    return KafkaAddress(
        servers=servers,
        client=client,
        compression=None if compression == "none" else compression,
        replication_factor=int(replication),
        static=options.get("membership", "static") == "static",
    )


class KafkaBus:
    """See :func:`laurel.bus.connect`."""

    def __init__(self, url: str, *, request_timeout: float, session_timeout: float, rebalance_timeout: float) -> None:
        self._address = parse_url(url)
        self._request_timeout = request_timeout
        self._session_timeout = session_timeout
        self._rebalance_timeout = rebalance_timeout
        self._turn = asyncio.Lock()
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None  # without a group: knows the ends of partitions

    def producer(self, *, client_id: str) -> KafkaProducer:
        return KafkaProducer(self._address, client_id, self._request_timeout)

    def consumer(self, *, group: str, topics: Sequence[str], member_id: str) -> KafkaConsumer:
        return KafkaConsumer(
            self._address.client,
            group=group,
            topics=topics,
            member_id=member_id,
            static=self._address.static,
            request_timeout=self._request_timeout,
            session_timeout=self._session_timeout,
            rebalance_timeout=self._rebalance_timeout,
        )

    async def ensure_topics(self, topics: Iterable[TopicSpec]) -> None:
        wanted = {topic.name: topic for topic in topics}
        if not wanted:
            return
        async with translated("ensure topics", self._request_timeout), self._turn:
            try:
                admin = await self._administrator()
                older = await self._create(admin, wanted.values())
                await self._widen(admin, wanted)
                await self._configure(admin, older)
            except BaseException:
                await self._drop()
                raise

    async def _create(self, admin: AIOKafkaAdminClient, topics: Iterable[TopicSpec]) -> dict[str, TopicSpec]:
        """Create what is missing; returns the topics that were there before."""
        new = []
        for topic in topics:
            # The client refuses -1 in the constructor, the brokers understand it.
            fresh = NewTopic(topic.name, topic.partitions, 1, topic_configs=_config(topic))
            fresh.replication_factor = self._address.replication_factor
            new.append(fresh)
        older = {topic.name: topic for topic in topics}
        response = await admin.create_topics(new)
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise BusError(
                    f"Kafka refuses to create topic {name}: {error.__name__} {' '.join(filter(None, message))}"
                )

            if not code:
                del older[name]
        return older

    async def _widen(self, admin: AIOKafkaAdminClient, wanted: dict[str, TopicSpec]) -> None:
        existing: dict[str, int] = {}
        while len(existing) < len(wanted):  # a topic that was made a moment ago is not known to all brokers yet
            described = await admin.describe_topics(list(wanted))
            existing = {t["topic"]: len(t["partitions"]) for t in described if _is_led(t)}
            if len(existing) < len(wanted):
                await asyncio.sleep(0.1)
        more = {n: NewPartitions(t.partitions) for n, t in wanted.items() if existing[n] < t.partitions}
        if more:
            await admin.create_partitions(more)

    async def _configure(self, admin: AIOKafkaAdminClient, wanted: dict[str, TopicSpec]) -> None:
        """Set what differs. AlterConfigs replaces all of a topic's settings: what an operator set is sent along."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
        if not resources:
            return
        changed = []
        for response in await admin.describe_configs(resources):
            for code, message, _kind, name, entries in response.resources:
                if code:
                    raise BusError(f"Kafka refuses to describe topic {name}: {for_code(code).__name__} {message}")
                current = {entry[0]: entry[1] for entry in entries}
                own = {entry[0]: entry[1] for entry in entries if entry[3] == 1}  # 1: set on the topic itself
                target = _config(wanted[name])
                if any(current.get(key) != value for key, value in target.items()):
                    changed.append(ConfigResource(ConfigResourceType.TOPIC, name, {**own, **target}))
        if changed:
            for response in await admin.alter_configs(changed):
                for code, message, _kind, name in response.resources:
                    if code:
                        raise BusError(f"Kafka refuses to configure {name}: {for_code(code).__name__} {message}")

    async def lag(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        async with translated("read lag", self._request_timeout), self._turn:
            try:
                admin = await self._administrator()
                described = await admin.describe_topics(list(topics))
                partitions = [KafkaPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
                if not partitions:
                    return {}
                reader = await self._end_reader()
                ends = await reader.end_offsets(partitions)
                begins = await reader.beginning_offsets(partitions)
                committed = await admin.list_consumer_group_offsets(group)
            except BaseException:
                await self._drop()
                raise
        lag = {}
        for partition in partitions:
            stored = committed.get(partition)
            read = max(stored.offset if stored is not None else 0, begins[partition])
            lag[TopicPartition(partition.topic, partition.partition)] = max(0, ends[partition] - read)
        return lag

    async def retained(
        self, topics: Sequence[str], *, from_ms: int | None = None, to_ms: int | None = None
    ) -> dict[TopicPartition, range]:
        async with translated("look up offsets", self._request_timeout), self._turn:
            try:
                admin = await self._administrator()
                described = await admin.describe_topics(list(topics))
                partitions = [KafkaPartition(t["topic"], p["partition"]) for t in described for p in t["partitions"]]
                if missing := set(topics) - {one.topic for one in partitions}:
                    raise BusError(f"Kafka: there is no topic {', '.join(sorted(missing))}")
                reader = await self._end_reader()
                begins = await reader.beginning_offsets(partitions)
                ends = await reader.end_offsets(partitions)
                since = {} if from_ms is None else await reader.offsets_for_times(dict.fromkeys(partitions, from_ms))
                until = {} if to_ms is None else await reader.offsets_for_times(dict.fromkeys(partitions, to_ms))
            except BaseException:
                await self._drop()
                raise
        found = {}
        for one in partitions:
            begin, stop = begins[one], ends[one]
            if from_ms is not None:  # None: every record is older
                begin = max(begin, since[one].offset) if since[one] is not None else stop
            if to_ms is not None and until[one] is not None:
                stop = min(stop, until[one].offset)
            found[TopicPartition(one.topic, one.partition)] = range(begin, max(begin, stop))
        return found

    def read(self, offsets: Mapping[TopicPartition, range], *, max_records: int = 500) -> AsyncIterator[list[Message]]:
        return read_offsets(self._address.client, offsets, max_records=max_records, timeout=self._request_timeout)

    async def _administrator(self) -> AIOKafkaAdminClient:
        if self._admin is None:
            admin = AIOKafkaAdminClient(**self._address.client, request_timeout_ms=int(self._request_timeout * 1000))
            try:
                await admin.start()
            except BaseException:
                await stop_quietly(admin.close())
                raise
            self._admin = admin
        return self._admin

    async def _end_reader(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = AIOKafkaConsumer(**self._address.client, enable_auto_commit=False)
            try:
                await reader.start()
            except BaseException:
                await stop_quietly(reader.stop())
                raise
            self._reader = reader
        return self._reader

    async def _drop(self) -> None:
        admin, self._admin, reader, self._reader = self._admin, None, self._reader, None
        if reader is not None:
            await stop_quietly(reader.stop())
        if admin is not None:
            await stop_quietly(admin.close())

    async def close(self) -> None:
        await self._drop()


def _is_led(description: dict[str, Any]) -> bool:
    """True when a broker knows the topic and the leader of each of its partitions."""
    partitions = description["partitions"]
    return bool(partitions) and all(p["leader"] >= 0 for p in partitions)


def _config(topic: TopicSpec) -> dict[str, str]:
    return {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(-1 if topic.retention_ms is None else topic.retention_ms),
        # The broker's time: by a sender's wrong clock records were refused (an hour ahead) or deleted (weeks behind).
        "message.timestamp.type": "LogAppendTime",
    }


class KafkaProducer(SharingProducer):
    """An idempotent producer that is thrown away after a failure.

    aiokafka itself retries within the deadline with the same sequence numbers, so a broker's restart neither doubles
    nor reorders. After the deadline its connections are cut before the caller learns of it: what is sent
    again travels behind whatever the brokers had received.
    """

    def __init__(self, address: KafkaAddress, client_id: str, request_timeout: float) -> None:
        super().__init__()
        self._address = address
        self._client_id = client_id
        self._timeout = request_timeout
        self._producer: AIOKafkaProducer | None = None

    async def aclose(self) -> None:
        producer, self._producer = self._producer, None
        # Nothing is on its way: every send has returned, or the producer of a failed one was cut off.
        if producer is not None and not await stop_quietly(producer.stop()):
            await _cut(producer)

    async def _missing_topics(self, topics: set[str]) -> set[str]:
        try:
            async with translated("look up topics", self._timeout):
                client = (await self._started()).client
                missing = {topic for topic in topics if not client.cluster.partitions_for_topic(topic)}
                for attempt in range(5):  # a topic that was made a moment ago is not known to all brokers yet
                    if not missing:
                        break
                    await asyncio.sleep(0.1 * attempt)
                    for topic in missing:
                        client.add_topic(topic)
                    if not await client.force_metadata_update():
                        raise BusUnavailable("Kafka, look up topics: no broker answers")
                    missing = {topic for topic in missing if not client.cluster.partitions_for_topic(topic)}
                return missing
        except BaseException:
            await self._abandon()
            raise

    async def _write(self, records: list[Record]) -> None:
        try:
            async with translated("send", self._timeout):
                producer = await self._started()
                by_partition: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
                counts: dict[str, int] = {}
                for record, place in zip(records, positions([one.key for one in records]), strict=True):
                    count = counts.get(record.topic)
                    if count is None:
                        count = counts[record.topic] = len(await producer.partitions_for(record.topic))
                    by_partition[record.topic, place % count].append(record)
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(_deliver(producer, topic, partition, part))
                        for (topic, partition), part in by_partition.items()
                    ]
                for task in tasks:
                    task.result()  # a TaskGroup says nothing of a child that was cancelled from inside the client
        except BaseException:
            await self._abandon()
            raise

    async def _started(self) -> AIOKafkaProducer:
        """The producer; dials until the caller's deadline, so that a broker's restart costs a moment, not an error."""
        pause = 0.1
        while self._producer is None:
            producer = self._make()
            try:
                await producer.start()
            except KafkaConnectionError:
                await _cut(producer)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            except BaseException:
                await _cut(producer)
                raise
            else:
                self._producer = producer
        return self._producer

    def _make(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._address.client,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            compression_type=self._address.compression,
            max_batch_size=_BATCH_BYTES,
            metadata_max_age_ms=60_000,
            # One request; the deadline of the whole is ours. Shorter, so that a retry fits in.
            request_timeout_ms=max(1_000, int(self._timeout * 400)),
        )

    async def _abandon(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _cut(producer)


async def _cut(producer: AIOKafkaProducer) -> None:
    """End a producer without delivering what it still holds. `stop` would try to deliver it, perhaps for ever."""
    producer._closed = True
    sender = producer._sender.sender_task
    while sender is not None and not sender.done():
        # Its first answer to a cancellation is to wait for the requests under way; the next one reaches those.
        sender.cancel()
        await asyncio.wait([sender], timeout=0.05)
    await stop_quietly(producer.client.close())


async def _deliver(producer: AIOKafkaProducer, topic: str, partition: int, records: list[Record]) -> None:
    """Batch after batch of one partition. `send_batch` costs 7 µs a record where `send` costs 16."""
    delivered = []
    batch = producer.create_batch()
    for record in records:
        while batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers)) is None:
            delivered.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
    delivered.append(await producer.send_batch(batch, topic, partition=partition))
    reach("bus.kafka.sent")
    await asyncio.gather(*delivered)
    reach("bus.kafka.acknowledged")
