"""The whole of Laurel as users run it: every service a process of its own, a real database, a real bus, real sinks."""

from __future__ import annotations

import asyncio
import base64
import collections
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiohttp import web
from aiosmtpd.controller import Controller
from standardwebhooks import Webhook

from laurel.bus import connect
from laurel.migrate import SERVICES, migrate_all
from laurel.paths import service_for
from laurel.process import ensure_topics
from tests.conftest import free_ports

OPERATOR = "operator-token-of-the-tests"
PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Sink:
    """A partner: takes webhooks, checks their signatures, and remembers every request."""

    def __init__(self) -> None:
        self.secret = ""
        self.received: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.bad_signatures = 0
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Sink:
        app = web.Application(client_max_size=1 << 22)
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        (port,) = free_ports(1)
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            event = Webhook(self.secret).verify(body, headers)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is counted
            self.bad_signatures += 1
            return web.Response(status=400)
        self.received.append((headers["webhook-id"], event, headers))
        return web.Response(status=204)


class Mailbox:
    """An SMTP server that remembers to whom each message went."""

    def __init__(self) -> None:
        self.recipients: collections.Counter[str] = collections.Counter()
        self.messages: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.recipients.update(envelope.rcpt_tos)
        self.messages.append(envelope.content)
        return "250 OK"

    @contextmanager
    def listening(self) -> Iterator[str]:
        (port,) = free_ports(1)
        controller = Controller(self, hostname="127.0.0.1", port=port)
        controller.start()
        try:
            yield f"smtp://127.0.0.1:{port}"
        finally:
            controller.stop()


@dataclass
class Cluster:
    """Processes, and a client that finds the right one by its path as the gateway does."""

    admin_dsn: str
    environment: dict[str, str]
    ports: dict[str, int]
    logs: Path
    sink: Sink
    mailbox: Mailbox
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: collections.Counter[str] = field(default_factory=collections.Counter)
    overrides: dict[str, dict[str, str]] = field(default_factory=dict)  # by service, on top of `environment`
    api_key: str = ""
    tenant_id: str = ""
    achievement_id: str = ""

    def spawn(self, service: str) -> None:
        self.starts[service] += 1
        self.processes[service] = self._spawn(service, 1, "all")

    def spawn_worker(self, service: str, number: int) -> subprocess.Popen[bytes]:
        """One more process of a service, that consumes and delivers; its caller ends it."""
        return self._spawn(service, number, "worker")

    def _spawn(self, service: str, number: int, role: str) -> subprocess.Popen[bytes]:
        member = {"LAUREL_PORT": str(self.ports[service]), "LAUREL_MEMBER": f"{service}-{number}"}
        member |= self.overrides.get(service, {})
        with (self.logs / f"{service}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "laurel_local.cli", "serve", service, "--role", role],
                env={**self.environment, **member}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self, service: str) -> None:
        process = self.processes[service]
        assert process.poll() is None, f"{service} had ended by itself:\n{self.tail(service)}"
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def stop(self) -> dict[str, int]:
        """SIGTERM to all; their exit codes."""
        for process in self.processes.values():
            process.terminate()
        codes = {}
        for service, process in self.processes.items():
            try:
                codes[service] = process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[service] = process.wait(10)
        return codes

    def tail(self, service: str) -> str:
        return (self.logs / f"{service}.log").read_text(errors="replace")[-3000:]

    async def request(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        service = service_for(path.split("?")[0])
        assert service is not None, path
        headers = {"Authorization": f"Bearer {key or self.api_key}", **options.pop("headers", {})}
        url = f"http://127.0.0.1:{self.ports[service]}{path}"
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            return await client.request(method, url, headers=headers, **options)

    async def call(self, method: str, path: str, expected: int, **options: Any) -> Any:
        """The JSON answer; fails when the status differs."""
        answer = await self.request(method, path, **options)
        assert answer.status_code == expected, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer.json() if answer.content else None

    async def ready(self, *services: str) -> None:
        for service in services or SERVICES:
            url = f"http://127.0.0.1:{self.ports[service]}/readyz"
            deadline = time.monotonic() + 60
            while True:
                process = self.processes[service]
                assert process.poll() is None, f"{service} ended with {process.returncode}:\n{self.tail(service)}"
                try:
                    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
                        if (await client.get(url)).status_code == 200:
                            break
                except httpx.TransportError:
                    pass
                assert time.monotonic() < deadline, f"{service} does not become ready:\n{self.tail(service)}"
                await asyncio.sleep(0.1)

    async def organise(self) -> None:
        """An organisation with a profile, a key, an achievement and a partner's endpoint."""
        made = await self.call(
            "POST", "/issuer/v1/organisations", 201, key=OPERATOR, json={"slug": "uni", "name": "University"}
        )
        self.api_key, self.tenant_id = made["api_key"]["text"], made["tenant_id"]
        profile = await self.call(
            "POST", "/issuer/v1/profiles", 201,
            json={"slug": "uni", "name": "University", "url": "https://university.example.org"},
        )  # fmt: skip
        await self.call("POST", f"/issuer/v1/profiles/{profile['profile_id']}/keys", 201)
        achievement = await self.call(
            "POST", "/assessment/v1/achievements", 201,
            json={
                "profile_id": profile["profile_id"], "name": "Data literacy", "description": "Questions data.",
                "criteria": {"narrative": "60 points or more in the final test."}, "image": PNG,
                "policy": {"minimum_score": 60, "max_attempts": 3},
            },
        )  # fmt: skip
        self.achievement_id = achievement["achievement_id"]
        endpoint = await self.call(
            "POST", "/notifier/v1/endpoints", 201,
            json={"url": self.sink.url, "event_types": ["credential.issued", "credential.revoked"]},
        )  # fmt: skip
        self.sink.secret = endpoint["secret"]

    async def database(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Read as the administrator: the test's own eyes, not the services' counters."""
        connection = await asyncpg.connect(self.admin_dsn)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def until(self, what: str, reached: Callable[[], Any], seconds: float = 120.0) -> None:
        """Wait for a condition (a coroutine function that answers a truth value)."""
        deadline = time.monotonic() + seconds
        while not await reached():
            for service, process in self.processes.items():
                assert process.poll() is None, f"{service} ended with {process.returncode}:\n{self.tail(service)}"
            assert time.monotonic() < deadline, f"never reached: {what}\n" + "\n".join(map(self.tail, SERVICES))
            await asyncio.sleep(0.2)


def settings(postgres_dsn: str, bus_url: str) -> dict[str, str]:
    """The environment of a cluster's processes, with fresh secrets and no mail server."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LAUREL_", "OTEL_"))},
        "LAUREL_BUS_URL": bus_url,
        "LAUREL_DATABASE_URL": postgres_dsn,
        "LAUREL_PUBLIC_URL": "https://badges.example.org",
        "LAUREL_OPERATOR_TOKEN": OPERATOR,
        "LAUREL_ALLOW_NETWORKS": "127.0.0.0/8",
        **{f"LAUREL_{name}": base64.b64encode(os.urandom(32)).decode() for name in ("ID_KEY", "CONTACT_KEY", "KEK")},
    }


@asynccontextmanager
async def cluster(*, postgres_dsn: str, bus_url: str, logs: Path) -> AsyncIterator[Cluster]:
    """Migrate, create the topics, start all four services, and wait until they answer."""
    await migrate_all(postgres_dsn)
    bus = connect(bus_url)
    await ensure_topics(bus)
    await bus.close()
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    mailbox = Mailbox()
    with mailbox.listening() as smtp_url:
        async with Sink() as sink:
            environment = settings(postgres_dsn, bus_url)
            environment |= {"LAUREL_SMTP_URL": smtp_url, "LAUREL_MAIL_FROM": "badges@example.org"}
            made = Cluster(postgres_dsn, environment, ports, logs, sink, mailbox)
            try:
                for service in SERVICES:
                    made.spawn(service)
                await made.ready()
                yield made
            finally:
                codes = made.stop()
                leftover = {service: code for service, code in codes.items() if code != 0}
            assert not leftover, f"no orderly stop: {leftover}\n" + "\n".join(map(made.tail, leftover))
