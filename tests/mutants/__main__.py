"""The long run: `python -m tests.mutants --count 100000 --seed 4 --processes 2`. Exit status 1 if a mutant got through.

Prints counts for each kind as a Markdown table (docs/robustness.md); --json: everything; --only NUMBER: one mutant.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.mutants.trial import Report, mutant, try_mutants

_CHUNK = 1000


def main() -> int:
    """Run, print, and say by the exit status whether a mutant got through."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", type=int, help="show this mutant and its verdict")
    given = parser.parse_args()
    if given.only is not None:
        one = mutant(given.seed, given.only)
        print(one.kind, "|", one.specimen.name, "|", one.list_ or one.body.decode("utf-8", "backslashreplace"))
        report = try_mutants(given.seed, [given.only])
    else:
        report = run(given.seed, given.count, given.processes)
    print(json.dumps(dataclasses.asdict(report), indent=1) if given.json else table(report))
    return 1 if report.escaped else 0


def run(seed: int, count: int, processes: int) -> Report:
    """All mutants of a seed below `count`, in so many processes."""
    started = time.monotonic()
    report = Report()
    chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
    with ProcessPoolExecutor(processes, initializer=os.nice, initargs=(10,)) as pool:
        for done, part in enumerate(pool.map(try_mutants, [seed] * len(chunks), chunks), 1):
            report.add(part)
            if done % 10 == 0:
                seconds = time.monotonic() - started
                print(f"{done * _CHUNK:,} after {seconds:.0f} s, {len(report.escaped)} escaped", file=sys.stderr)
    return report


def table(report: Report) -> str:
    """A Markdown table of a report."""
    lines = ["| kind | mutants | accepted | spelt otherwise | of these valid |", "|---|---:|---:|---:|---:|"]
    for kind in sorted(report.refused | report.same):
        escaped = sum(one[1] == kind for one in report.escaped)
        lines.append(
            f"| {kind} | {report.refused[kind] + escaped:,} | {escaped} | {report.same[kind]:,} "
            f"| {report.same_valid[kind]:,} |"
        )
    lines.append(
        f"| **all** | **{report.mutants:,}** | **{len(report.escaped)}** | {report.same.total():,} "
        f"| {report.same_valid.total():,} |"
    )
    lines += [f"escaped: number {number}, {kind}, {name}: {body}" for number, kind, name, body in report.escaped]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
