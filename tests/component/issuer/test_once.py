"""Nothing lost, nothing doubled: redelivery, crashes, concurrent members, parked events, refusals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any

import asyncpg
import pytest

from laurel import envelope
from laurel.bus import Message
from laurel.credential import proof_bytes
from laurel.errors import NotNow, Stuck
from laurel.events import AchievementPublished, CredentialIssued, Recipient
from laurel_issuer import store_issuance
from laurel_issuer.domain import Inconsistent
from tests.component.issuer.kit import Clock, Issuer, Tenant, achievement_of, opened, passed_of, secret


async def ready(issuer: Issuer, **changes: Any) -> tuple[Tenant, AchievementPublished]:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    return tenant, await issuer.achievement(tenant, profile["profile_id"], **changes)


def decoded(messages: list[Message]) -> list[envelope.Delivered]:
    return [envelope.decode(message) for message in messages]


async def bodies(issuer: Issuer) -> dict[str, bytes]:
    rows = await issuer.sql("SELECT credential_id, body FROM credentials ORDER BY credential_id")
    return {str(row["credential_id"]): bytes(row["body"]) for row in rows}


async def test_a_redelivery_changes_nothing_and_sends_nothing(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    messages = issuer.messages([passed_of(achievement, n) for n in range(40)])
    await issuer.process(messages)
    first, sent = await bodies(issuer), await issuer.outbox(CredentialIssued)
    issuer.clock.move(hours=3)
    await issuer.process(messages)
    await issuer.process(messages[10:20])
    assert await bodies(issuer) == first
    assert await issuer.outbox(CredentialIssued) == sent
    assert len(sent) == 40
    assert await issuer.sql("SELECT sum(allocated) AS taken FROM status_lists") == [(40,)]


async def test_dying_between_reserve_and_finish_leads_to_the_same_bytes(issuer: Issuer, admin_dsn: str) -> None:
    tenant, achievement = await ready(issuer)
    messages = issuer.messages([passed_of(achievement, n) for n in range(5)])
    died_with = await issuer.issuance.prepare(decoded(messages))
    assert await bodies(issuer) == {}

    # Meanwhile the world moves on: time, the profile, the key.
    later = Clock()
    later.move(days=2)
    async with opened(admin_dsn, later) as restarted:
        profile = (await restarted.get(tenant, "/issuer/v1/profiles"))["items"][0]
        changed = {"name": "Faculty of Physics", "url": "https://faculty.example.org/"}
        answer = await restarted.http.put(
            f"/issuer/v1/profiles/{profile['profile_id']}", json=changed, headers=tenant.headers
        )
        assert answer.status_code == 200
        await restarted.rotate(tenant, profile)
        await restarted.process(messages)
        assert await bodies(restarted) == {one.intent.credential_id: one.body for one in died_with.signed}
        assert await restarted.sql("SELECT sum(allocated) AS taken FROM status_lists") == [(5,)]
        assert len(await restarted.outbox(CredentialIssued)) == 5
        assert await restarted.sql("SELECT * FROM intents") == []


async def test_dying_in_the_finish_stores_nothing_and_the_next_try_stores_all(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    messages = issuer.messages([passed_of(achievement, n) for n in range(5)])
    prepared = await issuer.issuance.prepare(decoded(messages))
    with pytest.raises(RuntimeError, match="killed"):
        async with issuer.service.worker_database.transaction() as tx:
            await issuer.issuance.save(tx, prepared)
            raise RuntimeError("killed")
    assert await bodies(issuer) == {}
    assert await issuer.outbox(CredentialIssued) == []
    await issuer.process(messages)
    assert await bodies(issuer) == {one.intent.credential_id: one.body for one in prepared.signed}


async def test_members_that_handle_the_same_events_at_once_make_each_credential_once(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    events = [passed_of(achievement, n) for n in range(60)]
    batches = [issuer.messages(events[start : start + 30]) for start in (0, 10, 20, 30, 0, 30)]
    await asyncio.gather(*(issuer.process(batch) for batch in batches))
    assert set(await bodies(issuer)) == {event.credential_id for event in events}
    sent = await issuer.outbox(CredentialIssued)
    assert sorted(one.credential_id for one in sent if isinstance(one, CredentialIssued)) == sorted(
        event.credential_id for event in events
    )
    assert await issuer.sql("SELECT * FROM intents") == []
    for event in sent:
        assert isinstance(event, CredentialIssued)
        assert bytes(event.document) == (await bodies(issuer))[event.credential_id]


async def test_members_that_store_the_same_credentials_at_once_stop_nobody(issuer: Issuer) -> None:
    """They meet at the places in the status lists as well as at the ids: the later ones step aside at both."""
    _, achievement = await ready(issuer)

    async def store(prepared: Any) -> None:
        async with issuer.service.worker_database.transaction() as tx:
            await issuer.issuance.save(tx, prepared)

    for start in range(0, 600, 100):
        batch = issuer.messages([passed_of(achievement, n) for n in range(start, start + 100)])
        prepared = await issuer.issuance.prepare(decoded(batch))
        await asyncio.gather(*(store(prepared) for _ in range(4)))
    assert len(await bodies(issuer)) == len(await issuer.outbox(CredentialIssued)) == 600


async def test_members_that_reserve_the_same_events_at_once_agree(issuer: Issuer) -> None:
    """Neither had found anything of the other's: the later one goes by what the earlier one has reserved."""
    _, achievement = await ready(issuer)
    passed = {one.credential_id: one for one in (passed_of(achievement, n) for n in range(15))}
    ids = list(passed)
    terms = store_issuance.Terms(issuer.settings.base_url, 1_000, issuer.settings.index_key)

    async def reserve(some: list[str]) -> store_issuance.Reservation:
        async with issuer.service.worker_database.transaction() as tx:
            events = {one: passed[one] for one in some}
            return await store_issuance.reserve(tx, events, terms=terms, now=issuer.clock.now)

    async with issuer.service.worker_database.transaction() as tx:
        events = {one: passed[one] for one in ids[:10]}
        first = await store_issuance.reserve(tx, events, terms=terms, now=issuer.clock.now)
        later = asyncio.create_task(reserve(ids[5:]))
        waiting = (
            "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted"
        )
        async with asyncio.timeout(20):
            while not await issuer.sql(waiting):  # it has looked for reservations, and waits for places
                await asyncio.sleep(0.01)
    second = await later
    assert (set(second.intents), second.issued, second.foreign) == (set(ids[5:]), set(), set())
    assert {one: second.intents[one] for one in ids[5:10]} == {one: first.intents[one] for one in ids[5:10]}
    places = [one.revocation for one in (first.intents | second.intents).values()]
    assert len(set(places)) == 15


async def test_places_that_are_taken_at_once_are_all_different(issuer: Issuer) -> None:
    """Also where lists end in the middle: a place is given once, and none is left out."""
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    terms = store_issuance.Terms(issuer.settings.base_url, 1_000, issuer.settings.index_key)

    async def take() -> list[tuple[str, int]]:
        async with issuer.service.worker_database.transaction() as tx:
            return await store_issuance.take_places(
                tx, tenant.tenant_id, profile["profile_id"], "revocation", 1, 60, terms, issuer.clock.now
            )

    taken = [place for places in await asyncio.gather(*(take() for _ in range(24))) for place in places]
    assert len(taken) == len(set(taken)) == 24 * 60
    assert sorted(
        (row["allocated"], row["capacity"]) for row in await issuer.sql("SELECT allocated, capacity FROM status_lists")
    ) == [(24 * 60 - 1_000, 1_000), (1_000, 1_000)]


async def test_the_same_event_twice_in_one_batch_is_one_credential(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    passed = passed_of(achievement, 1)
    await issuer.process([passed, passed, passed])
    assert len(await bodies(issuer)) == 1
    assert len(await issuer.outbox(CredentialIssued)) == 1


@pytest.mark.parametrize("missing", ["achievement", "version", "profile", "key"])
async def test_what_lacks_something_is_parked_and_issued_when_it_comes(issuer: Issuer, missing: str) -> None:
    tenant = await issuer.tenant()
    profile_id = None
    if missing != "profile":
        profile_id = (await issuer.profile(tenant, key=missing != "key"))["profile_id"]
    known = await issuer.achievement(tenant, profile_id)
    if missing in ("achievement", "version"):
        await issuer.sql("DELETE FROM achievements WHERE achievement_id = $1", known.achievement_id)
    if missing == "version":
        await issuer.achievement(tenant, profile_id, achievement_id=known.achievement_id, version=2)
    events = [passed_of(known, n) for n in range(3)]
    await issuer.process(events)
    assert await bodies(issuer) == {}
    reason = {
        "achievement": "achievement_unknown", "version": "achievement_unknown",
        "profile": "issuer_profile_unknown", "key": "no_active_key",
    }[missing]  # fmt: skip
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile?course_run=2026-spring"))["counts"]
    assert (counts["waiting"], counts["waiting_for"], counts["issued"]) == (3, {reason: 3}, 0)
    await issuer.work("parked")
    assert await bodies(issuer) == {}

    if missing in ("achievement", "version"):
        await issuer.process([known], "issuer.achievements")
    elif missing == "profile":
        await issuer.profile(tenant)  # an achievement that names none takes the tenant's first
    else:
        await issuer.rotate(tenant, {"profile_id": profile_id})
    await issuer.work("parked")
    assert set(await bodies(issuer)) == {event.credential_id for event in events}
    assert await issuer.sql("SELECT * FROM parked") == []
    assert len(await issuer.outbox(CredentialIssued)) == 3
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile?course_run=2026-spring"))["counts"]
    assert (counts["waiting"], counts["issued"]) == (0, 3)


async def test_parked_events_are_taken_up_by_the_running_worker_without_waiting(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant, key=False)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    stop = asyncio.Event()
    worker = next(one for one in issuer.service.workers if one.name == "parked")
    running = asyncio.create_task(worker.run(stop))
    try:
        await issuer.process([passed_of(achievement, 1)])
        await issuer.rotate(tenant, profile)
        async with asyncio.timeout(8):  # the slow poll alone would take ten seconds
            while not await bodies(issuer):
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running


async def test_only_what_is_ready_leaves_the_parking(issuer: Issuer) -> None:
    tenants = [await issuer.tenant("one"), await issuer.tenant("two")]
    profiles = [await issuer.profile(tenant, f"p-{n}", key=n == 0) for n, tenant in enumerate(tenants)]
    events: dict[tuple[int, int], list[Any]] = {}
    published = {}
    for n, (tenant, profile) in enumerate(zip(tenants, profiles, strict=True)):
        for version in (1, 2, 3):
            one = published[n, version] = achievement_of(tenant, profile["profile_id"], version=version)
            events[n, version] = [passed_of(one, learner) for learner in range(7)]
            await issuer.process(events[n, version])
    await issuer.process([published[0, 2], published[1, 1]], "issuer.achievements")
    await issuer.work("parked")
    assert set(await bodies(issuer)) == {event.credential_id for event in events[0, 2]}
    assert await issuer.sql("SELECT count(*) FROM parked") == [(35,)]
    await issuer.process([published[0, 3]], "issuer.achievements")
    await issuer.rotate(tenants[1], profiles[1])
    await issuer.work("parked")
    ready = [*events[0, 2], *events[0, 3], *events[1, 1]]
    assert set(await bodies(issuer)) == {event.credential_id for event in ready}


async def test_an_achievement_of_another_tenant_is_not_issued_from(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    other = await issuer.tenant("other")
    await issuer.profile(other, "other")
    await issuer.process([passed_of(achievement, 1, tenant_id=other.tenant_id)])
    assert await bodies(issuer) == {}
    counts = (await issuer.get(other, "/issuer/v1/reports/reconcile"))["counts"]
    assert counts["waiting_for"] == {"achievement_unknown": 1}


async def test_a_profile_of_another_tenant_does_not_sign(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    await issuer.profile(tenant)
    other = await issuer.tenant("other")
    foreign = await issuer.profile(other, "other")
    achievement = await issuer.achievement(tenant, foreign["profile_id"])
    await issuer.process([passed_of(achievement, 1)])
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert counts["waiting_for"] == {"issuer_profile_unknown": 1}
    assert await bodies(issuer) == {}


async def test_a_newer_version_corrects_the_profile_that_parked_events_wait_for(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    wrong = await issuer.achievement(tenant, "018f0000-0000-7000-8000-000000000000")
    passed = [passed_of(wrong, n) for n in range(3)]
    await issuer.process(passed)
    await issuer.work("parked")
    assert await bodies(issuer) == {}
    await issuer.achievement(tenant, profile["profile_id"], achievement_id=wrong.achievement_id, version=2)
    await issuer.work("parked")
    assert set(await bodies(issuer)) == {event.credential_id for event in passed}
    assert await issuer.sql("SELECT * FROM parked") == []
    rows = await issuer.sql("SELECT DISTINCT profile_id, achievement_version FROM credentials")
    assert [tuple(row) for row in rows] == [(profile["profile_id"], 1)]  # what was passed stays what it was
    late = passed_of(wrong, 9)
    await issuer.process([late])
    assert late.credential_id in await bodies(issuer)


async def test_a_dead_letter_of_lint_tells_place_and_reason_but_no_value(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    await issuer.process(
        [
            passed_of(achievement, 1, evidence=("https://lms.example/ada lovelace",)),
            passed_of(achievement, 2, recipient=Recipient(identity_hash="ada@example.org", salt="x")),
        ]
    )
    letters = (await issuer.get(tenant, "/issuer/v1/dead-letters"))["items"]
    told = " ".join(letter["detail"] for letter in letters)
    assert "absolute-ids at /evidence/0/id: '…' is not an absolute URL, URN or DID (write it in full" in told
    assert "identity-hash at /credentialSubject/identifier/0/identityHash: identityHash is not" in told
    assert "hash address and salt with SHA-256" in told
    assert "ada" not in told


async def test_what_lint_refuses_becomes_a_dead_letter_and_the_rest_goes_on(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    bad = passed_of(achievement, 1, recipient=Recipient(identity_hash="not a hash", salt="x"))
    good = [passed_of(achievement, n) for n in range(2, 12)]
    await issuer.process([*good[:5], bad, *good[5:]])
    assert set(await bodies(issuer)) == {event.credential_id for event in good}
    (letter,) = (await issuer.get(tenant, "/issuer/v1/dead-letters"))["items"]
    assert (letter["code"], letter["key"]) == ("lint_failed", bad.credential_id)
    assert "identity" in letter["detail"]
    assert "not a hash" not in letter["detail"]  # personal data stays out of operators' screens
    assert await issuer.sql("SELECT * FROM intents") == []
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile?course_run=2026-spring"))["counts"]
    assert (counts["issued"], counts["dead_lettered"], counts["reserved"]) == (10, 1, 0)
    other_run = (await issuer.get(tenant, "/issuer/v1/reports/reconcile?course_run=other"))["counts"]
    assert (other_run["issued"], other_run["dead_lettered"]) == (0, 0)


async def test_a_parked_event_that_lint_refuses_is_not_tried_for_ever(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant, key=False)
    achievement = await issuer.achievement(tenant, profile["profile_id"], definition={"name": "undefined"})
    await issuer.process([passed_of(achievement, 1)])
    await issuer.rotate(tenant, profile)
    await issuer.work("parked")
    assert await issuer.sql("SELECT * FROM parked") == []
    assert len(await issuer.sql("SELECT * FROM dead_letters")) == 1


async def test_a_record_that_the_handler_fails_on_is_dead_and_no_longer_reserved(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, achievement = await ready(issuer)
    events = [passed_of(achievement, n) for n in range(8)]
    poison = events[3].credential_id
    honest = store_issuance.finish

    async def fails(tx: Any, made: Any) -> Any:
        if any(intent.credential_id == poison for intent, *_ in made):
            raise ZeroDivisionError("a bug of ours")
        return await honest(tx, made)

    monkeypatch.setattr(store_issuance, "finish", fails)
    await issuer.process(events)
    assert set(await bodies(issuer)) == {event.credential_id for event in events} - {poison}
    counts = (await issuer.get(tenant, "/issuer/v1/reports/reconcile"))["counts"]
    assert [counts[name] for name in ("issued", "dead_lettered", "reserved", "waiting")] == [7, 1, 0, 0]
    (letter,) = (await issuer.get(tenant, "/issuer/v1/dead-letters"))["items"]
    assert (letter["code"], letter["key"]) == ("handler_error", poison)


async def test_a_malformed_credential_id_is_refused(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    await issuer.process([passed_of(achievement, 1, credential_id="../../etc"), passed_of(achievement, 2)])
    assert len(await bodies(issuer)) == 1
    assert [row["code"] for row in await issuer.sql("SELECT code FROM dead_letters")] == ["bad_credential_id"]


async def test_a_signature_of_ours_that_does_not_verify_stops_the_process(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, achievement = await ready(issuer)
    honest = proof_bytes.sign_bytes

    def broken(*arguments: Any, **named: Any) -> bytes:
        document = json.loads(honest(*arguments, **named))
        document["name"] = "changed after signing"
        return json.dumps(document).encode()

    await issuer.process([passed_of(achievement, 0)])
    monkeypatch.setattr(proof_bytes, "sign_bytes", broken)
    with pytest.raises(Inconsistent, match="does not verify"):
        await issuer.process([passed_of(achievement, n) for n in range(1, 6)])
    assert issubclass(Inconsistent, Stuck)
    assert len(await bodies(issuer)) == 1
    assert await issuer.sql("SELECT * FROM dead_letters") == []


async def test_a_place_given_twice_stops_the_process(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    await issuer.process([passed_of(achievement, 0)])
    await issuer.sql("UPDATE status_lists SET allocated = 0")
    with pytest.raises(Inconsistent, match="given twice"):
        await issuer.process([passed_of(achievement, 1)])
    assert await issuer.sql("SELECT * FROM dead_letters") == []


async def test_the_wrong_key_encryption_key_stops_the_process(issuer: Issuer, admin_dsn: str) -> None:
    _, achievement = await ready(issuer)
    async with opened(admin_dsn, issuer.clock, kek=secret(9)) as other:
        with pytest.raises(Inconsistent, match="LAUREL_KEK"):
            await other.process([passed_of(achievement, 1)])


async def test_a_compromise_between_signing_and_finish_leads_to_the_next_key(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    passed = passed_of(achievement, 1)
    (profile,) = (await issuer.get(tenant, "/issuer/v1/profiles"))["items"]
    keys = f"/issuer/v1/profiles/{profile['profile_id']}/keys"
    (first,) = (await issuer.get(tenant, keys))["items"]
    await issuer.issuance.prepare(decoded(issuer.messages([passed])))  # reserved under the first key; then it is lost
    await issuer.post(tenant, f"{keys}/{first['key_id']}/compromise")
    second = await issuer.rotate(tenant, profile)
    await issuer.process([passed])
    shown = await issuer.get(tenant, f"/issuer/v1/credentials/{passed.credential_id}")
    assert shown["document"]["proof"]["verificationMethod"] == second["verification_method"]


async def test_what_was_signed_before_a_compromise_is_not_stored_after_it(issuer: Issuer) -> None:
    tenant, achievement = await ready(issuer)
    (profile,) = (await issuer.get(tenant, "/issuer/v1/profiles"))["items"]
    keys = f"/issuer/v1/profiles/{profile['profile_id']}/keys"
    (first,) = (await issuer.get(tenant, keys))["items"]
    prepared = await issuer.issuance.prepare(decoded(issuer.messages([passed_of(achievement, 1)])))
    await issuer.post(tenant, f"{keys}/{first['key_id']}/compromise")
    with pytest.raises(NotNow, match=first["key_id"]):
        async with issuer.service.worker_database.transaction() as tx:
            await issuer.issuance.save(tx, prepared)
    assert await bodies(issuer) == {}


async def test_signing_processes_that_are_killed_are_replaced(admin_dsn: str, clock: Clock) -> None:
    async with opened(admin_dsn, clock, signers=1) as issuer:
        _, achievement = await ready(issuer)
        await issuer.process([passed_of(achievement, 0)])
        pool = issuer.issuance._signers._pool
        (first,) = pool._processes
        os.kill(first, signal.SIGKILL)
        await issuer.process([passed_of(achievement, n) for n in range(1, 50)])
        assert len(await bodies(issuer)) == 50
        assert first not in issuer.issuance._signers._pool._processes


async def test_a_database_that_goes_away_is_waited_for(issuer: Issuer) -> None:
    _, achievement = await ready(issuer)
    messages = issuer.messages([passed_of(achievement, n) for n in range(5)])
    handler = issuer.issuance
    honest, failures = handler.save, [1]

    async def cut_off(tx: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], prepared: Any) -> None:
        await honest(tx, prepared)
        if failures:
            failures.pop()
            await issuer.sql("SELECT pg_terminate_backend($1)", tx.get_server_pid())
            await tx.execute("SELECT 1")

    handler.save = cut_off
    await issuer.process(messages)
    assert not failures
    assert len(await bodies(issuer)) == 5
    assert len(await issuer.outbox(CredentialIssued)) == 5
    assert await issuer.sql("SELECT * FROM dead_letters") == []
