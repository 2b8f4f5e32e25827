"""What status entries tell beside revocation: refresh and messages, strangers' and our own; and 1EdTech's lists."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from laurel.credential import jose, status
from laurel.credential.lint import lint
from laurel.http import GuardedClient
from laurel_local.conformance.tls import write_certificate
from laurel_verifier import service
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import (
    BASE_URL,
    NOW,
    TestIssuer,
    changed,
    credential_id,
    issued,
    message_changed,
    refresh_offered,
)
from tests.component.verifier.test_foreign import signed_anyway
from tests.component.verifier.test_proofs import P256, badge_of, by_did_key
from tests.component.verifier.test_verdicts import code, pointer_of

INDEX = 4711
MESSAGES = ["nothing to tell", "under review", "replaced", "on appeal", "settled"]
EXTENSIONS = "https://purl.imsglobal.org/spec/ob/v3p0/extensions.json"
VCDM = "https://www.w3.org/ns/credentials/status-list#"


class Far:
    """Somebody else's https server, which our client trusts."""

    def __init__(self, port: int) -> None:
        self.url = f"https://localhost:{port}"
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []

    def put(self, path: str, document: Any, code: int = 200) -> str:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[path] = (code, body)
        return self.url + path

    async def answer(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        found, body = self.answers.get(request.url.path, (404, b"{}"))
        return Response(body, found, media_type="application/json")


@pytest.fixture
async def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Far]:
    certificate, key = write_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(service, "GuardedClient", functools.partial(GuardedClient, tls=trusting))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        made = Far(bound.getsockname()[1])
        app = Starlette(routes=[Route("/{path:path}", made.answer)])
        server = uvicorn.Server(
            uvicorn.Config(app, log_config=None, lifespan="off", ssl_certfile=certificate, ssl_keyfile=key)
        )
        task = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield made
        server.should_exit = True
        await task


@pytest.fixture
def changed_settings(far: Far) -> dict[str, Any]:
    return {"allow_networks": "127.0.0.0/8,::1/128"}  # and after `far`: the service opens with its client


@pytest.fixture
def stranger() -> TestIssuer:
    return TestIssuer(slug="", seed=b"\x0c" * 32, base_url="https://else.example")


def detail(found: dict[str, Any]) -> str:
    told: str = next(check["detail"] for check in found["checks"] if check["step"] == "status")
    return told


def bearing(issuer: TestIssuer, **members: Any) -> dict[str, Any]:
    """A badge with these members, signed."""
    badge = {name: value for name, value in issuer.badge().items() if name != "proof"}
    badge["@context"] = [*badge["@context"], EXTENSIONS]
    return signed_anyway(issuer, {**badge, **members})


# --- messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 4])
async def test_a_message_is_told_and_takes_nothing_away(
    verifier: Verifier, far: Far, stranger: TestIssuer, value: int
) -> None:
    url = f"{far.url}/messages"
    far.put("/messages", stranger.status_list(url, {INDEX: value, INDEX - 1: 7, INDEX + 1: 7}, "message", 3))
    entry = status.status_entry(url, INDEX, "message", MESSAGES, "https://else.example/meanings")
    found = await verifier.verify(stranger.badge(status=entry))
    assert found["verdict"] == "valid", found
    assert f"“{MESSAGES[value]}” ({value:#x})" in detail(found)
    assert found["notices"] == [
        {
            "purpose": "message", "value": value, "message": MESSAGES[value],
            "reference": "https://else.example/meanings",
        }
    ]  # fmt: skip
    check = next(check for check in found["checks"] if check["step"] == "status")
    assert [(held["kind"], held["id"], held["index"]) for held in check["against"]] == [("status_list", url, INDEX)]


async def test_messages_beside_a_revocation_do_not_hide_it(verifier: Verifier, far: Far, stranger: TestIssuer) -> None:
    one, two = f"{far.url}/revoked", f"{far.url}/messages"
    far.put("/revoked", stranger.status_list(one, {INDEX}))
    far.put("/messages", stranger.status_list(two, {INDEX: 1}, "message", 3))
    entries = [status.status_entry(two, INDEX, "message", MESSAGES), status.status_entry(one, INDEX)]
    found = await verifier.verify(stranger.badge(status=entries))
    assert found["verdict"] == "revoked"
    assert detail(found).startswith("revoked by its issuer")
    assert "under review" in detail(found)
    assert [notice["message"] for notice in found["notices"]] == ["under review"]
    (schema,) = (check for check in found["checks"] if check["step"] == "schema")
    assert schema["outcome"] == "passed"  # of the rest: the schema itself would refuse the list
    assert schema["detail"].endswith(
        "apart from credentialStatus: the schema wants one object, and here is a list of 2"
    )


async def test_a_revocation_of_several_bits_is_one_whatever_its_value(
    verifier: Verifier, far: Far, stranger: TestIssuer
) -> None:
    url = f"{far.url}/list"
    far.put("/list", stranger.status_list(url, {INDEX: 2}, "revocation", 2))
    entry = status.status_entry(url, INDEX, "revocation", ["no", "fraud", "mistake"])
    found = await verifier.verify(stranger.badge(status=entry))
    assert (found["verdict"], "“mistake”" in detail(found)) == ("revoked", True)


@pytest.mark.parametrize(
    ("changes", "verdict", "why"),
    [
        ({"statusSize": 0}, "invalid", "bad_status_entry"),
        ({"statusSize": -3}, "invalid", "bad_status_entry"),
        ({"statusSize": "3"}, "invalid", "bad_status_entry"),
        ({"statusSize": 9}, "could_not_check", "unsupported_status"),
        ({"statusSize": 2}, "invalid", "bad_status_entry"),  # eight messages
        ({"statusMessage": None}, "invalid", "bad_status_entry"),  # must be there for more than a bit
    ],
)
async def test_entries_that_are_not_as_the_standard_has_them(
    verifier: Verifier, far: Far, stranger: TestIssuer, changes: dict[str, Any], verdict: str, why: str
) -> None:
    url = f"{far.url}/messages"
    far.put("/messages", stranger.status_list(url, set(), "message", 3))
    entry = {**status.status_entry(url, INDEX, "message", MESSAGES), **changes}
    entry = {name: value for name, value in entry.items() if value is not None}
    found = await verifier.verify(bearing(stranger, credentialStatus=entry))
    assert (found["verdict"], code(found, "status")) == (verdict, why), found
    assert far.asked == []


async def test_a_list_too_short_for_its_entries_tells_nothing(
    verifier: Verifier, far: Far, stranger: TestIssuer
) -> None:
    url = f"{far.url}/messages"
    far.put("/messages", stranger.status_list(url, {INDEX: 1}, "message", 1))  # enough for bits, not for three
    found = await verifier.verify(stranger.badge(status=status.status_entry(url, INDEX, "message", MESSAGES)))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "list_too_short")
    check = next(check for check in found["checks"] if check["step"] == "status")
    assert check["problem"]["type"] == VCDM + "STATUS_LIST_LENGTH_ERROR"


async def test_a_list_is_not_used_beyond_its_end(verifier: Verifier, far: Far, stranger: TestIssuer) -> None:
    url = f"{far.url}/list"
    far.put("/list", stranger.status_list(url, set(), ttl_ms=3_600_000, valid_until=NOW + timedelta(minutes=1)))
    badge = stranger.badge(status=status.status_entry(url, INDEX))
    assert (await verifier.verify(badge))["verdict"] == "valid"
    await verifier.verify(badge)
    assert far.asked == ["/list"]
    verifier.clock.now += timedelta(minutes=2)
    found = await verifier.verify(badge)
    assert (found["verdict"], code(found, "status")) == (
        "could_not_check",
        "list_not_genuine",
    )  # its server has no newer
    assert far.asked == ["/list"] * 2


@pytest.mark.parametrize("form", ["vc+jwt", "vc-jwt"])
async def test_a_list_in_a_token(verifier: Verifier, far: Far, form: str) -> None:
    issuer, signer = by_did_key(P256)
    url = f"{far.url}/list"
    bits = bytearray(status.MINIMUM_ENTRIES // 8)
    status.set_value(bits, INDEX, 1)
    document = status.build_status_list(url, issuer, "revocation", status.encode_list(bits), NOW - timedelta(hours=1))
    linted = lint(document, profile="statuslist")
    token = (jose.sign_vc_jose if form == "vc+jwt" else jose.sign_vc_jwt)(linted, signer)
    far.put("/list", token)
    for index, verdict in ((INDEX, "revoked"), (INDEX + 1, "valid")):
        badge = {**badge_of(issuer), "credentialStatus": status.status_entry(url, index)}
        badge.pop("proof", None)
        found = await verifier.verify({"credential": jose.sign_vc_jose(lint(badge, issuer=issuer), signer).decode()})
        assert found["verdict"] == verdict, found
    for spoilt in (token[:-4] + b"AAAA", token[:50], b"eyJ.eyJ.x", token.replace(b".", b"..")):
        far.put("/other", spoilt)
        badge["credentialStatus"] = status.status_entry(f"{far.url}/other", INDEX + 1)
        found = await verifier.verify({"credential": jose.sign_vc_jose(lint(badge, issuer=issuer), signer).decode()})
        assert found["verdict"] == "could_not_check", found


# --- refresh ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
async def test_an_offer_to_refresh_names_where_a_newer_one_may_be_had(
    verifier: Verifier, far: Far, stranger: TestIssuer, named: bool
) -> None:
    url = f"{far.url}/refresh"
    far.put("/refresh", stranger.status_list(url, {INDEX}, "refresh"))
    refresh = {"id": "https://else.example/refresh/1", "type": "1EdTechCredentialRefresh"}
    members = {"credentialStatus": status.status_entry(url, INDEX, "refresh")}
    badge = bearing(stranger, **members, **({"refreshService": refresh} if named else {}))
    found = await verifier.verify(badge)
    assert found["verdict"] == "valid", found
    (notice,) = found["notices"]
    assert (notice["purpose"], notice["value"], notice.get("services", [])) == (
        "refresh",
        1,
        [refresh] if named else [],
    )
    assert ("https://else.example/refresh/1 (1EdTechCredentialRefresh)" in detail(found)) is named
    assert far.asked == ["/refresh"]  # the service itself is not asked
    page = await verifier.client.post("/verify", data={"credential": json.dumps(badge)})
    assert "offers a newer one in its place" in page.text


# --- our own ----------------------------------------------------------------------------------------------------


async def test_our_own_index_tells_refresh_and_messages(verifier: Verifier) -> None:
    issuer = TestIssuer()
    base = f"{BASE_URL}/status"
    entries = [
        status.status_entry(f"{base}/1", 1), status.status_entry(f"{base}/2", 2, "refresh"),
        status.status_entry(f"{base}/3", 3, "message", MESSAGES),
    ]  # fmt: skip
    badge = issuer.badge(status=entries)
    await verifier.feed(issuer.published(), issued(badge))
    found = await verifier.verify(badge)
    assert (found["verdict"], [notice["message"] for notice in found["notices"]]) == ("valid", ["nothing to tell"])

    # Whatever the batches and their order: the newest message and the newest status count, each by itself.
    await verifier.feed(
        message_changed(1, 2, 1), refresh_offered(1, 1), message_changed(1, 4, 3), changed(1, 3, "suspended")
    )
    await verifier.feed(message_changed(1, 2, 1), changed(1, 5, "active"), refresh_offered(1, 1))
    found = await verifier.verify(badge)
    assert found["verdict"] == "valid", found
    notices = {notice["purpose"]: notice for notice in found["notices"]}
    assert (notices["refresh"]["value"], notices["message"]["message"]) == (1, "on appeal")
    indexed = (await verifier.client.get(f"/verifier/v1/credentials/{credential_id(1)}")).json()
    assert (indexed["status"], indexed["status_version"], indexed["refresh"], indexed["message"]) == (
        "active",
        5,
        True,
        3,
    )
    page = (await verifier.client.get(f"/c/{credential_id(1)}")).text
    assert "offers a newer one in its place" in page
    assert "on appeal" in page

    await verifier.feed(changed(1, 6, "revoked"), message_changed(1, 7, 0))
    found = await verifier.verify(badge)
    assert found["verdict"] == "revoked"
    assert [notice["value"] for notice in found["notices"]] == [1, 0]
    assert await verifier.dead_letters() == []


async def test_the_index_counts_every_kind_of_change_as_its_issuer_does(verifier: Verifier) -> None:
    issuer = TestIssuer()
    await verifier.feed(issuer.published(), issued(issuer.badge()))

    async def version() -> int:
        told = (await verifier.client.get(f"/verifier/v1/credentials/{credential_id(1)}")).json()
        return int(told["status_version"])

    assert await version() == 0
    for number, change in enumerate((changed(1, 1, "revoked"), refresh_offered(1, 2), message_changed(1, 3, 1)), 1):
        await verifier.feed(change)
        assert await version() == number
    # What comes again is older; and an offer takes no status away that comes behind it.
    await verifier.feed(refresh_offered(1, 2), changed(1, 1, "revoked"))
    assert await version() == 3
    await verifier.feed(issued(issuer.badge(2), 2), refresh_offered(2, 3), refresh_offered(2, 3))
    await verifier.feed(changed(2, 2, "suspended"))
    rows = await verifier.rows(
        "SELECT status, status_version, refresh, refresh_version FROM credentials ORDER BY credential_id"
    )
    assert [tuple(row.values()) for row in rows] == [("revoked", 1, True, 2), ("suspended", 2, True, 3)]
    assert await verifier.dead_letters() == []


async def test_notices_of_nothing_are_dead_letters(verifier: Verifier) -> None:
    await verifier.feed(
        issued(TestIssuer().badge()), refresh_offered(8, 1), message_changed(9, 1, 1), refresh_offered(1, 1)
    )
    assert await verifier.dead_letters() == ["unknown_credential"] * 2
    assert await verifier.rows("SELECT refresh, message FROM credentials") == [{"refresh": True, "message": 0}]


# --- 1EdTech's lists of ids -------------------------------------------------------------------------------------


def listed(issuer: TestIssuer, url: str) -> dict[str, Any]:
    return bearing(issuer, credentialStatus={"id": url, "type": "1EdTechRevocationList"})


@pytest.mark.parametrize("name", ["revokedCredential", "revokedCredentials"])
@pytest.mark.parametrize(
    ("member", "verdict"),
    [
        ({}, "revoked"), ({"revoked": True}, "revoked"), ({"revoked": "true"}, "revoked"),
        ({"revoked": False}, "valid"), ({"revoked": "false"}, "valid"), ({"revoked": None}, "revoked"),
        ({"revoked": 0}, "revoked"), ({"revoked": 0.0}, "revoked"), ({"revoked": ""}, "revoked"),
        ({"revocationReason": "No final payment"}, "revoked"), ({"id": "https://else.example/c/another"}, "valid"),
    ],
)  # fmt: skip
async def test_a_list_of_ids(
    verifier: Verifier, far: Far, stranger: TestIssuer, name: str, member: dict[str, Any], verdict: str
) -> None:
    url = f"{far.url}/revocations"
    badge = listed(stranger, url)
    entries = [{"id": "https://else.example/c/other"}, {"id": badge["id"], **member}]
    far.put("/revocations", {"id": url, "issuer": stranger.did, name: entries})
    found = await verifier.verify(badge)
    assert found["verdict"] == verdict, found
    assert "not signed" in detail(found)
    await verifier.verify(badge)
    assert far.asked == ["/revocations"]  # kept for a while


async def test_one_entry_alone_and_none_at_all(verifier: Verifier, far: Far, stranger: TestIssuer) -> None:
    one, none = listed(stranger, f"{far.url}/one"), listed(stranger, f"{far.url}/none")
    issuer = {"id": stranger.did, "type": "Profile"}
    far.put("/one", {"id": f"{far.url}/one", "issuer": issuer, "revokedCredential": {"id": one["id"]}})
    far.put("/none", {"id": f"{far.url}/none", "issuer": issuer})
    assert (await verifier.verify(one))["verdict"] == "revoked"
    assert (await verifier.verify(none))["verdict"] == "valid"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"issuer": "did:web:else.example", "revokedCredential": []}, "foreign_list"),
        ({"revokedCredential": []}, "foreign_list"),
        ({"id": "https://else.example/other", "revokedCredential": []}, "not_a_list"),
        ({"revokedAssertions": []}, "not_a_list"),
        ({"revokedCredential": ["https://else.example/c/1"]}, "not_a_list"),
        ({"revokedCredential": [{"id": 5}]}, "not_a_list"),
        ({"revokedCredential": 5}, "not_a_list"),
        (b"[]", "bad_answer"),
        (b'{"revokedCredential": [], "revokedCredential": []}', "bad_answer"),
        (b"[" * 10_000, "bad_answer"),
        (b" " * (3 << 20), "fetch_failed"),
    ],
)
async def test_a_list_of_ids_that_cannot_be_relied_on_is_no_all_clear(
    verifier: Verifier, far: Far, stranger: TestIssuer, answer: Any, why: str
) -> None:
    url = f"{far.url}/revocations"
    if isinstance(answer, dict) and why != "foreign_list":
        answer = {"issuer": stranger.did, **answer}
    far.put("/revocations", answer)
    found = await verifier.verify(listed(stranger, url))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", why), found
    assert pointer_of(found, "status") == "/credentialStatus/id"


async def test_a_list_of_ids_is_asked_over_https_alone_and_never_for_a_forgery(
    verifier: Verifier, far: Far, stranger: TestIssuer
) -> None:
    plain = far.url.replace("https://", "http://")
    found = await verifier.verify(listed(stranger, f"{plain}/revocations"))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "insecure_list")
    found = await verifier.verify({**listed(stranger, f"{far.url}/revocations"), "name": "forged"})
    assert found["verdict"] == "invalid"
    found = await verifier.verify(listed(stranger, "urn:uuid:00000000-0000-4000-8000-000000000001"))
    assert (found["verdict"], code(found, "status")) == ("invalid", "bad_status_entry")
    assert far.asked == []
    found = await verifier.verify(listed(stranger, f"{far.url}/nowhere"))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "not_found")


async def test_an_unknown_kind_of_status_is_not_checked(verifier: Verifier, stranger: TestIssuer) -> None:
    entry = {"id": "https://else.example/s", "type": "1EdTechCredentialRefresh"}
    found = await verifier.verify(bearing(stranger, credentialStatus=entry))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "unsupported_status")
