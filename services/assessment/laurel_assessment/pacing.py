"""How far imports may run ahead of the issuer: bulk waits at the door, so that a single pass does not wait behind it.

What is settled stands in line: in the outbox, then in the topic, until the issuer has made credentials of it. That line
is first come, first served, so it must stay short: imports fill it up to what the issuer works off in `ahead_s`, and
wait in their spool, where they take turns. Where nothing is worked off at all they trickle, so that they are decided
in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from laurel.bus import Bus, BusUnavailable
from laurel.database import Database
from laurel.topics import ASSESSMENT, ISSUANCE_GROUP

log = structlog.get_logger()

LEAST_AHEAD = 1_000  # passes: a chunk; shorter lines leave the issuer waiting
LOOK_EVERY_S = 0.5
TRICKLE_S = 10.0  # a chunk in so many seconds is settled whatever stands in line
_SMOOTHING = 0.25  # weight of the newest reading of the rate


@dataclass(frozen=True, slots=True)
class Reading:
    """What stood in line at a moment, and how fast it is worked off (passes a second)."""

    at: float
    waiting: int
    rate: float


def read_again(before: Reading | None, *, at: float, waiting: int, settled: int) -> Reading:
    """The next reading, when `settled` passes were added since `before`."""
    if before is None or at <= before.at:
        return Reading(at, waiting, 0.0)
    worked_off = max(0, before.waiting + settled - waiting) / (at - before.at)
    if not waiting and not worked_off:
        return Reading(at, waiting, before.rate)  # a quiet hour says nothing of how fast we are
    return Reading(at, waiting, before.rate + _SMOOTHING * (worked_off - before.rate))


def room(reading: Reading, *, settled: int, ahead_s: float) -> int:
    """How many passes more may stand in line; negative when there are too many."""
    return max(LEAST_AHEAD, int(reading.rate * ahead_s)) - reading.waiting - settled


class Pace:
    """Asks the bus and the outbox from time to time, and counts in between. One for each process that settles."""

    def __init__(
        self, bus: Bus, database: Database, *, ahead_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._database = database
        self._ahead_s = ahead_s
        self._monotonic = monotonic
        self._reading: Reading | None = None
        self._settled = self._begun = 0
        self._looked_at = self._opened_at = float("-inf")

    async def open(self) -> bool:
        """Whether another chunk may be begun now; say `settled` when it has ended, however it did."""
        now = self._monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            await self._look()
        coming = self._settled + self._begun * LEAST_AHEAD  # a chunk that has begun counts as full
        has_room = self._reading is not None and room(self._reading, settled=coming, ahead_s=self._ahead_s) > 0
        if has_room or now - self._opened_at >= TRICKLE_S:
            self._opened_at = now
            self._begun += 1
            return True
        return False

    def settled(self, passes: int) -> None:
        """A chunk that had begun has ended, and so many passes were put in line."""
        self._begun -= 1
        self._settled += passes

    async def _look(self) -> None:
        self._looked_at = self._monotonic()
        counted = self._settled
        try:
            lag = await self._bus.lag(ISSUANCE_GROUP, [ASSESSMENT.name])
        except BusUnavailable as error:
            log.info("imports do not know how far the issuer is", reason=str(error))
            return
        async with self._database.transaction() as tx:
            unsent = await tx.fetchval("SELECT count(*) FROM outbox WHERE topic = $1", ASSESSMENT.name)
        self._reading = read_again(
            self._reading, at=self._monotonic(), waiting=sum(lag.values()) + unsent, settled=counted
        )
        self._settled -= counted
