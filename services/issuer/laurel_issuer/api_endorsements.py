"""Routes of endorsements (Open Badges 3.0, EndorsementCredential)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import Field, StringConstraints

from laurel.credential import lint
from laurel.credential.text import is_absolute_identifier, is_did, timestamp
from laurel.errors import NotNow
from laurel.ids import endorsement_id
from laurel.problems import FieldError, Problem, not_found, uuid_in
from laurel.security import Principal
from laurel.web import json_response, requires
from laurel_issuer import shapes, store, store_endorsements
from laurel_issuer.edge import (
    After,
    Body,
    Desk,
    Line,
    Moment,
    id_in,
    invalid,
    page,
    place_after,
)
from laurel_issuer.endorsing import AnotherRequest, Endorser, NoKey

Reader = Annotated[Principal, Depends(requires("credentials:read"))]
Writer = Annotated[Principal, Depends(requires("credentials:write"))]
Limit = Annotated[int, Query(ge=1, le=500)]
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[!-~]+$")
]
# Where the properties of the credential stand in the request.
_FIELDS = {
    "/credentialSubject/endorsementComment": "/endorsement_comment", "/credentialSubject/id": "/subject/id",
    "/name": "/name", "/validUntil": "/valid_until",
}  # fmt: skip


class Subject(Body):
    """Who or what is endorsed."""

    id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)] = Field(
        description="The URL, URN or DID of an issuer's profile, an achievement or a credential, of whomever."
    )
    type: Literal["Profile", "Achievement", "Credential"]


class NewEndorsement(Body):
    """An endorsement to sign."""

    profile_id: str = Field(description="Who endorses: one of the organisation's issuer profiles.")
    subject: Subject
    endorsement_comment: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000)]
    name: Line = "Endorsement"
    valid_until: Moment | None = None


def endorsement_routes(desk: Desk, endorser: Endorser, id_key: bytes) -> APIRouter:
    """The routes, under /issuer/v1/endorsements."""
    router = APIRouter(prefix="/issuer/v1/endorsements", tags=["endorsements"])

    @router.post(
        "", status_code=201, response_model=shapes.FullEndorsement,
        responses={200: {"model": shapes.FullEndorsement, "description": "It was issued before; here it is"}},
    )  # fmt: skip
    async def endorse(body: NewEndorsement, caller: Writer, idempotency_key: IdempotencyKey = None) -> Response:
        """Sign an endorsement. The same again (by Idempotency-Key, else by content) answers 200 with the same.

        It is revoked as every credential is: POST /issuer/v1/credentials/{credential_id}/revoke.
        """
        if not is_absolute_identifier(body.subject.id):
            raise invalid("/subject/id", "not_an_identifier", "must be an absolute URL, URN or DID")
        if body.subject.id.startswith("did:") and not is_did(body.subject.id):
            raise invalid("/subject/id", "not_a_did", "must be a DID (DID Core §3.1); a did:key must hold a key")
        if body.valid_until is not None and body.valid_until <= desk.clock():
            raise invalid("/valid_until", "in_the_past", "must lie in the future")
        async with desk.database.transaction([caller.tenant_id]) as tx:
            profile = await store.profile(tx, id_in(body.profile_id, "issuer profile"))
        if profile is None:
            raise invalid("/profile_id", "unknown_profile", "this organisation has no such issuer profile")
        wanted = _wanted(body, caller.tenant_id, profile["profile_id"], idempotency_key, id_key)
        try:
            row, new = await endorser.issue(wanted, caller)
        except lint.LintError as error:
            raise _refused(error) from None
        except NoKey as error:
            raise Problem(409, "no_active_key", str(error)) from None
        except AnotherRequest as error:
            raise Problem(422, "idempotency_key_reused", str(error)) from None
        except NotNow as error:
            raise Problem(503, "not_now", str(error), headers={"Retry-After": "2"}) from None
        location = f"/issuer/v1/endorsements/{row['credential_id']}"
        return json_response(_shown(row, desk, full=True), 201 if new else 200, headers={"Location": location})

    @router.get("", response_model=shapes.Page[shapes.Endorsement])
    async def list_endorsements(caller: Reader, after: After = None, limit: Limit = 50) -> Response:
        """The organisation's endorsements, oldest first, without their documents."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            place = await place_after(after, partial(store_endorsements.place_of, tx, caller.tenant_id))
            rows = await store_endorsements.listed(tx, caller.tenant_id, after=place, limit=limit + 1)
        return json_response(page([_shown(row, desk) for row in rows], limit, lambda row: row["credential_id"]))

    @router.get("/{credential_id}", response_model=shapes.FullEndorsement)
    async def get_endorsement(credential_id: str, caller: Reader) -> Response:
        """One endorsement with its exact document."""
        wanted = str(uuid_in(credential_id, "credential"))
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await store_endorsements.reserved(tx, wanted)
        if row is None or row["body"] is None:
            raise not_found("endorsement")
        return json_response(_shown(row, desk, full=True))

    return router


def _wanted(
    body: NewEndorsement, tenant_id: str, profile_id: str, idempotency_key: str | None, id_key: bytes
) -> store_endorsements.Wanted:
    until = None if body.valid_until is None else body.valid_until.replace(microsecond=0)
    content = [body.subject.id, body.subject.type, body.endorsement_comment, body.name, until and timestamp(until)]
    request = msgspec.json.encode(content).decode() if idempotency_key is None else f"key {idempotency_key}"
    return store_endorsements.Wanted(
        tenant_id=tenant_id,
        credential_id=endorsement_id(id_key, tenant_id=tenant_id, profile_id=profile_id, request=request),
        profile_id=profile_id, subject_id=body.subject.id, subject_type=body.subject.type,
        comment=body.endorsement_comment, name=body.name, valid_until=until,
    )  # fmt: skip


def _refused(error: lint.LintError) -> Problem:
    errors = [
        FieldError(field=_FIELDS.get(one.pointer, one.pointer or "/"), code=one.rule, detail=one.message)
        for one in error.findings
        if one.level == "error"
    ]
    return Problem(422, "invalid_input", f"{errors[0].field}: {errors[0].detail}", errors=errors)


def _shown(row: store.Row, desk: Desk, *, full: bool = False) -> dict[str, Any]:
    names = ("credential_id", "profile_id", "name", "status", "status_reason", "status_version", "valid_until")
    shown = {name: row[name] for name in names}
    shown |= {
        "url": f"{desk.base_url}/c/{row['credential_id']}", "issued_at": row["created_at"],
        "subject": {"id": row["subject_id"], "type": row["subject_type"]}, "endorsement_comment": row["comment"],
    }  # fmt: skip
    return {**shown, "document": msgspec.Raw(row["body"])} if full else shown
