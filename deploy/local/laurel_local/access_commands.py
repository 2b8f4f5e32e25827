"""`laurel keys` and `laurel audit`: API keys, and the audit log of an organisation."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laurel import logs
from laurel_local.commands import ApiKey, Json, StateFolder, Url, run_command, state_of
from laurel_local.console import Output
from laurel_local.state import State

if TYPE_CHECKING:
    from laurel_local.client import Client  # its libraries take long to load

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The twelve letters behind `laurel_`.")]


def _client(state: State, url: str | None, api_key: str | None) -> Client:
    from laurel_local.client import Client, connection

    return Client(*connection(state, url, api_key))


keys = typer.Typer(help="API keys of an organisation.", no_args_is_help=True)
audit = typer.Typer(help="The audit log: who did what, as hash chains.", no_args_is_help=True)


@keys.command("list")
def list_keys(url: Url = None, api_key: ApiKey = None, state: StateFolder = None, as_json: Json = False) -> None:
    """Every key: its scopes, its secrets' times, and when which service last saw it."""
    from laurel_local import keys as work

    run_command(work.listed(_client(state_of(state), url, api_key), Output(as_json=as_json)))


@keys.command()
def create(
    label: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[str], typer.Option("--scope", help="Repeat it; `laurel keys list` shows your own.")],
    expires_at: Annotated[datetime | None, typer.Option("--expires-at", help="In UTC; default: never.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is printed this once, alone on stdout."""
    from laurel_local import keys as work

    client = _client(state_of(state), url, api_key)
    run_command(work.created(client, label, scope, expires_at, Output(as_json=as_json)))


@keys.command()
def rotate(
    key_id: KeyId,
    overlap_s: Annotated[
        int, typer.Option("--overlap-s", min=0, help="Seconds for which the older secrets go on. 0: they leaked.")
    ] = 86_400,
    url: Url = None,
    api_key: ApiKey = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Give a key another secret. It is printed this once, alone on stdout; the one before works on for a while."""
    from laurel_local import keys as work

    client = _client(state_of(state), url, api_key)
    run_command(work.rotated(client, key_id, overlap_s, Output(as_json=as_json)))


@keys.command()
def revoke(
    key_id: KeyId, url: Url = None, api_key: ApiKey = None, state: StateFolder = None, as_json: Json = False
) -> None:
    """End a key, all its secrets and its access tokens, in every service within seconds."""
    from laurel_local import keys as work

    run_command(work.revoked(_client(state_of(state), url, api_key), key_id, Output(as_json=as_json)))


@audit.command()
def verify(
    heads: Annotated[
        Path | None,
        typer.Option("--heads", help="What this printed with --json before: is all of it still there?"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", help="Of all organisations: postgres://host/database, without user."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Check every chain against its hashes, and name the first broken entry. Exit code 1 when there is one."""
    from laurel_local import audit_log as work

    logs.configure(level="ERROR")
    output = Output(as_json=as_json)
    if database is not None:
        run_command(work.verify_database(database, heads, output))
    run_command(work.verify(_client(state_of(state), url, api_key), heads, output))


@audit.command()
def export(
    file: Annotated[Path, typer.Argument(help="NDJSON, with each entry's service; must not be there yet. -: stdout.")],
    url: Url = None,
    api_key: ApiKey = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Write the organisation's audit log to a file, checked on the way, and print the heads of its chains."""
    from laurel_local import audit_log as work

    client = _client(state_of(state), url, api_key)
    run_command(work.export(client, file, Output(as_json=as_json)))
