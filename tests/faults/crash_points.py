"""Let processes die at every crash point, again and again, and see that nothing is lost and nothing doubled.

    python -m tests.faults.crash_points --times 20 [--seed 1] [--bus kafka] [--only signer] [--first 151] [--json]

The four services run as processes of their own on one PostgreSQL. A trial sets one trap in each of them, gives a cohort
work until all have died (cohort.py), lets what was started again finish, and compares the databases, the partner's
webhooks and the mail server's mails. Which hit of a point is the deadly one, the seed decides.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from laurel.crash_points import POINTS
from laurel.migrate import SERVICES
from tests.conftest import private_kafka, private_postgres
from tests.faults.cohort import Cohort
from tests.faults.letters import TABLES
from tests.faults.mortal import GROUPS, Mortals, mortals

MOST_WAVES = 6
_JOINS_AGAIN_S = 10.0
_TAKEN_BACK_S = 2.0  # members look at their group twice a second
JOINED_WITHIN_S = 60.0  # a further member: its process has to start first, while waves go by in a second or two

Need = Literal["", "signers", "restart", "member", "bulk", "busy", "letters", "once"]

# Who comes to the points that belong to one service, and what it takes besides a wave.
_OWNERS = {
    "result": "assessment", "erasure": "assessment", "upload": "assessment", "chunk": "assessment",
    "issuance": "issuer", "signer": "issuer",
    "list": "issuer", "parked": "issuer", "status": "issuer", "access": "issuer", "notify": "notifier",
    "delivery": "notifier", "mail": "notifier", "index": "verifier",
}  # fmt: skip
_NEEDS: dict[str, Need] = {
    "consumer.drained": "member", "bus.postgres.released": "member", "bus.kafka.released": "member",
    "bus.postgres.joined": "restart", "bus.postgres.taken": "restart", "bus.kafka.joined": "restart",
    "delivery.leased": "busy", "upload.spooled": "bulk",
    "signer.linted": "signers", "signer.signed": "signers", "signer.checked": "signers",
    "redrive.asked": "letters", "redrive.read": "letters", "redrive.begun": "letters", "redrive.marked": "letters",
    "redrive.settled": "letters",
    "access.made": "once", "access.rotated": "once", "access.revoked": "once", "access.token_key_made": "once",
}  # fmt: skip
_RELAYING = ("assessment", "issuer")
_REJECTING = ("notifier.deliveries", "verifier.index")


@dataclass(frozen=True)
class Stop:
    """One point, as one process comes to it."""

    service: str
    point: str
    where: str = ""

    @property
    def name(self) -> str:
        return f"{self.point}@{self.where}" if self.where else self.point

    @property
    def need(self) -> Need:
        return _NEEDS.get(self.point, "")


def stops(bus: str, turn: int) -> list[Stop]:
    """Every point of a walk, for each consumer group and relay that comes to it. turn: who takes the transport's."""
    found = []
    for number, declared in enumerate(POINTS):
        point, kind = declared.rstrip("@"), declared.partition(".")[0]
        if kind == "consumer":
            groups = _REJECTING if point == "consumer.rejected" else GROUPS
            found += [Stop(group.partition(".")[0], point, group) for group in groups]
        elif kind == "redrive":
            asked = point == "redrive.asked"  # by whoever calls the service; the rest is the consumer's own
            owners = {group: group.partition(".")[0] for group in TABLES}
            found += [Stop(service, point, service if asked else group) for group, service in owners.items()]
        elif kind == "outbox":
            found += [Stop(service, point, service) for service in _RELAYING]
        elif kind == "bus":
            if point.startswith(f"bus.{bus}."):
                able = _RELAYING if point.endswith((".sent", ".acknowledged")) else SERVICES
                found.append(Stop(able[(number + turn) % len(able)], point))
        else:
            found.append(Stop(_OWNERS[kind], point))
    return found


def trials(wanted: Sequence[Stop]) -> Iterator[list[Stop]]:
    """The stops in trials: one of each service at a time; those that want something special stand together."""
    queues = {
        service: collections.deque(sorted((one for one in wanted if one.service == service), key=_order))
        for service in SERVICES
    }
    while any(queues.values()):
        yield [queue.popleft() for queue in queues.values() if queue]


def _order(one: Stop) -> tuple[bool, str, str]:
    """What takes longest first, so that all services come to it together."""
    return one.need != "letters", one.need, one.name


@dataclass
class Tally:
    """What a walk has seen."""

    stops: collections.Counter[str] = field(default_factory=collections.Counter)
    counts: collections.Counter[str] = field(default_factory=collections.Counter)

    def report(self) -> dict[str, Any]:
        return {"deaths": dict(sorted(self.stops.items())), **self.counts}


async def trial(laurel: Mortals, number: int, stops: Sequence[Stop], dice: random.Random, tally: Tally) -> None:
    """One cohort, in which each of these processes dies once. Raises AssertionError for whatever is not kept."""
    needs = {one.need for one in stops}
    signers = int("signers" in needs)
    if laurel.signers != signers:
        laurel.signers = signers
        await laurel.again("issuer")
        await laurel.ready("issuer")
    cohort = Cohort(laurel, number, bulk="bulk" in needs, busy="busy" in needs, letters="letters" in needs)
    await cohort.found()
    for stop in stops:
        most = {"": 3, "signers": 2, "restart": 2}.get(stop.need, 1)
        laurel.set_trap(stop.service, f"{stop.name}:{dice.randint(1, most)}")
        if stop.need == "restart":
            await laurel.again(stop.service)
        elif stop.need == "member":
            laurel.join(stop.service)
    await cohort.wave()
    joining = {one.service for one in stops if one.need == "member"}
    joined_by = time.monotonic() + JOINED_WITHIN_S
    again_at = time.monotonic() + _JOINS_AGAIN_S
    while untripped := laurel.untripped():
        if (late := sorted(joining.intersection(untripped))) and time.monotonic() > again_at:
            # The member of the trial before has only just left: what came before its partitions were taken back took
            # them over, and nothing away from the process that is to die. So it leaves, and comes once more.
            await laurel.part()
            await asyncio.sleep(_TAKEN_BACK_S)
            for service in late:
                laurel.join(service)
            again_at = time.monotonic() + _JOINS_AGAIN_S
        if not await cohort.remaining():
            if cohort.waves < MOST_WAVES:
                await cohort.wave()
            elif not joining.issuperset(untripped) or time.monotonic() > joined_by:
                waiting = {service: laurel.trap(service).read_text() for service in untripped}
                raise AssertionError(f"never reached in {MOST_WAVES} waves: {waiting}")
        await asyncio.sleep(0.05)
    await laurel.part()
    await cohort.settled()
    tally.counts += await cohort.check()
    tally.counts["waves"] += cohort.waves
    tally.stops.update(one.name for one in stops)


async def walk(
    laurel: Mortals, *, bus: str, times: int, seed: int, only: str = "", first: int = 1, loud: bool = False
) -> Tally:
    """All points, `times` times; from trial `first` on, which is the same as in a walk that began with 1."""
    tally, numbers = Tally(), itertools.count(1)
    for turn in range(times):
        wanted = [one for one in stops(bus, turn) if only in one.name]
        for together in trials(wanted):
            number = next(numbers)
            if number < first:
                continue
            started, names = time.monotonic(), ", ".join(one.name for one in together)
            try:
                await trial(laurel, number, together, random.Random(f"{seed} {number}"), tally)
            except (AssertionError, TimeoutError) as error:
                raise AssertionError(f"trial {number} of seed {seed} ({names}): {error}") from error
            if loud:
                print(f"{turn + 1}/{times} {number}: {names}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    tally.counts["processes_died"] = sum(laurel.deaths.values())
    return tally


async def walk_alone(bus: str, times: int, seed: int, only: str, first: int) -> Tally:
    """A walk with a database (and a broker) of its own."""
    with ExitStack() as stack:
        server = stack.enter_context(private_postgres())
        server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET max_connections = 200;")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="laurel-crash-", ignore_cleanup_errors=True))
        bus_url = stack.enter_context(private_kafka()).url if bus == "kafka" else server.get_uri()
        async with mortals(postgres_dsn=server.get_uri(), bus_url=bus_url, folder=Path(folder)) as laurel:
            return await walk(laurel, bus=bus, times=times, seed=seed, only=only, first=first, loud=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.crash_points", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bus", choices=("postgres", "kafka"), default="postgres")
    parser.add_argument("--only", default="", help="points whose name has this in it")
    parser.add_argument("--first", type=int, default=1, help="the trial to begin with, after a walk that was stopped")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    started = time.monotonic()
    tally = asyncio.run(walk_alone(given.bus, given.times, given.seed, given.only, given.first))
    report = {**tally.report(), "seconds": round(time.monotonic() - started)}
    print(json.dumps(report) if given.json else json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
