"""One fault run: load and nemesis together, then everything heals, drains and is counted."""

from __future__ import annotations

import asyncio
import collections
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from laurel.bus import BusError, connect
from laurel.migrate import SERVICES
from laurel.topics import TOPICS
from tests.faults.account import Account
from tests.faults.ledger import Ledger
from tests.faults.load import UNREACHABLE, Known, Load
from tests.faults.nemesis import Nemesis, Round, Stage, plan
from tests.faults.report import WITHIN_S, ended_while_healthy, failures
from tests.faults.rig import Rig, rig
from tests.faults.tampering import GROUPS_OF
from tests.faults.topics import read_topics

_SHORT_PER_S = 200.0  # results; the faults are what takes the time of a short run


@dataclass(frozen=True)
class Wanted:
    """minutes 0: the short run, each kind of fault once. Else it goes on until all three are reached, and ends at
    twice the minutes in any case."""

    seed: int
    bus: str
    minutes: float = 0.0
    results: int = 0
    faults: int = 0
    only: tuple[str, ...] = ()  # kinds of faults; empty: all

    @property
    def short(self) -> bool:
        return not self.minutes

    @property
    def rows(self) -> int:
        """Of an import. Small ones in the short run, so that every course gets some."""
        return 300 if self.short else 2000


async def run(
    wanted: Wanted,
    *,
    say: Callable[[str], None] = print,
    afterwards: Callable[[Rig, Load], Awaitable[None]] | None = None,
) -> dict[str, Any]:
    """The report of this run. afterwards: called when all is counted, before the databases are gone."""
    say(f"faults: seed {wanted.seed} on {wanted.bus}")
    began = time.monotonic()
    disk = (3 if wanted.short else 24) << 30
    async with rig(wanted.bus, disk_bytes=disk, say=say) as made:
        load = Load(made, Known(wanted.seed, wanted.rows))
        await load.organise()
        supervising = asyncio.create_task(made.supervisor.run())
        try:
            nemesis = Nemesis(made, load, say=say)
            drain_s = await _under_fire(wanted, made, load, nemesis, say)
            drained_at = time.monotonic() - began
        finally:
            supervising.cancel()
            with suppress(asyncio.CancelledError):
                await supervising
        codes = await asyncio.to_thread(made.cluster.stop)
        say(f"faults: drained in {drain_s:.0f} s; counting" if drain_s is not None else "faults: NOT drained; counting")
        counting = time.monotonic()
        account = await count(made, load)
        report = _report(wanted, made, load, nemesis.rounds, account) | {
            "minutes": round(drained_at / 60, 1),
            "drain_s": drain_s,
            "count_s": round(time.monotonic() - counting, 1),
            "bad_signatures": await _bad_signatures(made),
            "no_orderly_stop": {service: code for service, code in codes.items() if code},
        }
        if afterwards is not None:
            await afterwards(made, load)
        if failures(report):
            say(f"faults: what the processes said: {await asyncio.to_thread(_keep_logs, made.folder, wanted)}")
        return report


def _keep_logs(folder: Path, wanted: Wanted) -> Path:
    """Copy the logs out of the run's folder, which goes; where they are then."""
    kept = Path("build/faults") / f"logs-{wanted.bus}-{wanted.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in [*folder.glob("*.log"), *folder.glob("kafka/*.log")]:
        shutil.copy(log, kept / log.name)
    return kept


async def _under_fire(
    wanted: Wanted, made: Rig, load: Load, nemesis: Nemesis, say: Callable[[str], None]
) -> float | None:
    """Seconds that the rest took once the last fault had ended; None: it did not end."""
    load.pace_per_s = _SHORT_PER_S if wanted.short else wanted.results / (wanted.minutes * 60)
    loading = asyncio.create_task(load.run())
    # A first pass before the first fault: everything is up, and the templates are compiled.
    if "delivered" not in await load.probe(120):
        raise TimeoutError("no pass went through before the first fault")
    stage = Stage(wanted.bus, tuple(sorted(made.links)), tuple(sorted(made.disks)))
    started = time.monotonic()
    done = 0
    for faults in plan(wanted.seed, stage, short=wanted.short, only=wanted.only):
        if loading.done():
            loading.result()
        over = time.monotonic() - started
        reached = done >= wanted.faults and load.results >= wanted.results and over >= wanted.minutes * 60
        if not wanted.short and (reached or over > 2 * wanted.minutes * 60):
            break
        done += len((await nemesis.strike(faults)).faults)
    say(f"faults: {done} faults over {load.results} results in {time.monotonic() - started:.0f} s; draining")
    load.stop()
    for link in made.links.values():
        link.heal()
    await loading
    return await _drain(made, 240 if wanted.short else 1200)


_LEFT = (
    *(f"SELECT count(*) FROM {service}.outbox" for service in SERVICES),
    "SELECT count(*) FROM assessment.imports WHERE status IN ('receiving', 'processing')",
    "SELECT count(*) FROM issuer.intents",
    "SELECT count(*) FROM issuer.parked",
    "SELECT count(*) FROM issuer.status_list_dirt",
    "SELECT count(*) FROM notifier.deliveries WHERE state = 'pending'",
    "SELECT count(*) FROM notifier.emails WHERE state IN ('pending', 'sending')",
)


async def _drain(made: Rig, limit_s: float) -> float | None:
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        with suppress(*UNREACHABLE, BusError):
            if not await _left(made):
                return round(time.monotonic() - began, 1)
        await asyncio.sleep(0.5)
    return None


async def _left(made: Rig) -> int:
    """What is on its way, more or less: rows that wait, and records that a group has not committed."""
    rows = await made.fetch("SELECT " + " + ".join(f"({one})" for one in _LEFT))
    bus = connect(made.bus_url, request_timeout=15)
    try:
        lags = [await bus.lag(group, [topic.name]) for topic in TOPICS for group in GROUPS_OF.get(topic.name, ())]
    finally:
        await bus.close()
    return int(rows[0][0]) + sum(sum(lag.values()) for lag in lags)


async def count(made: Rig, load: Load, *, database: str = "laurel") -> Account:
    """The ledger of what stands there now."""
    await made.partner("POST", "/flush")
    dsn = made.server.dsn(database)
    seen = await read_topics(made.bus, dsn=dsn, bus_url=made.bus_url)
    ledger = Ledger(dict.fromkeys(SERVICES, dsn), seen, made.book, made.mailbox.recipients, load.known)
    return await ledger.check()


async def _bad_signatures(made: Rig) -> int:
    return int(json.loads((await made.partner("GET", "/stats"))[1])["bad"])


def _report(wanted: Wanted, made: Rig, load: Load, rounds: list[Round], account: Account) -> dict[str, Any]:
    kinds: collections.Counter[str] = collections.Counter(fault.kind for one in rounds for fault in one.faults)
    slowest: dict[str, float] = {}
    for one in rounds:
        for fault in one.faults:
            took = one.recovery_s if one.recovery_s is not None else float("inf")
            slowest[fault.kind] = max(slowest.get(fault.kind, 0.0), took)
    times = sorted(one.recovery_s for one in rounds if one.recovery_s is not None)
    return {
        "seed": wanted.seed,
        "bus": wanted.bus,
        "faults": dict(sorted(kinds.items())),
        "faults_total": sum(kinds.values()),
        "rounds": len(rounds),
        "left_out": made.skipped,
        **asdict(account),
        "exact": account.exact,
        "max_recovery_s": times[-1] if times else None,
        "median_recovery_s": times[len(times) // 2] if times else None,
        "recoveries_over_30_s": sum(took > WITHIN_S for took in times),
        "not_recovered": sum(one.recovery_s is None for one in rounds),
        "max_recovery_s_by_kind": {
            kind: took if took != float("inf") else None for kind, took in sorted(slowest.items())
        },
        "slow_rounds": [
            {
                "recovery_s": one.recovery_s,
                "probe": one.probe,
                "retried": one.retried,
                "faults": [[fault.kind, fault.arguments] for fault in one.faults],
            }
            for one in rounds
            if one.recovery_s is None or one.recovery_s > WITHIN_S
        ],
        "retried": dict(sorted(load.retried.items())),
        "restarts": dict(sorted(made.supervisor.restarts.items())),
        "ended_by_themselves": [one.words for one in made.supervisor.gave_up],
        "ended_while_healthy": [one.words for one in ended_while_healthy(made.supervisor.gave_up, rounds)],
    }
