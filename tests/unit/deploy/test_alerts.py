"""The alerts ask for numbers that the code really sets, and each has a page that says what to do."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from laurel.process import LAST_WORDS_S

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROMETHEUS_OWN = {"up"}
OF_THE_LIBRARY = {"process_start_time_seconds"}  # prometheus_client's ProcessCollector
METRIC = re.compile(r"\b(?:laurel_\w+|process_\w+|up)\b")


def emitted() -> dict[str, set[str]]:
    """Metric → the labels it is set with, by the calls in the code and by what every numbers.py returns."""
    found: dict[str, set[str]] = {}
    for folder in ("shared/laurel", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("telemetry.count", "telemetry.gauge"):
                    if isinstance(node.args[0], ast.Constant):
                        found.setdefault(str(node.args[0].value), set()).update(one.arg or "" for one in node.keywords)
                elif isinstance(node, ast.Dict) and path.name == "numbers.py":
                    for key in node.keys:
                        if isinstance(key, ast.Constant) and str(key.value).startswith("laurel_"):
                            found.setdefault(str(key.value), set())
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_what_the_code_sets_and_says_what_to_do(rule: dict[str, Any]) -> None:
    known = emitted()
    asked = set(METRIC.findall(re.sub(r"\{[^}]*\}|\b(?:by|on) ?\([^)]*\)", "", rule["expr"])))
    assert asked, rule["expr"]
    assert asked - known.keys() - PROMETHEUS_OWN - OF_THE_LIBRARY == set()
    labels = {
        *(
            name
            for names in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", rule["expr"])
            for name in re.findall(r"\w+", names)
        ),
        *re.findall(r"(\w+)=~?\"", rule["expr"]),
        *re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())),
    }
    given = {"instance", "job"} | {label for metric in asked & known.keys() for label in known[metric]}
    assert labels <= given
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert re.fullmatch(r"Laurel[A-Z]\w+", rule["alert"])
    assert {"summary", "description", "runbook"} == rule["annotations"].keys()
    page = ROOT / rule["annotations"]["runbook"]
    assert page.is_file()
    assert rule["alert"] in page.read_text(), f"{page.name} does not name {rule['alert']}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_what_an_alert_asks_is_promql(rule: dict[str, Any]) -> None:
    """Syntax, functions and the types of what they take, by the grammar of Prometheus; nothing is evaluated."""
    asked = promql_parser.parse(rule["expr"])
    assert isinstance(asked, promql_parser.Expr)
    with pytest.raises(ValueError, match="expected"):
        promql_parser.parse(f"rate({rule['expr']})")  # an instant vector where a range is wanted


def test_alerts_have_names_of_their_own_and_none_waits_longer_than_it_may() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    waits = {rule["alert"]: rule.get("for", "0s") for rule in RULES if rule["labels"]["severity"] == "critical"}
    assert {alert: wait for alert, wait in waits.items() if not re.fullmatch(r"[0-9]{1,2}s|1m", wait)} == {}


def test_whoever_has_failed_is_heard_before_it_ends() -> None:
    interval = int(re.fullmatch(r"(\d+)s", CONFIG["global"]["scrape_interval"])[1])  # type: ignore[index]
    assert 2 * interval < LAST_WORDS_S


def test_prometheus_asks_every_process() -> None:
    (job,) = CONFIG["scrape_configs"]
    asked = {target for static in job["static_configs"] for target in static["targets"]}
    served = {name for name, one in COMPOSE["services"].items() if one.get("command", [""])[0] == "serve"}
    assert asked == {f"{name}:8080" for name in served}
    assert CONFIG["rule_files"] == ["alerts.yml"]
    assert "./deploy/prometheus:/etc/prometheus:ro" in COMPOSE["services"]["prometheus"]["volumes"]


def test_promtool_takes_them() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        ["promtool", "check", "config", str(FOLDER / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
