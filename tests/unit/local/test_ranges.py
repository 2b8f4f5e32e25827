"""Ranges that cannot match are refused before anything is asked."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from laurel_local.cli import app
from laurel_local.exits import Exit, Failure
from laurel_local.replay import offsets_in

TURNED = ["--from", "2026-02-01", "--to", "2026-01-01"]
REPLAY = ["replay", "--consumer", "verifier.index"]


@pytest.mark.parametrize("command", [["dlq", "list"], ["dlq", "redrive"], REPLAY])
@pytest.mark.parametrize(("options", "word"), [(TURNED, "before --to"), (["--tenant", "uni"], "no UUID")])
def test_what_cannot_match_is_refused(command: list[str], options: list[str], word: str) -> None:
    done = CliRunner().invoke(app, [*command, *options])
    assert (done.exit_code, word in done.output) == (int(Exit.USAGE), True), done.output


@pytest.mark.parametrize("word", ["laurel.credential/0:5..5", "laurel.credential/0:9..2"])
def test_offsets_that_hold_nothing_are_refused(word: str) -> None:
    with pytest.raises(Failure, match="holds no offset") as refused:
        offsets_in([word])
    assert refused.value.code is Exit.USAGE
