"""A process: which parts of which services it runs, from reading its settings to an orderly stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import structlog
import uvicorn
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from laurel import logs, telemetry
from laurel.bus import Bus, TopicSpec, connect
from laurel.errors import ConfigurationError, Stuck
from laurel.loop import collect_rarely, run
from laurel.service import Engine, Service
from laurel.settings import Settings
from laurel.topics import TOPICS
from laurel.web import json_response

log = structlog.get_logger()

ROLES: tuple[str, ...] = ("api", "worker", "relay")

S = TypeVar("S", bound=Settings)
OpenService = Callable[[S, Bus], AbstractAsyncContextManager[Service]]


def load_settings(kind: type[S], **values: Any) -> S:
    """From `values`, else LAUREL_* variables. Raises ConfigurationError naming each that is missing or wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        wrong = "; ".join(
            f"LAUREL_{'_'.join(str(part) for part in one['loc']).upper()}: {one['msg']}" for one in error.errors()
        )
        hint = "; `laurel secrets` prints fresh keys" if "KEY: Field required" in wrong or "_KEK" in wrong else ""
        raise ConfigurationError(wrong + hint) from None


def open_bus(url: str, **options: float) -> Bus:
    """The bus that a URL names. Raises ConfigurationError for a URL that names none."""
    try:
        return connect(url, **options)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


async def serve(name: str, settings: S, open_service: OpenService[S], *, role: str) -> None:
    """One service in this process until SIGTERM or SIGINT. role: one of ROLES, or "all".

    Raises what a part fails with; the process is then to be started again.
    """
    telemetry.configure(name)
    stop = asyncio.Event()
    stop_on_signals(stop)
    roles = ROLES if role == "all" else (role,)
    health_port = os.environ.get("LAUREL_HEALTH_PORT", "")
    if health_port and not health_port.isdecimal():
        raise ConfigurationError(f"LAUREL_HEALTH_PORT: {health_port!r} is not a port")
    member = os.environ.get("LAUREL_MEMBER", "") or f"{name}-{socket.gethostname()}-{'-'.join(roles)}"
    bus = open_bus(settings.bus_url)
    try:
        async with open_service(settings, bus) as service, asyncio.TaskGroup() as group:
            collect_rarely()
            if "api" in roles:
                group.create_task(serve_http(service.api, host=settings.host, port=settings.port, stop=stop))
            elif health_port:
                health = Health(service)
                group.create_task(serve_http(health, host=settings.host, port=int(health_port), stop=stop))
            group.create_task(run_parts(service, bus, settings, roles=roles, stop=stop, member=member))
    finally:
        await bus.close()


def main(name: str, kind: type[S], open_service: OpenService[S]) -> None:
    """The command line of `python -m laurel_<service>`."""
    parser = argparse.ArgumentParser(prog=f"laurel_{name}", description=f"Laurel's {name}, a process of its own.")
    parser.add_argument("--role", choices=(*ROLES, "all"), default="all")
    role = parser.parse_args().role
    logs.configure()
    try:
        run(serve(name, load_settings(kind), open_service, role=role))
    except ConfigurationError as error:
        sys.exit(f"{name}: {error}")


class Health:
    """/healthz and /readyz of a process without an API: alive while its loop turns, ready with its database."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        status, word = 404, "not found"
        if scope["path"] == "/healthz":
            status, word = 200, "alive"
        elif scope["path"] == "/readyz":
            try:
                await self._service.worker_database.ping()
            except Exception as error:  # noqa: BLE001 - whatever it is, we are not ready
                status, word = 503, f"database: {type(error).__name__}"
            else:
                status, word = 200, "ready"
        await json_response({"status": word}, status)(scope, receive, send)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: one place stops the whole process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    listening: asyncio.Event | None = None,
    tls: tuple[Path, Path] | None = None,
) -> None:
    """Serve until `stop`. `listening` is set once connections are accepted. Raises OSError when the port is taken.

    tls: the PEM files of a certificate and of its key; None for plain http, as behind a gateway.
    """
    # Bound here, so that a taken port is an exception like any other and not uvicorn's sys.exit.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=2048)
    # asyncio sets this only on sockets that name their protocol, which create_server's do not. Connections inherit it;
    # without it each answer waits some 40 ms for its head to be acknowledged (RFC 896, RFC 1122 §4.2.3.2).
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=10,
        server_header=False,
        backlog=2048,
        ssl_certfile=tls[0] if tls is not None else None,
        ssl_keyfile=tls[1] if tls is not None else None,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    stopping = asyncio.create_task(stop.wait())
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn offers a flag, no event
        if listening is not None:
            listening.set()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        bound.close()


async def run_parts(
    service: Service,
    bus: Bus,
    settings: Settings,
    *,
    roles: Iterable[str],
    stop: asyncio.Event,
    member: str = "",
) -> None:
    """Run a service's relay, consumers and workers until `stop`. The API is served by `serve_http`.

    member: this process's name in consumer groups; must differ between processes that run at once.
    """
    name = member or f"{service.name}-{socket.gethostname()}"
    async with asyncio.TaskGroup() as group:
        if "relay" in roles:
            group.create_task(_guarded(f"{service.name} relay", service.relay.run(stop), stop))
        if "worker" in roles:
            for consumer in service.consumers:
                engine: Engine[Any] = Engine(
                    consumer, bus=bus, database=service.worker_database, member_id=f"{name}-{consumer.group}",
                    batch_size=settings.batch_size, stuck_after_s=settings.stuck_after_s,
                )  # fmt: skip
                group.create_task(_guarded(consumer.group, engine.run(stop), stop))
            for worker in service.workers:
                group.create_task(_guarded(f"{service.name} {worker.name}", worker.run(stop), stop))


async def _guarded(name: str, running: Any, stop: asyncio.Event) -> None:
    """A loop that ends before it was told to has failed, however quietly."""
    try:
        await running
    except Exception:
        log.exception("part failed", part=name)
        raise
    if not stop.is_set():
        raise Stuck(f"{name} ended although nobody stopped it")


async def ensure_topics(bus: Bus) -> None:
    """Create the topics that are missing."""
    await bus.ensure_topics(
        TopicSpec(topic.name, topic.partitions, topic.retention_ms, topic.compacted) for topic in TOPICS
    )


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM, SIGINT and SIGHUP (a closed terminal) set `stop`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
