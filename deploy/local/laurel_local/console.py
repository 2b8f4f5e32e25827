"""What a person or a script reads: results on stdout, everything else on stderr, colour on a terminal alone.

Names of files, credentials, a server's errors are strangers' words: `[` in them is no markup, and nothing in them moves
a cursor or turns text around.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import ProgressColumn, Task
from rich.segment import Segment
from rich.text import Text

from laurel import logs
from laurel.plain_text import legible
from laurel.redaction import redact
from laurel_local.exits import Exit, Failure
from laurel_local.state import open_log

_WIDE = 160  # off a terminal: wide enough that no table cuts its cells


class OutputLost(Exception):
    """Standard output cannot be written: its reader is gone, its disk is full, or it was closed from the start."""


class Stream:
    """Standard output or error as the command writes to it.

    What cannot be encoded is escaped. A broken standard output raises OutputLost: as an OSError it would look like a
    server out of reach. A broken standard error is nobody's loss.
    """

    def __init__(self, target: TextIO | None, *, needed: bool) -> None:
        self._target = target
        self._needed = needed
        if target is not None and hasattr(target, "reconfigure"):
            target.reconfigure(errors="backslashreplace")

    @property
    def encoding(self) -> str:
        """The encoding of what is written."""
        return getattr(self._target, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write text."""
        try:
            if self._target is not None:
                return self._target.write(text)
        except (OSError, ValueError) as error:
            self._lost(error)
        else:
            self._lost(None)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand over what was written."""
        try:
            if self._target is not None:
                self._target.flush()
        except (OSError, ValueError) as error:
            self._lost(error)

    def isatty(self) -> bool:
        """Whether a person reads."""
        try:
            return self._target is not None and self._target.isatty()
        except ValueError:
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def _lost(self, error: Exception | None) -> None:
        if self._needed:
            reason = "it is closed" if error is None else getattr(error, "strerror", None) or str(error)
            raise OutputLost(f"standard output cannot be written: {reason}") from None


def guard_streams() -> None:
    """Replace sys.stdout and sys.stderr by Streams. At the start of the program, once."""
    for _ in range(3):  # a descriptor that was closed must not become that of the next file opened
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:
            os.close(descriptor)
            break
    sys.stdout = cast(TextIO, Stream(sys.stdout, needed=True))
    sys.stderr = cast(TextIO, Stream(sys.stderr, needed=False))


def drop_output() -> None:
    """What is still buffered goes nowhere: the interpreter must not complain about it at its end."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


class _Plain(Console):
    """A console on which text is text: what no terminal prints stands there as U+FFFD, wherever it comes from."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Console's."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(legible, segment.text.split("\n"))), segment.style)


def _console(stream: TextIO) -> Console:
    terminal = stream.isatty()
    return _Plain(
        file=stream,
        force_terminal=None if terminal else False,
        no_color=None if terminal else True,
        width=None if terminal else _WIDE,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,
    )


class Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """Nothing until it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "")


class Output:
    """Where a command writes. as_json: stdout carries one JSON document and nothing else."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    def note(self, text: str) -> None:
        """A line for whoever watches; never part of the result."""
        self.err.print(text)

    def result(self, value: Any, *, line: bool = False) -> None:
        """The machine's result, where it was asked for. line: on one line, by a command that then goes on running."""
        if self.as_json:
            _write_json(value, indent=None if line else 1)


def _write_json(value: Any, *, indent: int | None = None) -> None:
    # Escapes of Python's are no JSON: where the stream cannot hold a letter, JSON's own escape stands for it.
    unicode = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
    text = json.dumps(value, indent=indent, ensure_ascii=not unicode)
    sys.stdout.write(_UNUSUAL.sub(_escaped, text) + "\n")
    sys.stdout.flush()


_UNUSUAL = re.compile("[^\n -~]")


def _escaped(found: re.Match[str]) -> str:
    """What a terminal may act on instead of showing it, as JSON's escape: json.dumps does so below U+0020 alone."""
    letter = found[0]
    if letter.isprintable():
        return letter
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def write_bytes(raw: bytes) -> None:
    """Onto standard output, as they are. Raises OutputLost."""
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputLost(f"standard output cannot be written: {reason}") from None


def report_failure(failure: Failure, *, as_json: bool) -> None:
    """The same three facts for both readers: what happened, what to do, which exit code."""
    message, fix = redact(failure.message), redact(failure.fix)
    if as_json and failure.code is not Exit.OUTPUT:
        error = {"code": failure.code.name.lower(), "exit": int(failure.code), "detail": message}
        if fix:
            error["fix"] = fix
        _write_json({"error": error})
        return
    console = _console(sys.stderr)
    console.print(Text.assemble(("error:", "red"), " ", message))
    if fix:
        console.print(Text.assemble("  ", ("fix:", "dim"), " ", fix))


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
    logs.configure(stream=os.fdopen(open_log(path), "a", encoding="utf-8", buffering=1))
