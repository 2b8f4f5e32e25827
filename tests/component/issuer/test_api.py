"""The HTTP edge: what strangers send is answered with 4xx problem documents, what is not yours is not there."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from pydantic import BaseModel

from laurel.dead_letters_api import DeadLetters
from laurel.events import ApiKeyCreated, ApiKeyRevoked, OrganisationCreated
from laurel.security import SCOPES
from laurel_issuer import shapes
from tests.component.issuer.kit import BASE_URL, OPERATOR, Issuer, Tenant, passed_of

V1 = "/issuer/v1"


async def key_with(issuer: Issuer, tenant: Tenant, *scopes: str) -> Tenant:
    made = await issuer.post(tenant, f"{V1}/api-keys", {"label": "a key", "scopes": list(scopes)}, status=201)
    return Tenant(tenant.tenant_id, made["text"])


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:laurel:problem:{code}"
    return document


async def test_only_the_operator_creates_organisations(issuer: Issuer) -> None:
    body = {"slug": "uni", "name": "University"}
    path = f"{V1}/organisations"
    problem(await issuer.http.post(path, json=body), 401, "unauthorized")
    wrong = {"Authorization": "Bearer guess"}
    problem(await issuer.http.post(path, json=body, headers=wrong), 401, "unauthorized")
    right = {"Authorization": f"Bearer {OPERATOR}"}
    answer = await issuer.http.post(path, json=body, headers=right)
    assert answer.status_code == 201
    made = answer.json()
    assert set(made["api_key"]["scopes"]) == set(SCOPES)
    problem(await issuer.http.post(path, json=body, headers=right), 409, "slug_taken")
    own = {"Authorization": f"Bearer {made['api_key']['text']}"}
    problem(await issuer.http.post(path, json={**body, "slug": "two"}, headers=own), 401, "unauthorized")
    (created,) = await issuer.outbox(OrganisationCreated)
    (key,) = await issuer.outbox(ApiKeyCreated)
    assert isinstance(created, OrganisationCreated)
    assert isinstance(key, ApiKeyCreated)
    assert created.tenant_id == key.tenant_id == made["tenant_id"]
    assert made["api_key"]["text"] not in json.dumps(str(await issuer.sql("SELECT * FROM api_keys")))
    shown = await issuer.get(Tenant(made["tenant_id"], made["api_key"]["text"]), f"{V1}/organisation")
    assert (shown["slug"], shown["name"]) == ("uni", "University")


async def test_api_keys_are_made_listed_and_revoked(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    reader = await key_with(issuer, tenant, "credentials:read")
    assert (await issuer.get(reader, f"{V1}/credentials")) == {"items": [], "next": None}
    listed = (await issuer.get(tenant, f"{V1}/api-keys"))["items"]
    assert len(listed) == 2
    assert reader.key.rpartition("_")[2][:32] not in json.dumps(listed)
    assert not any("hash" in name or "text" in name for item in listed for name in item)
    (made,) = [item for item in listed if item["scopes"] == ["credentials:read"]]
    path = f"{V1}/api-keys/{made['key_id']}"
    for _ in range(2):
        assert (await issuer.http.delete(path, headers=tenant.headers)).status_code == 204
    issuer.service.api.state.callers.known.clear()  # a revocation takes a few seconds to be seen by a busy process
    problem(await issuer.http.get(f"{V1}/credentials", headers=reader.headers), 401, "unauthorized")
    assert len(await issuer.outbox(ApiKeyRevoked)) == 1


async def test_a_key_cannot_hand_on_more_than_it_has(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    limited = await key_with(issuer, tenant, "keys:write", "credentials:read")
    body = {"label": "more", "scopes": ["credentials:write"]}
    answer = await issuer.http.post(f"{V1}/api-keys", json=body, headers=limited.headers)
    document = problem(answer, 422, "invalid_input")
    assert document["errors"][0]["code"] == "scope_beyond_own"
    await issuer.post(limited, f"{V1}/api-keys", {"label": "same", "scopes": ["credentials:read"]}, status=201)


ROUTES: list[tuple[str, str, Any, str]] = [
    ("POST", "/api-keys", {"label": "x", "scopes": ["keys:write"]}, "keys:write"),
    ("GET", "/api-keys", None, "keys:read"),
    ("DELETE", "/api-keys/abc", None, "keys:write"),
    ("POST", "/profiles", {"slug": "x", "name": "x", "url": "https://x.example"}, "profiles:write"),
    ("PUT", "/profiles/abc", {"name": "x", "url": "https://x.example"}, "profiles:write"),
    ("POST", "/profiles/abc/keys", None, "profiles:write"),
    ("POST", "/profiles/abc/keys/def/compromise", None, "profiles:write"),
    ("GET", "/credentials", None, "credentials:read"),
    ("GET", "/credentials/00000000-0000-8000-8000-000000000000", None, "credentials:read"),
    ("POST", "/credentials/00000000-0000-8000-8000-000000000000/revoke", {"reason": "x"}, "credentials:write"),
    ("POST", "/credentials/00000000-0000-8000-8000-000000000000/suspend", {"reason": "x"}, "credentials:write"),
    ("POST", "/credentials/00000000-0000-8000-8000-000000000000/reinstate", {"reason": "x"}, "credentials:write"),
    ("POST", "/credentials/status", {"action": "revoke", "reason": "x", "where": {}}, "credentials:write"),
    ("GET", "/reports/reconcile", None, "reports:read"),
    ("GET", "/reports/credentials", None, "reports:read"),
    ("GET", "/reports/waiting", None, "reports:read"),
    ("GET", "/dead-letters", None, "reports:read"),
    ("GET", "/dead-letters/00000000-0000-8000-8000-000000000000", None, "dead-letters:read"),
    ("POST", "/dead-letters/redrive", {"all": True}, "dead-letters:write"),
    ("POST", "/dead-letters/00000000-0000-8000-8000-000000000000/discard", {"reason": "x"}, "dead-letters:write"),
]


async def test_a_profile_that_would_spoil_credentials_cannot_be_put(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    for image in ("https://x.example/%zz.png", SVG):
        body = {"name": "P", "url": "https://p.example", "image": image}
        answer = await issuer.http.put(f"{V1}/profiles/{profile['profile_id']}", json=body, headers=tenant.headers)
        assert [one["field"] for one in problem(answer, 422, "invalid_input")["errors"]] == ["/image"]
    assert (await issuer.get(tenant, f"{V1}/profiles/{profile['profile_id']}"))["image"] is None


async def test_the_last_key_that_makes_keys_stays(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    (first,) = (await issuer.get(tenant, f"{V1}/api-keys"))["items"]
    await key_with(issuer, tenant, "credentials:read")
    path = f"{V1}/api-keys/{first['key_id']}"
    assert "keys:write" in problem(await issuer.http.delete(path, headers=tenant.headers), 409, "last_key")["detail"]
    brief = {"label": "brief", "scopes": ["keys:write"], "expires_at": (issuer.clock() + timedelta(days=1)).isoformat()}
    await issuer.post(tenant, f"{V1}/api-keys", brief, status=201)
    issuer.clock.move(days=2)  # an expired key makes no keys any more
    problem(await issuer.http.delete(path, headers=tenant.headers), 409, "last_key")
    second = await key_with(issuer, tenant, "keys:write")
    assert (await issuer.http.delete(path, headers=second.headers)).status_code == 204
    assert len(await issuer.outbox(ApiKeyRevoked)) == 1


async def test_the_operator_makes_a_key_for_an_organisation(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    path, body = f"{V1}/organisations/uni/api-keys", {"label": "a new start", "scopes": list(SCOPES)}
    problem(await issuer.http.post(path, json=body, headers=tenant.headers), 401, "unauthorized")
    right = {"Authorization": f"Bearer {OPERATOR}"}
    problem(await issuer.http.post(path.replace("uni", "nobody"), json=body, headers=right), 404, "not_found")
    problem(await issuer.http.post(path, json={**body, "scopes": ["all"]}, headers=right), 422, "invalid_input")
    answer = await issuer.http.post(path, json=body, headers=right)
    assert answer.status_code == 201
    shown = await issuer.get(Tenant(tenant.tenant_id, answer.json()["text"]), f"{V1}/organisation")
    assert shown["tenant_id"] == tenant.tenant_id
    assert len(await issuer.outbox(ApiKeyCreated)) == 2


async def test_every_route_asks_for_a_key_and_its_scope(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    for method, path, body, scope in ROUTES:
        answer = await issuer.http.request(method, V1 + path, json=body)
        problem(answer, 401, "unauthorized")
        without = await key_with(issuer, tenant, *(one for one in SCOPES if one != scope))
        answer = await issuer.http.request(method, V1 + path, json=body, headers=without.headers)
        assert scope in problem(answer, 403, "missing_scope")["detail"]


async def test_what_is_another_tenants_is_not_there(issuer: Issuer) -> None:
    tenant, other = await issuer.tenant(), await issuer.tenant("other")
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    passed = passed_of(achievement, 1)
    await issuer.process([passed])
    keys = f"{V1}/profiles/{profile['profile_id']}/keys"
    (signing_key,) = (await issuer.get(tenant, keys))["items"]
    (api_key,) = (await issuer.get(tenant, f"{V1}/api-keys"))["items"]
    change = {"name": "Taken over", "url": "https://evil.example"}
    for method, path, body in [
        ("GET", f"/credentials/{passed.credential_id}", None),
        ("POST", f"/credentials/{passed.credential_id}/revoke", {"reason": "malice"}),
        ("GET", f"/profiles/{profile['profile_id']}", None),
        ("PUT", f"/profiles/{profile['profile_id']}", change),
        ("GET", f"/profiles/{profile['profile_id']}/keys", None),
        ("POST", f"/profiles/{profile['profile_id']}/keys", None),
        ("POST", f"/profiles/{profile['profile_id']}/keys/{signing_key['key_id']}/compromise", None),
        ("DELETE", f"/api-keys/{api_key['key_id']}", None),
    ]:
        answer = await issuer.http.request(method, V1 + path, json=body, headers=other.headers)
        problem(answer, 404, "not_found")
    where = {"credential_ids": [passed.credential_id]}
    query = {"action": "revoke", "reason": "malice", "where": where}
    answer = await issuer.post(other, f"{V1}/credentials/status", query)
    assert (answer["matched"], answer["not_found"], answer["refused_total"]) == (0, 1, 1)
    assert [(one["credential_id"], one["code"]) for one in answer["refused"]] == [(passed.credential_id, "not_found")]
    query["where"] = {"achievement_id": achievement.achievement_id}
    answer = await issuer.http.post(f"{V1}/credentials/status", json=query, headers=other.headers)
    assert problem(answer, 422, "invalid_input")["errors"][0]["field"] == "/where/achievement_id"
    assert (await issuer.get(other, f"{V1}/credentials"))["items"] == []
    assert (await issuer.get(other, f"{V1}/reports/credentials"))["items"] == []
    assert (await issuer.get(tenant, f"{V1}/credentials/{passed.credential_id}"))["status"] == "active"


async def test_a_slug_belongs_to_one_issuer_of_all_tenants(issuer: Issuer) -> None:
    tenant, other = await issuer.tenant(), await issuer.tenant("other")
    await issuer.profile(tenant)
    body = {"slug": "physics", "name": "Not physics", "url": "https://other.example"}
    answer = await issuer.http.post(f"{V1}/profiles", json=body, headers=other.headers)
    problem(answer, 409, "slug_taken")
    assert (await issuer.get(None, "/issuers/physics"))["name"] == "Department of Physics"


GOOD_PROFILE = {"slug": "p", "name": "P", "url": "https://p.example"}
SVG = (
    "data:image/svg+xml;base64,"
    + base64.b64encode(b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>').decode()
)
GOOD_STATUS = {"action": "revoke", "reason": "x", "where": {"course_run": "x"}}
REVOKE = "/credentials/00000000-0000-8000-8000-000000000000/revoke"


WRONG: list[tuple[str, Any, str]] = [
    ("/profiles", {**GOOD_PROFILE, "slug": "Has Spaces"}, "/slug"),
    ("/profiles", {**GOOD_PROFILE, "slug": "../etc"}, "/slug"),
    ("/profiles", {**GOOD_PROFILE, "slug": "a" * 64}, "/slug"),
    ("/profiles", {**GOOD_PROFILE, "slug": "a\n"}, "/slug"),
    ("/profiles", {**GOOD_PROFILE, "name": ""}, "/name"),
    ("/profiles", {**GOOD_PROFILE, "name": "   "}, "/name"),
    ("/profiles", {**GOOD_PROFILE, "name": "a\u202eb"}, "/name"),
    ("/profiles", {**GOOD_PROFILE, "name": "undefined"}, "/name"),
    ("/profiles", {**GOOD_PROFILE, "name": "<b>P</b>"}, "/name"),
    ("/profiles", {**GOOD_PROFILE, "name": 7}, "/name"),
    ("/profiles", {**GOOD_PROFILE, "url": "javascript:alert(1)"}, "/url"),
    ("/profiles", {**GOOD_PROFILE, "url": "not a url"}, "/url"),
    ("/profiles", {**GOOD_PROFILE, "image": "data:text/html;base64,AAAA"}, "/image"),
    ("/profiles", {**GOOD_PROFILE, "image": "ftp://x.example/a.png"}, "/image"),
    ("/profiles", {**GOOD_PROFILE, "image": "https://x.example/%zz.png"}, "/image"),
    ("/profiles", {**GOOD_PROFILE, "image": SVG}, "/image"),
    ("/profiles", {**GOOD_PROFILE, "image": "data:image/png;base64,iVBORw0KGgo="}, "/image"),
    ("/profiles", {**GOOD_PROFILE, "url": "https://x.example/%zz"}, "/url"),
    ("/profiles", {**GOOD_PROFILE, "email": "nobody"}, "/email"),
    ("/profiles", {**GOOD_PROFILE, "email": "a b@x.example"}, "/email"),
    ("/profiles", {**GOOD_PROFILE, "description": "<script>x</script>"}, "/description"),
    ("/profiles", {**GOOD_PROFILE, "logo": "x"}, "/logo"),
    ("/profiles", {"slug": "p", "name": "P"}, "/url"),
    ("/profiles", [], "body"),
    ("/profiles", "text", "body"),
    ("/profiles", None, "body"),
    ("/api-keys", {"label": "x", "scopes": ["everything"]}, "/scopes"),
    ("/api-keys", {"label": "x", "scopes": []}, "/scopes"),
    ("/api-keys", {"label": "x", "scopes": ["keys:write"], "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
    ("/api-keys", {"label": "x", "scopes": ["keys:write"], "expires_at": "2030-01-01T00:00:00"}, "/expires_at"),
    (
        "/api-keys",
        {"label": "x", "scopes": ["keys:write"], "expires_at": "9999-12-31T23:59:59-12:00"},
        "/expires_at",
    ),
    ("/api-keys", {"label": "x", "scopes": ["keys:write"], "expires_at": 1e300}, "/expires_at"),
    (REVOKE, {}, "/reason"),
    (REVOKE, {"reason": ""}, "/reason"),
    (REVOKE, {"reason": "x" * 501}, "/reason"),
    (REVOKE, {"reason": "x\u0007"}, "/reason"),
    ("/credentials/status", {**GOOD_STATUS, "where": {}}, "/where"),
    ("/credentials/status", {**GOOD_STATUS, "where": {"tenant_id": "x"}}, "/where/tenant_id"),
    ("/credentials/status", {**GOOD_STATUS, "where": {"credential_ids": ["x"]}}, "/where/credential_ids/0"),
    ("/credentials/status", {**GOOD_STATUS, "where": {"issued_from": "yesterday"}}, "/where/issued_from"),
    (
        "/credentials/status",
        {**GOOD_STATUS, "where": {"issued_to": "0001-01-01T00:00:00+14:00"}},
        "/where/issued_to",
    ),
    ("/credentials/status", {**GOOD_STATUS, "where": {"achievement_id": "nope"}}, "/where/achievement_id"),
    ("/credentials/status", {**GOOD_STATUS, "action": "destroy"}, "/action"),
    ("/credentials/status", {**GOOD_STATUS, "dry_run": "yes"}, "/dry_run"),
]


async def test_wrong_input_is_told_by_field(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    for path, body, field in WRONG:
        answer = await issuer.http.post(V1 + path, json=body, headers=tenant.headers)
        assert answer.status_code == 422, (path, body, answer.text)
        document = problem(answer, 422, "invalid_input")
        assert field in [error["field"] for error in document["errors"]], (path, body)
    assert (await issuer.get(tenant, f"{V1}/profiles"))["items"] == []


NO_JSON = [
    b'{"slug": "p", "slug": "q"}', b'{"slug": NaN}', b'{"slug": "\\ud800"}', b'{"slug": "\\u0000"}', b"\xff", b"{",
    b"[" * 200 + b"]" * 200, b'{"slug": 1e999}',
]  # fmt: skip


async def test_bytes_that_are_no_json_of_ours_are_refused(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    headers = {**tenant.headers, "Content-Type": "application/json"}
    for path in ("/profiles", "/api-keys", "/credentials/status"):
        for body in NO_JSON:
            answer = await issuer.http.post(V1 + path, content=body, headers=headers)
            assert answer.status_code == 400, (path, body, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


ODD_PATHS = [
    (f"{V1}/credentials?after=x", 422), (f"{V1}/credentials?after=99999999999999999999", 422),
    (f"{V1}/credentials?limit=0", 422), (f"{V1}/credentials?limit=501", 422),
    (f"{V1}/credentials?status=odd", 422), (f"{V1}/credentials?course_run=%00", 422),
    (f"{V1}/credentials?achievement_id=%00", 422), (f"{V1}/credentials?course_run=" + "x" * 201, 422),
    (f"{V1}/credentials/x", 404), (f"{V1}/credentials/%00", 404),
    (f"{V1}/credentials/{{00000000-0000-8000-8000-000000000000}}", 404),
    (f"{V1}/profiles/%00", 404), (f"{V1}/profiles?after=%00", 422), (f"{V1}/api-keys?after=a%27", 422),
    (f"{V1}/profiles/%ff", 404), (f"{V1}/reports/reconcile?course_run=%00", 422),
    (f"{V1}/reports/credentials?limit=10001", 422), (f"{V1}/dead-letters?after=-1", 422),
    (f"{V1}/reports/waiting?after=x", 422), (f"{V1}/dead-letters/999999999", 404), (f"{V1}/dead-letters?key=%00", 422),
    (f"{V1}/endorsements?after=x", 422),
    ("/issuers/%00", 404), ("/issuers/nobody", 404), ("/issuers/nobody/did.json", 404), ("/issuers/..%2f", 404),
    ("/status/x", 404), ("/status/018f0000-0000-7000-8000-000000000000", 404), ("/status/%00", 404),
]  # fmt: skip


async def test_odd_paths_and_queries_are_answered_with_4xx(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    for path, status in ODD_PATHS:
        answer = await issuer.http.get(path, headers=tenant.headers)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_lists_are_paged_without_gaps_or_repeats(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    events = [passed_of(achievement, n) for n in range(11)]
    await issuer.process(events)
    wanted = [event.credential_id for event in events]
    for path in ("/credentials", "/reports/credentials"):
        seen: list[str] = []
        after = ""
        for _ in range(4):
            page = await issuer.get(tenant, f"{V1}{path}?limit=3{after}")
            seen += [item if isinstance(item, str) else item["credential_id"] for item in page["items"]]
            if page["next"] is not None:
                assert page["next"] == seen[-1], "a number would tell how many others there are"
            after = f"&after={page['next']}"
        assert page["next"] is None
        assert sorted(seen) == sorted(wanted)
    assert len((await issuer.get(tenant, f"{V1}/reports/credentials?course_run=2026-spring"))["items"]) == 11
    assert (await issuer.get(tenant, f"{V1}/reports/credentials?course_run=2025"))["items"] == []


async def test_a_page_begins_behind_ones_own_alone(issuer: Issuer) -> None:
    tenant, other = await issuer.tenant(), await issuer.tenant("other")
    achievement = await issuer.achievement(tenant, (await issuer.profile(tenant))["profile_id"])
    theirs = passed_of(achievement, 1)
    await issuer.process([theirs])
    for path in ("/credentials", "/reports/credentials", "/endorsements"):
        for cursor in (theirs.credential_id, "00000000-0000-8000-8000-000000000000", "1", "0"):
            answer = await issuer.http.get(f"{V1}{path}?after={cursor}", headers=other.headers)
            assert answer.status_code == 422, (path, cursor, answer.text)
            assert answer.json()["errors"][0]["code"] == "bad_cursor"


async def test_the_public_documents(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    assert profile["did"] == "did:web:badges.example.org:issuers:physics"
    shown = await issuer.http.get("/issuers/physics")
    assert shown.headers["content-type"].startswith("application/ld+json")
    assert shown.json()["type"] == ["Profile"]
    assert shown.json()["id"] == profile["did"]
    controller = await issuer.http.get("/issuers/physics/did.json")
    assert controller.headers["content-type"].startswith("application/did+json")
    assert controller.headers["access-control-allow-origin"] == "*"
    assert controller.json()["id"] == profile["did"]
    assert controller.json()["alsoKnownAs"] == [f"{BASE_URL}/issuers/physics"]
    assert (await issuer.http.head("/issuers/physics/did.json")).status_code == 200
    known = {"If-None-Match": f'W/{controller.headers["etag"]}, "other"'}
    assert (await issuer.http.get("/issuers/physics/did.json", headers=known)).status_code == 304


async def test_the_docs_name_every_route(issuer: Issuer) -> None:
    paths = (await issuer.get(None, f"{V1}/openapi.json"))["paths"]
    for path in ("/organisations", "/profiles/{profile_id}/keys", "/credentials/{credential_id}/revoke"):
        assert f"{V1}{path}" in paths
    for path, media_type in [
        ("/status/{list_id}", "application/vc+ld+json"), ("/issuers/{slug}", "application/ld+json"),
        ("/issuers/{slug}/did.json", "application/did+json"),
    ]:  # fmt: skip
        content = paths[path]["get"]["responses"]["200"]["content"]
        assert list(content) == [media_type]
        assert content[media_type]["schema"]["required"]


async def test_answers_have_the_documented_shapes(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    passed = passed_of(achievement, 1)
    unfit = passed_of(achievement, 2, evidence=("no address",))
    waiting = passed_of(achievement, 3, achievement_version=2)
    await issuer.process([passed, unfit, waiting])
    keys = f"/profiles/{profile['profile_id']}/keys"
    credential = f"/credentials/{passed.credential_id}"
    change = {"reason": "a reason"}
    query = {**change, "action": "suspend", "where": {"credential_ids": [passed.credential_id]}}
    await issuer.post(tenant, f"{V1}{credential}/suspend", change)
    new = {"slug": "new", "name": "New", "url": "https://new.example"}
    calls: list[tuple[str, str, Any, type[BaseModel]]] = [
        ("GET", "/organisation", None, shapes.Organisation),
        ("POST", "/api-keys", {"label": "k", "scopes": ["keys:write"]}, shapes.CreatedApiKey),
        ("GET", "/api-keys", None, shapes.Page[shapes.ApiKey]),
        ("POST", "/profiles", new, shapes.Profile),
        ("GET", "/profiles", None, shapes.Page[shapes.Profile]),
        ("GET", f"/profiles/{profile['profile_id']}", None, shapes.Profile),
        ("PUT", f"/profiles/{profile['profile_id']}", {"name": "N", "url": "https://n.example"}, shapes.Profile),
        ("POST", keys, None, shapes.SigningKey),
        ("GET", keys, None, shapes.Page[shapes.SigningKey]),
        ("GET", "/credentials", None, shapes.Page[shapes.Credential]),
        ("GET", credential, None, shapes.FullCredential),
        ("POST", f"{credential}/revoke", change, shapes.Outcome),
        ("POST", "/credentials/status", query, shapes.ChangeReport),
        ("GET", "/reports/reconcile", None, shapes.Reconciliation),
        ("GET", "/reports/credentials", None, shapes.Page[UUID]),
        ("GET", "/reports/waiting", None, shapes.Page[shapes.Waiting]),
        ("GET", "/dead-letters", None, DeadLetters),
    ]
    for method, path, body, shape in calls:
        answer = await issuer.http.request(method, V1 + path, json=body, headers=tenant.headers)
        assert answer.is_success, (path, answer.text)
        shape.model_validate_json(answer.content)
    counts = (await issuer.get(tenant, f"{V1}/reports/reconcile"))["counts"]
    assert [counts[name] for name in ("issued", "revoked", "waiting", "dead_lettered")] == [1, 1, 1, 1]
    (parked,) = (await issuer.get(tenant, f"{V1}/reports/waiting?course_run=2026-spring"))["items"]
    assert parked["credential_id"] == waiting.credential_id
    assert parked["reason"] in (await issuer.get(tenant, f"{V1}/reports/reconcile"))["counts"]["waiting_for"]
    assert (await issuer.get(tenant, f"{V1}/reports/waiting?course_run=other"))["items"] == []
    assert (await issuer.get(await issuer.tenant("else"), f"{V1}/reports/waiting"))["items"] == []
