"""deploy/local/README.md prints the exit codes and the commands as they are."""

from __future__ import annotations

import re

from typer.main import get_command

from laurel_local.cli import app
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
