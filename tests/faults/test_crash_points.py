"""Every crash point is declared once, stands in the code, and is survived. Twenty times each: `make crash-points`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from laurel import crash_points
from laurel.crash_points import EXIT_CODE, POINTS
from laurel.errors import ConfigurationError
from tests.conftest import private_postgres
from tests.faults.crash_points import stops, walk
from tests.faults.mortal import mortals

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with private_postgres() as postgres:
        postgres.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield postgres.get_uri()


def _reached_in_the_code() -> Iterator[tuple[str, bool]]:
    """(point, whether it says where) of each call of `reach`."""
    for folder in ("shared", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name == "crash_points.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                    name = node.args[0]
                    assert isinstance(name, ast.Constant), f"{path}: the name of a crash point is a literal"
                    assert isinstance(name.value, str)
                    yield name.value, len(node.args) > 1


def test_every_point_is_declared_and_every_declared_point_is_in_the_code() -> None:
    found = {f"{name}@" if where else name for name, where in _reached_in_the_code()}
    assert found == set(POINTS)


def test_a_walk_goes_to_every_declared_point_of_both_transports() -> None:
    walked = {f"{one.point}@" if one.where else one.point for bus in ("postgres", "kafka") for one in stops(bus, 0)}
    assert walked == set(POINTS)


def test_the_page_names_every_point() -> None:
    page = (ROOT / "docs/crash-points.md").read_text(encoding="utf-8")
    assert [
        point for point, what in POINTS.items() if f"| `{point.rstrip('@')}` |" not in page or what not in page
    ] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("outbox.send", "no crash point"),
        ("list.signed@issuer", "no crash point"),
        ("outbox.sent:0", "not the number"),
        ("outbox.sent:x", "not the number"),
    ],
)
def test_what_names_no_point_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        crash_points.arm(text)
    assert crash_points.armed() is None


@pytest.mark.parametrize("url", ["https://badges.university.edu", "http://10.0.0.1", "https://example.org.evil.com"])
def test_where_badges_may_be_real_nothing_is_armed(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LAUREL_CRASH_AT", "outbox.sent")
    with pytest.raises(ConfigurationError, match="LAUREL_CRASH_AT"):
        crash_points.arm_from_environment(url)
    assert crash_points.armed() is None
    monkeypatch.delenv("LAUREL_CRASH_AT")
    assert not crash_points.arm_from_environment(url)


@pytest.mark.parametrize("url", ["http://localhost:8080", "http://[::1]:1", "https://badges.example.org"])
def test_where_they_cannot_be_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LAUREL_CRASH_AT", "outbox.sent@issuer:2")
    try:
        assert crash_points.arm_from_environment(url)
        assert crash_points.armed() == "outbox.sent@issuer:2"
    finally:
        crash_points.arm(None)


def _dies(text: str, reached: str) -> int:
    code = f"from laurel import crash_points as c; c.arm({text!r}); r = c.reach\n{reached}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode


def test_a_process_dies_at_its_hit_and_at_no_other(tmp_path: Path) -> None:
    assert _dies("outbox.sent", "r('outbox.sent', 'issuer')") == EXIT_CODE
    assert _dies("outbox.sent@issuer", "r('outbox.sent', 'issuer')") == EXIT_CODE
    assert _dies("outbox.sent@issuer", "r('outbox.sent', 'assessment'); r('outbox.read', 'issuer')") == 0
    assert _dies("outbox.sent:2", "r('outbox.sent', 'issuer')") == 0
    assert _dies("outbox.sent:2", "r('outbox.sent', 'issuer'); r('outbox.sent', 'verifier')") == EXIT_CODE
    trap = tmp_path / "trap"
    assert _dies(f"file:{trap}", "r('outbox.sent', 'issuer')") == 0
    trap.write_text("outbox.sent")
    assert _dies(f"file:{trap}", "r('outbox.sent', 'issuer')") == EXIT_CODE
    assert not trap.exists(), "started again, it lives"


@pytest.mark.timeout(1800)  # 125 deaths, each with a restart; a machine that others use took 900
async def test_a_death_at_any_point_loses_and_doubles_nothing(server: str, tmp_path: Path) -> None:
    async with mortals(postgres_dsn=server, bus_url=server, folder=tmp_path) as laurel:
        tally = await walk(laurel, bus="postgres", times=1, seed=7)
        wanted = stops("postgres", 0)
        assert tally.stops == Counter(one.name for one in wanted), "each point was died at, once"
        in_signers = sum(one.need == "signers" for one in wanted)
        assert sum(laurel.deaths.values()) == len(wanted) - in_signers, "a dead signing process takes nobody with it"
