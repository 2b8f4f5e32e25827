"""What a person or a script reads: results on stdout, everything else on stderr, colour on a terminal alone."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from laurel import logs
from laurel_local.exits import Exit, Failure

_WIDE = 160  # off a terminal: wide enough that no table cuts its cells


def _console(stream: TextIO) -> Console:
    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=None if terminal else False,
        no_color=None if terminal else True,
        width=None if terminal else _WIDE,
        highlight=False,
        soft_wrap=not terminal,
    )


class Output:
    """Where a command writes. as_json: stdout carries one JSON document and nothing else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    def note(self, text: str) -> None:
        """A line for whoever watches; never part of the result."""
        self.err.print(text, markup=False)

    def result(self, value: Any) -> None:
        """The machine's result, where it was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
            sys.stdout.flush()


def report_failure(failure: Failure, *, as_json: bool) -> None:
    """The same three facts for both readers: what happened, what to do, which exit code."""
    if as_json:
        error = {"code": failure.code.name.lower(), "exit": int(failure.code), "detail": failure.message}
        if failure.fix:
            error["fix"] = failure.fix
        sys.stdout.write(json.dumps({"error": error}, ensure_ascii=False) + "\n")
        return
    console = _console(sys.stderr)
    console.print(f"[red]error:[/red] {_escape(failure.message)}")
    if failure.fix:
        console.print(f"  [dim]fix:[/dim] {_escape(failure.fix)}")


def bug(error: BaseException) -> Failure:
    """What nobody foresaw, as a message: the traceback only for those who ask."""
    if os.environ.get("LAUREL_DEBUG"):
        raise error
    return Failure(
        f"this is a fault of laurel itself: {type(error).__name__}: {error}",
        fix="run it again with LAUREL_DEBUG=1 for the details, and report them",
        code=Exit.BUG,
    )


def log_to_file(path: Path) -> None:
    """JSON lines into a file, so that the terminal stays for people."""
    logs.configure(stream=path.open("a", encoding="utf-8", buffering=1))


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
