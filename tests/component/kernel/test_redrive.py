"""A dead letter's second chance: once, in order, through its one consumer, and never lost on the way."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from laurel import dead_letter_store as letters
from laurel.bus import Message
from laurel.database import Transaction
from laurel.dead_letter_store import Redrive, Which
from laurel.dead_letters import DeadLetter, bury
from laurel.envelope import Delivered
from laurel.errors import NotNow, Reject
from laurel.redrive import MAX_STARTS, Redriver, settling
from laurel.service import Consumer, Engine, Saving
from laurel.topics import CREDENTIAL
from tests.component.kernel.conftest import Kernel
from tests.component.kernel.test_engine import effects, message, store

Save = Callable[[Transaction, Sequence[Delivered]], Awaitable[None]]


async def refuse(tx: Transaction, events: Sequence[Delivered]) -> None:
    raise Reject(events[0], "not_yet", "this version does not know it")


def consumer(save: Save) -> Consumer[Any]:
    return Consumer("test", (CREDENTIAL,), Saving(save))


def engine(kernel: Kernel, save: Save) -> Engine[Any]:
    return Engine(consumer(save), bus=kernel.bus, database=kernel.worker, member_id="m")


def redriver(kernel: Kernel, save: Save, **options: float) -> Redriver[Any]:
    return Redriver(consumer(save), bus=kernel.bus, database=kernel.worker, look_s=0.05, **options)


async def kill(kernel: Kernel, *messages: Message) -> None:
    """Let these become dead letters."""
    assert await engine(kernel, refuse).process(messages, asyncio.Event())


async def ask(kernel: Kernel, which: Which | None = None, **more: Any) -> str:
    async with kernel.worker.transaction() as tx:
        request_id, _ = await letters.ask(tx, Redrive(which or Which(states=["waiting"]), "operator:t", **more))
        return request_id


async def rows(kernel: Kernel, query: str) -> list[dict[str, Any]]:
    async with kernel.worker.transaction() as tx:
        return [dict(row) for row in await tx.fetch(query)]


async def states(kernel: Kernel) -> dict[int, tuple[str, str, int]]:
    found = await rows(kernel, 'SELECT "offset", state, code, attempts FROM dead_letters ORDER BY "offset"')
    return {row["offset"]: (row["state"], row["code"], row["attempts"]) for row in found}


async def work(kernel: Kernel, *running: Redriver[Any], until: Callable[[], Awaitable[bool]] | None = None) -> None:
    """Run redrivers until nothing is queued any more."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(one.run(stop)) for one in running]
    try:
        async with asyncio.timeout(30):
            while any(state == "queued" for state, _, _ in (await states(kernel)).values()):
                if until is not None and await until():
                    break
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_a_letter_is_handled_by_its_consumer_and_its_story_is_kept(kernel: Kernel) -> None:
    await kill(kernel, *(message(f"e{n}", n) for n in range(5)))
    request = await ask(kernel, note="version 2 knows it")
    await work(kernel, redriver(kernel, store))
    assert await effects(kernel) == {f"e{n}": 1 for n in range(5)}
    assert set((await states(kernel)).values()) == {("redriven", "not_yet", 1)}
    async with kernel.worker.transaction() as tx:
        assert await letters.progress(tx, request) == {"queued": 0, "redriven": 5, "died_again": 0, "cancelled": 0}
        (letter, *_) = await letters.find(tx, Which())
        (action,) = await letters.actions(tx, letter["id"])
    assert [action[name] for name in ("action", "asked_by", "note", "was", "outcome")] == [
        "redrive", "operator:t", "version 2 knows it", "not_yet", "redriven",
    ]  # fmt: skip
    assert letter["redriven_at"] is not None
    assert action["finished_at"] >= action["asked_at"]


async def test_nothing_is_published_again(kernel: Kernel) -> None:
    await kill(kernel, message("e0", 0))
    await ask(kernel)
    await work(kernel, redriver(kernel, store))
    assert sum((await kernel.bus.lag("another", [CREDENTIAL.name])).values()) == 0
    assert await rows(kernel, "SELECT * FROM outbox") == []


async def test_what_fails_again_waits_with_its_new_reason_and_each_try_is_recorded(kernel: Kernel) -> None:
    async def refuse_otherwise(tx: Transaction, events: Sequence[Delivered]) -> None:
        raise Reject(events[0], "still_not", "nor does this one")

    await kill(kernel, message("e0", 0))
    for _ in range(2):
        await ask(kernel)
        await work(kernel, redriver(kernel, refuse_otherwise))
    assert await states(kernel) == {0: ("waiting", "still_not", 2)}
    await ask(kernel)
    await work(kernel, redriver(kernel, store))
    assert await states(kernel) == {0: ("redriven", "still_not", 3)}
    found = await rows(kernel, "SELECT was, outcome, code FROM dead_letter_actions ORDER BY id")
    assert [(row["was"], row["outcome"], row["code"]) for row in found] == [
        ("not_yet", "died_again", "still_not"), ("still_not", "died_again", "still_not"),
        ("still_not", "redriven", None),
    ]  # fmt: skip


async def test_a_handler_that_buries_by_its_own_hand_is_believed(kernel: Kernel) -> None:
    """As the issuer does, which writes its refusals in `save` and raises nothing."""

    async def bury_it(tx: Transaction, events: Sequence[Delivered]) -> None:
        await bury(tx, "test", [DeadLetter.of(one, "lint_failed", "no") for one in events])

    await kill(kernel, message("e0", 0))
    await ask(kernel)
    await work(kernel, redriver(kernel, bury_it))
    assert await states(kernel) == {0: ("waiting", "lint_failed", 1)}
    found = await rows(kernel, "SELECT outcome, code FROM dead_letter_actions")
    assert found == [{"outcome": "died_again", "code": "lint_failed"}]
    assert await rows(kernel, "SELECT redriven_at FROM dead_letters") == [{"redriven_at": None}]


async def test_a_record_that_no_version_could_read_is_read_by_the_next(kernel: Kernel) -> None:
    garbage = replace(message("e0", 0), value=b"\xff")
    assert await engine(kernel, store).process([garbage], asyncio.Event())
    await ask(kernel)
    await work(kernel, redriver(kernel, store))
    assert await states(kernel) == {0: ("waiting", "bad_data", 1)}
    async with kernel.worker.transaction() as tx:  # what a newer version would make of it
        await tx.execute("UPDATE dead_letters SET value = $1", message("e0", 0).value)
    await ask(kernel)
    await work(kernel, redriver(kernel, refuse))
    assert await rows(kernel, "SELECT tenant_id, code FROM dead_letters") == [{"tenant_id": "t1", "code": "not_yet"}]


async def test_letters_of_one_key_keep_their_order(kernel: Kernel) -> None:
    done: list[str] = []

    async def note(tx: Transaction, events: Sequence[Delivered]) -> None:
        done.extend(one.event_id for one in events)
        await store(tx, events)

    batch = [replace(message(f"e{n}", n), key=b"k%d" % (n % 2)) for n in range(10)]
    await kill(kernel, *batch)
    ids = [row["id"] for row in await rows(kernel, "SELECT id FROM dead_letters ORDER BY id")]
    # The later half in a request of its own, before the earlier one: what is first on its key still goes first.
    await ask(kernel, Which(ids=ids[5:]))
    await ask(kernel, Which(ids=ids[:5]), rate=50.0)
    await work(kernel, redriver(kernel, note), redriver(kernel, note))
    for key in (0, 1):
        assert [one for one in done if int(one[1:]) % 2 == key] == [f"e{n}" for n in range(10) if n % 2 == key]
    assert set((await effects(kernel)).values()) == {1}


async def test_two_processes_do_each_letter_once(kernel: Kernel) -> None:
    await kill(kernel, *(message(f"e{n}", n) for n in range(40)))
    await ask(kernel)
    await work(kernel, *(redriver(kernel, store) for _ in range(3)))
    assert await effects(kernel) == {f"e{n}": 1 for n in range(40)}


async def test_a_death_in_the_middle_loses_nothing_and_doubles_nothing(kernel: Kernel) -> None:
    reached = asyncio.Event()

    async def hang(tx: Transaction, events: Sequence[Delivered]) -> None:
        await store(tx, events)
        reached.set()
        await asyncio.sleep(3600)

    await kill(kernel, message("e0", 0), message("e1", 1))
    request = await ask(kernel)
    doomed = asyncio.create_task(redriver(kernel, hang).run(asyncio.Event()))
    await asyncio.wait_for(reached.wait(), 20)
    doomed.cancel()  # as a kill would: effects are written, nothing is committed
    await asyncio.gather(doomed, return_exceptions=True)
    assert await effects(kernel) == {}
    assert set((await states(kernel)).values()) == {("queued", "not_yet", 0)}
    await work(kernel, redriver(kernel, store))
    assert await effects(kernel) == {"e0": 1, "e1": 1}
    async with kernel.worker.transaction() as tx:
        assert await letters.progress(tx, request) == {"queued": 0, "redriven": 2, "died_again": 0, "cancelled": 0}


async def test_a_letter_that_takes_its_process_with_it_is_given_up(kernel: Kernel) -> None:
    reached = asyncio.Event()

    async def hang(tx: Transaction, events: Sequence[Delivered]) -> None:
        reached.set()
        await asyncio.sleep(3600)

    await kill(kernel, message("e0", 0))
    await ask(kernel)
    for _ in range(MAX_STARTS):
        reached.clear()
        doomed = asyncio.create_task(redriver(kernel, hang).run(asyncio.Event()))
        await asyncio.wait_for(reached.wait(), 20)
        doomed.cancel()
        await asyncio.gather(doomed, return_exceptions=True)
    await work(kernel, redriver(kernel, store))
    assert await states(kernel) == {0: ("waiting", "redrive_crashed", 1)}
    assert await effects(kernel) == {}
    await ask(kernel)  # asked for again it is tried again
    await work(kernel, redriver(kernel, store))
    assert await effects(kernel) == {"e0": 1}


async def test_not_now_lets_one_rest_and_the_others_go_on(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laurel.redrive.PATIENCE_S", 0.1)
    away = True

    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        if away and events[0].event_id == "e0":
            raise NotNow("the other side sleeps")
        await store(tx, events)

    async def others_done() -> bool:
        return len(await effects(kernel)) == 4

    await kill(kernel, *(message(f"e{n}", n) for n in range(5)))
    await ask(kernel)
    await work(kernel, redriver(kernel, save, rest_s=0.05), until=others_done)
    assert (await states(kernel))[0] == ("queued", "not_yet", 0)
    away = False
    await work(kernel, redriver(kernel, save, rest_s=0.05))
    assert await effects(kernel) == {f"e{n}": 1 for n in range(5)}


async def test_max_and_filters_are_honoured(kernel: Kernel) -> None:
    await kill(kernel, *(message(f"e{n}", n) for n in range(6)))
    async with kernel.worker.transaction() as tx:
        everything = Which(states=["waiting"])
        assert (await letters.count(tx, everything)).letters == {("test", "not_yet"): 6}
        for none in (
            Which(code="other"), Which(consumer="other"), Which(tenant_id="t2"), Which(topic="x"), Which(ids=[]),
            Which(key=b"e9"), Which(states=["discarded"]), Which(event_type="x"),
        ):  # fmt: skip
            assert (await letters.count(tx, none)).letters == {}, none
            assert (await letters.ask(tx, Redrive(none, "t")))[1].letters == {}
        born = (await letters.find(tx, everything))[0]["died_at"]
        assert (await letters.count(tx, Which(died_to=born))).letters == {}
        one = await letters.count(tx, Which(died_from=born, code="not_yet", tenant_id="t1", key=b"e3"))
        assert one.letters == {("test", "not_yet"): 1}
    await ask(kernel, most=2)
    assert [state for state, _, _ in (await states(kernel)).values()] == ["queued"] * 2 + ["waiting"] * 4
    await ask(kernel, most=2)  # what is queued is not queued twice
    assert [state for state, _, _ in (await states(kernel)).values()] == ["queued"] * 4 + ["waiting"] * 2
    await work(kernel, redriver(kernel, store))
    assert len(await effects(kernel)) == 4


async def test_a_request_counts_what_it_queues_once(kernel: Kernel) -> None:
    """One statement: what matches, what of it is queued, whose it is, and which of the ids name nothing of it."""
    batch = [message(f"e{n}", n) for n in range(8)]
    foreign = [replace(one, value=one.value.replace(b'"t1"', b'"t0"')) for one in batch[5:7]]
    await kill(kernel, *batch[:5], *foreign, replace(batch[7], value=b"\xff"))
    ids = [row["id"] for row in await rows(kernel, 'SELECT id FROM dead_letters ORDER BY "offset"')]
    nobodys = uuid.UUID(int=5)
    async with kernel.worker.transaction() as tx:
        await letters.ask(tx, Redrive(Which(ids=ids[:1]), "operator:t"))
        seen: list[str] = []
        with tx.query_logger(lambda one: seen.append(one.query)):
            _, found = await letters.ask(tx, Redrive(Which(ids=[nobodys, *ids]), "operator:t", most=6))
            await asyncio.sleep(0)  # asyncpg tells it in the loop's next turn
        assert len(seen) == 1
    assert found.letters == {("test", "not_yet"): 7, ("test", "bad_data"): 1}
    assert sum(found.queued.values()) == 6
    assert found.unmatched == [nobodys]
    in_order = sorted(ids[1:])[:6]
    states_of = {row["id"]: row["state"] for row in await rows(kernel, "SELECT id, state FROM dead_letters")}
    assert {one for one, state in states_of.items() if state == "queued"} == {ids[0], *in_order}
    known = await rows(kernel, "SELECT id, tenant_id FROM dead_letters WHERE tenant_id <> ''")
    of = {row["id"]: row["tenant_id"] for row in known}
    assert list(found.tenants) == ["t0", "t1"]
    assert found.tenants == Counter(of[one] for one in in_order if one in of)


async def test_what_somebody_discards_in_that_moment_is_not_queued(kernel: Kernel) -> None:
    await kill(kernel, message("e0", 0), message("e1", 1))
    first, second = [row["id"] for row in await rows(kernel, "SELECT id FROM dead_letters ORDER BY id")]
    async with kernel.worker.transaction() as tx:
        assert await letters.discard(tx, first, asked_by="operator:t", reason="forged") == "waiting"
        asking = asyncio.create_task(ask(kernel))
        waits = "SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'"
        async with asyncio.timeout(30):
            while not await kernel.worker.fetch(waits, f"laurel-{kernel.schema}"):
                assert not asking.done()
                await asyncio.sleep(0.01)
    request = await asking
    assert [row["state"] for row in await rows(kernel, "SELECT state FROM dead_letters ORDER BY id")] == [
        "discarded", "queued",
    ]  # fmt: skip
    async with kernel.worker.transaction() as tx:
        assert await letters.progress(tx, request) == {"queued": 1, "redriven": 0, "died_again": 0, "cancelled": 0}
        assert [row["action"] for row in await letters.actions(tx, first)] == ["discard"]
        assert [row["action"] for row in await letters.actions(tx, second)] == ["redrive"]


async def cancel(kernel: Kernel, which: Which | None = None, **more: Any) -> letters.Cancelled:
    async with kernel.worker.transaction() as tx:
        return await letters.cancel(tx, which or Which(), asked_by="operator:c", **more)


async def test_what_is_not_begun_is_taken_back_and_what_is_begun_is_not(kernel: Kernel) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Transaction, events: Sequence[Delivered]) -> None:
        begun.set()
        await go_on.wait()
        await store(tx, events)

    await kill(kernel, *(message(f"e{n}", n) for n in range(4)))
    ids = [row["id"] for row in await rows(kernel, 'SELECT id FROM dead_letters ORDER BY "offset"')]
    request = await ask(kernel, Which(ids=ids[:3]))
    other = await ask(kernel, Which(ids=ids[3:]), rate=0.01)
    stop = asyncio.Event()
    working = asyncio.create_task(redriver(kernel, slow).run(stop))
    try:
        await asyncio.wait_for(begun.wait(), 30)
        assert await cancel(kernel, request_id=request) == letters.Cancelled({("t1", request): 2}, begun=1)
        assert await cancel(kernel, request_id=request) == letters.Cancelled({}, begun=1)
        assert [state for state, _, _ in (await states(kernel)).values()] == ["queued", "waiting", "waiting", "queued"]
        assert await cancel(kernel, Which(ids=ids[3:])) == letters.Cancelled({("t1", other): 1}, begun=0)
    finally:
        go_on.set()
        async with asyncio.timeout(30):
            while (await states(kernel))[0][0] == "queued":
                await asyncio.sleep(0.02)
        stop.set()
        await working
    assert await effects(kernel) == {"e0": 1}
    assert set(list((await states(kernel)).values())[1:]) == {("waiting", "not_yet", 0)}
    async with kernel.worker.transaction() as tx:
        progress = await letters.progress(tx, request)
        assert progress == {"queued": 0, "redriven": 1, "died_again": 0, "cancelled": 2}
        (action,) = await letters.actions(tx, ids[1])
    told = [action[name] for name in ("action", "asked_by", "outcome", "code", "detail")]
    assert told == ["redrive", "operator:t", "cancelled", "cancelled", "by operator:c"]
    assert action["finished_at"] is not None
    await ask(kernel)  # asked for again they are handled
    await work(kernel, redriver(kernel, store))
    assert await effects(kernel) == {f"e{n}": 1 for n in range(4)}


async def test_a_letter_that_is_cancelled_while_it_is_to_begin_does_not_begin(kernel: Kernel) -> None:
    await kill(kernel, message("e0", 0))
    await ask(kernel)
    stop = asyncio.Event()
    async with kernel.worker.transaction() as tx:
        done = await letters.cancel(tx, Which(), asked_by="operator:c")
        assert sum(done.letters.values()) == 1
        working = asyncio.create_task(redriver(kernel, store).run(stop))
        waits = "SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'"
        async with asyncio.timeout(30):
            while not await kernel.worker.fetch(waits, f"laurel-{kernel.schema}"):
                assert not working.done()
                await asyncio.sleep(0.01)
    async with asyncio.timeout(30):  # it has looked, and found nothing to begin
        while await kernel.worker.fetch(waits, f"laurel-{kernel.schema}"):
            await asyncio.sleep(0.01)
    stop.set()
    await working
    assert await states(kernel) == {0: ("waiting", "not_yet", 0)}
    assert await effects(kernel) == {}
    assert await rows(kernel, "SELECT starts FROM dead_letter_actions") == [{"starts": 0}]


async def test_a_cancelled_letter_is_what_it_was_before(kernel: Kernel) -> None:
    await kill(kernel, *(message(f"e{n}", n) for n in range(3)))
    ids = [row["id"] for row in await rows(kernel, 'SELECT id FROM dead_letters ORDER BY "offset"')]
    async with kernel.worker.transaction() as tx:
        await letters.discard(tx, ids[0], asked_by="operator:t", reason="forged")
    await ask(kernel, Which(ids=[ids[1]]))
    await work(kernel, redriver(kernel, store))
    before = await states(kernel)
    assert [state for state, _, _ in before.values()] == ["discarded", "redriven", "waiting"]
    for _ in range(2):  # what was cancelled once does not count as what it was
        await ask(kernel, Which(states=["waiting", "discarded", "redriven"]))
        assert {state for state, _, _ in (await states(kernel)).values()} == {"queued"}
        assert sum((await cancel(kernel)).letters.values()) == 3
        assert await states(kernel) == before


async def test_the_rate_is_a_pause_between_two_letters(kernel: Kernel) -> None:
    loop = asyncio.get_running_loop()
    await kill(kernel, *(message(f"e{n}", n) for n in range(4)))
    await ask(kernel, rate=5.0)
    began = loop.time()
    await work(kernel, redriver(kernel, store))
    assert len(await effects(kernel)) == 4
    assert loop.time() - began >= 3 / 5.0, "never faster than asked; how much slower is the machine's affair"


async def test_a_discarded_letter_stays_until_it_is_asked_for_by_that_state(kernel: Kernel) -> None:
    await kill(kernel, message("e0", 0))
    async with kernel.worker.transaction() as tx:
        ((letter),) = await letters.find(tx, Which())
        assert await letters.discard(tx, letter["id"], asked_by="operator:t", reason="forged") == "waiting"
        assert await letters.discard(tx, letter["id"], asked_by="operator:t", reason="again") == "discarded"
        assert await letters.discard(tx, uuid.uuid4(), asked_by="operator:t", reason="x") is None
    await ask(kernel)
    assert (await states(kernel))[0][0] == "discarded"
    await ask(kernel, Which(states=["discarded"]))
    await work(kernel, redriver(kernel, store))
    assert await effects(kernel) == {"e0": 1}
    found = await rows(kernel, "SELECT action, note, outcome FROM dead_letter_actions ORDER BY id")
    assert [(row["action"], row["note"], row["outcome"]) for row in found] == [
        ("discard", "forged", "discarded"), ("redrive", "", "redriven"),
    ]  # fmt: skip


async def test_a_redelivered_record_changes_no_letter_that_waits(kernel: Kernel) -> None:
    await kill(kernel, message("e0", 0))
    await kill(kernel, message("e0", 0))
    assert await states(kernel) == {0: ("waiting", "not_yet", 0)}
    await ask(kernel)
    await work(kernel, redriver(kernel, store))
    await kill(kernel, message("e0", 0))  # it comes again, to an older version that refuses it
    assert await states(kernel) == {0: ("waiting", "not_yet", 1)}


async def test_a_replay_that_handles_a_letter_settles_it_and_says_so(kernel: Kernel) -> None:
    await kill(kernel, *(message(f"e{n}", n) for n in range(3)))

    async def save(tx: Transaction, events: Sequence[Delivered]) -> None:
        for one in events:
            if one.event_id == "e2":
                raise Reject(one, "not_yet", "no")
        await store(tx, events)

    replaying = settling(consumer(save), action="replay", asked_by="operator:t", request_id="r1")
    again = Engine(replaying, bus=kernel.bus, database=kernel.worker, member_id="replay")
    assert await again.process([message(f"e{n}", n) for n in range(5)], asyncio.Event())
    assert {offset: state for offset, (state, _, _) in (await states(kernel)).items()} == {
        0: "redriven", 1: "redriven", 2: "waiting",
    }  # fmt: skip
    found = await rows(kernel, "SELECT request_id, action, asked_by, outcome FROM dead_letter_actions")
    assert [tuple(row.values()) for row in found] == [("r1", "replay", "operator:t", "redriven")] * 2


async def test_what_no_database_can_store_is_buried_all_the_same(kernel: Kernel) -> None:
    foreign = message("e0", 0)
    foreign = replace(foreign, value=foreign.value.replace(b'"t1"', b'"t\\u00001"'))

    async def fail(tx: Transaction, events: Sequence[Delivered]) -> None:
        raise ValueError("a NUL \x00 and a surrogate \ud800")

    assert await engine(kernel, fail).process([foreign], asyncio.Event())
    (row,) = await rows(kernel, "SELECT tenant_id, code, detail, value FROM dead_letters")
    assert (row["tenant_id"], row["code"], row["value"]) == ("t\\x001", "handler_error", foreign.value)


async def test_a_tenant_sees_and_moves_its_own_letters_alone(kernel: Kernel) -> None:
    mine, theirs = message("e0", 0), message("e1", 1)
    await kill(kernel, mine, replace(theirs, value=theirs.value.replace(b'"t1"', b'"t2"')))
    async with kernel.api.transaction(["t1"]) as tx:
        assert [row["tenant_id"] for row in await letters.find(tx, Which())] == ["t1"]
        _, found = await letters.ask(tx, Redrive(Which(states=["waiting"]), "key:k"))
        assert found.letters == found.queued == {("test", "not_yet"): 1}
    assert [state for state, _, _ in (await states(kernel)).values()] == ["queued", "waiting"]
