"""What every service's API is made of: the application with its edge and its docs, health, API keys.

Errors are RFC 9457 problem documents; a 5xx is a bug, except 503 while the database is away.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Depends, FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp

from laurel.callers import Callers, requires
from laurel.common_api import common_routes
from laurel.database import Database
from laurel.edge import CSP, CrossOrigin, Edge, Guard, Meter
from laurel.endpoints import document_scopes
from laurel.limits import Limits
from laurel.problems import PROBLEM_RESPONSES, handle_errors
from laurel.query import known_query
from laurel.quick import QuickRoutes

__all__ = ["MAX_BODY", "create_app", "json_response", "requires"]

MAX_BODY = 1 << 20


def create_app(
    name: str,
    *,
    title: str,
    description: str,
    database: Database,
    base_url: str = "",
    max_body: int = MAX_BODY,
    max_json: int | None = None,
    streamed: Sequence[str] = (),
    unlabelled: Sequence[str] = (),
    cross_origin: Mapping[str, str] | None = None,
    metered: Sequence[str] = (),
    readiness: Callable[[], Awaitable[None]] | None = None,
) -> FastAPI:
    """A FastAPI application with the house's edge around it. Paths of the API begin with /<name>/v1.

    base_url: ours, without a trailing slash; who issues access tokens, and whom for. Left out: none is taken.
    max_json: bytes of a JSON body where that is less than max_body, which then is for files and forms.
    streamed: path patterns (regular expressions) whose bodies are not JSON documents and are read by their handler.
    unlabelled: path patterns whose handler finds out what the body is, JSON or not, whatever its label says.
    cross_origin: path patterns that pages of any origin may call, because they need no API key → the methods they may.
    metered: path patterns that cost much and ask for no API key: how often one address may call is limited.
    readiness: raises when the service cannot serve; default: the database answers.
    """
    prefix = f"/{name}/v1"
    app = _Api(
        title=title, description=description, version="1.0.0", openapi_url=f"{prefix}/openapi.json",
        docs_url=None, redoc_url=None, responses=PROBLEM_RESPONSES, redirect_slashes=False,
        dependencies=[Depends(known_query(f"{prefix}/"))],
        # Ours: one server span a request (Edge), whose context goes on in events. FastAPI's own would double it.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    app.state.callers = Callers(database, base_url=base_url)
    app.state.limits = Limits()  # whoever runs the app sets those of its settings
    app.state.quick_routes = []

    def edge(inner: ASGIApp) -> ASGIApp:
        inner = QuickRoutes(inner, routes=app.state.quick_routes)
        inner = Guard(inner, max_body=max_body, max_json=max_json or max_body, streamed=[*streamed], raw=[*unlabelled])
        inner = Meter(inner, paths=[*metered])
        inner = CrossOrigin(inner, paths={re.compile(one): allow for one, allow in (cross_origin or {}).items()})
        return Edge(inner, service=name)

    app.edge = edge
    handle_errors(app)
    _serve_docs(app, prefix, title)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, str]:
        await (readiness or database.ping)()
        return {"status": "ready"}

    app.include_router(common_routes(name, database))
    document_scopes(app)
    return app


class _Api(FastAPI):
    """FastAPI with our edge before all that it has of its own: what is answered there passes none of it."""

    edge: Callable[[ASGIApp], ASGIApp]

    def build_middleware_stack(self) -> ASGIApp:
        """The edge, and behind it FastAPI's own but its outermost, which answers a 500: the edge does."""
        stack = super().build_middleware_stack()
        assert isinstance(stack, ServerErrorMiddleware)
        return self.edge(stack.app)


# --- docs ---------------------------------------------------------------------------------------------------


def _serve_docs(app: FastAPI, prefix: str, title: str) -> None:
    """Swagger UI from our own disk: the docs work offline and leak nothing to a CDN."""
    folder = importlib.resources.files("fastapi_offline") / "static"
    app.mount(f"{prefix}/docs/assets", StaticFiles(directory=str(folder)), name="docs-assets")
    page = get_swagger_ui_html(
        openapi_url=f"{prefix}/openapi.json",
        title=f"{title} – API",
        swagger_js_url=f"{prefix}/docs/assets/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}/docs/assets/swagger-ui.css",
        swagger_favicon_url=f"{prefix}/docs/assets/favicon.png",
    )
    html = bytes(page.body).decode()
    inline = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = hashlib.sha256((inline[1] if inline else "").encode()).digest()
    policy = CSP.replace(
        "script-src 'self'", f"script-src 'self' 'sha256-{base64.b64encode(digest).decode()}'"
    ).replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")

    @app.get(f"{prefix}/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})


def json_response(
    value: Any,
    status: int = 200,
    *,
    headers: dict[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    """Answer with msgspec-encoded JSON (bytes go out as they are)."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, status, media_type=media_type, headers=headers)
