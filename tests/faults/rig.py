"""What a fault run runs on: every service a process of its own, each behind its own proxies, and somebody who restarts.

    service ──▶ Link postgres-SERVICE ──▶ PostgreSQL          (on a disk of its own that can be filled, when root)
    service ──▶ Link bus-SERVICE ──▶ PostgreSQL, or all ──▶ Link kafka ──▶ Kafka
    notifier ──▶ Link partner ──▶ partners    notifier ──▶ Link mail ──▶ SMTP

`Supervisor` does what an operator's restart policy does: whatever ended is started again, databases and brokers too.
"""

from __future__ import annotations

import asyncio
import collections
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg

from laurel.bus import connect
from laurel.migrate import SERVICES, migrate_all
from laurel.process import ensure_topics
from laurel_local.embedded import Postgres
from laurel_local.exits import Failure
from tests.conftest import KafkaBroker, free_ports, missing_for_kafka
from tests.e2e.cluster import Cluster, Mailbox, settings
from tests.faults.disk import Disk
from tests.faults.proxy import Link

CLOCK = Path(__file__).parent / "clock"
_RESTART_S = 0.3
_GIVE_UP_S = 120.0


class Server(Postgres):
    """PostgreSQL that is stopped without a goodbye and started again."""

    @property
    def socket(self) -> str:
        return str(self._run / ".s.PGSQL.5432")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def crash(self, number: signal.Signals) -> None:
        """SIGQUIT: an immediate stop; SIGKILL: the postmaster's death. Returns when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(30)

    async def start_again(self) -> None:
        """Until it is ready: a full disk or children of before may make it fail at first."""
        deadline = time.monotonic() + _GIVE_UP_S
        while True:
            try:
                if self.dead:
                    await asyncio.to_thread(self._launch)
                await self._wait_until_ready()
                return
            except (Failure, OSError, asyncpg.PostgresError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)


@dataclass
class Rig:
    """A running installation and its handles."""

    bus: str
    folder: Path
    cluster: Cluster
    server: Server
    broker: KafkaBroker | None
    links: dict[str, Link]
    mailbox: Mailbox
    partner_url: str
    book: Path
    disks: dict[str, Disk]
    http: aiohttp.ClientSession
    bus_url: str
    """Where the run itself reaches the bus. Kafka sends everybody through its proxy, PostgreSQL is reached past it."""
    skipped: dict[str, str] = field(default_factory=dict)
    supervisor: Supervisor = field(init=False)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self)

    def link(self, *prefixes: str) -> list[Link]:
        return [link for name, link in sorted(self.links.items()) if name.startswith(prefixes)]

    def spawn_second(self, service: str, role: str) -> subprocess.Popen[bytes]:
        """A second process of a service, past the proxies; its caller ends it."""
        environment = {
            **self.cluster.environment,
            "LAUREL_PORT": "0",
            "LAUREL_MEMBER": f"{service}-2",
            "LAUREL_BUS_URL": self.bus_url,
        }
        with (self.folder / f"{service}-2.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "laurel_local.cli", "serve", service, "--role", role],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def clock(self, service: str) -> Path:
        """The file that says by how many seconds a service's clock is wrong."""
        return self.folder / f"clock-{service}"

    async def partner(self, method: str, path: str, body: str = "") -> tuple[int, bytes]:
        """Ask the partners' process, past the proxy."""
        async with self.http.request(method, f"{self.partner_url}{path}", data=body.encode()) as answer:
            return answer.status, await answer.read()

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Read as the administrator, past the proxies. Raises while the database is down."""
        connection = await asyncpg.connect(self.server.dsn(), timeout=5, command_timeout=60)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            connection.terminate()

    async def execute_in(self, database: str, sql: str, *arguments: Any) -> None:
        """Change something as the administrator."""
        connection = await asyncpg.connect(self.server.dsn(database), timeout=5, command_timeout=60)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()


class Ended(NamedTuple):
    """A process that ended by itself: when it was seen (time.monotonic()), and what it said last."""

    service: str
    at: float
    words: str


class Supervisor:
    """Restarts what has ended. `hold` keeps it from one of them while a fault needs it down."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._held: collections.Counter[str] = collections.Counter()
        self._killed: set[int] = set()
        self.restarts: collections.Counter[str] = collections.Counter()
        self.gave_up: list[Ended] = []
        """Processes that ended without having been killed."""

    def killed(self, pid: int) -> None:
        """Say that its end is our doing."""
        self._killed.add(pid)

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(
            *(self._keep(service) for service in SERVICES),
            self._keep_database(),
            *([self._keep_broker(self._rig.broker)] if self._rig.broker is not None else []),
        )

    async def _keep(self, service: str) -> None:
        cluster = self._rig.cluster
        while True:
            process = cluster.processes[service]
            if process.poll() is not None and not self._held[service]:
                if process.pid not in self._killed:
                    words = f"{service} ended with {process.returncode}: {_last_words(cluster, service)}"
                    self.gave_up.append(Ended(service, time.monotonic(), words))
                self.restarts[service] += 1
                await asyncio.sleep(_RESTART_S)
                cluster.spawn(service)
            await asyncio.sleep(0.1)

    async def _keep_database(self) -> None:
        while True:
            if self._rig.server.dead and not self._held["postgres"]:
                self.restarts["postgres"] += 1
                with suppress(Failure, OSError, asyncpg.PostgresError):
                    await self._rig.server.start_again()
            await asyncio.sleep(0.2)

    async def _keep_broker(self, broker: KafkaBroker) -> None:
        while True:
            if not self._held["kafka"] and not broker_lives(broker):
                self.restarts["kafka"] += 1
                with suppress(subprocess.SubprocessError):
                    await asyncio.to_thread(broker.run, "start")
            await asyncio.sleep(0.3)


_TELLING = ("part failed", "event loop blocked", "hung in ending", "Stuck", "Silent", "laurel:")


def _last_words(cluster: Cluster, service: str) -> str:
    lines = cluster.tail(service).strip().splitlines()
    told = [line for line in lines if any(word in line for word in _TELLING)]
    return " | ".join(told or lines[-3:])[-1500:]


def broker_lives(broker: KafkaBroker) -> bool:
    try:
        pid = int((broker.folder / "kafka.pid").read_text())
    except (OSError, ValueError):
        return False
    try:
        return b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@asynccontextmanager
async def rig(bus: str, *, disk_bytes: int = 4 << 30, say: Callable[[str], None] = print) -> AsyncIterator[Rig]:
    """Start everything on fresh folders; bus: "kafka" or "postgres". Not supervised before `Supervisor.run`."""
    async with AsyncExitStack() as stack:
        holder = tempfile.TemporaryDirectory(prefix="laurel-faults-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(holder))
        folder.chmod(0o711)  # noqa: ASYNC240 - before anything runs
        skipped: dict[str, str] = {}
        disks: dict[str, Disk] = {}
        for name in ("postgres", *(["kafka"] if bus == "kafka" else [])):
            (folder / f"{name}-state").mkdir()
            disk = Disk(folder / f"{name}.img", folder / f"{name}-state", disk_bytes)
            if reason := disk.mount():
                skipped["disk_full"] = reason
                say(f"faults: no full disks: {reason}")
            else:
                disks[name] = disk
                stack.callback(disk.unmount)
        state = folder / "postgres-state" / "state"
        state.mkdir()
        server = await stack.enter_async_context(Server(state))
        await migrate_all(server.dsn())
        broker = await _broker(stack, folder) if bus == "kafka" else None
        bus_url = server.dsn() if broker is None else broker.url
        links = await _links(stack, server, broker)
        topics = connect(bus_url)
        await ensure_topics(topics)
        await topics.close()
        (partner_port,) = free_ports(1)
        book = folder / "book"
        arguments = [sys.executable, "-m", "tests.faults.partner", str(partner_port), str(book)]
        partner = subprocess.Popen(arguments)  # noqa: ASYNC220 - once, before anything runs
        stack.callback(partner.wait, 10)
        stack.callback(partner.kill)
        partner_link = await _link(stack, "partner", ("127.0.0.1", partner_port))
        mailbox = Mailbox()
        smtp = stack.enter_context(mailbox.listening())
        mail_link = await _link(stack, "mail", ("127.0.0.1", int(smtp.rpartition(":")[2])))
        links |= {"partner": partner_link, "mail": mail_link}
        environment = settings(server.dsn(), bus_url) | {
            "LAUREL_SMTP_URL": f"smtp://127.0.0.1:{mail_link.port}",
            "LAUREL_MAIL_FROM": "badges@example.org",
            "LAUREL_IMPORT_IDLE_S": "10",
            "PYTHONPATH": os.pathsep.join([str(CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        cluster = Cluster(server.dsn(), environment, ports, folder, None, mailbox)  # type: ignore[arg-type]
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)))
        made = Rig(
            bus, folder, cluster, server, broker, links, mailbox, f"http://127.0.0.1:{partner_port}", book, disks, http,
            bus_url, skipped,
        )  # fmt: skip
        for service in SERVICES:
            through = f"postgresql://postgres@127.0.0.1:{links[f'postgres-{service}'].port}/laurel"
            own = (
                f"postgresql://postgres@127.0.0.1:{links[f'bus-{service}'].port}/laurel" if broker is None else bus_url
            )
            cluster.overrides[service] = {
                "LAUREL_DATABASE_URL": through,
                "LAUREL_BUS_URL": own,
                "FAULTS_CLOCK": str(made.clock(service)),
            }
        stack.callback(_end, cluster)
        for service in SERVICES:
            cluster.spawn(service)
        await cluster.ready()
        yield made


def _end(cluster: Cluster) -> None:
    for process in cluster.processes.values():
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)


async def _broker(stack: AsyncExitStack, folder: Path) -> KafkaBroker:
    if missing := missing_for_kafka():
        raise RuntimeError(f"Kafka: {missing}")
    port, controller_port, advertised = free_ports(3)
    # The topics lie on the disk that fills up. What Kafka knows of them does not: one node alone whose metadata meets a
    # full disk begins anew when it starts (4.3.1), and all topics are gone.
    data = folder / "kafka-state" / "data"
    broker = KafkaBroker(folder / "kafka", port, controller_port, advertised, data)
    await asyncio.to_thread(broker.run, "start")
    stack.callback(broker.run, "kill")
    return broker


async def _links(stack: AsyncExitStack, server: Server, broker: KafkaBroker | None) -> dict[str, Link]:
    names = [f"postgres-{service}" for service in SERVICES]
    if broker is None:
        names += [f"bus-{service}" for service in SERVICES]
    links = {name: await _link(stack, name, server.socket) for name in names}
    if broker is not None:
        kafka = Link("kafka", broker.advertised_port, ("127.0.0.1", broker.port))
        links["kafka"] = await stack.enter_async_context(kafka)
    return links


async def _link(stack: AsyncExitStack, name: str, target: tuple[str, int] | str) -> Link:
    (port,) = free_ports(1)
    return await stack.enter_async_context(Link(name, port, target))
