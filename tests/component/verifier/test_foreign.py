"""Credentials of other issuers: their DID documents and status lists come over HTTP from a server of the test's own."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from laurel.credential import status
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import NOW, TestIssuer
from tests.component.verifier.test_verdicts import code, outcomes, pointer_of


@dataclass
class Foreign:
    """Somebody else's server. answers: path → (status, body)."""

    port: int
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    media_type: str = "application/json"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, path: str, document: Any, code: int = 200) -> str:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[path] = (code, body)
        return self.url + path

    async def answer(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        found, body = self.answers.get(request.url.path, (404, b"{}"))
        return Response(body, found, media_type=self.media_type)


@asynccontextmanager
async def serving() -> AsyncIterator[Foreign]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        foreign = Foreign(bound.getsockname()[1])
        app = Starlette(routes=[Route("/{path:path}", foreign.answer)])
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield foreign
        server.should_exit = True
        await task


@pytest.fixture
async def foreign() -> AsyncIterator[Foreign]:
    async with serving() as made:
        yield made


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"allow_http_issuers": True}


@pytest.fixture
def stranger() -> TestIssuer:
    return TestIssuer(slug="", seed=b"\x0c" * 32, base_url="https://else.example")


INDEX = 4711


def listed_badge(stranger: TestIssuer, url: str, purpose: str = "revocation", **changes: Any) -> dict[str, Any]:
    return stranger.badge(status=status.status_entry(url, INDEX, purpose), **changes)


@pytest.mark.parametrize(
    ("purpose", "bits", "verdict"),
    [
        ("revocation", set(), "valid"),
        ("revocation", {INDEX}, "revoked"),
        ("revocation", {INDEX - 1, INDEX + 1}, "valid"),
        ("suspension", {INDEX}, "suspended"),
    ],
)
async def test_a_foreign_status_list(
    verifier: Verifier, foreign: Foreign, stranger: TestIssuer, purpose: str, bits: set[int], verdict: str
) -> None:
    url = f"{foreign.url}/list"
    foreign.put("/list", stranger.status_list(url, bits, purpose))
    found = await verifier.verify(listed_badge(stranger, url, purpose))
    assert found["verdict"] == verdict, found
    assert outcomes(found)["status"] == ("passed" if verdict == "valid" else "failed")
    await verifier.verify(listed_badge(stranger, url, purpose))
    assert foreign.asked == ["/list"]  # kept for a while


async def test_two_entries_and_the_worse_one_counts(verifier: Verifier, foreign: Foreign, stranger: TestIssuer) -> None:
    one, two = f"{foreign.url}/1", f"{foreign.url}/2"
    foreign.put("/1", stranger.status_list(one, set()))
    foreign.put("/2", stranger.status_list(two, {INDEX}, "suspension"))
    entries = [status.status_entry(one, INDEX), status.status_entry(two, INDEX, "suspension")]
    assert (await verifier.verify(stranger.badge(status=entries)))["verdict"] == "suspended"


async def test_many_status_entries_are_not_many_requests(
    verifier: Verifier, foreign: Foreign, stranger: TestIssuer
) -> None:
    entries = [status.status_entry(f"{foreign.url}/{number}", INDEX, f"purpose-{number}") for number in range(5)]
    found = await verifier.verify(stranger.badge(status=entries))
    assert found["verdict"] == "could_not_check", found
    assert [one["code"] for one in found["checks"] if one["step"] == "status"] == ["too_many_entries"]
    assert foreign.asked == []


async def test_status_lists_that_hang_have_one_deadline_together(
    verifier: Verifier, foreign: Foreign, stranger: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laurel_verifier.verification.STATUS_S", 0.3)
    asked: list[str] = []

    async def hang(*arguments: Any) -> None:
        asked.append(arguments[1])
        await asyncio.Event().wait()

    monkeypatch.setattr("laurel_verifier.status_lists.StatusLists._fetched", hang)
    entries = [status.status_entry(f"{foreign.url}/{number}", INDEX, f"purpose-{number}") for number in range(4)]
    found = await verifier.verify(stranger.badge(status=entries))
    assert found["verdict"] == "could_not_check", found
    assert [one["code"] for one in found["checks"] if one["step"] == "status"] == ["timeout"]
    assert len(asked) == 4, "asked side by side, not one after another"


def _unsigned(document: dict[str, Any]) -> Any:
    return {key: value for key, value in document.items() if key != "proof"}


def _cleared(document: dict[str, Any]) -> Any:
    empty = status.encode_list(bytes(status.MINIMUM_ENTRIES // 8))
    return {**document, "credentialSubject": {**document["credentialSubject"], "encodedList": empty}}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_unsigned, "list_not_genuine"),
        (_cleared, "list_not_genuine"),  # the revoked bit is wiped out: the signature notices
        (lambda document: {**document, "id": "https://else.example/other"}, "wrong_list"),
        (lambda document: {**document, "type": ["VerifiableCredential"]}, "not_a_list"),
        (lambda document: b"not json", "bad_answer"),
        (lambda document: b"[]", "bad_answer"),
        (lambda document: b"[" * 10_000, "bad_answer"),
        (lambda document: b" " * (3 << 20), "fetch_failed"),
    ],
)
async def test_a_list_that_cannot_be_relied_on_is_no_all_clear(
    verifier: Verifier, foreign: Foreign, stranger: TestIssuer, spoil: Callable[[dict[str, Any]], Any], why: str
) -> None:
    url = f"{foreign.url}/list"
    foreign.put("/list", spoil(stranger.status_list(url, {INDEX})))
    found = await verifier.verify(listed_badge(stranger, url))
    assert found["verdict"] == "could_not_check"
    assert code(found, "status") == why
    assert pointer_of(found, "status") == "/credentialStatus/statusListCredential"


async def test_a_list_of_another_issuer_or_purpose(verifier: Verifier, foreign: Foreign, stranger: TestIssuer) -> None:
    url = f"{foreign.url}/list"
    foreign.put("/list", TestIssuer(slug="", seed=b"\x0d" * 32).status_list(url, set()))
    found = await verifier.verify(listed_badge(stranger, url))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "foreign_list")
    url = f"{foreign.url}/suspensions"
    foreign.put("/suspensions", stranger.status_list(url, set(), "suspension"))
    found = await verifier.verify(listed_badge(stranger, url, "revocation"))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "wrong_purpose")


async def test_a_bomb_is_refused_while_it_unfolds(verifier: Verifier, foreign: Foreign, stranger: TestIssuer) -> None:
    url = f"{foreign.url}/list"
    bomb = status.encode_list(bytes(64 << 20))
    document = status.build_status_list(url, stranger.did, "revocation", bomb, NOW - timedelta(hours=1))
    assert len(bomb) < 200_000
    foreign.put("/list", signed_anyway(stranger, document))
    found = await verifier.verify(listed_badge(stranger, url))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "list_too_large")


async def test_an_index_beyond_the_list(verifier: Verifier, foreign: Foreign, stranger: TestIssuer) -> None:
    url = f"{foreign.url}/list"
    foreign.put("/list", stranger.status_list(url, set()))
    entry = status.status_entry(url, status.MINIMUM_ENTRIES)
    found = await verifier.verify(stranger.badge(status=entry))
    assert (found["verdict"], code(found, "status")) == ("invalid", "range")


async def test_a_missing_list_and_a_server_in_trouble(
    verifier: Verifier, foreign: Foreign, stranger: TestIssuer
) -> None:
    found = await verifier.verify(listed_badge(stranger, f"{foreign.url}/none"))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "not_found")
    url = foreign.put("/trouble", b"", 500)
    found = await verifier.verify(listed_badge(stranger, url))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "fetch_failed")
    expired = listed_badge(stranger, url, valid_until=NOW - timedelta(hours=1))
    assert (await verifier.verify(expired))["verdict"] == "expired"  # that much is certain


async def test_a_set_bit_of_another_purpose_is_told(verifier: Verifier, foreign: Foreign, stranger: TestIssuer) -> None:
    url = f"{foreign.url}/audits"
    foreign.put("/audits", stranger.status_list(url, {INDEX}, "audited"))
    found = await verifier.verify(listed_badge(stranger, url, "audited"))
    assert found["verdict"] == "valid"
    detail = next(check["detail"] for check in found["checks"] if check["step"] == "status")
    assert "its status for “audited” is 0x1, which takes nothing from its validity" in detail
    assert found["notices"] == [{"purpose": "audited", "value": 1}]


async def test_nobody_is_asked_in_the_name_of_an_unsigned_document(
    verifier: Verifier, foreign: Foreign, stranger: TestIssuer
) -> None:
    url = f"{foreign.url}/list"
    foreign.put("/list", stranger.status_list(url, set()))
    found = await verifier.verify({**listed_badge(stranger, url), "name": "forged"})
    assert found["verdict"] == "invalid"
    assert foreign.asked == []


async def test_a_foreign_did_web(verifier: Verifier, foreign: Foreign) -> None:
    university = TestIssuer(slug="far", seed=b"\x0e" * 32, base_url=foreign.url)
    badge = university.badge()
    found = await verifier.verify(badge)
    assert (found["verdict"], code(found, "issuer")) == ("unknown_issuer", "unknown_issuer")  # the server says 404
    foreign.put("/issuers/far/did.json", university.did_document())
    found = await verifier.verify(badge)
    assert found["verdict"] == "valid", found
    asked = len(foreign.asked)
    await verifier.verify(badge)
    assert len(foreign.asked) == asked


@pytest.mark.parametrize(
    ("spoil", "verdict", "why"),
    [
        (lambda document: {**document, "assertionMethod": []}, "invalid", "not_for_assertion"),
        (lambda document: {**document, "verificationMethod": []}, "invalid", "key_not_found"),
        (lambda document: {**document, "id": "did:web:else.example"}, "could_not_check", "wrong_document"),
        (lambda document: [], "could_not_check", "bad_answer"),
        (
            lambda document: json.loads(json.dumps(document).replace('"controller": "', '"controller": "x')),
            "invalid",
            "wrong_controller",
        ),
    ],
)
async def test_a_did_document_must_vouch_for_the_key(
    verifier: Verifier, foreign: Foreign, spoil: Callable[[dict[str, Any]], Any], verdict: str, why: str
) -> None:
    university = TestIssuer(slug="far", seed=b"\x0e" * 32, base_url=foreign.url)
    foreign.put("/issuers/far/did.json", spoil(university.did_document()))
    found = await verifier.verify(university.badge())
    assert (found["verdict"], code(found, "issuer")) == (verdict, why)


async def test_by_its_address(verifier: Verifier, foreign: Foreign, stranger: TestIssuer) -> None:
    url = foreign.put("/badge", stranger.badge())
    answer = await verifier.client.post("/verify", data={"url": url})
    assert answer.status_code == 200
    assert "Valid, issuer not known here" in answer.text
    for path, found in (("/none", 404), ("/html", 200)):
        foreign.put(path, b"<html>", found)
        answer = await verifier.client.post("/verify", data={"url": foreign.url + path})
        assert answer.status_code == 422


def signed_anyway(issuer: TestIssuer, document: dict[str, Any]) -> dict[str, Any]:
    """Signed without lint, as a careless or hostile issuer would."""
    from laurel.credential import multibase
    from laurel.credential.proofs import RDFC, canonical, hash_data

    proof = {
        "type": "DataIntegrityProof", "cryptosuite": RDFC, "created": "2026-11-21T00:00:00Z",
        "verificationMethod": issuer.signer.verification_method, "proofPurpose": "assertionMethod",
    }  # fmt: skip
    data = hash_data(canonical({**proof, "@context": document["@context"]}, RDFC), canonical(document, RDFC))
    return {**document, "proof": {**proof, "proofValue": multibase.encode(issuer.signer.sign(data))}}
