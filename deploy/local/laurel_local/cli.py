"""The `laurel` command: what it takes and what it answers. The work is done in the modules beside it."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from laurel import logs
from laurel.bus import BusError, BusUnavailable
from laurel.database import is_unavailable
from laurel.errors import ConfigurationError, LaurelError, Stuck, first_failure
from laurel.loop import run
from laurel.migrate import SERVICES
from laurel_local.console import (
    Output,
    OutputLost,
    bug,
    drop_output,
    guard_streams,
    log_to_file,
    report_failure,
)
from laurel_local.exits import MEANINGS, Exit, Failure
from laurel_local.state import State, default_folder, new_secrets

_CODES = "\n".join(f"- {int(code)}: {meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="laurel",
    help=f"Issue, deliver and verify Open Badges.\n\n**Exit codes**\n\n{_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)
issue = typer.Typer(help="Send results to a Laurel, as a learning platform would.", no_args_is_help=True)
app.add_typer(issue, name="issue")

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
CourseRun = Annotated[str | None, typer.Option("--course-run", help="Only this course run.")]


def _run(work: Coroutine[Any, Any, Exit | None]) -> NoReturn:
    """Run a command's work; its answer becomes the exit code, a foreseen failure a message."""
    as_json = "--json" in sys.argv
    try:
        code = run(work) or Exit.OK
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BaseExceptionGroup as group:
        code = _fail(first_failure(group), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the edge of the program: everything becomes a message and a code
        code = _fail(error, as_json=as_json)
    raise typer.Exit(int(code))


def _fail(error: BaseException, *, as_json: bool) -> Exit:
    failure = _failure(error)
    report_failure(failure, as_json=as_json)
    return failure.code


def _failure(error: BaseException) -> Failure:
    match error:
        case Failure():
            return error
        case ConfigurationError():
            return Failure(str(error), code=Exit.USAGE)
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
        case _ if is_unavailable(error):
            return Failure(
                f"a part cannot be reached: {type(error).__name__}: {error}",
                fix="`laurel doctor` looks at this machine, `laurel status` at a running Laurel",
                code=Exit.UNREACHABLE,
            )
        case _:
            return bug(error)


def _printable(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, str | bytes) else str(name)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"laurel {importlib.metadata.version('laurel')}\n")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


# --- run ----------------------------------------------------------------------------------------------------


@app.command()
def up(
    state: StateFolder = None,
    port: Port = None,
    bus: BusUrl = None,
    conformance: Annotated[
        bool, typer.Option("--conformance", help="Also serve /conformance/ for test suites. Only with --tls.")
    ] = False,
    tls: Annotated[
        bool, typer.Option("--tls", help="HTTPS with a self-signed certificate. Only with --conformance.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run everything on one port, in one process, with PostgreSQL from its wheel. Ctrl-C stops it."""
    from laurel_local.up import up as run_up

    if conformance is not tls:
        _usage("--conformance and --tls go together", "give both for a conformance run, neither for anything else")
    folder = State(state or default_folder())
    folder.prepare()
    log_to_file(folder.log_file)
    # A suite reads the issuer's DID from stdout, so a conformance run always answers with JSON.
    output = Output(as_json=as_json or conformance)
    _run(run_up(folder, port=port, bus_url=bus, output=output, conformance=conformance))


@app.command()
def demo(
    learners: Annotated[int | None, typer.Option(min=1, help="Also this many made-up learners.")] = None,
    leave: Annotated[bool, typer.Option("--exit", help="End when the numbers are known.")] = False,
    state: StateFolder = None,
    port: Port = None,
    bus: BusUrl = None,
    as_json: Json = False,
) -> None:
    """Take a course's results from file to verifiable badges, and show what became of each."""
    from laurel_local.demo.demo import run_demo

    folder = State(state or default_folder())
    folder.prepare()
    log_to_file(folder.log_file)
    _run(run_demo(folder, learners=learners, leave=leave, port=port, bus_url=bus, output=Output(as_json=as_json)))


@app.command()
def serve(
    service: Annotated[str, typer.Argument(help=f"One of: {', '.join(SERVICES)}.")],
    role: Annotated[Literal["api", "worker", "relay", "all"], typer.Option(help="What this process does.")] = "all",
) -> None:
    """Run one service in this process; settings come from LAUREL_* variables."""
    from laurel_local.serve import serve as run_serve

    if service not in SERVICES:
        _usage(f"there is no service {service!r}", f"use one of {', '.join(SERVICES)}")
    logs.configure()
    _run(run_serve(service, role))


@app.command()
def migrate(
    database: Annotated[
        str | None,
        typer.Option("--database", envvar="LAUREL_ADMIN_DATABASE_URL", help="postgres://admin@host/database"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring roles, schemas and tables of all services up to date. Repeatable; run it before anything starts."""
    from laurel_local.serve import migrate as run_migrate

    if not database:
        _usage("no database to migrate", "give --database or set LAUREL_ADMIN_DATABASE_URL")
    logs.configure()
    output = Output(as_json=as_json)

    async def work() -> None:
        await run_migrate(str(database), os.environ.get("LAUREL_DATABASE_PASSWORD", ""))
        output.result({"migrated": list(SERVICES)})

    _run(work())


@app.command()
def topics(
    bus: Annotated[str | None, typer.Option("--bus", envvar="LAUREL_BUS_URL", help="kafka://… or postgres://…")] = None,
    as_json: Json = False,
) -> None:
    """Create the topics that the bus lacks. Repeatable."""
    from laurel.topics import TOPICS
    from laurel_local.serve import create_topics

    if not bus:
        _usage("no bus", "give --bus or set LAUREL_BUS_URL")
    logs.configure()
    output = Output(as_json=as_json)

    async def work() -> None:
        await create_topics(str(bus))
        output.result({"topics": [topic.name for topic in TOPICS]})

    _run(work())


@app.command(name="secrets")
def print_secrets(as_json: Json = False) -> None:
    """Print fresh secrets as lines for an environment file. Each call makes new ones; nothing is stored."""
    values = new_secrets()
    output = Output(as_json=as_json)
    output.result(values)
    if not as_json:
        sys.stdout.writelines(f"{name}={value}\n" for name, value in values.items())


# --- work with one that runs ---------------------------------------------------------------------------------


@issue.command()
def bulk(
    file: Annotated[
        Path, typer.Argument(help="Results as CSV (header first) or NDJSON (.ndjson, .jsonl); - for stdin.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row; send nothing.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    achievement: Annotated[str | None, typer.Option(help="For rows that name none: its id or URL.")] = None,
    course_run: Annotated[str | None, typer.Option("--course-run", help="For rows that name none.")] = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Send a file of results. Run again after an interruption: nothing is doubled. Refused rows: FILE.rejected.csv."""
    from laurel_local.bulk import run as run_bulk
    from laurel_local.client import connection

    async def work() -> Exit:
        where = connection(_state(state), url, api_key, needed=not dry_run)
        return await run_bulk(
            file, url=where[0], api_key=where[1], achievement=achievement, course_run=course_run, dry_run=dry_run,
            output=Output(as_json=as_json),
        )  # fmt: skip

    _run(work())


@app.command()
def reconcile(
    course_run: CourseRun = None,
    url: Url = None,
    api_key: ApiKey = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Compare what is owed, issued and indexed, id by id. Exit code 1 when something is unaccounted for."""
    from laurel_local.client import Client, connection
    from laurel_local.reconcile import run as run_reconcile

    async def work() -> Exit:
        return await run_reconcile(
            Client(*connection(_state(state), url, api_key)), course_run, Output(as_json=as_json)
        )

    _run(work())


@app.command()
def verify(
    source: Annotated[
        str, typer.Argument(metavar="FILE|URL|-", help="JSON, a JWT, a baked PNG or SVG, or a QR code's text.")
    ],
    url: Annotated[
        str | None,
        typer.Option("--url", envvar="LAUREL_URL", help="Ask this Laurel. [default: check here, without one]"),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Also look up issuers on this machine, by plain http: badges of a demo.")
    ] = False,
    batch: Annotated[
        bool, typer.Option("--batch", help="FILE is NDJSON: a credential a line. With --json an answer a line.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether a credential is valid, step by step. Exit codes: 0 valid, 1 not, 3 could not be checked.

    With --url it is that Laurel's verdict. Without it no index is known, only what the issuer publishes: "revoked" may
    then mean suspended, where the badge has no list of its own for suspension.
    """
    if batch:
        from laurel_local.verify_batch import run as run_verify
    else:
        from laurel_local.verify import run as run_verify

    logs.configure(level="ERROR")
    _run(run_verify(source, url=url, local=local, output=Output(as_json=as_json)))


@app.command()
def status(url: Url = None, state: StateFolder = None, as_json: Json = False) -> None:
    """Readiness, lag, outboxes and dead letters of a Laurel that runs."""
    from laurel_local.status import run as run_status

    _run(run_status(_state(state), url, Output(as_json=as_json)))


@app.command()
def doctor(state: StateFolder = None, as_json: Json = False) -> None:
    """Look for what would keep Laurel from running on this machine, and say how to mend it."""
    from laurel_local.doctor import run as run_doctor

    _run(run_doctor(_state(state), Output(as_json=as_json)))


def _state(folder: Path | None) -> State:
    return State(folder or default_folder())


def _usage(message: str, fix: str) -> NoReturn:
    report_failure(Failure(message, fix=fix, code=Exit.USAGE), as_json="--json" in sys.argv)
    raise typer.Exit(int(Exit.USAGE))


def main() -> None:
    """The entry point that pyproject.toml names."""
    guard_streams()
    as_json = "--json" in sys.argv
    try:
        code = _called(as_json=as_json)
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - the edge of the program
        code = int(_fail(error, as_json=as_json))
    if code == Exit.OUTPUT:
        drop_output()
    sys.exit(code)


def _called(*, as_json: bool) -> int:
    """Typer's own reading of the command line; what is wrong with it is JSON too where that was asked for."""
    try:
        answer = app(standalone_mode=not as_json)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(Exit.OK if end.code is None else Exit.USAGE)
    except typer.Abort:
        return int(Exit.INTERRUPTED)
    except Exception as error:
        message = getattr(error, "format_message", None)  # what Typer says of a command line, without its box
        if message is None:
            raise
        raise Failure(str(message()), fix="`laurel COMMAND --help` lists what it takes", code=Exit.USAGE) from None
    return answer if isinstance(answer, int) else int(Exit.OK)


if __name__ == "__main__":
    main()
