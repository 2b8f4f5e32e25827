"""The issuer's HTTP API: its application, and the routes for credentials, their status, and reports."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from pydantic import Field, StrictBool, StrictInt

from laurel import audit
from laurel.callers import TOKEN_PATH
from laurel.crash_points import reach
from laurel.credential.status import MAX_SIZE
from laurel.database import Transaction, is_unavailable
from laurel.dead_letters_api import dead_letter_routes
from laurel.erasure import erased_ids
from laurel.erasure_api import erasure_routes
from laurel.problems import Problem, not_found, uuid_in
from laurel.security import Principal
from laurel.web import create_app, json_response, requires
from laurel_issuer import shapes, store, store_reports, store_status
from laurel_issuer.api_admin import admin_routes
from laurel_issuer.api_endorsements import endorsement_routes
from laurel_issuer.api_profiles import profile_routes
from laurel_issuer.edge import (
    After,
    Body,
    Desk,
    Filter,
    Line,
    Moment,
    Reason,
    credential_after,
    invalid,
    page,
    place_after,
)
from laurel_issuer.endorsing import Endorser
from laurel_issuer.handlers import GROUP
from laurel_issuer.oauth import TokenDesk, oauth_routes
from laurel_issuer.public import public_routes
from laurel_issuer.standing import Action, Change

Reader = Annotated[Principal, Depends(requires("credentials:read"))]
Writer = Annotated[Principal, Depends(requires("credentials:write"))]
Reporter = Annotated[Principal, Depends(requires("reports:read"))]
Limit = Annotated[int, Query(ge=1, le=500)]
ReportLimit = Annotated[int, Query(ge=1, le=10_000)]

Value = Annotated[StrictInt, Field(ge=0, lt=1 << MAX_SIZE)]

_BATCH = 500  # credentials of a change by query in one transaction
_MOST_REFUSED = 10_000


class StatusChange(Body):
    """Why a credential's status changes. The organisation's API and webhooks tell the reason; public pages do not.

    It may say something about a person.
    """

    reason: Reason


class MessageChange(StatusChange):
    """Which message of a credential holds from now on, and why."""

    value: Value


class Where(Body):
    """Which credentials; at least one field. Fields narrow each other."""

    achievement_id: Line | None = Field(default=None, description="The achievement's id or its URL.")
    course_run: Line | None = None
    issued_from: Moment | None = Field(default=None, description="Issued at or after.")
    issued_to: Moment | None = Field(default=None, description="Issued before.")
    credential_ids: list[UUID] | None = Field(default=None, min_length=1, max_length=10_000)


class StatusByQuery(Body):
    """A change of status of all credentials that `where` names."""

    action: Action
    value: Value | None = Field(default=None, description="For the action `message`: the value of the status entry.")
    reason: Reason
    where: Where
    dry_run: StrictBool = False


def create_api(desk: Desk, endorser: Endorser, id_key: bytes, token_desk: TokenDesk) -> FastAPI:
    """The application, complete."""
    app = create_app(
        "issuer",
        title="Laurel issuer",
        description="Organisations, issuer profiles and keys; credentials and their status.",
        database=desk.database,
        base_url=desk.base_url,
        metered=[TOKEN_PATH],
        cross_origin={r"/issuers/[^/]+(/did\.json)?": "GET, HEAD", r"/status/[^/]+": "GET, HEAD"},
    )
    app.include_router(admin_routes(desk))
    app.include_router(profile_routes(desk))
    app.include_router(_credential_routes(desk))
    app.include_router(endorsement_routes(desk, endorser, id_key))
    app.include_router(_report_routes(desk))
    app.include_router(dead_letter_routes("issuer", desk.database))
    app.include_router(erasure_routes("issuer", desk.database))
    app.include_router(public_routes(desk))
    app.include_router(oauth_routes(token_desk))
    return app


def _credential_routes(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/issuer/v1/credentials", tags=["credentials"])

    @router.get("", response_model=shapes.Page[shapes.Credential])
    async def list_credentials(
        caller: Reader,
        achievement_id: Filter = None,
        course_run: Filter = None,
        status: Literal["active", "suspended", "revoked"] | None = None,
        after: After = None,
        limit: Limit = 50,
    ) -> Response:
        """Credentials in the order in which they were issued, without their documents."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            rows = await store_reports.credentials(
                tx, caller.tenant_id, achievement_id=achievement_id, course_run=course_run, status=status,
                after=await place_after(after, partial(store_reports.place_of, tx, caller.tenant_id)), limit=limit + 1,
            )  # fmt: skip
        return json_response(page([dict(row) for row in rows], limit, lambda row: row["credential_id"]))

    @router.get("/{credential_id}", response_model=shapes.FullCredential)
    async def get_credential(credential_id: str, caller: Reader) -> Response:
        """One credential: its exact document, its status, and how it came to that."""
        wanted = uuid_in(credential_id, "credential")
        async with desk.database.transaction([caller.tenant_id]) as tx:
            row = await store_reports.credential(tx, caller.tenant_id, wanted)
            if row is None:
                raise not_found("credential")
            history = await store_status.status_history(tx, wanted)
        names = (
            "credential_id", "result_id", "achievement_id", "achievement_version", "profile_id", "course_run", "status",
            "status_reason", "status_version", "status_changed_at", "issued_at", "valid_until",
        )  # fmt: skip
        shown: dict[str, Any] = {name: row[name] for name in names}
        shown["refresh"] = None if row["refresh_list"] is None else row["refresh"]
        shown["message"] = None if row["message_list"] is None else row["message"]
        shown["status_changes"] = [dict(one) for one in history]
        shown["erased_at"] = row["erased_at"]
        return json_response({**shown, "document": msgspec.Raw(row["body"] or b"null")})

    @router.post("/status", response_model=shapes.ChangeReport)
    async def change_by_query(body: StatusByQuery, caller: Writer) -> Response:
        """Revoke, suspend or reinstate all credentials that `where` names, or tell of a refresh or a message.

        Each that cannot change is told.

        Goes through in batches. Should it break off, the answer says how far it came; sending it again is safe.
        """
        return json_response(await _change_all(desk, caller, body))

    async def change(credential_id: str, wanted: Change, reason: str, caller: Principal) -> Response:
        async with desk.database.transaction([caller.tenant_id]) as tx:
            outcomes = await store_status.change_status(
                tx, caller.tenant_id, [uuid_in(credential_id, "credential")], wanted, reason=reason,
                key_id=caller.key_id, now=desk.clock(),
            )  # fmt: skip
            if not outcomes:
                raise not_found("credential")
            one = outcomes[0]
            await audit.record(
                tx, caller.tenant_id, caller, f"credential.{wanted.action}", one.credential_id,
                outcome=f"refused:{one.refusal.code}" if one.refusal else "done" if one.changed else "unchanged",
                details={"status": one.status, "version": one.version}, at=desk.clock(),
            )  # fmt: skip
            reach("status.changing")
        reach("status.changed")
        if one.refusal is not None:
            raise Problem(409, one.refusal.code, one.refusal.detail)
        return json_response(
            {"credential_id": one.credential_id, "status": one.status, "version": one.version, "changed": one.changed}
        )

    def add_action(action: Action, summary: str) -> None:
        async def act(credential_id: str, body: StatusChange, caller: Writer) -> Response:
            return await change(credential_id, Change(action), body.reason, caller)

        router.add_api_route(
            f"/{{credential_id}}/{action}", act, methods=["POST"], name=action, summary=summary,
            response_model=shapes.Outcome,
        )  # fmt: skip

    add_action("revoke", "Revoke a credential; final")
    add_action("suspend", "Suspend a credential until it is reinstated or revoked")
    add_action("reinstate", "End the suspension of a credential")
    add_action("refresh", "Tell that a newer credential may be had in its place; final, and it stays valid")

    @router.post("/{credential_id}/message", response_model=shapes.Outcome)
    async def message(credential_id: str, body: MessageChange, caller: Writer) -> Response:
        """Tell another of the messages that its achievement has defined; it stays as valid as it is."""
        return await change(credential_id, Change("message", body.value), body.reason, caller)

    return router


async def _achievement(tx: Transaction, caller: Principal, text: str, desk: Desk) -> str:
    """The id of the achievement that the text names by its id, in any case, or by its URL. Raises Problem 422."""
    name = text.removeprefix(f"{desk.base_url}/achievements/").lower()
    if not await store.has_achievement(tx, caller.tenant_id, name):
        detail = f"this organisation has no achievement {text[:120]!r}; give its id or its URL"
        raise invalid("/where/achievement_id", "unknown_achievement", detail)
    return name


async def _change_all(desk: Desk, caller: Principal, body: StatusByQuery) -> dict[str, Any]:
    fields = body.where.model_dump(exclude_none=True)
    if not fields:
        raise invalid("/where", "empty", "name at least one of " + ", ".join(Where.model_fields))
    ids = None if body.where.credential_ids is None else tuple(dict.fromkeys(body.where.credential_ids))
    where = store_status.Where(**{**fields, "credential_ids": ids})
    if (body.action == "message") != (body.value is not None):
        raise invalid("/value", "value", "send the value of a message with the action message, and with no other")
    change = Change(body.action, body.value or 0)
    now = desk.clock()
    answer: dict[str, Any] = {"matched": 0, "changed": 0, "unchanged": 0, "refused": [], "refused_total": 0}
    async with desk.database.transaction([caller.tenant_id]) as tx:
        if where.achievement_id is not None:
            where = replace(where, achievement_id=await _achievement(tx, caller, where.achievement_id, desk))
        unknown = await store_status.unknown_ids(tx, caller.tenant_id, ids or ())
    answer["not_found"] = answer["refused_total"] = len(unknown)
    answer["refused"] = [
        {"credential_id": one, "code": "not_found", "detail": "this organisation has no such credential"}
        for one in unknown
    ]
    after = 0
    while True:
        try:
            async with desk.database.transaction([caller.tenant_id]) as tx:
                matched = await store_status.matching(tx, caller.tenant_id, where, after=after, limit=_BATCH)
                outcomes = await store_status.change_status(
                    tx, caller.tenant_id, [one for _, one in matched], change, reason=body.reason,
                    key_id=caller.key_id, now=now, dry_run=body.dry_run,
                )  # fmt: skip
                changed = [one.credential_id for one in outcomes if one.changed]
                if changed and not body.dry_run:  # an entry a batch: what was changed in this transaction
                    await audit.record(
                        tx, caller.tenant_id, caller, f"credentials.{body.action}", "query",
                        details={"where": msgspec.to_builtins(asdict(where)), "changed": changed}, at=now,
                    )  # fmt: skip
                reach("status.changing")
            reach("status.changed")
        except Exception as error:
            if not is_unavailable(error):
                raise
            done = f"{answer['changed']} credentials were changed and stay so"
            detail = f"the database went out of reach: {done}; send the same again for the rest"
            raise Problem(503, "broken_off", detail, headers={"Retry-After": "2"}) from error
        answer["matched"] += len(outcomes)
        answer["changed"] += sum(one.changed for one in outcomes)
        refused = [one for one in outcomes if one.refusal is not None]
        answer["refused_total"] += len(refused)
        answer["unchanged"] += sum(not one.changed and one.refusal is None for one in outcomes)
        answer["refused"] += [
            {"credential_id": one.credential_id, "code": one.refusal.code, "detail": one.refusal.detail}
            for one in refused[: _MOST_REFUSED - len(answer["refused"])]
            if one.refusal is not None
        ]
        if len(matched) < _BATCH:
            return answer
        after = matched[-1][0]


def _report_routes(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/issuer/v1", tags=["reports"])

    @router.get("/reports/reconcile", response_model=shapes.Reconciliation)
    async def reconcile(caller: Reporter, course_run: Filter = None) -> Response:
        """Where every passed assessment stands that reached the issuer: issued, reserved, waiting or dead-lettered."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            counts = await store_reports.counts(tx, caller.tenant_id, course_run=course_run, consumer=GROUP)
        return json_response({"service": "issuer", "counts": counts})

    @router.get("/reports/waiting", response_model=shapes.Page[shapes.Waiting])
    async def waiting(
        caller: Reporter, course_run: Filter = None, after: After = None, limit: ReportLimit = 1000
    ) -> Response:
        """The credentials that are owed and cannot be issued yet, or are being issued, and why."""
        begin = None if after is None else credential_after(after)
        async with desk.database.transaction([caller.tenant_id]) as tx:
            rows = await store_reports.waiting(
                tx, caller.tenant_id, course_run=course_run, after=begin, limit=limit + 1
            )
        return json_response(page([dict(row) for row in rows], limit, lambda row: row["credential_id"]))

    @router.get("/reports/credentials", response_model=shapes.Page[UUID])
    async def issued(
        caller: Reporter, course_run: Filter = None, after: After = None, limit: ReportLimit = 1000
    ) -> Response:
        """The ids of all credentials that were issued, without those of erased learners."""
        async with desk.database.transaction([caller.tenant_id]) as tx:
            place = await place_after(after, partial(store_reports.place_of, tx, caller.tenant_id))
            ids = await store_reports.issued_ids(
                tx, caller.tenant_id, course_run=course_run, after=place, limit=limit + 1
            )
        more = len(ids) > limit
        return json_response({"items": ids[:limit], "next": ids[limit - 1] if more else None})

    @router.get("/reports/erased", response_model=shapes.Page[UUID])
    async def erased(caller: Reporter, after: After = None, limit: ReportLimit = 1000) -> Response:
        """The ids of all credentials whose learner was erased, issued or not, of every course run."""
        begin = "" if after is None else str(credential_after(after))
        async with desk.database.transaction([caller.tenant_id]) as tx:
            ids = await erased_ids(tx, caller.tenant_id, after=begin, limit=limit + 1)
        more = len(ids) > limit
        return json_response({"items": ids[:limit], "next": ids[limit - 1] if more else None})

    return router
