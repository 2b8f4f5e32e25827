"""The delivery worker: takes what is due, sends it, and writes down what became of it.

1. Take: a batch of due deliveries is leased (queue.take_due), the endpoints in turns. Each endpoint has a lane here;
   a fast one gets more at a time, so that taking costs little, and a slow one only what it can have in flight.
   What this process writes itself for a lane that keeps up is leased as it is written (`hold`, `accept`).
2. Send: a lane runs a bounded number of requests at a time, which is halved whenever the endpoint does not answer and
   grows again when it does. An endpoint that hangs so delays nobody but itself.
3. Settle: outcomes are written in batches, one statement for all of them.

Leases and retries go by the database's clock: this machine's may be set while they run (`_now`).

Dying between 2 and 3 repeats a delivery when its lease ends, under the same webhook-id: receivers tell by it. Within an
endpoint the order of events is kept as far as that allows: requests run side by side, and a retry comes later.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import monotonic
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind, Status, StatusCode

from laurel import telemetry, watchdog
from laurel.crash_points import reach
from laurel.database import UNAVAILABLE, Database
from laurel.http import FetchFailed, FetchRefused, GuardedClient
from laurel.security import CannotUnseal, unseal
from laurel.waiting import Backoff, first_of, sleep
from laurel_notifier import domain, queue
from laurel_notifier.domain import Answer
from laurel_notifier.queue import Due, Settled
from laurel_notifier.store import DELIVERIES_CHANNEL, Held
from laurel_notifier.waking import wake_on

log = structlog.get_logger()

SECRET_PURPOSE = "webhook-secret"  # noqa: S105 - a purpose, not a secret
_POLL_S = 1.0
_LINGER_S = 0.2  # outcomes wait this long for company, or until there are so many: one transaction for many
_COMPANY = 400
_SETTLE_MOST = 500
_WINDOW_MOST = 1024  # two batches of events: what a fast endpoint has no room for is written, and read, once more
_START = 4  # requests at a time for an endpoint that we know nothing about yet
_HELD_MOST = 16  # deliveries taken in advance, in multiples of what may run at a time: lanes that hang fill up too
_STOP_S = 10.0


@dataclass
class _Lane:
    """One endpoint, as this worker sees it."""

    concurrency: int
    window: int
    waiting: deque[Due] = field(default_factory=deque)
    running: int = 0
    filled_at: float = 0.0
    was_full: bool = False
    behind: bool = True  # more may be due for it than it holds: nothing new may pass by that

    @property
    def room(self) -> int:
        return max(0, self.window - len(self.waiting) - self.running)


class DeliveryWorker:
    """Delivers webhooks. Any number of them may run, in one process or in many.

    key: opens the secrets. lease_s must exceed the client's total timeout by far.
    """

    def __init__(
        self,
        database: Database,
        client: GuardedClient,
        *,
        key: bytes,
        concurrency: int = 512,
        concurrency_per_endpoint: int = 16,
        lease_s: float = 25.0,
        needs_s: float = 18.0,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._client = client
        self._concurrency = concurrency
        self._per_endpoint = concurrency_per_endpoint
        self._start_with = min(_START, concurrency_per_endpoint)
        self._lease_for = timedelta(seconds=lease_s)
        self._needs_s = needs_s  # of a lease, to start a request: what is taken too long ago is left to expire
        self._base = (datetime.now(UTC), monotonic())  # what the database's clock said, and when; see _now
        self._luck = luck
        self._lease = uuid.uuid4()
        self._lanes: dict[UUID, _Lane] = {}
        self._running: dict[asyncio.Task[None], Due] = {}
        self._abandoned: list[UUID] = []
        self._stopping = True  # until it runs
        self._outcomes: list[Settled] = []
        self._wake = asyncio.Event()
        self._to_settle = asyncio.Event()
        self._enough = asyncio.Event()

        @lru_cache(maxsize=4096)
        def open_secret(sealed: str) -> bytes:
            return unseal(key, sealed, purpose=SECRET_PURPOSE)

        self._open_secret = open_secret

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`; then finish what is in flight, within seconds, and give the rest back."""
        finished = asyncio.Event()
        self._stopping, self._abandoned = False, []
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(wake_on(self._database, DELIVERIES_CHANNEL, self._wake, stop))
            settling = group.create_task(self._settle_all(finished))
            try:
                await self._take_all(stop)
                self._stopping = True
                if self._running:
                    await asyncio.wait(self._running, timeout=_STOP_S)
            finally:
                listening.cancel()
                # What is cut off may have arrived: it is repeated under the same webhook-id.
                self._abandoned = [due.delivery_id for due in self._running.values()]
                for task in list(self._running):
                    task.cancel()
                finished.set()
                self._to_settle.set()
            await settling
        await self._give_back()

    # -- 1: take ---------------------------------------------------------------------------------------------

    async def _take_all(self, stop: asyncio.Event) -> None:
        backoff = Backoff()
        while not stop.is_set():
            self._wake.clear()
            try:
                taken = await self._take()
                backoff.worked()
            except UNAVAILABLE as error:
                log.warning("deliveries wait", reason=f"{type(error).__name__}: {error}", seconds=backoff.seconds)
                await backoff.wait(stop)
                continue
            if taken:
                # Let the lanes move before the next look; a lane that runs dry wakes us.
                await sleep(stop, 0.005)
            await first_of(self._wake, stop, seconds=_POLL_S)

    async def _take(self) -> int:
        held = sum(len(lane.waiting) + lane.running for lane in self._lanes.values())
        room = min(2 * self._concurrency, _HELD_MOST * self._concurrency - held)
        if room <= 0:
            return 0
        rooms = {endpoint: lane.room for endpoint, lane in self._lanes.items()}
        asked_at = monotonic()
        async with self._database.transaction() as tx:
            due = await queue.take_due(
                tx, lease=self._lease, lease_for=self._lease_for, room=room, rooms=rooms,
                default_room=2 * self._start_with,
            )  # fmt: skip
        if due:
            reach("delivery.leased")
            self._base = (due[0].lease_until - self._lease_for, asked_at)
        now = monotonic()
        counts: dict[UUID, int] = {}
        for one in due:
            self._lane(one.endpoint_id).waiting.append(one)
            counts[one.endpoint_id] = counts.get(one.endpoint_id, 0) + 1
        for endpoint, count in counts.items():
            lane = self._lanes[endpoint]
            lane.filled_at = now
            # More may be due for it than we took: look again as soon as it runs dry.
            lane.was_full = len(due) == room or count >= rooms.get(endpoint, 2 * self._start_with)
        for endpoint, lane in self._lanes.items():
            if rooms.get(endpoint, 1) > 0:
                lane.behind = lane.was_full if endpoint in counts else len(due) == room
        for endpoint in [one for one, lane in self._lanes.items() if not lane.waiting and not lane.running]:
            if endpoint not in counts and self._lanes[endpoint].filled_at < now - 60:
                del self._lanes[endpoint]
        self._start()
        return len(due)

    def hold(self) -> Held:
        """How much of what is written now this worker would deliver: by lanes that hold all that is due for them."""
        held = sum(len(lane.waiting) + lane.running for lane in self._lanes.values())
        left = 0 if self._stopping else _HELD_MOST * self._concurrency - held
        rooms: dict[UUID, int] = {}
        for endpoint, lane in self._lanes.items():
            if not lane.behind and (room := min(lane.room, left)) > 0:
                rooms[endpoint] = room
                left -= room
        return Held(self._lease, self._lease_for, rooms)

    def accept(self, due: Sequence[Due], made: Mapping[UUID, int]) -> None:
        """Deliver what was written with this worker's lease; a lane that got less than was written falls behind."""
        got = Counter(one.endpoint_id for one in due)
        for endpoint, lane in self._lanes.items():
            if made.get(endpoint, 0) > got[endpoint]:
                lane.behind = lane.was_full = True
        now = monotonic()
        for one in due:
            lane = self._lane(one.endpoint_id)
            lane.waiting.append(one)
            lane.filled_at = now
        self._start()

    def _now(self) -> datetime:
        """The time by the database's clock, read at the last look and carried on by the monotonic one; a little ahead.

        This machine's wall clock may be wrong or stepped: a step forward would let every lease look ended, put a retry
        off for as long, and give up what has been tried for three days.
        """
        said, at = self._base
        return said + timedelta(seconds=monotonic() - at)

    def _lane(self, endpoint: UUID) -> _Lane:
        lane = self._lanes.get(endpoint)
        if lane is None:
            lane = self._lanes[endpoint] = _Lane(self._start_with, 2 * self._start_with)
        return lane

    def _start(self) -> None:
        """Start what may run. Lanes in turns: none takes the last places because it stands first."""
        while len(self._running) < self._concurrency and not self._stopping:
            started = False
            for lane in self._lanes.values():
                if lane.waiting and lane.running < lane.concurrency and len(self._running) < self._concurrency:
                    self._begin(lane)
                    started = True
            if not started:
                return

    def _fill(self, lane: _Lane) -> None:
        while lane.waiting and lane.running < lane.concurrency and len(self._running) < self._concurrency:
            if self._stopping:
                return
            self._begin(lane)

    def _begin(self, lane: _Lane) -> None:
        due = lane.waiting.popleft()
        lane.running += 1
        task = asyncio.create_task(self._deliver(lane, due))
        self._running[task] = due
        task.add_done_callback(lambda done: self._ended(lane, done))

    def _ended(self, lane: _Lane, task: asyncio.Task[None]) -> None:
        del self._running[task]
        lane.running -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nothing is settled: the lease ends and the delivery is tried again.
            log.error("delivery broke", error=f"{type(error).__name__}: {error}", exc_info=error)
        if len(self._running) == self._concurrency - 1:
            self._start()  # others may have waited for the place
        else:
            self._fill(lane)
        if lane.was_full and len(lane.waiting) <= lane.concurrency // 2:
            lane.was_full = False
            lane.window = domain.next_window(
                lane.window, emptied_in_s=monotonic() - lane.filled_at, most=_WINDOW_MOST, least=lane.concurrency
            )
            self._wake.set()

    # -- 2: send ---------------------------------------------------------------------------------------------

    async def _deliver(self, lane: _Lane, due: Due) -> None:
        started_at = self._now()
        if due.lease_until - started_at < timedelta(seconds=self._needs_s):
            return  # it waited here for too long; whoever takes it next has a whole lease
        began = monotonic()
        answer = await self._post(due, started_at)
        reach("delivery.posted")
        retrying_since = due.retrying_since or started_at
        verdict = domain.decide(
            answer, attempt=due.attempt, retrying_since=retrying_since, now=self._now(), luck=self._luck()
        )
        lane.concurrency = domain.next_concurrency(lane.concurrency, answer, most=self._per_endpoint)
        self._outcomes.append(
            Settled(
                delivery_id=due.delivery_id,
                endpoint_id=due.endpoint_id,
                verdict=verdict,
                status=answer.status,
                error=answer.error,
                started_at=started_at,
                duration_ms=round((monotonic() - began) * 1000),
                retrying_since=retrying_since,
            )
        )
        self._to_settle.set()
        if len(self._outcomes) >= _COMPANY:
            self._enough.set()

    async def _post(self, due: Due, now: datetime) -> Answer:
        span = telemetry.start_span(
            "POST webhook",
            parent=due.traceparent,
            kind=SpanKind.CLIENT,
            attributes={
                "http.request.method": "POST",
                "laurel.endpoint_id": str(due.endpoint_id),
                "laurel.delivery_id": str(due.delivery_id),
                "http.request.resend_count": due.attempt - 1,
            },
        )
        answer: Answer | None = None
        try:
            secrets = [self._open_secret(one) for one in (due.secret, due.previous_secret) if one is not None]
            timestamp = int(now.timestamp())
            headers = {
                "Content-Type": "application/json",
                "webhook-id": due.message_id,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": domain.signatures(
                    secrets, message_id=due.message_id, timestamp=timestamp, body=due.body
                ),
            }
            traceparent = telemetry.format_traceparent(span.get_span_context())
            if traceparent is not None:
                headers["traceparent"] = traceparent
            posted = await self._client.post(due.url, body=due.body, headers=headers)
        except FetchRefused as refused:
            answer = Answer(None, f"not sent: {refused.detail}")
        except FetchFailed as failed:
            answer = Answer(None, f"{failed.code}: {failed.detail}")
        except CannotUnseal:
            answer = Answer(None, "not sent: the signing secret cannot be opened; LAUREL_CONTACT_KEY has changed")
        else:
            answer = Answer(posted.status, _words(posted.status), posted.retry_after_s)
            span.set_attribute("http.response.status_code", posted.status)
        finally:
            if answer is not None and answer.error is not None:
                span.set_status(Status(StatusCode.ERROR, answer.error))
            span.end()
        return answer

    # -- 3: settle -------------------------------------------------------------------------------------------

    async def _settle_all(self, finished: asyncio.Event) -> None:
        with watchdog.part("settling"):
            await self._settle_until(finished)

    async def _settle_until(self, finished: asyncio.Event) -> None:
        backoff = Backoff()
        while self._outcomes or not finished.is_set():
            if not self._outcomes:
                await sleep(self._to_settle, _POLL_S)
                self._to_settle.clear()
                continue
            if len(self._outcomes) < _COMPANY:
                self._enough.clear()  # it was set for those of the last lot, too
                await first_of(self._enough, finished, seconds=_LINGER_S)
            batch = self._outcomes[:_SETTLE_MOST]
            try:
                async with self._database.transaction() as tx:
                    await queue.settle(tx, self._lease, batch)
                    reach("delivery.settling")
                reach("delivery.settled")
            except UNAVAILABLE as error:
                if finished.is_set():
                    log.warning("deliveries not settled; they will be repeated", deliveries=len(self._outcomes))
                    return
                log.warning("outcomes wait", reason=f"{type(error).__name__}: {error}", seconds=backoff.seconds)
                await backoff.wait(finished)
                continue
            backoff.worked()
            del self._outcomes[: len(batch)]
            for state in ("delivered", "pending", "failed"):
                if number := sum(one.verdict.state == state for one in batch):
                    telemetry.count("laurel_delivery_attempts_total", number, outcome=state)

    async def _give_back(self) -> None:
        unsent = [due.delivery_id for lane in self._lanes.values() for due in lane.waiting] + self._abandoned
        self._lanes.clear()
        try:
            async with self._database.transaction() as tx:
                await queue.give_back(tx, self._lease, unsent)
        except UNAVAILABLE:
            log.warning("deliveries not given back; their leases will end", deliveries=len(unsent))


def _words(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the endpoint answered {status}; redirects are not followed, so give the final URL"
    return f"the endpoint answered {status}"
