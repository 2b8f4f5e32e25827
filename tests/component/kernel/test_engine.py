"""The consumer engine: what "never", "not now" and "I don't know" lead to, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from laurel import envelope
from laurel.bus import Message, Record, TopicPartition
from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.errors import NotNow, Reject, Stuck
from laurel.events import CredentialStatusChanged
from laurel.process import run_parts
from laurel.service import MAX_UNEXPLAINED, Consumer, Engine, Saving
from laurel.topics import CREDENTIAL
from tests.component.kernel.conftest import Kernel, service, settings

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def record(name: str) -> Record:
    event = CredentialStatusChanged(
        tenant_id="t1", credential_id=name, version=1, status="revoked", reason="r", changed_at=NOW
    )
    headers = envelope.headers(event_id=name, event_type=event.type, source="/t", time=NOW, traceparent=None)
    return Record(CREDENTIAL.name, name.encode(), envelope.encode_data(event), headers)


def message(name: str, offset: int) -> Message:
    made = record(name)
    return Message(made.topic, 0, offset, made.key, made.value, made.headers, 0)


async def store(tx: Transaction, events: Sequence[Delivered]) -> None:
    for one in events:
        await tx.execute(
            "INSERT INTO effects AS e (tenant_id, id) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET seen = e.seen + 1",
            one.event.tenant_id, one.event_id,
        )  # fmt: skip


def engine(kernel: Kernel, save: Callable[..., object], stuck_after_s: float = 60.0) -> Engine[Sequence[Delivered]]:
    consumer = Consumer("test", (CREDENTIAL,), Saving(save))  # type: ignore[arg-type]
    return Engine(
        consumer, bus=kernel.bus, database=kernel.worker, member_id="m", batch_size=50, stuck_after_s=stuck_after_s
    )


async def effects(kernel: Kernel) -> dict[str, int]:
    async with kernel.worker.transaction() as tx:
        return {row["id"]: row["seen"] for row in await tx.fetch("SELECT id, seen FROM effects")}


async def dead(kernel: Kernel) -> dict[int, str]:
    async with kernel.worker.transaction() as tx:
        rows = await tx.fetch('SELECT "offset", code FROM dead_letters ORDER BY "offset"')
        return {row["offset"]: row["code"] for row in rows}


async def test_a_rejected_record_becomes_a_dead_letter_and_the_rest_goes_on(kernel: Kernel) -> None:
    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        for one in events:
            if one.event_id in ("e3", "e7"):
                raise Reject(one, "too_odd", "odd things are not for us")
        await store(tx, events)

    batch = [message(f"e{n}", n) for n in range(10)]
    assert await engine(kernel, save).process(batch, asyncio.Event())
    assert sorted(await effects(kernel)) == sorted(f"e{n}" for n in range(10) if n not in (3, 7))
    assert await dead(kernel) == {3: "too_odd", 7: "too_odd"}


async def test_what_is_no_event_of_ours_is_kept_byte_for_byte(kernel: Kernel) -> None:
    strange = Message(CREDENTIAL.name, 0, 1, b"k", b"\xff\x00garbage", (("h", b"\xfe"),), 0)
    future = replace(
        message("x", 2),
        headers=(("ce_specversion", b"1.0"), ("ce_type", b"laurel.credential.sold.v9"), ("ce_id", b"1")),
    )
    bad = replace(message("y", 3), value=b'{"tenant_id": 5}')
    assert await engine(kernel, store).process([message("e0", 0), strange, future, bad], asyncio.Event())
    assert await dead(kernel) == {1: "not_a_cloudevent", 2: "unknown_type", 3: "bad_data"}
    async with kernel.worker.transaction() as tx:
        row = await tx.fetchrow('SELECT key, value FROM dead_letters WHERE "offset" = 1')
    assert (row["key"], row["value"]) == (strange.key, strange.value)
    assert await effects(kernel) == {"e0": 1}


async def test_an_unexplained_failure_is_isolated_by_halving(kernel: Kernel) -> None:
    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        await store(tx, events)
        if any(one.event_id == "e13" for one in events):
            raise KeyError("bug")

    assert await engine(kernel, save).process([message(f"e{n}", n) for n in range(50)], asyncio.Event())
    assert await dead(kernel) == {13: "handler_error"}
    found = await effects(kernel)
    assert len(found) == 49
    assert set(found.values()) == {1}, "a half that was committed is not done again"


async def test_a_value_that_the_database_refuses_is_not_taken_for_an_outage(kernel: Kernel) -> None:
    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        for one in events:
            await tx.execute("SELECT $1::int", "no number" if one.event_id == "e1" else 1)
        await store(tx, events)

    assert await engine(kernel, save).process([message(f"e{n}", n) for n in range(4)], asyncio.Event())
    assert await dead(kernel) == {1: "handler_error"}


async def test_not_now_is_tried_again_and_never_dead_lettered(kernel: Kernel) -> None:
    tries = 0

    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise NotNow("the other side sleeps")
        await store(tx, events)

    assert await engine(kernel, save).process([message("e0", 0)], asyncio.Event())
    assert tries == 4
    assert await effects(kernel) == {"e0": 1}
    assert await dead(kernel) == {}


async def test_not_now_for_too_long_stops_the_process(kernel: Kernel) -> None:
    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        raise NotNow("for ever")

    with pytest.raises(Stuck, match="for ever"):
        await engine(kernel, save, stuck_after_s=0.3).process([message("e0", 0)], asyncio.Event())
    assert await dead(kernel) == {}


async def test_a_handler_that_fails_on_everything_stops_the_process(kernel: Kernel) -> None:
    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        raise ZeroDivisionError

    with pytest.raises(Stuck, match="more likely wrong"):
        await engine(kernel, save).process([message(f"e{n}", n) for n in range(100)], asyncio.Event())
    assert len(await dead(kernel)) == MAX_UNEXPLAINED


class Deaf:
    """A bus whose consumers return nothing until they hear, while a clock of its own goes on by a second a poll."""

    def __init__(self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus, self.seconds, self.looks, self.hears = kernel.bus, 0.0, 0, False
        monkeypatch.setattr("laurel.service.time", SimpleNamespace(monotonic=lambda: self.seconds))

    async def lag(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
        self.looks += 1
        return await self.bus.lag(group, topics)

    @asynccontextmanager
    async def consumer(self, **options: Any) -> AsyncIterator[Any]:
        async with self.bus.consumer(**options) as source:
            poll = source.poll

            async def deaf(max_records: int, timeout: float) -> Sequence[Message]:
                if self.hears:
                    return await poll(max_records, timeout)
                await asyncio.sleep(0)
                self.seconds += 1.0
                # The first poll is what joins the group: without it nothing is assigned.
                return await poll(0, 0.01) if not source.assignment() else []

            source.poll = deaf  # type: ignore[method-assign]
            yield source


async def test_records_that_wait_and_never_come_are_noticed_within_the_time_of_the_watchdogs(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kernel.bus.producer(client_id="p") as producer:
        await producer.send([record("e0")])
    bus = Deaf(kernel, monkeypatch)
    with pytest.raises(Stuck, match="1 records wait"):
        await Engine(
            Consumer("test", (CREDENTIAL,), Saving(store)), bus=bus, database=kernel.worker, member_id="m",
            batch_size=50, stuck_after_s=40.0,
        ).run(asyncio.Event())  # fmt: skip
    assert bus.looks > 1, "one look is none: what waits may have come a moment ago"
    assert bus.seconds <= 60


async def test_a_record_that_comes_just_before_the_look_is_no_sign_of_standing_still(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = asyncio.Event()

    class JustNow(Deaf):
        async def lag(self, group: str, topics: Sequence[str]) -> dict[TopicPartition, int]:
            async with kernel.bus.producer(client_id="p") as producer:
                await producer.send([record(f"e{self.looks}")])
            self.hears = True
            return await super().lag(group, topics)

    bus = JustNow(kernel, monkeypatch)

    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        await store(tx, events)
        bus.hears = False
        if bus.looks == 5:
            stop.set()

    await Engine(
        Consumer("test", (CREDENTIAL,), Saving(save)), bus=bus, database=kernel.worker, member_id="m", batch_size=50,
        stuck_after_s=40.0,
    ).run(stop)  # fmt: skip
    assert await effects(kernel) == {f"e{number}": 1 for number in range(5)}


async def test_a_process_of_two_members_has_two_batches_in_hand_and_each_event_once(kernel: Kernel) -> None:
    working, in_hand, together, stop = set[int](), set[int](), asyncio.Event(), asyncio.Event()

    class Waits(Saving):
        async def prepare(self, events: Sequence[Delivered]) -> Sequence[Delivered]:
            me = id(asyncio.current_task())
            if len(working) == 2:  # both have partitions: from now on a batch waits for one of the other member
                in_hand.add(me)
                if len(in_hand) == 2:
                    together.set()
                async with asyncio.timeout(30):
                    await together.wait()
            working.add(me)
            return events

    made = service(kernel, consumers=(Consumer("test", (CREDENTIAL,), Waits(store), members=2),))
    running = asyncio.create_task(run_parts(made, kernel.bus, settings(kernel), roles=("worker",), stop=stop))
    sent = 0
    async with kernel.bus.producer(client_id="p") as producer, asyncio.timeout(60):
        while not together.is_set():
            await producer.send([record(f"e{n}") for n in range(sent, sent + 30)])
            sent += 30
            await asyncio.sleep(0.1)
        while len(await effects(kernel)) < sent or sum((await kernel.bus.lag("test", [CREDENTIAL.name])).values()):
            await asyncio.sleep(0.02)
    stop.set()
    await running
    assert set((await effects(kernel)).values()) == {1}
    assert await dead(kernel) == {}


async def test_a_stopped_engine_commits_nothing_that_it_did_not_finish(kernel: Kernel) -> None:
    stop = asyncio.Event()

    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        stop.set()
        raise NotNow("and now we are told to stop")

    assert not await engine(kernel, save).process([message("e0", 0)], stop)


async def test_a_redelivered_batch_after_a_lost_commit_repeats_idempotently(kernel: Kernel) -> None:
    async with kernel.bus.producer(client_id="p") as producer:
        await producer.send([record(f"e{n}") for n in range(30)])

    for _ in range(2):  # the first run dies after its transaction, before the offset
        async with kernel.bus.consumer(group="test", topics=[CREDENTIAL.name], member_id="m") as source:
            found: list[Message] = []
            async with asyncio.timeout(10):
                while len(found) < 30:
                    found += await source.poll(50, 0.2)
            assert await engine(kernel, store).process(found, asyncio.Event())
    assert set((await effects(kernel)).values()) == {2}

    stop = asyncio.Event()
    running = asyncio.create_task(engine(kernel, store).run(stop))
    async with asyncio.timeout(10):
        while set((await effects(kernel)).values()) != {3} or sum(
            (await kernel.bus.lag("test", [CREDENTIAL.name])).values()
        ):
            await asyncio.sleep(0.05)
    stop.set()
    await running
    assert sum((await kernel.bus.lag("test", [CREDENTIAL.name])).values()) == 0


async def test_dying_before_the_transaction_leaves_the_offset_where_it_was(kernel: Kernel) -> None:
    async with kernel.bus.producer(client_id="p") as producer:
        await producer.send([record(f"e{n}") for n in range(5)])
    reached = asyncio.Event()

    async def hang(tx: Transaction, events: Sequence[Delivered]) -> None:
        reached.set()
        await asyncio.sleep(3600)

    doomed = asyncio.create_task(engine(kernel, hang).run(asyncio.Event()))
    await asyncio.wait_for(reached.wait(), 20)
    doomed.cancel()  # as a kill would: in the middle of the batch
    await asyncio.gather(doomed, return_exceptions=True)
    assert sum((await kernel.bus.lag("test", [CREDENTIAL.name])).values()) == 5
    assert await effects(kernel) == {}

    stop = asyncio.Event()
    running = asyncio.create_task(engine(kernel, store).run(stop))
    async with asyncio.timeout(20):
        while len(await effects(kernel)) < 5:
            await asyncio.sleep(0.05)
    stop.set()
    await running
