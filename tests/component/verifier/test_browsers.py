"""What browsers need: scripts of any origin may verify and read what is public; people who are lost get a page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from laurel_verifier.api import VerificationOut
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.test_endorsements import badge, endorsement

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PREFLIGHT = {"Origin": "https://wallet.example", "Access-Control-Request-Headers": "content-type"}


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/verifier/v1/credentials/verify", "POST"),
        ("/verifier/v1/credentials/verify/batch", "POST"),
        ("/verifier/v1/credentials/00000000-0000-8000-8000-000000000001", "GET"),
        ("/c/00000000-0000-8000-8000-000000000001", "GET"),
        ("/c/00000000-0000-8000-8000-000000000001/image", "GET"),
    ],
)
async def test_a_preflight_for_what_is_public(verifier: Verifier, path: str, method: str) -> None:
    answer = await verifier.client.options(path, headers={**PREFLIGHT, "Access-Control-Request-Method": method})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert method in answer.headers["access-control-allow-methods"].split(", ")
    assert "Content-Type" in answer.headers["access-control-allow-headers"].split(", ")
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/verifier/v1/reports/reconcile", "/verifier/v1/dead-letters", "/verifier/v1/credentials/a/b", "/nowhere"]
)
async def test_no_preflight_for_what_needs_a_key(verifier: Verifier, path: str) -> None:
    answer = await verifier.client.options(path, headers={**PREFLIGHT, "Access-Control-Request-Method": "GET"})
    assert answer.status_code in (404, 405)
    assert "access-control-allow-origin" not in answer.headers
    answer = await verifier.client.get(path, headers={"Origin": "https://wallet.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_a_script_can_read_refusals(verifier: Verifier, one: dict[str, Any]) -> None:
    refused = await verifier.client.post(
        "/verifier/v1/credentials/verify", content=b'{"a":1,"a":2}', headers={"Content-Type": "application/json"}
    )
    missing = await verifier.client.get("/verifier/v1/credentials/none", headers={"Accept": "application/json"})
    found = await verifier.client.get(f"/c/{one['id'].rpartition('/')[2]}", headers={"Accept": "application/json"})
    assert (refused.status_code, missing.status_code, found.status_code) == (400, 404, 200)
    for answer in (refused, missing, found):
        assert answer.headers.get_list("access-control-allow-origin") == ["*"]


async def test_a_path_that_leads_nowhere(verifier: Verifier) -> None:
    for path in ("/nowhere", "/c/", "/c", "/verify/it", "/assets", "/%00"):
        page = await verifier.client.get(path, headers={"Accept": HTML})
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8"), path
        assert "There is nothing at this address" in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        for accept in ("application/json", "*/*", ""):
            answer = await verifier.client.get(path, headers={"Accept": accept})
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    answer = await verifier.client.delete("/verify", headers={"Accept": HTML})
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


async def test_the_page_shows_what_the_api_says(verifier: Verifier) -> None:
    document = badge(endorsement())
    said = await verifier.verify(document)
    page = await verifier.client.post("/verify", files={"file": ("b.json", _json(document))})
    assert page.status_code == 200
    for check in said["checks"]:
        assert check["clause"] in page.text
        for one in check.get("against", ()):
            assert one["id"] in page.text
            assert one.get("digest", "") in page.text
    assert "1 endorsement" in page.text
    document["name"] = "Forged"
    said = await verifier.verify(document)
    wrong = next(check for check in said["checks"] if check["outcome"] == "failed")
    page = await verifier.client.post("/verify", files={"file": ("b.json", _json(document))})
    assert wrong["problem"] == {
        "type": "https://www.w3.org/TR/vc-data-model#CRYPTOGRAPHIC_SECURITY_ERROR", "title": "Bad signature",
        "detail": wrong["detail"],
    }  # fmt: skip
    assert wrong["problem"]["type"] in page.text
    assert wrong["pointer"] == "/proof/0/proofValue"
    assert wrong["pointer"] in page.text


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


async def test_the_declared_answer_is_the_answer(verifier: Verifier, one: dict[str, Any]) -> None:
    forged = {**badge(endorsement(), endorsement("urn:x:1")), "name": "Forged"}
    for document in (one, badge(endorsement(), endorsement("urn:x:1")), forged, {"type": "VerifiablePresentation"}, {}):
        said = await verifier.verify(document)
        assert VerificationOut.model_validate(said).model_dump(exclude_unset=True) == said
