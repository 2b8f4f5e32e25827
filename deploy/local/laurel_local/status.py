"""`laurel status`: is everything that runs well, and what waits where?

Readiness is asked over HTTP. What waits is read where it stands: lag on the bus, outboxes and dead letters in the
database (as each service's worker role). Both addresses come from the environment, as for `laurel serve`, or from the
state folder of `laurel up`.
"""

from __future__ import annotations

import os
from typing import Any

import asyncpg
import httpx
from rich.table import Table

from laurel.bus import BusError
from laurel.database import UNAVAILABLE, connect_arguments
from laurel.migrate import SERVICES
from laurel.process import open_bus
from laurel.topics import ACHIEVEMENT, ASSESSMENT, CREDENTIAL, ISSUER, ORGANISATION, Topic
from laurel_local.client import checked
from laurel_local.console import Output
from laurel_local.databases import worker_dsn
from laurel_local.exits import Exit, Failure
from laurel_local.reconcile import RETRY_EMAIL
from laurel_local.state import State
from laurel_local.trust import authorities, distrust

# Every consumer group and what it reads; a test holds this table against the services' own parts lists.
GROUPS: dict[str, tuple[Topic, ...]] = {
    "assessment.access": (ORGANISATION,),
    "assessment.issuers": (ISSUER,),
    "issuer.achievements": (ACHIEVEMENT,),
    "issuer.issuance": (ASSESSMENT,),
    "notifier.access": (ORGANISATION,),
    "notifier.deliveries": (CREDENTIAL,),
    "verifier.access": (ORGANISATION,),
    "verifier.index": (CREDENTIAL,),
    "verifier.issuers": (ISSUER,),
}
_SECONDS = 10.0
_AWAY: tuple[type[BaseException], ...] = (BusError, asyncpg.PostgresError, *UNAVAILABLE)


async def run(state: State, url: str | None, output: Output) -> Exit:
    """OK: all ready. NO: something answers that it is not. UNREACHABLE: something does not answer."""
    known = state.read("state.json")
    address = url or known.get("public_url")
    database = os.environ.get("LAUREL_DATABASE_URL") or known.get("database_url")
    bus = os.environ.get("LAUREL_BUS_URL") or known.get("bus_url")
    if not address and not database:
        fix = "start one with `laurel up`, or give --url, LAUREL_DATABASE_URL and LAUREL_BUS_URL"
        raise Failure("there is no Laurel to ask: no state folder, no --url", fix=fix, code=Exit.USAGE)
    services, reached = await _readiness(checked(str(address).rstrip("/"))) if address else ({}, True)
    lag = await _lag(str(bus)) if bus else None
    stores = {name: await _store(name, str(database)) for name in SERVICES} if database else None
    found = {"url": address, "services": services, "lag": lag, "stores": stores}
    output.result(found)
    if not output.as_json and not reached and stores and all("error" in one for one in stores.values()):
        output.out.print(f"Laurel is not running at {address}. Start it with `laurel up --state {state.folder}`.")
    elif not output.as_json:
        _show(found, output)
    away = not reached or (lag is not None and "error" in lag)
    away = away or any("error" in one for one in (stores or {}).values())
    if away:
        return Exit.UNREACHABLE
    return Exit.OK if all(word == "ready" for word in services.values()) else Exit.NO


async def _readiness(url: str) -> tuple[dict[str, str], bool]:
    try:
        async with httpx.AsyncClient(timeout=_SECONDS, trust_env=False, verify=authorities()) as client:
            answer = await client.get(f"{url}/readyz")
            found = answer.json()
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        untrusted = distrust(url, error)
        said = f"does not answer: {type(error).__name__}" if untrusted is None else f"{untrusted}; {untrusted.fix}"
        return {"gateway": said}, False
    if not isinstance(found, dict):
        return {"gateway": "answers, and not as a Laurel does"}, False
    services = found.get("services")
    if isinstance(services, dict):
        return {str(name): str(word) for name, word in services.items()}, True
    # A gateway that is not ours (deploy/gateway) answers for itself alone.
    return {"gateway": "ready" if answer.status_code == 200 else "unavailable"}, True


async def _lag(url: str) -> dict[str, Any]:
    bus = open_bus(url, request_timeout=_SECONDS)
    try:
        found: dict[str, Any] = {}
        for group, topics in GROUPS.items():
            found[group] = sum((await bus.lag(group, [topic.name for topic in topics])).values())
    except _AWAY as error:
        return {"error": f"{type(error).__name__}: {error}"}
    else:
        return found
    finally:
        await bus.close()


async def _store(service: str, url: str) -> dict[str, Any]:
    dsn = worker_dsn(service, url)
    try:
        connection = await asyncpg.connect(**connect_arguments(dsn, schema=service, timeout=_SECONDS))
    except _AWAY as error:
        return {"error": f"{type(error).__name__}: {error}"}
    try:
        outbox = await connection.fetchrow(
            "SELECT count(*) AS waiting, extract(epoch FROM now() - min(occurred_at))::float8 AS oldest_s FROM outbox"
        )
        dead = await connection.fetch(
            "SELECT consumer, code, count(*) AS n FROM dead_letters "
            "WHERE redriven_at IS NULL AND state <> 'discarded' "
            "GROUP BY consumer, code ORDER BY n DESC"
        )
        mails = []
        if service == "notifier":
            mails = await connection.fetch("SELECT state, count(*) AS n FROM emails GROUP BY state ORDER BY state")
    except _AWAY as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        await connection.close()
    found: dict[str, Any] = {"emails": {row["state"]: row["n"] for row in mails}} if service == "notifier" else {}
    assert outbox is not None  # an aggregate always has a row
    letters = [{"consumer": row["consumer"], "code": row["code"], "count": row["n"]} for row in dead]
    return {"outbox": outbox["waiting"], "oldest_s": outbox["oldest_s"], "dead_letters": letters, **found}


def _show(found: dict[str, Any], output: Output) -> None:
    out = output.out
    out.print(f"{found['url'] or 'no address known'}")
    for name, word in found["services"].items():
        out.print(f"  {name}: {word}")
    if found["lag"] is not None:
        if "error" in found["lag"]:
            out.print(f"The bus cannot be reached: {found['lag']['error']}")
        else:
            table = Table(box=None, title="Lag", title_justify="left")
            table.add_column("consumer group")
            table.add_column("records waiting", justify="right")
            for group, waiting in found["lag"].items():
                table.add_row(group, f"{waiting:,}")
            out.print(table)
    if found["stores"] is not None:
        table = Table(box=None, title="Outbox and dead letters", title_justify="left")
        for column in ("service", "events waiting", "oldest", "dead letters"):
            table.add_column(column, justify="left" if column == "service" else "right")
        for name, store in found["stores"].items():
            if "error" in store:
                table.add_row(name, "–", "–", store["error"])
                continue
            age = "" if store["oldest_s"] is None else f"{store['oldest_s']:.0f} s"
            letters = ", ".join(f"{one['count']} {one['consumer']} {one['code']}" for one in store["dead_letters"])
            table.add_row(name, f"{store['outbox']:,}", age, letters or "0")
        out.print(table)
        mails = found["stores"].get("notifier", {}).get("emails", {})
        if mails:
            out.print("E-mails: " + ", ".join(f"{count:,} {state}" for state, count in mails.items()))
        if mails.get("uncertain") or mails.get("failed"):
            out.print(RETRY_EMAIL)
