"""Every endpoint demands the least scope, or stands on the list of what anybody may call."""

from __future__ import annotations

import re

from laurel.endpoints import PUBLIC, Endpoint, endpoints
from laurel.migrate import SERVICES
from laurel.security import SCOPES
from tests.component.whole.conftest import Whole, until

# What anybody may call without a key, and why. A new endpoint that is not here must demand a scope.
ANYBODY = {
    # health, and documentation of the API itself
    "GET /healthz", "GET /readyz",
    *(f"GET /{name}/v1/{page}" for name in SERVICES for page in ("docs", "docs/assets", "openapi.json")),
    # what credentials point at
    "GET /achievements/{achievement_id}", "GET /achievements/{achievement_id}/image", "GET /issuers/{slug}",
    "GET /issuers/{slug}/did.json", "GET /issuers/{slug}/jwks.json", "GET /status/{list_id}",
    # a credential, by its id that nobody can guess; verifying, and its pages
    "GET /c/{credential_id}", "POST /c/{credential_id}", "GET /c/{credential_id}/badge.{suffix}",
    "GET /c/{credential_id}/image", "GET /verifier/v1/credentials/{credential_id}",
    "POST /verifier/v1/credentials/verify", "POST /verifier/v1/credentials/verify/batch",
    "GET /verify", "POST /verify", "GET /", "GET /assets/{name}",
    # the client authenticates itself there
    "POST /oauth/token", "GET /.well-known/oauth-authorization-server",
}  # fmt: skip
OPERATORS = {"POST /issuer/v1/organisations", "POST /issuer/v1/organisations/{slug}/api-keys"}


def every(whole: Whole) -> list[Endpoint]:
    return [one for service in whole.services.values() for one in endpoints(service.api)]


def named(one: Endpoint) -> str:
    return f"{'GET' if one.method == 'HEAD' else one.method} {one.path}"


async def test_every_endpoint_demands_a_scope_or_is_known_to_be_public(whole: Whole) -> None:
    found = every(whole)
    assert {named(one) for one in found if one.demand == PUBLIC} == ANYBODY
    assert {named(one) for one in found if one.demand == "operator"} == OPERATORS
    demanded = [one for one in found if one.demand not in (PUBLIC, "operator")]
    assert {one.demand for one in demanded} == set(SCOPES), "no scope is for nothing"
    for one in demanded:
        reads = one.method in ("GET", "HEAD")
        assert one.demand.endswith(":read" if reads else ":write"), one

    # And so it is: asked, not read.
    tenant = await whole.tenant("uni")
    lacking, alone = {}, {}
    for scope in SCOPES:
        lacking[scope] = await whole.key_with(tenant, [one for one in SCOPES if one != scope])
        alone[scope] = await whole.key_with(tenant, [scope])
    tokens = {scope: await whole.token(tenant.key, scope=" ".join(set(SCOPES) - {scope})) for scope in SCOPES}
    for one in demanded:
        path = re.sub(r"\{[a-z_]+\}", "00000000-0000-8000-8000-000000000000", one.path)

        async def asked(text: str | None, one: Endpoint = one, path: str = path) -> tuple[int, str]:
            headers = {} if text is None else {"Authorization": f"Bearer {text}"}
            json = {} if one.method in ("POST", "PUT", "PATCH") else None
            answer = await whole.http.request(one.method, path, headers=headers, json=json)
            return answer.status_code, answer.text

        assert (await asked(None))[0] == 401, one
        for kind, text in (("key", lacking[one.demand]), ("token", tokens[one.demand])):
            status, body = await asked(text)
            assert (status, "missing_scope" in body) == (403, True), (kind, one, status, body)
        status, body = await asked(alone[one.demand])
        assert status not in (401, 403, 500, 503), (one, status, body)
        status, body = await asked(await whole.token(alone[one.demand]))
        assert status not in (401, 403, 500, 503), (one, status, body)


async def test_every_service_takes_a_rotated_key_and_its_tokens(whole: Whole) -> None:
    tenant = await whole.tenant("uni")
    paths = [f"/{name}/v1/dead-letters" for name in whole.services]

    async def statuses(text: str) -> set[int]:
        for service in whole.services.values():
            service.api.state.callers.known.clear()
        headers = {"Authorization": f"Bearer {text}"}
        return {(await whole.http.get(path, headers=headers)).status_code for path in paths}

    rotate = f"/issuer/v1/api-keys/{tenant.key_id}/rotate"
    second = (await whole.call(tenant, "POST", rotate, 201, json={"overlap_s": 3600}))["text"]
    assert await statuses(second) == {200}, "its event is waited for"
    assert await statuses(tenant.key) == {200}
    token = await whole.token(second)
    assert await statuses(token) == {200}
    other = await whole.key_with(tenant, ["keys:write"])
    third = (await whole.call(tenant, "POST", rotate, 201, json={"overlap_s": 0}))["text"]
    assert await statuses(third) == {200}
    assert await statuses(tenant.key) == await statuses(second) == {401}
    deleted = await whole.http.delete(
        f"/issuer/v1/api-keys/{tenant.key_id}", headers={"Authorization": f"Bearer {other}"}
    )
    assert deleted.status_code == 204
    gone = "SELECT 1 FROM {}.api_keys WHERE key_id = $1 AND revoked_at IS NOT NULL"
    for name in whole.services:
        await until(lambda name=name: whole.sql(gone.format(name), tenant.key_id))
    assert await statuses(third) == await statuses(token) == {401}
