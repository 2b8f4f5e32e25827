"""The `laurel` command: what it takes and what it answers. The work is done in the modules beside it."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from laurel import logs
from laurel.migrate import SERVICES
from laurel_local.access_commands import audit, keys
from laurel_local.commands import (
    ApiKey,
    BusUrl,
    By,
    CourseRun,
    Ids,
    Json,
    Port,
    StateFolder,
    Url,
    fail,
    run_command,
    state_of,
    usage,
)
from laurel_local.console import (
    Output,
    drop_output,
    guard_streams,
    log_to_file,
)
from laurel_local.dlq_commands import Operator, dlq, organisation, period
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
app.add_typer(dlq, name="dlq")
app.add_typer(keys, name="keys")
app.add_typer(audit, name="audit")


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
        usage("--conformance and --tls go together", "give both for a conformance run, neither for anything else")
    folder = State(state or default_folder())
    folder.prepare()
    log_to_file(folder.log_file)
    # A suite reads the issuer's DID from stdout, so a conformance run always answers with JSON.
    output = Output(as_json=as_json or conformance)
    run_command(run_up(folder, port=port, bus_url=bus, output=output, conformance=conformance))


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
    run_command(
        run_demo(folder, learners=learners, leave=leave, port=port, bus_url=bus, output=Output(as_json=as_json))
    )


@app.command()
def serve(
    service: Annotated[str, typer.Argument(help=f"One of: {', '.join(SERVICES)}.")],
    role: Annotated[Literal["api", "worker", "relay", "all"], typer.Option(help="What this process does.")] = "all",
) -> None:
    """Run one service in this process; settings come from LAUREL_* variables."""
    from laurel_local.serve import serve as run_serve

    if service not in SERVICES:
        usage(f"there is no service {service!r}", f"use one of {', '.join(SERVICES)}")
    logs.configure()
    run_command(run_serve(service, role))


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
        usage("no database to migrate", "give --database or set LAUREL_ADMIN_DATABASE_URL")
    logs.configure()
    output = Output(as_json=as_json)

    async def work() -> None:
        await run_migrate(str(database), os.environ.get("LAUREL_DATABASE_PASSWORD", ""))
        output.result({"migrated": list(SERVICES)})

    run_command(work())


@app.command()
def topics(
    bus: Annotated[str | None, typer.Option("--bus", envvar="LAUREL_BUS_URL", help="kafka://… or postgres://…")] = None,
    as_json: Json = False,
) -> None:
    """Create the topics that the bus lacks. Repeatable."""
    from laurel.topics import TOPICS
    from laurel_local.serve import create_topics

    if not bus:
        usage("no bus", "give --bus or set LAUREL_BUS_URL")
    logs.configure()
    output = Output(as_json=as_json)

    async def work() -> None:
        await create_topics(str(bus))
        output.result({"topics": [topic.name for topic in TOPICS]})

    run_command(work())


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
        where = connection(state_of(state), url, api_key, needed=not dry_run)
        return await run_bulk(
            file, url=where[0], api_key=where[1], achievement=achievement, course_run=course_run, dry_run=dry_run,
            output=Output(as_json=as_json),
        )  # fmt: skip

    run_command(work())


@app.command()
def reconcile(
    course_run: CourseRun = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only results recorded on this day (UTC).")
    ] = None,
    by: Annotated[list[str] | None, typer.Option(metavar="course-run|day", help="A line for each; repeatable.")] = None,
    ids: Annotated[
        Ids | None, typer.Option(help="Not the numbers but the ids behind one, a line each; with --json the row.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Compare what is owed, issued and indexed, id by id. Exit code 1 when something is unaccounted for.

    Of the organisation whose API key it is. With --by, --day or --ids every accepted row is followed to its one end.
    """
    from laurel_local.client import Client, connection
    from laurel_local.reconcile import run as run_reconcile

    if unknown := [one for one in by or () if one not in get_args(By)]:
        usage(f"--by {unknown[0]!r} is not known", f"use {' or '.join(get_args(By))}")

    async def work() -> Exit:
        return await run_reconcile(
            Client(*connection(state_of(state), url, api_key)), course_run, Output(as_json=as_json),
            day=None if day is None else day.date(), by=[one for one in get_args(By) if one in (by or ())], ids=ids,
        )  # fmt: skip

    run_command(work())


@app.command()
def erase(
    learner: Annotated[
        str, typer.Option("--learner", help="The platform's own id of the learner; `-`: read it from standard input.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait_s: Annotated[float, typer.Option("--wait-s", min=0, help="Seconds to wait for the other services.")] = 60.0,
    url: Url = None,
    api_key: ApiKey = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Erase a learner for ever: revoke the credentials, and remove what says who it was, in every service.

    Of the organisation whose API key it is (scopes erasures:write and erasures:read). Exit code 1 when the answer
    was no, nothing was known of the learner, or a service is not done yet; 2 where nobody can be asked (no terminal)
    and --yes is not given. See docs/privacy.md.
    """
    from laurel_local.client import Client, connection
    from laurel_local.erase import run as run_erase

    client = Client(*connection(state_of(state), url, api_key))
    run_command(run_erase(client, learner, yes=yes, patience_s=wait_s, output=Output(as_json=as_json)))


@app.command()
def replay(
    consumer: Annotated[str, typer.Option(help="The consumer group, like verifier.index.")],
    since: Annotated[
        str | None, typer.Option("--from", help="From this time on: ISO 8601, or 30m, 2h, 7d ago. [default: the first]")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Before this time: the same. [default: now]")] = None,
    offsets: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC/PARTITION:FROM..TO", help="Only these offsets; repeatable.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this organisation's events, by tenant_id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read and count.")] = False,
    batch: Annotated[int, typer.Option(min=1, max=5000, help="Records at a time.")] = 500,
    by: Operator = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Take kept events through one consumer once more; the running group keeps its place and its offsets.

    Settings as for `laurel serve`, or the state folder's. What was done before changes nothing; what is missing comes
    back. Exit code 4: some events became dead letters.
    """
    from laurel_local.replay import Bounds, offsets_in
    from laurel_local.replay import run as run_replay

    if offsets and (since or until):
        usage("--offsets and times together", "bound it by one of them")
    begin, end = period(since, until)
    tenant = organisation(tenant)
    logs.configure(level="ERROR")

    async def work() -> Exit:
        bounds = Bounds(begin, end, offsets_in(offsets or []), tenant)
        return await run_replay(
            state_of(state), consumer, bounds, dry_run=dry_run, by=by, batch_size=batch, output=Output(as_json=as_json)
        )

    run_command(work())


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
    run_command(run_verify(source, url=url, local=local, output=Output(as_json=as_json)))


@app.command()
def status(url: Url = None, state: StateFolder = None, as_json: Json = False) -> None:
    """Readiness, lag, outboxes and dead letters of a Laurel that runs."""
    from laurel_local.status import run as run_status

    run_command(run_status(state_of(state), url, Output(as_json=as_json)))


@app.command()
def doctor(state: StateFolder = None, as_json: Json = False) -> None:
    """Look for what would keep Laurel from running on this machine, and say how to mend it."""
    from laurel_local.doctor import run as run_doctor

    run_command(run_doctor(state_of(state), Output(as_json=as_json)))


def main() -> None:
    """The entry point that pyproject.toml names."""
    guard_streams()
    as_json = "--json" in sys.argv
    try:
        code = _called(as_json=as_json)
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - the edge of the program
        code = int(fail(error, as_json=as_json))
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
