"""A consumer group's member on Kafka.

aiokafka rebalances in the background and eagerly: in each rebalance every member gives up everything and is given
its share anew. What that means here:
1. before the group is joined again, `on_revoke` lets the engine finish and commit (heartbeats go on meanwhile),
2. from that moment `poll` is silent until partitions are assigned anew,
3. positions then begin at the committed offsets.

A background task (`_run`) makes the client, and makes a new one when it was found broken: dead tasks inside, an
assignment that never comes, or records that exist but are not handed out (`_check`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from laurel.bus import MAX_POLL_BYTES, BusError, BusUnavailable, Drain, Message, PartitionsLost, TopicPartition
from laurel.bus.kafka_errors import NEVER, over_a_closed_connection, stop_quietly, translated
from laurel.crash_points import reach

log = logging.getLogger(__name__)

_CHECK_EVERY = 3.0  # seconds between looks at the broker while nothing arrives
_LONG_LIFE = 60.0  # a client that lived so long was no hopeless case: the next one is made at once
_STALLED_AFTER = 15.0  # seconds for which records may exist without being handed out


class KafkaConsumer:
    def __init__(
        self,
        client: Mapping[str, Any],
        *,
        group: str,
        topics: Sequence[str],
        member_id: str,
        static: bool,
        request_timeout: float,
        session_timeout: float,
        rebalance_timeout: float,
    ) -> None:
        self._client = dict(client)
        self._group = group
        self._topics = list(topics)
        self._member_id = member_id
        self._static = static
        self._request_timeout = request_timeout
        self._session_timeout = session_timeout
        self._rebalance_timeout = max(rebalance_timeout, session_timeout)

        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int | None] = {}  # owned → next offset to hand out (None: none yet)
        self._revoking = False
        self._paused: set[TopicPartition] = set()
        self._drain: Drain | None = None
        self._news = asyncio.Event()  # a client, or a change of ownership
        self._broken = asyncio.Event()  # the client must be replaced
        self._trouble: BusError | None = None
        self._fatal: BusError | None = None
        self._checked = monotonic()
        self._behind_since: float | None = None
        self._homeless_since: float | None = None  # since when a rebalance has been under way
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run(), name=f"bus member {self._member_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    # -- what the engine calls ------------------------------------------------------------------------------

    def on_revoke(self, drain: Drain) -> None:
        self._drain = drain

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.update(partitions)
        self._apply_pause("pause", partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused.difference_update(partitions)
        self._apply_pause("resume", partitions)
        self._news.set()

    def _apply_pause(self, verb: str, partitions: Collection[TopicPartition]) -> None:
        """Stop (or go on) fetching in the background, too. Partitions that were just taken away do not matter."""
        if self._consumer is not None:
            for partition in partitions:
                with contextlib.suppress(IllegalStateError):
                    getattr(self._consumer, verb)(KafkaPartition(partition.topic, partition.partition))

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._next)

    async def poll(self, max_records: int, timeout: float) -> list[Message]:
        until = monotonic() + timeout
        while True:
            if self._fatal is not None:
                raise self._fatal
            self._news.clear()
            left = max(0.0, until - monotonic())
            wanted = [] if self._revoking else sorted(self._next.keys() - self._paused)
            if wanted and self._consumer is not None:
                messages = await self._fetch(self._consumer, wanted, max_records, left)
                if messages:
                    self._trouble, self._behind_since, self._checked = None, None, monotonic()
                    return messages
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _CHECK_EVERY)):
                        await self._news.wait()
            if self._consumer is not None and monotonic() - self._checked >= _CHECK_EVERY:
                await self._check(self._consumer)
            if monotonic() >= until:
                if self._trouble is not None:
                    raise BusUnavailable(f"{self._trouble}; the member rejoins by itself")
                return []

    async def _fetch(
        self, consumer: AIOKafkaConsumer, wanted: list[TopicPartition], max_records: int, wait: float
    ) -> list[Message]:
        partitions = [KafkaPartition(p.topic, p.partition) for p in wanted]
        # Short waits: a rebalance can make an assignment's fetch wait beyond its own timeout.
        wait = min(wait, _CHECK_EVERY)
        try:
            async with asyncio.timeout(wait + 1.0):
                found = await consumer.getmany(*partitions, timeout_ms=int(wait * 1000), max_records=max_records)
        except TimeoutError:
            return []
        except NEVER as error:
            self._fatal = BusError(f"Kafka, read: {type(error).__name__}: {error}")
            raise self._fatal from error
        except (KafkaError, OSError) as error:
            self._give_up(f"reading failed: {type(error).__name__}: {error}")
            return []
        except RuntimeError as error:
            if not over_a_closed_connection(error):
                raise
            self._give_up("reading failed: the connection is closed")
            return []
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._give_up("a task of the client was cancelled from inside")
            return []
        messages: list[Message] = []
        for partition, records in found.items():
            owned = TopicPartition(partition.topic, partition.partition)
            # Revoked while we waited: what was not handed out before the drain is the next owner's to read.
            if self._revoking or owned not in self._next or not records:
                continue
            messages.extend(
                Message(r.topic, r.partition, r.offset, r.key or b"", r.value or b"", tuple(r.headers), r.timestamp)
                for r in records
            )
            self._next[owned] = records[-1].offset + 1
        if messages:
            reach("bus.kafka.read")
        return messages

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        consumer = self._consumer
        lost = offsets.keys() - self._next.keys()
        if lost or consumer is None:
            raise PartitionsLost(lost or offsets, "the group has rebalanced, or the connection was lost")
        # A batch that was polled in an earlier ownership: its records come (or came) again, to us or to another.
        if ahead := [p for p, offset in offsets.items() if offset > (self._next[p] or 0)]:
            raise PartitionsLost(ahead, "it was lost and taken again since these records were polled")
        try:
            async with translated("commit", self._request_timeout):
                await consumer.commit({KafkaPartition(p.topic, p.partition): o for p, o in offsets.items()})
            reach("bus.kafka.committed")
        except BusUnavailable as error:
            if isinstance(error.__cause__, CommitFailedError | IllegalStateError):
                raise PartitionsLost(offsets, "the group has rebalanced") from error
            self._trouble = error
            raise

    # -- membership -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = 0.1
        while True:
            consumer = self._make()
            try:
                async with translated("join the group", self._request_timeout):
                    await consumer.start()
                consumer.subscribe(self._topics, listener=_Listener(self))
                self._consumer, self._trouble, started = consumer, None, monotonic()
                self._checked, self._behind_since, self._homeless_since = monotonic(), None, monotonic()
                self._broken.clear()
                self._news.set()
                await self._broken.wait()
                if monotonic() - started > _LONG_LIFE:
                    pause = 0.1
            except BusUnavailable as error:
                log.warning("member %s of group %s: %s", self._member_id, self._group, error)
                self._trouble = error
            except BusError as error:
                self._fatal = error
                self._news.set()
                return
            except asyncio.CancelledError:
                await self._part(consumer, leave=True)
                raise
            finally:
                self._consumer = None
                self._forget()
            await self._part(consumer, leave=False)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    def _make(self) -> AIOKafkaConsumer:
        session_ms = int(self._session_timeout * 1000)
        return AIOKafkaConsumer(
            **self._client,
            client_id=f"laurel-{self._group}",
            group_id=self._group,
            group_instance_id=self._member_id if self._static else None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(3_000, session_ms // 3),
            rebalance_timeout_ms=int(self._rebalance_timeout * 1000),
            # The engine's own watchdog ends a process that makes no progress; it knows better than the client.
            max_poll_interval_ms=86_400_000,
            request_timeout_ms=int(self._request_timeout * 1000),
            metadata_max_age_ms=60_000,
            fetch_max_bytes=MAX_POLL_BYTES,
            max_partition_fetch_bytes=MAX_POLL_BYTES // 4,
        )

    async def _part(self, consumer: AIOKafkaConsumer, *, leave: bool) -> None:
        if leave and consumer._coordinator is not None:
            # A static member does not say goodbye: its partitions would rest for the session timeout. Whoever leaves
            # on purpose says it; who crashes comes back under its name.
            consumer._coordinator._group_instance_id = None
        if not await stop_quietly(consumer.stop()):
            if consumer._fetcher is not None:
                await stop_quietly(consumer._fetcher.close(), grace=1.0)
            await stop_quietly(consumer._client.close(), grace=1.0)

    def _forget(self) -> None:
        self._next.clear()
        self._news.set()

    def _give_up(self, why: str) -> None:
        """The client is of no use any more: own nothing from now on, and let `_run` make a new one."""
        log.warning("member %s of group %s: %s; making a new client", self._member_id, self._group, why)
        self._trouble = BusUnavailable(f"Kafka: {why}")
        self._consumer = None
        self._forget()
        self._broken.set()

    async def _check(self, consumer: AIOKafkaConsumer) -> None:
        """While nothing arrives: does a broker answer, and is there really nothing to read?"""
        self._checked = monotonic()
        owned = {KafkaPartition(p.topic, p.partition) for p in self._next.keys() - self._paused}
        try:
            async with translated("look at the broker", min(self._request_timeout, 5.0)):
                await consumer.topics()
                ends = await consumer.end_offsets(list(owned)) if owned else {}
                positions = {p: await consumer.position(p) for p in owned}
        except BusError as error:
            if not isinstance(error.__cause__, IllegalStateError):  # that one is a rebalance under our hands
                self._trouble = error
            return
        self._trouble = None
        now = monotonic()
        if all(positions[p] >= ends[p] for p in owned):
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since > _STALLED_AFTER:
            self._give_up(f"records exist, but none came for {_STALLED_AFTER:g} s")
            return
        patience = self._rebalance_timeout + 2 * self._session_timeout
        if self._homeless_since is not None and now - self._homeless_since > patience:
            self._give_up(f"a rebalance has not ended for {patience:g} s")

    async def _revoked(self, revoked: Collection[KafkaPartition]) -> None:
        self._revoking = True
        self._homeless_since = monotonic()
        surplus = [p for p in (TopicPartition(r.topic, r.partition) for r in revoked) if p in self._next]
        try:
            if surplus and self._drain is not None:
                # Below the rebalance timeout, after which the coordinator goes on without us.
                async with asyncio.timeout(self._rebalance_timeout * 0.9):
                    await self._drain(surplus)
        except Exception:
            # Given up all the same: what was not committed comes again, at the next owner.
            log.exception("draining %s for a rebalance failed", sorted(surplus))
        finally:
            reach("bus.kafka.released")
            self._next.clear()

    def _assigned(self, assigned: Collection[KafkaPartition]) -> None:
        self._next = {TopicPartition(p.topic, p.partition): None for p in assigned}
        self._paused.clear()  # a new ownership begins unpaused
        self._revoking = False
        self._homeless_since = None
        self._behind_since = None
        self._news.set()
        reach("bus.kafka.joined")


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is not typed
    def __init__(self, member: KafkaConsumer) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: Collection[KafkaPartition]) -> None:
        await self._member._revoked(revoked)

    def on_partitions_assigned(self, assigned: Collection[KafkaPartition]) -> None:
        self._member._assigned(assigned)
