"""Bulk waits at the door: a large import does not stand in front of somebody's single pass."""

from __future__ import annotations

import asyncio

from laurel.bus import BusUnavailable, TopicPartition
from laurel.topics import ASSESSMENT, ISSUANCE_GROUP
from laurel_assessment.import_worker import ImportWorker
from laurel_assessment.pacing import LEAST_AHEAD, LOOK_EVERY_S, TRICKLE_S, Pace
from tests.component.assessment.conftest import Caller, World, learner, ndjson


class Monotonic:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def paced(world: World, clock: Monotonic) -> ImportWorker:
    pace = Pace(world.bus, world.service.worker_database, ahead_s=2.0, monotonic=clock)
    return ImportWorker(world.service.worker_database, keys=world.keys, clock=world.clock, pace=pace)


async def settle(worker: ImportWorker, clock: Monotonic, *, looks: int = 4) -> int:
    """Chunks that are settled while the clock passes some readings."""
    steps = 0
    for _ in range(looks):
        clock.now += LOOK_EVERY_S
        while await worker.step():
            steps += 1
    return steps


async def relay(world: World) -> None:
    """Until the outbox is empty."""
    stop = asyncio.Event()
    running = asyncio.create_task(world.service.relay.run(stop))
    while await world.fetch("SELECT 1 FROM outbox LIMIT 1"):
        await asyncio.sleep(0.02)
    stop.set()
    await running


async def waiting(world: World) -> int:
    return sum((await world.bus.lag(ISSUANCE_GROUP, [ASSESSMENT.name])).values())


async def test_an_import_runs_ahead_so_far_and_no_further(world: World, ours: Caller, theirs: Caller) -> None:
    clock = Monotonic()
    worker = paced(world, clock)
    achievement, other = await ours.achievement(), await theirs.achievement()
    upload = await ours.upload(ndjson(*(learner(n) for n in range(6000))), achievement=achievement)

    # Nobody works anything off, whether it stands in the outbox or in the topic.
    steps = await settle(worker, clock)
    assert len(await world.fetch("SELECT 1 FROM results")) <= 2 * LEAST_AHEAD
    await relay(world)
    assert await settle(worker, clock) == 0

    # A single pass is taken in at once, and no more than that stands before it.
    before = await waiting(world)
    answer = await theirs.post("/assessment/v1/results", {"achievement": other, **learner(1)})
    assert answer.status_code == 201
    await relay(world)
    assert before <= 2 * LEAST_AHEAD
    assert await waiting(world) == before + 1

    # The issuer works: the rest follows, step by step, and all of it.
    for _ in range(40):
        await relay(world)
        async with world.bus.consumer(group=ISSUANCE_GROUP, topics=[ASSESSMENT.name], member_id="m") as source:
            while await waiting(world):
                messages = await source.poll(5000, 0.5)
                await source.commit({TopicPartition(one.topic, one.partition): one.offset + 1 for one in messages})
        steps += await settle(worker, clock, looks=1)
        if (await ours.imported(upload.json()["import_id"]))["status"] == "done":
            break
    found = await ours.imported(upload.json()["import_id"])
    assert (found["status"], found["passed"]) == ("done", 6000)
    assert steps >= 6


async def test_without_anybody_who_works_it_off_an_import_trickles(world: World, ours: Caller) -> None:
    clock = Monotonic()
    worker = paced(world, clock)
    upload = await ours.upload(ndjson(*(learner(n) for n in range(5000))), achievement=await ours.achievement())
    await settle(worker, clock)
    seen = []
    for _ in range(10):
        clock.now += TRICKLE_S
        seen.append(int(await worker.step()) + int(await worker.step()))
        if (await ours.imported(upload.json()["import_id"]))["status"] == "done":
            break
    assert set(seen) == {1}
    assert (await ours.imported(upload.json()["import_id"]))["passed"] == 5000


async def test_a_bus_out_of_reach_lets_an_import_trickle(world: World, ours: Caller) -> None:
    class Away:
        async def lag(self, *_: object) -> None:
            raise BusUnavailable("it is away")

    clock = Monotonic()
    pace = Pace(Away(), world.service.worker_database, ahead_s=2.0, monotonic=clock)  # type: ignore[arg-type]
    assert [await pace.open(), await pace.open()] == [True, False]
    clock.now += TRICKLE_S
    assert await pace.open()
