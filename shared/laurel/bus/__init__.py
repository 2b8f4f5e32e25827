"""The bus: topics of partitioned, ordered records, read by consumer groups that commit their offsets.

One protocol and two transports, chosen by URL in :func:`connect` and nowhere else: ``postgres://`` (the
embedded default) and ``kafka://``. ``tests/contract/test_bus.py`` runs over both.

What a caller may rely on, on both transports:

1. *Order*: records of one key stay in the order in which they were sent. Callers await one ``send`` of a key
   before they start the next one of that key.
2. *Durability*: when ``send`` returns, every record of it survives the death of the broker's process.
3. *At least once*: a record is delivered again until an offset beyond it is committed. Effects: idempotent.
4. *One owner*: in a group a partition has one owner; a member that lost it cannot commit it any more.
5. *No hanging*: every await has a deadline. What cannot be had in time raises :class:`BusUnavailable`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self, runtime_checkable

import msgspec

from laurel.bus.partitioner import murmur2, partition_for, positions

__all__ = [
    "MAX_POLL_BYTES",
    "MAX_RECORD_BYTES",
    "Bus",
    "BusError",
    "BusUnavailable",
    "Consumer",
    "Drain",
    "Message",
    "PartitionsLost",
    "Producer",
    "Record",
    "TopicPartition",
    "TopicSpec",
    "connect",
    "murmur2",
    "partition_for",
    "positions",
]


class BusError(Exception):
    """The bus refuses, and trying again will not help: the message names the setting to change."""


class BusUnavailable(BusError):
    """The broker did not answer in time. Retry: a producer sends the whole batch again, a consumer polls."""


class PartitionsLost(BusError):
    """A commit for a partition that this member does not own (any more). Drop the batch."""

    def __init__(self, partitions: Iterable[TopicPartition], reason: str) -> None:
        self.partitions = frozenset(partitions)
        self.reason = reason
        names = ", ".join(sorted(f"{p.topic}[{p.partition}]" for p in self.partitions))
        super().__init__(f"no longer the owner of {names or 'any partition'}: {reason}")


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to publish. The key decides the partition (murmur2); it must never identify a learner."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class Message(msgspec.Struct, frozen=True, gc=False):
    """A record as received. ``timestamp_ms`` is the broker's or database's clock, in ms since 1970 (UTC)."""

    # A Struct, as is whatever is made for every message: a named tuple costs five times as much, a dataclass ten.
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic. ``retention_ms=None`` keeps records for ever; ``compacted`` keeps the last per key."""

    name: str
    partitions: int = 6
    retention_ms: int | None = None
    compacted: bool = False


# Called with the partitions that are about to be given up; returns when their work is finished and committed.
Drain = Callable[[Collection[TopicPartition]], Awaitable[None]]


@runtime_checkable
class Producer(Protocol):
    """Publishes records. An async context manager; entering it does not need the broker to be up."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def send(self, records: Sequence[Record]) -> None:
        """Return when ALL records are durably acknowledged.

        Raises BusUnavailable when that did not happen within the request timeout: some records may have been
        written, and the caller sends the whole batch again. Duplicates are then possible; a wrong order of
        one key is not, because nothing of the failed attempt can arrive once the next attempt starts.
        Raises BusError for a record that can never be sent (unknown topic, too large).
        """
        ...


@runtime_checkable
class Consumer(Protocol):
    """A member of a consumer group. An async context manager; leaving it gives all partitions back at once.

    Leaving does not call ``on_revoke``: whoever leaves the context has finished and committed.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def poll(self, max_records: int, timeout: float) -> list[Message]:
        """At most ``max_records`` messages (about 16 MiB) of owned, unpaused partitions; waits ``timeout`` s.

        Each message comes once per ownership, in offset order within its partition. May return []. Raises
        BusUnavailable while the broker cannot be reached: poll again, the member rejoins by itself.
        """
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the next offsets to read. Raises PartitionsLost when this member does not own all of them,
        BusUnavailable when the broker did not answer in time (nothing is known then: commit again)."""
        ...

    def on_revoke(self, drain: Drain) -> None:
        """``drain`` is awaited before partitions are given up in a rebalance, and may commit them. ``poll``
        returns nothing more of them from that moment. Not called when ownership is lost without warning."""
        ...

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """``poll`` stays silent about these partitions until ``resume``. Ownership is kept."""
        ...

    def resume(self, partitions: Collection[TopicPartition]) -> None: ...

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions owned now."""
        ...


@runtime_checkable
class Bus(Protocol):
    async def ensure_topics(self, topics: Iterable[TopicSpec]) -> None:
        """Create what is missing; idempotent. Adds partitions, never removes any; updates retention."""
        ...

    def producer(self, *, client_id: str) -> Producer: ...

    def consumer(self, *, group: str, topics: Sequence[str], member_id: str) -> Consumer:
        """A member of ``group``, which starts at the earliest offset when it is new. ``member_id`` is unique
        among the group's living members and stable across restarts of a member (a pod's name)."""
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Records that ``group`` has not committed yet, for every partition of ``topics``."""
        ...

    async def retained(
        self, topics: Sequence[str], *, from_ms: int | None = None, to_ms: int | None = None
    ) -> dict[TopicPartition, range]:
        """The offsets that are kept, for every partition of ``topics``; on a compacted topic with gaps.

        ``from_ms``: begins with the first record that is not older; ``to_ms``: ends before the first one that is not.
        Raises BusError for a topic that there is not.
        """
        ...

    def read(self, offsets: Mapping[TopicPartition, range], *, max_records: int = 500) -> AsyncIterator[list[Message]]:
        """The records at these offsets, partition after partition, each in order: lists of 1 to ``max_records``.

        The reader belongs to no group: it commits nothing and takes nothing from anybody. What retention has removed is
        left out. Raises BusUnavailable when the broker does not answer in time.
        """
        ...

    async def close(self) -> None: ...


def connect(
    url: str, *, request_timeout: float = 30.0, session_timeout: float = 10.0, rebalance_timeout: float = 60.0
) -> Bus:
    """The transport that ``url`` names; nothing is dialled yet.

    ``postgres://`` or ``postgresql://``: a libpq DSN; ``?bus_schema=NAME`` (default ``bus``).
    ``kafka://host:port[,host:port]``: see :mod:`laurel.bus.kafka` for the options behind ``?``.

    ``request_timeout``: seconds until a send, commit or admin call raises BusUnavailable.
    ``session_timeout``: seconds without a heartbeat until a member is fenced.
    ``rebalance_timeout``: seconds that a member may take to drain in a rebalance.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    # Imported here so that the embedded default loads no Kafka client.
    if scheme in {"postgres", "postgresql"}:
        from laurel.bus.postgres import PostgresBus

        return PostgresBus(
            url,
            request_timeout=request_timeout,
            session_timeout=session_timeout,
            rebalance_timeout=rebalance_timeout,
        )
    if scheme == "kafka":
        from laurel.bus.kafka import KafkaBus

        return KafkaBus(
            url,
            request_timeout=request_timeout,
            session_timeout=session_timeout,
            rebalance_timeout=rebalance_timeout,
        )
    raise ValueError(
        f"bus URL with scheme {scheme!r}: use postgres://user@host/database or kafka://host:port[,host:port]"
    )


# What one record (key, value and headers) may weigh; Kafka's own default limit is 1 MiB with overhead.
MAX_RECORD_BYTES = 1_000_000
# What one poll may weigh, a last record that begins below it included.
MAX_POLL_BYTES = 16 * 1024 * 1024
