"""make faults: loads the whole installation, breaks it in seeded ways, and proves that nothing was lost or doubled.

    python -m tests.faults                                        the short run, on both buses
    python -m tests.faults --seed 7 --minutes 40 --bus kafka      the long run

Writes build/faults/report.json (the totals, and the runs under "runs") and exits with 1 when anything was lost,
doubled, out of order or different; when a run did not drain, or did not recover, or took more than 30 s for it; when a
webhook's signature was bad, or a process ended while nothing was wrong. Where Kafka cannot be had, `--bus both` says so
and runs on PostgreSQL alone; with CI=true that fails, too.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import uvloop

from tests.conftest import in_ci, missing_for_kafka
from tests.faults.nemesis import KINDS
from tests.faults.report import together
from tests.faults.run import Wanted, run

REPORT = Path("build/faults/report.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seed", type=int, help="of the load and of the plan of faults; default: any, and it is printed"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="of faults; 0: the short run, each kind once")
    parser.add_argument("--bus", choices=("kafka", "postgres", "both"), default="both")
    parser.add_argument("--results", type=int, help="at least so many results; default: 25,000 a minute")
    parser.add_argument("--faults", type=int, help="at least so many faults; default: 12.5 a minute")
    parser.add_argument("--only", nargs="+", default=(), choices=KINDS, metavar="KIND", help="only such faults")
    parser.add_argument("--report", type=Path, default=REPORT)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    results = asked.results if asked.results is not None else round(25_000 * asked.minutes)
    faults = asked.faults if asked.faults is not None else round(12.5 * asked.minutes)
    reports: list[dict[str, Any]] = []
    missing: list[str] = []
    for bus in ("postgres", "kafka") if asked.bus == "both" else (asked.bus,):
        if bus == "kafka" and (lacking := missing_for_kafka()):
            missing.append(f"kafka: {lacking}")
            print(f"faults: NOT run on Kafka: {lacking}", file=sys.stderr, flush=True)
            continue
        wanted = Wanted(seed, bus, asked.minutes, results, faults, only=tuple(asked.only))
        reports.append(uvloop.run(run(wanted, say=lambda text: print(text, flush=True))))
        _tell(reports[-1])
        _write(asked.report, together(seed, reports, missing))  # now: the next run may fail to start
    report = together(seed, reports, missing)
    _write(asked.report, report)
    print(f"faults: {asked.report}")
    for what in report["failed"]:
        print(f"faults: FAILED: {what}", file=sys.stderr)
    return 0 if report["holds"] and not (missing and in_ci()) else 1


def _write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def _tell(report: dict[str, Any]) -> None:
    told = ", ".join(
        f"{report[name]} {name.replace('_', ' ')}" for name in ("lost", "doubled", "out_of_order", "wrong")
    )
    print(
        f"faults: {report['bus']}, seed {report['seed']}: {report['faults_total']} faults over {report['results']} "
        f"results, {report['issued']} issued: {told}; recovery at most {report['max_recovery_s']} s"
    )
    for offender in report["offenders"]:
        print(f"  {offender}")


if __name__ == "__main__":
    sys.exit(main())
