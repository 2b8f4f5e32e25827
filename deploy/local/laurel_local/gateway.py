"""One port in front of the four services: `laurel.paths` says who answers, and the path goes through untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laurel.edge import SECURITY_HEADERS
from laurel.paths import service_for
from laurel.problems import Problem
from laurel.web import json_response

_HEADERS = {name.decode(): value.decode() for name, value in SECURITY_HEADERS}


class Gateway:
    """services: name → application. extra: path prefix → application of the composition itself (the demo's pages)."""

    def __init__(self, services: Mapping[str, ASGIApp], *, extra: Mapping[str, ASGIApp] | None = None) -> None:
        self._services = dict(services)
        self._extra = dict(extra or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Anything but HTTP is refused by silence: no service speaks WebSocket."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path in ("/healthz", "/readyz"):
            response = await self._health(path)
            await response(scope, receive, send)
            return
        for prefix, app in self._extra.items():
            if path.startswith(prefix):
                await app(scope, receive, send)
                return
        name = service_for(path) or "verifier"  # which has a page for people who are lost
        if name not in self._services:
            detail = "there is nothing at this path; the start page is /"
            response = Problem(404, "not_found", detail, headers=_HEADERS).response(path)
            await response(scope, receive, send)
            return
        await self._services[name](scope, receive, send)

    async def _health(self, path: str) -> ASGIApp:
        """Every service's answer; 503 as soon as one of them is not well."""
        # All at once: each may take as long as a database that does not answer is waited for.
        asked = [_status(app, path) for app in self._services.values()]
        statuses = dict(zip(self._services, await asyncio.gather(*asked), strict=True))
        well = all(status == 200 for status in statuses.values())
        word = {"/healthz": "alive", "/readyz": "ready"}[path]
        services = {name: word if status == 200 else "unavailable" for name, status in statuses.items()}
        body = {"status": word if well else "unavailable", "services": services}
        headers = {"Cache-Control": "no-store", **_HEADERS, **({} if well else {"Retry-After": "2"})}
        return json_response(body, 200 if well else 503, headers=headers)


async def _status(app: ASGIApp, path: str) -> int:
    """The status code with which an application answers GET `path`."""
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [],
        "server": None, "client": None,
    }  # fmt: skip
    status = 500

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    return status
