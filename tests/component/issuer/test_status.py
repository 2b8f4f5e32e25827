"""Revoke, suspend, reinstate; and the lists that tell the world, always equal to the rows."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from laurel import envelope
from laurel.credential import proofs, status
from laurel.credential.did import find_verification_method
from laurel.events import (
    AchievementPublished,
    AssessmentPassed,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
)
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


async def shown_by_lists(issuer: Issuer) -> dict[str, dict[str, int]]:
    """credential id → purpose → value, read as a verifier reads it."""
    all_entries = await entries(issuer)
    urls = {entry["statusListCredential"] for found in all_entries.values() for entry in found}
    bits = {url: (await published(issuer, url))[1] for url in urls}
    return {
        credential_id: {
            entry["statusPurpose"]: status.lookup(
                bits[entry["statusListCredential"]], int(entry["statusListIndex"]), entry.get("statusSize", 1)
            )
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


MESSAGES = ("nothing to tell", "under review", "undefined", "replaced by a newer one", "on appeal")
TELLING = {
    "status_purposes": ("revocation", "suspension", "refresh", "message"),
    "status_messages": MESSAGES,
    "status_reference": "https://physics.example.org/meanings",
}


async def tell(issuer: Issuer, tenant: Tenant, credential_id: str, value: int, *, code: int = 200) -> Any:
    body = {"reason": "a reason", "value": value}
    return await issuer.post(tenant, f"{CREDENTIALS}/{credential_id}/message", body, status=code)


async def test_a_refresh_and_messages_are_told_by_api_events_and_lists(issuer: Issuer) -> None:
    tenant, _, (one, other) = await issued(issuer, 2, **TELLING)
    here = one.credential_id
    found = (await entries(issuer))[here]
    assert [entry["statusPurpose"] for entry in found] == ["revocation", "suspension", "refresh", "message"]
    assert len({entry["statusListCredential"] for entry in found}) == 4
    assert not any("statusSize" in entry for entry in found[:3])
    assert (found[3]["statusSize"], found[3]["statusReference"]) == (3, TELLING["status_reference"])
    texts = [named["message"] for named in found[3]["statusMessage"]]
    assert texts == [*MESSAGES, "undefined", "undefined", "undefined"]

    steps: list[tuple[Any, str, int, bool, dict[str, int]]] = [
        # what, status, version, changed, what the lists tell
        ("refresh", "active", 1, True, {"refresh": 1}),
        ("refresh", "active", 1, False, {"refresh": 1}),
        (4, "active", 2, True, {"refresh": 1, "message": 4}),
        (4, "active", 2, False, {"refresh": 1, "message": 4}),
        ("suspend", "suspended", 3, True, {"refresh": 1, "message": 4, "suspension": 1}),
        (1, "suspended", 4, True, {"refresh": 1, "message": 1, "suspension": 1}),
        ("revoke", "revoked", 5, True, {"refresh": 1, "message": 1, "revocation": 1}),
        (0, "revoked", 6, True, {"refresh": 1, "revocation": 1}),
    ]
    nothing = dict.fromkeys(TELLING["status_purposes"], 0)
    for what, expected, version, changed, told in steps:
        answer = await (act if isinstance(what, str) else tell)(issuer, tenant, here, what)
        assert answer == {"credential_id": here, "status": expected, "version": version, "changed": changed}
        await issuer.work("status lists")
        assert await shown_by_lists(issuer) == {here: nothing | told, other.credential_id: nothing}
    for value in (2, 5, 7):  # undefined, or more than was promised when it was issued
        assert (await tell(issuer, tenant, here, value, code=409))["type"] == "urn:laurel:problem:unknown_message"
    for value in (-1, 256, True, "1"):
        await tell(issuer, tenant, here, value, code=422)  # type: ignore[arg-type]

    shown = await issuer.get(tenant, f"{CREDENTIALS}/{here}")
    assert (shown["refresh"], shown["message"], shown["status_version"], shown["status"]) == (True, 0, 6, "revoked")
    assert [(change["change"], change["status"], change["message"]) for change in shown["status_changes"]] == [
        ("refresh", "active", None), ("message", "active", 4), ("status", "suspended", None),
        ("message", "suspended", 1), ("status", "revoked", None), ("message", "revoked", 0),
    ]  # fmt: skip
    events = [
        (event.version, type(event), getattr(event, "value", None), getattr(event, "message", None))
        for kind in (CredentialStatusChanged, CredentialRefreshOffered, CredentialMessageChanged)
        for event in await issuer.outbox(kind)
        if isinstance(event, kind)
    ]
    assert sorted(events, key=lambda event: event[0]) == [
        (1, CredentialRefreshOffered, None, None), (2, CredentialMessageChanged, 4, "on appeal"),
        (3, CredentialStatusChanged, None, None), (4, CredentialMessageChanged, 1, "under review"),
        (5, CredentialStatusChanged, None, None), (6, CredentialMessageChanged, 0, "nothing to tell"),
    ]  # fmt: skip


async def test_what_was_not_asked_for_cannot_be_told(issuer: Issuer) -> None:
    tenant, _, (one,) = await issued(issuer, 1)
    problems = [await act(issuer, tenant, one.credential_id, "refresh", code=409)]
    problems.append(await tell(issuer, tenant, one.credential_id, 0, code=409))
    assert {problem["type"] for problem in problems} == {"urn:laurel:problem:no_such_entry"}
    shown = await issuer.get(tenant, f"{CREDENTIALS}/{one.credential_id}")
    assert (shown["refresh"], shown["message"], shown["status_version"]) == (None, None, 0)


async def test_messages_of_several_widths_have_lists_of_their_own(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    made = {}
    for count in (2, 3, 4, 200):
        achievement = await issuer.achievement(
            tenant, profile["profile_id"], status_purposes=("revocation", "message"),
            status_messages=tuple(f"meaning {number}" for number in range(count)),
        )  # fmt: skip
        events = [passed_of(achievement, learner) for learner in range(3)]
        await issuer.process(events)
        made[count] = events
        for event in events:
            await tell(issuer, tenant, event.credential_id, count - 1)
    await issuer.work("status lists")
    shown = await shown_by_lists(issuer)
    assert {one.credential_id: count - 1 for count, events in made.items() for one in events} == {
        one: told["message"] for one, told in shown.items()
    }
    sizes = await issuer.sql("SELECT size, allocated FROM status_lists WHERE purpose = 'message' ORDER BY size")
    assert sizes == [(1, 3), (2, 6), (8, 3)]
    for row in await issuer.sql("SELECT url, size FROM status_lists"):
        assert len((await published(issuer, row["url"]))[1]) * 8 == 131_072 * row["size"]


async def test_changes_of_all_kinds_by_query(issuer: Issuer) -> None:
    tenant, _, _ = await issued(issuer, 3)
    (profile,) = (await issuer.get(tenant, "/issuer/v1/profiles"))["items"]
    telling = await issuer.achievement(tenant, profile["profile_id"], **TELLING)
    await issuer.process([passed_of(telling, learner) for learner in range(5)])
    where = {"course_run": "2026-spring"}
    for change, code in (
        ({"action": "refresh"}, "no_such_entry"),
        ({"action": "message", "value": 3}, "no_such_entry"),
    ):
        query = {**change, "reason": "a new edition", "where": where}
        dry = await issuer.post(tenant, f"{CREDENTIALS}/status", {**query, "dry_run": True})
        done = await issuer.post(tenant, f"{CREDENTIALS}/status", query)
        assert done == dry
        assert (done["matched"], done["changed"], done["refused_total"]) == (8, 5, 3)
        assert {one["code"] for one in done["refused"]} == {code}
        again = await issuer.post(tenant, f"{CREDENTIALS}/status", query)
        assert (again["changed"], again["unchanged"]) == (0, 5)
    for wrong in ({"action": "message"}, {"action": "revoke", "value": 1}, {"action": "message", "value": 256}):
        query = {**wrong, "reason": "x", "where": where}
        problem = await issuer.post(tenant, f"{CREDENTIALS}/status", query, status=422)
        assert [one["field"] for one in problem["errors"]] == ["/value"]
    await issuer.work("status lists")
    told = [shown for shown in (await shown_by_lists(issuer)).values() if "message" in shown]
    assert told == [{"revocation": 0, "suspension": 0, "refresh": 1, "message": 3}] * 5
    assert len(await issuer.outbox(CredentialRefreshOffered)) == len(await issuer.outbox(CredentialMessageChanged)) == 5


async def test_a_thousand_changes_while_lists_are_published_are_all_told(issuer: Issuer) -> None:
    tenant, _, events = await issued(issuer, 250, **TELLING)
    ids = [event.credential_id for event in events]
    stop = asyncio.Event()
    publisher = next(one for one in issuer.service.workers if one.name == "status lists")
    running = asyncio.create_task(publisher.run(stop))
    told = {one: (1, 3, 4)[number % 3] for number, one in enumerate(ids)}
    try:
        changes: list[tuple[str, str, int | None]] = [
            (one, "revoke" if number % 2 else "suspend", None) for number, one in enumerate(ids)
        ]
        changes += [(one, "refresh", None) for one in ids]
        changes += [(one, "message", value) for one, value in told.items()]
        changes += [(one, "message", 4) for one in ids[::2]]  # before or after the other: the last one counts
        changes += [(one, "refresh", None) for one in ids[1::2]]
        in_flight = asyncio.Semaphore(40)

        async def send(one: str, action: str, value: int | None) -> None:
            body = {"reason": "a reason"} | ({} if value is None else {"value": value})
            path = f"{CREDENTIALS}/{one}/{action}"
            async with in_flight:
                # Who waits longer for a connection than a request may is told 503, and comes again.
                while (answer := await issuer.http.post(path, json=body, headers=tenant.headers)).status_code == 503:
                    await asyncio.sleep(0.1)
            assert answer.status_code == 200, answer.text

        await asyncio.gather(*(send(*change) for change in changes))
        async with asyncio.timeout(120):
            while await issuer.sql("SELECT 1 FROM status_list_dirt"):
                await asyncio.sleep(0.02)
    finally:
        stop.set()
        await running
    rows = await issuer.sql("SELECT credential_id, status, refresh, message, status_version FROM credentials")
    standing = {str(row["credential_id"]): row for row in rows}
    shown = await shown_by_lists(issuer)
    for number, one in enumerate(ids):
        row = standing[one]
        assert (row["status"], row["refresh"]) == ("revoked" if number % 2 else "suspended", True)
        assert row["message"] in ({told[one]} if number % 2 else {told[one], 4})
        assert shown[one] == {
            "revocation": number % 2, "suspension": 1 - number % 2, "refresh": 1, "message": row["message"],
        }  # fmt: skip
    # Every change has its row, its event and the next version of its credential: none is lost, none doubled.
    history = await issuer.sql(
        "SELECT credential_id, array_agg(version ORDER BY version) AS versions FROM status_changes GROUP BY 1"
    )
    assert {str(row["credential_id"]): len(row["versions"]) for row in history} == {
        one: row["status_version"] for one, row in standing.items()
    }
    assert all(row["versions"] == list(range(1, len(row["versions"]) + 1)) for row in history)
    counts = [len(await issuer.outbox(kind)) for kind in (CredentialStatusChanged, CredentialRefreshOffered)]
    assert counts == [250, 250]
    assert sum(counts) + len(await issuer.outbox(CredentialMessageChanged)) == sum(
        map(len, (r["versions"] for r in history))
    )


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


async def test_what_changes_while_a_list_is_signed_is_told_by_its_next_version(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, _, (early, late) = await issued(issuer, 2)
    worker: Any = next(one for one in issuer.service.workers if one.name == "status lists").run
    publisher = worker.__self__
    sign = publisher._signers.sign_list

    async def sign_meanwhile(*arguments: Any) -> bytes:
        await act(issuer, tenant, late.credential_id, "revoke")
        body: bytes = await sign(*arguments)
        return body

    await act(issuer, tenant, early.credential_id, "revoke")
    with monkeypatch.context() as patched:
        patched.setattr(publisher._signers, "sign_list", sign_meanwhile)
        assert await publisher.publish_dirty() == 1
    bits = await shown_by_lists(issuer)
    assert (bits[early.credential_id]["revocation"], bits[late.credential_id]["revocation"]) == (1, 0)
    await issuer.work("status lists")
    bits = await shown_by_lists(issuer)
    assert (bits[early.credential_id]["revocation"], bits[late.credential_id]["revocation"]) == (1, 1)


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
    nothing = {**query, "where": {"credential_ids": []}}
    refused = await issuer.post(tenant, f"{CREDENTIALS}/status", nothing, status=422)
    assert refused["errors"][0]["field"] == "/where/credential_ids"
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


async def test_a_list_ends_and_is_renewed_at_half_of_its_time(issuer: Issuer) -> None:
    await issued(issuer, 1)
    (row,) = await issuer.sql("SELECT list_id, url FROM status_lists")
    first, _ = await published(issuer, row["url"])
    assert (first.json()["validFrom"], first.json()["validUntil"]) == ("2026-03-01T09:30:15Z", "2026-03-08T09:30:15Z")
    issuer.clock.move(days=3, hours=11)
    await issuer.work("status lists")
    assert (await published(issuer, row["url"]))[0].content == first.content
    issuer.clock.move(hours=2)
    await issuer.work("status lists")
    renewed, _ = await published(issuer, row["url"])
    assert renewed.json()["validUntil"] == "2026-03-11T22:30:15Z"
    assert renewed.headers["etag"] != first.headers["etag"]
    assert await issuer.sql("SELECT version FROM status_lists") == [(2,)]


async def test_no_list_is_cached_beyond_its_end(issuer: Issuer) -> None:
    await issued(issuer, 1)
    (row,) = await issuer.sql("SELECT url FROM status_lists")
    first, _ = await published(issuer, row["url"])
    known = {"If-None-Match": first.headers["etag"]}
    for left, expected in ((61, 60), (60, 60), (25, 25), (0, 0), (-3600, 0)):  # its publisher is away
        issuer.clock.now = datetime(2026, 3, 8, 9, 30, 15, tzinfo=UTC) - timedelta(seconds=left)
        for answer in (await published(issuer, row["url"]))[0], await issuer.http.get(row["url"], headers=known):
            assert answer.headers["cache-control"] == f"public, max-age={expected}"


async def test_a_list_is_cached_for_the_ttl_that_it_tells(admin_dsn: str, clock: Clock) -> None:
    async with opened(admin_dsn, clock, status_ttl_s=300, status_valid_s=0) as issuer:
        await issued(issuer, 1)
        (row,) = await issuer.sql("SELECT url FROM status_lists")
        answer, _ = await published(issuer, row["url"])
        assert "validUntil" not in answer.json()
    async with opened(admin_dsn, clock, status_ttl_s=30, status_valid_s=0) as issuer:
        answer, _ = await published(issuer, row["url"])
        assert answer.json()["credentialSubject"]["ttl"] == 300_000
        assert answer.headers["cache-control"] == "public, max-age=300"
    async with opened(admin_dsn, clock, status_ttl_s=30) as issuer:  # from now on lists end: this one is published anew
        await issuer.work("status lists")
        answer, _ = await published(issuer, row["url"])
        assert (answer.json()["credentialSubject"]["ttl"], "validUntil" in answer.json()) == (30_000, True)
        assert answer.headers["cache-control"] == "public, max-age=30"
    async with opened(admin_dsn, clock, status_ttl_s=30, status_valid_s=0) as issuer:  # and no more
        await issuer.work("status lists")
        assert "validUntil" not in (await published(issuer, row["url"]))[0].json()


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
