"""The doors that cost much and ask for no key: how often one address may use them."""

from __future__ import annotations

import httpx
import pytest

from laurel.limits import Buckets, Limits, Rate
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import BASE_URL

FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "text/html"}


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/verifier/v1/credentials/verify", b"{}", "application/json"),
        ("/verifier/v1/credentials/verify/batch", b"{}\n", "application/x-ndjson"),
        ("/verify", b"credential=%7B%7D", "application/x-www-form-urlencoded"),
        ("/c/0199aaaa-0000-8000-8000-000000000001", b"recipient=a%40b.example", "application/x-www-form-urlencoded"),
    ],
)
async def test_an_address_that_verifies_too_often_is_told_when_to_come_again(
    verifier: Verifier, path: str, body: bytes, kind: str
) -> None:
    verifier.service.api.state.limits = Limits(addresses=Buckets(Rate(0.1, 1), monotonic=lambda: 0.0))
    transport = httpx.ASGITransport(verifier.service.api, client=("9.9.9.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        first = await client.post(path, content=body, headers={"content-type": kind})
        assert first.status_code != 429, first.text
        refused = await client.post(path, content=body, headers={"content-type": kind, "accept": "application/json"})
        assert refused.status_code == 429, refused.text
        assert refused.headers["retry-after"] == "10"
        assert refused.headers["ratelimit"] == '"address";r=0;t=10'
        assert refused.json()["type"] == "urn:laurel:problem:rate_limited"
        assert (await client.get("/verify")).status_code == 200, "what costs little is open"


async def test_people_are_told_on_the_page(verifier: Verifier) -> None:
    verifier.service.api.state.limits = Limits(addresses=Buckets(Rate(0.1, 1), monotonic=lambda: 0.0))
    transport = httpx.ASGITransport(verifier.service.api, client=("2620:fe::fe", 1))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        answers = [await client.post("/verify", content=b"credential=%7B%7D", headers=FORM) for _ in range(2)]
    refused = answers[1]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert refused.headers["content-type"].startswith("text/html")
    assert "send this one again in 10 s" in refused.text
