"""What all commands share: their options, and how a command's work becomes an exit code or a message."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import asyncpg
import typer

from laurel.bus import BusError, BusUnavailable
from laurel.database import is_unavailable
from laurel.errors import ConfigurationError, LaurelError, Stuck, first_failure
from laurel.loop import run
from laurel.redaction import redact
from laurel_local.console import OutputLost, bug, report_failure
from laurel_local.exits import Exit, Failure
from laurel_local.state import State, default_folder

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
StateFolder = Annotated[Path | None, typer.Option("--state", help="State folder. [default: $LAUREL_STATE or .laurel]")]
_PORT_HELP = (
    "Port. 0: the state folder's, else any free one. [default: the state folder's, else 8080 or the next free one]"
)
Port = Annotated[int | None, typer.Option(min=0, max=65535, help=_PORT_HELP)]
BusUrl = Annotated[str | None, typer.Option("--bus", help="kafka://host:port instead of PostgreSQL as the bus.")]
Url = Annotated[
    str | None, typer.Option("--url", envvar="LAUREL_URL", help="The Laurel to talk to. [default: the state folder's]")
]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", envvar="LAUREL_API_KEY", help="[default: the demo's in the state folder]")
]
By = Literal["course-run", "day"]  # what `laurel reconcile` can be broken down by
Ids = Literal[  # the numbers whose ids it can name
    "accepted", "passed", "issued", "erased", "not_passed", "duplicate", "rejected", "dead_lettered", "waiting",
    "missing", "indexed", "not_indexed",
]  # fmt: skip
CourseRun = Annotated[str | None, typer.Option("--course-run", help="Only this course run.")]


def run_command(work: Coroutine[Any, Any, Exit | None]) -> NoReturn:
    """Run a command's work; its answer becomes the exit code, a foreseen failure a message."""
    as_json = "--json" in sys.argv
    try:
        code = run(work) or Exit.OK
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BaseExceptionGroup as group:
        code = fail(first_failure(group), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the edge of the program: everything becomes a message and a code
        code = fail(error, as_json=as_json)
    raise typer.Exit(int(code))


def fail(error: BaseException, *, as_json: bool) -> Exit:
    """Report an error; the exit code that it leads to."""
    failure = _failure(error)
    report_failure(failure, as_json=as_json)
    return failure.code


def _failure(error: BaseException) -> Failure:
    match error:
        case Failure():
            return error
        case ConfigurationError():
            return Failure(str(error), code=Exit.USAGE)
        case asyncpg.ClientConfigurationError():  # a word of the URL that PostgreSQL's client does not know
            return Failure(f"the database's URL: {redact(str(error))}", fix="correct it", code=Exit.USAGE)
        case OutputLost():
            fix = "run it again with a standard output that takes the answer: nothing is done twice"
            return Failure(str(error), fix=fix, code=Exit.OUTPUT)
        case BusUnavailable():
            return Failure(
                f"the bus cannot be reached: {error}", fix="start the broker, or check --bus", code=Exit.UNREACHABLE
            )
        case Stuck():
            fix = (
                "start it again, nothing accepted is lost; the log says what stood still (docs/runbooks/part-failed.md)"
            )
            return Failure(str(error), fix=fix, code=Exit.STUCK)
        case BusError() | LaurelError():
            return Failure(str(error), code=Exit.NO)
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" ({error.filename})" if error.filename is not None else ""
            return Failure(f"the disk is full{where}", fix="make room, then run it again", code=Exit.USAGE)
        case OSError() if error.filename is not None:  # the network's errors name no file
            fix = "give this user the file and its folder, or choose another place (--state DIR, LAUREL_STATE)"
            return Failure(f"{_printable(error.filename)}: {error.strerror}", fix=fix, code=Exit.USAGE)
        case UnicodeError() if strange := [one for one in sys.argv[1:] if not is_text(one)]:
            return Failure(f"{strange[0]!r} is no UTF-8", fix="write it as text", code=Exit.USAGE)
        case _ if is_unavailable(error):
            return Failure(
                f"a part cannot be reached: {type(error).__name__}: {error}",
                fix="`laurel doctor` looks at this machine, `laurel status` at a running Laurel",
                code=Exit.UNREACHABLE,
            )
        case _:
            return bug(error)


def is_text(word: str) -> bool:
    """Whether these bytes of the command line are UTF-8. Only names of files need not be."""
    return not any("\ud800" <= letter <= "\udfff" for letter in word)


def _printable(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, str | bytes) else str(name)


def state_of(folder: Path | None) -> State:
    """The state folder that was given, or the default."""
    return State(folder or default_folder())


def usage(message: str, fix: str) -> NoReturn:
    """End the command: its command line is wrong."""
    report_failure(Failure(message, fix=fix, code=Exit.USAGE), as_json="--json" in sys.argv)
    raise typer.Exit(int(Exit.USAGE))
