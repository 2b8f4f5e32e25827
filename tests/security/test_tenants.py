"""Every endpoint, with every kind of key, against what another organisation owns: the 404 of what is not there.

The endpoints come from the applications' routes. A new one fails here until the table says how it is called, and until
its owner's call succeeds: a test that asks the wrong thing shows nothing.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
import pytest_asyncio

from laurel.access import store_api_key
from laurel.events import ApiKeyCreated
from laurel.migrate import SERVICES
from laurel.security import SCOPES, new_api_key
from tests.security.estate import OPERATOR, PARTNER, Door, Estate, Tenant, settle_tenants
from tests.security.test_json_guard import rows

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

# Doors that anybody may pass, without a key: what they show is public by its nature, to whoever has its address.
PUBLIC = {
    "/", "/healthz", "/readyz", "/verify", "/verifier/v1/credentials/verify", "/verifier/v1/credentials/verify/batch",
    "/verifier/v1/credentials/{credential_id}", "/c/{credential_id}", "/c/{credential_id}/image",
    "/c/{credential_id}/badge.{suffix}", "/assets/{name}", "/achievements/{achievement_id}",
    "/achievements/{achievement_id}/image", "/issuers/{slug}", "/issuers/{slug}/did.json", "/issuers/{slug}/jwks.json",
    "/oauth/token", "/.well-known/oauth-authorization-server",
    "/status/{list_id}",
    *(f"/{name}/v1/{page}" for name in SERVICES for page in ("openapi.json", "docs", "docs/assets/{file}")),
}  # fmt: skip
OPERATORS = {"/issuer/v1/organisations", "/issuer/v1/organisations/{slug}/api-keys"}
_REASON = {"reason": "x"}
_ACHIEVEMENT = {"name": "A", "description": "A", "criteria": {"narrative": "A"}, "policy": {"minimum_score": 50}}


def body_of(door: Door, tenant: Tenant) -> Any:
    """A body that the owner of these things may send; None where the door takes none."""
    path, owns = door.path, tenant.owns
    if door.method not in ("POST", "PUT", "PATCH"):
        return None
    if path.rpartition("/")[2] in ("revoke", "suspend", "reinstate", "refresh", "discard"):
        return _REASON
    if path.endswith("/dead-letters/redrive"):
        return {"ids": [owns[f"{door.service}_letter_id"]], "dry_run": True}
    bodies: dict[str, Any] = {
        "/assessment/v1/achievements": {**_ACHIEVEMENT, "profile_id": owns["profile_id"]},
        "/assessment/v1/achievements/{achievement_id}": {**_ACHIEVEMENT, "profile_id": owns["profile_id"]},
        "/assessment/v1/results": {"achievement": owns["achievement_id"], "learner": f"L{uuid.uuid4()}",
        "email": "a@b.example", "score": 80},
        "/assessment/v1/results/imports": b"{}\n",
        "/assessment/v1/learners/erase": {"learner": f"L{uuid.uuid4()}"},
        "/issuer/v1/api-keys": {"label": "x", "scopes": ["reports:read"]},
        "/issuer/v1/profiles": {"slug": f"p-{uuid.uuid4().hex[:8]}", "name": "P", "url": "https://p.example/"},
        "/issuer/v1/profiles/{profile_id}": {"name": "P", "url": "https://p.example/"},
        "/issuer/v1/profiles/{profile_id}/keys": {},
        "/issuer/v1/credentials/status": {"action": "suspend", "reason": "x",
        "where": {"credential_ids": [owns["credential_id"]]}},
        "/issuer/v1/credentials/{credential_id}/message": {"reason": "x", "value": 1},
        "/issuer/v1/endorsements": {
            "profile_id": owns["profile_id"], "endorsement_comment": "x",
            "subject": {"id": "https://x.example/a", "type": "Profile"},
        },
        "/notifier/v1/endpoints": {"url": PARTNER, "event_types": ["credential.issued"]},
        "/notifier/v1/endpoints/{endpoint_id}": {"description": "changed"},
    }  # fmt: skip
    return bodies.get(path)


# Asked for in this order of their own organisation, because they end something.
LAST = (
    "/issuer/v1/credentials/{credential_id}/revoke", "/issuer/v1/api-keys/{key_id}",
    "/assessment/v1/achievements/{achievement_id}/retire",
    "/issuer/v1/profiles/{profile_id}/keys/{key_id}/compromise",
)  # fmt: skip
# What the owner is told instead of success: there is nothing to do, but it is there.
CONFLICTS = {
    "/notifier/v1/emails/{credential_id}/retry", "/issuer/v1/credentials/{credential_id}/refresh",
    "/issuer/v1/credentials/{credential_id}/message", "/issuer/v1/credentials/{credential_id}/reinstate",
}  # fmt: skip


def names_of(door: Door, tenant: Tenant) -> dict[str, str]:
    owns = tenant.owns
    key = owns["api_key_id"] if "/api-keys/" in door.path else owns["signing_key_id"]
    named = owns["endorsement_id"] if "/endorsements/" in door.path else owns["credential_id"]
    return {**tenant.of(door.service), "key_id": key, "credential_id": named, "suffix": "png"}


def path_of(door: Door, names: dict[str, str]) -> str:
    path = door.path
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, f"say in names_of what {door} is called with"
    return path


def unknown(names: dict[str, str]) -> dict[str, str]:
    """The same kinds of names, of things that are not there."""

    def of(name: str, value: str) -> str:
        if value.count("-") == 4:
            return str(uuid.uuid4())
        return "0" * 12 if name == "key_id" else "nobodys-" + "0" * (len(value) - 8)

    return {name: of(name, value) for name, value in names.items()}


async def ask(
    estate: Estate, door: Door, path: str, headers: dict[str, str], body: Any, **query: str
) -> httpx.Response:
    kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    given = {**headers, **({"content-type": kind} if body is not None else {})}
    return await estate.http.request(door.method, path, headers=given, content=content, params=query or None)


def told(answer: httpx.Response, names: dict[str, str]) -> tuple[int, str, dict[str, str]]:
    """An answer without what the caller said: the ids of its path."""
    text = answer.text
    for value in sorted(names.values(), key=len, reverse=True):
        text = text.replace(value, "…")
    headers = {
        name: value for name, value in answer.headers.items() if name not in ("content-length", "date", "x-request-id")
    }
    return answer.status_code, text, headers


def private(estate: Estate) -> list[Door]:
    return [one for one in estate.doors() if one.path not in PUBLIC | OPERATORS]


async def key_of(estate: Estate, tenant_id: str, scopes: tuple[str, ...], **more: Any) -> dict[str, str]:
    """A key that all four services know."""
    from datetime import UTC, datetime

    key = new_api_key()
    made = ApiKeyCreated(
        tenant_id=tenant_id, key_id=key.key_id, secret_hash=key.secret_hash, scopes=scopes, label="t",
        created_at=datetime(2026, 1, 1, tzinfo=UTC), **more,
    )  # fmt: skip
    for service in estate.services.values():
        async with service.worker_database.transaction() as tx:
            await store_api_key(tx, made)
    return {"Authorization": f"Bearer {key.text}"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def roles(estate: Estate, tenants: list[Tenant]) -> dict[str, dict[str, str]]:
    """Everybody who is not alpha: beta's keys with every scope, each scope alone, none; the operator; nobody."""
    from datetime import UTC, datetime

    beta = tenants[1].tenant_id
    found = {f"beta with {scope}": await key_of(estate, beta, (scope,)) for scope in SCOPES}
    return {
        "beta with everything": tenants[1].headers, **found, "beta with nothing": await key_of(estate, beta, ()),
        "an organisation with nothing": await key_of(estate, str(uuid.uuid4()), SCOPES),
        "beta, expired": await key_of(estate, beta, SCOPES, expires_at=datetime(2026, 1, 2, tzinfo=UTC)),
        "the operator": {"Authorization": f"Bearer {OPERATOR}"}, "nobody": {},
        "nonsense": {"Authorization": "Bearer laurel_x"},
    }  # fmt: skip


async def test_every_door_is_public_or_asks_for_a_key(estate: Estate, tenants: list[Tenant]) -> None:
    """A new door fails here until it is one or the other."""
    paths = {one.path for one in estate.doors()}
    assert paths >= PUBLIC | OPERATORS
    for door in estate.doors():
        if door.path in PUBLIC:
            continue
        answer = await ask(estate, door, path_of(door, names_of(door, tenants[0])), {}, body_of(door, tenants[0]))
        assert answer.status_code == 401, (str(door), answer.status_code)
        assert answer.headers["www-authenticate"]
        assert door.documented, f"{door} asks for a key and stands in no document"


async def test_who_may_not_is_told_that_before_anything_about_the_query(
    estate: Estate, tenants: list[Tenant], roles: dict[str, dict[str, str]]
) -> None:
    """At every door, with every kind of key that does not open it: as without the strange parameter."""
    alpha, beta = tenants
    before = await rows(estate)
    doors = [one for one in estate.doors() if one.path not in PUBLIC]
    assert len(doors) > 60
    for door in doors:
        names = names_of(door, alpha)
        path, body = path_of(door, names), body_of(door, beta)
        for role in ("nobody", "nonsense", "beta, expired", "beta with nothing", "the operator"):
            strange = await ask(estate, door, f"{path}?bogus=1&limit=1&limit=1", roles[role], body)
            if door.path in OPERATORS and role == "the operator":  # who is let in is told
                assert (strange.status_code, "bogus" in strange.text) == (422, True), str(door)
                continue
            plain = await ask(estate, door, path, roles[role], body)
            assert told(strange, names) == told(plain, names), (str(door), role)
            scopeless = role == "beta with nothing" and door.path not in OPERATORS
            assert strange.status_code == (403 if scopeless else 401), (str(door), role)
    assert await rows(estate) == before


async def test_what_others_own_is_answered_as_what_is_not_there(
    estate: Estate, tenants: list[Tenant], roles: dict[str, dict[str, str]]
) -> None:
    alpha = tenants[0]
    doors = [one for one in private(estate) if "{" in one.path]
    assert len(doors) >= 25
    before = await rows(estate)
    seen: dict[str, set[int]] = {}
    for door in doors:
        names = names_of(door, alpha)
        others = unknown(names)
        body = body_of(door, tenants[1])
        for role, headers in roles.items():
            theirs = told(await ask(estate, door, path_of(door, names), headers, body), names)
            nobodys = told(await ask(estate, door, path_of(door, others), headers, body), others)
            assert theirs == nobodys, (str(door), role)
            assert 400 <= theirs[0] < 500, (str(door), role, theirs)
            assert not [mark for mark in alpha.marks if mark in theirs[1]], (str(door), role, theirs[1])
            seen.setdefault(role, set()).add(theirs[0])
        mixed = {**names_of(door, tenants[1])}  # their profile's path, and our key: one foreign id is enough
        for name in [one for one in names if f"{{{one}}}" in door.path]:
            answer = await ask(
                estate, door, path_of(door, {**mixed, name: names[name]}), roles["beta with everything"], body
            )
            assert answer.status_code == 404, (str(door), name)
    assert seen["beta with everything"] == {404}
    assert seen["an organisation with nothing"] == {404, 422}  # 422: it names a profile of beta's in a body
    assert seen["nobody"] == seen["nonsense"] == seen["beta, expired"] == seen["the operator"] == {401}
    assert seen["beta with nothing"] <= {403, 404}
    assert await rows(estate) == before, "somebody changed what is not theirs"


async def test_lists_and_reports_show_ones_own_alone(
    estate: Estate, tenants: list[Tenant], roles: dict[str, dict[str, str]]
) -> None:
    """Also where they are asked for another's things by name, by cursor and by filter."""
    alpha, beta = tenants
    empty = roles["an organisation with nothing"]
    doors = [one for one in private(estate) if "{" not in one.path and one.method == "GET"]
    assert len(doors) >= 15
    for door in doors:
        own = (await ask(estate, door, door.path, alpha.headers, None)).text
        quiet = door.path == "/verifier/v1/audit"  # nobody acts there
        assert quiet or any(mark in own for mark in alpha.marks) or "counts" in own, (
            f"{door}: its owner sees nothing there"
        )
        app: Any = estate.services[door.service].api
        parameters = app.openapi()["paths"][door.path]["get"].get("parameters", [])
        queries = [
            {},
            *({one["name"]: value} for one in parameters if one["in"] == "query" for value in sorted(alpha.marks)),
        ]
        for query in queries:
            for caller in (beta.headers, empty):
                answer = await ask(estate, door, door.path, caller, None, **query)
                assert answer.status_code in (200, 404, 422), (str(door), query, answer.text)
                text = answer.text
                for value in query.values():
                    text = text.replace(value, "…")
                assert not [mark for mark in alpha.marks if mark in text], (str(door), query, text)
        answer = await ask(estate, door, door.path, empty, None)
        if answer.status_code == 200:
            found = answer.json()
            if "/api-keys" not in door.path:  # its own key is all that it has
                assert found.get("items", []) == [], (str(door), found)
            numbers = [value for value in found.get("counts", {}).values() if isinstance(value, int)]
            assert not any(numbers), (str(door), found)


async def test_cursors_tell_no_number_that_organisations_share(estate: Estate, tenants: list[Tenant]) -> None:
    """Where a page ends is told by an id, or by a number of one's own that stands in the page.

    Two places in a row of all organisations' things would tell how many of the others' lie between.
    """
    alpha, beta = tenants
    turned = set()
    for door in [one for one in private(estate) if one.method == "GET"]:
        app: Any = estate.services[door.service].api
        parameters = app.openapi()["paths"][door.path]["get"].get("parameters", [])
        if "limit" not in {one["name"] for one in parameters}:
            continue
        path = path_of(door, names_of(door, alpha))
        first = (await ask(estate, door, path, alpha.headers, None, limit="1")).json()
        after = first["next"]
        if after is None:
            continue
        turned.add(door.path)
        last = first["items"][-1]
        own = [str(one) for one in (last.values() if isinstance(last, dict) else [last])]
        assert str(after) in own or (isinstance(after, str) and after.count("-") == 4), (str(door), first)
        second = await ask(estate, door, path, alpha.headers, None, limit="1", after=str(after))
        assert second.status_code == 200, (str(door), second.text)
        assert second.json()["items"] != first["items"], str(door)
        theirs = await ask(estate, door, path_of(door, names_of(door, beta)), beta.headers, None, after=str(after))
        assert not [mark for mark in alpha.marks if mark in theirs.text.replace(str(after), "…")], (str(door), after)
    assert turned >= {
        "/issuer/v1/credentials", "/issuer/v1/reports/credentials", *(f"/{name}/v1/dead-letters" for name in SERVICES),
    }, turned  # fmt: skip


async def test_bodies_that_name_what_others_own(estate: Estate, tenants: list[Tenant]) -> None:
    """The same refusal as for an id of nothing, and nothing is stored of it."""
    alpha, beta = tenants
    strange = Tenant("strange", owns=unknown(alpha.owns))
    before = await rows(estate)
    naming = (
        "/assessment/v1/achievements", "/assessment/v1/results", "/issuer/v1/endorsements",
        "/issuer/v1/credentials/status",
        "/assessment/v1/achievements/{achievement_id}",
    )  # fmt: skip
    for door in [one for one in private(estate) if one.path in naming and one.method in ("POST", "PUT")]:
        path = path_of(door, names_of(door, beta))
        found = []
        for owner in (alpha, strange):
            answer = await ask(estate, door, path, beta.headers, body_of(door, owner))
            found.append(told(answer, owner.owns))
            if door.path == "/issuer/v1/credentials/status":
                assert (answer.json()["matched"], answer.json()["not_found"]) == (0, 1)
            else:
                assert 400 <= answer.status_code < 500, (str(door), answer.text)
        assert found[0] == found[1], str(door)
    for owner in (alpha, strange):
        door = Door("assessment", "POST", "/assessment/v1/results/imports", True)
        answer = await ask(estate, door, door.path, beta.headers, b"{}\n", achievement=owner.owns["achievement_id"])
        assert answer.status_code == 422
    assert await rows(estate) == before


async def test_the_owner_is_answered_at_every_door(estate: Estate) -> None:
    """What shows that the calls above ask the right thing: with the owner's key the very same call succeeds."""
    (gamma,) = await settle_tenants(estate, "gamma")
    doors = sorted(
        private(estate), key=lambda one: (one.method == "DELETE", LAST.index(one.path) + 1 if one.path in LAST else 0)
    )
    for door in doors:
        answer = await ask(estate, door, path_of(door, names_of(door, gamma)), gamma.headers, body_of(door, gamma))
        if answer.status_code == 409:
            assert door.path in CONFLICTS, (str(door), answer.text)
        else:
            assert answer.status_code in (200, 201, 202, 204), (str(door), answer.status_code, answer.text)


async def test_the_operators_doors_open_for_the_operator_alone(
    estate: Estate, tenants: list[Tenant], roles: dict[str, dict[str, str]]
) -> None:
    before = await rows(estate)
    for path, body in (
        ("/issuer/v1/organisations", {"slug": "evil", "name": "E"}),
        (f"/issuer/v1/organisations/{tenants[0].slug}/api-keys", {"label": "x", "scopes": ["keys:write"]}),
        ("/issuer/v1/organisations/nobody/api-keys", {"label": "x", "scopes": ["keys:write"]}),
    ):
        for role, headers in {**roles, "alpha itself": tenants[0].headers}.items():
            if role != "the operator":
                answer = await estate.http.post(path, json=body, headers=headers)
                assert answer.status_code == 401, (path, role)
    assert await rows(estate) == before


async def test_public_pages_tell_no_private_thing(estate: Estate, tenants: list[Tenant]) -> None:
    """Without a key: neither the tenant, nor the learner, nor the course run, nor why something was revoked."""
    alpha = tenants[0]
    secret = {
        alpha.tenant_id,
        "l@learner.example",
        f"mark-{alpha.slug}-1",
        alpha.owns["result_id"],
        alpha.owns["import_id"],
        alpha.owns["endpoint_id"],
    }
    for door in estate.doors():
        if door.path not in PUBLIC or door.method != "GET" or "{file}" in door.path or "/assets/" in door.path:
            continue
        for accept in ("text/html", "application/json"):
            answer = await ask(estate, door, path_of(door, names_of(door, alpha)), {"accept": accept}, None)
            assert answer.status_code < 500
            assert not [one for one in secret if one in answer.text], (str(door), accept)
