"""Settling imports: takes spooled chunks, one transaction each, until none is owed (steps 4 and 5 of imports.py)."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import structlog
from msgspec.structs import replace

from laurel import telemetry, watchdog
from laurel.crash_points import reach
from laurel.database import Database, Transaction, is_unavailable, transaction_on
from laurel.errors import Stuck
from laurel.waiting import sleep
from laurel_assessment import import_store, store
from laurel_assessment.domain import Finding
from laurel_assessment.import_store import Form, Work
from laurel_assessment.intake import SLICE, Arrival, Keys, take_in
from laurel_assessment.pacing import Pace
from laurel_assessment.records import PROBLEMS, Record
from laurel_assessment.row_json import read_json, texts_of_json
from laurel_assessment.rows import Defaults, Glimpse, check, glimpse, read_csv, texts_of_csv

log = structlog.get_logger()

SWEEP_S = 10.0
KEEP_ANSWERS_DAYS = 30
MAX_UNEXPLAINED = 20
_SHOWN = 2000  # characters kept of a rejected row


def _begin_again(error: BaseException) -> bool:
    """The database is away, or another transaction decided one of our attempts first: next time we see it."""
    return is_unavailable(error) or isinstance(error, asyncpg.UniqueViolationError)


class ImportWorker:
    """Settles spooled imports, several at once. `database` is the worker's. Any number of processes may run one.

    pace: how far imports may run ahead of the issuer; None: as far as they like.
    silent_s: an upload of which nothing was heard for so long has lost its process.
    """

    def __init__(
        self,
        database: Database,
        *,
        keys: Keys,
        pace: Pace | None = None,
        at_once: int = 2,
        poll_s: float = 0.25,
        silent_s: float = 300.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._keys = keys
        self._pace = pace
        self._at_once = at_once
        self._poll_s = poll_s
        self._silent_s = silent_s
        self._clock = clock
        self._troubled: set[str] = set()
        self._unexplained = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop`. Raises Stuck when row after row fails for a reason nobody knows."""
        # Its loops have pulses of their own; what waits for them has none.
        with watchdog.patience(math.inf):
            async with asyncio.TaskGroup() as group:
                group.create_task(_watched("sweeping", self._sweep(stop)))
                for place in range(self._at_once):
                    group.create_task(_watched(f"settling {place + 1}", self._settle(stop)))

    async def _settle(self, stop: asyncio.Event) -> None:
        pause = self._poll_s
        while not stop.is_set():
            try:
                busy = await self.step()
                pause = self._poll_s
            except Exception as error:
                if not _begin_again(error):
                    raise
                log.info("chunk begins again", reason=f"{type(error).__name__}: {error}")
                busy, pause = False, min(pause * 2, 5.0)
            if not busy:
                await sleep(stop, pause)

    async def _sweep(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with self._database.transaction() as tx:
                    for import_id in await import_store.fail_abandoned(tx, silent_s=self._silent_s):
                        log.warning("upload abandoned", import_id=import_id)
                    await import_store.forget_answers(tx, days=KEEP_ANSWERS_DAYS)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                log.warning("sweep waits", reason=f"{type(error).__name__}: {error}")
            await sleep(stop, SWEEP_S)

    async def step(self) -> bool:
        """Settle one chunk. False when none is owed, or when what was settled before has not been worked off."""
        if self._pace is None:
            return await self._next_chunk() is not None
        if not await self._pace.open():
            return False
        passes: int | None = None
        try:
            passes = await self._next_chunk()
        finally:
            self._pace.settled(passes or 0)
        return passes is not None

    async def _next_chunk(self) -> int | None:
        """How many passes were in it; None when no chunk is owed."""
        work: Work | None = None
        try:
            async with self._database.transaction() as tx:
                work = await import_store.next_chunk(tx)  # 4
                if work is None:
                    return None
                reach("chunk.taken")
                with telemetry.span("settle results", parent=work.traceparent):
                    passes = await self._settle_chunk(tx, work)
            reach("chunk.settled")
            return passes
        except Exception as error:
            if work is None or work.import_id in self._troubled or _begin_again(error):
                raise
            # Something in these rows is more than we can take: settle them one by one, so that the others get through.
            log.exception("chunk failed; its rows are taken one by one", import_id=work.import_id, chunk=work.seq)
            self._troubled.add(work.import_id)
        return 0

    async def _settle_chunk(self, tx: Transaction, work: Work) -> int:
        """How many passes were in it."""
        arrivals = await read_chunk(work, self._keys.base_url)
        now = self._clock()
        if work.import_id in self._troubled:
            recorded = [await self._alone(tx, work, arrival, now) for arrival in arrivals]
        else:
            recorded = await take_in(
                tx, work.tenant_id, arrivals, keys=self._keys, received_at=work.created_at, now=now,
                import_id=work.import_id,
            )  # fmt: skip
        reach("chunk.recorded")
        outcomes = Counter(one.outcome for one in recorded)
        if await import_store.chunk_settled(tx, work, outcomes, now=now):  # 5
            log.info("import done", import_id=work.import_id)
            self._troubled.discard(work.import_id)
        reach("chunk.settling")
        for outcome, number in outcomes.items():
            telemetry.count("laurel_results_total", number, outcome=outcome)
        return outcomes["passed"]

    async def _alone(self, tx: Transaction, work: Work, arrival: Arrival, now: datetime) -> store.Recorded:
        async def take(one: Arrival) -> store.Recorded:
            async with transaction_on(tx):
                taken = await take_in(
                    tx, work.tenant_id, [one], keys=self._keys, received_at=work.created_at, now=now,
                    import_id=work.import_id,
                )  # fmt: skip
            return taken[0]

        try:
            taken = await take(arrival)
            self._unexplained = 0
            return taken
        except Exception as error:
            if _begin_again(error):
                raise
            self._unexplained += 1
            log.exception("row failed", import_id=work.import_id, line=arrival.line)
            if self._unexplained > MAX_UNEXPLAINED:
                raise Stuck(
                    f"{self._unexplained} rows in a row failed with {type(error).__name__}; look at the log"
                ) from error
            detail = "we could not take in this row; the fault is ours and is logged"
            seen = arrival.seen
            if arrival.attempt is not None:
                seen = Glimpse(arrival.attempt.learner, arrival.attempt.achievement_id, arrival.attempt.course_run)
            finding = Finding("", "internal_error", detail)
            return await take(replace(arrival, attempt=None, findings=(finding,), seen=seen))


async def _watched(name: str, running: Awaitable[None]) -> None:
    with watchdog.part(name):
        await running


async def read_chunk(work: Work, base_url: str) -> list[Arrival]:
    """The rows of a chunk, read and checked; the loop gets its turn between slices."""
    defaults = Defaults(base_url, work.achievement_id, work.course_run)
    arrivals: list[Arrival] = []
    for place, record in enumerate(work.records, 1):
        if place % SLICE == 0:
            await asyncio.sleep(0)
        arrivals.append(read_record(record, work.form, defaults, work.created_at))
    return arrivals


def read_record(record: Record, form: Form, defaults: Defaults, received_at: datetime) -> Arrival:
    """One record as it arrives at intake."""
    findings: list[Finding]
    seen = Glimpse(course_run=defaults.course_run)
    if record.problem:
        findings = [Finding("", record.problem, PROBLEMS[record.problem])]
    else:
        row = read_json(record.raw) if form.csv is None else read_csv(record.raw, form.csv)
        checked = row if isinstance(row, list) else check(row, defaults, received_at=received_at)
        if not isinstance(checked, list):
            shown = record.raw.decode("utf-8", "replace")
            return Arrival(record.line, checked, shown=shown[:_SHOWN], csv=form.csv is not None)
        findings = checked
        if isinstance(row, list):
            row = texts_of_json(record.raw) if form.csv is None else texts_of_csv(record.raw, form.csv)
        seen = glimpse(row, defaults)
    shown = record.raw.decode("utf-8", "replace").replace("\x00", "\ufffd")[:_SHOWN]
    return Arrival(record.line, None, tuple(findings), shown, seen, csv=form.csv is not None)
