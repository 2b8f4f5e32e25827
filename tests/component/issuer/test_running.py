"""The service as it runs: from the bus to the bus, through every part of the parts list."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import Sequence

from laurel import envelope
from laurel.bus import Record
from laurel.events import CredentialIssued, CredentialStatusChanged, Event, IssuerProfilePublished
from laurel.process import ROLES, run_parts
from laurel.topics import CREDENTIAL, ISSUER, ORGANISATION, route
from tests.component.issuer.kit import BASE_URL, ID_KEY, START, Clock, Issuer, achievement_of, opened, passed_of, secret
from tests.conftest import free_ports


async def send(issuer: Issuer, events: Sequence[Event]) -> None:
    records = []
    for number, event in enumerate(events):
        topic, key = route(event)
        headers = envelope.headers(
            event_id=f"e{number}", event_type=event.type, source="/laurel/test", time=START, traceparent=TRACE
        )
        records.append(Record(topic, key, envelope.encode_data(event), headers))
    async with issuer.bus.producer(client_id="test") as producer:
        await producer.send(records)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_from_the_bus_to_the_bus(admin_dsn: str, clock: Clock) -> None:
    async with opened(admin_dsn, clock, signers=1, batch_size=50) as issuer:
        stop = asyncio.Event()
        running = asyncio.create_task(run_parts(issuer.service, issuer.bus, issuer.settings, roles=ROLES, stop=stop))
        try:
            tenant = await issuer.tenant()
            profile = await issuer.profile(tenant, key=False)
            achievement = achievement_of(tenant, profile["profile_id"])
            events = [passed_of(achievement, n) for n in range(120)]
            # Passes first, then the achievement, then the key: what is early is parked and nothing is lost.
            await send(issuer, events)
            await send(issuer, [achievement])
            await issuer.rotate(tenant, profile)
            seen: list[envelope.Delivered] = []
            topics = [CREDENTIAL.name, ISSUER.name, ORGANISATION.name]
            async with (
                issuer.bus.consumer(group="test", topics=topics, member_id="test") as consumer,
                asyncio.timeout(60),
            ):
                while sum(isinstance(one.event, CredentialIssued) for one in seen) < 120:
                    seen += [envelope.decode(message) for message in await consumer.poll(500, 0.5)]
                one = events[7].credential_id
                await issuer.post(tenant, f"/issuer/v1/credentials/{one}/revoke", {"reason": "plagiarism"})
                while not any(isinstance(each.event, CredentialStatusChanged) for each in seen):
                    seen += [envelope.decode(message) for message in await consumer.poll(500, 0.5)]
                while await issuer.sql("SELECT 1 FROM status_list_dirt"):
                    await asyncio.sleep(0.02)
        finally:
            stop.set()
            await running
        issued = [each for each in seen if isinstance(each.event, CredentialIssued)]
        assert {each.event.credential_id for each in issued} == {event.credential_id for event in events}  # type: ignore[attr-defined]
        assert len(issued) == 120
        assert {(each.traceparent or "")[3:35] for each in issued} == {TRACE[3:35]}
        profiles = [each.event for each in seen if isinstance(each.event, IssuerProfilePublished)]
        assert [each.version for each in profiles] == [1, 2]
        counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
        assert (counts["issued"], counts["revoked"], counts["waiting"], counts["reserved"]) == (120, 1, 0, 0)
        assert counts["unsent"] == 0


async def test_killed_in_the_middle_of_a_cohort_it_goes_on_where_it_was(admin_dsn: str, clock: Clock) -> None:
    async with opened(admin_dsn, clock) as issuer:
        tenant = await issuer.tenant()
        profile = await issuer.profile(tenant)
        achievement = achievement_of(tenant, profile["profile_id"])
        events = [passed_of(achievement, n) for n in range(300)]
        await send(issuer, [achievement])
        await send(issuer, events)
        async with asyncio.timeout(120):
            first = await start(admin_dsn, batch_size=25)
            while len(await issuer.sql("SELECT 1 FROM credentials LIMIT 60")) < 60:
                await asyncio.sleep(0.01)
            first.kill()
            await first.wait()
            before = {row["credential_id"]: row["body"] for row in await issuer.sql("SELECT * FROM credentials")}
            reserved = {row["credential_id"]: row for row in await issuer.sql("SELECT * FROM intents")}
            assert 60 <= len(before) < 300
            second = await start(admin_dsn, batch_size=40)
            while len(await issuer.sql("SELECT 1 FROM credentials")) < 300 or await issuer.sql("SELECT 1 FROM outbox"):
                await asyncio.sleep(0.02)
            second.terminate()
            assert await second.wait() == 0
        rows = {row["credential_id"]: row for row in await issuer.sql("SELECT * FROM credentials")}
        assert {str(one) for one in rows} == {event.credential_id for event in events}
        assert all(rows[one]["body"] == body for one, body in before.items())
        for one, intent in reserved.items():
            assert rows[one]["revocation_index"] == intent["revocation_index"]
            assert rows[one]["issued_at"] == intent["created_at"]
        assert await issuer.sql("SELECT sum(allocated) FROM status_lists") == [(300,)]
        assert await issuer.sql("SELECT * FROM intents") == []
        sent: dict[str, set[bytes]] = {}
        async with issuer.bus.consumer(group="test", topics=[CREDENTIAL.name], member_id="test") as consumer:
            while messages := await consumer.poll(1000, 1.0):
                for message in messages:
                    event = envelope.decode(message).event
                    assert isinstance(event, CredentialIssued)
                    sent.setdefault(event.credential_id, set()).add(bytes(event.document))
        assert sent == {str(one): {row["body"]} for one, row in rows.items()}


async def start(admin_dsn: str, *, batch_size: int) -> asyncio.subprocess.Process:
    """`python -m laurel_issuer`, with a signing process of its own."""
    (port,) = free_ports(1)
    settings = {
        "BUS_URL": admin_dsn, "DATABASE_URL": admin_dsn, "PUBLIC_URL": BASE_URL, "PORT": str(port), "SIGNERS": "1",
        "ID_KEY": base64.b64encode(ID_KEY).decode(), "CONTACT_KEY": secret(2), "KEK": secret(3),
        "BATCH_SIZE": str(batch_size),
    }  # fmt: skip
    environment = {**os.environ, **{f"LAUREL_{name}": value for name, value in settings.items()}}
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "laurel_issuer", env=environment)
