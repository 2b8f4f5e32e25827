"""Every figure, each beside its baseline of the same run: `make bench` (N=1000000, ARGS=--quick).

Prints the report and writes build/bench/report.json, report.md and a plot for each bus. --quick takes two minutes.
--only sign|verify|kafka|postgres: that part alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from laurel import logs, loop
from tests.benchmarks import bench_sign, bench_verify, pipeline, report

PARTS = ("sign", "verify", "kafka", "postgres")
_QUICK = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=50_000, help="passes that go the whole way (default: 50,000)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    logs.configure(level="WARNING")
    wanted = arguments.only or PARTS
    count = min(arguments.n, _QUICK) if arguments.quick else arguments.n
    figures: dict[str, Any] = {"machine": report.machine(), "n": count, "method": __doc__}
    if "sign" in wanted:
        figures |= bench_sign.measure(3_000 if arguments.quick else 20_000)
    if "verify" in wanted:
        figures |= bench_verify.measure(1_000, 1.5) if arguments.quick else bench_verify.measure()
    for bus in ("kafka", "postgres"):
        if bus in wanted:
            figures[bus] = loop.run(pipeline.run(bus, count, steady_s=5.0 if arguments.quick else 20.0))
    written = report.write(figures, arguments.out)
    print(report.page(figures))
    print("written:", ", ".join(str(one) for one in written))


if __name__ == "__main__":
    main()
