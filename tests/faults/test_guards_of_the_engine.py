"""What the engine does when the bus takes partitions away: it finishes what is in hand first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.topics import CREDENTIAL
from tests.component.kernel.conftest import Kernel, kernel
from tests.component.kernel.test_engine import effects, engine, record, store

__all__ = ["kernel"]


async def test_a_batch_in_hand_is_finished_and_committed_before_its_partitions_are_given_up(kernel: Kernel) -> None:
    async with kernel.bus.producer(client_id="p") as producer:
        await producer.send([record(f"e{n}") for n in range(40)])
    in_hand, go_on, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slowly(tx: Transaction, events: Sequence[Delivered]) -> None:
        in_hand.set()
        await go_on.wait()
        await store(tx, events)

    first = asyncio.create_task(engine(kernel, slowly).run(stop))
    try:
        async with asyncio.timeout(60):
            await in_hand.wait()
            async with kernel.bus.consumer(group="test", topics=[CREDENTIAL.name], member_id="second") as second:
                for _ in range(12):  # much longer than a rebalance takes: the other member looks each half second
                    assert await second.poll(100, 0.25) == [], "a record that another member has in hand"
                assert second.assignment() == frozenset()
                go_on.set()
                while len(second.assignment()) < 3:
                    assert await second.poll(100, 0.25) == [], "a record that another member has committed"
                stop.set()
                await first
    finally:
        go_on.set()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert set((await effects(kernel)).values()) == {1}
