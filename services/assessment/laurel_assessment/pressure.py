"""When intake says "not now": 429 with Retry-After, before anything is stored that could not be worked off.

Two queues stand behind intake, both in PostgreSQL, so every API process sees the same: the outbox (events that the bus
has not taken yet) and the spool (rows of uploads that nobody has decided yet). Bulk is refused when either is long;
a single pass only when the outbox has stood for so long that hardly anything moves. A third queue is the process's own:
requests that wait for a connection to the database.

Whoever is refused has lost nothing and is told when to come again: in the time that the queue needs to get short, at
the speed at which it got shorter until now.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog

from laurel import telemetry
from laurel.database import Database, is_unavailable
from laurel.problems import FieldError, Problem
from laurel_assessment import import_store
from laurel_assessment.config import Settings
from laurel_assessment.import_store import Backlog

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
LOOK_WITHIN_S = 2.0  # a request waits for it
LEAST_RETRY_S = 1
MOST_RETRY_S = 120  # a client that waits longer is better told again
UNKNOWN_RETRY_S = 15  # nothing moves, so nobody knows
_SMOOTHING = 0.5  # weight of the newest reading of a rate


@dataclass(frozen=True, slots=True)
class Reading:
    """What stood in the queues at a moment, and how fast each gets shorter (events and rows a second)."""

    at: float
    backlog: Backlog
    outbox_rate: float = 0.0
    spool_rate: float = 0.0


def read_again(before: Reading | None, backlog: Backlog, *, at: float) -> Reading:
    """The next reading. The outbox's ids tell exactly what left it; a spool that also grows tells less than left it."""
    if before is None or at <= before.at:
        return Reading(at, backlog)
    passed = at - before.at
    left = max(0, backlog.outbox_head - before.backlog.outbox_head) if before.backlog.outbox else 0
    worked_off = max(0, before.backlog.spooled - backlog.spooled)
    return Reading(
        at,
        backlog,
        before.outbox_rate + _SMOOTHING * (left / passed - before.outbox_rate),
        before.spool_rate + _SMOOTHING * (worked_off / passed - before.spool_rate),
    )


class Full(NamedTuple):
    """A queue that is too long. limit: the setting that says so; detail: for the caller."""

    queue: str
    limit: str
    detail: str
    retry_s: int


class Most(NamedTuple):
    """How long the queues may be. See config.py."""

    bulk_s: float
    single_s: float
    spooled: int
    waiting: int


def refusal(reading: Reading | None, waiting: int, most: Most, *, bulk: bool) -> Full | None:
    """The queue that is too long for one more request, if any. waiting: requests that wait for a connection."""
    if waiting >= most.waiting:
        detail = f"{waiting} requests wait for the database in this process; {most.waiting} may"
        return Full("database", "overload_waiting", detail, LEAST_RETRY_S)
    if reading is None:
        return None
    backlog = reading.backlog
    oldest, limit = (most.bulk_s, "overload_bulk_s") if bulk else (most.single_s, "overload_single_s")
    if backlog.outbox_age_s > oldest:
        detail = f"{backlog.outbox} events wait to be sent, the oldest for {backlog.outbox_age_s:.0f} s; {oldest:g} s"
        return Full("outbox", limit, f"{detail} are allowed", _retry_s(backlog.outbox, reading.outbox_rate))
    if bulk and backlog.spooled > most.spooled:
        detail = f"{backlog.spooled} rows of uploads wait to be decided; {most.spooled} may"
        surplus = backlog.spooled - most.spooled
        return Full("spool", "overload_spooled_rows", detail, _retry_s(surplus, reading.spool_rate))
    return None


def _retry_s(surplus: int, rate: float) -> int:
    if rate <= 0:
        return UNKNOWN_RETRY_S
    return min(MOST_RETRY_S, max(LEAST_RETRY_S, math.ceil(surplus / rate)))


class Pressure:
    """Looks at the queues at most once a second, when somebody asks, and says who must come again.

    database: the API's, whose waiting requests count. worker_database: sees the queues of every tenant.
    """

    def __init__(
        self,
        database: Database,
        worker_database: Database,
        settings: Settings,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._worker_database = worker_database
        self._most = Most(
            settings.overload_bulk_s, settings.overload_single_s, settings.overload_spooled_rows,
            settings.overload_waiting,
        )  # fmt: skip
        self._clock = clock
        self._monotonic = monotonic
        self._reading: Reading | None = None
        self._looked_at = float("-inf")

    async def admit(self, *, bulk: bool) -> None:
        """Return when one more may come in. Raises Problem 429."""
        await self._look()
        full = refusal(self._reading, self._database.waiting, self._most, bulk=bulk)
        if full is None:
            return
        telemetry.count("laurel_refused_total", reason=f"overload_{full.queue}")
        what = "bulk uploads are" if bulk else "results are"
        detail = (
            f"{what} not taken in now: {full.detail}. Nothing of this was stored; send it again in {full.retry_s} s"
        )
        found = FieldError(field=full.queue, code=full.limit, detail=full.detail)
        headers = {"Retry-After": str(full.retry_s)}
        raise Problem(429, "overloaded", detail, errors=[found], headers=headers)

    async def _look(self) -> None:
        """Whoever comes first after a second looks; the others go by what was seen before."""
        now = self._monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        try:
            async with self._worker_database.transaction(within=LOOK_WITHIN_S) as tx:
                backlog = await import_store.backlog(tx, now=self._clock())
        except Exception as error:
            if not is_unavailable(error):
                raise
            log.warning("intake does not know how full it is", reason=f"{type(error).__name__}: {error}")
            return
        self._reading = read_again(self._reading, backlog, at=self._monotonic())
