"""Two at the same time: whoever waited for a lock goes by what stands there afterwards."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from laurel.database import Transaction
from laurel_notifier import mailbox, queue, store
from laurel_notifier.domain import Answer, decide
from laurel_notifier.mailbox import Sent
from tests.component.notifier.kit import TENANT, Notifier, Sink, changed, credential_id, issued, until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@asynccontextmanager
async def while_it_waits(notifier: Notifier, work: Coroutine[Any, Any, Any]) -> AsyncIterator[Transaction]:
    """A transaction of whoever came first; `work` begins when the block is through and waits for its commit."""
    waiting: asyncio.Task[Any] | None = None
    async with notifier.service.worker_database.transaction() as tx:
        yield tx
        waiting = asyncio.create_task(work)
        await until(lambda: _any_waits(notifier))
    await waiting


async def _any_waits(notifier: Notifier) -> bool:
    admin = await asyncpg.connect(notifier.admin_dsn)
    try:
        return bool(await admin.fetchval(WAITING))
    finally:
        await admin.close()


async def test_a_retry_beside_an_erasure_sends_nothing(notifier: Notifier, sink: Sink) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1))
    delivery = (await notifier.deliveries())[0]["delivery_id"]
    answers = []

    async def retry() -> None:
        answers.append(await notifier.http.post(f"/notifier/v1/deliveries/{delivery}/retry"))

    async with notifier.service.worker_database.transaction() as tx:
        await store.subscriptions(tx, [TENANT])  # as `Notify.save` begins
        retrying = asyncio.create_task(retry())
        await until(lambda: _any_waits(notifier))
        await store.erase(tx, [(credential_id(1), TENANT)])
    await retrying
    assert (answers[0].status_code, answers[0].json()["type"]) == (409, "urn:laurel:problem:erased")
    assert await notifier.states() == {"cancelled": 1}


@pytest.mark.parametrize("act", ["delete", "disable"])
async def test_an_attempt_that_failed_beside_the_end_of_its_endpoint(notifier: Notifier, sink: Sink, act: str) -> None:
    """Not pending for an endpoint that nobody looks at any more."""
    endpoint = uuid.UUID((await notifier.endpoint(f"{sink.base}/x"))["endpoint_id"])
    await notifier.take_in(issued(1))
    lease, now = uuid.uuid4(), datetime.now(UTC)
    async with notifier.service.worker_database.transaction() as tx:
        [due] = await queue.take_due(tx, lease=lease, lease_for=timedelta(minutes=1), room=9, rooms={}, default_room=9)
    verdict = decide(Answer(500, "no"), attempt=1, retrying_since=now, now=now, luck=0.5)

    async def settle() -> None:
        async with notifier.service.worker_database.transaction() as other:
            settled = queue.Settled(due.delivery_id, endpoint, verdict, 500, "no", now, 1, now)
            await queue.settle(other, lease, [settled])

    async with while_it_waits(notifier, settle()) as tx:
        if act == "delete":
            await store.delete_endpoint(tx, TENANT, endpoint)
        else:
            await store.change_endpoint(
                tx, TENANT, endpoint, url=None, description=None, event_types=None, enabled=False
            )
    assert await notifier.states() == {"cancelled" if act == "delete" else "held": 1}


async def test_endpoints_that_are_gone_at_once_wait_for_no_circle(notifier: Notifier, sink: Sink) -> None:
    """Each worker settles outcomes of both, and disables another one of them."""
    ids = [uuid.UUID((await notifier.endpoint(f"{sink.base}/{name}"))["endpoint_id"]) for name in "ab"]
    await notifier.take_in(*(issued(number) for number in range(40)))
    now, lease = datetime.now(UTC), uuid.uuid4()
    async with notifier.service.worker_database.transaction() as tx:
        due = await queue.take_due(tx, lease=lease, lease_for=timedelta(minutes=1), room=99, rooms={}, default_room=99)

    async def settle(gone: uuid.UUID, half: list[queue.Due]) -> None:
        for one in half:
            status = 410 if one.endpoint_id == gone else 200
            verdict = decide(Answer(status, None), attempt=1, retrying_since=now, now=now, luck=0.5)
            other = next(two for two in half if two.endpoint_id != one.endpoint_id)
            fine = decide(Answer(200, None), attempt=1, retrying_since=now, now=now, luck=0.5)
            settled = [
                queue.Settled(one.delivery_id, one.endpoint_id, verdict, status, None, now, 1, now),
                queue.Settled(other.delivery_id, other.endpoint_id, fine, 200, None, now, 1, now),
            ]
            async with notifier.service.worker_database.transaction() as tx:
                await queue.settle(tx, lease, settled)

    await asyncio.gather(settle(ids[0], due[::2] + due[1::2]), settle(ids[1], due[::-1]))
    rows = await notifier.sql("SELECT enabled FROM endpoints")
    assert [row["enabled"] for row in rows] == [False, False]


@pytest.mark.parametrize("state", ["pending", "failed", "sent", "uncertain"])
async def test_a_revocation_while_the_mail_is_being_sent(mailing: Notifier, state: str) -> None:
    worker = uuid.uuid4()
    await mailing.take_in(issued(1))
    async with mailing.service.worker_database.transaction() as tx:
        [mail] = await mailbox.take_mails(tx, worker=worker, hold=timedelta(minutes=1), limit=9)
    await mailing.take_in(changed(1))
    assert await mailing.email_states() == {"sending": 1}, "nobody knows yet"
    async with mailing.service.worker_database.transaction() as tx:
        sent = Sent(mail.credential_id, state, datetime.now(UTC), None if state == "sent" else "451 later")  # type: ignore[arg-type]
        await mailbox.settle_mails(tx, worker, [sent])
    became = {"pending": "cancelled", "failed": "cancelled"}.get(state, state)
    assert await mailing.email_states() == {became: 1}
    assert await mailing.sql("SELECT 1 FROM emails WHERE contact IS NOT NULL") == []
    again = await mailing.http.post(f"/notifier/v1/emails/{mail.credential_id}/retry")
    assert (again.status_code, again.json()["type"].rpartition(":")[2]) == (
        409, "revoked" if state == "uncertain" else "not_failed",
    )  # fmt: skip


async def test_a_mail_that_is_given_back_is_not_sent_once_its_credential_is_revoked(mailing: Notifier) -> None:
    worker = uuid.uuid4()
    await mailing.take_in(issued(1))
    async with mailing.service.worker_database.transaction() as tx:
        [mail] = await mailbox.take_mails(tx, worker=worker, hold=timedelta(minutes=1), limit=9)
    await mailing.take_in(changed(1))
    async with mailing.service.worker_database.transaction() as tx:
        await mailbox.give_back(tx, worker, [mail.credential_id])
    assert await mailing.email_states() == {"cancelled": 1}
