"""Servers of https: whose certificates the `laurel` command trusts, and what it says of the others."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from laurel_local import status, verify
from laurel_local.client import Client
from laurel_local.conformance.tls import write_certificate
from laurel_local.exits import Exit, Failure
from laurel_local.trust import distrust


@dataclass(frozen=True)
class Server:
    """https on 127.0.0.1 with a certificate of its own."""

    port: int
    certificate: Path


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    certificate, key = write_certificate(tmp_path)

    async def ready(request: Request) -> Response:
        return JSONResponse({"services": {"verifier": "ready"}})

    with socket.create_server(("127.0.0.1", 0)) as bound:
        app = Starlette(routes=[Route("/readyz", ready)])
        serving = uvicorn.Server(
            uvicorn.Config(app, log_config=None, lifespan="off", ssl_certfile=certificate, ssl_keyfile=key)
        )
        task = asyncio.create_task(serving.serve(sockets=[bound]))
        while not serving.started:
            await asyncio.sleep(0.01)
        yield Server(bound.getsockname()[1], certificate)
        serving.should_exit = True
        await task


async def call(url: str) -> object:
    async with Client(url) as client:
        return await client.call("GET", "/readyz")


async def test_a_certificate_that_nobody_trusts_is_told_as_such(server: Server) -> None:
    url = f"https://localhost:{server.port}"
    for asking in (call(url), verify._fetch(f"{url}/readyz")):
        with pytest.raises(Failure, match="answers with a certificate that is not trusted: self-signed") as caught:
            await asking
        assert caught.value.code is Exit.UNREACHABLE
        assert "SSL_CERT_FILE" in caught.value.fix
    found, reached = await status._readiness(url)
    assert not reached
    assert "not trusted" in found["gateway"]


async def test_ssl_cert_file_is_honoured(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    url = f"https://localhost:{server.port}"
    assert await call(url) == {"services": {"verifier": "ready"}}
    assert await verify._fetch(f"{url}/readyz") == b'{"services":{"verifier":"ready"}}'
    assert await status._readiness(url) == ({"verifier": "ready"}, True)


async def test_a_certificate_for_another_name_needs_another_fix(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    with pytest.raises(Failure, match="not trusted") as caught:
        await call(f"https://0.0.0.0:{server.port}")
    assert "name" in caught.value.fix
    assert "SSL_CERT_FILE" not in caught.value.fix


def test_what_is_no_matter_of_trust() -> None:
    assert distrust("https://x.example", ConnectionRefusedError("refused")) is None
    assert distrust("https://x.example", ssl.SSLError("wrong version number")) is None
