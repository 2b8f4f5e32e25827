"""Refusals as RFC 9457 problem documents: what every API answers when something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from laurel.errors import said
from laurel.redaction import redact
from laurel.security import BadJson

PROBLEM_JSON = "application/problem+json"  # RFC 9457 §3


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
        # The path, and what a refusal quotes of the input, may be a secret in the wrong place.
        body = redact(self.document(instance).model_dump_json(exclude_none=True))
        return Response(body, self.status, media_type=PROBLEM_JSON, headers=self.headers)


def not_found(what: str) -> Problem:
    """The one answer for "not there" and "not yours"."""
    return Problem(404, "not_found", f"there is no such {what}")


def uuid_in(text: str, what: str) -> UUID:
    """An id from a path, written as we write it; what is no such id is not there, either. Raises Problem 404."""
    try:
        found = UUID(text)
    except ValueError:
        raise not_found(what) from None
    if str(found) != text.lower():
        raise not_found(what)
    return found


def too_large(detail: str, *, code: str = "too_large", headers: dict[str, str] | None = None) -> Problem:
    """A body, or a part of it, is larger than is taken."""
    found = FieldError(field="body", code=code, detail=detail, step="format", clause="RFC 9110 §15.5.14")
    return Problem(413, code, detail, errors=[found], headers=headers)


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


def handle_errors(app: FastAPI) -> None:
    """Answer every refusal, ours and the framework's, with a problem document."""

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
    return FieldError(field=pointer or "body", code=str(error["type"]), detail=_printable(said(str(error["msg"]))))


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:500]
