"""The verifier's API below /verifier/v1: verify anything, look up what is indexed, and the operator's reports."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field

from laurel.credential.baking import MAX_BAKED
from laurel.database import Database
from laurel.dead_letters_api import dead_letter_routes
from laurel.erasure_api import erasure_routes
from laurel.problems import FieldError, Problem, not_found
from laurel.quick import body_of, quick_route
from laurel.security import Principal
from laurel.web import create_app, json_response, requires
from laurel_verifier import store
from laurel_verifier.checks import CLAUSES, Step
from laurel_verifier.documents import MAX_DOCUMENT, Unreadable
from laurel_verifier.domain import Verdict
from laurel_verifier.downloads import PUBLIC
from laurel_verifier.forms import handed_in
from laurel_verifier.intake import Examined, Intake
from laurel_verifier.lookups import Lookups

MAX_BODY = MAX_BAKED + (64 << 10)  # a picture, and the form around it
MAX_JSON = MAX_DOCUMENT + (64 << 10)  # a credential, and what may stand around it
_CREDENTIAL_ID = re.compile(r"[0-9A-Za-z-]{1,64}").fullmatch
BATCH = r"/verifier/v1/credentials/verify/batch"
CROSS_ORIGIN = {
    r"/verifier/v1/credentials/verify": "POST",
    BATCH: "POST",
    r"/verifier/v1/credentials/[^/]+": "GET, HEAD",
    r"/c/[^/]+(/[^/]+)?": "GET, HEAD",
}

Reporter = Annotated[Principal, Depends(requires("reports:read"))]
CourseRun = Annotated[str | None, Query(description="Only this course run.", max_length=500)]


class AgainstOut(BaseModel):
    """Something that a step was checked against."""

    kind: Literal["context", "schema", "issuer", "key", "status_list", "status", "clock"]
    id: str = Field(description="Its URL, DID or key id.")
    source: Literal["bundled", "register", "identifier", "document", "fetched", "index", "clock"] = Field(
        description="Where this Laurel has it from: bundled and pinned, its register of issuers, the identifier itself "
        "(did:key), the credential itself, fetched, or its index."
    )
    url: str | None = Field(default=None, description="Its address, where that is not its id.")
    version: str | None = None
    digest: str | None = Field(default=None, description="sha256: and hex, of what is bundled.")
    at: str | None = Field(default=None, description="When it was fetched or published.")
    until: str | None = Field(default=None, description="How long it says it holds.")
    index: int | None = Field(default=None, description="Of a status entry in its list.")


class ProblemDetailsOut(BaseModel):
    """RFC 9457 §3.1; VC Data Model 2.0 §7.1."""

    type: str = Field(description="A type that VC Data Model, Data Integrity, Bitstring Status List or Laurel defines.")
    title: str
    detail: str


class CheckOut(BaseModel):
    """One step of a verification."""

    step: Step
    outcome: Literal["passed", "failed", "not_checked", "not_applicable"]
    detail: str = Field(description="What was checked, against what, when: for a human.")
    clause: str | None = Field(default=None, description="The text that asks for it.")
    code: str | None = Field(default=None, description="Why it failed or was not checked: for a program.")
    pointer: str | None = Field(
        default=None,
        description="JSON Pointer (RFC 6901) of the property that is wrong; of a JWT, in its payload, or in its header "
        "if that is what is wrong.",
    )
    at: str | None = Field(default=None, description="When it was checked.")
    against: list[AgainstOut] = Field(default=[], description="What it was checked against.")
    problem: ProblemDetailsOut | None = Field(default=None, description="Where it failed or could not be checked.")


class EndorsementOut(BaseModel):
    """What was found about an endorsement that the credential holds. It changes nothing about the verdict."""

    pointer: str = Field(description="JSON Pointer to it.")
    verdict: Verdict
    checks: list[CheckOut] = []
    concerns: bool | None = Field(default=None, description="Whether it speaks of what holds it; null: no telling.")
    id: str | None = None
    issuer: str | None = None
    issuer_name: str | None = Field(default=None, description="Self-declared, unless issuer_known.")
    issuer_known: bool = False


class RecipientOut(BaseModel):
    """Whose it is: apart from the verdict, which speaks of the document alone."""

    matches: bool | None = Field(description="Issued to the expected recipient? null: nobody named, or not readable.")


class ServiceOut(BaseModel):
    """A refreshService, as the credential names it."""

    id: str
    type: str


class NoticeOut(BaseModel):
    """What its issuer says of a credential without a word against it."""

    purpose: str = Field(description="Of its status entry: refresh, message, or one of the issuer's own.")
    value: int
    message: str | None = Field(default=None, description="What the credential says that the value means.")
    reference: str | None = Field(default=None, description="A page about it.")
    services: list[ServiceOut] = Field(default=[], description="Where a newer credential may be had.")


class VerificationOut(BaseModel):
    """The verdict, and how it came about."""

    verdict: Verdict
    checks: list[CheckOut]
    checked_at: str
    credential_id: str | None = Field(default=None, description="The id in this Laurel's index, if it is indexed.")
    id: str | None = Field(default=None, description="The credential's own id.")
    issuer: str | None = Field(default=None, description="The issuer's DID or URL.")
    issuer_name: str | None = Field(default=None, description="Self-declared, unless issuer_known.")
    issuer_known: bool = Field(description="Whether the issuer is in this Laurel's register, and its name from there.")
    recipient: RecipientOut
    baked: Literal["png", "svg"] | None = Field(default=None, description="The kind of picture that it was taken from.")
    notices: list[NoticeOut] = Field(default=[], description="They change nothing about the verdict.")
    endorsements: list[EndorsementOut] = Field(default=[], description="At most four are looked at.")


class CredentialOut(BaseModel):
    """An indexed credential."""

    credential_id: str
    issuer: str
    status: Literal["active", "suspended", "revoked"]
    status_version: int = Field(
        description="Of its newest change here, of status, refresh or message: the issuer's, once all have come."
    )
    status_changed_at: str | None
    refresh: bool = Field(description="Whether its issuer offers a newer one in its place.")
    message: int = Field(description="The value of its status entry for messages; 0: the first of them.")
    issued_at: str
    indexed_at: str
    document: dict[str, Any] | str = Field(
        description="The signed credential, exactly as it was issued: a JSON object, or its JSON Web Token."
    )


class CountsOut(BaseModel):
    """How many credentials are indexed, by status; dead letters of all course runs."""

    indexed: int
    active: int
    suspended: int
    revoked: int
    dead_lettered: int


class ReconciliationOut(BaseModel):
    """The verifier's numbers."""

    service: Literal["verifier"]
    course_run: str | None
    counts: CountsOut


class CredentialIdsOut(BaseModel):
    """A page of ids."""

    items: list[str]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last.")


_BYTES = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
_RAW_TYPES = (
    "image/png", "image/svg+xml", "application/vc+jwt", "application/jwt", "text/plain", "application/octet-stream",
)  # fmt: skip
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")
_RECIPIENT = {"type": "string", "maxLength": 320, "description": "An e-mail address or DID: is it this person's?"}
_URL = {"type": "string", "maxLength": 2048, "description": "Where the credential is."}
_VERIFY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "The credential itself, or one of `credential` and `url`.",
                    "properties": {
                        "credential": {
                            "type": ["object", "string"],
                            "description": "Any signed verifiable credential: its JSON, its JWT, or a QR code's text.",
                        },
                        "url": _URL,
                        "expected_recipient": _RECIPIENT,
                    },
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "description": "One of `file`, `url` and `credential` (a text).",
                    "properties": {
                        "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                        "url": _URL,
                        "credential": {"type": "string"},
                        "recipient": _RECIPIENT,
                    },
                }
            },
            **dict.fromkeys(_RAW_TYPES, _BYTES),
        },
    }
}


def create_api(database: Database, index: Lookups, intake: Intake, *, base_url: str) -> FastAPI:
    """The application with the API's routes; `pages.add_pages` adds the public pages."""
    app = create_app(
        "verifier",
        title="Laurel verifier",
        description="Verify any Open Badge or verifiable credential, step by step, and look up what was issued here.",
        database=database,
        base_url=base_url,
        cross_origin=CROSS_ORIGIN,
        max_body=MAX_BODY,
        max_json=MAX_JSON,
        streamed=["/verify", BATCH],  # the page's form answers people also where it refuses: `pages`
        unlabelled=["/verifier/v1/credentials/verify"],
        metered=["/verifier/v1/credentials/verify", BATCH],  # as is the page's form, which answers people: `pages`
    )

    @quick_route(app, "/verifier/v1/credentials/verify", "POST")
    @app.post(
        "/verifier/v1/credentials/verify",
        tags=["verify"],
        summary="Verify a credential",
        response_model=VerificationOut,
        openapi_extra=_VERIFY_BODY,
    )
    async def verify(request: Request) -> Response:
        """200 with a verdict for every credential that can be read: JSON, a JWT, or a baked PNG or SVG, by what the
        bytes are. Anything else is a problem that says why. No API key is needed."""
        try:
            examined = await _examine(intake, request)
        except Unreadable as error:
            raise unreadable(error) from None
        return json_response(examined.verification, headers={"Cache-Control": "no-store", **PUBLIC})

    @quick_route(app, "/verifier/v1/credentials/{credential_id}", "GET")
    @app.get(
        "/verifier/v1/credentials/{credential_id}",
        tags=["verify"],
        summary="Look up an indexed credential",
        response_model=CredentialOut,
    )
    async def credential(request: Request) -> Response:
        """Public: whoever knows the id may see the credential and its status."""
        row = await find_credential(index, request.path_params["credential_id"])
        return json_response(
            {
                "credential_id": row.credential_id,
                "issuer": row.issuer,
                "status": row.status,
                "status_version": row.status_version,
                "status_changed_at": row.status_changed_at and row.status_changed_at.astimezone(UTC),
                "refresh": row.refresh,
                "message": row.message,
                "issued_at": row.issued_at.astimezone(UTC),
                "indexed_at": row.indexed_at.astimezone(UTC),
                "document": msgspec.Raw(row.document),
            },
            headers={"Cache-Control": "no-cache", **PUBLIC},
        )

    _add_reports(app, database)
    app.include_router(dead_letter_routes("verifier", database))
    app.include_router(erasure_routes("verifier", database))
    return app


async def find_credential(index: Lookups, credential_id: str) -> store.Indexed:
    """The indexed credential. Raises Problem 404, also for what cannot be an id."""
    row = await index.credential(credential_id) if _CREDENTIAL_ID(credential_id) else None
    if row is None:
        raise not_found("credential")
    return row


def unreadable(error: Unreadable) -> Problem:
    """The problem document of what could not be read: 413, 400 for JSON that is none, 422 for everything else."""
    status = 413 if error.code == "too_large" else 400 if error.code in _BAD_JSON else 422
    found = FieldError(
        field=error.pointer or "body", code=error.code, detail=error.detail, step="format",
        clause=error.clause or CLAUSES["format"], offset=error.offset,
    )  # fmt: skip
    return Problem(status, error.code, error.detail, errors=[found])


_BAD_JSON = frozenset({"not_json", "not_utf8", "too_deep", "not_finite", "duplicate_key", "bad_string"})


async def _examine(intake: Intake, request: Request) -> Examined:
    content_type = request.headers.get("content-type", "")
    body = await body_of(request)
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _FORM_TYPES:
        handed = handed_in(content_type, body)
        if handed.url:
            return await intake.examine_address(handed.url, handed.recipient or None)
        return await intake.examine(handed.body, handed.recipient or None)
    if kind in ("", "application/json", "application/vc", *_RAW_TYPES) or kind.endswith("+json"):
        return await intake.examine(body)
    allowed = ", ".join(("application/json", "application/vc", *_RAW_TYPES, *_FORM_TYPES))
    raise Problem(415, "unsupported_media_type", f"send one of {allowed}")


def _add_reports(app: FastAPI, database: Database) -> None:
    @app.get(
        "/verifier/v1/reports/reconcile",
        response_model=ReconciliationOut,
        tags=["reports"],
        summary="The verifier's numbers",
    )
    async def reconcile(principal: Reporter, course_run: CourseRun = None) -> dict[str, Any]:
        """Counts of indexed credentials by status. Dead letters are counted over all course runs."""
        found = await store.counts(database, principal.tenant_id, _clean(course_run))
        counts = {name: getattr(found, name) for name in found.__slots__}
        return {"service": "verifier", "course_run": course_run, "counts": counts}

    @app.get(
        "/verifier/v1/reports/credentials",
        response_model=CredentialIdsOut,
        tags=["reports"],
        summary="The ids of all indexed credentials",
    )
    async def credentials(
        principal: Reporter,
        course_run: CourseRun = None,
        after: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> dict[str, Any]:
        """In order of the id; `next` goes into `after` of the next call."""
        items = await store.credential_ids(
            database, principal.tenant_id, _clean(course_run), after=_clean(after) or "", limit=limit
        )
        return {"items": items, "next": items[-1] if len(items) == limit else None}


def _clean(text: str | None) -> str | None:
    """PostgreSQL has no NUL in text; nothing of ours is named with one, so nothing is found."""
    if text is not None and "\x00" in text:
        raise Problem(422, "invalid_input", "a parameter holds a NUL character")
    return text
