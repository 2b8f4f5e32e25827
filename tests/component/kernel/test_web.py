"""The HTTP edge: every refusal is a problem document, no input is a 5xx, keys open only their own tenant's doors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, Response
from openapi_spec_validator import OpenAPIV31SpecValidator
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from laurel import telemetry
from laurel.access import store_api_key
from laurel.events import ApiKeyCreated
from laurel.problems import Problem
from laurel.security import NewApiKey, Principal, new_api_key
from laurel.web import create_app, requires
from tests.component.kernel.conftest import Kernel

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Thing(BaseModel, strict=True):
    name: str
    count: int


@pytest.fixture
async def client(kernel: Kernel) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        "kernel", title="T", description="d", database=kernel.api, base_url="http://t", max_body=10_000,
        cross_origin={"/kernel/v1/(refused|away|public)": "GET"},
    )  # fmt: skip

    @app.post("/kernel/v1/things")
    async def things(thing: Thing) -> Thing:
        return thing

    @app.get("/kernel/v1/mine")
    async def mine(principal: Annotated[Principal, Depends(requires("results:read"))]) -> dict[str, str]:
        return {"tenant": principal.tenant_id}

    @app.get("/kernel/v1/refused")
    async def refused() -> None:
        raise Problem(409, "taken", "the name is taken; choose another")

    @app.get("/kernel/v1/bug")
    async def bug() -> None:
        raise KeyError("secret detail")

    @app.get("/kernel/v1/away")
    async def away() -> None:
        raise ConnectionRefusedError("10.0.0.7")

    @app.get("/kernel/v1/public")
    async def public() -> Response:
        return Response(headers={"Access-Control-Allow-Origin": "*"})

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as made:
        yield made


@pytest.mark.parametrize(
    ("path", "status", "origins"),
    [("refused", 409, ["*"]), ("away", 503, ["*"]), ("public", 200, ["*"]), ("bug", 500, []), ("nothing", 404, [])],
)
async def test_pages_of_other_origins_read_what_is_public_and_its_refusals(
    client: httpx.AsyncClient, path: str, status: int, origins: list[str]
) -> None:
    answer = await client.get(f"/kernel/v1/{path}", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == status
    assert answer.headers.get_list("access-control-allow-origin") == origins


async def add_key(
    kernel: Kernel, *, tenant: str = "t1", scopes: tuple[str, ...] = ("results:read",), **more: datetime
) -> NewApiKey:
    key = new_api_key()
    async with kernel.worker.transaction() as tx:
        event = ApiKeyCreated(
            tenant_id=tenant,
            key_id=key.key_id,
            secret_hash=key.secret_hash,
            scopes=scopes,
            label="l",
            created_at=NOW,
            **more,
        )
        await store_api_key(tx, event)
    return key


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (b'{"name":"x"}', 422, "invalid_input", "/count"),
        (b'{"name":1,"count":1}', 422, "invalid_input", "/name"),
        (b'{"name":"x","count":true}', 422, "invalid_input", "/count"),
        (b"[]", 422, "invalid_input", "body"),
        (b"", 422, "invalid_input", "body"),
        (b'{"name":"x","count":NaN}', 400, "not_finite", "/count"),
        (b'{"name":"x","name":"y","count":1}', 400, "duplicate_key", "/name"),
        (b'{"name":"\\ud800","count":1}', 400, "bad_string", "/name"),
        (b'{"name":"\\u0000","count":1}', 400, "bad_string", "/name"),
        (b"[" * 900 + b"]" * 900, 400, "too_deep", "body"),
        (b"\xff", 400, "not_utf8", "body"),
        (b"{", 400, "not_json", "body"),
        (b'{"name":"' + b"x" * 20_000 + b'"}', 413, "too_large", None),
    ],
)
async def test_bad_input(client: httpx.AsyncClient, body: bytes, status: int, code: str, field: str | None) -> None:
    answer = await client.post("/kernel/v1/things", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:laurel:problem:{code}"
    assert problem["status"] == status
    assert problem["detail"]
    if field is not None:
        assert field in [error["field"] for error in problem["errors"]]
    if status in (400, 413):
        (error,) = problem["errors"]
        assert (error["step"], error["code"], error["detail"]) == ("format", code, problem["detail"])
        assert error["clause"].startswith("RFC ")
        assert status == 413 or error["offset"] >= 0


async def test_every_answer_is_a_problem_document_and_leaks_nothing(client: httpx.AsyncClient) -> None:
    for method, path, status in (
        ("GET", "/kernel/v1/refused", 409), ("GET", "/nothing", 404), ("PUT", "/kernel/v1/things", 405),
        ("TRACE", "/kernel/v1/things", 405), ("GET", "/kernel/v1/bug", 500), ("GET", "/kernel/v1/away", 503),
    ):  # fmt: skip
        answer = await client.request(method, path)
        assert answer.status_code == status, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "secret" not in answer.text
        assert "10.0.0.7" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await client.get("/kernel/v1/away")).headers["retry-after"]
    assert (await client.put("/kernel/v1/things")).headers["allow"] == "POST"


async def test_keys(client: httpx.AsyncClient, kernel: Kernel) -> None:
    key = await add_key(kernel)

    async def status(text: str) -> int:
        return (await client.get("/kernel/v1/mine", headers={"Authorization": text})).status_code

    answer = await client.get("/kernel/v1/mine", headers={"Authorization": f"Bearer {key.text}"})
    assert (answer.status_code, answer.json()) == (200, {"tenant": "t1"})
    expired = await add_key(kernel, expires_at=NOW - timedelta(days=1))
    scopeless = await add_key(kernel, scopes=())
    same_id_other_secret = new_api_key()
    assert await status(f"Bearer {expired.text}") == 401
    assert await status(f"Bearer {scopeless.text}") == 403
    assert await status(f"Bearer {same_id_other_secret.text}") == 401
    assert await status("Bearer nonsense") == 401
    assert await status(f"Basic {key.text}") == 401
    assert await status("") == 401
    assert "WWW-Authenticate" in (await client.get("/kernel/v1/mine")).headers


async def test_the_docs_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/kernel/v1/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    assert "'sha256-" in page.headers["content-security-policy"]
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/kernel/v1/docs/assets/{asset}" in page.text
        assert (await client.get(f"/kernel/v1/docs/assets/{asset}")).status_code == 200
    document = (await client.get("/kernel/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert "/kernel/v1/things" in document["paths"]


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "alive"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_the_server_span_continues_the_callers_trace(client: httpx.AsyncClient) -> None:
    exporter = InMemorySpanExporter()
    provider = telemetry.configure("kernel", exporter=exporter)
    assert trace.get_tracer_provider() is provider, "another test has set the provider before: it can be set once"
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.get("/kernel/v1/refused", headers={"traceparent": parent})
    await client.get("/kernel/v1/refused", headers={"traceparent": "garbage"})
    provider.force_flush()
    spans = exporter.get_finished_spans()
    assert len(spans) == 2, [span.name for span in spans]
    first, second = spans
    assert first.name == "GET /kernel/v1/refused"
    assert f"{first.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert first.parent is not None
    assert f"{first.parent.span_id:016x}" == "b7ad6b7169203331"
    assert first.attributes["http.response.status_code"] == 409
    assert second.parent is None


async def test_the_openapi_document_is_valid(client: httpx.AsyncClient) -> None:
    document = (await client.get("/kernel/v1/openapi.json")).json()
    OpenAPIV31SpecValidator(document).validate()
    for path in document["paths"].values():
        for operation in path.values():
            assert "$defs" not in str(operation["responses"])
