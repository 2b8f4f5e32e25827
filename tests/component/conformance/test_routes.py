"""The conformance routes as suites call them, on a real database, with workers of their own."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

import httpx
import pytest

from laurel.credential import did, keys, multibase, proofs
from laurel.credential.text import timestamp
from laurel.database import Database
from laurel.process import serve_http
from laurel_local.conformance.start import open_conformance
from laurel_local.conformance.tls import write_certificate
from tests.component.verifier.conftest import make_settings, verifier_dsn
from tests.conftest import free_ports

__all__ = ["verifier_dsn"]

BASE = "https://localhost:9"
V2 = "https://www.w3.org/ns/credentials/v2"
EXAMPLES = "https://www.w3.org/ns/credentials/examples/v2"
V1_1 = {
    "@context": ["https://www.w3.org/2018/credentials/v1"],
    "id": "urn:uuid:86294362-4254-4f36-854f-3952fe42555d",
    "type": ["VerifiableCredential"],
    "issuer": "did:example:anybody",
    "issuanceDate": "2020-03-16T22:37:26.544Z",
    "credentialSubject": {"id": "did:example:subject"},
}
HOLDER = keys.Ed25519Signer(bytes(range(32)), "")
HOLDER_DID = did.did_key(HOLDER.public_key_multibase)


class Suite:
    """What a suite does: posts JSON, looks at the status."""

    def __init__(self, client: httpx.AsyncClient, announcement: dict[str, Any]) -> None:
        self._client = client
        self.issuer: str = announcement["issuer"]

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self._client.post(f"/conformance/{path}", json=body)

    async def issue(self, credential: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer = await self.post("credentials/issue", {"credential": credential, "options": options})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()["verifiableCredential"]
        return found

    async def verify(self, credential: Any, **options: Any) -> httpx.Response:
        return await self.post("credentials/verify", {"verifiableCredential": credential, "options": options})

    async def present(self, presentation: Any, **options: Any) -> httpx.Response:
        return await self.post("presentations/verify", {"verifiablePresentation": presentation, "options": options})

    async def get(self, path: str) -> httpx.Response:
        return await self._client.get(path)


@pytest.fixture
async def suite(verifier_dsn: str) -> AsyncIterator[Suite]:
    async with AsyncExitStack() as stack:
        settings = make_settings(verifier_dsn)
        database = await stack.enter_async_context(Database(settings.dsn("verifier"), schema="verifier", size=2))
        routes = await stack.enter_async_context(open_conformance(database, settings, base_url=BASE))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(routes.app), base_url=BASE)
        yield Suite(await stack.enter_async_context(client), routes.announcement)


def credential(**changes: Any) -> dict[str, Any]:
    return {
        "@context": [V2, EXAMPLES],
        "id": "urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e6f",
        "type": ["VerifiableCredential", "RelationshipCredential"],
        "issuer": "did:example:anybody",
        "credentialSubject": {"id": "did:example:subject", "madeUp": "by the examples context"},
        **changes,
    }


def signed_by_holder(presentation: dict[str, Any], **members: Any) -> dict[str, Any]:
    proof = {
        "type": "DataIntegrityProof", "cryptosuite": proofs.JCS, "created": timestamp(datetime.now(UTC)),
        "verificationMethod": f"{HOLDER_DID}#{HOLDER.public_key_multibase}", "proofPurpose": "authentication",
        "@context": presentation["@context"], **members,
    }  # fmt: skip
    data = proofs.hash_data(proofs.canonical(proof, proofs.JCS), proofs.canonical(presentation, proofs.JCS))
    return {**presentation, "proof": {**proof, "proofValue": multibase.encode(HOLDER.sign(data))}}


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
    assert answer.json()["type"] == "https://w3id.org/security#PROOF_VERIFICATION_ERROR"


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
    signed = signed_by_holder(bare, challenge="c-1", domain="suite.example")
    assert (await suite.present(signed, challenge="c-1", domain="suite.example")).status_code == 200
    for options, title in (({"challenge": "c-2"}, "wrong_challenge"), ({"domain": "other.example"}, "wrong_domain")):
        answer = await suite.present(signed, **options)
        assert answer.status_code == 400
        assert answer.json()["problemDetails"][0]["title"] == title
    changed = copy.deepcopy(signed)
    changed["verifiableCredential"][0]["credentialSubject"]["madeUp"] = "by somebody else"
    assert (await suite.present(changed, challenge="c-1")).status_code == 400
    stolen = {**signed, "holder": "did:example:somebody-else"}
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


async def test_an_envelope_is_said_to_be_unread(suite: Suite) -> None:
    envelope = {"@context": V2, "type": "EnvelopedVerifiableCredential", "id": "data:application/vc+jwt,e30.e30.e30"}
    assert (await suite.verify(envelope)).status_code == 422
    assert (await suite.verify({**envelope, "@context": []})).status_code == 400


def test_nothing_but_the_flags_loads_the_routes() -> None:
    program = (
        "import sys, laurel_local.cli, laurel_local.up, laurel_local.embedded, laurel_local.demo.demo\n"
        "assert not [name for name in sys.modules if name.startswith('laurel_local.conformance')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


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
