"""Hours at a steady load: does anything grow in a process that lives long? `make soak` (MINUTES=120 BUS=kafka).

    python -m tests.benchmarks.soak [--bus kafka|postgres] [--minutes 120] [--per-s 500] [--out build/soak]

Every service is a process of its own, as in `tests.benchmarks.pipeline`. Each second an import of --per-s passes comes
in, each is delivered to a partner, and beside it one of each of `_Guest`'s visits: a single pass that is read, shown,
verified and at last revoked, and requests that are refused. Memory (VmRSS, and of it RssAnon, which the system does not
take back for others), open files and threads of each process are read from /proc every fifteen seconds.

Exit status 1: a process has grown (`flat`), has died, has answered with a 5xx, or something is unaccounted for at the
end. Writes report.json and report.md. A million passes take about 9 GiB of disk; the run ends early while
`_ROOM_BYTES` are left, and says so.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import collections
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from laurel.migrate import SERVICES
from tests.benchmarks import pipeline, processes, report
from tests.benchmarks.rig import Rig, running, upload
from tests.conftest import missing_for_kafka

SAMPLE_S = 15.0
_ROOM_BYTES = 6 << 30
_GROWTH_MB = 8.0
_GROWTH_SHARE = 0.05
_GROWTH_FILES = 4
_UPLOADS = 2
_GUESTS = 150
_CONNECTIONS = 16
_READ_AFTER_S = 20  # a single pass is read that long after it was accepted, whatever waits before it
_REVOKE_AFTER_S = 60


# --- what is watched ------------------------------------------------------------------------------------------------


@dataclass
class Life:
    """One process: what it held at each sample. Lists run in parallel; seconds count from the start of the load."""

    name: str
    pid: int
    seconds: list[float] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    own_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def growth(self, until_s: float) -> dict[str, float]:
        """The last sixth of its samples under load against the second: by then caches are full and pools are open."""
        count = bisect.bisect(self.seconds, until_s)
        sixth = max(1, count // 6)
        early, late = slice(sixth, 2 * sixth), slice(count - sixth, count)
        return {
            "rss_early_mb": round(statistics.median(self.rss_mb[early]), 1),
            "rss_late_mb": round(statistics.median(self.rss_mb[late]), 1),
            "rss_max_mb": round(max(self.rss_mb), 1),
            "own_early_mb": round(statistics.median(self.own_mb[early]), 1),
            "own_late_mb": round(statistics.median(self.own_mb[late]), 1),
            "files_early": max(self.files[early]),
            "files_late": max(self.files[late]),
            "threads_early": max(self.threads[early]),
            "threads_late": max(self.threads[late]),
        }


def flat(growth: dict[str, float]) -> bool:
    """No more than a twentieth or 8 MiB of memory more, whichever is more, four files and two threads.

    Of all its memory and of its own: what is left of a library that the system has taken back would hide a growth.

    >>> steady = {"files_early": 40, "files_late": 41, "threads_early": 3, "threads_late": 3}
    >>> flat(steady | {"rss_early_mb": 100, "rss_late_mb": 110, "own_early_mb": 50, "own_late_mb": 55})
    False
    >>> flat(steady | {"rss_early_mb": 100, "rss_late_mb": 100, "own_early_mb": 50, "own_late_mb": 60})
    False
    """
    allowed = max(_GROWTH_MB, growth["rss_early_mb"] * _GROWTH_SHARE)
    return (
        max(growth[f"{of}_late_mb"] - growth[f"{of}_early_mb"] for of in ("rss", "own")) <= allowed
        and growth["files_late"] - growth["files_early"] <= _GROWTH_FILES
        and growth["threads_late"] - growth["threads_early"] <= 2
    )


class Lives:
    """All processes of the services, by pid."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._began = time.monotonic()
        self.found: dict[int, Life] = {}

    def sample(self) -> None:
        for service in SERVICES:
            for pid in (pid for root in self._rig.watched[service] for pid in processes.tree(root)):
                if held := processes.holds(pid):
                    life = self.found.setdefault(pid, Life(self._name(service, pid), pid))
                    life.seconds.append(round(time.monotonic() - self._began, 1))
                    life.rss_mb.append(round(held.rss_mb, 1))
                    life.own_mb.append(round(held.own_mb, 1))
                    life.files.append(held.files)
                    life.threads.append(held.threads)

    @staticmethod
    def _name(service: str, pid: int) -> str:
        said = processes.command(pid)
        helper = next((word for word in ("resource_tracker", "multiprocessing") if word in said), None)
        return f"{service} {helper}" if helper else service


# --- what goes in ---------------------------------------------------------------------------------------------------


@dataclass
class _Load:
    """Counts of what was sent and how it was answered."""

    rig: Rig
    per_s: int
    sent: int = 0
    late_s: float = 0.0
    guests_left_out: int = 0  # for there were as many as may be
    answers: collections.Counter[str] = field(default_factory=collections.Counter)

    async def imports(self, seconds: float) -> None:
        """An import each second; at most two at once: who cannot keep up is late and says so, and nothing piles up."""
        began, free, number = time.monotonic(), asyncio.Semaphore(_UPLOADS), 0

        async def one(number: int) -> None:
            async with free:
                await upload(self.rig.cluster, 0, self.per_s, f"k{number}-")
                self.sent += self.per_s

        async with asyncio.TaskGroup() as group:
            while time.monotonic() - began < seconds:
                async with free:  # waits while two are on their way
                    pass
                group.create_task(one(number))
                number += 1
                ahead = began + number - time.monotonic()
                self.late_s = max(self.late_s, -ahead)
                await asyncio.sleep(max(0.0, ahead))

    async def guests(self, seconds: float) -> None:
        """A guest each second, while fewer than `_GUESTS` are there: they must not become a load of their own."""
        began, number, there = time.monotonic(), 0, set[asyncio.Task[None]]()
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        async with (
            httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            while time.monotonic() - began < seconds:
                number += 1
                if len(there) < _GUESTS:
                    there.add(task := group.create_task(_Guest(self, client, number).visit()))
                    task.add_done_callback(there.discard)
                else:
                    self.guests_left_out += 1
                await asyncio.sleep(max(0.0, began + number - time.monotonic()))


@dataclass
class _Guest:
    """One learner, and the strangers around: what they ask for is counted by door and status."""

    load: _Load
    client: httpx.AsyncClient
    number: int

    async def visit(self) -> None:
        try:
            await self._visit()
        except httpx.TransportError as error:
            self.load.answers[type(error).__name__] += 1

    async def _visit(self) -> None:
        rig = self.load.rig
        key = {"Authorization": f"Bearer {rig.cluster.api_key}"}
        achievement = rig.cluster.achievement_id
        learner = f"guest{self.number}"
        row = {"achievement": achievement, "learner": learner, "did": f"did:example:{learner}", "score": 90}
        passed = await self._ask("POST", "assessment", "/assessment/v1/results", headers=key, json=row)
        if passed.status_code != 201:
            return
        credential_id = passed.json()["credential_id"]
        await self._ask("POST", "assessment", "/assessment/v1/results", headers=key, json={**row, "score": "many"})
        await self._ask("POST", "assessment", "/assessment/v1/results", headers=key, content=b"{" * 2000)
        await self._ask("GET", "issuer", "/issuer/v1/profiles", headers={"Authorization": "Bearer wrong"})
        await asyncio.sleep(_READ_AFTER_S)
        page = f"/c/{credential_id}"
        for accept in ("text/html", "application/json", "application/vc+jwt"):
            await self._ask("GET", "verifier", page, headers={"Accept": accept})
        found = await self._ask("GET", "verifier", page, headers={"Accept": "application/json"})
        await self._ask("GET", "verifier", f"/verifier/v1/credentials/{credential_id}")
        verify = "/verifier/v1/credentials/verify"
        await self._ask("POST", "verifier", verify, content=found.content, headers={"Content-Type": "application/json"})
        forged = found.content.replace(b'"did:example:', b'"did:example:x', 1)
        await self._ask("POST", "verifier", verify, content=forged, headers={"Content-Type": "application/json"})
        await self._ask("POST", "verifier", verify, content=b"\xff\xfe[", headers={"Content-Type": "application/json"})
        await self._ask("GET", "verifier", "/c/00000000-0000-8000-8000-000000000000")
        await asyncio.sleep(_REVOKE_AFTER_S)
        revoke = f"/issuer/v1/credentials/{credential_id}/revoke"
        await self._ask("POST", "issuer", revoke, headers=key, json={"reason": "the soak"})

    async def _ask(self, method: str, service: str, path: str, **options: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.load.rig.cluster.ports[service]}{path}"
        answer = await self.client.request(method, url, **options)
        self.load.answers[f"{method} {service} {answer.status_code}"] += 1
        return answer


# --- the run --------------------------------------------------------------------------------------------------------


async def run(bus: str, minutes: float, per_s: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="laurel-soak-", ignore_cleanup_errors=True) as folder:
        async with running(bus, Path(folder)) as rig:
            return await _measured(rig, bus, minutes, per_s, Path(folder))


async def _measured(rig: Rig, bus: str, minutes: float, per_s: int, folder: Path) -> dict[str, Any]:
    lives, load, ended_early = Lives(rig), _Load(rig, per_s), ""
    began = time.monotonic()
    work = [asyncio.ensure_future(part(minutes * 60)) for part in (load.imports, load.guests)]
    while not all(part.done() for part in work):
        lives.sample()
        if shutil.disk_usage(folder).free < _ROOM_BYTES:
            ended_early = f"the disk is nearly full after {(time.monotonic() - began) / 60:.0f} minutes"
            for part in work:
                part.cancel()
        await asyncio.wait(work, timeout=SAMPLE_S)
        print(f"{time.monotonic() - began:,.0f} s: {load.sent:,} sent, at most {load.late_s:.1f} s late, "
              + ", ".join(f"{life.name} {life.rss_mb[-1]:.0f} MiB {life.files[-1]} files"
                          for life in lives.found.values()), file=sys.stderr, flush=True)  # fmt: skip
    await asyncio.gather(*work, return_exceptions=bool(ended_early))
    seconds = min(time.monotonic() - began, minutes * 60)
    died = {name: process.poll() for name, process in rig.cluster.processes.items() if process.poll() is not None}
    accounts = {} if died else await _settled(rig)
    found = []
    for life in lives.found.values():
        if len(life.seconds) >= 12:  # a process that lived for less than three minutes has no early and late
            growth = life.growth(seconds)
            found.append({"name": life.name, "pid": life.pid, **growth, "flat": flat(growth)})
    return {
        "machine": report.machine(), "method": __doc__, "bus": bus, "minutes": round(seconds / 60, 1),
        "asked_per_s": per_s, "sent": load.sent,
        "per_s": round(load.sent / seconds, 1), "late_s": round(load.late_s, 1),
        "guests_left_out": load.guests_left_out,
        "answers": dict(sorted(load.answers.items())), "ended_early": ended_early, "died": died, **accounts,
        "processes": found, "samples": [asdict(life) for life in lives.found.values()],
    }  # fmt: skip


async def _settled(rig: Rig) -> dict[str, Any]:
    """The accounts, once nothing is on its way any more or two minutes have brought nothing new."""
    admin = await asyncpg.connect(rig.postgres)
    try:
        before, moved_at = -1, time.monotonic()
        while time.monotonic() - moved_at < 120:
            indexed = int(await admin.fetchval("SELECT count(*) FROM verifier.credentials"))
            delivered = (await rig.partner.stats())["distinct"]
            owed = int(await admin.fetchval("SELECT count(*) FROM assessment.results WHERE outcome = 'passed'"))
            left = sum([int(await admin.fetchval(f"SELECT count(*) FROM {one}.outbox")) for one in SERVICES])
            if indexed == delivered == owed and not left:
                break
            if indexed + delivered != before:
                before, moved_at = indexed + delivered, time.monotonic()
            await asyncio.sleep(2)
        return await pipeline.accounts(rig, admin)
    finally:
        await admin.close()


def faults(figures: dict[str, Any]) -> list[str]:
    """What does not hold, in words."""
    grown = [f"{one['name']} ({one['pid']}) has grown" for one in figures["processes"] if not one["flat"]]
    wrong = [
        f"{door}: {count} times"
        for door, count in figures["answers"].items()
        if not door[-1].isdecimal() or door.split()[-1] >= "500"
    ]
    lost = [f"{name}: {figures[name]}" for name in ("unaccounted", "bad_signatures") if figures.get(name)]
    return grown + wrong + lost + [f"{name} ended with {code}" for name, code in figures["died"].items()]


def page(figures: dict[str, Any]) -> str:
    """The report as Markdown. The partner is told twice of what is revoked."""
    revoked = figures["answers"].get("POST issuer 200", 0)
    lines = [
        f"{figures['sent']:,} passes in {figures['minutes']:,} minutes over {figures['bus']} "
        f"({figures['per_s']:,} a second; {figures['asked_per_s']:,} asked), commit {figures['machine']['commit']}: "
        f"{figures.get('issued', 0):,} issued, {figures.get('indexed', 0):,} indexed, "
        f"{figures.get('delivered', 0):,} delivered, {figures.get('unaccounted', 'not counted')} unaccounted, "
        f"{figures.get('delivered_twice', 0) - revoked} webhooks repeated; {revoked:,} revoked.", "",
        "| process | memory early, MiB | late | most | its own early | late | files early | late | threads early "
        "| late | flat |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]  # fmt: skip
    for one in sorted(figures["processes"], key=lambda one: str(one["name"])):
        lines.append(
            f"| {one['name']} | {one['rss_early_mb']} | {one['rss_late_mb']} | {one['rss_max_mb']} | "
            f"{one['own_early_mb']} | {one['own_late_mb']} | {one['files_early']} | {one['files_late']} | "
            f"{one['threads_early']} | {one['threads_late']} | "
            f"{'yes' if one['flat'] else '**no**'} |"
        )
    lines += ["", "Answers: " + ", ".join(f"{door} {count:,}" for door, count in figures["answers"].items()) + "."]
    if figures["ended_early"]:
        lines += ["", f"Ended early: {figures['ended_early']}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bus", choices=("kafka", "postgres"), default="kafka")
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--per-s", type=int, default=500, help="passes a second (default: 500)")
    parser.add_argument("--out", type=Path, default=Path("build/soak"))
    arguments = parser.parse_args()
    if arguments.bus == "kafka" and (missing := missing_for_kafka()):
        raise SystemExit(f"soak: {missing}")
    figures = asyncio.run(run(arguments.bus, arguments.minutes, arguments.per_s))
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "report.json").write_text(json.dumps(figures) + "\n")
    (arguments.out / "report.md").write_text(page(figures))
    print(page(figures))
    if found := faults(figures):
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
