"""Takes dead letters through the very handler that refused them, once somebody asked for it.

It runs beside the engine in the consumer's own process, so nothing is published again and no other consumer sees the
record twice. A letter's way:
 1. one process a consumer owns its queue, by an advisory lock that lives and dies with a connection;
 2. the oldest queued letter goes through `Engine.process` alone; what fails is buried again, with its new reason;
 3. its effects, its new state and the outcome of what was asked are one transaction.
Dying before 3 leaves the letter queued, and whoever owns the queue next takes it. Letters of one key keep their order
among themselves. What came later on the key was handled meanwhile: handlers go by versions, not by arrival.

"Not now" lets a letter rest and the others go on. One that took its process with it three times is not tried again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog

from laurel import telemetry
from laurel.bus import Bus, Message
from laurel.crash_points import reach
from laurel.database import Database, Transaction, is_unavailable
from laurel.dead_letters import headers_of, places
from laurel.envelope import Delivered
from laurel.errors import Stuck
from laurel.service import Consumer, Engine, Handler
from laurel.waiting import Backoff, sleep

log = structlog.get_logger()

LOOK_S = 2.0
REST_S = 30.0  # for which a letter rests after "not now"
PATIENCE_S = 5.0  # for which "not now" is waited for before that
MAX_STARTS = 3

T = TypeVar("T")


class Settling(Generic[T]):
    """A handler around another one: what it handles is no dead letter any more, in the same transaction.

    A letter that nobody asked for (a replay came by) gets an action of its own. What `save` buries is not settled.
    """

    def __init__(self, consumer: Consumer[T], *, action: str, asked_by: str, request_id: str = "") -> None:
        self._group = consumer.group
        self._handler: Handler[T] = consumer.handler
        self._said = (action, asked_by, request_id)

    async def prepare(self, events: Sequence[Delivered]) -> tuple[list[Message], T]:
        """As the handler does."""
        return [one.message for one in events], await self._handler.prepare(events)

    async def save(self, tx: Transaction, prepared: tuple[list[Message], T]) -> None:
        """The handler's effects between the two halves of settling: what it buries in between is a letter again."""
        messages, work = prepared
        rows = await tx.fetch(
            """
            UPDATE dead_letters d SET state = 'redriven', redriven_at = now(), attempts = d.attempts + 1
            FROM unnest($2::text[], $3::int[], $4::bigint[]) AS m (topic, partition, "offset")
            WHERE d.consumer = $1 AND d.topic = m.topic AND d.partition = m.partition AND d."offset" = m."offset"
                AND d.state <> 'redriven' RETURNING d.id
            """,
            self._group, *places(messages),
        )  # fmt: skip
        await self._handler.save(tx, work)
        if rows:
            await self._close(tx, [row["id"] for row in rows])
            reach("redrive.marked", self._group)

    async def _close(self, tx: Transaction, letters: list[UUID]) -> None:
        action, asked_by, request_id = self._said
        await tx.execute(
            """
            WITH done AS (
                SELECT id, tenant_id, code FROM dead_letters WHERE id = ANY ($1) AND state = 'redriven'
            ), closed AS (
                UPDATE dead_letter_actions a SET finished_at = now(), outcome = 'redriven'
                FROM done WHERE a.letter_id = done.id AND a.finished_at IS NULL RETURNING a.letter_id
            )
            INSERT INTO dead_letter_actions (tenant_id, letter_id, request_id, action, asked_by, was, outcome,
                finished_at)
            SELECT tenant_id, id, $2, $3, $4, code, 'redriven', now() FROM done
            WHERE id NOT IN (SELECT letter_id FROM closed)
            """,
            letters, request_id, action, asked_by,
        )  # fmt: skip


def settling(consumer: Consumer[T], *, action: str, asked_by: str, request_id: str = "") -> Consumer[Any]:
    """The consumer with its handler inside Settling."""
    saved = consumer.saved
    return Consumer(
        group=consumer.group,
        topics=consumer.topics,
        handler=Settling(consumer, action=action, asked_by=asked_by, request_id=request_id),
        saved=None if saved is None else lambda prepared: saved(prepared[1]),
    )


class Redriver(Generic[T]):
    """Works off one consumer's queue of redrives. Several may run: one owns the queue, the others stand by."""

    def __init__(
        self, consumer: Consumer[T], *, bus: Bus, database: Database, look_s: float = LOOK_S, rest_s: float = REST_S
    ) -> None:
        self._group = consumer.group
        self._consumer = settling(consumer, action="redrive", asked_by="worker")
        self._bus = bus
        self._database = database
        self._look_s = look_s
        self._rest_s = rest_s
        self._resting: dict[UUID, float] = {}  # letter → until when it rests
        self._paced: dict[str, float] = {}  # request → when its next letter may begin

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`. A database out of reach is waited for."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                if await self._is_asked():
                    await self._own_and_work(stop)
                backoff.worked()
                await sleep(stop, self._look_s)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                log.warning("redrive paused", group=self._group, reason=f"{type(error).__name__}: {error}")
                await backoff.wait(stop)

    async def _is_asked(self) -> bool:
        rows = await self._database.fetch(
            "SELECT FROM dead_letters WHERE consumer = $1 AND state = 'queued' LIMIT 1", self._group
        )
        return bool(rows)

    async def _own_and_work(self, stop: asyncio.Event) -> None:
        async with self._database.session() as connection:  # 1
            key = f"{self._database.schema}:redrive:{self._group}"
            if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", key):
                return
            while not stop.is_set() and not connection.is_closed():
                letter = await self._next()
                if letter is not None:
                    await self.redrive(letter, stop)
                elif not await self._is_asked():
                    return
                else:
                    now = time.monotonic()
                    due = [until - now for until in (*self._resting.values(), *self._paced.values())]
                    await sleep(stop, max(0.01, min([*due, self._look_s])))

    async def _next(self) -> Any:
        now = time.monotonic()
        self._resting = {one: until for one, until in self._resting.items() if until > now}
        self._paced = {one: until for one, until in self._paced.items() if until > now}
        rows = await self._database.fetch(
            """
            SELECT d.id, d.topic, d.partition, d."offset", d.key, d.value, d.headers,
                coalesce(d.timestamp_ms, floor(extract(epoch FROM d.died_at) * 1000)::bigint) AS timestamp_ms,
                a.id AS action_id, a.request_id, a.rate
            FROM dead_letters d JOIN dead_letter_actions a ON a.letter_id = d.id AND a.finished_at IS NULL
            WHERE d.consumer = $1 AND d.state = 'queued' AND NOT d.id = ANY ($2::uuid[])
                AND NOT a.request_id = ANY ($3::text[])
                AND NOT EXISTS (SELECT FROM dead_letters e WHERE e.consumer = d.consumer AND e.topic = d.topic
                    AND e.key = d.key AND e.state = 'queued' AND e.partition = d.partition AND e."offset" < d."offset")
            ORDER BY d.topic, d.partition, d."offset" LIMIT 1
            """,
            self._group, list(self._resting), list(self._paced),
        )  # fmt: skip
        return rows[0] if rows else None

    async def redrive(self, letter: Any, stop: asyncio.Event) -> None:
        """Steps 2 and 3 for one letter."""
        reach("redrive.read", self._group)
        if letter["rate"] is not None:
            self._paced[letter["request_id"]] = time.monotonic() + 1.0 / letter["rate"]
        if not await self._begin(letter):
            return
        reach("redrive.begun", self._group)
        message = Message(
            letter["topic"], letter["partition"], letter["offset"], letter["key"], letter["value"],
            headers_of(letter["headers"]), letter["timestamp_ms"],
        )  # fmt: skip
        # An engine for each: what it counts against a handler that fails on everything is about fresh records.
        engine = Engine(
            self._consumer, bus=self._bus, database=self._database, member_id="redrive", stuck_after_s=PATIENCE_S
        )
        try:
            done = await engine.process([message], stop)  # 2 3
        except Stuck as error:
            if type(error) is not Stuck:  # what is inconsistent stops the process, here as on the bus
                raise
            log.warning("a redrive rests", group=self._group, letter=str(letter["id"]), reason=str(error))
            self._resting[letter["id"]] = time.monotonic() + self._rest_s
            done = False
        if done:
            reach("redrive.settled", self._group)
        async with self._database.transaction() as tx:
            if not done:  # it did no harm to the process
                await tx.execute("UPDATE dead_letter_actions SET starts = 0 WHERE id = $1", letter["action_id"])
                return
            outcome = await tx.fetchval(
                "SELECT outcome FROM dead_letter_actions WHERE id = $1 AND finished_at IS NOT NULL", letter["action_id"]
            )
        log.info("redrive", group=self._group, letter=str(letter["id"]), outcome=outcome)
        telemetry.count("laurel_redriven_total", 1, group=self._group, outcome=outcome or "unknown")

    async def _begin(self, letter: Any) -> bool:
        """Note that it begins. False: it is not to be tried: it was cancelled, or ended its process each time."""
        async with self._database.transaction() as tx:
            # The letter is locked first, as wherever both are written: whoever cancels holds it and wants the action.
            starts = await tx.fetchval(
                "WITH letter AS MATERIALIZED (SELECT id FROM dead_letters WHERE id = $2 FOR UPDATE) "
                "UPDATE dead_letter_actions a SET starts = starts + 1 FROM letter "
                "WHERE a.id = $1 AND a.letter_id = letter.id AND a.finished_at IS NULL RETURNING starts",
                letter["action_id"], letter["id"],
            )  # fmt: skip
            if starts is None:
                return False
            if starts <= MAX_STARTS:
                return True
            detail = f"its process ended {MAX_STARTS} times while it was redriven; it is not tried again by itself"
            await tx.execute(
                "UPDATE dead_letter_actions SET finished_at = now(), outcome = 'died_again', code = 'redrive_crashed', "
                "detail = $2 WHERE id = $1",
                letter["action_id"], detail,
            )  # fmt: skip
            await tx.execute(
                "UPDATE dead_letters SET state = 'waiting', redriven_at = NULL, attempts = attempts + 1, "
                "code = 'redrive_crashed', detail = $2 WHERE id = $1 AND state = 'queued'",
                letter["id"], detail,
            )  # fmt: skip
        return False
