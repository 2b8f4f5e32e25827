"""The HTTP edge, the same for every service: problem documents, the body guard, API keys, tracing, docs, health.

Errors are RFC 9457 problem documents; a 5xx is a bug, except 503 while the database is away.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import importlib.resources
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from opentelemetry.trace import SpanKind, Status, StatusCode
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laurel import telemetry
from laurel.bus import BusUnavailable
from laurel.database import Database, is_unavailable
from laurel.security import BadJson, KnownKeys, Principal, guard_json, hash_secret, parse_api_key

log = structlog.get_logger()

PROBLEM_JSON = "application/problem+json"  # RFC 9457 §3
MAX_BODY = 1 << 20
CSP = "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"  # noqa: E501


Handler = Callable[[Request], Awaitable[Response]]


class FieldError(BaseModel):
    """One thing that is wrong with the input."""

    field: str = Field(description="JSON pointer (RFC 6901), column or parameter name.")
    code: str = Field(description="Stable snake_case word.")
    detail: str = Field(description="What is wrong, and the fix.")
    step: str | None = Field(default=None, description="Of a check: `format` for what is not JSON as we take it.")
    clause: str | None = Field(default=None, description="The text that asks for it.")
    offset: int | None = Field(default=None, description="The byte of the body where it begins, where that is known.")


class ProblemDocument(BaseModel):
    """RFC 9457 §3.1."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: list[FieldError] = []


class Problem(Exception):
    """Answer with a problem document. `code` becomes its type: urn:laurel:problem:<code>."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        title: str | None = None,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.title = title or code.replace("_", " ").capitalize()
        self.errors = list(errors)
        self.headers = headers or {}

    def document(self, instance: str | None = None) -> ProblemDocument:
        """The problem document."""
        return ProblemDocument(
            type=f"urn:laurel:problem:{self.code}", title=self.title, status=self.status, detail=self.detail,
            instance=instance, errors=self.errors,
        )  # fmt: skip

    def response(self, instance: str | None = None) -> Response:
        """The HTTP response."""
        return Response(
            self.document(instance).model_dump_json(exclude_none=True),
            self.status,
            media_type=PROBLEM_JSON,
            headers=self.headers,
        )


def not_found(what: str) -> Problem:
    """The one answer for "not there" and "not yours"."""
    return Problem(404, "not_found", f"there is no such {what}")


# Inlined: OpenAPI has no place of its own for definitions inside a response's schema.
_PROBLEM_SCHEMA = ProblemDocument.model_json_schema()
_PROBLEM_SCHEMA["properties"]["errors"]["items"] = _PROBLEM_SCHEMA.pop("$defs")["FieldError"]

PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {PROBLEM_JSON: {"schema": _PROBLEM_SCHEMA}}}
    for status, text in {
        400: "The body is not acceptable JSON.", 401: "No valid API key.", 403: "The key lacks the scope.",
        404: "Not there, or not yours.", 409: "In conflict with what is stored.", 413: "Too large.",
        415: "Wrong media type.", 422: "The input is wrong; `errors` names each field.",
        429: "Too much; see Retry-After.", 503: "Try again; see Retry-After.",
    }.items()
}  # fmt: skip


def create_app(
    name: str,
    *,
    title: str,
    description: str,
    database: Database,
    max_body: int = MAX_BODY,
    max_json: int | None = None,
    streamed: Sequence[str] = (),
    unlabelled: Sequence[str] = (),
    cross_origin: Mapping[str, str] | None = None,
    readiness: Callable[[], Awaitable[None]] | None = None,
) -> FastAPI:
    """A FastAPI application with the house's edge around it. Paths of the API begin with /<name>/v1.

    max_json: bytes of a JSON body where that is less than max_body, which then is for files and forms.
    streamed: path patterns (regular expressions) whose bodies are not JSON documents and are read by their handler.
    unlabelled: path patterns whose handler finds out what the body is, JSON or not, whatever its label says.
    cross_origin: path patterns that pages of any origin may call, because they need no API key → the methods they may.
    readiness: raises when the service cannot serve; default: the database answers.
    """
    prefix = f"/{name}/v1"
    app = FastAPI(
        title=title, description=description, version="1.0.0", openapi_url=f"{prefix}/openapi.json",
        docs_url=None, redoc_url=None, responses=PROBLEM_RESPONSES, redirect_slashes=False,
        # Ours: one server span a request (_Edge), whose context goes on in events. FastAPI's own would double it.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    app.state.database = database
    app.state.known_keys = KnownKeys()
    patterns = [re.compile(one) for one in streamed]
    raw = [re.compile(one) for one in unlabelled]
    app.add_middleware(_Guard, max_body=max_body, max_json=max_json or max_body, streamed=patterns, raw=raw)
    app.add_middleware(_CrossOrigin, paths={re.compile(one): allow for one, allow in (cross_origin or {}).items()})
    app.add_middleware(_Edge, service=name)
    _handle_errors(app)
    _serve_docs(app, prefix, title)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, str]:
        await (readiness or database.ping)()
        return {"status": "ready"}

    return app


def quick_route(app: FastAPI, path: str, method: str) -> Callable[[Handler], Handler]:
    """A decorator: answers a documented route by a handler that takes the request alone, without FastAPI's way to it.

    That way (dependencies, models, contexts) costs as much as the rest of a lookup. It goes above the decorator that
    documents the route, whose errors and answers it has.
    """

    def decorate(handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            request.scope["route"] = documented  # for the span's name
            return await handler(request)

        documented = Route(path, answer, methods=[method])
        documented.methods = {method}  # Starlette adds HEAD, which is not documented
        app.router.routes.insert(0, documented)
        return handler

    return decorate


# --- errors -------------------------------------------------------------------------------------------------


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response(request.url.path)

    @app.exception_handler(BadJson)
    async def refused_json(request: Request, error: BadJson) -> Response:
        return bad_json(error).response(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [_field_error(one) for one in error.errors()[:100]]
        detail = f"{errors[0].field}: {errors[0].detail}" if errors else "the input does not have the documented form"
        return Problem(422, "invalid_input", detail, errors=errors).response(request.url.path)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        words = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        details = {
            404: "there is nothing at this path",
            405: "this path does not take that method; see Allow",
        }
        detail = details.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _allowed(request, headers.get("Allow", ""))
        return Problem(error.status_code, words, detail, headers=headers).response(request.url.path)


_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def _allowed(request: Request, first: str) -> str:
    """The methods of all routes of this path: RFC 9110 §10.2.1. Starlette names those of the `first` alone."""
    methods = set(first.split(", ")) if first else set()
    for method in _METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            methods.add(method)
    return ", ".join(sorted(methods))


def bad_json(error: BadJson) -> Problem:
    """The problem of JSON that the guard refused."""
    found = FieldError(
        field=error.pointer or "body", code=error.code, detail=error.detail, step="format", clause=error.clause,
        offset=error.offset,
    )  # fmt: skip
    return Problem(413 if error.code == "too_large" else 400, error.code, error.detail, errors=[found])


def _field_error(error: dict[str, Any]) -> FieldError:
    place = [str(part) for part in error["loc"]]
    where = place[1:] if place[:1] in (["body"], ["query"], ["path"], ["header"]) else place
    if place[:1] == ["body"]:
        pointer = "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in where)
    else:
        pointer = ".".join(where)
    return FieldError(field=pointer or "body", code=str(error["type"]), detail=_printable(str(error["msg"])))


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:500]


# --- middleware ---------------------------------------------------------------------------------------------


class _Guard:
    """Reads a JSON body whole (bounded), guards it, and hands the same bytes on."""

    def __init__(
        self, app: ASGIApp, *, max_body: int, max_json: int, streamed: list[re.Pattern[str]], raw: list[re.Pattern[str]]
    ) -> None:
        self._app = app
        self._max_body = max_body
        self._max_json = max_json
        self._streamed = streamed
        self._raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bodyless = scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "TRACE")
        if bodyless or any(one.fullmatch(scope["path"]) for one in self._streamed):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        is_json = content_type in (b"", b"application/json") or content_type.endswith(b"+json")
        is_json = is_json and not any(one.fullmatch(scope["path"]) for one in self._raw)
        most = self._max_json if is_json else self._max_body
        too_large = Problem(413, "too_large", f"the body is larger than {most} bytes")
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and len(declared) < 20 and int(declared) > most:  # not a byte of it is read
            await too_large.response(scope["path"])(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                await too_large.response(scope["path"])(scope, receive, send)
                return
        if body and is_json:
            try:
                guard_json(bytes(body), max_bytes=most)
            except BadJson as error:
                await bad_json(error).response(scope["path"])(scope, receive, send)
                return
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, replay, send)


class _CrossOrigin:
    """Lets scripts of any origin read what anybody may read: preflights, and refusals that they can read, too.

    (Fetch, "CORS protocol".) Never with credentials: `*` forbids them, and none of these paths asks for an API key.
    """

    def __init__(self, app: ASGIApp, *, paths: dict[re.Pattern[str], str]) -> None:
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        methods = next((allow for one, allow in self._paths.items() if one.fullmatch(path)), None)
        if methods is None:
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            headers = {
                "Allow": f"{methods}, OPTIONS", "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": methods, "Access-Control-Allow-Headers": _CROSS_ORIGIN_HEADERS,
                "Access-Control-Max-Age": "86400",
            }  # fmt: skip
            await Response(status_code=204, headers=headers)(scope, receive, send)
            return

        async def with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                if b"access-control-allow-origin" not in present:
                    message["headers"] = [*message["headers"], (b"access-control-allow-origin", b"*")]
            await send(message)

        await self._app(scope, receive, with_origin)


_CROSS_ORIGIN_HEADERS = "Accept, Accept-Language, Content-Type, If-None-Match, Traceparent"


class _Edge:
    """Outermost: the server span, security headers, and the last resort for what nobody caught."""

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1") or None
        status = 500
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name, value) for name, value in _SECURITY_HEADERS if name not in present),
                ]
            await send(message)

        attributes = {"http.request.method": scope["method"], "laurel.service": self._service}
        with telemetry.span(f"{scope['method']}", parent=parent, kind=SpanKind.SERVER, attributes=attributes) as span:
            try:
                await self._app(scope, receive, with_headers)
            except Exception as error:
                if isinstance(error, BusUnavailable) or is_unavailable(error):
                    log.warning("unavailable", service=self._service, path=scope["path"], reason=repr(error))
                    detail = "a part that this needs is out of reach; try again"
                    problem = Problem(503, "unavailable", detail, headers={"Retry-After": "2"})
                else:
                    log.exception("unhandled error", service=self._service, path=scope["path"])
                    problem = Problem(500, "internal_error", "this is our fault and has been logged")
                span.set_status(Status(StatusCode.ERROR))
                if started:
                    raise
                await problem.response(scope["path"])(scope, receive, with_headers)
            route = scope.get("route")
            span.update_name(f"{scope['method']} {getattr(route, 'path', 'unmatched')}")
            span.set_attribute("http.response.status_code", status)


_SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


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


# --- who is calling -----------------------------------------------------------------------------------------

_bearer = HTTPBearer(auto_error=False, description="An API key: laurel_…")
_RETRIES = (0.0, 0.1, 0.3, 0.6)  # a key made a moment ago reaches the other services with its event


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="laurel"'})


async def authenticate(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    """The principal of the request's API key. Raises Problem 401."""
    if given is None:
        raise _unauthorized("send your API key as `Authorization: Bearer laurel_…`")
    parsed = parse_api_key(given.credentials)
    if parsed is None:
        raise _unauthorized("this is not an API key of ours; it looks like laurel_… and is copied whole")
    key_id, secret = parsed
    secret_hash = hash_secret(secret)
    known: KnownKeys = request.app.state.known_keys
    found = known.get(key_id, secret_hash)
    if found is not None:
        return found
    database: Database = request.app.state.database
    for pause in _RETRIES:
        await asyncio.sleep(pause)
        async with database.transaction(public_id=key_id) as tx:
            row = await tx.fetchrow(
                "SELECT tenant_id, secret_hash, scopes, "
                "(revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS valid, "
                "extract(epoch FROM expires_at - now())::float8 AS valid_for FROM api_keys WHERE key_id = $1",
                key_id,
            )
        if row is not None:
            break
    else:
        raise _unauthorized("this API key is not known here")
    if not (row["valid"] and hmac.compare_digest(row["secret_hash"], secret_hash)):
        raise _unauthorized("this API key is wrong, revoked or expired")
    principal = Principal(row["tenant_id"], key_id, frozenset(row["scopes"]))
    known.put(secret_hash, principal, most_s=row["valid_for"])
    return principal


def requires(scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller's principal, if its key has `scope`. Raises Problem 401, 403."""

    async def check(principal: Annotated[Principal, Depends(authenticate)]) -> Principal:
        if scope not in principal.scopes:
            raise Problem(403, "missing_scope", f"this API key lacks the scope {scope!r}; make one that has it")
        return principal

    return check


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
