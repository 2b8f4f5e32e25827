"""The nemesis: a seeded plan of faults, in rounds, and the measuring of how long recovery takes.

The plan depends on the seed, the bus and what can be done here, and on nothing that happens. A round is one to three
faults that overlap. When the last of them has ended (what was killed is dead and may start again, the link passes
bytes), a new pass is sent in; recovery is the time until its credential can be read in public and is with its partner.
What the restart takes, a database's own recovery included, is part of it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from laurel.bus import connect
from laurel.migrate import SERVICES
from laurel.topics import ASSESSMENT, CREDENTIAL
from tests.benchmarks import processes
from tests.faults import tampering
from tests.faults.load import UNREACHABLE, Load
from tests.faults.rig import Rig, broker_lives

RECOVERY_LIMIT_S = 120.0
GROUPS = {"issuer": "issuer.issuance", "verifier": "verifier.index", "notifier": "notifier.deliveries"}


class Planned(NamedTuple):
    """One fault: when it begins in its round, what it is, and to whom."""

    at_s: float
    kind: str
    arguments: dict[str, Any]


Draw = Callable[[random.Random, "Stage"], dict[str, Any]]
Act = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """weight: how often, against the others. draw: the arguments of one. act: does it, until it has ended."""

    weight: int
    draw: Draw
    act: Act
    needs: str = ""  # a bus, or "disk"


@dataclass(frozen=True)
class Stage:
    """What a plan must know."""

    bus: str
    links: tuple[str, ...]
    disks: tuple[str, ...]


class Span(NamedTuple):
    """When a fault was under way, by time.monotonic()."""

    fault: Planned
    began: float
    ended: float


@dataclass
class Round:
    faults: list[Planned]
    spans: list[Span] = field(default_factory=list)
    over: float = 0.0  # when it had recovered, or was given up
    probe: dict[str, float] = field(default_factory=dict)
    retried: dict[str, int] = field(default_factory=dict)  # meanwhile, by the whole load
    recovery_s: float | None = None
    notes: list[str] = field(default_factory=list)


# --- the kinds ------------------------------------------------------------------------------------------------------


def _service(rng: random.Random, _: Stage) -> dict[str, Any]:
    return {"service": rng.choice(SERVICES)}


def _link(rng: random.Random, stage: Stage) -> dict[str, Any]:
    return {"link": rng.choice(stage.links), "seconds": round(rng.uniform(0.5, 4), 2)}


def _nothing(_: random.Random, __: Stage) -> dict[str, Any]:
    return {}


async def _kill(rig: Rig, *, service: str) -> None:
    _signal(rig, service, signal.SIGKILL)


def _signal(rig: Rig, service: str, number: signal.Signals) -> None:
    process = rig.cluster.processes[service]
    if process.poll() is None:
        if number in (signal.SIGKILL, signal.SIGTERM):
            rig.supervisor.killed(process.pid)
        process.send_signal(number)


async def _kill_child(rig: Rig, *, pick: float) -> None:
    """A process below a service: one that signs, or that reads strangers' documents."""
    children = [
        pid for service in SERVICES for pid in processes.tree(rig.cluster.processes[service].pid)[1:]
    ]  # fmt: skip
    if children:
        with suppress(ProcessLookupError):
            os.kill(sorted(children)[int(pick * len(children))], signal.SIGKILL)


async def _restart(rig: Rig, *, service: str) -> None:
    _signal(rig, service, signal.SIGTERM)
    process = rig.cluster.processes[service]
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while process.poll() is None:
                await asyncio.sleep(0.05)


def _pause_service(rng: random.Random, _: Stage) -> dict[str, Any]:
    seconds = rng.uniform(15, 30) if rng.random() < 0.1 else rng.uniform(0.2, 5)
    return {"service": rng.choice(SERVICES), "seconds": round(seconds, 2)}


async def _pause(rig: Rig, *, service: str, seconds: float) -> None:
    await _frozen(processes.tree(rig.cluster.processes[service].pid)[:1], seconds)


async def _frozen(pids: list[int], seconds: float) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def _pause_database(rig: Rig, *, seconds: float) -> None:
    await _frozen(processes.tree(rig.server.pid), seconds)


async def _crash_database(rig: Rig, *, how: str) -> None:
    if not rig.server.dead:
        await asyncio.to_thread(rig.server.crash, signal.SIGQUIT if how == "immediate" else signal.SIGKILL)


async def _kill_backend(rig: Rig, *, pick: float) -> None:
    """PostgreSQL then ends all its sessions and recovers."""
    backends = [pid for pid in processes.tree(rig.server.pid)[1:] if b"laurel" in processes.command(pid).encode()]
    if backends:
        with suppress(ProcessLookupError):
            os.kill(sorted(backends)[int(pick * len(backends))], signal.SIGKILL)


async def _pause_broker(rig: Rig, *, seconds: float) -> None:
    assert rig.broker is not None
    if broker_lives(rig.broker):
        await _frozen([int((rig.broker.folder / "kafka.pid").read_text())], seconds)


async def _restart_broker(rig: Rig, *, how: str) -> None:
    assert rig.broker is not None
    async with rig.supervisor.hold("kafka"):
        await asyncio.to_thread(rig.broker.run, how)


async def _cut(rig: Rig, *, link: str, seconds: float) -> None:
    rig.links[link].cut()


async def _refuse(rig: Rig, *, link: str, seconds: float) -> None:
    rig.links[link].refuse(True)
    try:
        await asyncio.sleep(seconds)
    finally:
        rig.links[link].refuse(False)


async def _delay(rig: Rig, *, link: str, seconds: float, by_s: float) -> None:
    rig.links[link].delay(by_s)
    try:
        await asyncio.sleep(seconds)
    finally:
        rig.links[link].delay(0.0)


async def _freeze(rig: Rig, *, link: str, seconds: float) -> None:
    rig.links[link].freeze(True)
    try:
        await asyncio.sleep(seconds)
    finally:
        rig.links[link].freeze(False)


async def _half_open(rig: Rig, *, link: str, side: str, seconds: float) -> None:
    left = rig.links[link].half_open(side)
    await asyncio.sleep(seconds)
    rig.links[link].reset(left)  # as the kernel does when keepalive goes unanswered


async def _truncate(rig: Rig, *, link: str, seconds: float, seed: int) -> None:
    rig.links[link].truncate(random.Random(seed))
    try:
        await asyncio.sleep(seconds)
    finally:
        rig.links[link].truncate_no_more()


async def _fill_disk(rig: Rig, *, disk: str, seconds: float) -> None:
    await asyncio.to_thread(rig.disks[disk].fill)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(rig.disks[disk].clear)


async def _step_clock(rig: Rig, *, service: str, by_s: float, seconds: float) -> None:
    file = rig.clock(service)
    file.write_text(str(by_s))
    try:
        await asyncio.sleep(seconds)
    finally:
        file.write_text("0")
    await asyncio.sleep(0.3)  # the process looks ten times a second


async def _rewind(rig: Rig, *, service: str, records: int) -> None:
    """Stop the service, move its group's offsets back, start it: the bus delivers again what was done."""
    async with rig.supervisor.hold(service):
        await _restart(rig, service=service)
        process = rig.cluster.processes[service]
        if process.poll() is None:
            process.kill()
            process.wait(10)
        await tampering.rewind(rig, GROUPS[service], records)


async def _republish(rig: Rig, *, topic: str, records: int, shuffled: bool, seed: int) -> None:
    bus = connect(rig.bus_url, request_timeout=15)
    try:
        await tampering.republish(rig, bus, topic, records, random.Random(seed) if shuffled else None)
    finally:
        await bus.close()


async def _second(rig: Rig, *, service: str, role: str, seconds: float, end: str) -> None:
    """A second relay (or worker) beside the first one, which loses its connection while they run."""
    process = rig.spawn_second(service, role)
    try:
        await asyncio.sleep(seconds)
        rig.links[f"postgres-{service}"].cut()
        await asyncio.sleep(1.0)
    finally:
        process.send_signal(signal.SIGKILL if end == "kill" else signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                while process.poll() is None:
                    await asyncio.sleep(0.05)
        if process.poll() is None:
            process.kill()
            process.wait(10)


async def _partner_trouble(rig: Rig, *, how: str, seconds: float) -> None:
    await rig.partner("PUT", "/trouble", how)
    try:
        await asyncio.sleep(seconds)
    finally:
        await rig.partner("PUT", "/trouble", "")


def _seconds(least: float, most: float) -> Draw:
    return lambda rng, _: {"seconds": round(rng.uniform(least, most), 2)}


def _pick(rng: random.Random, _: Stage) -> dict[str, Any]:
    return {"pick": rng.random()}


def _one_of(name: str, *values: Any) -> Draw:
    return lambda rng, _: {name: rng.choice(values)}


def _together(*draws: Draw) -> Draw:
    return lambda rng, stage: {key: value for draw in draws for key, value in draw(rng, stage).items()}


def _seed(rng: random.Random, _: Stage) -> dict[str, Any]:
    return {"seed": rng.randrange(1 << 32)}


def _clock(rng: random.Random, _: Stage) -> dict[str, Any]:
    # A minute, an hour, or a day and more, to either side.
    by = rng.choice((20, 90, 4000, 100_000, 2_000_000)) * rng.uniform(0.5, 1.5) * rng.choice((-1, 1))
    return {"service": rng.choice(SERVICES), "by_s": round(by, 1), "seconds": round(rng.uniform(2, 6), 2)}


def _disk(rng: random.Random, stage: Stage) -> dict[str, Any]:
    return {"disk": rng.choice(stage.disks), "seconds": round(rng.uniform(1, 6), 2)}


KINDS: dict[str, Kind] = {
    "kill_9": Kind(16, _service, _kill),
    "kill_9_child": Kind(4, _pick, _kill_child),
    "restart": Kind(4, _service, _restart),
    "pause": Kind(9, _pause_service, _pause),
    "database_pause": Kind(3, _seconds(0.5, 6), _pause_database),
    "database_crash": Kind(4, _one_of("how", "immediate", "immediate", "kill_9"), _crash_database),
    "database_backend_kill_9": Kind(2, _pick, _kill_backend),
    "broker_pause": Kind(2, _seconds(0.5, 6), _pause_broker, "kafka"),
    "broker_kill_9": Kind(3, lambda *_: {"how": "kill"}, _restart_broker, "kafka"),
    "broker_restart": Kind(2, lambda *_: {"how": "stop"}, _restart_broker, "kafka"),
    "link_cut": Kind(12, _link, _cut),
    "link_refused": Kind(5, _link, _refuse),
    "link_delayed": Kind(6, _together(_link, _one_of("by_s", 0.02, 0.1, 0.4)), _delay),
    "link_frozen": Kind(5, _link, _freeze),
    "link_half_open": Kind(8, _together(_link, _one_of("side", "client", "server"), _seconds(2, 12)), _half_open),
    "link_truncated": Kind(9, _together(_link, _seed), _truncate),
    "disk_full": Kind(3, _disk, _fill_disk, "disk"),
    "clock_step": Kind(5, _clock, _step_clock),
    "redelivery": Kind(
        3,
        _together(_one_of("service", *GROUPS), lambda rng, _: {"records": rng.randrange(10, 2000)}),
        _rewind,
    ),
    "republication": Kind(
        5,
        _together(
            _one_of("topic", ASSESSMENT.name, CREDENTIAL.name),
            _one_of("shuffled", True, False),
            lambda rng, _: {"records": rng.randrange(5, 200)},
            _seed,
        ),
        _republish,
    ),
    "second_relay": Kind(
        3,
        _together(
            _one_of("service", "assessment", "issuer"),
            lambda *_: {"role": "relay"},
            _seconds(2, 4),
            _one_of("end", "kill", "stop"),
        ),
        _second,
    ),
    "second_worker": Kind(
        2,
        _together(
            _one_of("service", *GROUPS), lambda *_: {"role": "worker"}, _seconds(2, 5), _one_of("end", "kill", "stop")
        ),
        _second,
    ),
    "partner_trouble": Kind(
        4, _together(_one_of("how", "500", "429", "hang", "forget", "slow"), _seconds(1, 4)), _partner_trouble
    ),
}


def may_end(fault: Planned, service: str) -> bool:
    """Whether the fault takes something from the service without which its watchdogs rightly end it."""
    if fault.kind.startswith(("database_", "broker_", "disk_")):
        return True
    if link := str(fault.arguments.get("link", "")):
        return link == "kafka" or link in (f"postgres-{service}", f"bus-{service}")
    return fault.kind in ("pause", "second_relay", "second_worker") and bool(fault.arguments["service"] == service)


# --- the plan -------------------------------------------------------------------------------------------------------


def possible(stage: Stage, only: Collection[str] = ()) -> dict[str, Kind]:
    """The kinds that can be done here; those of `only`, unless it is empty."""
    able = {"", stage.bus, *(["disk"] if stage.disks else [])}
    return {name: kind for name, kind in KINDS.items() if kind.needs in able and (not only or name in only)}


def plan(seed: int, stage: Stage, *, short: bool, only: Collection[str] = ()) -> Iterator[list[Planned]]:
    """Rounds without end; the first ones have each kind once. short: pauses of at most a few seconds, and no more
    rounds than those."""
    rng = random.Random(f"nemesis:{seed}")
    kinds = possible(stage, only)
    first = sorted(kinds)
    rng.shuffle(first)
    while first or not short:
        number = rng.choices((1, 2, 3), (4, 4, 2))[0] if not short else 3
        faults = []
        for place in range(number):
            if first:
                kind = first.pop()
            elif short:
                break
            else:
                kind = rng.choices(list(kinds), [one.weight for one in kinds.values()])[0]
            arguments = kinds[kind].draw(rng, stage)
            if short and "seconds" in arguments:
                arguments["seconds"] = min(arguments["seconds"], 2.5)
            faults.append(Planned(round(rng.uniform(0, 1.5), 2) if place else 0.0, kind, arguments))
        yield faults


class Nemesis:
    """Takes the plan's rounds, one after the other."""

    def __init__(self, rig: Rig, load: Load, *, say: Callable[[str], None]) -> None:
        self._rig = rig
        self._load = load
        self._say = say
        self.rounds: list[Round] = []

    async def strike(self, faults: list[Planned]) -> Round:
        """One round, until it has recovered or RECOVERY_LIMIT_S is over."""
        done = Round(faults)
        self.rounds.append(done)
        await asyncio.gather(*(self._one(fault, done) for fault in faults))
        before = self._load.retried.copy()
        done.probe = {stage: round(took, 2) for stage, took in (await self._load.probe(RECOVERY_LIMIT_S)).items()}
        done.over = time.monotonic()
        if len(done.probe) == 3:
            done.recovery_s = max(done.probe.values())
        done.retried = dict(self._load.retried - before)
        told = "; ".join(f"{one.kind} {_told(one.arguments)}" for one in faults)
        stages = ", ".join(f"{stage} {took:.1f} s" for stage, took in done.probe.items())
        recovered = "no recovery" if done.recovery_s is None else f"recovered in {done.recovery_s:.1f} s ({stages})"
        self._say(f"{len(self.rounds):4d} {told}: {recovered}" + "".join(f" ({note})" for note in done.notes))
        return done

    async def _one(self, fault: Planned, done: Round) -> None:
        await asyncio.sleep(fault.at_s)
        began = time.monotonic()
        try:
            await KINDS[fault.kind].act(self._rig, **fault.arguments)
        except (*UNREACHABLE, tampering.Impossible) as error:
            # Another fault of the round was in its way; it is not counted.
            done.notes.append(f"{fault.kind} not done: {type(error).__name__}: {error}")
            done.faults = [one for one in done.faults if one is not fault]
        finally:
            done.spans.append(Span(fault, began, time.monotonic()))


def _told(arguments: dict[str, Any]) -> str:
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in arguments.values())
