"""Events leave in order, once acknowledged, and only with the transaction that they report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from laurel import envelope, outbox
from laurel.bus import BusUnavailable, Message, Record
from laurel.events import CredentialStatusChanged, Event
from laurel.outbox import Outgoing, Relay
from tests.component.kernel.conftest import Kernel

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def event(credential: str, version: int, tenant: str = "t1") -> Event:
    return CredentialStatusChanged(
        tenant_id=tenant, credential_id=credential, version=version, status="revoked", reason="r", changed_at=NOW
    )


async def collect(kernel: Kernel, count: int) -> list[Message]:
    found: list[Message] = []
    async with kernel.bus.consumer(group="collect", topics=["laurel.credential"], member_id="m") as source:
        async with asyncio.timeout(20):
            while len(found) < count:
                found += await source.poll(1000, 0.2)
        found += await source.poll(1000, 0.3)  # nothing more may come
    return found


@asynccontextmanager
async def relaying(*relays: Relay) -> AsyncIterator[None]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(relay.run(stop)) for relay in relays]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def depth(kernel: Kernel) -> int:
    async with kernel.worker.transaction() as tx:
        return int(await tx.fetchval("SELECT count(*) FROM outbox"))


async def test_only_committed_events_leave_and_per_key_order_is_kept(kernel: Kernel) -> None:
    async with kernel.api.transaction(["t1"]) as tx:
        await outbox.append(tx, [event(f"c{n % 7}", n) for n in range(300)])
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with kernel.api.transaction(["t1"]) as tx:
            await outbox.append(tx, [event("c1", 9999)])
            raise RuntimeError("changed my mind")
    async with relaying(Relay(kernel.worker, kernel.bus, service="kernel", batch_size=64)):
        messages = await collect(kernel, 300)
    events = [envelope.decode(message).event for message in messages]
    assert len(events) == 300
    for key in range(7):
        versions = [one.version for one in events if one.credential_id == f"c{key}"]  # type: ignore[attr-defined]
        assert versions == sorted(versions)
    assert await depth(kernel) == 0


async def test_a_row_that_commits_late_with_a_smaller_id_is_not_stepped_over(kernel: Kernel) -> None:
    async with relaying(Relay(kernel.worker, kernel.bus, service="kernel")):
        async with kernel.api.transaction(["t1"]) as late:
            await outbox.append(late, [event("late", 1)])
            async with kernel.api.transaction(["t1"]) as early:
                await outbox.append(early, [event("early", 1)])
            assert len(await collect(kernel, 1)) == 1
        async with asyncio.timeout(10):
            while await depth(kernel):
                await asyncio.sleep(0.05)
    assert len(await _all(kernel)) == 2


async def _all(kernel: Kernel) -> list[Message]:
    async with kernel.bus.consumer(group="all", topics=["laurel.credential"], member_id="m") as source:
        found: list[Message] = []
        for _ in range(10):
            found += await source.poll(1000, 0.3)
        return found


async def test_two_relays_send_nothing_twice(kernel: Kernel) -> None:
    relays = [Relay(kernel.worker, kernel.bus, service="kernel", batch_size=10) for _ in range(2)]
    async with relaying(*relays):
        for start in range(0, 200, 20):
            async with kernel.api.transaction(["t1"]) as tx:
                await outbox.append(tx, [event(f"c{n}", n) for n in range(start, start + 20)])
        messages = await collect(kernel, 200)
    assert sorted(envelope.decode(one).event.version for one in messages) == list(range(200))  # type: ignore[attr-defined]


class FailingOnce:
    """A bus whose producer refuses the first batch after having written it: the worst moment."""

    def __init__(self, kernel: Kernel) -> None:
        self._bus = kernel.bus
        self.failures = 0

    @asynccontextmanager
    async def producer(self, *, client_id: str) -> AsyncIterator[FailingOnce]:
        async with self._bus.producer(client_id=client_id) as self._producer:
            yield self

    async def send(self, records: Sequence[Record]) -> None:
        await self._producer.send(records)
        if self.failures == 0:
            self.failures += 1
            raise BusUnavailable("no acknowledgement came")


async def test_without_an_acknowledgement_rows_stay_and_are_sent_again(kernel: Kernel) -> None:
    async with kernel.api.transaction(["t1"]) as tx:
        await outbox.append(tx, [event("c", n) for n in range(5)])
    bus = FailingOnce(kernel)
    async with relaying(Relay(kernel.worker, bus, service="kernel")):  # type: ignore[arg-type]
        messages = await collect(kernel, 10)
    ids = [envelope.decode(one).event_id for one in messages]
    assert bus.failures == 1
    assert len(ids) == 10
    assert ids[:5] == ids[5:], "a repeated event keeps its id, so that consumers can tell"


async def test_the_api_role_writes_only_for_the_tenants_that_it_named(kernel: Kernel) -> None:
    import asyncpg

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with kernel.api.transaction(["t1"]) as tx:
            await outbox.append(tx, [Outgoing(event("c", 1, tenant="t2"))])


async def test_the_trace_of_an_event_travels_in_its_header(kernel: Kernel) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with kernel.api.transaction(["t1"]) as tx:
        await outbox.append(tx, [Outgoing(event("c", 1), traceparent)])
    async with relaying(Relay(kernel.worker, kernel.bus, service="kernel")):
        (message,) = await collect(kernel, 1)
    assert envelope.decode(message).traceparent == traceparent
