"""What makes `make faults` fail, and the one report of its runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults import __main__ as command
from tests.faults.nemesis import Planned, Round, Span
from tests.faults.report import ended_while_healthy, failures, together
from tests.faults.rig import Ended

GOOD: dict[str, Any] = {
    "bus": "postgres", "faults": {"kill_9": 2, "pause": 1}, "faults_total": 3, "results": 100, "issued": 30,
    "lost": 0, "doubled": 0, "out_of_order": 0, "wrong": 0, "drain_s": 1.5, "not_recovered": 0,
    "recoveries_over_30_s": 0, "bad_signatures": 0, "max_recovery_s": 2.5, "ended_while_healthy": [], "offenders": [],
}  # fmt: skip


def test_a_run_holds_only_if_nothing_is_wrong_with_it() -> None:
    assert failures(GOOD) == []
    for name in ("lost", "doubled", "out_of_order", "wrong", "not_recovered", "recoveries_over_30_s", "bad_signatures"):
        assert len(failures(GOOD | {name: 1})) == 1, name
    assert failures(GOOD | {"drain_s": None}) == ["it did not drain"]
    assert len(failures(GOOD | {"ended_while_healthy": ["issuer ended with 1: Stuck"]})) == 1
    assert failures(GOOD | {"recoveries_over_30_s": 1}, in_time=False) == []


def test_the_report_is_one_object_with_the_totals_of_its_runs() -> None:
    other = GOOD | {
        "bus": "kafka", "faults": {"kill_9": 1, "broker_kill_9": 4}, "lost": 1, "max_recovery_s": 31.0,
        "offenders": ["lost: credential c is owed and was not issued"],
    }  # fmt: skip
    report = together(7, [GOOD, other])
    assert report["faults"] == {"broker_kill_9": 4, "kill_9": 3, "pause": 1}
    assert (report["seed"], report["results"], report["issued"], report["lost"]) == (7, 200, 60, 1)
    assert report["max_recovery_s"] == 31.0
    assert report["offenders"] == ["kafka: lost: credential c is owed and was not issued"]
    assert (report["holds"], report["failed"]) == (False, ["kafka: 1 lost"])
    assert report["runs"] == [GOOD, other]
    assert together(7, [GOOD])["holds"]
    assert together(7, [GOOD])["runs"] == [GOOD], "one run, the same shape"
    assert not together(7, [])["holds"]


def strike(kind: str, **arguments: Any) -> list[Round]:
    """A round whose fault was under way from 100 to 105, and that had recovered at 110."""
    fault = Planned(0.0, kind, arguments)
    return [Round([fault], [Span(fault, 100.0, 105.0)], 110.0)]


@pytest.mark.parametrize(
    ("rounds", "at", "healthy"),
    [
        ([], 50.0, True),
        (strike("database_pause", seconds=5.0), 90.0, True),
        (strike("database_pause", seconds=5.0), 103.0, False),
        (strike("database_pause", seconds=5.0), 109.0, False),
        (strike("database_pause", seconds=5.0), 120.0, True),
        (strike("broker_kill_9", how="kill"), 103.0, False),
        (strike("disk_full", disk="postgres"), 103.0, False),
        (strike("link_frozen", link="postgres-issuer"), 103.0, False),
        (strike("link_frozen", link="bus-issuer"), 103.0, False),
        (strike("link_frozen", link="kafka"), 103.0, False),
        (strike("link_frozen", link="postgres-verifier"), 103.0, True),
        (strike("link_frozen", link="partner"), 103.0, True),
        (strike("pause", service="issuer"), 103.0, False),
        (strike("pause", service="verifier"), 103.0, True),
        (strike("clock_step", service="issuer", by_s=90.0), 103.0, True),
        (strike("partner_trouble", how="500"), 103.0, True),
    ],
)
def test_who_ends_by_itself_must_have_had_a_reason(rounds: list[Round], at: float, healthy: bool) -> None:
    ended = Ended("issuer", at, "issuer ended with 1: Stuck")
    assert ended_while_healthy([ended], rounds) == ([ended] if healthy else [])


def run_command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """`python -m tests.faults` with runs that are over at once."""

    async def run(wanted: Any, **_: Any) -> dict[str, Any]:
        return GOOD | {"seed": wanted.seed, "bus": wanted.bus, "bad_signatures": int(wanted.seed == 13)}

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(sys, "argv", ["faults", "--report", str(folder / "report.json"), *arguments])
    return command.main(), json.loads((folder / "report.json").read_text())


def test_the_exit_code_says_what_a_run_came_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "missing_for_kafka", lambda: None)
    code, report = run_command(monkeypatch, tmp_path, "--seed", "7")
    assert (code, report["buses"], len(report["runs"])) == (0, ["postgres", "kafka"], 2)
    code, report = run_command(monkeypatch, tmp_path, "--seed", "13", "--bus", "postgres")
    assert (code, report["failed"]) == (1, ["postgres: 1 webhooks had a bad signature"])


def test_a_bus_that_is_left_out_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "missing_for_kafka", lambda: "Maven is missing")
    monkeypatch.delenv("CI", raising=False)
    code, report = run_command(monkeypatch, tmp_path, "--seed", "7")
    assert (code, report["buses"], report["missing"]) == (0, ["postgres"], ["kafka: Maven is missing"])
    assert capsys.readouterr().err == "faults: NOT run on Kafka: Maven is missing\n"
    assert run_command(monkeypatch, tmp_path, "--seed", "7", "--bus", "kafka")[0] == 1
    monkeypatch.setenv("CI", "true")
    assert run_command(monkeypatch, tmp_path, "--seed", "7")[0] == 1
