"""The verifier's API below /verifier/v1: verify anything, look up what is indexed, and the operator's reports."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field

from laurel.database import Database
from laurel.security import Principal, guard_json
from laurel.web import Problem, create_app, json_response, not_found, requires
from laurel_verifier import store
from laurel_verifier.verification import Verifier

MAX_BODY = 2 << 20  # a document of MAX_DOCUMENT grows when a form encodes it
_CREDENTIAL_ID = re.compile(r"[0-9A-Za-z-]{1,64}").fullmatch
PUBLIC = {"Access-Control-Allow-Origin": "*"}  # wallets in browsers read public documents

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

    step: Literal["format", "context", "schema", "issuer", "signature", "status", "dates", "recipient"]
    outcome: Literal["passed", "failed", "not_checked", "not_applicable"]
    detail: str = Field(description="What was checked, against what, when: for a human.")
    clause: str | None = Field(default=None, description="The text that asks for it.")
    code: str | None = Field(default=None, description="Why it failed or was not checked: for a program.")
    pointer: str | None = Field(default=None, description="JSON Pointer (RFC 6901) of the property that is wrong.")
    at: str | None = Field(default=None, description="When it was checked.")
    against: list[AgainstOut] = Field(default=[], description="What it was checked against.")
    problem: ProblemDetailsOut | None = Field(default=None, description="Where it failed or could not be checked.")


class RecipientOut(BaseModel):
    """Whose it is: apart from the verdict, which speaks of the document alone."""

    matches: bool | None = Field(description="Issued to the expected recipient? null: nobody named, or not readable.")


class VerificationOut(BaseModel):
    """The verdict, and how it came about."""

    verdict: Literal[
        "valid", "invalid", "revoked", "suspended", "expired", "not_yet_valid", "unknown_issuer", "could_not_check"
    ]
    checks: list[CheckOut]
    checked_at: str
    credential_id: str | None = Field(default=None, description="The id in this Laurel's index, if it is indexed.")
    id: str | None = Field(default=None, description="The credential's own id.")
    issuer: str | None = Field(default=None, description="The issuer's DID or URL.")
    issuer_name: str | None = Field(default=None, description="Self-declared, unless issuer_known.")
    issuer_known: bool = Field(description="Whether the issuer is in this Laurel's register, and its name from there.")
    recipient: RecipientOut


class CredentialOut(BaseModel):
    """An indexed credential."""

    credential_id: str
    issuer: str
    status: Literal["active", "suspended", "revoked"]
    status_version: int
    status_changed_at: str | None
    issued_at: str
    indexed_at: str
    document: dict[str, Any] = Field(description="The signed credential, exactly as it was issued.")


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


class DeadLetterOut(BaseModel):
    """An event that could not be handled."""

    id: int
    consumer: str
    topic: str
    partition: int
    offset: int
    key: str
    event_type: str | None
    code: str
    detail: str
    died_at: datetime
    redriven_at: datetime | None


class DeadLettersOut(BaseModel):
    """A page of dead letters."""

    items: list[DeadLetterOut]
    next: int | None = Field(description="Give it as `after` for the next page; null: this is the last.")


_VERIFY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "Either this, or the credential itself.",
                    "properties": {
                        "credential": {"type": "object", "description": "Any signed verifiable credential."},
                        "expected_recipient": {
                            "type": "string",
                            "maxLength": 320,
                            "description": "An e-mail address or DID: is it this person's?",
                        },
                    },
                }
            }
        },
    }
}


def create_api(database: Database, verifier: Verifier) -> FastAPI:
    """The application with the API's routes; `pages.add_pages` adds the public pages."""
    app = create_app(
        "verifier",
        title="Laurel verifier",
        description="Verify any Open Badge or verifiable credential, step by step, and look up what was issued here.",
        database=database,
        max_body=MAX_BODY,
    )

    @app.post(
        "/verifier/v1/credentials/verify",
        tags=["verify"],
        summary="Verify a credential",
        response_model=VerificationOut,
        openapi_extra=_VERIFY_BODY,
    )
    async def verify(request: Request) -> Response:
        """Always 200 with a verdict when a JSON object comes in; no API key is needed."""
        body = guard_json(await request.body(), max_bytes=MAX_BODY)
        credential, expected = _verify_input(body)
        verification = await verifier.verify(credential, expected)
        return json_response(verification, headers={"Cache-Control": "no-store", **PUBLIC})

    @app.get(
        "/verifier/v1/credentials/{credential_id}",
        tags=["verify"],
        summary="Look up an indexed credential",
        response_model=CredentialOut,
    )
    async def credential(credential_id: str) -> Response:
        """Public: whoever knows the id may see the credential and its status."""
        row = await find_credential(database, credential_id)
        return json_response(
            {
                "credential_id": row.credential_id,
                "issuer": row.issuer,
                "status": row.status,
                "status_version": row.status_version,
                "status_changed_at": row.status_changed_at and row.status_changed_at.astimezone(UTC),
                "issued_at": row.issued_at.astimezone(UTC),
                "indexed_at": row.indexed_at.astimezone(UTC),
                "document": msgspec.Raw(row.document),
            },
            headers={"Cache-Control": "no-cache", **PUBLIC},
        )

    _add_reports(app, database)
    return app


async def find_credential(database: Database, credential_id: str) -> store.Indexed:
    """The indexed credential. Raises Problem 404, also for what cannot be an id."""
    row = await store.public_credential(database, credential_id) if _CREDENTIAL_ID(credential_id) else None
    if row is None:
        raise not_found("credential")
    return row


def _verify_input(body: Any) -> tuple[Any, str | None]:
    if not isinstance(body, dict):
        raise Problem(422, "invalid_input", "body: send a JSON object: {credential: {…}}, or the credential itself")
    if "credential" not in body or "@context" in body:
        return body, None
    credential, expected = body["credential"], body.get("expected_recipient")
    if not isinstance(credential, dict):
        raise Problem(422, "invalid_input", "/credential: must be the credential as a JSON object")
    if expected is not None and (not isinstance(expected, str) or len(expected) > 320):
        raise Problem(422, "invalid_input", "/expected_recipient: must be an e-mail address or a DID")
    return credential, expected


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

    @app.get(
        "/verifier/v1/dead-letters",
        response_model=DeadLettersOut,
        tags=["reports"],
        summary="Events that could not be handled",
    )
    async def dead_letters(
        principal: Reporter,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """With the reason of each, oldest first."""
        items = await store.dead_letters(database, principal.tenant_id, after=after, limit=limit)
        return {"items": items, "next": items[-1]["id"] if len(items) == limit else None}


def _clean(text: str | None) -> str | None:
    """PostgreSQL has no NUL in text; nothing of ours is named with one, so nothing is found."""
    if text is not None and "\x00" in text:
        raise Problem(422, "invalid_input", "a parameter holds a NUL character")
    return text
