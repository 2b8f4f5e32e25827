"""`laurel audit` and `laurel keys` against all services: what was tampered with is named, and no key's use missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from laurel_local import audit_log, keys
from laurel_local.client import Client
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from tests.component.whole.conftest import Tenant, Whole
from tests.security.estate import BASE_URL, OPERATOR

PROFILE = {"slug": "uni", "name": "Uni", "url": "https://u.example"}


def client(whole: Whole, key: str) -> Client:
    """The command's client, on the services in this process."""
    made = Client(BASE_URL, key)
    transport = whole.http._transport
    made._http = httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers={"Authorization": f"Bearer {key}"})
    return made


@pytest.fixture
async def tenant(whole: Whole) -> Tenant:
    """An organisation that has acted in three services."""
    made = await whole.tenant("uni")
    profile = await whole.call(made, "POST", "/issuer/v1/profiles", 201, json=PROFILE)
    for _ in range(3):
        await whole.call(made, "POST", f"/issuer/v1/profiles/{profile['profile_id']}/keys", 201)
    await whole.call(
        made, "POST", "/assessment/v1/achievements", 201,
        json={"name": "A", "description": "d", "criteria": {"narrative": "n"}, "profile_id": profile["profile_id"]},
    )  # fmt: skip
    endpoint = await whole.call(
        made, "POST", "/notifier/v1/endpoints", 201,
        json={"url": "http://127.0.0.1:8099/hook/secret-path", "event_types": ["credential.issued"]},
    )  # fmt: skip
    path = f"/notifier/v1/endpoints/{endpoint['endpoint_id']}"
    await whole.call(made, "PATCH", path, json={"enabled": False})
    await whole.call(made, "POST", f"{path}/rotate-secret")
    await whole.call(made, "DELETE", path, 204)
    return made


async def tampered(whole: Whole, statement: str) -> None:
    connection = await asyncpg.connect(whole.admin_dsn)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(statement)
    finally:
        await connection.close()


async def verified(whole: Whole, tenant: Tenant, capsys: pytest.CaptureFixture[str], heads: Path | None = None) -> Any:
    exits = await audit_log.verify(client(whole, tenant.key), heads, Output(as_json=True))
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is (exits == Exit.OK)
    return found


async def test_audit(whole: Whole, tenant: Tenant, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = await whole.call(tenant, "GET", "/issuer/v1/audit", params={"limit": 3})
    assert [one["action"] for one in page["items"]] == ["organisation.create", "profile.create", "signing_key.create"]
    assert [one["actor"] for one in page["items"]] == [OPERATOR_ACTOR, *[f"api_key:{tenant.key_id}"] * 2]
    assert (page["next"], page["head"]["seq"]) == (3, 5)
    notifier = (await whole.call(tenant, "GET", "/notifier/v1/audit"))["items"]
    assert [one["action"] for one in notifier] == [
        "endpoint.create", "endpoint.change", "endpoint.rotate_secret", "endpoint.delete",
    ]  # fmt: skip
    assert "secret-path" not in json.dumps(notifier)
    assert OPERATOR not in json.dumps(page)
    of_one = await whole.call(tenant, "GET", "/notifier/v1/audit", params={"subject": notifier[0]["subject"]})
    assert len(of_one["items"]) == 4

    found = await verified(whole, tenant, capsys)
    assert found["ok"]
    counts = {one["service"]: one["seq"] for one in found["chains"]}
    assert counts == {"assessment": 1, "issuer": 5, "notifier": 4, "verifier": 0}
    heads = tmp_path / "heads.json"
    heads.write_text(json.dumps(found))
    file = tmp_path / "audit.ndjson"
    assert await audit_log.export(client(whole, tenant.key), file, Output(as_json=True)) == Exit.OK
    assert json.loads(capsys.readouterr().out) == found
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["service"], one["seq"]) for one in lines if one["service"] == "issuer"] == [
        ("issuer", n) for n in range(1, 6)
    ]
    with pytest.raises(Failure, match="is there already"):
        await audit_log.export(client(whole, tenant.key), file, Output(as_json=True))
    with pytest.raises(Failure):
        await audit_log.export(client(whole, "nonsense"), tmp_path / "other.ndjson", Output(as_json=True))
    assert not list(tmp_path.glob("other*"))  # noqa: ASYNC240

    # More is done: what was there before still is.
    await whole.call(tenant, "POST", "/issuer/v1/api-keys", 201, json={"label": "x", "scopes": ["keys:read"]})
    assert (await verified(whole, tenant, capsys, heads))["ok"]
    every = await audit_log.verify_database(whole.admin_dsn, heads, Output(as_json=True))
    assert (every, len(json.loads(capsys.readouterr().out)["chains"])) == (Exit.OK, 3)

    async def broken(heads: Path | None = None) -> tuple[str, int]:
        (one,) = [one for one in (await verified(whole, tenant, capsys, heads))["chains"] if one["broken"] is not None]
        assert await audit_log.verify_database(whole.admin_dsn, heads, Output(as_json=True)) == Exit.NO
        capsys.readouterr()
        return one["service"], one["broken"]

    await tampered(whole, "UPDATE issuer.audit_log SET actor = 'operator' WHERE seq = 3")
    assert await broken() == ("issuer", 3)
    await tampered(whole, f"UPDATE issuer.audit_log SET actor = 'api_key:{tenant.key_id}' WHERE seq = 3")
    assert (await verified(whole, tenant, capsys, heads))["ok"]
    await tampered(whole, "DELETE FROM notifier.audit_log WHERE seq = 4")
    assert (await verified(whole, tenant, capsys))["ok"], "nobody sees that the end is missing, who has kept no head"
    assert await broken(heads) == ("notifier", 4)
    await tampered(whole, "DELETE FROM assessment.audit_log")
    chains = (await verified(whole, tenant, capsys, heads))["chains"]
    assert {(one["service"], one["broken"]) for one in chains} >= {("assessment", 1), ("notifier", 4)}


OPERATOR_ACTOR = "operator"


async def test_keys(whole: Whole, tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    def out() -> Any:
        return json.loads(capsys.readouterr().out)

    output = Output(as_json=True)
    assert await keys.created(client(whole, tenant.key), "lms", ["results:write"], None, output) == Exit.OK
    made = out()
    await whole.known(made["key_id"])
    assert await keys.rotated(client(whole, tenant.key), made["key_id"], 3600, output) == Exit.OK
    again = out()
    assert (again["key_id"], again["text"] != made["text"]) == (made["key_id"], True)
    for text in (made["text"], again["text"]):
        answer = await whole.http.post("/assessment/v1/results", json={}, headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 422
    assert await keys.listed(client(whole, tenant.key), output) == Exit.OK
    (listed,) = [one for one in out()["api_keys"] if one["key_id"] == made["key_id"]]
    assert [one["state"] for one in listed["secrets"]] == ["current", "previous"]
    assert set(listed["last_used"]) == {"assessment", "issuer", "notifier", "verifier"}
    assert [name for name, at in listed["last_used"].items() if at] == ["assessment"]
    assert made["text"].split("_")[2] not in json.dumps(listed)
    assert await keys.revoked(client(whole, tenant.key), made["key_id"], output) == Exit.OK
    assert out() == {"revoked": made["key_id"]}
    # For a person: the key alone on stdout, so that it can be piped to where it belongs.
    await keys.created(client(whole, tenant.key), "x", ["results:write"], None, Output(as_json=False))
    assert capsys.readouterr().out.strip().startswith("laurel_")
    await keys.listed(client(whole, tenant.key), Output(as_json=False))
    assert "revoked" in capsys.readouterr().out


async def test_heads_of_another_organisation_are_no_tampering(
    whole: Whole, tenant: Tenant, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = await whole.tenant("college")
    heads = tmp_path / "heads.json"
    heads.write_text(json.dumps(await verified(whole, other, capsys)))
    with pytest.raises(Failure, match="another organisation") as refused:
        await audit_log.verify(client(whole, tenant.key), heads, Output(as_json=True))
    assert (refused.value.code, other.tenant_id in refused.value.message) == (Exit.USAGE, True)
    await audit_log.verify_database(whole.admin_dsn, None, Output(as_json=True))
    heads.write_text(capsys.readouterr().out)  # of every organisation: one's own are among them
    assert (await verified(whole, tenant, capsys, heads))["ok"]


async def test_an_export_to_standard_output(whole: Whole, tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    assert await audit_log.export(client(whole, tenant.key), Path("-"), Output(as_json=False)) is Exit.OK
    said = capsys.readouterr()
    assert len([json.loads(line) for line in said.out.splitlines()]) == 10
    assert said.err.count("holds") == 4
    assert not Path("-").exists()  # noqa: ASYNC240
    with pytest.raises(Failure, match="--json and -"):
        await audit_log.export(client(whole, tenant.key), Path("-"), Output(as_json=True))
