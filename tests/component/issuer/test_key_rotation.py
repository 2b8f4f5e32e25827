"""An API key gets another secret while the one before goes on working: nobody is locked out, nobody gains a scope."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from laurel.events import ApiKeyRotated
from laurel.security import SCOPES, hash_secret, parse_api_key
from tests.component.issuer.kit import Issuer, Tenant
from tests.component.issuer.test_api import V1, key_with, problem


@pytest.fixture
async def real(issuer: Issuer) -> Issuer:
    """Secrets end by the machine's clock: the services' one shows it here."""
    issuer.clock.now = datetime.now(UTC)
    return issuer


def key_id(tenant: Tenant) -> str:
    parsed = parse_api_key(tenant.key)
    assert parsed is not None
    return parsed[0]


async def rotate(issuer: Issuer, tenant: Tenant, which: str, body: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = await issuer.post(tenant, f"{V1}/api-keys/{which}/rotate", body, status=201)
    return made


async def opens(issuer: Issuer, text: str) -> bool:
    issuer.service.api.state.callers.known.clear()  # what a busy process remembers for seconds
    answer = await issuer.http.get(f"{V1}/credentials", headers={"Authorization": f"Bearer {text}"})
    assert answer.status_code in (200, 401), answer.text
    return answer.status_code == 200


async def test_both_secrets_work_until_the_stated_time(real: Issuer) -> None:
    tenant = await real.tenant()
    old = await key_with(real, tenant, "credentials:read")
    made = await rotate(real, tenant, key_id(old), {"overlap_s": 3600})
    assert made["key_id"] == key_id(old)
    assert datetime.fromisoformat(made["previous_until"]) == real.clock() + timedelta(hours=1)
    assert [await opens(real, text) for text in (old.key, made["text"])] == [True, True]

    (listed,) = [one for one in (await real.get(tenant, f"{V1}/api-keys"))["items"] if one["key_id"] == made["key_id"]]
    assert [(one["state"], one["until"]) for one in listed["secrets"]] == [
        ("current", None), ("previous", made["previous_until"]),
    ]  # fmt: skip
    used = datetime.fromisoformat(listed["last_used_at"])
    assert (used.minute, used.second, used.microsecond) == (0, 0, 0), "to the hour, no closer"
    assert timedelta(0) <= datetime.now(UTC) - used < timedelta(hours=2)

    await real.sql(
        "UPDATE api_keys SET previous_secrets = jsonb_set(previous_secrets, '{0,until}', to_jsonb($2::text)) "
        "WHERE key_id = $1",
        made["key_id"], (datetime.now(UTC) - timedelta(seconds=1)).isoformat(),
    )  # fmt: skip
    assert [await opens(real, text) for text in (old.key, made["text"])] == [False, True]
    (listed,) = [one for one in (await real.get(tenant, f"{V1}/api-keys"))["items"] if one["key_id"] == made["key_id"]]
    assert [one["state"] for one in listed["secrets"]] == ["current"]


async def test_a_secret_that_leaked_ends_at_once_and_all_older_ones_with_it(real: Issuer) -> None:
    tenant = await real.tenant()
    first = (await key_with(real, tenant, "credentials:read")).key
    second = (await rotate(real, tenant, first[7:19]))["text"]
    assert await opens(real, first)
    third = await rotate(real, tenant, first[7:19], {"overlap_s": 0})
    assert third["previous_until"] is None
    assert [await opens(real, text) for text in (first, second, third["text"])] == [False, False, True]


async def test_the_audit_log_tells_when_a_key_was_to_end_and_ends_now(real: Issuer) -> None:
    tenant = await real.tenant()
    soon, late = (real.clock().replace(microsecond=0) + timedelta(days=days) for days in (1, 900))
    body = {"label": "x", "scopes": ["credentials:read"], "expires_at": soon.isoformat()}
    made = await real.post(tenant, f"{V1}/api-keys", body, status=201)
    await rotate(real, tenant, made["key_id"], {"expires_at": late.isoformat()})
    told = [
        one["details"] for one in (await real.get(tenant, f"{V1}/audit"))["items"] if one["subject"] == made["key_id"]
    ]
    ends = [{name: one.get(name) for name in ("expires_at", "expired_at")} for one in told]
    first, then = (moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (soon, late))
    assert sorted(ends, key=str) == sorted(
        [{"expires_at": first, "expired_at": None}, {"expires_at": then, "expired_at": first}], key=str
    )


async def test_older_secrets_are_limited_and_none_lives_longer_than_it_was_told(real: Issuer) -> None:
    tenant = await real.tenant()
    which = key_id(await key_with(real, tenant, "credentials:read"))
    for _ in range(4):
        await rotate(real, tenant, which, {"overlap_s": 3600})
    answer = await real.http.post(f"{V1}/api-keys/{which}/rotate", json={"overlap_s": 9000}, headers=tenant.headers)
    problem(answer, 409, "too_many_secrets")
    ends = [one.until for event in await real.outbox(ApiKeyRotated) for one in event.previous]  # type: ignore[attr-defined]
    assert {end - real.clock() for end in ends} == {timedelta(hours=1)}


async def test_nobody_gets_a_secret_of_a_key_that_may_more(real: Issuer) -> None:
    tenant = await real.tenant()
    limited = await key_with(real, tenant, "keys:write", "credentials:read")
    path = f"{V1}/api-keys/{key_id(tenant)}/rotate"
    problem(await real.http.post(path, json={}, headers=limited.headers), 403, "scope_beyond_own")
    assert await opens(real, tenant.key)
    own = await real.http.post(f"{V1}/api-keys/{key_id(limited)}/rotate", headers=limited.headers)
    assert own.status_code == 201


async def test_what_is_not_yours_is_not_there(real: Issuer) -> None:
    tenant, other = await real.tenant(), await real.tenant("other")
    answers = [
        await real.http.post(f"{V1}/api-keys/{one}/rotate", json={}, headers=tenant.headers)
        for one in (key_id(other), "0" * 12)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    bodies = {answer.text.replace(key_id(other), "X").replace("0" * 12, "X") for answer in answers}
    assert len(bodies) == 1
    assert await opens(real, other.key)


async def test_an_ended_key_gets_no_other_secret(real: Issuer) -> None:
    tenant = await real.tenant()
    gone = await key_with(real, tenant, "credentials:read")
    await real.http.delete(f"{V1}/api-keys/{key_id(gone)}", headers=tenant.headers)
    brief = await real.post(
        tenant, f"{V1}/api-keys",
        {"label": "x", "scopes": ["results:read"], "expires_at": (real.clock() + timedelta(days=1)).isoformat()},
        status=201,
    )  # fmt: skip
    real.clock.move(days=2)
    for which in (key_id(gone), brief["key_id"]):
        answer = await real.http.post(f"{V1}/api-keys/{which}/rotate", json={}, headers=tenant.headers)
        problem(answer, 409, "key_ended")
    past = {"expires_at": (real.clock() - timedelta(days=1)).isoformat()}
    answer = await real.http.post(f"{V1}/api-keys/{key_id(tenant)}/rotate", json=past, headers=tenant.headers)
    problem(answer, 422, "invalid_input")


async def test_the_event_tells_all_that_holds_and_no_secret(real: Issuer) -> None:
    tenant = await real.tenant()
    old = await key_with(real, tenant, "credentials:read")
    made = await rotate(real, tenant, key_id(old), {"overlap_s": 60})
    (event,) = await real.outbox(ApiKeyRotated)
    assert isinstance(event, ApiKeyRotated)
    (before, now) = (parse_api_key(text) for text in (old.key, made["text"]))
    assert before is not None
    assert now is not None
    assert event.secret_hash == hash_secret(now[1])
    assert [one.secret_hash for one in event.previous] == [hash_secret(before[1])]
    (row,) = await real.sql("SELECT data::bytea AS data FROM outbox WHERE type = $1", ApiKeyRotated.type)
    assert now[1].encode() not in row["data"]


async def test_scopes_of_before_are_not_lost(issuer: Issuer) -> None:
    assert {"achievements:read", "profiles:read", "keys:read", "audit:read"} <= set(SCOPES)
    tenant = await issuer.tenant()
    answer: httpx.Response = await issuer.http.get(f"{V1}/organisation", headers=tenant.headers)
    assert answer.status_code == 200
