"""Routes of issuer profiles and their signing keys."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field, StringConstraints

from laurel import audit
from laurel.addresses import is_address
from laurel.credential import lint, securing
from laurel.credential.did import DidError, did_web
from laurel.credential.images import BadImage, from_data_uri
from laurel.credential.multikey import KeyType
from laurel.credential.text import is_web_url
from laurel.ids import uuid7
from laurel.problems import FieldError, Problem, not_found
from laurel.security import Principal
from laurel.web import json_response, requires
from laurel_issuer import keyring, shapes, store, store_status
from laurel_issuer.domain import CredentialType, Identity, IssuerProfile, probe_credential
from laurel_issuer.edge import After, Body, Desk, Line, Slug, id_after, id_in, invalid, page

ProfilesReader = Annotated[Principal, Depends(requires("profiles:read"))]
ProfilesWriter = Annotated[Principal, Depends(requires("profiles:write"))]
Limit = Annotated[int, Query(ge=1, le=500)]
Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
# Bytes of JSON. With the largest achievement that is published (128 kB) and the largest result it fits a credential.
MAX_PROFILE = 64 * 1024
_WAYS = ", ".join(securing.SECURINGS)


class ProfileBody(Body):
    """What an issuer says about itself, in every credential that it issues from now on."""

    name: Line
    url: Url
    email: Annotated[str, StringConstraints(strip_whitespace=True, max_length=320)] | None = None
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] | None = None
    image: Annotated[str, StringConstraints(max_length=50_000)] | None = Field(
        default=None, description="URL of a picture, or a data URI; it stands in every credential, so keep it small."
    )
    securing: list[str] | None = Field(
        default=None,
        max_length=securing.MOST + 2,
        description=f"How its credentials are secured: {_WAYS}. Several proofs make a proof set, or a chain where "
        "proof-chain stands before them; a token (vc-jwt, vc+jwt) stands alone. Left out: as it was; at first "
        "eddsa-rdfc-2022. An achievement may say otherwise.",
        examples=[["eddsa-rdfc-2022", "ecdsa-rdfc-2019"]],
    )
    credential_type: CredentialType | None = Field(
        default=None, description="The two mean the same in Open Badges 3.0. Left out: as it was; at first OpenBadge."
    )


class NewProfile(ProfileBody):
    """An issuer profile to create; its slug becomes part of its id and can never change."""

    slug: Slug
    identity: Identity = Field(
        default="did:web",
        description="What its id is: a did:web, a did:key (the id is its one key, for ever), or the https address of "
        "its profile. Can never change: it stands in every credential.",
    )


class NewSigningKey(Body):
    """Which kind of key to make."""

    key_type: KeyType | None = Field(
        default=None, description="Left out: the kind that the first way of the profile's `securing` takes."
    )


def profile_routes(desk: Desk) -> APIRouter:
    """The routes, under /issuer/v1/profiles."""
    router = APIRouter(prefix="/issuer/v1/profiles", tags=["profiles"])
    _profile_routes(router, desk)
    _signing_key_routes(router, desk)
    return router


# --- issuer profiles ----------------------------------------------------------------------------------------


def _profile_routes(router: APIRouter, desk: Desk) -> None:
    @router.post("", status_code=201, response_model=shapes.Profile)
    async def create_profile(body: NewProfile, caller: ProfilesWriter) -> Response:
        """Create an issuer profile. It can issue once it has a key; one whose id is a did:key has it at once."""
        choices = _choices(body, store.Choices(securing.DEFAULT, "OpenBadgeCredential"))
        kind = _only_kind(choices) if body.identity == "did:key" else None
        secrets = {} if kind is None else await keyring.new_secrets([kind])
        profile = await _checked(body, _issuer_id(desk, body, secrets), desk)
        profile_id, now = uuid7(), desk.clock()
        try:
            async with desk.database.transaction([caller.tenant_id]) as tx:
                await store.create_profile(
                    tx, tenant_id=caller.tenant_id, profile_id=profile_id, slug=body.slug, identity=body.identity,
                    profile=profile, choices=choices, now=now,
                )  # fmt: skip
                if secrets:
                    row = await _own_profile(tx, profile_id, lock=True)
                    await keyring.add_missing(tx, row, secrets, kek=desk.kek, now=now)
                url = desk.profile_url(body.slug)
                row = await store.publish_profile(tx, profile_id, profile_url=url, now=now)
                await audit.record(
                    tx, caller.tenant_id, caller, "profile.create", profile_id,
                    details={"slug": body.slug, "identity": body.identity}, at=now,
                )  # fmt: skip
        except store.Taken:
            raise Problem(
                409, "slug_taken", f"slug: there is an issuer {body.slug!r} already; choose another"
            ) from None
        return json_response(_shown(row), 201)

    @router.get("", response_model=shapes.Page[shapes.Profile])
    async def list_profiles(caller: ProfilesReader, after: After = None, limit: Limit = 50) -> Response:
        """The organisation's issuer profiles."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            rows = await store.profiles(tx, caller.tenant_id, after=id_after(after), limit=limit + 1)
        return json_response(page([_shown(row) for row in rows], limit, lambda row: row["profile_id"]))

    @router.get("/{profile_id}", response_model=shapes.Profile)
    async def get_profile(profile_id: str, caller: ProfilesReader) -> Response:
        """One issuer profile."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            return json_response(_shown(await _own_profile(tx, profile_id)))

    @router.put("/{profile_id}", response_model=shapes.Profile)
    async def change_profile(profile_id: str, body: ProfileBody, caller: ProfilesWriter) -> Response:
        """Replace what a profile says. Slug, identity and id stay; credentials issued before keep what they say.

        Keys of kinds that its `securing` takes for the first time are made at once.
        """
        wanted = _choices(body, store.Choices(securing.DEFAULT, "OpenBadgeCredential")).securing
        secrets = await keyring.new_secrets(securing.key_types(wanted, wanted)) if body.securing else {}
        now = desk.clock()
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id, lock=True)
            choices = _choices(body, store.Choices(tuple(row["securing"]), row["credential_type"]))
            keys = await store.signing_keys(tx, row["profile_id"])
            if row["identity"] == "did:key" and _only_kind(choices) != keys[0]["key_type"]:
                detail = f"the issuer's id is a key of {keys[0]['key_type']}; name ways that take it, or make a profile"
                raise invalid("/securing", "another_key", detail)
            profile = await _checked(body, row["did"], desk)
            await store.change_profile(tx, row["profile_id"], profile, choices)
            if keys and row["identity"] != "did:key":
                await keyring.add_missing(tx, row, secrets, kek=desk.kek, now=now)
            url = desk.profile_url(row["slug"])
            changed = await store.publish_profile(tx, row["profile_id"], profile_url=url, now=now)
            await audit.record(
                tx, caller.tenant_id, caller, "profile.change", row["profile_id"],
                details={"version": changed["version"]}, at=now,
            )  # fmt: skip
        return json_response(_shown(changed))


def _choices(body: ProfileBody, before: store.Choices) -> store.Choices:
    """What holds after the request. Raises Problem 422."""
    if body.securing is not None and (wrong := securing.problem(body.securing)):
        raise invalid("/securing", "bad_securing", wrong)
    return store.Choices(
        before.securing if body.securing is None else tuple(body.securing),
        body.credential_type or before.credential_type,
    )


def _only_kind(choices: store.Choices) -> KeyType:
    """The kind of the one key that a did:key issuer has. Raises Problem 422."""
    kinds = securing.key_types(choices.securing, choices.securing)
    if len(kinds) > 1:
        detail = (
            f"the id of a did:key issuer is its only key, but this takes keys of {' and '.join(kinds)}; name ways that "
            "take one kind (RSA alone cannot sign status lists), or use the identity did:web or https"
        )
        raise invalid("/securing", "several_keys", detail)
    return kinds[0]


def _issuer_id(desk: Desk, body: NewProfile, secrets: dict[KeyType, bytes]) -> str:
    if body.identity == "did:key":
        return next(keyring.did_key_of(kind, secret) for kind, secret in secrets.items())
    if body.identity == "https":
        if not desk.base_url.startswith("https://"):
            detail = f"this Laurel is at {desk.base_url}; an https id needs LAUREL_PUBLIC_URL to begin with https://"
            raise invalid("/identity", "not_https", detail)
        return desk.profile_url(body.slug)
    try:
        return did_web(desk.base_url, body.slug)
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
    if body.email and not is_address(body.email):
        raise invalid("/email", "not_an_address", "must be an e-mail address like office@example.org")
    if body.image and not (is_web_url(body.image) or body.image.startswith("data:image/")):
        raise invalid("/image", "not_an_image", "must be an http(s) address or a data URI of a PNG or SVG picture")
    profile = IssuerProfile(did, body.name, body.url, body.email or None, body.description or None, body.image or None)
    if len(json.dumps(asdict(profile), ensure_ascii=False).encode()) > MAX_PROFILE:
        place = "/image" if profile.image else "/description"
        detail = f"all of the profile together may have {MAX_PROFILE} bytes, for it stands in every credential; shorten"
        raise invalid(place, "too_large", detail)
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
    names = (
        "profile_id", "slug", "did", "identity", "name", "url", "email", "description", "image", "securing",
        "credential_type", "version",
    )  # fmt: skip
    return {name: row[name] for name in (*names, "created_at", "updated_at")}


# --- signing keys -------------------------------------------------------------------------------------------


def _signing_key_routes(router: APIRouter, desk: Desk) -> None:
    @router.post("/{profile_id}/keys", status_code=201, response_model=shapes.SigningKey)
    async def rotate(profile_id: str, caller: ProfilesWriter, body: NewSigningKey | None = None) -> Response:
        """Make a new signing key. The one before of its kind is retired: it stays published, so old badges verify."""
        now = desk.clock()
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id)
        _refuse_did_key(row)
        kind: KeyType = securing.ways(row["securing"])[0].key_type
        if body is not None and body.key_type is not None:
            kind = body.key_type
        secrets = await keyring.new_secrets([kind])
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id, lock=True)
            key = await keyring.add_key(tx, row, kind, secrets[kind], kek=desk.kek, now=now)
            await store.publish_profile(tx, row["profile_id"], profile_url=desk.profile_url(row["slug"]), now=now)
            await store_status.notify_publisher(tx)
            await audit.record(
                tx, caller.tenant_id, caller, "signing_key.create", key.key_id,
                details={"profile_id": row["profile_id"], "key_type": kind}, at=now,
            )  # fmt: skip
        return json_response(
            {"key_id": key.key_id, "key_type": kind, "verification_method": key.verification_method,
             "public_key_multibase": key.public_key_multibase, "state": "active", "created_at": now, "ended_at": None},
            201,
        )  # fmt: skip

    @router.get("/{profile_id}/keys", response_model=shapes.Page[shapes.SigningKey])
    async def list_signing_keys(profile_id: str, caller: ProfilesReader) -> Response:
        """The profile's keys, oldest first; never their secrets."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id)
            keys = await store.signing_keys(tx, row["profile_id"])
        return json_response({"items": [dict(key) for key in keys], "next": None})

    @router.post("/{profile_id}/keys/{key_id}/compromise", response_model=shapes.Compromised)
    async def compromise(profile_id: str, key_id: str, caller: ProfilesWriter) -> Response:
        """Take a key out of the published document: what it signed stops verifying, at once. Cannot be undone."""
        now = desk.clock()
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await _own_profile(tx, profile_id, lock=True)
            _refuse_did_key(row)
            taken_out = await store.compromise(tx, row["profile_id"], id_in(key_id, "signing key"), now)
            if taken_out is None:
                raise not_found("signing key")
            if taken_out:
                await store.publish_profile(tx, row["profile_id"], profile_url=desk.profile_url(row["slug"]), now=now)
                await store_status.mark_signed_with(tx, caller.tenant_id, key_id)
            await audit.record(
                tx, caller.tenant_id, caller, "signing_key.compromise", key_id,
                outcome="done" if taken_out else "unchanged", details={"profile_id": row["profile_id"]}, at=now,
            )  # fmt: skip
        return json_response({"key_id": key_id, "state": "compromised"})


def _refuse_did_key(row: store.Row) -> None:
    if row["identity"] == "did:key":
        detail = (
            "the id of this issuer is its key (did:key): it cannot be rotated, and taking it out would not stop it "
            "from verifying. Make a profile with the identity did:web or https for what comes; if the key is "
            "compromised, revoke what it has signed"
        )
        raise Problem(409, "identity_is_the_key", detail)
