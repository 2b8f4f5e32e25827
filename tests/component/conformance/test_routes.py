"""The conformance routes as suites call them, and that nobody meets them by accident."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import httpx
import pytest
import typer

from laurel.credential import proofs
from laurel.http_server import serve_http
from laurel.migrate import SERVICES
from laurel.paths import service_for
from laurel_local.cli import app
from laurel_local.conformance.tls import write_certificate
from laurel_local.up import settings_class
from tests.component.conformance.conftest import (
    BASE,
    HOLDER,
    HOLDER_DID,
    V1_1,
    V2,
    Suite,
    credential,
    signed,
    signed_by_holder,
)
from tests.conftest import free_ports


@pytest.mark.parametrize("cryptosuite", proofs.CRYPTOSUITES[:2])
@pytest.mark.parametrize("body", [credential(), V1_1], ids=["2.0", "1.1"])
async def test_what_it_issues_it_verifies_and_a_changed_one_it_refuses(
    suite: Suite, cryptosuite: str, body: dict[str, Any]
) -> None:
    issued = await suite.issue(body, cryptosuite=cryptosuite)
    assert issued["issuer"] == suite.issuer
    assert issued["proof"]["cryptosuite"] == cryptosuite
    assert issued["@context"][: len(body["@context"])] == body["@context"]
    answer = await suite.verify(issued)
    assert (answer.status_code, answer.json()["verified"]) == (200, True), answer.text
    changed = {**issued, "credentialSubject": {"id": "did:example:another"}}
    answer = await suite.verify(changed, checks=["proof"])
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "https://www.w3.org/TR/vc-data-model#CRYPTOGRAPHIC_SECURITY_ERROR"


async def test_a_refusal_names_the_rule_the_place_and_the_clause(suite: Suite) -> None:
    body = credential(validFrom="yesterday")
    answer = await suite.post("credentials/issue", {"credential": body})
    assert answer.status_code == 400
    (problem,) = answer.json()["problemDetails"]
    assert problem["title"] == "validity"
    assert problem["pointer"] == "/validFrom"
    assert "§4.9" in problem["clause"]


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"credential": "x"}, {"credential": {}, "options": []},
        {"credential": {}, "options": {"cryptosuite": "rot13"}}, {"credential": {}, "options": {"cryptosuite": [1]}},
    ],
)  # fmt: skip
async def test_what_is_not_understood_is_a_422(suite: Suite, body: Any) -> None:
    assert (await suite.post("credentials/issue", body)).status_code == 422


async def test_checks_are_those_that_were_asked_for(suite: Suite) -> None:
    over = await suite.issue(credential(validUntil="2020-01-01T00:00:00Z"))
    assert (await suite.verify(over, checks=["proof"])).status_code == 200
    answer = await suite.verify(over)
    assert answer.status_code == 400
    assert answer.json()["problemDetails"][0]["title"] == "expired"
    assert (await suite.verify(over, checks=["horoscope"])).status_code == 422


async def test_a_status_list_is_live_and_a_revoked_credential_is_refused(suite: Suite) -> None:
    kept = await suite.issue(credential(id="urn:uuid:00000000-0000-4000-8000-000000000001"))
    revoked = await suite.issue(credential())
    assert (await suite.post("credentials/status", {"credentialId": revoked["id"]})).status_code == 200
    assert (await suite.post("credentials/status", {"credentialId": "urn:x:unknown"})).status_code == 404
    entry = revoked["credentialStatus"]
    assert (await suite.get(entry["statusReference"])).json()["1"] == "revoked"
    listed = await suite.get(entry["statusListCredential"])
    assert listed.status_code == 200
    assert listed.json()["issuer"] == suite.issuer
    assert (await suite.verify(listed.json())).status_code == 200
    answer = await suite.verify(revoked)
    assert answer.status_code == 400
    assert answer.json()["problemDetails"][0]["title"] == "revoked"
    assert (await suite.verify(revoked, checks=["proof"])).status_code == 200
    assert (await suite.verify(kept)).status_code == 200
    assert (await suite.get("/conformance/status/99")).status_code == 404
    for path in (entry["statusListCredential"], entry["statusReference"], "/conformance/status/99"):
        got, head = await suite.get(path), await suite._client.head(path)
        assert (head.status_code, head.headers["content-type"]) == (got.status_code, got.headers["content-type"])
        assert head.headers.get("cache-control") == got.headers.get("cache-control")


async def test_no_name_of_a_status_list_is_a_mistake_of_ours(suite: Suite) -> None:
    """Neither at its URL nor in what is handed in to be verified: Python reads no number of 5,000 digits."""
    issued = await suite.issue(credential())
    for name in ("9" * 5000, "00", "-1", "+1", "1_0", "\u0661", "%00", "0%0A"):
        assert (await suite.get(f"/conformance/status/{name}")).status_code == 404, name[:20]
    entry = {**issued["credentialStatus"], "id": f"{BASE}/conformance/status/0#1"}
    entry["statusListCredential"] = f"{BASE}/conformance/status/{'9' * 5000}"
    answer = await suite.verify(signed(credential(issuer=HOLDER_DID, credentialStatus=entry), HOLDER))
    assert answer.status_code == 400, answer.text[:300]
    assert answer.json()["problemDetails"][0]["step"] == "status"


async def test_presentations(suite: Suite) -> None:
    issued = await suite.issue(credential())
    bare = {
        "@context": [V2],
        "type": ["VerifiablePresentation"],
        "holder": HOLDER_DID,
        "verifiableCredential": [issued],
    }
    unsigned = await suite.present(bare)
    assert unsigned.status_code == 200
    assert "not signed" in unsigned.json()["warnings"][0]
    made = signed_by_holder(bare, challenge="c-1", domain="suite.example")
    assert (await suite.present(made, challenge="c-1", domain="suite.example")).status_code == 200
    for options, title in (({"challenge": "c-2"}, "wrong_challenge"), ({"domain": "other.example"}, "wrong_domain")):
        answer = await suite.present(made, **options)
        assert answer.status_code == 400
        assert answer.json()["problemDetails"][0]["title"] == title
    changed = copy.deepcopy(made)
    changed["verifiableCredential"][0]["credentialSubject"]["madeUp"] = "by somebody else"
    assert (await suite.present(changed, challenge="c-1")).status_code == 400
    stolen = {**made, "holder": "did:example:somebody-else"}
    assert (await suite.present(stolen, challenge="c-1")).json()["problemDetails"][0]["title"] == "not_the_holders_key"
    nobodys = {**bare, "verifiableCredential": [{**issued, "type": []}]}
    assert (await suite.present(nobodys)).status_code == 400


async def test_a_self_asserted_credential_needs_its_holders_proof(suite: Suite) -> None:
    own = {
        "@context": [V2],
        "type": ["VerifiableCredential"],
        "issuer": HOLDER_DID,
        "credentialSubject": {"id": "urn:a:b"},
    }
    bare = {"@context": [V2], "type": ["VerifiablePresentation"], "holder": HOLDER_DID, "verifiableCredential": [own]}
    assert (await suite.present(bare)).status_code == 400
    assert (await suite.present(signed_by_holder(bare))).status_code == 200
    foreign = {**bare, "verifiableCredential": [{**own, "issuer": "did:example:alice"}]}
    assert (await suite.present(signed_by_holder(foreign))).status_code == 400


def test_nothing_but_the_flags_loads_the_routes() -> None:
    """Neither `laurel up` without them, nor the demo, nor `laurel serve`, which is what compose and Kubernetes run."""
    program = (
        "import sys, laurel_local.cli, laurel_local.up, laurel_local.serve, laurel_local.embedded\n"
        "import laurel_local.demo.demo, laurel_verifier.service, laurel_issuer.service\n"
        "assert not [name for name in sys.modules if name.startswith('laurel_local.conformance')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_no_variable_and_no_setting_switches_them_on() -> None:
    (up,) = [command for name, command in typer.main.get_group(app).commands.items() if name == "up"]
    for option in up.params:
        if option.name in ("conformance", "tls"):
            assert (option.envvar, option.default) == (None, False)
    for service in SERVICES:
        assert not [name for name in settings_class(service).model_fields if "conformance" in name or "tls" in name]
    for path in ("credentials/issue", "credentials/verify", "presentations/verify", "credentials/status", "status/0"):
        assert service_for(f"/conformance/{path}") is None


@pytest.mark.parametrize("flags", [["--conformance"], ["--tls"]])
def test_neither_flag_works_alone(flags: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "laurel_local.cli", "up", *flags, "--port", "0", "--state", str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "go together" in done.stderr
    assert not (tmp_path / "s").exists()


async def test_the_certificate_serves_localhost(suite: Suite, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    assert key.stat().st_mode & 0o077 == 0
    trusted: SSLContext = create_default_context(cafile=str(certificate))
    stop, listening, (port,) = asyncio.Event(), asyncio.Event(), free_ports(1)
    async with asyncio.TaskGroup() as group:
        app = suite._client._transport.app  # type: ignore[attr-defined]
        serving = serve_http(app, host="127.0.0.1", port=port, stop=stop, listening=listening, tls=(certificate, key))
        group.create_task(serving)
        await listening.wait()
        async with httpx.AsyncClient(verify=trusted) as client:
            answer = await client.get(f"https://localhost:{port}/conformance/status/0")
        stop.set()
    assert answer.status_code == 404
