"""Dead letters of the issuer, redriven: exactly one credential, and numbers that stay true on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from laurel.dead_letters import DeadLetter, bury
from laurel.events import CredentialIssued
from laurel.redrive import Redriver
from laurel_issuer import store_issuance
from laurel_issuer.handlers import GROUP
from tests.component.issuer.kit import Issuer, Tenant, passed_of
from tests.component.issuer.test_once import bodies, ready

V1 = "/issuer/v1"


async def redrive(issuer: Issuer, tenant: Tenant, **body: Any) -> dict[str, Any]:
    """Ask over HTTP, let the worker do it, and say how it went."""
    asked = await issuer.post(tenant, f"{V1}/dead-letters/redrive", {"all": True, **body}, status=202)
    consumer = next(one for one in issuer.service.consumers if one.group == GROUP)
    running: Redriver[Any] = Redriver(consumer, bus=issuer.bus, database=issuer.service.worker_database, look_s=0.05)
    stop = asyncio.Event()
    task = asyncio.create_task(running.run(stop))
    try:
        async with asyncio.timeout(60):
            while True:
                found: dict[str, Any] = await issuer.get(tenant, f"{V1}/dead-letters/redrives/{asked['request_id']}")
                if not found["queued"]:
                    return found
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await task


async def numbers(issuer: Issuer, tenant: Tenant) -> tuple[int, int, int, int]:
    counts = (await issuer.get(tenant, f"{V1}/reports/reconcile?course_run=2026-spring"))["counts"]
    return counts["issued"], counts["dead_lettered"], counts["reserved"], counts["waiting"]


async def test_a_fault_that_is_mended_leads_to_one_credential_and_one_event(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, achievement = await ready(issuer)
    events = [passed_of(achievement, n) for n in range(4)]
    honest = store_issuance.finish

    async def fails(tx: Any, made: Any) -> Any:
        if any(intent.credential_id == events[2].credential_id for intent, *_ in made):
            raise ZeroDivisionError("a bug of ours")
        return await honest(tx, made)

    with monkeypatch.context() as broken:
        broken.setattr(store_issuance, "finish", fails)
        await issuer.process(events)
        assert await numbers(issuer, tenant) == (3, 1, 0, 0)
        assert (await redrive(issuer, tenant))["died_again"] == 1
        assert await numbers(issuer, tenant) == (3, 1, 0, 0)
    assert (await redrive(issuer, tenant))["redriven"] == 1
    assert await numbers(issuer, tenant) == (4, 0, 0, 0)
    assert set(await bodies(issuer)) == {one.credential_id for one in events}
    sent = [one.credential_id for one in await issuer.outbox(CredentialIssued) if isinstance(one, CredentialIssued)]
    assert sorted(sent) == sorted(one.credential_id for one in events)
    again = await redrive(issuer, tenant, state="redriven")  # for once more, because somebody insists
    assert again["redriven"] == 1
    assert len(await issuer.outbox(CredentialIssued)) == 4


async def test_what_lint_refuses_again_waits_again_and_accounts_for_its_result(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    await issuer.process([passed_of(achievement, 1, evidence=("no address",))])
    found = await redrive(issuer, tenant, code="lint_failed")
    assert (found["redriven"], found["died_again"]) == (0, 1)
    assert await numbers(issuer, tenant) == (0, 1, 0, 0)
    (letter,) = (await issuer.get(tenant, f"{V1}/dead-letters"))["items"]
    assert (letter["state"], letter["attempts"], letter["redrive_helps"]) == ("waiting", 1, "after_fix")
    assert await issuer.sql("SELECT * FROM intents") == []


async def test_a_redriven_event_may_be_parked_and_is_issued_when_it_can_be(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant, key=False)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    (message,) = issuer.messages([passed_of(achievement, 1)])
    await issuer.process([replace(message, value=message.value[:-1])])
    async with issuer.service.worker_database.transaction() as tx:  # what a newer version makes of the same bytes
        await tx.execute("UPDATE dead_letters SET value = $1, tenant_id = $2", message.value, achievement.tenant_id)
    assert (await redrive(issuer, tenant))["redriven"] == 1
    assert await numbers(issuer, tenant) == (0, 0, 0, 1)
    await issuer.rotate(tenant, profile)
    await issuer.work("parked")
    assert await numbers(issuer, tenant) == (1, 0, 0, 0)


async def test_a_parked_event_that_dies_after_its_redrive_is_a_letter_again(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant, key=False)
    achievement = await issuer.achievement(tenant, profile["profile_id"], definition={"name": "undefined"})
    (message,) = issuer.messages([passed_of(achievement, 1)])
    async with issuer.service.worker_database.transaction() as tx:
        await bury(tx, GROUP, [DeadLetter(message, achievement.tenant_id, None, "handler_error", "x")])
    assert (await redrive(issuer, tenant))["redriven"] == 1
    assert await numbers(issuer, tenant) == (0, 0, 0, 1)
    await issuer.rotate(tenant, profile)
    await issuer.work("parked")
    assert await numbers(issuer, tenant) == (0, 1, 0, 0)
    (letter,) = (await issuer.get(tenant, f"{V1}/dead-letters"))["items"]
    assert (letter["state"], letter["code"], letter["redriven_at"]) == ("waiting", "lint_failed", None)
