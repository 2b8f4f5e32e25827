"""Routes for results: one at a time, in bulk, and what became of them."""

from __future__ import annotations

import asyncio
import random
import unicodedata
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

import asyncpg
import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from starlette.requests import ClientDisconnect

from laurel.crash_points import reach
from laurel.database import Database, Transaction
from laurel.ids import learner_key
from laurel.problems import FieldError, Problem, not_found, too_large, uuid_in
from laurel.security import Principal, guard_json
from laurel.web import MAX_BODY, json_response, requires
from laurel_assessment import erasure_store, import_store, shapes, store
from laurel_assessment.answers import CourseRun, cursor, page, problem_of
from laurel_assessment.config import Settings
from laurel_assessment.domain import Finding
from laurel_assessment.imports import Refused, Upload, fingerprint
from laurel_assessment.intake import Arrival, Keys, take_in
from laurel_assessment.pressure import Pressure
from laurel_assessment.row_json import from_mapping
from laurel_assessment.rows import MAX_ATTEMPT, MAX_COURSE_RUN, MAX_TEXT, Defaults, achievement_id, check

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
CSV = ("text/csv", "application/csv")
MAX_RACES = 8

Writer = Annotated[Principal, Depends(requires("results:write"))]
Reader = Annotated[Principal, Depends(requires("results:read"))]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[!-~]+$",
        description="Names this request: sent again with the same body it is answered the same and does nothing.",
    ),
]  # fmt: skip
Limit = Annotated[int, Query(ge=1, le=1000)]
LineAfter = Annotated[int, Query(ge=0, le=2**62, description="The `next` of the page before.")]

_TEXT = {"type": "string", "maxLength": MAX_TEXT}
ROW_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["achievement", "learner"],
    "additionalProperties": False,
    "properties": {
        "achievement": {"type": "string", "description": "The achievement's id or URL."},
        "learner": {**_TEXT, "description": "The platform's own id of the learner."},
        "email": {**_TEXT, "format": "email", "description": "Needed where there is no `did`."},
        "did": {"type": "string", "description": "The learner's DID; goes before `email`."},
        "name": _TEXT,
        "score": {"type": "number"},
        "parts": {"type": "object", "additionalProperties": {"type": "number"}, "examples": [{"essay": 12}]},
        "attempt": {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPT, "default": 1},
        "completed_at": {"type": "string", "format": "date-time", "description": "Default: when this came in."},
        "course_run": {"type": "string", "maxLength": MAX_COURSE_RUN},
        "result_id": {**_TEXT, "description": "The platform's own id of the result; kept as `external_id`."},
        "evidence": {"type": "array", "items": {"type": "string", "format": "uri"}, "maxItems": 10},
        "locale": {"type": "string", "examples": ["pt-BR"]},
    },
}
_SINGLE_DOCS = {"requestBody": {"required": True, "content": {"application/json": {"schema": ROW_SCHEMA}}}}
_BULK_DOCS = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {"schema": {"type": "string", "description": "A result a line."}},
            "text/csv": {"schema": {"type": "string", "description": "A header line, then a result a record."}},
        },
    }
}


def routes(
    app: FastAPI,
    database: Database,
    settings: Settings,
    keys: Keys,
    clock: Callable[[], datetime],
    pressure: Pressure,
) -> None:
    """Add the routes."""
    _single(app, database, keys, clock, pressure)
    _bulk(app, database, settings, clock, pressure)
    _reading(app, database, keys)


# --- one ----------------------------------------------------------------------------------------------------


def _single(app: FastAPI, database: Database, keys: Keys, clock: Callable[[], datetime], pressure: Pressure) -> None:
    @app.post(
        "/assessment/v1/results",
        response_model=shapes.Decided,
        status_code=201,
        tags=["results"],
        openapi_extra=_SINGLE_DOCS,
        responses={200: {"model": shapes.Decided, "description": "A duplicate of what is known."}},
    )
    async def create_result(request: Request, who: Writer, idempotency_key: IdempotencyKey = None) -> Response:
        """Take in one result: 201 when it was decided, 200 when it is a duplicate of what is known."""
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise Problem(415, "unsupported_media_type", "send application/json; many results go to …/results/imports")
        await pressure.admit(bulk=False)
        body = await request.body()
        value = guard_json(body, max_bytes=MAX_BODY)
        if not isinstance(value, dict):
            raise problem_of([Finding("", "not_an_object", "a result is a JSON object")])
        row = from_mapping(value)
        now = clock()
        checked = row if isinstance(row, list) else check(row, Defaults(keys.base_url), received_at=now)
        if isinstance(checked, list):
            raise problem_of(checked)
        arrival = Arrival(None, checked)

        async def take(tx: Transaction) -> tuple[int, bytes]:
            if idempotency_key is not None:
                if not await store.only_here(tx, who.tenant_id, "result", idempotency_key):
                    detail = "the first request with this Idempotency-Key is still under way; ask again"
                    raise Problem(409, "in_flight", detail, headers={"Retry-After": "1"})
                before = await store.answered(tx, who.tenant_id, "result", idempotency_key)
                if before is not None:
                    if before.fingerprint != fingerprint(body):
                        detail = "this Idempotency-Key was used with another body; use a new one"
                        raise Problem(422, "idempotency_key_reused", detail)
                    return before.status or 201, before.answer or b""
            (one,) = await take_in(tx, who.tenant_id, [arrival], keys=keys, received_at=now, now=now)
            if one.outcome == "rejected":
                # Raised inside the transaction: what is refused to the caller's face is not taken in.
                findings = [Finding(**error) for error in one.errors or ()]
                conflict = findings[0].code == "conflicting_result"
                raise problem_of(
                    findings, status=409 if conflict else 422, code=findings[0].code if conflict else "invalid_input"
                )
            status = 200 if one.outcome == "duplicate" else 201
            answer = msgspec.json.encode(_answer(one, keys.base_url))
            if idempotency_key is not None:
                await store.remember(tx, who.tenant_id, "result", idempotency_key, fingerprint(body), status, answer)
            return status, answer

        status, answer = await _racing(database, who.tenant_id, take)
        reach("result.recorded")
        return json_response(answer, status)


async def _racing(
    database: Database, tenant_id: str, take: Callable[[Transaction], Awaitable[tuple[int, bytes]]]
) -> tuple[int, bytes]:
    """Begin again when another transaction decided the same attempt meanwhile: then it is there to be seen."""
    for race in range(MAX_RACES):
        try:
            async with database.transaction([tenant_id]) as tx:
                return await take(tx)
        except (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(random.uniform(0, 0.02 * (race + 1)))  # noqa: S311 - jitter, not a secret
    detail = "others keep changing this learner's results; try again"
    raise Problem(503, "unavailable", detail, headers={"Retry-After": "1"})


def _answer(one: store.Recorded, base_url: str) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "result_id": one.duplicate_of or one.result_id, "outcome": one.outcome, "reasons": list(one.reasons),
        "policy_version": one.policy_version, "external_id": one.external_id,
    }  # fmt: skip
    if one.credential_id is not None:
        answer["credential_id"] = one.credential_id
        answer["credential_url"] = f"{base_url}/c/{one.credential_id}"
    return answer


# --- bulk ---------------------------------------------------------------------------------------------------


def _bulk(
    app: FastAPI, database: Database, settings: Settings, clock: Callable[[], datetime], pressure: Pressure
) -> None:
    base_url = settings.base_url

    @app.post(
        "/assessment/v1/results/imports",
        response_model=shapes.AcceptedImport,
        status_code=202,
        tags=["results"],
        openapi_extra=_BULK_DOCS,
    )
    async def create_import(
        request: Request,
        who: Writer,
        achievement: Annotated[str | None, Query(max_length=2000, description="For rows that name none.")] = None,
        course_run: CourseRun = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Take in many results. The body is streamed; 202 means that every row of it is stored and owed an outcome."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in (*NDJSON, *CSV):
            detail = f"send {NDJSON[0]} (a JSON object a line) or {CSV[0]} (a header line first)"
            raise Problem(415, "unsupported_media_type", detail)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "unsupported_encoding", "send the body without Content-Encoding")
        await pressure.admit(bulk=True)  # before a byte is stored; what the caller still sends is read and dropped
        defaults = Defaults(base_url, await _default_achievement(achievement, who), course_run)

        def answer(import_id: str) -> bytes:
            path = f"/assessment/v1/results/imports/{import_id}"
            return msgspec.json.encode({"import_id": import_id, "url": path})

        upload = Upload(
            database, who.tenant_id, csv=media_type in CSV, defaults=defaults, key=idempotency_key,
            max_bytes=settings.import_max_bytes, idle_s=settings.import_idle_s, answer=answer, clock=clock,
        )  # fmt: skip
        try:
            taken = await upload.receive(request.stream())
        except Refused as refused:
            # What is left of the body is not read: the connection cannot be used again.
            headers = {"Connection": "close"} if refused.status in (408, 413) else {}
            if refused.status == 413:
                raise too_large(refused.detail, code=refused.code, headers=headers) from None
            errors = [FieldError(field=one.field, code=one.code, detail=one.detail) for one in refused.findings]
            if refused.retry_after_s is not None:
                headers["Retry-After"] = str(refused.retry_after_s)
            raise Problem(refused.status, refused.code, refused.detail, errors=errors, headers=headers) from None
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        return json_response(taken, 202, headers={"Location": msgspec.json.decode(taken)["url"]})

    async def _default_achievement(given: str | None, who: Principal) -> str | None:
        if given is None:
            return None
        found = achievement_id(given, base_url)
        if found is not None:
            async with database.transaction([who.tenant_id]) as tx:
                if await store.achievement(tx, found) is not None:
                    return found
        detail = "there is no such achievement; make it first, or name another by its id"
        raise problem_of([Finding("achievement", "unknown_achievement", detail)])

    @app.get("/assessment/v1/results/imports", response_model=shapes.Page[shapes.Import], tags=["results"])
    async def list_imports(who: Reader, after: str | None = None, limit: Limit = 100) -> Response:
        """Your imports, oldest first."""
        async with database.transaction([who.tenant_id]) as tx:
            items = await import_store.imports(tx, after=cursor(after), limit=limit)
        return page(items, limit, "import_id")

    @app.get("/assessment/v1/results/imports/{import_id}", response_model=shapes.Import, tags=["results"])
    async def get_import(import_id: str, who: Reader) -> Response:
        """How far an import is. accepted = passed + not_passed + duplicate + rejected, once it is done."""
        async with database.transaction([who.tenant_id]) as tx:
            return json_response(await _import_or_404(tx, import_id))

    @app.get(
        "/assessment/v1/results/imports/{import_id}/rejections",
        response_model=shapes.Page[shapes.Rejection],
        tags=["results"],
    )
    async def list_rejections(import_id: str, who: Reader, after: LineAfter = 0, limit: Limit = 100) -> Response:
        """Every row that was rejected, with its line, the field, and what to do about it."""
        async with database.transaction([who.tenant_id]) as tx:
            found = await _import_or_404(tx, import_id)
            items = await import_store.rejections(tx, found["import_id"], after=after, limit=limit)
        return page(items, limit, "line")

    @app.get(
        "/assessment/v1/results/imports/{import_id}/results",
        response_model=shapes.Page[shapes.ImportedRow],
        tags=["results"],
    )
    async def list_import_results(import_id: str, who: Reader, after: LineAfter = 0, limit: Limit = 100) -> Response:
        """What became of every row, by line."""
        async with database.transaction([who.tenant_id]) as tx:
            found = await _import_or_404(tx, import_id)
            items = await import_store.outcomes(tx, found["import_id"], after=after, limit=limit)
        return page(items, limit, "line")


async def _import_or_404(tx: Transaction, import_id: str) -> dict[str, Any]:
    found = await import_store.one_import(tx, str(uuid_in(import_id, "import")))
    if found is None:
        raise not_found("import")
    return found


# --- reading ------------------------------------------------------------------------------------------------


def _reading(app: FastAPI, database: Database, keys: Keys) -> None:
    def shown(row: dict[str, Any]) -> dict[str, Any]:
        if row["credential_id"] is not None:
            row["credential_url"] = f"{keys.base_url}/c/{row['credential_id']}"
        return row

    @app.get("/assessment/v1/results", response_model=shapes.Page[shapes.Result], tags=["results"])
    async def list_results(
        who: Reader,
        learner: str | None = None,
        achievement: str | None = None,
        course_run: CourseRun = None,
        after: str | None = None,
        limit: Limit = 100,
    ) -> Response:
        """Results in the order in which they came in: what became of a learner, an achievement, a course run."""
        wanted = None if achievement is None else achievement_id(achievement, keys.base_url)
        if achievement is not None and wanted is None:
            return page([], limit, "result_id")
        name = None if learner is None else unicodedata.normalize("NFC", learner.strip())
        key = None if name is None else learner_key(keys.id_key, tenant_id=who.tenant_id, learner=name)
        async with database.transaction([who.tenant_id]) as tx:
            if name is not None and key is not None and (erased := await erasure_store.known(tx, [key])):
                key = learner_key(keys.id_key, tenant_id=who.tenant_id, learner=name, relation=erased[key].relation)
            rows = await store.results(
                tx, who.tenant_id, learner_key=key, achievement_id=wanted, course_run=course_run,
                after=cursor(after), limit=limit,
            )  # fmt: skip
        return page([shown(row) for row in rows], limit, "result_id")

    @app.get("/assessment/v1/results/{result_id}", response_model=shapes.Result, tags=["results"])
    async def get_result(result_id: str, who: Reader) -> Response:
        """One result: its outcome, the reasons, and the policy's version that decided it."""
        name = str(uuid_in(result_id, "result"))
        async with database.transaction([who.tenant_id]) as tx:
            found = await store.result(tx, name)
        if found is None:
            raise not_found("result")
        return json_response(shown(found))
