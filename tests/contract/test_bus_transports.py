"""What belongs to one transport alone: addresses, partitioning, shares, and retention on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from hypothesis import given
from hypothesis import strategies as st

from laurel.bus import BusUnavailable, Record, TopicPartition, TopicSpec, connect, murmur2, partition_for, positions
from laurel.bus.kafka import parse_url
from laurel.bus.postgres import PostgresBus
from laurel.bus.postgres_group import fair_share
from laurel.bus.postgres_retention import trim


@pytest.mark.parametrize(
    ("key", "expected"),
    [  # from Kafka's own UtilsTest
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


@given(st.binary(max_size=64), st.integers(1, 100))
def test_a_partition_is_in_range(key: bytes, partitions: int) -> None:
    assert 0 <= partition_for(key, partitions) < partitions


@given(st.integers(0, 70).flatmap(lambda length: st.lists(st.binary(min_size=length, max_size=length), max_size=40)))
def test_keys_side_by_side_go_where_each_alone_goes(keys: list[bytes]) -> None:
    for some in (keys, [*keys, b"of another length" * 4]):
        assert [one % 6 for one in positions(some)] == [partition_for(key, 6) for key in some]
        assert list(positions(some)) == [murmur2(key) & 0x7FFFFFFF for key in some]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost", "use postgres://"),
        ("localhost:9092", "use postgres://"),
        ("kafka://", "host:port"),
        ("kafka://localhost", "host:port"),
        ("kafka://localhost:9092?compresion=zstd", "'compresion' is unknown"),
        ("kafka://localhost:9092?compression=brotli", "use one of zstd"),
        ("kafka://localhost:9092?security_protocol=SASL_SSL", "user:password"),
        ("kafka://localhost:9092?replication_factor=three", "write a number"),
        ("postgres://localhost/x?bus_schema=Bus%3B", "bus_schema"),
    ],
)
async def test_a_wrong_url_names_the_fix(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        connect(url)


async def test_what_refused_a_connection_is_named_when_time_is_up() -> None:
    bus = connect("postgres://127.0.0.1:9/nobody", request_timeout=0.3)
    try:
        with pytest.raises(BusUnavailable, match=r"Refused.*for 0\.3 s"):
            await bus.ensure_topics([])
    finally:
        await bus.close()


def test_a_kafka_url_may_name_several_brokers_and_credentials() -> None:
    address = parse_url("kafka://us%40er:p%3Ass@a:1,b:2?security_protocol=SASL_PLAINTEXT&compression=lz4")
    assert address.servers == ("a:1", "b:2")
    assert (address.client["sasl_plain_username"], address.client["sasl_plain_password"]) == ("us@er", "p:ss")
    assert address.compression == "lz4"
    assert "p:ss" not in repr(address)


partitions = st.lists(
    st.builds(TopicPartition, st.sampled_from(["x", "y", "z"]), st.integers(0, 12)), unique=True, max_size=30
).map(sorted)
names = st.lists(st.text(min_size=1, max_size=5), unique=True, min_size=1, max_size=6)


@given(names, partitions)
def test_shares_are_complete_disjoint_and_even(names: list[str], partitions: list[TopicPartition]) -> None:
    share = fair_share([(name, ["x", "y", "z"]) for name in names], partitions)
    assert sorted(p for owned in share.values() for p in owned) == partitions
    sizes = [len(owned) for owned in share.values()]
    assert max(sizes) - min(sizes) <= 1
    assert share == fair_share([(name, ["x", "y", "z"]) for name in reversed(names)], partitions)


def test_a_member_gets_only_what_it_subscribed() -> None:
    everything = [TopicPartition(topic, p) for topic in ("x", "y") for p in range(3)]
    share = fair_share([("a", ["x"]), ("b", ["x", "y"])], everything)
    assert {p.topic for p in share["a"]} == {"x"}
    assert share["a"] | share["b"] == set(everything)


# -- PostgreSQL ------------------------------------------------------------------------------------------------


@pytest.fixture
async def bus(postgres_dsn: str) -> AsyncIterator[PostgresBus]:
    # A schema of its own: retention looks at all topics of a bus.
    bus = connect(f"{postgres_dsn}&bus_schema=bus_{uuid4().hex[:8]}", request_timeout=5, session_timeout=3)
    assert isinstance(bus, PostgresBus)
    yield bus
    await bus.close()


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def offsets(connection: Any, bus: PostgresBus) -> list[int]:
    rows = await connection.fetch(f'SELECT "offset" FROM {bus._schema}.messages ORDER BY 1')
    return [row["offset"] for row in rows]


async def read_all(bus: PostgresBus, group: str, count: int) -> None:
    async with bus.consumer(group=group, topics=["t"], member_id="one") as consumer:
        read = 0
        async with asyncio.timeout(20):
            while read < count:
                messages = await consumer.poll(1_000, 1.0)
                read += len(messages)
                if messages:
                    await consumer.commit({TopicPartition("t", 0): messages[-1].offset + 1})


async def test_retention_keeps_what_a_group_in_use_has_not_read(bus: PostgresBus, connection: Any) -> None:
    await bus.ensure_topics([TopicSpec("t", partitions=1, retention_ms=60_000)])
    async with bus.producer(client_id="p") as producer:
        await producer.send([Record("t", b"k", b"%d" % i) for i in range(20)])
        await read_all(bus, "done", 20)
        async with bus.consumer(group="slow", topics=["t"], member_id="one") as consumer:
            messages = []
            async with asyncio.timeout(20):
                while not messages:
                    messages = await consumer.poll(5, 1.0)
            await consumer.commit({TopicPartition("t", 0): 5})
        assert await trim(connection, bus._schema) == 0, "younger than the retention"
        await connection.execute(f"UPDATE {bus._schema}.messages SET ts = ts - 61000")
        await producer.send([Record("t", b"k", b"young")])
        assert await trim(connection, bus._schema) == 5
        assert await offsets(connection, bus) == list(range(5, 21))
        assert (await bus.lag("slow", ["t"])) == {TopicPartition("t", 0): 16}
        # A group that has not committed for a whole retention is abandoned and holds nothing back.
        await connection.execute(
            f"UPDATE {bus._schema}.offsets SET updated_at = now() - interval '2 minutes' WHERE grp = 'slow'"
        )
        assert await trim(connection, bus._schema) == 15
        assert await offsets(connection, bus) == [20]
    assert (await bus.lag("slow", ["t"])) == {TopicPartition("t", 0): 1}
    await read_all(bus, "slow", 1)
    await read_all(bus, "new", 1)


async def test_compaction_keeps_the_last_of_each_key_once_all_have_read(bus: PostgresBus, connection: Any) -> None:
    await bus.ensure_topics([TopicSpec("t", partitions=1, compacted=True)])
    async with bus.producer(client_id="p") as producer:
        await producer.send([Record("t", b"%d" % (i % 3), b"%d" % i) for i in range(9)])
        await read_all(bus, "one", 9)
        await producer.send([Record("t", b"0", b"unread"), Record("t", b"3", b"only")])
    assert await trim(connection, bus._schema) == 6
    assert await offsets(connection, bus) == [6, 7, 8, 9, 10]
    await read_all(bus, "one", 2)
    assert await trim(connection, bus._schema) == 1
    assert await offsets(connection, bus) == [7, 8, 9, 10]
    await read_all(bus, "new", 4)


async def test_offsets_have_no_gaps_and_appends_no_deadlocks(bus: PostgresBus, connection: Any) -> None:
    await bus.ensure_topics([TopicSpec("t", partitions=4)])

    async def one(name: int) -> None:
        async with bus.producer(client_id=f"p{name}") as producer:
            for step in range(15):
                order = [Record("t", b"%d" % ((k * (1 + name % 2) + step) % 11), b"") for k in range(20)]
                await producer.send(order)

    await asyncio.gather(*(one(name) for name in range(6)))
    rows = await connection.fetch(
        f'SELECT partition_id, count(*) AS n, min("offset") AS low, max("offset") AS high '
        f"FROM {bus._schema}.messages GROUP BY 1"
    )
    assert sum(row["n"] for row in rows) == 6 * 15 * 20
    assert all(row["low"] == 0 and row["high"] == row["n"] - 1 for row in rows)


async def test_a_send_that_timed_out_cannot_arrive_after_the_next_one(bus: PostgresBus, connection: Any) -> None:
    await bus.ensure_topics([TopicSpec("t", partitions=1)])
    impatient = PostgresBus(
        f"{bus._dsn}&bus_schema={bus._schema}", request_timeout=1.0, session_timeout=3, rebalance_timeout=60
    )
    async with impatient.producer(client_id="p") as producer:
        await producer.send([Record("t", b"k", b"0")])
        async with connection.transaction():
            # Somebody else holds the partition: the send reaches the server and waits there.
            await connection.execute(f"SELECT 1 FROM {bus._schema}.partitions FOR UPDATE")
            with pytest.raises(BusUnavailable):
                await producer.send([Record("t", b"k", b"late")])
        await producer.send([Record("t", b"k", b"1")])
        await producer.send([Record("t", b"k", b"2")])
    rows = await connection.fetch(f'SELECT value FROM {bus._schema}.messages ORDER BY "offset"')
    assert [row["value"] for row in rows] in ([b"0", b"1", b"2"], [b"0", b"late", b"1", b"2"])
    await impatient.close()


async def test_what_a_failed_send_left_at_the_server_is_gone_once_the_next_one_starts(
    bus: PostgresBus, connection: Any
) -> None:
    await bus.ensure_topics([TopicSpec("t", partitions=2)])
    impatient = PostgresBus(
        f"{bus._dsn}&bus_schema={bus._schema}", request_timeout=2.0, session_timeout=3, rebalance_timeout=60
    )
    keys = {partition_for(key, 2): key for key in (b"a", b"b", b"c", b"d", b"e")}
    async with impatient.producer(client_id=bus._schema) as producer:
        async with connection.transaction():
            await connection.execute(f"SELECT 1 FROM {bus._schema}.partitions WHERE partition = 0 FOR UPDATE")
            with pytest.raises(BusUnavailable):
                await producer.send([Record("t", keys[0], b"late")])
            await producer.send([Record("t", keys[1], b"next")])  # to another partition, which nobody holds
        mine = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE $1 AND state = 'active'"
        async with asyncio.timeout(20):
            while await connection.fetch(mine, f"%{bus._schema}%"):
                await asyncio.sleep(0.05)
    rows = await connection.fetch(f"SELECT value FROM {bus._schema}.messages")
    assert [row["value"] for row in rows] == [b"next"]
    await impatient.close()


async def test_several_may_make_the_schema_at_once(postgres_dsn: str) -> None:
    schema = f"bus_{uuid4().hex[:8]}"
    buses = [connect(f"{postgres_dsn}&bus_schema={schema}") for _ in range(10)]
    await asyncio.gather(*(bus.ensure_topics([TopicSpec("t"), TopicSpec("u")]) for bus in buses))
    assert len(await buses[0].lag("g", ["t", "u"])) == 12
    for bus in buses:
        await bus.close()


# -- Kafka -----------------------------------------------------------------------------------------------------


@pytest.mark.kafka
async def test_retention_follows_the_declaration_and_leaves_an_operators_settings(kafka_url: str) -> None:
    name = f"topic-{uuid4().hex[:12]}"
    bus = connect(kafka_url, request_timeout=15)
    await bus.ensure_topics([TopicSpec(name, partitions=1, retention_ms=3_600_000)])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://"))
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        own = {"retention.ms": "3600000", "cleanup.policy": "delete", "segment.bytes": "10485760"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, own)])
        await bus.ensure_topics([TopicSpec(name, partitions=1, compacted=True)])
        wanted = {"retention.ms": "-1", "cleanup.policy": "compact", "segment.bytes": "10485760"}
        async with asyncio.timeout(20):
            while True:
                (response,) = await admin.describe_configs([resource])
                entries = {entry[0]: entry[1] for entry in response.resources[0][4]}
                if {key: entries[key] for key in wanted} == wanted:
                    break
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
        await bus.close()


@pytest.mark.kafka
@pytest.mark.parametrize("hours", [3, -24 * 40])
async def test_a_record_has_the_brokers_time_whatever_the_senders_clock_says(kafka_url: str, hours: int) -> None:
    # By the sender's time the broker would refuse what is an hour ahead, and delete what is older than the retention.
    name = f"t{uuid4().hex}"
    bus = connect(kafka_url)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://"))
    await producer.start()
    try:
        await bus.ensure_topics([TopicSpec(name, partitions=1, retention_ms=14 * 86_400_000)])
        now = time.time()
        await producer.send_and_wait(name, b"v", timestamp_ms=int((now + hours * 3600) * 1000))
        async with bus.consumer(group=f"g-{name}", topics=[name], member_id="m") as consumer, asyncio.timeout(30):
            while not (found := await consumer.poll(10, 0.5)):
                pass
        assert abs(found[0].timestamp_ms / 1000 - now) < 1800
    finally:
        await producer.stop()
        await bus.close()
