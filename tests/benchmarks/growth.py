"""What a credential costs when there are many already: the same burst beside 10,000 rows, a million, ten million.

    python -m tests.benchmarks.growth [--bus kafka|postgres] [--rows 10000,1000000,10000000] [--n 30000]

The tables that a credential adds to are filled between two bursts, while the services are down, with rows that differ
from a real one in their keys alone. These are spread as those of real ones are, over a hundred achievements, of which
one is the burst's. The documents in them are short: so indexes are as large as they would be, and the heap is not.
Prints processor time by stage, write-ahead log and the size of the indexes for each step.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from tests.benchmarks.pipeline import GROWN_RUN, burst
from tests.benchmarks.rig import Rig, running

_ACHIEVEMENTS = 100
_OWN = f"n % {_ACHIEVEMENTS} = 0"  # rows of the burst's own achievement
_OTHER = f"md5('achievement' || n % {_ACHIEVEMENTS})"
_ACHIEVEMENT = f"(CASE WHEN {_OWN} THEN model.achievement_id::text ELSE {_OTHER} END)"
_PREFIX = f"left(CASE WHEN {_OWN} THEN model.credential_id::text ELSE {_OTHER} END, 8)"
_ID = f"({_PREFIX} || right(md5('credential' || n), 24))::uuid"  # as `ids.credential_id` makes them
_LIST_HOLDS = 131_072
_SHORT = "'\\x00'::bytea"

# What differs between the rows of a table, as SQL over n; every other column is that of the first row.
_TABLES: dict[str, dict[str, str]] = {
    "assessment.results": {
        "result_id": "uuidv7()",
        "credential_id": _ID,
        "achievement_id": f"{_ACHIEVEMENT}::uuid",
        "learner": "'grown' || n",
        "learner_key": "decode(md5('learner' || n), 'hex')",
        "course_run": f"'{GROWN_RUN}'",
        "import_id": "md5('import')::uuid",
        "line": "n",
    },
    "issuer.credentials": {
        "credential_id": _ID,
        "achievement_id": _ACHIEVEMENT,
        "result_id": "uuidv7()::text",
        "course_run": f"'{GROWN_RUN}'",
        "revocation_list": f"md5('list' || n / {_LIST_HOLDS})::uuid",
        "revocation_index": f"n % {_LIST_HOLDS}",
        "suspension_list": f"md5('suspension' || n / {_LIST_HOLDS})::uuid",
        "suspension_index": f"n % {_LIST_HOLDS}",
        "body": _SHORT,
    },
    "verifier.credentials": {
        "credential_id": f"{_ID}::text",
        "achievement_id": _ACHIEVEMENT,
        "result_id": "uuidv7()::text",
        "course_run": f"'{GROWN_RUN}'",
        "document": _SHORT,
    },
    "notifier.messages": {
        "message_id": f"'msg_' || {_ID} || '_issued'",
        "credential_id": f"{_ID}::text",
        "course_run": f"'{GROWN_RUN}'",
        "body": _SHORT,
    },
    "notifier.deliveries": {"delivery_id": "uuidv7()", "message_no": "-n"},
}


async def fill(admin: asyncpg.Connection, table: str, first: int, last: int) -> None:
    """Add rows first to last. The indexes are made anew afterwards, which takes a tenth of the time."""
    differs = _TABLES[table]
    columns = [row[0] for row in await admin.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped "
        "AND attidentity = '' AND attgenerated = ''", table)]  # fmt: skip
    keys = await admin.fetch(
        "SELECT conname, pg_get_constraintdef(oid) AS made FROM pg_constraint "
        "WHERE conrelid = $1::text::regclass AND contype IN ('p', 'u')", table)  # fmt: skip
    indexes = await admin.fetch(
        "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS made FROM pg_index "
        "WHERE indrelid = $1::text::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        table)  # fmt: skip
    async with admin.transaction():
        await admin.execute("SET LOCAL maintenance_work_mem = '512MB'")
        for row in keys:
            await admin.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{row["conname"]}"')
        for row in indexes:
            await admin.execute(f"DROP INDEX {row['name']}")
        values = ", ".join(differs.get(name, f'model."{name}"') for name in columns)
        names = ", ".join(f'"{name}"' for name in columns)
        await admin.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} FROM (SELECT * FROM {table} LIMIT 1) AS model "
            f"CROSS JOIN generate_series({first}::int, {last}::int) AS n"
        )
        for row in keys:
            await admin.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{row["conname"]}" {row["made"]}')
        for row in indexes:
            await admin.execute(row["made"])


async def _grow(rig: Rig, first: int, last: int) -> None:
    """The services are down meanwhile: an index that is missing would be missed."""
    rig.cluster.stop()
    admin = await asyncpg.connect(rig.postgres)
    try:
        for table in _TABLES:
            began = time.monotonic()
            await fill(admin, table, first, last)
            await admin.execute(f"VACUUM (ANALYZE) {table}")
            print(f"{table}: {last} rows ({time.monotonic() - began:.0f} s)", flush=True)
        await admin.execute("CHECKPOINT")
    finally:
        await admin.close()
    rig.start()
    await rig.cluster.ready()


async def _sizes(rig: Rig) -> dict[str, Any]:
    admin = await asyncpg.connect(rig.postgres)
    try:
        rows = await admin.fetch("SELECT name, pg_indexes_size(name::regclass) AS size FROM unnest($1::text[]) AS name",
                                 list(_TABLES))  # fmt: skip
        return {row["name"]: round(row["size"] / 2**20) for row in rows}
    finally:
        await admin.close()


_KEPT = (
    "unaccounted", "delivered_twice", "per_s", "live_p99_ms", "cpu_us_per_credential", "cpu_us_per_credential_total",
    "wal_bytes_per_credential", "rss_max_mb",
)  # fmt: skip


async def measure(bus: str, steps: list[int], count: int) -> list[dict[str, Any]]:
    """A burst beside each number of rows, in order; what is there before the first is one row."""
    found = []
    with tempfile.TemporaryDirectory(prefix="laurel-growth-", ignore_cleanup_errors=True) as folder:
        async with running(bus, Path(folder)) as rig:
            await burst(rig, min(count, 5_000), "warm")
            there = 0
            for step in steps:
                await _grow(rig, there + 1, step)
                there = step
                figures = await burst(rig, count, f"r{step}")
                kept = {name: figures[name] for name in _KEPT}
                found.append({"rows": step, "indexes_mb": await _sizes(rig), **kept})
                print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bus", choices=("kafka", "postgres"), default="kafka")
    parser.add_argument("--rows", default="10000,1000000,10000000")
    parser.add_argument("--n", type=int, default=30_000, help="passes of each burst")
    arguments = parser.parse_args()
    steps = sorted(int(one) for one in arguments.rows.split(","))
    found = asyncio.run(measure(arguments.bus, steps, arguments.n))
    first = found[0]
    for one in found:
        ratio = one["cpu_us_per_credential_total"] / one["cpu_us_per_credential"]["sink"]
        base = first["cpu_us_per_credential_total"] / first["cpu_us_per_credential"]["sink"]
        cost = f"{one['cpu_us_per_credential_total']:.0f} µs a credential"
        print(f"{one['rows']:>12,} rows: {cost}; in sinks {ratio / base:.2f} of the first")


if __name__ == "__main__":
    main()
