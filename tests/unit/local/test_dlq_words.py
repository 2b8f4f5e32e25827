"""What no word of `laurel dlq` and `laurel replay` can mean is refused, by option, before anything is asked."""

from __future__ import annotations

import uuid

import pytest
from typer.testing import CliRunner

from laurel_local.cli import app
from laurel_local.exits import Exit

LIST, REDRIVE = ["dlq", "list"], ["dlq", "redrive", "--all"]
REPLAY = ["replay", "--consumer", "verifier.index", "--dry-run"]
DISCARD = ["dlq", "discard", f"issuer/{uuid.UUID(int=1)}"]
HUGE = "99999999999999999999"
NOT_UTF8 = b"\xff".decode("utf-8", "surrogateescape")  # as Python reads such a byte of the command line


@pytest.mark.parametrize("word", ["\x1b[31mme", "two\nlines", "\u202eturned", NOT_UTF8])
@pytest.mark.parametrize(
    ("command", "option"), [(REDRIVE, "--by"), (REPLAY, "--by"), (REDRIVE, "--note"), (DISCARD, "--reason")]
)
def test_words_for_the_record_hold_no_controls(command: list[str], option: str, word: str) -> None:
    done = CliRunner().invoke(app, [*command, option, word])
    assert done.exit_code == Exit.USAGE, done.output
    assert option in done.output
    assert "control characters" in done.output
    assert word not in done.output


@pytest.mark.parametrize("command", [LIST, REDRIVE, REPLAY])
@pytest.mark.parametrize("option", ["--from", "--to"])
@pytest.mark.parametrize("time", ["9999999d", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "1999-12-31"])
def test_times_at_which_nothing_ran(command: list[str], option: str, time: str) -> None:
    done = CliRunner().invoke(app, [*command, option, time])
    assert done.exit_code == Exit.USAGE, done.output
    assert all(word in done.output for word in (option, time, "leave it out")), done.output


@pytest.mark.parametrize(
    ("command", "option", "value", "said"),
    [
        (LIST, "--limit", HUGE, "1000000"),
        (REDRIVE, "--max", HUGE, "1000000"),
        ([*REDRIVE, "--dry-run"], "--max", HUGE, "1000000"),
        (REDRIVE, "--rate", "inf", "10000"),
        (REDRIVE, "--rate", "nan", "10000"),
        (REDRIVE, "--note", "x" * 501, "Say it in 500"),
        *((command, option, NOT_UTF8, "is no UTF-8") for command in (LIST, REDRIVE)
          for option in ("--key", "--code", "--topic", "--consumer")),
    ],
)  # fmt: skip
def test_values_that_no_database_takes(command: list[str], option: str, value: str, said: str) -> None:
    done = CliRunner().invoke(app, [*command, option, value])
    assert done.exit_code == Exit.USAGE, done.output
    assert option in done.output
    assert said in done.output
