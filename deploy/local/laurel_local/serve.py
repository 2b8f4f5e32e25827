"""`laurel serve`: one service in a process of its own, in the roles it is given; settings come from the environment."""

from __future__ import annotations

import asyncio
import os
import socket

from starlette.types import Receive, Scope, Send

from laurel import telemetry
from laurel.bus import Bus
from laurel.errors import ConfigurationError
from laurel.migrate import SERVICES, migrate_all
from laurel.process import ROLES, ensure_topics, run_parts, serve_http, stop_on_signals
from laurel.service import Service
from laurel.settings import Settings
from laurel.web import json_response
from laurel_local.up import load_settings, open_bus, open_service


async def serve(service: str, role: str) -> None:
    """Run until SIGTERM or SIGINT. role: api, worker, relay or all."""
    settings = load_settings(service)
    telemetry.configure(service)
    stop = asyncio.Event()
    stop_on_signals(stop)
    roles = ROLES if role == "all" else (role,)
    bus = open_bus(settings.bus_url)
    try:
        async with open_service(service, settings, bus) as opened:
            await _run(opened, settings, bus, roles=roles, stop=stop)
    finally:
        await bus.close()


async def _run(service: Service, settings: Settings, bus: Bus, *, roles: tuple[str, ...], stop: asyncio.Event) -> None:
    health_port = os.environ.get("LAUREL_HEALTH_PORT", "")
    if health_port and not health_port.isdecimal():
        raise ConfigurationError(f"LAUREL_HEALTH_PORT: {health_port!r} is not a port")
    member = os.environ.get("LAUREL_MEMBER", "") or f"{service.name}-{socket.gethostname()}-{'-'.join(roles)}"
    async with asyncio.TaskGroup() as group:
        if "api" in roles:
            group.create_task(serve_http(service.api, host=settings.host, port=settings.port, stop=stop))
        if health_port and "api" not in roles:
            app = Health(service)
            group.create_task(serve_http(app, host=settings.host, port=int(health_port), stop=stop))
        group.create_task(run_parts(service, bus, settings, roles=roles, stop=stop, member=member))


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


async def migrate(admin_dsn: str, password: str, services: tuple[str, ...] = SERVICES) -> None:
    """Roles, schemas and migrations of all services."""
    await migrate_all(admin_dsn, services, password=password)


async def create_topics(bus_url: str) -> None:
    """Create the topics that the bus lacks."""
    bus = open_bus(bus_url)
    try:
        await ensure_topics(bus)
    finally:
        await bus.close()
