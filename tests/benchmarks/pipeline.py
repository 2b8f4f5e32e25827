"""The whole path, every service a process of its own: passes in over HTTP → issued, indexed, delivered to a partner.

    python -m tests.benchmarks.pipeline --bus kafka|postgres [--n 20000] [--workers 2] [--json]

1. A cluster on a fresh, durable PostgreSQL (fsync on, as `laurel up` starts it) and, on Kafka, a fresh broker (rig.py).
2. The burst: n passes as NDJSON, in two imports at once; meanwhile single passes of another organisation, one after the
   other, each timed until its credential can be read.
3. The accounts: what the databases hold and what the partner received, compared id by id.
4. A steady load of a fifth of the burst's throughput: how long from the answer that accepts a pass until its credential
   is in the verifier's index.

Processor time is that of each process tree over the burst, from /proc, and memory its peak, which the kernel keeps.
Recipients are DIDs, so that no e-mail is written: a mail server is not what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from laurel import loop
from laurel.migrate import SERVICES
from tests.benchmarks import processes
from tests.benchmarks.rig import Look, Partner, Rig, organise_small, plain_client, running, upload
from tests.conftest import missing_for_kafka
from tests.e2e.cluster import Cluster

IMPORTS = 2
SAMPLE_S = 0.5
MEMORY_S = 5.0  # a process that ends is looked at this often before
STEADY_S = 20.0
STEADY_EVERY_S = 0.25
_LOOK_EVERY_S = 0.1  # for a single pass; each look costs as much as two credentials


GROWN_RUN = "grown"  # the course run of rows that growth.py writes, which went no way
NOT_GROWN = f"course_run IS DISTINCT FROM '{GROWN_RUN}'"
_STAGES = ("assessment.results", "issuer.credentials", "verifier.credentials")


@dataclass
class Watch:
    """Counts over time and memory at its most. Python processes: the services and their signing processes."""

    rig: Rig
    memory_due: float = 0.0
    started: float = field(default_factory=time.monotonic)
    timeline: list[dict[str, float]] = field(default_factory=list)
    rss: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    async def sample(self, admin: asyncpg.Connection) -> None:
        counted = [
            await admin.fetchval(f"SELECT pg_stat_get_tuples_inserted('{table}'::regclass)") for table in _STAGES
        ]
        stages = dict(zip(("results", "issued", "indexed"), map(int, counted), strict=True))
        self.counts = {**stages, "delivered": (await self.rig.partner.stats())["distinct"]}
        now = time.monotonic()
        self.timeline.append({"s": round(now - self.started, 2), **self.counts})
        if now >= self.memory_due:
            self.look_at_memory()
            self.memory_due = now + MEMORY_S

    def look_at_memory(self) -> None:
        """The peaks, as the kernel has kept them: it takes a walk through /proc."""
        children = processes.all_children()
        for service in SERVICES:
            for pid in processes.tree(*self.rig.watched[service], children=children):
                kind = "signer" if "multiprocessing" in processes.command(pid) else service
                self.rss[kind] = max(self.rss.get(kind, 0.0), processes.rss_mb(pid, "VmHWM"))

    def cpu(self) -> dict[str, float]:
        """Seconds by process tree; `harness` is this process itself, which sends, looks and counts."""
        trees = {name: sum(map(processes.tree_seconds, roots)) for name, roots in self.rig.watched.items()}
        return trees | {"harness": time.process_time()}


async def _until_done(watch: Watch, admin: asyncpg.Connection, runs: list[str], count: int, delivered: int) -> None:
    """Until `count` credentials of these course runs are indexed, and `delivered` webhooks have come to the partner."""
    moved_at, before = time.monotonic(), watch.counts
    while True:
        await watch.sample(admin)
        if watch.counts["delivered"] >= delivered and await _indexed(watch.rig, admin, runs) >= count:
            return
        if watch.counts != before:
            moved_at, before = time.monotonic(), watch.counts
        if time.monotonic() - moved_at > 60:
            raise TimeoutError(f"nothing has moved for a minute: {watch.counts} of {delivered}")
        await asyncio.sleep(SAMPLE_S)


async def _indexed(rig: Rig, admin: asyncpg.Connection, runs: list[str]) -> int:
    """By an index, so that what was there before costs nothing."""
    query = "SELECT count(*) FROM verifier.credentials WHERE tenant_id = $1 AND course_run = ANY ($2::text[])"
    return int(await admin.fetchval(query, rig.cluster.tenant_id, runs))


async def _live_passes(cluster: Cluster, stop: asyncio.Event) -> list[float]:
    """Single passes of another organisation during the burst: milliseconds until the credential can be read."""
    other = Cluster(
        cluster.admin_dsn, cluster.environment, cluster.ports, cluster.logs, Partner(cluster.sink.url), None
    )
    await organise_small(other)
    found: list[float] = []
    assessment = f"http://127.0.0.1:{cluster.ports['assessment']}/assessment/v1/results"
    looks = Look(cluster.ports["verifier"])
    async with plain_client() as client:
        number = 0
        while not stop.is_set():
            number += 1
            began = time.monotonic()
            answer = await client.post(
                assessment,
                headers={"Authorization": f"Bearer {other.api_key}"},
                json={"achievement": other.achievement_id, "learner": f"live{number}",
                      "did": f"did:example:live{number}", "score": 90},
            )  # fmt: skip
            assert answer.status_code == 201, answer.text
            while (await looks.get(f"/c/{answer.json()['credential_id']}"))[0] != 200:
                await asyncio.sleep(_LOOK_EVERY_S)
            found.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(0.25)
    looks.close()
    return found


# --- the measurements -----------------------------------------------------------------------------------------------


async def burst(rig: Rig, count: int, name: str = "b") -> dict[str, Any]:
    """Steps 2 and 3. name: another for each burst of one cluster, since its learners pass once."""
    admin = await asyncpg.connect(rig.postgres)
    try:
        await rig.cluster.until("the first pass goes through", lambda: _warm(rig, admin), 60)
        before = await admin.fetchval(f"SELECT count(*) FROM verifier.credentials WHERE {NOT_GROWN}")
        runs = [f"{name}{k}-" for k in range(IMPORTS)]
        stop = asyncio.Event()
        live = asyncio.create_task(_live_passes(rig.cluster, stop))
        await asyncio.sleep(1)
        watch = Watch(rig)
        await watch.sample(admin)
        delivered_before = watch.counts["delivered"]
        written_before, cpu_before, started = await _written(admin), watch.cpu(), time.monotonic()
        share = count // IMPORTS
        uploads = [
            asyncio.create_task(upload(rig.cluster, k * share, share if k else count - share * (IMPORTS - 1), run))
            for k, run in enumerate(runs)
        ]
        await _until_done(watch, admin, [f"{run}run" for run in runs], count, delivered_before + count)
        seconds = time.monotonic() - started
        cpu = {name: after - cpu_before[name] for name, after in watch.cpu().items()}
        harness = cpu.pop("harness")
        written = await _written(admin)
        watch.look_at_memory()
        await asyncio.gather(*uploads)
        stop.set()
        live_ms = await live
        total = before + count + len(live_ms)
        found = await accounts(rig, admin)
        return {
            "n": count,
            **found,
            "seconds": round(seconds, 2),
            "per_s": round(count / seconds, 1),
            "live_p50_ms": _percentile(live_ms, 50),
            "live_p99_ms": _percentile(live_ms, 99),
            "live_passes": len(live_ms),
            "live_ms": [round(one) for one in live_ms],
            "expected": total,
            "rss_max_mb": round(max(watch.rss.values()), 1),
            "rss_mb": {name: round(value, 1) for name, value in sorted(watch.rss.items())},
            "cpu_us_per_credential": {name: round(value / count * 1e6, 1) for name, value in cpu.items()},
            "cpu_us_per_credential_total": round(sum(cpu.values()) / count * 1e6, 1),
            "harness_us_per_credential": round(harness / count * 1e6, 1),
            "cpu_share": round((sum(cpu.values()) + harness) / seconds, 2),
            "transactions_per_credential": round((written[0] - written_before[0]) / count, 3),
            "wal_bytes_per_credential": round((written[1] - written_before[1]) / count),
            "autovacuum_s": await _vacuumed(admin),
            "timeline": watch.timeline,
        }
    finally:
        await admin.close()


async def _written(admin: asyncpg.Connection) -> tuple[int, int]:
    """Transactions committed and bytes of write-ahead log so far."""
    row = await admin.fetchrow(
        "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal FROM pg_stat_database "
        "WHERE datname = current_database()"
    )
    assert row is not None
    return int(row["xact_commit"]), int(row["wal"])


async def _vacuumed(admin: asyncpg.Connection) -> dict[str, float]:
    """Seconds that autovacuum has spent, by table."""
    rows = await admin.fetch(
        "SELECT schemaname || '.' || relname AS name, (total_autovacuum_time + total_autoanalyze_time) / 1000 AS s "
        "FROM pg_stat_user_tables WHERE total_autovacuum_time > 0 ORDER BY 2 DESC"
    )
    return {row["name"]: round(float(row["s"]), 2) for row in rows}


async def _warm(rig: Rig, admin: asyncpg.Connection) -> bool:
    """Processes are up, templates compiled, connections open."""
    if not await admin.fetchval("SELECT count(*) FROM assessment.results"):
        await upload(rig.cluster, 0, 1, "warm-")
    return (await rig.partner.stats())["distinct"] >= 1


async def accounts(rig: Rig, admin: asyncpg.Connection) -> dict[str, Any]:
    """Owed, issued, indexed and delivered, id by id; the live passes have no partner."""

    async def ids(table: str, condition: str = "true") -> set[str]:
        query = f"SELECT credential_id FROM {table} WHERE {NOT_GROWN} AND {condition}"
        return {str(row[0]) for row in await admin.fetch(query)}

    owed = await ids("assessment.results", "outcome = 'passed'")
    issued, indexed = await ids("issuer.credentials"), await ids("verifier.credentials")
    with_partner = await ids("assessment.results", f"tenant_id = '{rig.cluster.tenant_id}'")
    delivered, stats = await rig.partner.ids(), await rig.partner.stats()
    left = sum([
        await admin.fetchval(f"SELECT count(*) FROM {service}.outbox") for service in SERVICES
    ])  # fmt: skip
    return {
        "results": int(await admin.fetchval(f"SELECT count(*) FROM assessment.results WHERE {NOT_GROWN}")),
        "issued": len(issued),
        "indexed": len(indexed),
        "delivered": len(delivered),
        "unaccounted": len(owed ^ issued) + len(issued ^ indexed) + len(with_partner ^ delivered) + left,
        "delivered_twice": stats["twice"],
        "bad_signatures": stats["bad"],
    }


async def steady(rig: Rig, per_s: float, seconds: float) -> dict[str, Any]:
    """Step 4. From the 202 that accepted a pass to its row in the verifier's index, in milliseconds."""
    each = max(1, round(per_s * STEADY_EVERY_S))
    accepted: dict[str, float] = {}

    async def one(number: int) -> None:
        accepted[await upload(rig.cluster, 0, each, f"s{number}-")] = time.time()

    began = time.monotonic()
    sending = []
    for number in range(round(seconds / STEADY_EVERY_S)):
        sending.append(asyncio.create_task(one(number)))
        await asyncio.sleep(max(0.0, began + (number + 1) * STEADY_EVERY_S - time.monotonic()))
    await asyncio.gather(*sending)
    admin = await asyncpg.connect(rig.postgres)
    try:
        total = len(sending) * each
        deadline = time.monotonic() + 60
        query = """
            SELECT r.import_id::text, v.indexed_at FROM assessment.results r
            JOIN verifier.credentials v ON v.credential_id = r.credential_id::text
            WHERE r.import_id = ANY ($1::uuid[])"""
        while len(rows := await admin.fetch(query, list(accepted))) < total:
            assert time.monotonic() < deadline, f"{len(rows)} of {total} are indexed"
            await asyncio.sleep(0.2)
    finally:
        await admin.close()
    waits = [(_epoch(row["indexed_at"]) - accepted[row["import_id"]]) * 1000 for row in rows]
    return {
        "load_per_s": each / STEADY_EVERY_S,
        "p50_ms": _percentile(waits, 50),
        "p99_ms": _percentile(waits, 99),
        "max_ms": round(max(waits), 1),
    }


def _epoch(moment: datetime) -> float:
    return moment.timestamp()


def _percentile(values: list[float], percent: int) -> float | None:
    if not values:
        return None
    if len(values) == 1:
        return round(values[0], 1)
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 1)


async def run(bus: str, count: int, *, steady_s: float = STEADY_S, workers: int = 1) -> dict[str, Any]:
    """All figures of one bus."""
    if bus == "kafka" and (missing := missing_for_kafka()):
        return {"left_out": missing}
    with tempfile.TemporaryDirectory(prefix="laurel-bench-", ignore_cleanup_errors=True) as folder:
        async with running(bus, Path(folder), workers) as made:
            figures = await burst(made, count)
            figures |= await steady(made, max(20.0, figures["per_s"] / 5), steady_s)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bus", choices=("kafka", "postgres"), default="kafka")
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1, help="processes of each service that consume and deliver")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = loop.run(run(arguments.bus, arguments.n, workers=arguments.workers))
    if not arguments.json:
        figures.pop("timeline", None)
    print(json.dumps(figures, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
