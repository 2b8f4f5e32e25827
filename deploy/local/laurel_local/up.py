"""The composition root of `laurel up`: PostgreSQL, the bus, four services and the gateway, in one process.

The only place that knows that everything runs together; what runs is what `laurel serve` runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from starlette.types import ASGIApp

from laurel import telemetry, watchdog
from laurel.bus import Bus, BusError
from laurel.errors import Stuck
from laurel.health import Health, Metrics
from laurel.http_server import serve_http
from laurel.loop import collect_rarely, do_not_preempt
from laurel.migrate import SERVICES, migrate_all
from laurel.process import (
    ROLES,
    ensure_topics,
    health_port,
    load_settings,
    open_bus,
    run_parts,
    stop_on_signals,
)
from laurel.service import Service
from laurel.settings import Settings
from laurel_local.console import Output
from laurel_local.embedded import Postgres
from laurel_local.exits import Exit, Failure
from laurel_local.gateway import Gateway
from laurel_local.state import State

log = structlog.get_logger()

DEFAULT_PORT = 8080
_END_WITHIN_S = 60.0  # once a part has failed: no hanging part gets more


@dataclass(frozen=True)
class Running:
    """A Laurel that answers. url: where; services: their parts by name."""

    url: str
    port: int
    bus: Bus
    services: Mapping[str, Service]
    secrets: Mapping[str, str]
    notes: tuple[str, ...]
    conformance: Mapping[str, Any] | None = None


def settings_class(service: str) -> type[Settings]:
    """The settings of a service, from its config.py."""
    found: type[Settings] = importlib.import_module(f"laurel_{service}.config").Settings
    return found


def open_service(service: str, settings: Settings, bus: Bus) -> contextlib.AbstractAsyncContextManager[Service]:
    """The service's own startup: `open_service` of its service.py."""
    opened: contextlib.AbstractAsyncContextManager[Service] = importlib.import_module(
        f"laurel_{service}.service"
    ).open_service(settings, bus)
    return opened


# Below those that systems give to outgoing connections: one of these would be some client's at the next start, or even
# before this one listens.
_QUIET_PORTS = range(20_000, 32_000)


def choose_port(state: State, wanted: int | None, host: str) -> int:
    """The port to serve on: the one asked for, else the one that this state folder's badges name, else a free one.

    A badge carries its own address, so a state folder keeps its port. wanted: 0 for any free one, None for 8080 or the
    next free one.
    """
    kept = state.read("state.json").get("port")
    if not wanted and isinstance(kept, int):
        if not _free(host, kept):
            raise Failure(
                f"port {kept} is taken, and the badges of {state.folder} name it in their addresses",
                fix=f"free port {kept}, use --port N (badges issued before keep naming {kept}), or another --state DIR",
                code=Exit.USAGE,
            )
        return kept
    if wanted:
        if not _free(host, wanted):
            raise Failure(f"port {wanted} is taken", fix="free it, or choose another with --port N", code=Exit.USAGE)
        return wanted
    if wanted is None:
        for port in range(DEFAULT_PORT, DEFAULT_PORT + 20):
            if _free(host, port):
                return port
    return next(port for port in random.sample(_QUIET_PORTS, len(_QUIET_PORTS)) if _free(host, port))


def _free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError:
        return False


def _refuse_other_kind(state: State, *, conformance: bool) -> None:
    """A folder for conformance stays one: a key that signs anything for anybody does not meet real badges.

    A folder whose state.json is gone may hold real badges, so it is none for conformance either.
    """
    before = state.read("state.json")
    was_conformance = before.get("conformance") is True
    if conformance and not was_conformance and (before or (state.folder / "postgres").exists()):
        raise Failure(
            f"{state.folder} was used without --conformance",
            fix="use another --state DIR for conformance runs",
            code=Exit.USAGE,
        )
    if was_conformance and not conformance:
        raise Failure(
            f"{state.folder} was used with --conformance",
            fix="use another --state DIR: this one is for conformance runs alone",
            code=Exit.USAGE,
        )


@asynccontextmanager
async def running(
    state: State,
    *,
    port: int | None = None,
    bus_url: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    extra: Mapping[str, ASGIApp] | None = None,
    conformance: bool = False,
) -> AsyncIterator[Running]:
    """Start everything; on leaving stop everything in order: HTTP, consumers and relays, the bus, PostgreSQL.

    overrides: settings by field name, for all services. extra: see Gateway. conformance: serve by https with a
    certificate of our own, and mount the routes of laurel_local.conformance. Raises Failure.
    """
    state.prepare()
    async with AsyncExitStack() as stack:
        stack.enter_context(state.held())
        host = os.environ.get("LAUREL_HOST", "127.0.0.1")
        if bus_url is not None:
            await open_bus(bus_url).close()  # a URL that names no bus is said before anything is made
        before = state.read("state.json").get("public_url")
        chosen = choose_port(state, port, host)
        own_url = f"{'https' if conformance else 'http'}://localhost:{chosen}"
        public_url = own_url if conformance else os.environ.get("LAUREL_PUBLIC_URL") or own_url
        _refuse_other_kind(state, conformance=conformance)
        notes = []
        if before not in (None, public_url):
            notes.append(
                f"This state folder was at {before} before: badges issued there keep naming {before}, and can be "
                f"verified only while Laurel answers there; new ones name {public_url}."
            )
        secrets = state.secrets()
        postgres = await stack.enter_async_context(Postgres(state.folder))
        addresses = {"database_url": postgres.dsn(), "bus_url": bus_url or postgres.dsn()}
        state.write("state.json", {"port": chosen, "public_url": public_url, "conformance": conformance, **addresses})
        await migrate_all(postgres.dsn())
        bus = open_bus(bus_url or postgres.dsn())
        stack.push_async_callback(bus.close)
        try:
            await ensure_topics(bus)
        except BusError as error:
            raise Failure(
                f"the bus {bus_url or 'in PostgreSQL'} does not answer: {error}",
                fix="start the broker (`make kafka`), or leave --bus out to use PostgreSQL",
                code=Exit.UNREACHABLE,
            ) from None
        values = {
            "bus_url": bus_url or postgres.dsn(),
            "database_url": postgres.dsn(),
            "public_url": public_url,
            "host": host,
            "port": chosen,
            **{name.removeprefix("LAUREL_").lower(): value for name, value in secrets.items()},
            **(overrides or {}),
        }
        telemetry.configure("local")
        services: dict[str, Service] = {}
        settings: dict[str, Settings] = {}
        for name in SERVICES:
            settings[name] = load_settings(settings_class(name), **values)
            services[name] = await stack.enter_async_context(open_service(name, settings[name], bus))
        mounted = dict(extra or {})
        announcement: dict[str, Any] | None = None
        tls: tuple[Path, Path] | None = None
        if conformance:
            # Imported here and nowhere else: without the flags the code is not even loaded.
            from laurel_local.conformance.start import PREFIX, open_conformance
            from laurel_local.conformance.tls import write_certificate

            tls = write_certificate(state.folder)
            opened = open_conformance(services["verifier"].database, settings["verifier"], base_url=public_url)
            routes = await stack.enter_async_context(opened)
            mounted[PREFIX], announcement = routes.app, routes.announcement
        do_not_preempt()
        stack.enter_context(watchdog.guard_loop(blocked_after_s=settings["issuer"].stuck_after_s))
        gateway = Gateway({name: service.api for name, service in services.items()}, extra=mounted)
        listening = asyncio.Event()
        halt = asyncio.Event()
        failure: Exception | None = None
        async with asyncio.TaskGroup() as parts:
            parts.create_task(
                serve_http(
                    gateway,
                    host=host,
                    port=chosen,
                    stop=halt,
                    listening=listening,
                    tls=tls,
                    proxies=settings["verifier"].trusted_proxies,
                ),
                name="gateway",
            )
            for name, service in services.items():
                running = run_parts(service, bus, settings[name], roles=ROLES, stop=halt, end_within_s=_END_WITHIN_S)
                parts.create_task(running, name=name)
            if (watched := health_port()) is not None:
                # Beside the gateway: what it says of itself is nothing for everybody who reads a badge.
                health = Metrics(Health(*(service.worker_database for service in services.values())))
                parts.create_task(serve_http(health, host=host, port=watched, stop=halt), name="health")
            parts.create_task(_watch(postgres, halt), name="postgres")
            try:
                await listening.wait()
                log.info("up", url=public_url)
                yield Running(public_url, chosen, bus, services, secrets, (*notes, *postgres.notes), announcement)
            except Exception as error:  # noqa: BLE001 - raised again below, once the parts have stopped in order
                failure = error
            finally:
                halt.set()
        if failure is not None:
            raise failure


async def _watch(postgres: Postgres, halt: asyncio.Event) -> None:
    """End everything when the database is gone: nothing can be done without it."""
    while not halt.is_set():
        if postgres.dead:
            raise Stuck("PostgreSQL ended although nobody stopped it; start laurel again, nothing accepted is lost")
        try:
            async with asyncio.timeout(1.0):
                await halt.wait()
        except TimeoutError:
            continue


async def up(state: State, *, port: int | None, bus_url: str | None, output: Output, conformance: bool = False) -> None:
    """`laurel up`: run until Ctrl-C, or until a part fails: then everything ends, in order, with Exit.STUCK.

    It does not start a failed part again by itself: whatever runs `laurel up` (systemd, a container) starts all anew.
    """
    stop = asyncio.Event()
    stop_on_signals(stop)
    async with running(state, port=port, bus_url=bus_url, conformance=conformance) as laurel:
        collect_rarely()
        for note in laurel.notes:
            output.note(note)
        announced: dict[str, Any] = {"url": laurel.url, "port": laurel.port, "state": str(state.folder)}
        if laurel.conformance is not None:
            announced |= {"issuer": laurel.conformance["issuer"], "conformance": laurel.conformance}
            output.note("CONFORMANCE: this Laurel signs anything for anybody who reaches it. For test suites alone.")
        output.result(announced, line=True)
        output.note(f"Laurel is up at {laurel.url}. API docs: {', '.join(docs_urls(laurel.url))}")
        output.note(f"State, secrets and log: {state.folder}. Ctrl-C stops it.")
        await stop.wait()
        output.note("Stopping; Ctrl-C again ends at once.")


def docs_urls(base: str) -> list[str]:
    """The API documentation of each service."""
    return [f"{base}/{name}/v1/docs" for name in SERVICES]
