"""A learner is erased: the credential is revoked and emptied, and no event brings it back, whichever comes first."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from laurel import envelope, ids
from laurel.credential import status
from laurel.erasure import REASON
from laurel.events import AssessmentPassed, CredentialErased, CredentialIssued, CredentialStatusChanged, LearnerErased
from tests.component.issuer.kit import START, Issuer, passed_of
from tests.component.issuer.test_once import ready

ERASURE = ids.uuid7()


def erased_of(event: AssessmentPassed, **changes: Any) -> LearnerErased:
    fields = {"tenant_id": event.tenant_id, "credential_id": event.credential_id, "erasure_id": ERASURE}
    return LearnerErased(**{**fields, "erased_at": START, **changes})


async def personal(issuer: Issuer, *events: AssessmentPassed) -> list[str]:
    """Where anything of what these events say of a person still stands."""
    tables = await issuer.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'issuer'")
    found = []
    for table in tables:
        text = repr([dict(row) for row in await issuer.sql(f"SELECT * FROM {table['tablename']}")])
        found += [table["tablename"] for one in events if str(one.recipient.identity_hash) in text]
    return found


async def test_an_issued_credential_is_revoked_and_emptied(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    hers, his = passed_of(achievement, 1), passed_of(achievement, 2)
    await issuer.process([hers, his])
    path = f"/issuer/v1/credentials/{hers.credential_id}"
    await issuer.post(tenant, f"{path}/suspend", {"reason": "She was ill"})
    assert set(await personal(issuer, hers)) == {"credentials", "outbox"}
    await issuer.process([erased_of(hers)])
    assert await personal(issuer, hers) == []
    assert await personal(issuer, his) != []
    shown = await issuer.get(tenant, path)
    assert (shown["status"], shown["status_version"], shown["status_reason"]) == ("revoked", 2, REASON)
    assert shown["document"] is None
    assert shown["erased_at"] is not None
    assert {one["reason"] for one in shown["status_changes"]} == {REASON}
    # The facts leave in this order, and what had not left before does not leave any more.
    (told,) = await issuer.outbox(CredentialErased)
    (changed,) = await issuer.outbox(CredentialStatusChanged)
    assert (told.credential_id, told.version, told.erasure_id) == (hers.credential_id, 2, ERASURE)
    assert (changed.version, changed.status, changed.reason) == (2, "revoked", REASON)
    assert [one.credential_id for one in await issuer.outbox(CredentialIssued)] == [his.credential_id]
    rows = await issuer.sql("SELECT type FROM outbox WHERE key = $1 ORDER BY id", hers.credential_id.encode())
    assert [row["type"] for row in rows] == [CredentialErased.type, CredentialStatusChanged.type]
    # Its bit is set, and only its bit.
    await issuer.work("status lists")
    (place,) = await issuer.sql(
        "SELECT revocation_index, l.list_id FROM credentials JOIN status_lists l ON list_id = revocation_list "
        "WHERE credential_id = $1", uuid.UUID(hers.credential_id),
    )  # fmt: skip
    published = await issuer.get(None, f"/status/{place['list_id']}")
    bits = status.decode_list(published["credentialSubject"]["encodedList"])
    assert [n for n in range(len(bits) * 8) if bits[n >> 3] & 0x80 >> (n & 7)] == [place["revocation_index"]]


async def test_nothing_brings_it_back(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    passed = passed_of(achievement, 1)
    pass_message, erase_message = issuer.messages([passed, erased_of(passed)])
    for batch in ([pass_message, erase_message], [pass_message], [erase_message], [erase_message, pass_message]):
        await issuer.process(batch)
        assert await personal(issuer, passed) == []
    assert await issuer.sql("SELECT 1 FROM credentials") == [], "it was erased before it was issued"
    assert await issuer.sql("SELECT 1 FROM intents") == []
    assert [one.version for one in await issuer.outbox(CredentialErased)] == [0]
    assert await issuer.outbox(CredentialIssued) == await issuer.outbox(CredentialStatusChanged) == []


async def test_after_its_issue_it_stays_erased_through_every_redelivery(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    passed = passed_of(achievement, 1)
    messages = issuer.messages([passed, erased_of(passed)])
    await issuer.process(messages[:1])
    await issuer.process(messages[1:])
    before = await issuer.sql("SELECT type, data FROM outbox ORDER BY id")
    for batch in (messages, messages[:1], messages[1:], messages[::-1]):
        await issuer.process(batch)
    assert await issuer.sql("SELECT type, data FROM outbox ORDER BY id") == before
    assert [bytes(row[0]) for row in await issuer.sql("SELECT body FROM credentials")] == [b""]
    path = f"/issuer/v1/credentials/{passed.credential_id}"
    assert (await issuer.post(tenant, f"{path}/revoke", {"reason": "x"}))["changed"] is False
    await issuer.post(tenant, f"{path}/reinstate", {"reason": "x"}, status=409)


async def test_a_signed_one_that_is_erased_before_it_is_stored_is_not_issued(issuer: Issuer) -> None:
    """Another member erases it between step 5 and step 6."""
    _, achievement = await ready(issuer)
    hers, his = passed_of(achievement, 1), passed_of(achievement, 2)
    messages = issuer.messages([hers, his])
    prepared = await issuer.issuance.prepare([envelope.decode(one) for one in messages])
    await issuer.process([erased_of(hers)])
    async with issuer.service.worker_database.transaction() as tx:
        await issuer.issuance.save(tx, prepared)
    assert [str(row[0]) for row in await issuer.sql("SELECT credential_id FROM credentials")] == [his.credential_id]
    assert await issuer.sql("SELECT 1 FROM intents") == []
    assert await personal(issuer, hers) == []


async def test_who_stores_first_is_waited_for_and_erased_then(issuer: Issuer) -> None:
    """The erasure comes while a batch is being stored: it waits, and finds what was stored."""
    _, achievement = await ready(issuer)
    passed = passed_of(achievement, 1)
    prepared = await issuer.issuance.prepare([envelope.decode(one) for one in issuer.messages([passed])])
    async with issuer.service.worker_database.transaction() as tx:
        await issuer.issuance.save(tx, prepared)
        erasing = asyncio.create_task(issuer.process([erased_of(passed)]))
        waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND mode = 'ExclusiveLock'"
        async with asyncio.timeout(60):
            while not await issuer.sql(waits):
                assert not erasing.done()
                await asyncio.sleep(0.02)
    await erasing
    assert await personal(issuer, passed) == []
    assert [row[0] for row in await issuer.sql("SELECT status FROM credentials")] == ["revoked"]


async def test_what_waits_and_what_died_is_emptied_too(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant, key=False)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    parked = passed_of(achievement, 1)
    dead = passed_of(achievement, 2, evidence=("javascript:alert(1)",))
    await issuer.process([parked])
    assert set(await personal(issuer, parked)) == {"parked"}
    await issuer.process([erased_of(parked)])
    assert await personal(issuer, parked) == []
    await issuer.rotate(tenant, profile)
    await issuer.work("parked")
    assert await issuer.sql("SELECT 1 FROM credentials") == []
    await issuer.process([dead])
    letters = (await issuer.get(tenant, "/issuer/v1/dead-letters"))["items"]
    assert [one["state"] for one in letters] == ["waiting"], "lint refuses it"
    asked = await issuer.http.post(
        "/issuer/v1/dead-letters/redrive", json={"ids": [letters[0]["id"]]}, headers=tenant.headers
    )
    assert asked.status_code == 202, asked.text
    await issuer.process([erased_of(dead)])
    assert await personal(issuer, dead) == []
    whole = await issuer.get(tenant, f"/issuer/v1/dead-letters/{letters[0]['id']}")
    assert (whole["state"], whole["value"], whole["detail"]) == ("discarded", "", REASON)
    assert [one["outcome"] for one in whole["actions"]] == ["discarded"]
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert (counts["erased"], counts["issued"], counts["dead_lettered"], counts["waiting"]) == (2, 0, 0, 0)
    erased = await issuer.get(tenant, "/issuer/v1/reports/erased", status=200)
    assert sorted(erased["items"]) == sorted([parked.credential_id, dead.credential_id])


async def test_another_organisations_credential_is_not_touched(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    passed = passed_of(achievement, 1)
    await issuer.process([passed])
    await issuer.process([erased_of(passed, tenant_id="somebody-else")])
    shown = await issuer.get(tenant, f"/issuer/v1/credentials/{passed.credential_id}")
    assert (shown["status"], shown["erased_at"]) == ("active", None)
    assert await issuer.outbox(CredentialStatusChanged) == []


@pytest.mark.parametrize("at_once", [1, 40])
async def test_the_numbers_of_a_batch_add_up(issuer: Issuer, at_once: int) -> None:
    tenant, achievement = await ready(issuer)
    events = [passed_of(achievement, n) for n in range(40)]
    gone = [erased_of(one) for one in events[::4]]
    for first in range(0, 40, at_once):
        await issuer.process(events[first : first + at_once])
    await issuer.process(gone)
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert (counts["issued"], counts["erased"], counts["revoked"], counts["reserved"]) == (30, 10, 0, 0)
    of_run = (await issuer.get(tenant, "/issuer/v1/reports/reconcile?course_run=2026-spring"))["counts"]
    assert (of_run["issued"], of_run["erased"]) == (30, 10)
    progress = await issuer.get(tenant, f"/issuer/v1/erasures/{ERASURE}")
    assert progress["credentials"] == 10
    await issuer.get(tenant, f"/issuer/v1/erasures/{ids.uuid7()}", status=404)
