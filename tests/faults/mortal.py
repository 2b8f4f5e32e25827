"""A Laurel whose processes may die at a crash point at any time, and are started again as a supervisor would."""

from __future__ import annotations

import asyncio
import collections
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiohttp import web
from standardwebhooks import Webhook

from laurel import audit
from laurel.bus import Bus, Record, connect
from laurel.crash_points import EXIT_CODE, VARIABLE
from laurel.migrate import SERVICES, migrate_all
from laurel.paths import service_for
from laurel.process import ensure_topics
from tests.conftest import free_ports
from tests.e2e.cluster import Cluster, Mailbox, settings
from tests.faults import letters
from tests.faults.forks import Forked, Forks

GROUPS = {
    "assessment.access": "laurel.organisation",
    "assessment.issuers": "laurel.issuer",
    "issuer.achievements": "laurel.achievement",
    "issuer.issuance": "laurel.assessment",
    "notifier.access": "laurel.organisation",
    "notifier.deliveries": "laurel.credential",
    "verifier.access": "laurel.organisation",
    "verifier.index": "laurel.credential",
    "verifier.issuers": "laurel.issuer",
}


class Partners:
    """The endpoints of many partners on one port, each with a path and a secret of its own."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.received: collections.defaultdict[str, list[tuple[str, dict[str, Any]]]] = collections.defaultdict(list)
        self.bad_signatures = 0
        self.busy: set[str] = set()  # partners that refuse the first try of each message
        self._refused: set[str] = set()
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Partners]:
        app = web.Application(client_max_size=1 << 22)
        app.router.add_post("/{name}", self._take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        (port,) = free_ports(1)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.read()
        try:
            event = Webhook(self.secrets[name]).verify(body, dict(request.headers))
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is counted
            self.bad_signatures += 1
            return web.Response(status=400)
        message_id = request.headers["webhook-id"]
        if name in self.busy and message_id not in self._refused:
            self._refused.add(message_id)
            return web.Response(status=503)
        self.received[name].append((request.headers["webhook-id"], event))
        return web.Response(status=204)


@dataclass(kw_only=True)
class Mortals(Cluster):
    """Four services, each of which dies where its trap says and comes back without it."""

    forks: Forks
    partners: Partners
    client: httpx.AsyncClient
    admin: asyncpg.Connection
    bus: Bus
    signers: int = 0
    deaths: collections.Counter[str] = field(default_factory=collections.Counter)
    buried_nameless: int = 0  # records without a tenant that were put on the bus to be refused
    token_keys: int = 0  # how often a key for access tokens was due
    _more: list[Forked] = field(default_factory=list)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def _spawn(self, service: str, number: int, role: str) -> Any:
        environment = {
            **self.environment, "LAUREL_PORT": str(self.ports[service]), "LAUREL_MEMBER": f"{service}-{number}",
            "LAUREL_SIGNERS": str(self.signers),
        }  # fmt: skip
        if number == 1:
            environment[VARIABLE] = f"file:{self.trap(service)}"
        return self.forks.start(
            ["serve", service, "--role", role], env=environment, log=self.logs / f"{service}-{number}.log"
        )

    def tail(self, service: str) -> str:
        return "".join(log.read_text(errors="replace")[-3000:] for log in sorted(self.logs.glob(f"{service}-*.log")))

    # -- traps -------------------------------------------------------------------------------------------------------

    def trap(self, service: str) -> Path:
        return self.logs / f"{service}.trap"

    def set_trap(self, service: str, said: str) -> None:
        beside = self.trap(service).with_suffix(".new")
        beside.write_text(said)
        beside.rename(self.trap(service))  # at once: half a trap is never read

    def untripped(self) -> list[str]:
        return [service for service in SERVICES if self.trap(service).exists()]

    # -- supervision -------------------------------------------------------------------------------------------------

    async def supervise(self) -> None:
        """Start again what died at its point. Whatever else ends is a failure."""
        while True:
            for service, process in list(self.processes.items()):
                code = process.poll()
                if code is None:
                    continue
                assert code == EXIT_CODE, (
                    f"{service} ended with {code}, and not at a crash point:\n{self.tail(service)}"
                )
                await self.buried(service)
                self.spawn(service)
            await asyncio.sleep(0.02)

    async def buried(self, service: str) -> None:
        """Count a death, and let the time pass for which a dead worker's deliveries are still held."""
        self.deaths[service] += 1
        if service == "notifier":
            await self.rows("UPDATE notifier.deliveries SET lease_until = now() WHERE lease_until > now()")

    async def again(self, service: str) -> None:
        """Stop a service in order and start it anew. It may come to its point before it hears of it, and die there."""
        process = self.processes.pop(service)
        process.terminate()
        ended = await asyncio.to_thread(process.wait, 30)
        assert ended in (0, EXIT_CODE), self.tail(service)
        if ended:
            await self.buried(service)
        self.spawn(service)

    def join(self, service: str) -> None:
        """One more member of the service's consumer groups, which has no trap."""
        self._more.append(self._spawn(service, 2, "worker"))

    async def part(self) -> None:
        """Stop the further members."""
        while self._more:
            process = self._more.pop()
            process.terminate()
            ended = await asyncio.to_thread(process.wait, 30)
            assert ended in (0, -signal.SIGTERM), f"ended with {ended}"  # the latter: it had not even started yet

    # -- eyes and hands ----------------------------------------------------------------------------------------------

    async def rows(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the database's administrator."""
        async with self._turn:
            return await self.admin.fetch(sql, *arguments)

    async def audit_chain(self, service: str, tenant_id: str) -> list[dict[str, Any]]:
        """A service's audit log of a tenant, as `laurel.audit` reads it."""
        async with self._turn, self.admin.transaction(readonly=True):
            await self.admin.execute(f"SET LOCAL search_path = {service}")
            return await audit.entries(self.admin, tenant_id, limit=100_000)  # type: ignore[arg-type]

    async def insist(self, method: str, path: str, *, key: str, again: Iterable[int] = (), **options: Any) -> Any:
        """What a careful client does: send it until there is an answer. again: answers that also mean "later"."""
        service = service_for(path.split("?")[0])
        assert service is not None, path
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        async with asyncio.timeout(90):
            while True:
                try:
                    answer = await self.client.request(
                        method, f"http://127.0.0.1:{self.ports[service]}{path}", headers=headers, **options
                    )
                except httpx.TransportError:
                    await asyncio.sleep(0.03)
                    continue
                if answer.status_code not in again:
                    break
                await asyncio.sleep(0.1)
        assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer

    async def put_on_bus(self, record: Record) -> None:
        async with self.bus.producer(client_id="test") as producer:
            await producer.send([record])

    async def lag(self) -> int:
        """Records that some group has not committed."""
        waiting = 0
        for group, topic in GROUPS.items():
            waiting += sum((await self.bus.lag(group, [topic])).values())
        return waiting


@asynccontextmanager
async def mortals(*, postgres_dsn: str, bus_url: str, folder: Path) -> AsyncIterator[Mortals]:
    """Migrate, start the services, and look after them."""
    async with AsyncExitStack() as stack:
        await migrate_all(postgres_dsn)
        bus = connect(bus_url)
        stack.push_async_callback(bus.close)
        await ensure_topics(bus)
        mailbox = Mailbox()
        smtp_url = stack.enter_context(mailbox.listening())
        admin = await asyncpg.connect(postgres_dsn)
        stack.push_async_callback(admin.close)
        for statement in letters.FAULT:
            await admin.execute(statement)
        environment = settings(postgres_dsn, bus_url)
        environment |= {"LAUREL_SMTP_URL": smtp_url, "LAUREL_MAIL_FROM": "badges@example.org"}
        laurel = Mortals(
            postgres_dsn, environment, dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True)), folder,
            None,  # type: ignore[arg-type]  # many partners instead of one
            mailbox,
            forks=stack.enter_context(Forks()),
            partners=await stack.enter_async_context(Partners().open()),
            client=await stack.enter_async_context(httpx.AsyncClient(timeout=30, trust_env=False)),
            admin=admin,
            bus=bus,
        )  # fmt: skip
        for service in SERVICES:
            laurel.spawn(service)
        try:
            await laurel.ready()
            async with asyncio.TaskGroup() as group:
                supervisor = group.create_task(laurel.supervise())
                yield laurel
                await laurel.part()
                supervisor.cancel()
        finally:
            codes = laurel.stop()
        assert not any(codes.values()), f"no orderly stop: {codes}"
