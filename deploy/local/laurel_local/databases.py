"""The databases of a Laurel as its operator reaches them: each service's own, as its worker's role."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from laurel.database import Database, is_unavailable
from laurel.errors import ConfigurationError
from laurel.settings import postgres_url, with_role
from laurel_local.exits import Exit, Failure
from laurel_local.state import State


def database_url(state: State) -> str:
    """LAUREL_DATABASE_URL, else what the state folder of `laurel up` knows. Raises Failure where neither says."""
    url = os.environ.get("LAUREL_DATABASE_URL") or state.read("state.json").get("database_url")
    if not url:
        fix = "start one with `laurel up`, give --state with its folder, or set LAUREL_DATABASE_URL"
        raise Failure("there is no Laurel to ask: no state folder, no LAUREL_DATABASE_URL", fix=fix, code=Exit.USAGE)
    return str(url)


def worker_dsn(service: str, url: str) -> str:
    """The service's database (LAUREL_<SERVICE>_DATABASE_URL gives it one of its own), as its worker's role.

    Raises ConfigurationError.
    """
    own = f"LAUREL_{service.upper()}_DATABASE_URL"
    base = os.environ.get(own, url)
    where = own if own in os.environ else "the database's URL (--database, LAUREL_DATABASE_URL)"
    checked = checked_url(base, where)
    return with_role(checked, f"laurel_{service}_worker", os.environ.get("LAUREL_DATABASE_PASSWORD", ""))


def checked_url(url: str, where: str) -> str:
    """The URL, if it is one of PostgreSQL. where: what gave it. Raises ConfigurationError."""
    try:
        return postgres_url(url)
    except ValueError as error:
        raise ConfigurationError(f"{where} {error}") from None


def worker_database(service: str, state: State) -> AbstractAsyncContextManager[Database]:
    """To be opened with `async with`; raises as `reached`."""
    return reached(service, database_url(state))


@asynccontextmanager
async def reached(service: str, url: str, *, size: int = 2) -> AsyncIterator[Database]:
    """The service's database as its worker's role, once it answers. Raises Failure where it does not."""
    dsn = worker_dsn(service, url)
    async with Database(dsn, schema=service, size=size) as database:
        try:
            async with database.transaction() as tx:
                await tx.fetchval("SELECT 1")
        except Exception as error:
            if not is_unavailable(error):
                raise
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            raise Failure(
                f"the database of {service} cannot be reached at {_place(dsn)} ({why})",
                fix="start it (`laurel up` starts one of its own), or name another with LAUREL_DATABASE_URL",
                code=Exit.UNREACHABLE,
            ) from None
        yield database


def _place(dsn: str) -> str:
    """Where a database is, without what it takes to get in. A folder: of its Unix socket."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query).get("host", [parts.hostname or "this machine"])[0]
    return host if parts.port is None else f"{host}, port {parts.port}"


def operator(name: str | None) -> str:
    """Who asks, for the record."""
    if name:
        return f"operator:{name[:200]}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = f"uid {os.getuid()}"
    return f"operator:{user}@{socket.gethostname()}"
