"""`laurel dlq`: what it takes. The work is done in dlq.py."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer

from laurel.dead_letter_store import YEARS, Which
from laurel.migrate import SERVICES
from laurel.plain_text import is_plain
from laurel_local.commands import Json, StateFolder, is_text, run_command, state_of, usage
from laurel_local.console import Output

dlq = typer.Typer(
    help="Dead letters: events that a consumer could not handle. Asks the databases themselves, as the operator.",
    no_args_is_help=True,
)

_MOST_WORDS = 500  # letters, as the API
MOST = 1_000_000  # letters that one command lists or takes


def _storable(text: str | None) -> str | None:
    """No database holds bytes of the command line that are no text."""
    if text is not None and not is_text(text):
        raise typer.BadParameter(f"{text!r} is no UTF-8. Write it as text; `laurel dlq list` shows what there is.")
    return text


def _said(text: str | None) -> str | None:
    """Words for the record, which others read on their terminals."""
    if text is not None and not is_plain(text):
        raise typer.BadParameter(f"{text!r} holds control characters. Leave them out.")
    if text is not None and len(text) > _MOST_WORDS:
        raise typer.BadParameter(f"it has {len(text)} characters. Say it in {_MOST_WORDS}.")
    return text


Letters = Annotated[list[str] | None, typer.Argument(metavar="[SERVICE/ID]...", help="Letters, as `list` names them.")]
Letter = Annotated[str, typer.Argument(metavar="SERVICE/ID", help="A letter, as `list` names it.")]
Service = Annotated[str | None, typer.Option(help=f"One of: {', '.join(SERVICES)}. [default: all]")]
Consumer = Annotated[str | None, typer.Option(callback=_storable, help="The consumer group, like issuer.issuance.")]
Tenant = Annotated[str | None, typer.Option(help='The organisation\'s tenant_id; "": letters without one.')]
Code = Annotated[str | None, typer.Option(callback=_storable, help="The reason: `laurel dlq reasons` lists them.")]
Topic = Annotated[str | None, typer.Option(callback=_storable, help="Like laurel.assessment.")]
Key = Annotated[str | None, typer.Option(callback=_storable, help="The record's key: mostly the credential id.")]
Since = Annotated[str | None, typer.Option("--from", help="Died at or after: an ISO 8601 time, or 30m, 2h, 7d ago.")]
Until = Annotated[str | None, typer.Option("--to", help="Died before: the same.")]
Operator = Annotated[
    str | None, typer.Option(envvar="LAUREL_OPERATOR", callback=_said, help="Who asks. [default: user@host]")
]


def moment(text: str | None, option: str) -> datetime | None:
    """An ISO 8601 time (UTC where it names no zone), or so long ago: 90s, 30m, 2h, 7d."""
    if text is None:
        return None
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}.get(text[-1:])
    try:
        if unit is not None and text[:-1].isdecimal() and len(text) < 10:
            found = datetime.now(UTC) - timedelta(**{unit: int(text[:-1])})
        else:
            found = datetime.fromisoformat(text)
    except ValueError:
        usage(f"{option} {text!r} is no time", "write it like 2026-05-01T03:00:00Z, or 2h for two hours ago")
    except OverflowError:  # before the year 1
        found = datetime.min.replace(tzinfo=UTC)
    if found.year not in YEARS:
        usage(
            f"{option} {text!r} does not lie between the years {YEARS.start} and {YEARS.stop}",
            "give a time at which Laurel ran, or leave it out",
        )
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def period(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """--from and --to; a period in which nothing can lie ends the command."""
    begin, end = moment(since, "--from"), moment(until, "--to")
    if begin is not None and end is not None and begin >= end:
        usage("--from does not lie before --to, so nothing can match", "exchange them, or leave one out")
    return begin, end


def organisation(tenant_id: str | None) -> str | None:
    """--tenant: a tenant_id, which is a UUID."""
    if tenant_id:
        try:
            return str(uuid.UUID(tenant_id))
        except ValueError:
            usage(f"--tenant {tenant_id!r} is no UUID", "give the organisation's tenant_id, not its slug or name")
    return tenant_id


def letters_in(given: list[str] | None) -> dict[str, list[uuid.UUID]] | None:
    """service → ids, of SERVICE/ID words."""
    if not given:
        return None
    found: dict[str, list[uuid.UUID]] = {}
    for word in given:
        service, _, text = word.partition("/")
        try:
            identifier = uuid.UUID(text)
        except ValueError:
            identifier = None
        if service not in SERVICES or identifier is None or str(identifier) != text.lower():
            example = "issuer/019acf0e-6a30-7c5e-9d3b-2f1c1a6f2b01"
            usage(f"{word!r} names no dead letter", f"copy it from `laurel dlq list`, whole: it looks like {example}")
        found.setdefault(service, []).append(identifier)
    return found


def _services(service: str | None, consumer: str | None) -> tuple[str, ...]:
    if service is not None and service not in SERVICES:
        usage(f"there is no service {service!r}", f"use one of {', '.join(SERVICES)}")
    if consumer is not None:
        of = consumer.partition(".")[0]
        if of not in SERVICES:
            usage(f"there is no consumer {consumer!r}", "it begins with its service, like issuer.issuance")
        if service not in (None, of):
            usage(f"{consumer} is no consumer of {service}", "leave --service out")
        return (of,)
    return SERVICES if service is None else (service,)


def _check_named(named: dict[str, list[uuid.UUID]] | None, everything: bool, *narrowed: str | None) -> None:
    """Letters are named, or narrowed by options, or all are meant."""
    if named is None and not everything and all(one is None for one in narrowed):
        usage("no letters are named", "name some, narrow them (--consumer, --tenant, …), or say --all")
    if named is not None and (everything or any(one is not None for one in narrowed)):
        usage("letters are named and narrowed at once", "give either SERVICE/ID words or options")


@dlq.command("list")
def list_letters(
    service: Service = None,
    consumer: Consumer = None,
    tenant: Tenant = None,
    code: Code = None,
    topic: Topic = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    status: Annotated[
        Literal["waiting", "queued", "redriven", "discarded", "all"], typer.Option(help="Letters in this state.")
    ] = "waiting",
    limit: Annotated[
        int, typer.Option(min=1, max=MOST, help="Letters of each service that are listed; all are counted.")
    ] = 50,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """How many died where and why, and which; those that wait, unless --status says otherwise."""
    from laurel_local.dlq import list_letters as run

    begin, end = period(since, until)
    which = Which(
        states=None if status == "all" else [status], tenant_id=organisation(tenant), consumer=consumer, topic=topic,
        code=code, key=None if key is None else key.encode(), died_from=begin, died_to=end,
    )  # fmt: skip
    services = _services(service, consumer)
    run_command(run(state_of(state), services, which, limit=limit, output=Output(as_json=as_json)))


@dlq.command()
def show(
    letter: Letter,
    raw: Annotated[bool, typer.Option("--raw", help="Only the record's value, byte for byte.")] = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """One letter: its original bytes, what its reason means, what to do, and what was done about it."""
    from laurel_local.dlq import show as run

    ((service, (letter_id,)),) = (letters_in([letter]) or {}).items()
    run_command(run(state_of(state), service, letter_id, raw=raw, output=Output(as_json=as_json)))


@dlq.command()
def redrive(
    letters: Letters = None,
    service: Service = None,
    consumer: Consumer = None,
    tenant: Tenant = None,
    code: Code = None,
    topic: Topic = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    status: Annotated[
        Literal["waiting", "discarded", "redriven"], typer.Option(help="Take letters in this state.")
    ] = "waiting",
    everything: Annotated[bool, typer.Option("--all", help="All letters, where no other option narrows.")] = False,
    most: Annotated[
        int, typer.Option("--max", min=1, max=MOST, help="No more than so many a service, oldest first.")
    ] = 1000,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, max=10_000, help="Letters a second and consumer at most. [default: no limit]"),
    ] = None,
    note: Annotated[str, typer.Option(callback=_said, help="For the record: why.")] = "",
    by: Operator = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until all have ended. Code 4: not all were redriven.")
    ] = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Have letters handled again, each by the consumer that refused it and no other; its workers carry it out."""
    from laurel_local.dlq import redrive as run

    named = letters_in(letters)
    _check_named(named, everything, service, consumer, tenant, code, topic, key, since, until)
    begin, end = period(since, until)
    which = Which(
        states=[status], tenant_id=organisation(tenant), consumer=consumer, topic=topic, code=code,
        key=None if key is None else key.encode(), died_from=begin, died_to=end,
    )  # fmt: skip
    services = _services(service, consumer) if named is None else tuple(named)
    run_command(
        run(
            state_of(state), services, which, named=named, most=most, rate=rate, note=note, by=by, dry_run=dry_run,
            wait=wait, output=Output(as_json=as_json),
        )
    )  # fmt: skip


@dlq.command()
def cancel(
    letters: Letters = None,
    request: Annotated[
        str | None, typer.Option(callback=_storable, help="The redrive's id, as `redrive` and `show` tell it.")
    ] = None,
    service: Service = None,
    consumer: Consumer = None,
    tenant: Tenant = None,
    everything: Annotated[bool, typer.Option("--all", help="All redrives, where no other option narrows.")] = False,
    by: Operator = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Take letters that are queued for a redrive back to what they were. What its consumer has begun is left to it."""
    from laurel_local.dlq import cancel as run

    named = letters_in(letters)
    _check_named(named, everything, request, service, consumer, tenant)
    which = Which(tenant_id=organisation(tenant), consumer=consumer)
    services = _services(service, consumer) if named is None else tuple(named)
    output = Output(as_json=as_json)
    run_command(run(state_of(state), services, which, named=named, request_id=request, by=by, output=output))


@dlq.command()
def discard(
    letter: Letter,
    reason: Annotated[str, typer.Option(callback=_said, help="Why it is to stay unhandled. For the record.")],
    by: Operator = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Let a letter stay unhandled. It is kept, and still accounts for its event."""
    from laurel_local.dlq import discard as run

    if not reason.strip():
        usage("--reason is blank", "say why this event is to stay unhandled")
    ((service, (letter_id,)),) = (letters_in([letter]) or {}).items()
    run_command(run(state_of(state), service, letter_id, reason=reason.strip(), by=by, output=Output(as_json=as_json)))


@dlq.command()
def reasons(as_json: Json = False) -> None:
    """Every reason, what it means, and whether a redrive can help."""
    from laurel_local.dlq import reasons as run

    run_command(run(Output(as_json=as_json)))
