"""Delivering again what was delivered: offsets of a group moved back, records of a topic published once more."""

from __future__ import annotations

import asyncio
import random

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from laurel.bus import Bus, BusError, Record
from laurel.bus.postgres_consumer import _HEADERS
from laurel.topics import TOPICS
from tests.faults.rig import Rig

GROUPS_OF = {
    "laurel.assessment": ("issuer.issuance",),
    "laurel.credential": ("verifier.index", "notifier.deliveries"),
}
_CONNECTED_S = 20.0


class Impossible(Exception):
    """It could not be done now; nothing was changed, or only a part."""


async def rewind(rig: Rig, group: str, records: int) -> None:
    """Move the group's offsets back by so many records a partition. It has no members."""
    if rig.broker is None:
        await rig.fetch(
            "UPDATE bus.offsets SET next_offset = greatest(0, next_offset - $2) WHERE grp = $1", group, records
        )
        return
    consumer = await _consumer(rig, group)
    try:
        async with asyncio.timeout(_CONNECTED_S):
            partitions = _partitions(next(topic.name for topic in TOPICS if group in GROUPS_OF.get(topic.name, ())))
            consumer.assign(partitions)
            while True:
                try:
                    committed = {one: await consumer.committed(one) or 0 for one in partitions}
                    await consumer.commit(
                        {one: OffsetAndMetadata(max(0, offset - records), "") for one, offset in committed.items()}
                    )
                    return
                except KafkaError:  # its members are not forgotten yet
                    await asyncio.sleep(0.5)
    except (KafkaError, TimeoutError) as error:
        raise Impossible(f"{type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()


async def republish(rig: Rig, bus: Bus, topic: str, records: int, shuffle: random.Random | None) -> None:
    """Publish the last so many records of each partition again, in their order or in any."""
    found = await (
        _last_of_postgres(rig, topic, records) if rig.broker is None else _last_of_kafka(rig, topic, records)
    )
    if shuffle is not None:
        shuffle.shuffle(found)
    try:
        async with bus.producer(client_id="nemesis") as producer:
            for start in range(0, len(found), 200):
                await producer.send(found[start : start + 200])
    except BusError as error:
        raise Impossible(str(error)) from error


async def _last_of_postgres(rig: Rig, topic: str, records: int) -> list[Record]:
    rows = await rig.fetch(
        "SELECT m.key, m.value, m.headers FROM bus.partitions p JOIN bus.messages m ON m.partition_id = p.id "
        'WHERE p.topic = $1 AND m."offset" >= p.next_offset - $2 ORDER BY p.id, m."offset"', topic, records,
    )  # fmt: skip
    return [Record(topic, row["key"], row["value"], _HEADERS.decode(row["headers"])) for row in rows]


async def _last_of_kafka(rig: Rig, topic: str, records: int) -> list[Record]:
    consumer = await _consumer(rig, None)
    found: list[Record] = []
    try:
        async with asyncio.timeout(_CONNECTED_S):
            partitions = _partitions(topic)
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            for one in partitions:
                consumer.seek(one, max(0, ends[one] - records))
            left = {one for one in partitions if ends[one]}
            while left:
                for batch in (await consumer.getmany(*left, timeout_ms=1000)).values():
                    found += [Record(topic, one.key or b"", one.value or b"", tuple(one.headers)) for one in batch]
                left = {one for one in left if await consumer.position(one) < ends[one]}
    except (KafkaError, TimeoutError) as error:
        raise Impossible(f"{type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()
    return found


def _partitions(topic: str) -> list[KafkaPartition]:
    return [KafkaPartition(topic, number) for one in TOPICS if one.name == topic for number in range(one.partitions)]


async def _consumer(rig: Rig, group: str | None) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=rig.bus_url.removeprefix("kafka://"), group_id=group, enable_auto_commit=False,
        request_timeout_ms=10_000,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_CONNECTED_S):
            await consumer.start()
    except (KafkaError, TimeoutError) as error:
        await consumer.stop()
        raise Impossible(f"{type(error).__name__}: {error}") from error
    return consumer
