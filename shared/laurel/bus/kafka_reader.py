"""Reads given offsets on Kafka, outside every consumer group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from time import monotonic
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from laurel.bus import MAX_POLL_BYTES, BusUnavailable, Message, TopicPartition
from laurel.bus.kafka_errors import stop_quietly, translated

_WAIT_MS = 1000


async def read_offsets(
    client: Mapping[str, Any], offsets: Mapping[TopicPartition, range], *, max_records: int, timeout: float
) -> AsyncIterator[list[Message]]:
    """See Bus.read. timeout: seconds without a step forward until BusUnavailable."""
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # an offset that retention has removed: go on with what is there
        request_timeout_ms=int(timeout * 1000),
        fetch_max_bytes=MAX_POLL_BYTES,
        max_partition_fetch_bytes=MAX_POLL_BYTES // 4,
    )
    try:
        async with translated("read", timeout):
            await consumer.start()
        for partition, wanted in sorted(offsets.items(), key=lambda one: one[0]):
            if not wanted:
                continue
            place = KafkaPartition(partition.topic, partition.partition)
            consumer.assign([place])
            consumer.seek(place, wanted.start)
            position, moved_at = wanted.start, monotonic()
            while position < wanted.stop:
                async with translated("read", timeout):
                    found = await consumer.getmany(place, timeout_ms=_WAIT_MS, max_records=max_records)
                    after = await consumer.position(place)
                messages = [
                    Message(r.topic, r.partition, r.offset, r.key or b"", r.value or b"", tuple(r.headers), r.timestamp)
                    for r in found.get(place, ())
                    if r.offset < wanted.stop
                ]
                if messages:
                    yield messages
                if after > position:
                    position, moved_at = after, monotonic()
                elif monotonic() - moved_at > timeout:
                    name = f"{partition.topic}[{partition.partition}]"
                    raise BusUnavailable(f"Kafka, read {name}: no record at offset {position} within {timeout:g} s")
    finally:
        await stop_quietly(consumer.stop())
