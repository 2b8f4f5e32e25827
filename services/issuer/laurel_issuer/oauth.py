"""OAuth 2.0 client credentials (RFC 6749 §4.4): an API key is the client; what it gets is a short-lived access token.

Refusals of the token endpoint are RFC 6749 §5.2's JSON, which client libraries read, and no problem documents.
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request, Response
from pydantic import Field

from laurel import telemetry, tokens
from laurel.callers import TOKEN_PATH, Callers, Unauthorized
from laurel.ids import uuid7
from laurel.limits import Limits
from laurel.security import SCOPES, parse_api_key
from laurel.web import json_response
from laurel_issuer.shapes import Shape
from laurel_issuer.token_keys import TokenKeys

METADATA_PATH = "/.well-known/oauth-authorization-server"  # RFC 8414 §3
_MAX_BODY = 8192
_FORM = "application/x-www-form-urlencoded"
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 §5.1
Code = Literal["invalid_request", "invalid_client", "unsupported_grant_type", "invalid_scope"]


class TokenAnswer(Shape):
    """An access token (RFC 6749 §5.1)."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds.")
    scope: str


class TokenError(Shape):
    """Why there is no token (RFC 6749 §5.2)."""

    error: Code
    error_description: str


class ServerMetadata(Shape):
    """RFC 8414 §2."""

    issuer: str
    token_endpoint: str
    scopes_supported: list[str]
    response_types_supported: list[str]
    grant_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    service_documentation: str


@dataclass(frozen=True)
class TokenDesk:
    """What the routes work with. ttl_s: how long a token holds."""

    keys: TokenKeys
    base_url: str
    ttl_s: int


class Refused(Exception):
    """No token. detail: without a word of what was sent, in the letters that RFC 6749 §5.2 allows."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(code)
        self.code: Code = code
        self.detail = detail


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["client_credentials"]},
                        "scope": {"type": "string", "description": "Some of the key's scopes. Left out: all of them."},
                        "client_id": {"type": "string", "description": "The key_id, where not sent by HTTP Basic."},
                        "client_secret": {"type": "string", "description": "The API key itself, likewise."},
                    },
                }
            }
        },
    }
}


def oauth_routes(desk: TokenDesk) -> APIRouter:
    """The routes at the root."""
    router = APIRouter(tags=["access tokens"])

    @router.post(
        TOKEN_PATH, response_model=TokenAnswer, openapi_extra=_BODY,
        responses={400: {"model": TokenError}, 401: {"model": TokenError}},
    )  # fmt: skip
    async def token(request: Request) -> Response:
        """Give an access token for an API key: its key_id is the client_id, the key itself the client_secret."""
        try:
            answer = await _token(desk, request)
        except Refused as refused:
            telemetry.count("laurel_tokens_refused_total", code=refused.code)
            # RFC 6749 §5.2: a client that came by Basic is told so; the others do not mind.
            headers = {"WWW-Authenticate": 'Basic realm="laurel"'} if refused.code == "invalid_client" else {}
            status = 401 if refused.code == "invalid_client" else 400
            body = {"error": refused.code, "error_description": refused.detail}
            return json_response(body, status, headers={**_NO_STORE, **headers})
        telemetry.count("laurel_tokens_total")
        return json_response(answer, headers=_NO_STORE)

    @router.get(METADATA_PATH, response_model=ServerMetadata)
    async def metadata() -> Response:
        """What clients need to know of the token endpoint."""
        return json_response(
            {
                "issuer": desk.base_url,
                "token_endpoint": f"{desk.base_url}{TOKEN_PATH}",
                "scopes_supported": list(SCOPES),
                "response_types_supported": [],
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "service_documentation": f"{desk.base_url}/issuer/v1/docs",
            },
            headers={"Cache-Control": "public, max-age=3600"},
        )

    return router


async def _token(desk: TokenDesk, request: Request) -> dict[str, Any]:
    form = await _form(request)
    client_id, secret = _client(request.headers.get("authorization"), form)
    parsed = parse_api_key(secret)
    if parsed is None or parsed[0] != client_id:
        raise Refused("invalid_client", "client_id is the key_id of an API key, client_secret that key, copied whole")
    callers: Callers = request.app.state.callers
    try:
        principal = await callers.confirm_key(secret)
    except Unauthorized as error:
        raise Refused("invalid_client", str(error)) from None
    limits: Limits = request.app.state.limits
    limits.admit_key(request, principal.key_id)
    grant = form.get("grant_type")
    if grant is None:
        raise Refused("invalid_request", "grant_type is missing; send client_credentials")
    if grant != "client_credentials":
        raise Refused("unsupported_grant_type", "send grant_type=client_credentials")
    scopes = tuple(sorted(principal.scopes))
    if "scope" in form:
        wanted = tokens.scope_tokens(form["scope"])
        if wanted is None or not principal.scopes.issuperset(wanted):
            raise Refused("invalid_scope", "scope names scopes that this API key has, with a blank between two")
        scopes = tuple(sorted(wanted))
    key = await desk.keys.current()
    text = tokens.sign(
        key.seed, key.kid, issuer=desk.base_url, client_id=client_id, token_id=uuid7(), scopes=scopes,
        now=time.time(), ttl_s=desk.ttl_s,
    )  # fmt: skip
    return {"access_token": text, "token_type": "Bearer", "expires_in": desk.ttl_s, "scope": " ".join(scopes)}


async def _form(request: Request) -> dict[str, str]:
    """The parameters, each at most once; one without a value is left out (RFC 6749 §3.2). Raises Refused."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if media_type != _FORM:
        raise Refused("invalid_request", f"send the parameters as {_FORM}")
    try:
        if len(body) > _MAX_BODY:
            raise ValueError
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=32, errors="strict")
    except ValueError:  # UnicodeDecodeError is one
        raise Refused("invalid_request", f"the body is not {_FORM}, or is too large") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Refused("invalid_request", "a parameter stands there twice")
    return {name: value for name, value in form.items() if value}


def _client(authorization: str | None, form: dict[str, str]) -> tuple[str, str]:
    """client_id and client_secret, by HTTP Basic or in the body and not both (RFC 6749 §2.3). Raises Refused."""
    if authorization is None:
        if "client_id" not in form or "client_secret" not in form:
            raise Refused("invalid_client", "send client_id and client_secret, by HTTP Basic or in the body")
        return form["client_id"], form["client_secret"]
    if "client_secret" in form:
        raise Refused("invalid_request", "send the client_secret by HTTP Basic or in the body, not both")
    scheme, _, encoded = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        if not colon:
            raise ValueError
    except (ValueError, binascii.Error):
        detail = "the Authorization header is not HTTP Basic with client_id:client_secret"
        raise Refused("invalid_client", detail) from None
    client_id = unquote_plus(name)  # RFC 6749 §2.3.1
    if form.get("client_id", client_id) != client_id:
        raise Refused("invalid_request", "client_id in the body is another than that of HTTP Basic")
    return client_id, unquote_plus(secret)
