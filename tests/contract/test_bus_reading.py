"""Reading given offsets outside every group, the same on both transports: what a replay stands on."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping

import pytest

from laurel.bus import Bus, BusError, BusUnavailable, Message, Record, TopicPartition, TopicSpec, connect


def records(topic: str, count: int, *, start: int = 0) -> list[Record]:
    return [
        Record(topic, b"key-%d" % (i % 37), b"%d" % i, (("n", b"%d" % i), ("raw", b"\xff\x00")))
        for i in range(start, start + count)
    ]


async def send(bus: Bus, batch: list[Record]) -> None:
    async with bus.producer(client_id="test") as producer:
        await producer.send(batch)


async def everything(bus: Bus, offsets: Mapping[TopicPartition, range], *, at_most: int = 500) -> list[Message]:
    found: list[Message] = []
    async with asyncio.timeout(60):
        async for some in bus.read(offsets, max_records=at_most):
            assert 0 < len(some) <= at_most
            found += some
    return found


def numbers(found: list[Message]) -> list[int]:
    return sorted(int(one.value) for one in found)


async def test_everything_that_is_kept_is_read_in_order_and_byte_for_byte(bus: Bus, topic: str) -> None:
    sent = records(topic, 1000)
    await send(bus, sent)
    offsets = await bus.retained([topic])
    assert sorted(one.partition for one in offsets) == list(range(6))
    assert sum(len(one) for one in offsets.values()) == 1000
    found = await everything(bus, offsets, at_most=70)
    assert {(one.key, one.value, one.headers) for one in found} == {(one.key, one.value, one.headers) for one in sent}
    assert len(found) == 1000
    by_partition: dict[int, list[int]] = defaultdict(list)
    for one in found:
        by_partition[one.partition].append(one.offset)
    for partition, got in by_partition.items():
        assert got == list(offsets[TopicPartition(topic, partition)])
    assert [one.partition for one in found] == sorted(one.partition for one in found)


async def test_no_group_notices_that_somebody_reads(bus: Bus, topic: str, group: str) -> None:
    await send(bus, records(topic, 100))
    async with bus.consumer(group=group, topics=[topic], member_id="m") as consumer:
        taken: list[Message] = []
        async with asyncio.timeout(40):
            while len(taken) < 100:
                taken += await consumer.poll(500, 1.0)
        half = {TopicPartition(one.topic, one.partition): 0 for one in taken}
        for one in taken[: len(taken) // 2]:
            half[TopicPartition(one.topic, one.partition)] = one.offset + 1
        await consumer.commit({place: offset for place, offset in half.items() if offset})
        before = await bus.lag(group, [topic])
        owned = consumer.assignment()
        assert numbers(await everything(bus, await bus.retained([topic]))) == list(range(100))
        assert await bus.lag(group, [topic]) == before
        await consumer.poll(1, 0.2)
        assert consumer.assignment() == owned
        await send(bus, records(topic, 50, start=100))  # and it goes on where it was
        more: list[Message] = []
        async with asyncio.timeout(40):
            while len(more) < 50:
                more += await consumer.poll(500, 1.0)
        assert numbers(more) == list(range(100, 150))


async def test_offsets_bound_what_is_read_from_both_sides(bus: Bus, topic: str) -> None:
    await send(bus, records(topic, 600))
    offsets = await bus.retained([topic])
    (place, whole) = max(offsets.items(), key=lambda one: len(one[1]))
    assert len(whole) > 20
    part = range(whole.start + 3, whole.stop - 5)
    found = await everything(bus, {place: part}, at_most=7)
    assert [one.offset for one in found] == list(part)
    assert {TopicPartition(one.topic, one.partition) for one in found} == {place}
    assert await everything(bus, {place: range(whole.stop, whole.stop)}) == []
    assert await everything(bus, {}) == []
    # What comes in after the end was asked for is not part of it, also where a fetch brings it along.
    await send(bus, records(topic, 600, start=600))
    assert [one.offset for one in await everything(bus, {place: whole})] == list(whole)


async def test_times_bound_what_is_read(bus: Bus, topic: str) -> None:
    await send(bus, records(topic, 120))
    first = await everything(bus, await bus.retained([topic]))
    between = max(one.timestamp_ms for one in first) + 1
    while time.time() * 1000 <= between + 1:  # a millisecond of its own
        await asyncio.sleep(0.002)
    await send(bus, records(topic, 80, start=120))
    earlier = await everything(bus, await bus.retained([topic], to_ms=between))
    later = await everything(bus, await bus.retained([topic], from_ms=between))
    assert (numbers(earlier), numbers(later)) == (list(range(120)), list(range(120, 200)))
    both = await bus.retained([topic], from_ms=between, to_ms=between)
    assert sum(len(one) for one in both.values()) == 0
    future = int(time.time() * 1000) + 3_600_000
    assert sum(len(one) for one in (await bus.retained([topic], from_ms=future)).values()) == 0
    assert numbers(await everything(bus, await bus.retained([topic], from_ms=0, to_ms=future))) == list(range(200))


async def test_a_topic_that_is_not_there_is_said(bus: Bus, topic: str) -> None:
    with pytest.raises(BusError, match="no-such-topic"):
        await bus.retained([topic, "no-such-topic"])


async def test_an_empty_topic_has_nothing(bus: Bus, topic: str) -> None:
    offsets = await bus.retained([topic])
    assert [len(one) for one in offsets.values()] == [0] * 6
    assert await everything(bus, offsets) == []


async def test_a_broker_out_of_reach_is_said_in_time(transport: str) -> None:
    nowhere = {"postgres": "postgres://postgres@127.0.0.1:1/x", "kafka": "kafka://127.0.0.1:1"}[transport]
    bus = connect(nowhere, request_timeout=1.0)
    with pytest.raises(BusUnavailable):
        await bus.retained(["t"])
    with pytest.raises(BusUnavailable):
        async for _ in bus.read({TopicPartition("t", 0): range(5)}):
            pass
    await bus.close()


async def test_a_reader_that_is_left_in_the_middle_leaves_nothing_behind(bus: Bus, topic: str) -> None:
    await send(bus, records(topic, 500))
    offsets = await bus.retained([topic])
    reading = bus.read(offsets, max_records=10)
    assert len(await anext(reading)) == 10
    await reading.aclose()  # type: ignore[attr-defined]
    assert len(await everything(bus, offsets)) == 500


async def test_what_a_compacted_topic_has_dropped_is_left_out(bus: Bus, transport: str) -> None:
    """Kafka compacts in its own time; where the gaps are, the reader goes over them."""
    name = f"compacted-{time.time_ns()}"
    await bus.ensure_topics([TopicSpec(name, partitions=1, compacted=True)])
    await send(bus, [Record(name, b"k%d" % (i % 2), b"%d" % i) for i in range(10)])
    if transport == "postgres":
        session = bus._session  # type: ignore[attr-defined]
        async with session.use("drop") as connection:
            await connection.execute(
                f"DELETE FROM {bus._schema}.messages m USING {bus._schema}.partitions p "  # type: ignore[attr-defined]
                'WHERE m.partition_id = p.id AND p.topic = $1 AND m."offset" < 8 AND m."offset" <> 4', name,
            )  # fmt: skip
    found = await everything(bus, {TopicPartition(name, 0): range(10)}, at_most=2)
    assert [int(one.value) for one in found] == ([4, 8, 9] if transport == "postgres" else list(range(10)))
