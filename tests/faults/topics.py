"""What stands in laurel.assessment and laurel.credential after a run, read past the services."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from laurel import envelope
from laurel.bus import Message
from laurel.bus.postgres_consumer import _HEADERS
from laurel.events import AssessmentPassed, CredentialErased, CredentialIssued, CredentialStatusChanged
from laurel.topics import ASSESSMENT, CREDENTIAL


@dataclass
class Seen:
    """The facts in the topics. An event that stands there again (by its id) is a repeat; repeats are allowed.

    In the order of a partition, the first appearance of each event of a key must be in the order of its versions.
    """

    records: int = 0
    repeated: int = 0
    passed: set[str] = field(default_factory=set)
    issued: dict[str, bytes] = field(default_factory=dict)
    changed: dict[tuple[str, int], str] = field(default_factory=dict)
    out_of_order: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    erased: set[str] = field(default_factory=set)
    _versions: dict[str, int] = field(default_factory=dict)  # the last one of each credential that has changed

    def take(self, message: Message) -> None:
        """The next record of its partition."""
        self.records += 1
        match envelope.decode(message).event:
            case AssessmentPassed() as passed:
                self.repeated += passed.credential_id in self.passed
                self.passed.add(passed.credential_id)
            case CredentialIssued() as issued:
                digest = hashlib.sha256(bytes(issued.document)).digest()
                before = self.issued.setdefault(issued.credential_id, digest)
                self.repeated += before is not digest
                if before != digest:
                    self.different.append(f"two documents of {issued.credential_id} were published")
            case CredentialErased() as erased:
                self.repeated += erased.credential_id in self.erased
                self.erased.add(erased.credential_id)
            case CredentialStatusChanged() as changed:
                self._change(changed)

    def _change(self, changed: CredentialStatusChanged) -> None:
        identity, place = changed.credential_id, (changed.credential_id, changed.version)
        if place in self.changed:
            self.repeated += 1
            if self.changed[place] != changed.status:
                self.different.append(f"version {changed.version} of {identity} was published with two statuses")
            return
        self.changed[place] = changed.status
        last = self._versions.get(identity, 0)
        if identity in self.erased:  # what had not left before did not leave any more
            self._versions[identity] = changed.version
            return
        if identity not in self.issued:
            self.out_of_order.append(f"{identity}: version {changed.version} stands before its issue")
        if changed.version != last + 1:
            self.out_of_order.append(f"{identity}: version {changed.version} follows version {last}")
        self._versions[identity] = max(last, changed.version)


async def read_topics(bus: str, *, dsn: str, bus_url: str) -> Seen:
    """Read both topics from their beginnings to their ends of now. bus: "kafka" or "postgres"."""
    seen = Seen()
    reading = _kafka(bus_url) if bus == "kafka" else _postgres(dsn)
    async for message in reading:
        seen.take(message)
    return seen


async def _postgres(dsn: str) -> AsyncIterator[Message]:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(
                'SELECT p.topic, p.partition, m."offset", m.key, m.value, m.headers, m.ts FROM bus.messages m '
                "JOIN bus.partitions p ON p.id = m.partition_id WHERE p.topic = ANY ($1) "
                'ORDER BY m.partition_id, m."offset"', [ASSESSMENT.name, CREDENTIAL.name], prefetch=2000,
            ):  # fmt: skip
                topic, partition, offset, key, value, headers, ts = row
                yield Message(topic, partition, offset, key, value, _HEADERS.decode(headers), ts)
    finally:
        await connection.close()


async def _kafka(url: str) -> AsyncIterator[Message]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=url.removeprefix("kafka://"), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [
            KafkaPartition(topic.name, number)
            for topic in (ASSESSMENT, CREDENTIAL) for number in range(topic.partitions)
        ]  # fmt: skip
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        left = {one for one in partitions if ends[one] > 0}
        while left:
            for records in (await consumer.getmany(*left, timeout_ms=1000, max_records=5000)).values():
                for one in records:
                    yield Message(
                        one.topic, one.partition, one.offset, one.key or b"", one.value or b"", tuple(one.headers),
                        one.timestamp,
                    )  # fmt: skip
            left = {one for one in left if await consumer.position(one) < ends[one]}
    finally:
        await consumer.stop()
