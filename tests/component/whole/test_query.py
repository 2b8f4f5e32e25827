"""No operation of the API drops a query parameter in silence; pages that links lead to ignore what they do not know."""

from __future__ import annotations

import re
from typing import Any

from laurel.migrate import SERVICES
from laurel.security import SCOPES
from tests.component.whole.conftest import Whole
from tests.security.estate import OPERATOR

OPERATIONS = ("get", "put", "post", "patch", "delete")


async def operations(whole: Whole) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every documented operation below /<service>/v1."""
    found = []
    for name in SERVICES:
        document = (await whole.http.get(f"/{name}/v1/openapi.json")).json()
        for path, methods in document["paths"].items():
            if path.startswith(f"/{name}/v1/"):
                found += [(one.upper(), path, methods[one]) for one in OPERATIONS if one in methods]
    return found


async def test_every_operation_refuses_what_it_does_not_know_and_what_is_given_twice(whole: Whole) -> None:
    tenant = await whole.tenant("uni")
    key = await whole.key_with(tenant, list(SCOPES))
    tried = await operations(whole)
    assert len(tried) > 60
    assert {path.split("/")[1] for _, path, _ in tried} == set(SERVICES)
    twice = 0
    for method, path, described in tried:
        place = re.sub(r"\{[a-z_]+\}", "00000000-0000-8000-8000-000000000000", path)
        demands = described.get("security", [])
        shown = OPERATOR if {"Operator": []} in demands else key
        headers = {"Authorization": f"Bearer {shown}"} if demands else {}
        json = {} if method in ("POST", "PUT", "PATCH") else None
        known = [one for one in described.get("parameters", []) if one["in"] == "query"]
        assert not [one for one in known if "array" in str(one["schema"])], "known_query refuses each that comes twice"
        assert "422" in described["responses"], (method, path)

        answer = await whole.http.request(method, f"{place}?bogus=1&utm%5Fsource=", headers=headers, json=json)
        assert answer.status_code == 422, (method, path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert [(one["field"], one["code"]) for one in problem["errors"]] == [
            ("bogus", "unknown_parameter"), ("utm_source", "unknown_parameter"),
        ]  # fmt: skip
        told = problem["errors"][0]["detail"]
        assert all(one["name"] in told for one in known), (method, path, told)

        for one in known:
            name = one["name"]
            answer = await whole.http.request(method, f"{place}?{name}=1&{name}=1", headers=headers, json=json)
            assert answer.status_code == 422, (method, path, answer.text)
            found = [(one["field"], one["code"]) for one in answer.json()["errors"]]
            assert found == [(name, "repeated_parameter")], (method, path, found)
            twice += 1
        if demands:
            answer = await whole.http.request(method, f"{place}?bogus=1", json=json)
            assert answer.status_code == 401, (method, path, answer.text)
    assert twice > 40


async def test_a_mistyped_parameter_writes_nothing(whole: Whole) -> None:
    tenant = await whole.tenant("uni")
    headers = {**tenant.headers, "Content-Type": "text/csv"}
    body = "result_id,email,score\nr-1,a@example.org,1\n"
    for query in ("courserun=run1", "course_run=a&course_run=b"):
        answer = await whole.http.post(f"/assessment/v1/results/imports?{query}", headers=headers, content=body)
        assert answer.status_code == 422, answer.text
        assert "course_run" in answer.json()["detail"]
    results = (await whole.http.get("/assessment/v1/results", headers=tenant.headers)).json()
    assert results["items"] == []


async def test_links_that_mailers_decorate_go_on_working(whole: Whole) -> None:
    decorated = "utm_source=mail&utm_source=mail&download=0"
    for path in ("/verify", "/", "/healthz", "/readyz", "/.well-known/oauth-authorization-server",
                 *(f"/{name}/v1/{page}" for name in SERVICES for page in ("docs", "openapi.json"))):  # fmt: skip
        answer = await whole.http.get(f"{path}?{decorated}")
        assert answer.status_code == 200, (path, answer.text)
    for path in ("/c/x", "/c/x/image", "/c/x/badge.png", "/achievements/x", "/achievements/x/image", "/issuers/x",
                 "/issuers/x/did.json", "/issuers/x/jwks.json", "/status/x"):  # fmt: skip
        answer = await whole.http.get(f"{path}?{decorated}")
        assert answer.status_code == 404, (path, answer.text)
    token = await whole.http.post(f"/oauth/token?{decorated}", data={"grant_type": "client_credentials"})
    assert token.status_code == 401
