"""From the event to the partner's receipt."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import time_machine
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from laurel.bus import Message
from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.errors import NotNow, Reject
from laurel.events import CredentialMessageChanged, CredentialRefreshOffered
from laurel.telemetry import parse_traceparent
from laurel_notifier import handlers, queue, webhooks
from laurel_notifier.queue import Due, Settled
from laurel_notifier.store import Held
from tests.component.notifier.kit import (
    ALL_TYPES,
    CONTACT_KEY,
    DOCUMENT,
    ISSUED_AT,
    OTHER_TENANT,
    TENANT,
    TRACE,
    Notifier,
    Received,
    Sink,
    answers,
    changed,
    contact,
    credential_id,
    hangs,
    issued,
    running,
    until,
)

MESSAGE = Message("laurel.credential", 0, 0, b"k", b"{}", (), 0)


def verified(received: Received, secret: str) -> dict[str, object]:
    payload: dict[str, object] = Webhook(secret).verify(received.body, received.headers)
    return payload


async def test_an_issued_credential_reaches_every_endpoint_that_wants_it_signed_and_byte_for_byte(
    notifier: Notifier, sink: Sink
) -> None:
    one = await notifier.endpoint(f"{sink.base}/one")
    two = await notifier.endpoint(f"{sink.base}/two", ["credential.issued"])
    await notifier.endpoint(f"{sink.base}/revocations", ["credential.revoked"])
    await notifier.take_in(issued(1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 2)
    assert await notifier.states() == {"delivered": 2}
    for made in (one, two):
        [received] = sink.at(made["url"].rpartition("/")[2])
        payload = verified(received, made["secret"])
        assert payload["type"] == "credential.issued"
        assert payload["timestamp"] == "2026-11-20T10:30:00Z"
        data = payload["data"]
        assert isinstance(data, dict)
        assert data.pop("credential") == json.loads(DOCUMENT)
        assert data == {
            "credential_id": credential_id(1),
            "credential_url": f"https://badges.example/c/{credential_id(1)}",
            "achievement_id": "achievement-1",
            "achievement_name": "Data Science: Grundlagen",
            "course_run": "run-1",
            "learner": "learner-7",
            "issued_at": "2026-11-20T10:30:00Z",
            "valid_until": None,
        }
        assert DOCUMENT in received.body
        assert received.headers["content-type"] == "application/json"
        assert received.message_id == f"msg_{credential_id(1)}_issued"
    with pytest.raises(WebhookVerificationError):
        verified(sink.at("one")[0], two["secret"])
    [delivery] = await notifier.deliveries(endpoint_id=one["endpoint_id"])
    assert (delivery["state"], delivery["attempt_count"], delivery["last_status"]) == ("delivered", 1, 204)
    assert [attempt["status"] for attempt in delivery["attempts"]] == [204]


async def test_the_partner_sees_the_trace_that_began_with_the_platforms_call(notifier: Notifier, sink: Sink) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)
    seen, began = parse_traceparent(sink.received[0].headers["traceparent"]), parse_traceparent(TRACE)
    assert seen is not None
    assert began is not None
    assert seen.trace_id == began.trace_id


async def test_status_changes_are_told_with_their_version(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x", ["credential.revoked", "credential.reinstated"])
    await notifier.take_in(
        issued(1), changed(1, status="suspended", version=1), changed(1, status="active", version=2),
        changed(1, status="revoked", version=3),
    )  # fmt: skip
    async with notifier.worker():
        await until(lambda: len(sink.received) == 2)
    payloads = {one.message_id: verified(one, made["secret"]) for one in sink.received}
    reinstated = payloads[f"msg_{credential_id(1)}_status_2"]
    revoked = payloads[f"msg_{credential_id(1)}_status_3"]
    assert reinstated["type"] == "credential.reinstated"
    assert revoked == {
        "type": "credential.revoked",
        "timestamp": "2026-11-20T10:30:00Z",
        "data": {
            "credential_id": credential_id(1),
            "credential_url": f"https://badges.example/c/{credential_id(1)}",
            "status": "revoked",
            "reason": "issued by mistake",
            "changed_at": "2026-11-20T10:30:00Z",
            "version": 3,
        },
    }


async def test_a_refresh_and_a_message_are_told_and_take_nothing_back(notifier: Notifier, sink: Sink) -> None:
    wanted = ["credential.refresh_offered", "credential.message_changed", "credential.reinstated"]
    made = await notifier.endpoint(f"{sink.base}/x", wanted)
    about: dict[str, Any] = {
        "tenant_id": TENANT, "credential_id": credential_id(1), "reason": "a new edition",
        "changed_at": ISSUED_AT,
    }  # fmt: skip
    refresh = CredentialRefreshOffered(version=1, **about)
    message = CredentialMessageChanged(version=2, value=3, message="replaced", **about)
    await notifier.take_in(issued(1), refresh, message, refresh)
    async with notifier.worker():
        await until(lambda: len(sink.received) == 2)
    payloads = {one.message_id: verified(one, made["secret"]) for one in sink.received}
    told = [payloads[f"msg_{credential_id(1)}_status_{version}"] for version in (1, 2)]
    assert [one["type"] for one in told] == wanted[:2]
    assert ("status" in told[0]["data"], told[0]["data"]["version"]) == (False, 1)
    data = told[1]["data"]
    assert (data["value"], data["message"], data["reason"], data["version"]) == (3, "replaced", "a new edition", 2)


async def test_a_redelivered_event_owes_nothing_new(notifier: Notifier, sink: Sink) -> None:
    await notifier.endpoint(f"{sink.base}/one")
    await notifier.endpoint(f"{sink.base}/two")
    events = [issued(number) for number in range(20)] + [changed(number) for number in range(20)]
    await notifier.take_in(*events, *events[:7])
    await notifier.take_in(*events)
    await notifier.endpoint(f"{sink.base}/late")
    await notifier.take_in(*events)
    assert await notifier.states() == {"pending": 80}
    async with notifier.worker():
        await until(lambda: len(sink.received) >= 80)
    ids = [(one.path, one.message_id) for one in sink.received]
    assert len(ids) == len(set(ids)) == 80
    assert not sink.at("late")


async def test_nothing_is_kept_for_nobody_and_nothing_goes_to_another_tenant(notifier: Notifier, sink: Sink) -> None:
    await notifier.endpoint(f"{sink.base}/x", ["credential.revoked"])
    await notifier.take_in(issued(1), issued(2, tenant_id=OTHER_TENANT), changed(2, tenant_id=OTHER_TENANT))
    assert await notifier.sql("SELECT 1 FROM messages") == []
    assert await notifier.states() == {}


async def test_an_event_without_contact_names_no_learner(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1, contact=None))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)
    data = verified(sink.received[0], made["secret"])["data"]
    assert isinstance(data, dict)
    assert data["learner"] is None
    assert await notifier.email_states() == {}


async def test_a_contact_that_cannot_be_opened_is_a_dead_letter_and_delays_nobody(
    notifier: Notifier, sink: Sink
) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1), issued(2, contact="bm90IHNlYWxlZCBieSB1cw=="), issued(3))
    assert await notifier.states() == {"pending": 2}
    answer = await notifier.http.get("/notifier/v1/dead-letters")
    [letter] = answer.json()["items"]
    assert letter["code"] == "contact_unsealable"
    assert "LAUREL_CONTACT_KEY" in letter["detail"]


async def test_a_wrong_key_stops_the_consumer_and_buries_nothing(notifier: Notifier) -> None:
    wrong = handlers.Notify(contact_key=bytes(32), base_url="https://badges.example", mail=True, at_once=Absent())
    events = [Delivered(MESSAGE, issued(number), "e", ISSUED_AT, None) for number in range(10)]
    with pytest.raises(NotNow, match="LAUREL_CONTACT_KEY"):
        await wrong.prepare(events)
    with pytest.raises(Reject) as rejected:
        await wrong.prepare(events[:3])
    assert rejected.value.delivered is events[0]


async def test_where_the_key_is_lost_for_good_partners_hear_and_the_mails_fail(notifier: Notifier) -> None:
    await notifier.endpoint("https://93.184.215.14/x")
    lost = handlers.Notify(
        contact_key=bytes(32), base_url="https://badges.example", mail=True, at_once=Absent(), key_lost=True
    )
    owed = await lost.prepare([Delivered(MESSAGE, issued(number), "e", ISSUED_AT, None) for number in range(10)])
    async with notifier.service.worker_database.transaction() as tx:
        await lost.save(tx, owed)
    assert await notifier.states() == {"pending": 10}
    assert {json.loads(one.body)["data"]["learner"] for one in owed.messages} == {None}
    assert await notifier.email_states() == {"failed": 10}


# --- failures -----------------------------------------------------------------------------------------------


async def test_a_failed_attempt_is_repeated_under_the_same_id_with_a_fresh_signature(
    notifier: Notifier, sink: Sink
) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    sink.behaviour["x"] = answers(500, 200)
    await notifier.take_in(issued(1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)

        async def settled() -> bool:
            return (await notifier.deliveries())[0]["attempt_count"] == 1

        await until(settled)
        [delivery] = await notifier.deliveries()
        assert delivery["state"] == "pending"
        assert delivery["last_status"] == 500
        assert delivery["last_error"] == "the endpoint answered 500"
        await notifier.due_now()
        await until(lambda: len(sink.received) == 2)
    first, second = sink.received
    assert first.message_id == second.message_id
    assert first.body == second.body
    verified(second, made["secret"])
    [delivery] = await notifier.deliveries()
    assert delivery["state"] == "delivered"
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 200]


async def test_retry_after_is_honoured(notifier: Notifier, sink: Sink) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    sink.behaviour["x"] = answers(503, headers={"Retry-After": "1800"})
    await notifier.take_in(issued(1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)
    [delivery] = await notifier.deliveries()
    wait = datetime.fromisoformat(delivery["next_attempt_at"]) - datetime.now(UTC)
    assert timedelta(minutes=29) < wait <= timedelta(minutes=33)


async def test_of_attempts_without_end_the_newest_are_kept_and_all_are_counted(
    notifier: Notifier, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in one row, which is written anew each time and read whole."""
    monkeypatch.setattr("laurel_notifier.queue.ATTEMPTS_KEPT", 3)
    await notifier.endpoint(f"{sink.base}/x")
    statuses = [500, 501, 502, 503, 504]
    sink.behaviour["x"] = answers(*statuses)  # the last one from then on
    await notifier.take_in(issued(1))

    async def enough() -> bool:
        await notifier.due_now()
        return int((await notifier.deliveries())[0]["attempt_count"]) >= len(statuses)

    async with notifier.worker():
        await until(enough)
    [delivery] = await notifier.deliveries()
    made = [*statuses, *[504] * (delivery["attempt_count"] - len(statuses))]
    assert [one["status"] for one in delivery["attempts"]] == made[-3:]


async def test_gone_disables_the_endpoint_and_holds_what_waits(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.endpoint(f"{sink.base}/other")
    sink.behaviour["x"] = answers(410)
    await notifier.take_in(*(issued(number) for number in range(5)))
    worker_options = {"concurrency_per_endpoint": 1}
    async with notifier.own_worker(**worker_options) as worker, running(worker.run):
        await until(lambda: len(sink.at("other")) == 5 and len(sink.at("x")) >= 1)
    answer = (await notifier.http.get(f"/notifier/v1/endpoints/{made['endpoint_id']}")).json()
    assert answer["enabled"] is False
    assert answer["disabled_reason"] == "the endpoint answered 410 Gone"
    states = [one["state"] for one in await notifier.deliveries(endpoint_id=made["endpoint_id"])]
    assert states.count("failed") == len(sink.at("x"))
    assert states.count("held") == 5 - len(sink.at("x"))
    await notifier.take_in(issued(9))
    assert len(await notifier.deliveries(endpoint_id=made["endpoint_id"])) == 5, "owed to a disabled endpoint"
    sink.behaviour.clear()
    url = f"/notifier/v1/endpoints/{made['endpoint_id']}"
    assert (await notifier.http.patch(url, json={"enabled": True})).json()["disabled_reason"] is None
    async with notifier.worker():
        await until(lambda: len(sink.at("x")) == 5)
    for failed in await notifier.deliveries(endpoint_id=made["endpoint_id"], state="failed"):
        assert (await notifier.http.post(f"/notifier/v1/deliveries/{failed['delivery_id']}/retry")).status_code == 202
    async with notifier.worker():
        await until(lambda: len({one.message_id for one in sink.at("x")}) == 5)

        async def all_delivered() -> bool:
            return await notifier.states() == {"delivered": 11}

        await until(all_delivered)


@pytest.mark.parametrize("status", [301, 307, 400, 404, 500])
async def test_whatever_is_not_2xx_is_tried_again_and_redirects_are_not_followed(
    notifier: Notifier, sink: Sink, status: int
) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    sink.behaviour["x"] = answers(status, headers={"Location": f"{sink.base}/elsewhere"})
    await notifier.take_in(issued(1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)
    [delivery] = await notifier.deliveries()
    assert (delivery["state"], delivery["last_status"]) == ("pending", status)
    assert not sink.at("elsewhere")


async def test_after_three_days_a_delivery_has_failed_with_its_reason_and_a_person_can_start_it_again(
    notifier: Notifier, sink: Sink
) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    sink.behaviour["x"] = answers(500, 500, 200)
    await notifier.take_in(issued(1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)
    await notifier.sql("UPDATE deliveries SET retrying_since = now() - interval '3 days', next_attempt_at = now()")
    async with notifier.worker():
        await until(lambda: len(sink.received) == 2)
    [delivery] = await notifier.deliveries()
    assert delivery["state"] == "failed"
    assert "3 days and 2 attempts" in delivery["last_error"]
    assert "answered 500" in delivery["last_error"]
    answer = await notifier.http.post(f"/notifier/v1/deliveries/{delivery['delivery_id']}/retry")
    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"
    async with notifier.worker():
        await until(lambda: len(sink.received) == 3)
    assert await notifier.states() == {"delivered": 1}


# --- one slow endpoint delays nobody else -------------------------------------------------------------------


async def test_endpoints_that_hang_delay_nobody_else(notifier: Notifier, sink: Sink) -> None:
    for number in range(20):
        await notifier.endpoint(f"{sink.base}/hangs{number}")
        sink.behaviour[f"hangs{number}"] = hangs
    await notifier.endpoint(f"{sink.base}/quick")
    await notifier.take_in(*(issued(number) for number in range(300)))
    async with notifier.own_worker(total_timeout=600.0, lease_s=3600.0, concurrency=100) as worker:
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        await until(lambda: len(sink.at("quick")) == 300)
        # All of it arrived while the others still hold their first requests.
        for number in range(20):
            assert sink.in_flight[f"hangs{number}"] == len(sink.at(f"hangs{number}")) == 4
        assert sink.most_in_flight["quick"] <= 16
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_endpoint_that_hangs_gets_fewer_and_fewer_requests_and_more_again_when_it_recovers(
    notifier: Notifier, sink: Sink
) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    sink.behaviour["x"] = hangs
    await notifier.take_in(*(issued(number) for number in range(120)))
    async with notifier.own_worker(total_timeout=0.5, needs_s=0.0) as worker, running(worker.run):
        await until(lambda: len(sink.at("x")) > 25)
        assert sink.most_in_flight["x"] <= 16
        assert sink.in_flight["x"] <= 2
        sink.behaviour.clear()

        async def all_delivered() -> bool:
            await notifier.due_now()
            return await notifier.states() == {"delivered": 120}

        await until(all_delivered)


# --- crashes, leases, several workers -----------------------------------------------------------------------


@pytest.mark.parametrize("days", [4, -4])
async def test_a_clock_that_is_set_while_we_deliver_ends_nothing_and_puts_nothing_off(
    notifier: Notifier, sink: Sink, days: int
) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    sink.behaviour["x"] = answers(500, 500, 204, 204)
    await notifier.take_in(issued(1))
    async with notifier.own_worker(luck=lambda: 0.0) as worker, running(worker.run):
        await until(lambda: len(sink.received) == 1)
        with time_machine.travel(datetime.now(UTC) + timedelta(days=days), tick=True):
            await until(lambda: len(sink.received) == 3)
            await notifier.take_in(issued(2))
            await until(lambda: len(sink.received) == 4)

        async def all_delivered() -> bool:
            return await notifier.states() == {"delivered": 2}

        await until(all_delivered)
    verified(sink.received[-1], made["secret"])  # its time is right, or no receiver would take it


async def test_dying_between_the_request_and_the_record_repeats_it_under_the_same_id(
    notifier: Notifier, sink: Sink
) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    release = asyncio.Event()
    sink.behaviour["x"] = hangs
    await notifier.take_in(issued(1))
    async with notifier.own_worker(lease_s=3.0, needs_s=0.5) as doomed:
        task = asyncio.create_task(doomed.run(asyncio.Event()))
        await until(lambda: len(sink.received) == 1)
        doomed._database = None  # type: ignore[assignment] - killed: it can tell nobody any more
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    release.set()
    sink.behaviour.clear()
    assert (await notifier.deliveries())[0]["attempt_count"] == 0
    async with notifier.worker():
        await until(lambda: len(sink.received) == 2)
    first, second = sink.received
    assert first.message_id == second.message_id
    assert second.at - first.at >= 2.0, "taken over before the lease ended"
    assert await notifier.states() == {"delivered": 1}


async def test_several_workers_share_the_work_and_never_double_it(notifier: Notifier, sink: Sink) -> None:
    for name in ("a", "b", "c"):
        await notifier.endpoint(f"{sink.base}/{name}")
    await notifier.take_in(*(issued(number) for number in range(400)))
    async with (
        notifier.own_worker() as one,
        notifier.own_worker() as two,
        notifier.own_worker() as three,
        running(one.run),
        running(two.run),
        running(three.run),
    ):

        async def all_delivered() -> bool:
            return await notifier.states() == {"delivered": 1200}

        await until(all_delivered)
    ids = [(received.path, received.message_id) for received in sink.received]
    assert len(ids) == len(set(ids)) == 1200
    [row] = await notifier.sql("SELECT max(attempt_count) AS most, count(DISTINCT lease) AS leases FROM deliveries")
    assert (row["most"], row["leases"]) == (1, 0)


async def test_an_orderly_stop_finishes_what_is_in_flight_and_gives_the_rest_back_at_once(
    notifier: Notifier, sink: Sink
) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    gate = asyncio.Event()

    async def gated(received: Received) -> object:
        await gate.wait()
        from aiohttp import web

        return web.Response(status=204)

    sink.behaviour["x"] = gated  # type: ignore[assignment]
    await notifier.take_in(*(issued(number) for number in range(30)))
    async with notifier.own_worker(concurrency_per_endpoint=4) as worker:
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        await until(lambda: len(sink.received) == 4)
        stop.set()
        await asyncio.sleep(0.05)
        gate.set()
        await task
    assert await notifier.states() == {"delivered": 4, "pending": 26}
    assert await notifier.sql("SELECT 1 FROM deliveries WHERE lease_until > now()") == []
    async with notifier.worker():
        await until(lambda: len(sink.received) == 30)
    assert len({one.message_id for one in sink.received}) == 30


async def test_a_late_success_counts_and_a_late_failure_does_not(notifier: Notifier, sink: Sink) -> None:
    from laurel_notifier.domain import Answer, decide

    await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1))
    slow, quick = uuid.uuid4(), uuid.uuid4()
    now = datetime.now(UTC)

    async def take(lease: uuid.UUID) -> queue.Due:
        async with notifier.service.worker_database.transaction() as tx:
            [due] = await queue.take_due(
                tx, lease=lease, lease_for=timedelta(minutes=1), room=9, rooms={}, default_room=9
            )
        return due

    async def settle(lease: uuid.UUID, due: queue.Due, status: int) -> None:
        verdict = decide(Answer(status, "no"), attempt=1, retrying_since=now, now=now, luck=0.5)
        settled = queue.Settled(due.delivery_id, due.endpoint_id, verdict, status, "no", now, 1, now)
        async with notifier.service.worker_database.transaction() as tx:
            await queue.settle(tx, lease, [settled])

    due = await take(slow)
    await notifier.sql("UPDATE deliveries SET lease_until = now() - interval '1 second'")
    await take(quick)
    await settle(slow, due, 500)
    assert (await notifier.deliveries())[0]["attempt_count"] == 0
    await settle(slow, due, 200)
    assert await notifier.states() == {"delivered": 1}
    await settle(quick, due, 500)
    assert await notifier.states() == {"delivered": 1}


# --- delivered at once ----------------------------------------------------------------------------------------


class Absent:
    """A worker that holds everything for `lease_s` and then dies."""

    def __init__(self, lease_s: float = 0.0, rooms: dict[uuid.UUID, int] | None = None) -> None:
        self._held = Held(uuid.uuid4(), timedelta(seconds=lease_s), rooms or {})
        self.accepted = 0

    def hold(self) -> Held:
        return self._held

    def accept(self, due: Sequence[Due], made: Mapping[uuid.UUID, int]) -> None:
        self.accepted += len(due)


async def test_a_lane_that_keeps_up_delivers_without_a_look_at_the_queue(
    notifier: Notifier, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notifier.endpoint(f"{sink.base}/x")
    worker = next(one for one in notifier.service.workers if one.name == "webhooks").run.__self__  # type: ignore[attr-defined]
    async with notifier.worker():
        await notifier.take_in(issued(0))
        await until(lambda: len(sink.received) == 1 and bool(worker.hold().rooms))

        async def nothing_is_due(*_: Any, **__: Any) -> list[Due]:
            return []

        monkeypatch.setattr(queue, "take_due", nothing_is_due)
        for number in range(1, 9):
            await notifier.take_in(issued(number))
        await until(lambda: len(sink.received) == 9)
        monkeypatch.undo()
        await notifier.take_in(*(issued(number) for number in range(9, 400)))  # more than it holds
        await until(lambda: len(sink.received) == 400)
        await until(lambda: _delivered(notifier, 400))
    assert len({one.message_id for one in sink.received}) == 400
    assert [one["attempt_count"] for one in await notifier.deliveries()] == [1] * 400
    assert not worker.hold().rooms  # it has stopped


async def _delivered(notifier: Notifier, count: int) -> bool:
    return await notifier.states() == {"delivered": count}


async def test_outcomes_are_written_in_lots_while_more_come_in(
    notifier: Notifier, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    lots: list[tuple[float, int]] = []
    settle = queue.settle

    async def watched(tx: Transaction, lease: uuid.UUID, settled: Sequence[Settled]) -> None:
        lots.append((time.monotonic(), len(settled)))
        await asyncio.sleep(0.02)  # long enough for others to end meanwhile
        await settle(tx, lease, settled)

    monkeypatch.setattr(queue, "settle", watched)
    await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(*(issued(n) for n in range(600)))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 600)
        stopped_at = time.monotonic()
    assert await notifier.states() == {"delivered": 600}
    assert sum(size for _, size in lots) == 600
    for (before, _), (at, size) in pairwise(lots):  # each was large, or has waited, or there was an end
        assert size >= webhooks._COMPANY or at - before >= webhooks._LINGER_S or at >= stopped_at


async def test_what_died_with_the_worker_that_held_it_is_delivered_when_its_lease_ends(
    notifier: Notifier, sink: Sink
) -> None:
    endpoint = uuid.UUID((await notifier.endpoint(f"{sink.base}/x"))["endpoint_id"])
    await notifier.endpoint(f"{sink.base}/y")
    absent = Absent(2.0, {endpoint: 3})
    notify = handlers.Notify(contact_key=CONTACT_KEY, base_url="https://badges.example", mail=False, at_once=absent)
    events = [Delivered(MESSAGE, issued(number), "e", ISSUED_AT, None) for number in range(5)]
    for _ in range(2):  # and a redelivered batch holds nothing
        owed = await notify.prepare(events)
        async with notifier.service.worker_database.transaction() as tx:
            await notify.save(tx, owed)
        notify.saved(owed)
    assert absent.accepted == 3
    assert await notifier.states() == {"pending": 10}
    leased = await notifier.sql("SELECT endpoint_id, message_no FROM deliveries WHERE lease IS NOT NULL ORDER BY 2")
    assert [row["endpoint_id"] for row in leased] == [endpoint] * 3
    async with notifier.worker():
        await until(lambda: len(sink.at("y")) == 5)
        await until(lambda: len(sink.at("x")) == 5)
    assert len({one.message_id for one in sink.at("x")}) == 5


# --- secrets ------------------------------------------------------------------------------------------------


async def test_after_a_rotation_both_secrets_verify_for_a_day_and_then_the_new_one_alone(
    notifier: Notifier, sink: Sink
) -> None:
    made = await notifier.endpoint(f"{sink.base}/x", ALL_TYPES)
    url = f"/notifier/v1/endpoints/{made['endpoint_id']}"
    rotated = (await notifier.http.post(f"{url}/rotate-secret")).json()
    assert rotated["secret"] != made["secret"]
    assert datetime.fromisoformat(rotated["previous_secret_until"]) > datetime.now(UTC) + timedelta(hours=23)
    await notifier.take_in(issued(1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)
        verified(sink.received[0], made["secret"])
        verified(sink.received[0], rotated["secret"])
        await notifier.sql("UPDATE endpoints SET previous_secret_until = now() - interval '1 second'")
        await notifier.take_in(issued(2))
        await until(lambda: len(sink.received) == 2)
    verified(sink.received[1], rotated["secret"])
    with pytest.raises(WebhookVerificationError):
        verified(sink.received[1], made["secret"])


async def test_secrets_and_contacts_lie_sealed_in_the_database(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.take_in(issued(1, contact=contact(email="grace@learner.example")))
    raw = made["secret"].removeprefix("whsec_")
    for table in ("endpoints", "deliveries", "emails"):
        for row in await notifier.sql(f"SELECT t::text AS text FROM {table} t"):
            assert raw not in row["text"]
            assert "grace" not in row["text"]


async def test_a_test_event_is_delivered_to_this_endpoint_alone(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x", ["credential.revoked"])
    await notifier.endpoint(f"{sink.base}/y")
    answer = await notifier.http.post(f"/notifier/v1/endpoints/{made['endpoint_id']}/test")
    assert answer.status_code == 202
    async with notifier.worker():
        await until(lambda: len(sink.received) == 1)
    payload = verified(sink.at("x")[0], made["secret"])
    assert payload["type"] == "endpoint.test"
    delivery = (await notifier.http.get(f"/notifier/v1/deliveries/{answer.json()['delivery_id']}")).json()
    assert (delivery["state"], delivery["event_type"]) == ("delivered", "endpoint.test")


async def test_a_name_that_turns_private_after_its_check_is_not_dialled(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/x")
    await notifier.sql(
        "UPDATE endpoints SET url = $2 WHERE endpoint_id = $1::uuid",
        made["endpoint_id"],
        f"https://[::ffff:127.0.0.1]:{sink.port}/x",
    )
    await notifier.take_in(issued(1))

    async def attempted() -> bool:
        return (await notifier.deliveries())[0]["attempt_count"] == 1

    async with notifier.worker():
        await until(attempted)
    [delivery] = await notifier.deliveries()
    assert delivery["state"] == "pending"
    assert "not a public address" in delivery["last_error"]
    assert not sink.received
