"""Routes for running an organisation: organisations, API keys, issuer profiles, signing keys."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field, StringConstraints

from laurel.credential import lint
from laurel.credential.did import DidError, did_web
from laurel.credential.images import BadImage, from_data_uri
from laurel.credential.keys import Ed25519Signer
from laurel.credential.text import is_web_url
from laurel.events import ApiKeyCreated, OrganisationCreated
from laurel.ids import uuid7
from laurel.security import SCOPES, NewApiKey, Principal, new_api_key, seal
from laurel.web import FieldError, Problem, authenticate, json_response, not_found, requires
from laurel_issuer import shapes, store, store_status
from laurel_issuer.domain import IssuerProfile, probe_credential
from laurel_issuer.edge import After, Body, Desk, Line, Moment, Slug, id_after, id_in, invalid, page
from laurel_issuer.signing import KEY_PURPOSE

_EMAIL = re.compile(r"[^@\s<>\x00-\x1f]+@[^@\s<>\x00-\x1f]+\.[^@\s<>\x00-\x1f]+").fullmatch
_operator = HTTPBearer(auto_error=False, scheme_name="Operator", description="LAUREL_OPERATOR_TOKEN")
Caller = Annotated[Principal, Depends(authenticate)]
KeysWriter = Annotated[Principal, Depends(requires("keys:write"))]
ProfilesWriter = Annotated[Principal, Depends(requires("profiles:write"))]
Limit = Annotated[int, Query(ge=1, le=500)]
Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class NewOrganisation(Body):
    """A tenant to create."""

    slug: Slug
    name: Line


class NewKey(Body):
    """An API key to create. A key can only hand on the scopes that it has itself."""

    label: Line
    scopes: list[str] = Field(min_length=1, max_length=len(SCOPES))
    expires_at: Moment | None = None


class ProfileBody(Body):
    """What an issuer says about itself, in every credential that it issues from now on."""

    name: Line
    url: Url
    email: Annotated[str, StringConstraints(strip_whitespace=True, max_length=320)] | None = None
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] | None = None
    image: Annotated[str, StringConstraints(max_length=50_000)] | None = Field(
        default=None, description="URL of a picture, or a data URI; it stands in every credential, so keep it small."
    )


class NewProfile(ProfileBody):
    """An issuer profile to create; its slug becomes part of its DID and can never change."""

    slug: Slug


def admin_routes(desk: Desk) -> APIRouter:
    """The routes, under /issuer/v1."""
    router = APIRouter(prefix="/issuer/v1")
    _organisation_routes(router, desk)
    _api_key_routes(router, desk)
    _profile_routes(router, desk)
    _signing_key_routes(router, desk)
    return router


# --- organisations ------------------------------------------------------------------------------------------


def _organisation_routes(router: APIRouter, desk: Desk) -> None:
    async def operator(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_operator)]) -> None:
        headers = {"WWW-Authenticate": 'Bearer realm="laurel-operator"'}
        if desk.operator_token is None:
            raise Problem(403, "no_operator", "LAUREL_OPERATOR_TOKEN is not set, so nobody can create organisations")
        if given is None or not hmac.compare_digest(given.credentials.encode(), desk.operator_token.encode()):
            raise Problem(401, "unauthorized", "send the operator's token as Bearer", headers=headers)

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
        return await _created(desk, tenant_id, body, scopes)

    @router.get("/organisation", tags=["organisations"], response_model=shapes.Organisation)
    async def organisation(caller: Caller) -> Response:
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


def _scopes(body: NewKey) -> tuple[str, ...]:
    for scope in body.scopes:
        if scope not in SCOPES:
            raise invalid("/scopes", "unknown_scope", f"there is no scope {scope[:80]!r}; use {', '.join(SCOPES)}")
    return tuple(sorted(set(body.scopes)))


async def _created(desk: Desk, tenant_id: str, body: NewKey, scopes: tuple[str, ...]) -> Response:
    if body.expires_at is not None and body.expires_at <= desk.clock():
        raise invalid("/expires_at", "in_the_past", "must lie in the future")
    made = new_api_key()
    created = _key_event(made, tenant_id, body.label, scopes, desk, expires_at=body.expires_at)
    async with desk.database.transaction([tenant_id]) as tx:
        await store.create_api_key(tx, created)
    return json_response(_shown_once(made, created), 201)


def _api_key_routes(router: APIRouter, desk: Desk) -> None:
    @router.post("/api-keys", status_code=201, tags=["api keys"], response_model=shapes.CreatedApiKey)
    async def create_api_key(body: NewKey, caller: KeysWriter) -> Response:
        """Create an API key. `text` is shown this once."""
        scopes = _scopes(body)
        for scope in scopes:
            if scope not in caller.scopes:
                raise invalid("/scopes", "scope_beyond_own", f"your own key lacks {scope!r}, so it cannot hand it on")
        return await _created(desk, caller.tenant_id, body, scopes)

    @router.get("/api-keys", tags=["api keys"], response_model=shapes.Page[shapes.ApiKey])
    async def list_api_keys(caller: KeysWriter, after: After = None, limit: Limit = 50) -> Response:
        """The organisation's API keys, without their secrets."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            rows = await store.api_keys(tx, caller.tenant_id, after=id_after(after), limit=limit + 1)
        return json_response(page([dict(row) for row in rows], limit, lambda row: row["key_id"]))

    @router.delete("/api-keys/{key_id}", status_code=204, tags=["api keys"])
    async def revoke_api_key(key_id: str, caller: KeysWriter) -> Response:
        """Revoke an API key; it stops working within seconds, in every service. The last with keys:write stays."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            try:
                known = await store.revoke_api_key(tx, caller.tenant_id, id_in(key_id, "API key"), desk.clock())
            except store.LastKey:
                detail = "this is the last key with the scope keys:write; make another with it first, then revoke this"
                raise Problem(409, "last_key", detail) from None
            if not known:
                raise not_found("API key")
        return Response(status_code=204)


# --- issuer profiles ----------------------------------------------------------------------------------------


def _profile_routes(router: APIRouter, desk: Desk) -> None:
    @router.post("/profiles", status_code=201, tags=["profiles"], response_model=shapes.Profile)
    async def create_profile(body: NewProfile, caller: ProfilesWriter) -> Response:
        """Create an issuer profile with a did:web identifier. It can issue once it has a key."""
        profile = await _checked(body, _did(desk, body.slug), desk)
        profile_id = uuid7()
        try:
            async with desk.database.transaction([caller.tenant_id]) as tx:
                row = await store.create_profile(
                    tx, tenant_id=caller.tenant_id, profile_id=profile_id, slug=body.slug, profile=profile,
                    profile_url=desk.profile_url(body.slug), now=desk.clock(),
                )  # fmt: skip
        except store.Taken:
            raise Problem(
                409, "slug_taken", f"slug: there is an issuer {body.slug!r} already; choose another"
            ) from None
        return json_response(_shown(row), 201)

    @router.get("/profiles", tags=["profiles"], response_model=shapes.Page[shapes.Profile])
    async def list_profiles(caller: Caller, after: After = None, limit: Limit = 50) -> Response:
        """The organisation's issuer profiles."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            rows = await store.profiles(tx, caller.tenant_id, after=id_after(after), limit=limit + 1)
        return json_response(page([_shown(row) for row in rows], limit, lambda row: row["profile_id"]))

    @router.get("/profiles/{profile_id}", tags=["profiles"], response_model=shapes.Profile)
    async def get_profile(profile_id: str, caller: Caller) -> Response:
        """One issuer profile."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            return json_response(_shown(await _own_profile(tx, profile_id)))

    @router.put("/profiles/{profile_id}", tags=["profiles"], response_model=shapes.Profile)
    async def change_profile(profile_id: str, body: ProfileBody, caller: ProfilesWriter) -> Response:
        """Replace what a profile says. Slug and DID stay; credentials issued before keep what they say."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id, lock=True)
            profile = await _checked(body, row["did"], desk)
            url = desk.profile_url(row["slug"])
            changed = await store.change_profile(tx, row["profile_id"], profile, profile_url=url, now=desk.clock())
        return json_response(_shown(changed))


def _did(desk: Desk, slug: str) -> str:
    try:
        return did_web(desk.base_url, slug)
    except DidError as error:
        raise Problem(500, "misconfigured", f"LAUREL_PUBLIC_URL cannot carry a DID: {error.detail}") from error


async def _own_profile(tx: Any, profile_id: str, *, lock: bool = False) -> store.Row:
    row = await store.profile(tx, id_in(profile_id, "issuer profile"), lock=lock)
    if row is None:
        raise not_found("issuer profile")
    return row


async def _checked(body: ProfileBody, did: str, desk: Desk) -> IssuerProfile:
    """The profile, if a credential that carries it would pass lint. Raises Problem 422."""
    if not is_web_url(body.url):
        raise invalid("/url", "not_a_web_address", "must be an absolute http(s) address")
    if body.email and not _EMAIL(body.email):
        raise invalid("/email", "not_an_address", "must be an e-mail address like office@example.org")
    if body.image and not (is_web_url(body.image) or body.image.startswith("data:image/")):
        raise invalid("/image", "not_an_image", "must be an http(s) address or a data URI of a PNG or SVG picture")
    profile = IssuerProfile(did, body.name, body.url, body.email or None, body.description or None, body.image or None)
    if profile.image and profile.image.startswith("data:"):
        try:
            await asyncio.to_thread(from_data_uri, profile.image)
        except BadImage as bad:
            raise invalid("/image", bad.code, bad.detail) from None
    findings = await asyncio.to_thread(_findings, probe_credential(profile, desk.clock()))
    # The rest of the probe is harmless, so that whatever is found is the profile's, wherever the rule saw it.
    errors = [
        FieldError(field=_field(one, profile), code=one.rule, detail=one.message)
        for one in findings
        if one.level == "error"
    ]
    if errors:
        raise Problem(422, "invalid_input", f"{errors[0].field}: {errors[0].detail}", errors=errors)
    return profile


def _field(finding: lint.Finding, profile: IssuerProfile) -> str:
    if finding.pointer.startswith("/issuer/"):
        return "/" + finding.pointer.split("/")[2]
    said = ((name, getattr(profile, name)) for name in ("image", "url", "email", "name", "description"))
    return next((f"/{name}" for name, value in said if value and value in finding.message), "/")


def _findings(document: dict[str, Any]) -> tuple[lint.Finding, ...]:
    try:
        return lint.lint(document).findings
    except lint.LintError as error:
        return error.findings


def _shown(row: store.Row) -> dict[str, Any]:
    names = ("profile_id", "slug", "did", "name", "url", "email", "description", "image", "version")
    return {name: row[name] for name in (*names, "created_at", "updated_at")}


# --- signing keys -------------------------------------------------------------------------------------------


def _signing_key_routes(router: APIRouter, desk: Desk) -> None:
    @router.post("/profiles/{profile_id}/keys", status_code=201, tags=["profiles"], response_model=shapes.SigningKey)
    async def rotate(profile_id: str, caller: ProfilesWriter) -> Response:
        """Make a new signing key. The one before is retired: it stays in the DID document, so old badges verify."""
        now, key_id, seed = desk.clock(), uuid7(), os.urandom(32)
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id, lock=True)
            number = await store.next_key_number(tx, row["profile_id"])
            signer = Ed25519Signer(seed, f"{row['did']}#key-{number}")
            key = store.NewKey(
                key_id, signer.verification_method, signer.public_key_multibase,
                seal(desk.kek, seed, purpose=KEY_PURPOSE),
            )  # fmt: skip
            await store.rotate(tx, tenant_id=caller.tenant_id, profile_id=row["profile_id"], key=key, now=now)
            await store.publish_profile(tx, row["profile_id"], profile_url=desk.profile_url(row["slug"]), now=now)
            await store_status.notify_publisher(tx)
        return json_response(
            {"key_id": key_id, "verification_method": key.verification_method,
             "public_key_multibase": key.public_key_multibase, "state": "active", "created_at": now, "ended_at": None},
            201,
        )  # fmt: skip

    @router.get("/profiles/{profile_id}/keys", tags=["profiles"], response_model=shapes.Page[shapes.SigningKey])
    async def list_signing_keys(profile_id: str, caller: Caller) -> Response:
        """The profile's keys, oldest first; never their secrets."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id)
            keys = await store.signing_keys(tx, row["profile_id"])
        return json_response({"items": [dict(key) for key in keys], "next": None})

    @router.post(
        "/profiles/{profile_id}/keys/{key_id}/compromise", tags=["profiles"], response_model=shapes.Compromised
    )
    async def compromise(profile_id: str, key_id: str, caller: ProfilesWriter) -> Response:
        """Take a key out of the DID document: everything it signed stops verifying, at once. Cannot be undone."""
        now = desk.clock()
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id, lock=True)
            taken_out = await store.compromise(tx, row["profile_id"], id_in(key_id, "signing key"), now)
            if taken_out is None:
                raise not_found("signing key")
            if taken_out:
                await store.publish_profile(tx, row["profile_id"], profile_url=desk.profile_url(row["slug"]), now=now)
                await store_status.mark_signed_with(tx, caller.tenant_id, key_id)
        return json_response({"key_id": key_id, "state": "compromised"})
