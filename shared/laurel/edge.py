"""What stands before every API: the guard of bodies, cross-origin answers, the server span and security headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from time import monotonic

import structlog
from fastapi import Response
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laurel import telemetry
from laurel.bus import BusUnavailable
from laurel.database import is_unavailable
from laurel.ids import uuid7
from laurel.limits import Limits, rate_headers
from laurel.problems import FieldError, Problem, bad_json, too_large
from laurel.security import BadJson, guard_json

log = structlog.get_logger()

CSP = "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"  # noqa: E501

ARRIVED = "laurel.arrived"  # in the scope: a function that says whether the whole body is there (`http_server`)

BODY_SILENCE_S = 60.0  # without a byte of a body: then nobody waits for the rest
BODY_WITHIN_S = 300.0  # for all of it, however steadily it drips; only uploads may take longer, and are taken in pieces

# Of every answer. Permissions: what no page of ours asks of a browser; writing to the clipboard one does.
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"permissions-policy",
        b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    ),
)


class Guard:
    """Reads a JSON body whole (bounded), guards it, and hands the same bytes on."""

    def __init__(self, app: ASGIApp, *, max_body: int, max_json: int, streamed: list[str], raw: list[str]) -> None:
        self._app = app
        self._max_body = max_body
        self._max_json = max_json
        self._is_streamed = _one_of(streamed)
        self._is_raw = _one_of(raw)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (doubtful := _doubtful(scope)) is not None:
            await doubtful.response(scope["path"])(scope, receive, send)
            return
        bodyless = scope["method"] in ("GET", "HEAD", "OPTIONS", "TRACE")
        if bodyless or self._is_streamed(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])  # each that counts here stands there once
        content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        is_json = content_type in (b"", b"application/json") or content_type.endswith(b"+json")
        is_json = is_json and not self._is_raw(scope["path"])
        most = self._max_json if is_json else self._max_body
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and len(declared) < 20 and int(declared) > most:  # not a byte of it is read
            await _refuse(most, scope, receive, send)
            return
        read = bytearray()
        try:
            async for piece in patiently(receive, scope.get(ARRIVED)):
                read += piece
                if len(read) > most:
                    await _refuse(most, scope, receive, send)
                    return
        except ClientDisconnect:
            return
        except Problem as late:
            await late.response(scope["path"])(scope, receive, send)
            return
        body = bytes(read)
        if body and is_json:
            try:
                guard_json(body, max_bytes=most)
            except BadJson as error:
                await bad_json(error).response(scope["path"])(scope, receive, send)
                return
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def _one_of(patterns: list[str]) -> Callable[[str], object]:
    """Whether a path is one of these, regular expressions all."""
    return re.compile("|".join(f"(?:{one})" for one in patterns) or r"(?!)").fullmatch


async def patiently(receive: Receive, arrived: Callable[[], bool] | None = None) -> AsyncIterator[bytes]:
    """The pieces of a body. Raises ClientDisconnect, and Problem 408 when none comes for BODY_SILENCE_S, or not all
    within BODY_WITHIN_S. arrived: whether all of it is there, so that nobody has to be waited for."""
    end = monotonic() + BODY_WITHIN_S
    more = True
    while more:
        try:
            if arrived is not None and arrived():
                message = await receive()
            else:
                async with asyncio.timeout(min(BODY_SILENCE_S, end - monotonic())):
                    message = await receive()
        except TimeoutError:
            if monotonic() >= end:
                late = f"the body was not complete within {BODY_WITHIN_S:g} s"
            else:
                late = f"nothing came of the body for {BODY_SILENCE_S:g} s"
            problem = Problem(408, "body_timeout", f"{late}; send it again", headers={"Connection": "close"})
            raise problem from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        yield message.get("body", b"")


# One value each (RFC 9110 §5.3). Of two, each reader takes another one: the guard, the framework, a proxy. Of Host the
# server before us says so (`http_server`).
_SINGLE = {
    b"authorization": "Authorization", b"content-length": "Content-Length", b"content-type": "Content-Type",
    b"idempotency-key": "Idempotency-Key",
}  # fmt: skip
_ASCII = re.compile(rb"[\t\x20-\x7e]*").fullmatch


def _doubtful(scope: Scope) -> Problem | None:
    """What two readers of the same request may take for two things; None if there is nothing of it."""
    seen = set()
    for name, value in scope["headers"]:
        if name not in _SINGLE:
            continue
        if name in seen:
            return _wrong_header(name, "duplicate_header", "stands there more than once; send it once")
        if name == b"content-type" and not _ASCII(value):
            # Readers of text trim blanks of Unicode from it, too: JSON to them would be none to the guard.
            return _wrong_header(name, "bad_header", "holds what is not ASCII; write type/subtype, as application/json")
        seen.add(name)
    return None


def _wrong_header(name: bytes, code: str, said: str) -> Problem:
    clause = "RFC 9110 §5.3" if code == "duplicate_header" else "RFC 9110 §8.3.1"
    found = FieldError(field=_SINGLE[name], code=code, detail=f"{_SINGLE[name]} {said}", clause=clause)
    return Problem(400, code, found.detail, errors=[found])


async def _refuse(most: int, scope: Scope, receive: Receive, send: Send) -> None:
    await too_large(f"the body is larger than {most} bytes").response(scope["path"])(scope, receive, send)


class Meter:
    """Counts, address by address, the requests to doors that cost much and ask for no API key."""

    def __init__(self, app: ASGIApp, *, paths: list[str]) -> None:
        self._app = app
        self._is_metered = _one_of(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._is_metered(scope["path"]):
            limits: Limits = scope["app"].state.limits
            try:
                limits.admit_address(HTTPConnection(scope))
            except Problem as refused:  # before a byte of the body is read
                await refused.response(scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)


class CrossOrigin:
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

        scope[_CROSS_ORIGIN] = True
        await self._app(scope, receive, send)


_CROSS_ORIGIN = "laurel.cross_origin"  # in the scope: pages of any origin may read the answer
_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_CROSS_ORIGIN_HEADERS = "Accept, Accept-Language, Content-Type, If-None-Match, Traceparent"


class Edge:
    """Outermost: the server span, the request's id, security headers, and the last resort for what nobody caught."""

    def __init__(self, app: ASGIApp, *, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1") or None
        # Ours alone: an id that a caller chooses could stand for another request in the log and the audit log.
        request_id = uuid7()
        status = 500
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                if (rate := scope.get("laurel.rate")) is not None:
                    message["headers"] = [*message["headers"], *rate_headers(*rate)]
                present = {name for name, _ in message["headers"]}  # lower case, as ASGI wants them
                wanted = (*SECURITY_HEADERS, _ANY_ORIGIN) if _CROSS_ORIGIN in scope else SECURITY_HEADERS
                missing = [one for one in wanted if one[0] not in present]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *missing]
            await send(message)

        attributes = {"http.request.method": scope["method"], "laurel.service": self._service}
        with (
            telemetry.request(request_id),
            telemetry.span(scope["method"], parent=parent, kind=SpanKind.SERVER, attributes=attributes) as span,
        ):
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
            if span.is_recording():
                route = scope.get("route")
                span.update_name(f"{scope['method']} {getattr(route, 'path', 'unmatched')}")
                span.set_attribute("http.response.status_code", status)
