"""What stands in the five topics after a run, read past the services."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from laurel import envelope
from laurel.bus import Message, partition_for
from laurel.bus.postgres_consumer import _HEADERS
from laurel.events import (
    AchievementPublished,
    AchievementRetired,
    ApiKeyCreated,
    ApiKeyRevoked,
    ApiKeyRotated,
    AssessmentPassed,
    CredentialErased,
    CredentialIssued,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
    EndorsementIssued,
    IssuerProfilePublished,
    LearnerErased,
    OrganisationCreated,
)
from laurel.topics import TOPICS, route

_PARTITIONS = {topic.name: topic.partitions for topic in TOPICS}


@dataclass
class Seen:
    """The facts in the topics. A fact that stands there again is a repeat; repeats are allowed, of the same content.

    Each key has one partition; in its order, the first appearances of the facts of a key must be in their order:

    - organisation: it is created, then a key of it; that is rotated, and revoked in the end;
    - achievement: versions from 1 without a gap; then the retirement of the last one;
    - profile: versions that grow (of a compacted topic earlier ones may be gone);
    - assessment: passed, then erased;
    - credential: issued, then versions from 1 without a gap, then erased. What had not left when it was erased never
      does; only the version that the erasure names comes behind it.
    """

    records: int = 0
    repeated: int = 0
    organisations: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)  # api key → created, rotated or revoked, the last of them
    achievements: dict[str, int] = field(default_factory=dict)  # → the last version
    retired: set[str] = field(default_factory=set)
    profiles: dict[str, int] = field(default_factory=dict)  # → the last version
    passed: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)  # credentials whose pass is erased
    issued: dict[str, bytes] = field(default_factory=dict)
    changed: dict[tuple[str, int], str] = field(default_factory=dict)
    out_of_order: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    erased: dict[str, int] = field(default_factory=dict)  # → the version that comes behind it; 0: none
    _versions: dict[str, int] = field(default_factory=dict)  # the last one of each credential that has changed
    _facts: dict[tuple[str, str], bytes] = field(default_factory=dict)  # content of what is rare, by name
    _ids: set[str] = field(default_factory=set)  # of the organisations' events

    def take(self, message: Message) -> None:
        """The next record of its partition."""
        self.records += 1
        delivered = envelope.decode(message)
        event = delivered.event
        if (message.topic, message.key) != route(event):
            self.different.append(f"{event.type} {message.key!r} of {message.topic} stands under {route(event)}")
        home = partition_for(message.key, _PARTITIONS[message.topic])
        if message.partition != home:
            self.out_of_order.append(f"{message.topic} {message.key!r} is in partition {message.partition}, not {home}")
        match event:
            case OrganisationCreated() | ApiKeyCreated() | ApiKeyRotated() | ApiKeyRevoked():
                if delivered.event_id in self._ids:
                    self.repeated += 1
                else:
                    self._ids.add(delivered.event_id)
                    self._organisation(event)
            case AchievementPublished() | AchievementRetired():
                self._achievement(event, message.value)
            case IssuerProfilePublished():
                self._profile(event, message.value)
            case AssessmentPassed():
                if event.credential_id in self.forgotten and event.credential_id not in self.passed:
                    self.out_of_order.append(f"{event.credential_id}: its pass stands behind its erasure")
                self.repeated += event.credential_id in self.passed
                self.passed.add(event.credential_id)
            case LearnerErased():
                self.repeated += event.credential_id in self.forgotten
                self.forgotten.add(event.credential_id)
            case CredentialIssued() | EndorsementIssued():
                self._issue(event)
            case CredentialErased():
                self._erase(event)
            case CredentialStatusChanged():
                self._change(event.credential_id, event.version, event.status)
            case CredentialRefreshOffered():
                self._change(event.credential_id, event.version, "refresh")
            case CredentialMessageChanged():
                self._change(event.credential_id, event.version, "message")

    def _organisation(self, event: OrganisationCreated | ApiKeyCreated | ApiKeyRotated | ApiKeyRevoked) -> None:
        if isinstance(event, OrganisationCreated):
            self.organisations.add(event.tenant_id)
            return
        if event.tenant_id not in self.organisations:
            self.out_of_order.append(f"organisation {event.tenant_id}: key {event.key_id} stands before its creation")
        now = {ApiKeyCreated: "created", ApiKeyRotated: "rotated", ApiKeyRevoked: "revoked"}[type(event)]
        before = self.keys.get(event.key_id)
        if (before is None) != (now == "created") or before == "revoked":
            self.out_of_order.append(f"key {event.key_id} is {now} after it was {before}")
        if before != "revoked":
            self.keys[event.key_id] = now

    def _again(self, name: str, version: int, content: bytes, what: str = "version") -> bool:
        """Whether this fact stood there before."""
        digest = hashlib.sha256(content).digest()
        before = self._facts.setdefault((name, f"{what} {version}"), digest)
        self.repeated += before is not digest
        if before != digest:
            self.different.append(f"{what} {version} of {name} was published with two contents")
        return before is not digest

    def _achievement(self, event: AchievementPublished | AchievementRetired, content: bytes) -> None:
        name, last = event.achievement_id, self.achievements.get(event.achievement_id, 0)
        if isinstance(event, AchievementRetired):
            if not self._again(name, event.version, content, "retirement") and event.version != last:
                self.out_of_order.append(
                    f"achievement {name}: the retirement of version {event.version} follows version {last}"
                )
            self.retired.add(name)
            return
        if self._again(name, event.version, content):
            return
        if event.version != last + 1 or name in self.retired:
            self.out_of_order.append(f"achievement {name}: version {event.version} follows version {last}")
        self.achievements[name] = max(last, event.version)

    def _profile(self, event: IssuerProfilePublished, content: bytes) -> None:
        name, last = event.profile_id, self.profiles.get(event.profile_id, 0)
        if self._again(name, event.version, content):
            return
        if event.version < last:
            self.out_of_order.append(f"profile {name}: version {event.version} follows version {last}")
        self.profiles[name] = max(last, event.version)

    def _issue(self, issued: CredentialIssued | EndorsementIssued) -> None:
        identity = issued.credential_id
        if identity not in self.issued and identity in self.erased:
            self.out_of_order.append(f"{identity}: its issue stands behind its erasure")
        digest = hashlib.sha256(bytes(issued.document)).digest()
        before = self.issued.setdefault(identity, digest)
        self.repeated += before is not digest
        if before != digest:
            self.different.append(f"two documents of {identity} were published")

    def _erase(self, erased: CredentialErased) -> None:
        identity = erased.credential_id
        if identity in self.erased:
            self.repeated += 1
            return
        self.erased[identity] = erased.version
        if erased.version and erased.version <= (last := self._versions.get(identity, 0)):
            self.out_of_order.append(f"{identity}: version {last} stands before its erasure ({erased.version})")

    def _change(self, identity: str, version: int, status: str) -> None:
        place = identity, version
        if place in self.changed:
            self.repeated += 1
            if self.changed[place] != status:
                self.different.append(f"version {version} of {identity} was published with two statuses")
            return
        self.changed[place] = status
        last = self._versions.get(identity, 0)
        self._versions[identity] = max(last, version)
        if identity in self.erased:
            if version != self.erased[identity]:
                self.out_of_order.append(f"{identity}: version {version} stands behind its erasure")
            return
        if identity not in self.issued:
            self.out_of_order.append(f"{identity}: version {version} stands before its issue")
        if version != last + 1:
            self.out_of_order.append(f"{identity}: version {version} follows version {last}")


async def read_topics(bus: str, *, dsn: str, bus_url: str) -> Seen:
    """Read all topics from their beginnings to their ends of now. bus: "kafka" or "postgres"."""
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
                'ORDER BY m.partition_id, m."offset"', [*_PARTITIONS], prefetch=2000,
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
            for topic in TOPICS for number in range(topic.partitions)
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
