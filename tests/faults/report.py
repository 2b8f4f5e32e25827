"""What fault runs come to: whether each one holds, and one object of all of them, build/faults/report.json."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any

from tests.faults.nemesis import Round, may_end
from tests.faults.rig import Ended

WITHIN_S = 30.0  # what recovery should take at most
_SEEN_AFTER_S = 1.0  # that a process has ended is seen a little later
_SUMMED = (
    "faults_total", "results", "issued", "lost", "doubled", "out_of_order", "wrong", "not_recovered",
    "recoveries_over_30_s", "bad_signatures",
)  # fmt: skip
_MOST_OFFENDERS = 200


def ended_while_healthy(ended: Iterable[Ended], rounds: Sequence[Round]) -> list[Ended]:
    """Those that ended although no fault was under way that would let them: a watchdog that is wrong, or a crash.

    A fault is under way from its beginning until its round has recovered (Round.over).
    """
    return [
        one
        for one in ended
        if not any(
            span.began <= one.at <= max(span.ended, done.over) + _SEEN_AFTER_S and may_end(span.fault, one.service)
            for done in rounds
            for span in done.spans
        )
    ]


def failures(report: dict[str, Any], *, in_time: bool = True) -> list[str]:
    """Why a run does not hold, in words; empty: it does. in_time: slow recoveries are a reason, too."""
    found = [f"{report[name]} {name.replace('_', ' ')}" for name in ("lost", "doubled", "out_of_order", "wrong")
             if report[name]]  # fmt: skip
    if report["drain_s"] is None:
        found.append("it did not drain")
    if report["not_recovered"]:
        found.append(f"no recovery from {report['not_recovered']} rounds of faults")
    if in_time and report["recoveries_over_30_s"]:
        found.append(f"{report['recoveries_over_30_s']} recoveries took more than {WITHIN_S:g} s")
    if report["bad_signatures"]:
        found.append(f"{report['bad_signatures']} webhooks had a bad signature")
    if report["ended_while_healthy"]:
        found.append(f"{len(report['ended_while_healthy'])} processes ended while nothing was wrong")
    return found


def together(seed: int, reports: Sequence[dict[str, Any]], missing: Sequence[str] = ()) -> dict[str, Any]:
    """The totals of all runs, and the runs. missing: buses that could not be run, and why."""
    faults: collections.Counter[str] = collections.Counter()
    for one in reports:
        faults.update(one["faults"])
    failed = [f"{one['bus']}: {what}" for one in reports for what in failures(one)]
    longest = [one["max_recovery_s"] for one in reports if one["max_recovery_s"] is not None]
    return {
        "seed": seed,
        "buses": [one["bus"] for one in reports],
        "faults": dict(sorted(faults.items())),
        **{name: sum(one[name] for one in reports) for name in _SUMMED},
        "max_recovery_s": max(longest, default=None),
        "ended_while_healthy": [words for one in reports for words in one["ended_while_healthy"]],
        "offenders": [f"{one['bus']}: {what}" for one in reports for what in one["offenders"]][:_MOST_OFFENDERS],
        "holds": bool(reports) and not failed,
        "failed": failed,
        "missing": list(missing),
        "runs": list(reports),
    }
