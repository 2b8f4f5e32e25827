"""make faults: loads the whole installation, breaks it in seeded ways, and proves that nothing was lost or doubled.

    python -m tests.faults                                        the short run, on both buses
    python -m tests.faults --seed 7 --minutes 40 --bus kafka      the long run

Writes build/faults/report.json (the long run's; of several runs a list) and exits with 1 when anything was lost,
doubled, out of order or different.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import uvloop

from tests.conftest import missing_for_kafka
from tests.faults.nemesis import KINDS
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
    for bus in ("postgres", "kafka") if asked.bus == "both" else (asked.bus,):
        if bus == "kafka" and (missing := missing_for_kafka()):
            print(f"faults: not on Kafka: {missing}", flush=True)
            continue
        wanted = Wanted(seed, bus, asked.minutes, results, faults, only=tuple(asked.only))
        reports.append(uvloop.run(run(wanted, say=lambda text: print(text, flush=True))))
        asked.report.parent.mkdir(parents=True, exist_ok=True)
        asked.report.write_text(json.dumps(reports[0] if len(reports) == 1 else reports, indent=2) + "\n")
        _tell(reports[-1])
    print(f"faults: {asked.report}")
    return 0 if reports and all(one["exact"] and one["drain_s"] is not None for one in reports) else 1


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
