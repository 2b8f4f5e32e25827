"""How a service runs: its parts, and the engine that takes events from the bus through a handler into one transaction.

A batch's way (the same numbers stand at the code):
 1. poll the bus and decode; what is no event of ours is rejected;
 2. `prepare`, with no transaction open: reserve, and CPU work in processes;
 3. `save` in one transaction: effects, outbox rows, and the dead letters of what was rejected;
 4. commit the offsets.
Dying anywhere before 4 delivers the batch again, so every effect is idempotent.

"Never" (Reject) takes one record out of the batch and into a dead letter. "Not now" (NotNow; a database or bus out of
reach) pauses and tries the batch again. Any other exception splits the batch until the record that causes it stands
alone, and that one is dead-lettered; too many of those in a row mean that we are wrong, not they: the process stops.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import structlog
from fastapi import FastAPI
from msgspec.structs import replace
from opentelemetry.trace import Span, SpanKind

from laurel import envelope, telemetry
from laurel.bus import Bus, BusUnavailable, Message, PartitionsLost, TopicPartition
from laurel.bus import Consumer as BusConsumer
from laurel.crash_points import reach
from laurel.database import Database, Transaction, is_unavailable
from laurel.dead_letters import DeadLetter, bury
from laurel.envelope import Delivered, Undecodable
from laurel.errors import NotNow, Reject, Stuck
from laurel.outbox import Relay
from laurel.topics import Topic
from laurel.waiting import Backoff

log = structlog.get_logger()

MAX_UNEXPLAINED = 20  # records in a row that a handler failed on without saying why, before the process stops
MAX_SPANS = 16  # distinct traces of one batch that get a span of their own; the rest keep their producer's

T = TypeVar("T")


def _is_not_now(error: BaseException) -> bool:
    return isinstance(error, (NotNow, BusUnavailable)) or is_unavailable(error)


class Handler(Protocol[T]):
    """What one consumer does with its events. Both steps must be safe to repeat with the same events."""

    async def prepare(self, events: Sequence[Delivered]) -> T:
        """Everything that needs no open transaction. May raise Reject for one record, NotNow for the batch."""
        ...

    async def save(self, tx: Transaction, prepared: T) -> None:
        """The effects and their outbox rows. May raise Reject for one record."""
        ...


class Saving:
    """A handler that only saves: most are."""

    def __init__(self, save: Callable[[Transaction, Sequence[Delivered]], Awaitable[None]]) -> None:
        self._save = save

    async def prepare(self, events: Sequence[Delivered]) -> Sequence[Delivered]:
        """Nothing to prepare."""
        return events

    async def save(self, tx: Transaction, prepared: Sequence[Delivered]) -> None:
        """Hand over to the function."""
        await self._save(tx, prepared)


@dataclass(frozen=True)
class Consumer(Generic[T]):
    """A consumer group of a service: `group` is its name on the bus, `handler` what it does.

    saved: told when the effects of a batch are committed. For what only saves time: a process may die before.
    members: how many members of the group one process is, each with partitions of its own. More than one where the
    handler waits for other processes: one batch is stored while another is signed.
    """

    group: str
    topics: tuple[Topic, ...]
    handler: Handler[T]
    saved: Callable[[T], None] | None = None
    members: int = 1


@dataclass(frozen=True)
class Worker:
    """A named loop that runs until `stop` is set; it raises only when the process should end."""

    name: str
    run: Callable[[asyncio.Event], Awaitable[None]]


@dataclass
class Service:
    """A service's parts, as its service.py lists them. `resources` are entered before anything runs."""

    name: str
    api: FastAPI
    database: Database
    worker_database: Database
    relay: Relay
    consumers: tuple[Consumer[Any], ...] = ()
    workers: tuple[Worker, ...] = ()
    numbers: Callable[[Transaction], Awaitable[Mapping[str, float]]] | None = None  # gauges that its tables tell
    resources: AsyncExitStack = field(default_factory=AsyncExitStack)


class Engine(Generic[T]):
    """Runs one consumer. `database` is the worker's: it must reach every tenant."""

    def __init__(
        self,
        consumer: Consumer[T],
        *,
        bus: Bus,
        database: Database,
        member_id: str,
        batch_size: int = 500,
        stuck_after_s: float = 40.0,
    ) -> None:
        self._consumer = consumer
        self._bus = bus
        self._database = database
        self._member_id = member_id
        self._batch_size = batch_size
        self._stuck_after_s = stuck_after_s
        self._in_hand = asyncio.Lock()
        self._unexplained = 0
        self._backoff = Backoff()

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`. Raises Stuck when nothing moves although there is something to do."""
        while not stop.is_set():
            try:
                async with self._bus.consumer(
                    group=self._consumer.group,
                    topics=[topic.name for topic in self._consumer.topics],
                    member_id=self._member_id,
                ) as source:
                    source.on_revoke(self._drain)
                    await self._consume(source, stop)
            except BusUnavailable as error:
                seconds = self._backoff.seconds
                log.warning("consumer paused", group=self._consumer.group, reason=str(error), seconds=seconds)
                await self._backoff.wait(stop)

    async def _drain(self, partitions: Collection[TopicPartition]) -> None:
        # The bus takes partitions away: finish and commit what is in hand first, so that nobody does it twice.
        async with self._in_hand:
            reach("consumer.drained", self._consumer.group)
            log.info("partitions given up", group=self._consumer.group, partitions=len(partitions))

    async def _consume(self, source: BusConsumer, stop: asyncio.Event) -> None:
        looked_at, waiting_since = time.monotonic(), dict[TopicPartition, float]()
        while not stop.is_set():
            messages = await source.poll(self._batch_size, 0.5)
            self._backoff.worked()
            if messages:
                async with self._in_hand:
                    if not await self.process(messages, stop):
                        return
                    await self._commit(source, messages)
                    reach("consumer.committed", self._consumer.group)
                looked_at = time.monotonic()
                waiting_since.clear()
            elif time.monotonic() - looked_at > self._stuck_after_s / 4:
                await self._check_stuck(source, waiting_since)
                looked_at = time.monotonic()

    async def _commit(self, source: BusConsumer, messages: Sequence[Message]) -> None:
        offsets: dict[TopicPartition, int] = {}
        for message in messages:
            place = TopicPartition(message.topic, message.partition)
            offsets[place] = max(offsets.get(place, 0), message.offset + 1)
        while offsets:
            try:
                await source.commit(offsets)  # 4
                return
            except PartitionsLost as error:
                # Their new owner repeats these; what is still ours must be committed all the same.
                log.info("partitions lost before the commit", group=self._consumer.group, reason=str(error))
                offsets = {place: offset for place, offset in offsets.items() if place not in error.partitions}

    async def _check_stuck(self, source: BusConsumer, since: dict[TopicPartition, float]) -> None:
        """since: when records were first seen to wait, by partition; none has come from any of them after that."""
        # A consumer can return nothing for ever after a broker was lost. Only the lag tells that from a quiet hour, and
        # only a lag that stays: a record may have come a moment ago.
        lag = await self._bus.lag(self._consumer.group, [topic.name for topic in self._consumer.topics])
        # An offset beyond the end (a broker that lost records) is nothing that waits, and hides nothing that does.
        waiting = {place: count for place in source.assignment() if (count := lag.get(place, 0)) > 0}
        now = time.monotonic()
        for place in since.keys() - waiting.keys():
            del since[place]
        for place in waiting:
            since.setdefault(place, now)
        seconds = now - min(since.values(), default=now)
        if seconds >= self._stuck_after_s * 3 / 4:  # they may have waited for the other quarter before we looked
            records = sum(waiting.values())
            raise Stuck(f"{self._consumer.group}: {records} records wait, none came in {seconds:.0f} s")

    async def process(self, messages: Sequence[Message], stop: asyncio.Event) -> bool:
        """Take one batch through steps 1 to 3. True: its effects are committed; False: stopped before that."""
        events: list[Delivered] = []
        refused: list[DeadLetter] = []
        for message in messages:  # 1
            try:
                events.append(envelope.decode(message))
            except Undecodable as error:
                refused.append(DeadLetter(message, "", None, error.code, error.detail))
        reach("consumer.polled", self._consumer.group)
        started, backoff = time.monotonic(), Backoff()
        while True:
            try:
                await self._handle(events, refused)
                return True
            except Exception as error:
                if not _is_not_now(error):
                    raise
                if time.monotonic() - started > self._stuck_after_s:
                    what = f"{type(error).__name__} for {self._stuck_after_s:.0f} s: {error}"
                    raise Stuck(f"{self._consumer.group}: {what}") from error
                if stop.is_set():
                    return False
                log.warning("batch waits", group=self._consumer.group, reason=f"{type(error).__name__}: {error}")
                await backoff.wait(stop)

    async def _handle(self, events: list[Delivered], refused: list[DeadLetter]) -> None:
        """Handle `events` as one batch; on failure take out the record that causes it, by name or by halving."""
        while True:
            try:
                await self._attempt(events, refused)
                self._unexplained = 0 if events else self._unexplained
                return
            except Reject as error:
                delivered = error.delivered
                events = [one for one in events if one.message is not delivered.message]
                self._unexplained = 0
                refused = [*refused, DeadLetter.of(delivered, error.code, error.detail)]
                reach("consumer.rejected", self._consumer.group)
            except Exception as error:
                if _is_not_now(error) or isinstance(error, Stuck) or not events:
                    raise
                if len(events) > 1:
                    middle = len(events) // 2
                    await self._handle(events[:middle], refused)
                    events, refused = events[middle:], []
                    continue
                self._unexplained += 1
                log.exception("handler failed", group=self._consumer.group, type=events[0].event.type)
                if self._unexplained > MAX_UNEXPLAINED:
                    raise Stuck(
                        f"{self._consumer.group}: {self._unexplained} records in a row failed, the last with "
                        f"{type(error).__name__}; the handler is more likely wrong than they are"
                    ) from error
                what = f"{type(error).__name__}: {error}"
                refused, events = [*refused, DeadLetter.of(events[0], "handler_error", what)], []

    async def _attempt(self, events: Sequence[Delivered], refused: Sequence[DeadLetter]) -> None:
        continued, spans = _one_span_a_trace(self._consumer.group, events)
        try:
            prepared = await self._consumer.handler.prepare(continued) if continued else None  # 2
            reach("consumer.prepared", self._consumer.group)
            async with self._database.transaction() as tx:  # 3
                if prepared is not None:
                    await self._consumer.handler.save(tx, prepared)
                await bury(tx, self._consumer.group, refused)
                reach("consumer.saving", self._consumer.group)
            reach("consumer.saved", self._consumer.group)
            if prepared is not None and self._consumer.saved is not None:
                self._consumer.saved(prepared)
        finally:
            for span in spans:
                span.end()
        telemetry.count("laurel_consumed_total", len(events), group=self._consumer.group)
        if refused:
            telemetry.count("laurel_dead_letters_total", len(refused), group=self._consumer.group)


def _one_span_a_trace(group: str, events: Sequence[Delivered]) -> tuple[list[Delivered], list[Span]]:
    """Open a `process` span for each distinct trace of a batch; the events continue their span from here on."""
    spans: dict[str | None, Span] = {}
    for delivered in events:
        parent = delivered.traceparent
        if parent is None or parent in spans or len(spans) >= MAX_SPANS:
            continue
        spans[parent] = telemetry.start_span(
            f"process {delivered.message.topic}",
            parent=parent,
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.operation.type": "process",
                "messaging.consumer.group.name": group,
                "messaging.destination.name": delivered.message.topic,
                "messaging.batch.message_count": len(events),
            },
        )
    contexts = {parent: telemetry.format_traceparent(one.get_span_context()) for parent, one in spans.items()}
    continued = [
        one if (context := contexts.get(one.traceparent)) is None else replace(one, traceparent=context)
        for one in events
    ]
    return continued, list(spans.values())
