"""The gateway sends each path to the service that laurel.paths names, untouched, and answers for the health of all."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from laurel.migrate import SERVICES
from laurel_local.gateway import Gateway


def service(name: str, *, ready: bool = True) -> ASGIApp:
    async def answer(request: Request) -> Response:
        if request.url.path == "/readyz" and not ready:
            return JSONResponse({"status": "unavailable"}, 503)
        return JSONResponse({"service": name, "path": request.url.path, "query": request.url.query})

    return Starlette(routes=[Route("/{rest:path}", answer, methods=["GET", "POST"])])


async def get(gateway: Gateway, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://laurel") as client:
        return await client.get(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/assessment/v1/results", "assessment"), ("/achievements/x", "assessment"), ("/issuer/v1/docs", "issuer"),
        ("/issuers/acme/did.json", "issuer"), ("/status/1", "issuer"), ("/notifier/v1/endpoints", "notifier"),
        ("/c/00-1", "verifier"), ("/verify", "verifier"), ("/", "verifier"), ("/assets/a.css", "verifier"),
    ],
)  # fmt: skip
async def test_paths_go_through_untouched(path: str, name: str) -> None:
    gateway = Gateway({one: service(one) for one in SERVICES})
    answer = await get(gateway, path + "?a=b%2Fc")
    assert answer.json() == {"service": name, "path": path, "query": "a=b%2Fc"}


async def test_what_nobody_answers_is_for_the_verifier_to_refuse() -> None:
    gateway = Gateway({one: service(one) for one in SERVICES})
    alone = Gateway({one: service(one) for one in SERVICES if one != "verifier"})
    for path in ("/verifyx", "/nothing", "/assessmentx/v1"):
        assert (await get(gateway, path)).json()["service"] == "verifier"  # it has a page for people who are lost
        answer = await get(alone, path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


async def test_ready_only_when_all_are() -> None:
    well = Gateway({one: service(one) for one in SERVICES})
    assert (await get(well, "/readyz")).json()["services"] == dict.fromkeys(SERVICES, "ready")
    ill = Gateway({one: service(one, ready=one != "issuer") for one in SERVICES})
    answer = await get(ill, "/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["services"]["issuer"] == "unavailable"
    assert answer.json()["services"]["verifier"] == "ready"
    assert (await get(ill, "/healthz")).status_code == 200


async def test_all_are_asked_at_once() -> None:
    """One after the other, four databases that give no answer would be waited for four times."""
    together = asyncio.Barrier(len(SERVICES))

    async def answer(_: Request) -> Response:
        await together.wait()
        return JSONResponse({})

    async with asyncio.timeout(30):
        found = await get(Gateway({one: Starlette(routes=[Route("/readyz", answer)]) for one in SERVICES}), "/readyz")
    assert found.status_code == 200


async def test_pages_of_the_composition_come_first() -> None:
    gateway = Gateway({one: service(one) for one in SERVICES}, extra={"/demo/": service("demo")})
    assert (await get(gateway, "/demo/inbox")).json()["service"] == "demo"
