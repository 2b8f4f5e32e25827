"""Routes for running an organisation: organisations and API keys. Profiles and their keys: api_profiles.py."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field

from laurel import audit
from laurel.access import previous_secrets
from laurel.crash_points import reach
from laurel.credential.text import timestamp
from laurel.events import ApiKeyCreated, OrganisationCreated
from laurel.ids import uuid7
from laurel.problems import Problem, not_found
from laurel.query import check_query
from laurel.security import SCOPES, NewApiKey, Principal, new_api_key
from laurel.web import json_response, requires
from laurel_issuer import shapes, store
from laurel_issuer.edge import After, Body, Desk, Line, Moment, Slug, id_after, id_in, invalid, page

_operator = HTTPBearer(auto_error=False, scheme_name="Operator", description="LAUREL_OPERATOR_TOKEN")
ProfilesReader = Annotated[Principal, Depends(requires("profiles:read"))]
KeysReader = Annotated[Principal, Depends(requires("keys:read"))]
KeysWriter = Annotated[Principal, Depends(requires("keys:write"))]
Limit = Annotated[int, Query(ge=1, le=500)]


class NewOrganisation(Body):
    """A tenant to create."""

    slug: Slug
    name: Line


class NewKey(Body):
    """An API key to create. A key can only hand on the scopes that it has itself."""

    label: Line
    scopes: list[str] = Field(min_length=1, max_length=len(SCOPES))
    expires_at: Moment | None = None


class Rotation(Body):
    """How an API key gets another secret."""

    overlap_s: int = Field(
        default=86_400, ge=0, le=30 * 86_400,
        description="Seconds for which the secret before goes on working. 0: it has leaked, end it and all older ones.",
    )  # fmt: skip
    expires_at: Moment | None = Field(default=None, description="When the key ends. Left out: as it was.")


def admin_routes(desk: Desk) -> APIRouter:
    """The routes, under /issuer/v1."""
    router = APIRouter(prefix="/issuer/v1")
    _organisation_routes(router, desk)
    _api_key_routes(router, desk)
    return router


class Operator:
    """A dependency: lets the operator pass, who sends LAUREL_OPERATOR_TOKEN. Raises Problem 401, 403, 422."""

    demand = "operator"

    def __init__(self, token: str | None) -> None:
        self._token = token

    async def __call__(
        self, request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_operator)]
    ) -> None:
        """Nothing, or a refusal."""
        headers = {"WWW-Authenticate": 'Bearer realm="laurel-operator"'}
        if self._token is None:
            raise Problem(403, "no_operator", "LAUREL_OPERATOR_TOKEN is not set, so nobody can create organisations")
        if given is None or not hmac.compare_digest(given.credentials.encode(), self._token.encode()):
            raise Problem(401, "unauthorized", "send the operator's token as Bearer", headers=headers)
        check_query(request)


# --- organisations ------------------------------------------------------------------------------------------


def _organisation_routes(router: APIRouter, desk: Desk) -> None:
    operator = Operator(desk.operator_token)

    @router.post(
        "/organisations",
        status_code=201,
        tags=["organisations"],
        dependencies=[Depends(operator)],
        response_model=shapes.CreatedOrganisation,
    )
    async def create_organisation(body: NewOrganisation) -> Response:
        """Create a tenant and its first API key, which has every scope. Only the operator may."""
        now = desk.clock()
        made, tenant_id = new_api_key(), uuid7()
        created = OrganisationCreated(tenant_id=tenant_id, slug=body.slug, name=body.name, created_at=now)
        first = _key_event(made, tenant_id, "first key", SCOPES, desk)
        try:
            async with desk.database.transaction([tenant_id]) as tx:
                await store.create_organisation(tx, created, first)
                await audit.record(
                    tx, tenant_id, audit.OPERATOR, "organisation.create", tenant_id,
                    details={"slug": body.slug, "first_key": first.key_id}, at=now,
                )  # fmt: skip
        except store.Taken:
            raise Problem(409, "slug_taken", f"slug: there is an organisation {body.slug!r} already") from None
        return json_response(
            {"tenant_id": tenant_id, "slug": body.slug, "name": body.name, "created_at": now,
             "api_key": _shown_once(made, first)},
            201,
        )  # fmt: skip

    @router.post(
        "/organisations/{slug}/api-keys",
        status_code=201,
        tags=["organisations"],
        dependencies=[Depends(operator)],
        response_model=shapes.CreatedApiKey,
    )
    async def create_key_of_organisation(slug: str, body: NewKey) -> Response:
        """Make an API key for an organisation that has lost its own. Only the operator may."""
        scopes = _scopes(body)
        known = id_in(slug, "organisation")
        async with desk.database.transaction(public_id=known) as tx:
            tenant_id = await store.tenant_of(tx, known)
        if tenant_id is None:
            raise not_found("organisation")
        return await _created(desk, tenant_id, body, scopes, audit.OPERATOR)

    @router.get("/organisation", tags=["organisations"], response_model=shapes.Organisation)
    async def organisation(caller: ProfilesReader) -> Response:
        """The caller's own organisation."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await store.organisation(tx, caller.tenant_id)
        if row is None:
            raise not_found("organisation")
        return json_response(dict(row))


# --- API keys -----------------------------------------------------------------------------------------------


def _key_event(
    made: NewApiKey, tenant_id: str, label: str, scopes: tuple[str, ...], desk: Desk, *, expires_at: Any = None
) -> ApiKeyCreated:
    return ApiKeyCreated(
        tenant_id=tenant_id, key_id=made.key_id, secret_hash=made.secret_hash, scopes=scopes, label=label,
        created_at=desk.clock(), expires_at=expires_at,
    )  # fmt: skip


def _shown_once(made: NewApiKey, created: ApiKeyCreated) -> dict[str, Any]:
    return {
        "key_id": made.key_id, "text": made.text, "scopes": created.scopes, "label": created.label,
        "created_at": created.created_at, "expires_at": created.expires_at,
    }  # fmt: skip


def _listed(row: store.Row, now: datetime) -> dict[str, Any]:
    """A key with the times of its secrets, none of which is told."""
    shown = {name: row[name] for name in row.keys() if name not in ("previous_secrets", "rotated_at")}  # noqa: SIM118
    since = row["rotated_at"] or row["created_at"]
    older = [one.until for one in previous_secrets(row["previous_secrets"]) if one.until > now]
    current = {"state": "current", "since": since, "until": row["expires_at"]}
    return {**shown, "secrets": [current, *({"state": "previous", "since": None, "until": one} for one in older)]}


def _scopes(body: NewKey) -> tuple[str, ...]:
    for scope in body.scopes:
        if scope not in SCOPES:
            raise invalid("/scopes", "unknown_scope", f"there is no scope {scope[:80]!r}; use {', '.join(SCOPES)}")
    return tuple(sorted(set(body.scopes)))


def _future(moment: datetime | None, desk: Desk) -> datetime | None:
    if moment is not None and moment <= desk.clock():
        raise invalid("/expires_at", "in_the_past", "must lie in the future")
    return moment


def _told(moment: datetime | None) -> str | None:
    """When a key ends, for the audit log; None: never."""
    return None if moment is None else timestamp(moment)


async def _created(
    desk: Desk, tenant_id: str, body: NewKey, scopes: tuple[str, ...], actor: Principal | str
) -> Response:
    made = new_api_key()
    created = _key_event(made, tenant_id, body.label, scopes, desk, expires_at=_future(body.expires_at, desk))
    async with desk.database.transaction([tenant_id]) as tx:
        await store.create_api_key(tx, created)
        await audit.record(
            tx, tenant_id, actor, "api_key.create", created.key_id,
            details={"label": created.label, "scopes": list(scopes), "expires_at": _told(created.expires_at)},
            at=created.created_at,
        )  # fmt: skip
    reach("access.made")
    return json_response(_shown_once(made, created), 201)


def _api_key_routes(router: APIRouter, desk: Desk) -> None:
    @router.post("/api-keys", status_code=201, tags=["api keys"], response_model=shapes.CreatedApiKey)
    async def create_api_key(body: NewKey, caller: KeysWriter) -> Response:
        """Create an API key. `text` is shown this once."""
        scopes = _scopes(body)
        for scope in scopes:
            if scope not in caller.scopes:
                raise invalid("/scopes", "scope_beyond_own", f"your own key lacks {scope!r}, so it cannot hand it on")
        return await _created(desk, caller.tenant_id, body, scopes, caller)

    @router.get("/api-keys", tags=["api keys"], response_model=shapes.Page[shapes.ApiKey])
    async def list_api_keys(caller: KeysReader, after: After = None, limit: Limit = 50) -> Response:
        """The organisation's API keys, without their secrets."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            rows = await store.api_keys(tx, caller.tenant_id, after=id_after(after), limit=limit + 1)
        return json_response(page([_listed(row, desk.clock()) for row in rows], limit, lambda row: row["key_id"]))

    @router.post("/api-keys/{key_id}/rotate", status_code=201, tags=["api keys"], response_model=shapes.RotatedApiKey)
    async def rotate_api_key(key_id: str, caller: KeysWriter, body: Rotation | None = None) -> Response:
        """Give an API key another secret; `text` is shown this once. The one before works until `previous_until`.

        Older ones stop then at the latest, too. A key rotates only keys whose scopes it has itself.
        """
        wanted, now = body or Rotation(), desk.clock()
        expires_at = _future(wanted.expires_at, desk)
        until = now + timedelta(seconds=wanted.overlap_s)
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await store.api_key(tx, caller.tenant_id, id_in(key_id, "API key"))
            if row is None:
                raise not_found("API key")
            beyond = sorted(set(row["scopes"]) - caller.scopes)
            if beyond:
                detail = f"your own key lacks {', '.join(beyond)}, so it cannot get a secret of a key that has it"
                raise Problem(403, "scope_beyond_own", detail)
            made = new_api_key(key_id=row["key_id"])
            try:
                rotated = await store.rotate_api_key(
                    tx, row, made.secret_hash, until=until, now=now, expires_at=expires_at
                )
            except store.KeyEnded:
                detail = "this key is revoked or expired; make a new one"
                raise Problem(409, "key_ended", detail) from None
            except store.TooManySecrets as error:
                detail = f"{error} older secrets of this key still work; wait, or send overlap_s 0 to end them now"
                raise Problem(409, "too_many_secrets", detail) from None
            await audit.record(
                tx, caller.tenant_id, caller, "api_key.rotate", rotated.key_id,
                details={
                    "overlap_s": wanted.overlap_s, "secrets": 1 + len(rotated.previous),
                    "expires_at": _told(rotated.expires_at), "expired_at": _told(row["expires_at"]),
                },
                at=now,
            )  # fmt: skip
        reach("access.rotated")
        return json_response(
            {"key_id": rotated.key_id, "text": made.text, "scopes": row["scopes"],
             "label": row["label"], "created_at": row["created_at"], "rotated_at": rotated.rotated_at,
             "expires_at": rotated.expires_at,
             "previous_until": max((one.until for one in rotated.previous), default=None)},
            201,
        )  # fmt: skip

    @router.delete("/api-keys/{key_id}", status_code=204, tags=["api keys"])
    async def revoke_api_key(key_id: str, caller: KeysWriter) -> Response:
        """Revoke an API key; it stops working within seconds, in every service. The last with keys:write stays."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            try:
                revoked = await store.revoke_api_key(tx, caller.tenant_id, id_in(key_id, "API key"), desk.clock())
            except store.LastKey:
                detail = "this is the last key with the scope keys:write; make another with it first, then revoke this"
                raise Problem(409, "last_key", detail) from None
            if revoked is None:
                raise not_found("API key")
            await audit.record(
                tx, caller.tenant_id, caller, "api_key.revoke", key_id, outcome="done" if revoked else "unchanged",
                at=desk.clock(),
            )  # fmt: skip
        reach("access.revoked")
        return Response(status_code=204)
