"""OAuth 2.0 client credentials: who gets a token, what it opens, and for how long."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from laurel.events import TokenKeyMade
from laurel.security import SCOPES, unseal
from laurel.tokens import public_key_of, sign
from laurel_issuer.token_keys import TokenKeys
from tests.component.issuer.kit import BASE_URL, Issuer, Tenant
from tests.component.issuer.test_api import V1, key_with, problem

TOKEN = "/oauth/token"
GRANT = {"grant_type": "client_credentials"}


def client_of(tenant: Tenant) -> tuple[str, str]:
    return tenant.key[7:19], tenant.key


async def token(issuer: Issuer, tenant: Tenant, **form: str) -> dict[str, Any]:
    answer = await issuer.http.post(TOKEN, data={**GRANT, **form}, auth=client_of(tenant))
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def get(issuer: Issuer, text: str, path: str = f"{V1}/credentials") -> httpx.Response:
    issuer.service.api.state.callers.known.clear()
    return await issuer.http.get(path, headers={"Authorization": f"Bearer {text}"})


def refused(answer: httpx.Response, code: str, status: int = 400) -> None:
    assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert set(answer.json()) == {"error", "error_description"}
    description = answer.json()["error_description"]
    assert all(" " <= letter <= "~" and letter not in '"\\' for letter in description), "RFC 6749 §5.2"
    assert ("www-authenticate" in answer.headers) is (status == 401)


async def test_a_token_by_basic_and_by_body_opens_what_its_key_opens(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    key_id, secret = client_of(tenant)
    for how in ({"auth": (key_id, secret)}, {}):
        body = {**GRANT} if how else {**GRANT, "client_id": key_id, "client_secret": secret}
        answer = await issuer.http.post(TOKEN, data=body, **how)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        made = answer.json()
        assert (made["token_type"], made["expires_in"]) == ("Bearer", 900)
        assert made["scope"].split() == sorted(SCOPES)
        assert (await get(issuer, made["access_token"])).status_code == 200


async def test_another_library_reads_the_token_as_rfc_9068_says(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    made = await token(issuer, tenant, scope="credentials:read")
    (event,) = await issuer.outbox(TokenKeyMade)
    assert isinstance(event, TokenKeyMade)
    public_key = Ed25519PublicKey.from_public_bytes(base64.b64decode(event.public_key))
    header = pyjwt.get_unverified_header(made["access_token"])
    assert header == {"typ": "at+jwt", "alg": "Ed25519", "kid": event.kid}
    # PyJWT knows the algorithm by its older name: the signature is held against the key itself.
    signed, _, signature = made["access_token"].rpartition(".")
    public_key.verify(base64.urlsafe_b64decode(signature + "=="), signed.encode())
    claims = json.loads(base64.urlsafe_b64decode(signed.split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 600
    key_id = client_of(tenant)[0]
    assert {**claims, "iat": 0, "exp": 0, "jti": ""} == {
        "iss": BASE_URL, "aud": BASE_URL, "sub": key_id, "client_id": key_id, "scope": "credentials:read", "iat": 0,
        "exp": 0, "jti": "",
    }  # fmt: skip


async def test_a_token_has_the_scopes_that_it_was_given_and_its_key_still_has(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    made = await token(issuer, tenant, scope="credentials:read reports:read")
    assert made["scope"] == "credentials:read reports:read"
    text = made["access_token"]
    assert (await get(issuer, text)).status_code == 200
    answer = await get(issuer, text, f"{V1}/api-keys")
    problem(answer, 403, "missing_scope")
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    await issuer.sql("UPDATE api_keys SET scopes = '{reports:read}'")
    problem(await get(issuer, text), 403, "missing_scope")


async def test_scopes_beyond_the_clients_are_refused(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    limited = await key_with(issuer, tenant, "credentials:read")
    for scope in ("credentials:write", "credentials:read credentials:write", "no:such", " credentials:read", 'a"b'):
        refused(await issuer.http.post(TOKEN, data={**GRANT, "scope": scope}, auth=client_of(limited)), "invalid_scope")
    assert (await token(issuer, limited))["scope"] == "credentials:read"


async def test_clients_that_are_none_are_refused_alike(issuer: Issuer) -> None:
    tenant, other = await issuer.tenant(), await issuer.tenant("other")
    key_id, secret = client_of(tenant)
    wrong = [
        (key_id, other.key), (client_of(other)[0], secret), (key_id, secret[:-1]), (key_id, ""), ("", secret),
        ("0" * 12, secret), (key_id, secret.split("_")[2]),
    ]  # fmt: skip
    answers = [await issuer.http.post(TOKEN, data=GRANT, auth=one) for one in wrong]
    for answer in answers:
        refused(answer, "invalid_client", 401)
        assert secret not in answer.text
    assert len({answer.text for answer in answers}) == 1
    refused(await issuer.http.post(TOKEN, data=GRANT), "invalid_client", 401)
    for header in ("Basic", "Basic !!!", f"Bearer {secret}", "Basic " + base64.b64encode(b"\xff").decode()):
        refused(await issuer.http.post(TOKEN, data=GRANT, headers={"Authorization": header}), "invalid_client", 401)
    await issuer.sql("UPDATE api_keys SET revoked_at = now() WHERE key_id = $1", key_id)
    refused(await issuer.http.post(TOKEN, data=GRANT, auth=(key_id, secret)), "invalid_client", 401)


async def test_an_unknown_key_and_a_wrong_secret_read_the_same(issuer: Issuer) -> None:
    from laurel.security import new_api_key

    tenant = await issuer.tenant()
    known = client_of(tenant)[0]
    for made in (new_api_key(), new_api_key(key_id=known)):
        answer = await issuer.http.post(TOKEN, data=GRANT, auth=(made.key_id, made.text))
        refused(answer, "invalid_client", 401)
        direct = await get(issuer, made.text)
        assert direct.status_code == 401
        assert "unknown, wrong, revoked or expired" in direct.json()["detail"]
        assert "unknown, wrong, revoked or expired" in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "invalid_request"),
        ("scope=credentials:read", "invalid_request"),
        ("grant_type=", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=authorization_code&code=x", "unsupported_grant_type"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&scope=a&scope=b", "invalid_request"),
        ("grant_type=client_credentials&client_id=another", "invalid_request"),
        ("grant_type=client_credentials&client_secret=x", "invalid_request"),
        ("grant_type=%ff", "invalid_request"),
        ("\u00e9", "invalid_request"),
        ("x" * 9000, "invalid_request"),
        ("&".join(f"p{n}=1" for n in range(40)), "invalid_request"),
    ],
)
async def test_requests_that_are_none(issuer: Issuer, body: str, code: str) -> None:
    tenant = await issuer.tenant()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await issuer.http.post(TOKEN, content=body.encode(), headers=headers, auth=client_of(tenant))
    refused(answer, code)


async def test_a_json_body_is_refused(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    refused(await issuer.http.post(TOKEN, json=GRANT, auth=client_of(tenant)), "invalid_request")


async def test_parameters_that_nobody_knows_and_empty_ones_are_let_pass(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    made = await token(issuer, tenant, resource="https://x.example", scope="")
    assert made["scope"].split() == sorted(SCOPES)


async def test_forged_and_foreign_tokens_open_nothing(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    good = (await token(issuer, tenant))["access_token"]
    kid = pyjwt.get_unverified_header(good)["kid"]
    (row,) = await issuer.sql("SELECT sealed_seed FROM token_secrets")
    seed = unseal(bytes([3]) * 32, row["sealed_seed"], purpose="access token key")
    key_id = client_of(tenant)[0]
    now = time.time()

    def made(**changes: Any) -> str:
        values: dict[str, Any] = {
            "issuer": BASE_URL, "client_id": key_id, "token_id": "t", "scopes": SCOPES, "now": now, "ttl_s": 900,
        }  # fmt: skip
        return sign(changes.pop("seed", seed), changes.pop("kid", kid), **{**values, **changes})

    assert (await get(issuer, made())).status_code == 200, "so that the others fail for what they change"
    head, payload, signature = good.split(".")

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    public = public_key_of(seed)
    hmac_by_public = pyjwt.encode(claims, public, algorithm="HS256", headers={"typ": "at+jwt", "kid": kid})
    forged = {
        "another key": made(seed=bytes(32)),
        "unknown kid": made(kid="no-such-kid"),
        "expired": made(now=now - 2000),
        "another issuer": made(issuer="https://evil.example"),
        "unknown client": made(client_id="0" * 12),
        "none": f"{part({**header, 'alg': 'none'})}.{payload}.",
        "none, signed": f"{part({**header, 'alg': 'none'})}.{payload}.{signature}",
        "HS256 with the public key": hmac_by_public,
        "typ JWT": f"{part({**header, 'typ': 'JWT'})}.{payload}.{signature}",
        "claims changed": f"{head}.{part({**claims, 'scope': 'audit:read'})}.{signature}",
        "longer": f"{head}.{part({**claims, 'exp': claims['exp'] + 9999})}.{signature}",
        "no signature": f"{head}.{payload}.",
        "cut": good[:-4],
        "kid as a path": f"{part({**header, 'kid': '../../x'})}.{payload}.{signature}",
        "kid is no text": f"{part({**header, 'kid': 1})}.{payload}.{signature}",
        "huge": good + "A" * 5000,
        "five parts": f"{head}.{payload}.{signature}.{payload}.{signature}",
    }
    for name, text in forged.items():
        answer = await get(issuer, text)
        assert answer.status_code == 401, name
        assert 'error="invalid_token"' in answer.headers["www-authenticate"], name
        assert text not in answer.text, name


async def test_revoking_the_key_ends_its_tokens(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    client = await key_with(issuer, tenant, "credentials:read")
    text = (await token(issuer, client))["access_token"]
    assert (await get(issuer, text)).status_code == 200
    await issuer.http.delete(f"{V1}/api-keys/{client_of(client)[0]}", headers=tenant.headers)
    assert (await get(issuer, text)).status_code == 401


async def test_a_token_gets_no_token(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    text = (await token(issuer, tenant))["access_token"]
    refused(await issuer.http.post(TOKEN, data=GRANT, auth=(client_of(tenant)[0], text)), "invalid_client", 401)


async def test_metadata(issuer: Issuer) -> None:
    answer = await issuer.http.get("/.well-known/oauth-authorization-server")
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["issuer"], found["token_endpoint"]) == (BASE_URL, f"{BASE_URL}/oauth/token")
    assert found["grant_types_supported"] == ["client_credentials"]
    assert found["response_types_supported"] == []
    assert found["scopes_supported"] == list(SCOPES)
    assert set(found["token_endpoint_auth_methods_supported"]) == {"client_secret_basic", "client_secret_post"}


async def test_the_signing_key_is_made_once_sealed_and_replaced_in_time(issuer: Issuer) -> None:
    moment = datetime.now(UTC)
    keys = TokenKeys(issuer.service.database, kek=bytes([3]) * 32, clock=lambda: moment)
    first = await keys.current()
    assert (await keys.current()).kid == first.kid
    assert len(await issuer.sql("SELECT 1 FROM token_keys")) == 1
    (row,) = await issuer.sql("SELECT sealed_seed FROM token_secrets")
    assert base64.b64encode(first.seed).decode() not in row["sealed_seed"]
    moment += timedelta(days=30)
    assert (await keys.current()).kid == first.kid, "its successor is not known everywhere yet"
    assert len(await issuer.outbox(TokenKeyMade)) == 2
    moment += timedelta(minutes=2)
    second = await keys.current()
    assert second.kid != first.kid
    other_kek = TokenKeys(issuer.service.database, kek=bytes([9]) * 32, clock=lambda: moment)
    assert (await other_kek.current()).kid not in (first.kid, second.kid), "what another KEK has sealed is left alone"
    moment += timedelta(days=90)
    assert (await keys.current()).kid not in (first.kid, second.kid), "the first one after a long rest signs at once"


async def test_the_openapi_document_names_scopes_of_both_ways(issuer: Issuer) -> None:
    document = (await issuer.http.get(f"{V1}/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["ApiKey"] == {"type": "http", "scheme": "bearer", "description": schemes["ApiKey"]["description"]}
    flow = schemes["ClientCredentials"]["flows"]["clientCredentials"]
    assert flow["tokenUrl"] == "/oauth/token"
    assert set(flow["scopes"]) == set(SCOPES)
    operation = document["paths"][f"{V1}/api-keys"]["get"]
    assert operation["security"] == [{"ApiKey": ["keys:read"]}, {"ClientCredentials": ["keys:read"]}]
    assert "security" not in document["paths"]["/oauth/token"]["post"]
