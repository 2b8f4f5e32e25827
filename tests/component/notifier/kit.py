"""A notifier as it runs, with partners and learners that are real servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from laurel import bus as buses
from laurel import envelope
from laurel.access import store_api_key
from laurel.bus import Bus, Record
from laurel.database import Database
from laurel.events import ApiKeyCreated, CredentialIssued, CredentialStatusChanged, Event
from laurel.http import AddressPolicy, GuardedClient
from laurel.ids import uuid7
from laurel.security import SCOPES, new_api_key, seal
from laurel.service import Engine, Service
from laurel.topics import route
from laurel_notifier.config import Settings
from laurel_notifier.service import open_service
from laurel_notifier.webhooks import DeliveryWorker

TENANT = "0199d1f0-0000-7000-8000-000000000001"
OTHER_TENANT = "0199d1f0-0000-7000-8000-000000000002"
CONTACT_KEY = bytes(range(32))
ISSUED_AT = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
ALL_TYPES = ["credential.issued", "credential.revoked", "credential.suspended", "credential.reinstated"]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
# Spaces and order as no encoder of ours would write them: whoever re-serialises it is found out.
DOCUMENT = (
    b'{ "@context": ["https://www.w3.org/ns/credentials/v2"],  "issuer": {"id": "did:web:x", "name": "Beispiel-Uni"},\n'
    b' "proof": {"proofValue": "z3J"}, "a": 1.0 }'
)


def settings(dsn: str, **more: Any) -> Settings:
    return Settings(
        bus_url=dsn,
        database_url=dsn,
        public_url="https://badges.example/",
        id_key=base64.b64encode(bytes(32)).decode(),
        contact_key=base64.b64encode(CONTACT_KEY).decode(),
        **{"allow_networks": "127.0.0.0/8", **more},
    )


@dataclass
class Notifier:
    """The service's parts, its HTTP client as TENANT, and the verbs that tests need."""

    service: Service
    bus: Bus
    settings: Settings
    admin_dsn: str
    http: httpx.AsyncClient
    foreign: httpx.AsyncClient

    async def publish(self, *events: Event, traceparent: str | None = TRACE) -> None:
        records = []
        for event in events:
            topic, key = route(event)
            headers = envelope.headers(
                event_id=uuid7(),
                event_type=event.type,
                source="/laurel/issuer",
                time=ISSUED_AT,
                traceparent=traceparent,
            )
            records.append(Record(topic, key, envelope.encode_data(event), headers))
        async with self.bus.producer(client_id="test") as producer:
            await producer.send(records)

    async def consume(self, group: str = "notifier.deliveries") -> None:
        """Run one consumer until nothing of its topics waits."""
        consumer = next(one for one in self.service.consumers if one.group == group)
        engine: Engine[Any] = Engine(
            consumer, bus=self.bus, database=self.service.worker_database, member_id=uuid.uuid4().hex
        )
        stop = asyncio.Event()
        running = asyncio.create_task(engine.run(stop))
        try:
            names = [topic.name for topic in consumer.topics]
            while any((await self.bus.lag(group, names)).values()):
                assert not running.done(), running.exception()
                await asyncio.sleep(0.02)
        finally:
            stop.set()
            await running

    async def take_in(self, *events: Event) -> None:
        await self.publish(*events)
        await self.consume()

    async def endpoint(self, url: str, types: Sequence[str] = tuple(ALL_TYPES)) -> dict[str, Any]:
        answer = await self.http.post("/notifier/v1/endpoints", json={"url": url, "event_types": list(types)})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def deliveries(self, **query: Any) -> list[dict[str, Any]]:
        answer = await self.http.get("/notifier/v1/deliveries", params={"limit": 1000, **query})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def states(self) -> dict[str, int]:
        rows = await self.sql("SELECT state, count(*) AS n FROM deliveries GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    async def email_states(self) -> dict[str, int]:
        rows = await self.sql("SELECT state, count(*) AS n FROM emails GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    async def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.service.worker_database.transaction() as tx:
            return await tx.fetch(statement, *arguments)

    async def due_now(self) -> None:
        """As if the pauses before the next attempts had passed."""
        while True:  # a worker that settles locks the same rows in another order
            with suppress(asyncpg.DeadlockDetectedError):
                await self.sql("UPDATE deliveries SET next_attempt_at = now() WHERE state = 'pending'")
                break
        await self.sql("UPDATE emails SET next_attempt_at = now() WHERE state = 'pending'")
        await self.sql("SELECT pg_notify('notifier_deliveries', ''), pg_notify('notifier_emails', '')")

    @asynccontextmanager
    async def worker(self, name: str = "webhooks") -> AsyncIterator[None]:
        """The service's own worker, running."""
        worker = next(one for one in self.service.workers if one.name == name)
        async with running(worker.run):
            yield

    @asynccontextmanager
    async def own_worker(self, **options: Any) -> AsyncIterator[DeliveryWorker]:
        """A delivery worker with other settings, not running yet, on a pool of its own."""
        client_options = {"total_timeout": options.pop("total_timeout", 15.0)}
        async with (
            Database(self.settings.dsn("notifier", worker=True), schema="notifier", size=4) as database,
            GuardedClient(AddressPolicy.parse("127.0.0.0/8"), **client_options) as client,
        ):
            yield DeliveryWorker(database, client, key=CONTACT_KEY, **options)


@asynccontextmanager
async def running(run: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.ensure_future(run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], Awaitable[bool] | bool], *, seconds: float = 30.0) -> None:
    """Wait for a condition; the deadline is only for tests that fail."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(admin_dsn: str, **more: Any) -> AsyncIterator[Notifier]:
    made = settings(admin_dsn, **more)
    bus = buses.connect(admin_dsn)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bus.close)
        service = await stack.enter_async_context(open_service(made, bus))
        clients = []
        for tenant in (TENANT, OTHER_TENANT):
            text = await api_key(service.worker_database, tenant)
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(service.api),
                base_url="http://notifier",
                headers={"Authorization": f"Bearer {text}"},
            )
            clients.append(await stack.enter_async_context(client))
        yield Notifier(service, bus, made, admin_dsn, *clients)


async def api_key(database: Database, tenant: str, scopes: Sequence[str] = SCOPES) -> str:
    key = new_api_key()
    created = ApiKeyCreated(
        tenant_id=tenant, key_id=key.key_id, secret_hash=key.secret_hash, scopes=tuple(scopes), label="test",
        created_at=ISSUED_AT,
    )  # fmt: skip
    async with database.transaction() as tx:
        await store_api_key(tx, created)
    return key.text


# --- events -------------------------------------------------------------------------------------------------


def contact(learner: str = "learner-7", email: str | None = "ada@learner.example", **more: Any) -> str:
    plain = msgspec.json.encode({"learner": learner, "email": email, "name": "Ada Lovelace", "locale": "en", **more})
    return seal(CONTACT_KEY, plain, purpose="contact")


def issued(number: int = 1, *, tenant_id: str = TENANT, **more: Any) -> CredentialIssued:
    values: dict[str, Any] = {
        "tenant_id": tenant_id,
        "credential_id": credential_id(number),
        "result_id": f"result-{number}",
        "achievement_id": "achievement-1",
        "achievement_name": "Data Science: Grundlagen",
        "profile_id": "profile-1",
        "issuer": "did:web:x",
        "course_run": "run-1",
        "contact": contact(),
        "locale": "en",
        "issued_at": ISSUED_AT,
        "valid_from": ISSUED_AT,
        "document": msgspec.Raw(DOCUMENT),
    }
    return CredentialIssued(**{**values, **more})


def changed(number: int = 1, *, status: str = "revoked", version: int = 1, tenant_id: str = TENANT) -> Event:
    return CredentialStatusChanged(
        tenant_id=tenant_id, credential_id=credential_id(number), version=version, status=status,  # type: ignore[arg-type]
        reason="issued by mistake", changed_at=ISSUED_AT,
    )  # fmt: skip


def credential_id(number: int) -> str:
    return str(uuid.UUID(int=0x8000_8000_0000_0000_0000 + number))


# --- partners -----------------------------------------------------------------------------------------------


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Sink:
    """A partner's server. `behaviour` decides about each request by its path; default: 204."""

    received: list[Received] = field(default_factory=list)
    behaviour: dict[str, Callable[[Received], Awaitable[web.Response]]] = field(default_factory=dict)
    base: str = ""
    port: int = 0
    in_flight: dict[str, int] = field(default_factory=dict)
    most_in_flight: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sink]:
        app = web.Application()
        app.router.add_post("/{name}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        self.port = runner.addresses[0][1]
        self.base = f"http://127.0.0.1:{self.port}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        headers = {key.lower(): value for key, value in request.headers.items()}
        received = Received(name, headers, await request.read(), asyncio.get_running_loop().time())
        self.received.append(received)
        self.in_flight[name] = self.in_flight.get(name, 0) + 1
        self.most_in_flight[name] = max(self.most_in_flight.get(name, 0), self.in_flight[name])
        try:
            behaviour = self.behaviour.get(name)
            return web.Response(status=204) if behaviour is None else await behaviour(received)
        finally:
            self.in_flight[name] -= 1

    def at(self, name: str) -> list[Received]:
        return [one for one in self.received if one.path == name]


def answers(*statuses: int, headers: dict[str, str] | None = None) -> Callable[[Received], Awaitable[web.Response]]:
    """These statuses one after the other; the last one from then on."""
    remaining = list(statuses)

    async def behave(_: Received) -> web.Response:
        status = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return web.Response(status=status, headers=headers if status >= 300 else None)

    return behave


async def hangs(_: Received) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


# --- mail ---------------------------------------------------------------------------------------------------


@dataclass
class Mailbox:
    """A mail server. `refuse` maps an address to what RCPT answers; `on_data` may answer, or break off."""

    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)
    on_data: Callable[[Envelope], str | None] | None = None
    heard: list[str] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.heard.append(address)
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self.on_data(envelope) if self.on_data else None
        if answer is not None:
            if answer == "break":
                assert server.transport is not None
                server.transport.abort()
            return answer
        assert isinstance(envelope.content, bytes)
        self.mails.append((envelope.mail_from or "", list(envelope.rcpt_tos), envelope.content))
        return "250 taken"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Mailbox]:
        server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(self, hostname="test", enable_SMTPUTF8=True), "127.0.0.1", 0
        )
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"
