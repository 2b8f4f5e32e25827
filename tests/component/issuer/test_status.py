"""Revoke, suspend, reinstate; and the lists that tell the world, always equal to the rows."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from typing import Any

import httpx
import pytest

from laurel import envelope
from laurel.credential import proofs, status
from laurel.credential.did import find_verification_method
from laurel.events import AchievementPublished, AssessmentPassed, CredentialStatusChanged
from laurel_issuer import store_issuance, store_status
from laurel_issuer.store_issuance import Terms
from tests.component.issuer.kit import BASE_URL, Clock, Issuer, Tenant, opened, passed_of

CREDENTIALS = "/issuer/v1/credentials"


async def issued(
    issuer: Issuer, count: int, **changes: Any
) -> tuple[Tenant, AchievementPublished, list[AssessmentPassed]]:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"], **changes)
    events = [passed_of(achievement, n) for n in range(count)]
    await issuer.process(events)
    return tenant, achievement, events


async def entries(issuer: Issuer) -> dict[str, list[dict[str, Any]]]:
    """credentialStatus of every credential, as lists."""
    rows = await issuer.sql("SELECT credential_id, body FROM credentials")
    found = {}
    for row in rows:
        entry = json.loads(row["body"])["credentialStatus"]
        found[str(row["credential_id"])] = entry if isinstance(entry, list) else [entry]
    return found


async def published(issuer: Issuer, url: str) -> tuple[httpx.Response, bytes]:
    """A list as the public gets it, its proof checked, and its bits."""
    answer = await issuer.http.get(url.removeprefix(BASE_URL))
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["id"] == url
    did_document = await issuer.get(None, "/issuers/physics/did.json")
    key = find_verification_method(did_document, document["proof"]["verificationMethod"])
    assert proofs.verify_proof(document, document["proof"], key).ok
    assert document["issuer"] == did_document["id"]
    return answer, status.decode_list(document["credentialSubject"]["encodedList"])


async def shown_by_lists(issuer: Issuer) -> dict[str, dict[str, bool]]:
    """credential id → purpose → bit, read as a verifier reads it."""
    all_entries = await entries(issuer)
    urls = {entry["statusListCredential"] for found in all_entries.values() for entry in found}
    bits = {url: (await published(issuer, url))[1] for url in urls}
    return {
        credential_id: {
            entry["statusPurpose"]: status.bit(bits[entry["statusListCredential"]], int(entry["statusListIndex"]))
            for entry in found
        }
        for credential_id, found in all_entries.items()
    }


async def act(issuer: Issuer, tenant: Tenant, credential_id: str, action: str, *, code: int = 200) -> Any:
    return await issuer.post(tenant, f"{CREDENTIALS}/{credential_id}/{action}", {"reason": "a reason"}, status=code)


async def test_the_life_of_a_credential_is_told_by_api_events_and_list(issuer: Issuer) -> None:
    tenant, _, (one, other) = await issued(issuer, 2)
    here = one.credential_id
    steps: list[tuple[str, str, int, bool, bool]] = [
        # action, status, version, changed, bit
        ("reinstate", "active", 0, False, False),
        ("suspend", "suspended", 1, True, True),
        ("suspend", "suspended", 1, False, True),
        ("reinstate", "active", 2, True, False),
        ("reinstate", "active", 2, False, False),
        ("suspend", "suspended", 3, True, True),
        ("revoke", "revoked", 4, True, True),
        ("revoke", "revoked", 4, False, True),
    ]
    for action, expected, version, changed, bit in steps:
        answer = await act(issuer, tenant, here, action)
        assert answer == {"credential_id": here, "status": expected, "version": version, "changed": changed}
        await issuer.work("status lists")
        assert await shown_by_lists(issuer) == {here: {"revocation": bit}, other.credential_id: {"revocation": False}}
    for action in ("suspend", "reinstate"):
        problem = await act(issuer, tenant, here, action, code=409)
        assert problem["type"] == "urn:laurel:problem:revoked_is_final"

    events = [one for one in await issuer.outbox(CredentialStatusChanged) if isinstance(one, CredentialStatusChanged)]
    assert [(event.version, event.status) for event in events] == [
        (1, "suspended"), (2, "active"), (3, "suspended"), (4, "revoked"),
    ]  # fmt: skip
    shown = await issuer.get(tenant, f"{CREDENTIALS}/{here}")
    assert (shown["status"], shown["status_reason"], len(shown["status_changes"])) == ("revoked", "a reason", 4)
    listed = await issuer.get(tenant, f"{CREDENTIALS}?status=revoked")
    assert [item["credential_id"] for item in listed["items"]] == [here]


async def test_an_achievement_may_ask_for_two_entries(issuer: Issuer) -> None:
    tenant, _, (one, two) = await issued(issuer, 2, status_purposes=("revocation", "suspension"))
    assert [entry["statusPurpose"] for entry in (await entries(issuer))[one.credential_id]] == [
        "revocation", "suspension",
    ]  # fmt: skip
    await act(issuer, tenant, one.credential_id, "suspend")
    await act(issuer, tenant, two.credential_id, "revoke")
    await issuer.work("status lists")
    assert await shown_by_lists(issuer) == {
        one.credential_id: {"revocation": False, "suspension": True},
        two.credential_id: {"revocation": True, "suspension": False},
    }
    await act(issuer, tenant, one.credential_id, "revoke")
    await issuer.work("status lists")
    assert (await shown_by_lists(issuer))[one.credential_id] == {"revocation": True, "suspension": False}


async def test_revocations_at_the_same_time_all_count(issuer: Issuer) -> None:
    tenant, _, events = await issued(issuer, 250)
    victims = [event.credential_id for event in events[:200]]
    stop = asyncio.Event()
    publisher = next(one for one in issuer.service.workers if one.name == "status lists")
    running = asyncio.create_task(publisher.run(stop))
    try:
        await asyncio.gather(*(act(issuer, tenant, one, "revoke") for one in victims))
        async with asyncio.timeout(20):
            while await issuer.sql("SELECT 1 FROM status_list_dirt"):
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running
    bits = await shown_by_lists(issuer)
    assert {one for one, shown in bits.items() if shown["revocation"]} == set(victims)
    assert len(await issuer.outbox(CredentialStatusChanged)) == 200
    assert await issuer.sql("SELECT count(*) FROM status_changes") == [(200,)]


async def test_one_credential_changed_by_many_at_once_has_one_history(issuer: Issuer) -> None:
    tenant, _, (one,) = await issued(issuer, 1)
    actions = ["suspend", "reinstate"] * 20
    await asyncio.gather(*(act(issuer, tenant, one.credential_id, action) for action in actions))
    events = [one for one in await issuer.outbox(CredentialStatusChanged) if isinstance(one, CredentialStatusChanged)]
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    assert [event.status for event in events] == [("suspended", "active")[n % 2] for n in range(len(events))]
    (row,) = await issuer.sql("SELECT status, status_version FROM credentials")
    assert (row["status"], row["status_version"]) == (events[-1].status, len(events))


async def test_publishers_at_the_same_time_lose_no_version_and_no_change(issuer: Issuer) -> None:
    tenant, _, events = await issued(issuer, 30)
    (row,) = await issuer.sql("SELECT list_id FROM status_lists")
    worker: Any = next(one for one in issuer.service.workers if one.name == "status lists").run
    publish = worker.__self__.publish

    async def revoke_and_publish(event: AssessmentPassed) -> None:
        await act(issuer, tenant, event.credential_id, "revoke")
        assert await publish(row["list_id"])

    await asyncio.gather(*(revoke_and_publish(event) for event in events))
    assert await issuer.sql("SELECT version FROM status_lists") == [(31,)]
    assert all(bits["revocation"] for bits in (await shown_by_lists(issuer)).values())
    assert await issuer.sql("SELECT * FROM status_list_dirt") == []


async def test_change_by_query_tells_every_refusal_and_can_be_sent_again(issuer: Issuer) -> None:
    tenant, achievement, events = await issued(issuer, 1100)
    ids = [event.credential_id for event in events]
    for one in ids[:3]:
        await act(issuer, tenant, one, "revoke")
    await act(issuer, tenant, ids[3], "suspend")
    where = {"achievement_id": achievement.achievement_id, "course_run": "2026-spring"}
    query = {"action": "suspend", "reason": "an inquiry", "where": where}
    expected = {"matched": 1100, "changed": 1096, "unchanged": 1}
    dry = await issuer.post(tenant, f"{CREDENTIALS}/status", {**query, "dry_run": True})
    assert {name: dry[name] for name in expected} == expected
    assert await issuer.sql("SELECT count(*) FROM credentials WHERE status = 'suspended'") == [(1,)]
    done = await issuer.post(tenant, f"{CREDENTIALS}/status", query)
    assert done == dry
    assert {item["credential_id"]: item["code"] for item in done["refused"]} == dict.fromkeys(
        ids[:3], "revoked_is_final"
    )
    again = await issuer.post(tenant, f"{CREDENTIALS}/status", query)
    assert (again["changed"], again["unchanged"], len(again["refused"])) == (0, 1097, 3)
    await issuer.work("status lists")
    assert Counter(bits["revocation"] for bits in (await shown_by_lists(issuer)).values()) == {True: 1100}
    some = {"action": "reinstate", "reason": "cleared", "where": {"credential_ids": ids[3:5]}}
    assert (await issuer.post(tenant, f"{CREDENTIALS}/status", some))["changed"] == 2
    none = {**query, "where": {"course_run": "2025-autumn"}}
    assert (await issuer.post(tenant, f"{CREDENTIALS}/status", none))["matched"] == 0


async def test_a_change_by_query_names_what_it_did_not_find(issuer: Issuer) -> None:
    tenant, achievement, events = await issued(issuer, 2)
    nobody = "00000000-0000-8000-8000-00000000dead"
    ids = [events[0].credential_id, nobody, nobody.upper(), events[0].credential_id]
    query = {"action": "revoke", "reason": "x", "where": {"credential_ids": ids}, "dry_run": True}
    answer = await issuer.post(tenant, f"{CREDENTIALS}/status", query)
    assert [(one["credential_id"], one["code"]) for one in answer["refused"]] == [(nobody, "not_found")]
    counted = {name: answer[name] for name in ("matched", "changed", "unchanged", "not_found", "refused_total")}
    assert counted == {"matched": 1, "changed": 1, "unchanged": 0, "not_found": 1, "refused_total": 1}
    name = achievement.achievement_id
    for text in (name, name.upper(), f"https://badges.example.org/achievements/{name}"):
        query["where"] = {"achievement_id": text}
        assert (await issuer.post(tenant, f"{CREDENTIALS}/status", query))["matched"] == 2


async def test_a_change_by_query_that_breaks_off_says_how_far_it_came(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, _, _ = await issued(issuer, 600)
    honest, calls = store_status.change_status, 0

    async def second_fails(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await honest(*arguments, **named)
            raise ConnectionError("the database is gone")
        return await honest(*arguments, **named)

    monkeypatch.setattr(store_status, "change_status", second_fails)
    query = {"action": "revoke", "reason": "x", "where": {"course_run": "2026-spring"}}
    broken = await issuer.post(tenant, f"{CREDENTIALS}/status", query, status=503)
    assert broken["type"] == "urn:laurel:problem:broken_off"
    assert "500 credentials were changed" in broken["detail"]
    assert await issuer.sql("SELECT count(*) FROM credentials WHERE status = 'revoked'") == [(500,)]
    assert len(await issuer.outbox(CredentialStatusChanged)) == 500
    again = await issuer.post(tenant, f"{CREDENTIALS}/status", query)
    assert (again["matched"], again["changed"], again["unchanged"]) == (600, 100, 500)
    assert len(await issuer.outbox(CredentialStatusChanged)) == 600


async def test_change_by_query_is_bounded_by_time_of_issue(issuer: Issuer) -> None:
    tenant, achievement, _ = await issued(issuer, 3)
    issuer.clock.move(days=1)
    later = passed_of(achievement, 100)
    await issuer.process([later])
    where = {"issued_from": issuer.clock.now.replace(microsecond=0).isoformat()}
    query = {"action": "revoke", "reason": "a leak of the questions", "where": where}
    answer = await issuer.post(tenant, f"{CREDENTIALS}/status", query)
    assert (answer["matched"], answer["changed"]) == (1, 1)
    assert (await issuer.get(tenant, f"{CREDENTIALS}/{later.credential_id}"))["status"] == "revoked"


async def test_places_are_given_once_and_tell_nothing_about_the_order(issuer: Issuer) -> None:
    _, achievement, _ = await issued(issuer, 1)
    terms = Terms(BASE_URL, 131_072, issuer.settings.index_key)
    places: list[int] = []

    async def reserve(first: int) -> None:
        events = [passed_of(achievement, learner) for learner in range(first, first + 500)]
        wanted = {event.credential_id: event for event in events}
        async with issuer.service.worker_database.transaction() as tx:
            reserved = await store_issuance.reserve(tx, wanted, terms=terms, now=issuer.clock())
        places.extend(reserved.intents[event.credential_id].revocation[1] for event in events)

    await asyncio.gather(*(reserve(first) for first in range(1000, 7000, 500)))
    assert len(set(places)) == 6000
    assert all(0 <= place < 131_072 for place in places)
    assert max(places) > 125_000
    assert min(places) < 6_000
    rising = sum(after > before for before, after in itertools.pairwise(places))
    assert 2_700 < rising < 3_300


async def test_a_full_list_is_followed_by_the_next(admin_dsn: str, clock: Clock) -> None:
    async with opened(admin_dsn, clock, status_list_entries=7) as issuer:
        tenant, _, events = await issued(issuer, 20)
        assert await issuer.sql("SELECT allocated FROM status_lists ORDER BY allocated") == [(6,), (7,), (7,)]
        found = await entries(issuer)
        assert Counter(entry["statusListCredential"] for (entry,) in found.values()).total() == 20
        assert len({(entry["statusListCredential"], entry["statusListIndex"]) for (entry,) in found.values()}) == 20
        for event in events[::2]:
            await act(issuer, tenant, event.credential_id, "revoke")
        await issuer.work("status lists")
        bits = await shown_by_lists(issuer)
        assert {one for one, shown in bits.items() if shown["revocation"]} == {one.credential_id for one in events[::2]}


async def test_a_list_is_cacheable_and_answers_304(issuer: Issuer) -> None:
    tenant, _, (one,) = await issued(issuer, 1)
    ((entry,),) = (await entries(issuer)).values()
    url = entry["statusListCredential"]
    first, _ = await published(issuer, url)
    assert first.headers["content-type"] == "application/vc+ld+json"
    assert first.headers["cache-control"] == "public, max-age=60"
    assert first.json()["credentialSubject"]["ttl"] == 60_000
    known = {"If-None-Match": first.headers["etag"]}
    unchanged = await issuer.http.get(url, headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    await act(issuer, tenant, one.credential_id, "revoke")
    assert (await issuer.http.get(url, headers=known)).status_code == 304
    issuer.clock.move(seconds=5)
    await issuer.work("status lists")
    changed = await issuer.http.get(url, headers=known)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    assert changed.json()["validFrom"] == "2026-03-01T09:30:20Z"
    assert (await issuer.http.head(url)).status_code == 200


@pytest.mark.parametrize("action", ["revoke", "suspend", "reinstate"])
async def test_what_is_only_reserved_has_no_status_yet(issuer: Issuer, action: str) -> None:
    tenant, achievement, _ = await issued(issuer, 1)
    passed = passed_of(achievement, 50)
    await issuer.issuance.prepare([envelope.decode(message) for message in issuer.messages([passed])])
    await act(issuer, tenant, passed.credential_id, action, code=404)
