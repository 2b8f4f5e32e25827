"""`laurel erase` erases nothing that nobody confirmed; its exit codes are those that --help tells."""

from __future__ import annotations

import io
import sys

import pytest
from typer.testing import CliRunner

from laurel_local.cli import app
from laurel_local.client import Client
from laurel_local.console import Output
from laurel_local.erase import run
from laurel_local.exits import Exit, Failure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Untouched(Client):
    """Fails the test when anything is asked of it."""

    def __init__(self) -> None:
        pass

    async def __aenter__(self) -> Untouched:
        pytest.fail("a server was asked")


async def test_without_a_terminal_nothing_is_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(Failure, match="nobody is there to confirm it") as refused:
        await run(Untouched(), "l-1", yes=False, patience_s=0, output=Output(as_json=True))
    assert refused.value.code == Exit.USAGE == 2


async def test_who_says_no_erases_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert await run(Untouched(), "l-1", yes=False, patience_s=0, output=Output(as_json=True)) == Exit.NO == 1


def test_help_tells_both_codes() -> None:
    told = " ".join(CliRunner().invoke(app, ["erase", "--help"]).output.replace("│", " ").split())
    assert "Exit code 1 when the answer was no" in told
    assert "2 where nobody can be asked" in told
