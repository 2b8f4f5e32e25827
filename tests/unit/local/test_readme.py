"""deploy/local/README.md prints the exit codes and the commands as they are."""

from __future__ import annotations

import re

from typer.main import get_command

from laurel_local.cli import app
from laurel_local.doctor import SUPPORTED_PYTHONS, java_version
from laurel_local.exits import MEANINGS
from tests.conftest import ROOT

README = (ROOT / "deploy" / "local" / "README.md").read_text(encoding="utf-8")


def test_the_exit_codes() -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE))
    assert table == {str(int(code)): meaning for code, meaning in MEANINGS.items()}


def test_every_command_is_in_the_table() -> None:
    named = set(re.findall(r"`laurel ([a-z]+)", README))
    commands = set(getattr(get_command(app), "commands", {}))
    assert commands
    assert named == commands


def test_doctor_supports_the_pythons_that_the_package_declares() -> None:
    declared = re.findall(r'Python :: (\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert tuple((int(major), int(minor)) for major, minor in declared) == SUPPORTED_PYTHONS


def test_the_version_of_java_is_read() -> None:
    assert java_version('openjdk version "21.0.2" 2024-01-16') == 21
    assert java_version('java version "1.8.0_392"') == 8
    assert java_version("?") is None
