"""The HTTP face: achievements and reports here, results in results_api.py, public pages in public.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Response

from laurel import audit, outbox
from laurel.database import Database
from laurel.dead_letters_api import dead_letter_routes
from laurel.events import AchievementPublished, AchievementRetired
from laurel.ids import uuid7
from laurel.problems import Problem, not_found, uuid_in
from laurel.security import Principal
from laurel.web import create_app, json_response, requires
from laurel_assessment import erasures_api, public, results_api, shapes, store
from laurel_assessment.achievements import (
    AchievementInput,
    document_of,
    key_finding,
    lint,
    messages_of,
    policy_of,
    trial,
)
from laurel_assessment.answers import CourseRun, cursor, page, problem_of
from laurel_assessment.config import Settings
from laurel_assessment.domain import Finding
from laurel_assessment.images import Image
from laurel_assessment.intake import Keys
from laurel_assessment.pressure import Pressure
from laurel_assessment.rows import as_uuid

MAX_LIMIT = 1000
# Seconds between looks: a profile that was made a moment ago comes with its event.
_PAUSES = (0.0, 0.1, 0.3, 0.6, 1.0, 1.0)

Writer = Annotated[Principal, Depends(requires("achievements:write"))]
Reader = Annotated[Principal, Depends(requires("achievements:read"))]
Reporter = Annotated[Principal, Depends(requires("reports:read"))]
After = Annotated[str | None, Query(description="The `next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


@dataclass(frozen=True)
class Parts:
    """What the routes need."""

    database: Database
    settings: Settings
    keys: Keys
    clock: Callable[[], datetime]
    pressure: Pressure


def make_api(parts: Parts) -> FastAPI:
    """The application."""
    app = create_app(
        "assessment",
        title="Laurel assessment",
        description="Achievements, their policies, and the results that learners earn them with.",
        database=parts.database,
        base_url=parts.settings.base_url,
        streamed=[r"/assessment/v1/results/imports"],
        cross_origin={r"/achievements/[^/]+(/image)?": "GET, HEAD"},
    )
    _achievements(app, parts)
    _reports(app, parts)
    app.include_router(dead_letter_routes("assessment", parts.database))
    results_api.routes(app, parts.database, parts.settings, parts.keys, parts.clock, parts.pressure)
    erasures_api.routes(app, parts.database, parts.keys, parts.clock)
    public.routes(app, parts.database, parts.settings.base_url)
    return app


# --- achievements -------------------------------------------------------------------------------------------


def _shown(found: dict[str, Any], base_url: str) -> dict[str, Any]:
    definition = found["definition"]
    return {
        "achievement_id": found["achievement_id"], "version": found["version"],
        "url": f"{base_url}/achievements/{found['achievement_id']}",
        "status": "retired" if found["retired_at"] else "published",
        **{name: definition.get(name) for name in AchievementInput.model_fields if name not in ("image", "policy")},
        "image": found["document"].get("image", {}).get("id"),
        "policy": {
            "version": found["policy_version"], "minimum_score": found["minimum_score"],
            "required_parts": found["required_parts"], "max_attempts": found["max_attempts"],
        },
        "achievement": found["document"], "created_at": found["created_at"], "published_at": found["published_at"],
        "retired_at": found["retired_at"],
    }  # fmt: skip


def _achievements(app: FastAPI, parts: Parts) -> None:
    base_url = parts.settings.base_url

    async def save(
        given: AchievementInput, image: Image | None, issuer: str | None, who: Principal, achievement_id: str | None
    ) -> dict[str, Any]:
        now = parts.clock()
        async with parts.database.transaction([who.tenant_id]) as tx:
            before = None
            if achievement_id is not None:
                before = await store.achievement(tx, achievement_id, lock=True)
                if before is None:
                    raise not_found("achievement")
                if before["retired_at"] is not None:
                    raise Problem(409, "achievement_retired", "a retired achievement cannot be changed; make a new one")
            name = achievement_id or uuid7()
            version = before["version"] + 1 if before else 1
            policy = policy_of(given.policy, before["policy_version"] if before else 1)
            changed = before is None or (
                (policy.minimum_score, policy.required_parts, policy.max_attempts)
                != (before["minimum_score"], before["required_parts"], before["max_attempts"])
            )
            if before is not None and changed:
                policy = policy_of(given.policy, before["policy_version"] + 1)
            if before is not None and before["repeatable"] != given.repeatable:
                # What a credential's id is derived from would change under learners who have one.
                finding = Finding("/repeatable", "cannot_change", "this cannot change; make a new achievement")
                raise problem_of([finding])
            document = document_of(given, url=f"{base_url}/achievements/{name}", version=version, image=image)
            findings = trial(document, messages_of(given), given.status_reference, issuer=issuer)
            if findings:
                raise problem_of(findings)
            edition = store.Edition(
                who.tenant_id, name, version, policy, changed, given.profile_id, given.name, given.language,
                given.repeatable, given.model_dump(exclude_none=True, exclude={"image"}), document, image, now,
            )  # fmt: skip
            await store.publish(tx, edition)
            event = AchievementPublished(
                tenant_id=who.tenant_id, achievement_id=name, version=version, profile_id=given.profile_id,
                achievement=document, validity_days=given.validity_days, status_purposes=tuple(given.status_purposes),
                status_messages=messages_of(given), status_reference=given.status_reference,
                securing=None if given.securing is None else tuple(given.securing),
                credential_type=given.credential_type, published_at=now,
            )  # fmt: skip
            await outbox.append(tx, [event], now=now)
            found = await store.achievement(tx, name)
            assert found is not None
            act = "achievement.create" if before is None else "achievement.change"
            await audit.record(tx, who.tenant_id, who, act, name, details={"version": version}, at=now)
        return _shown(found, base_url)

    async def checked(given: AchievementInput, who: Principal) -> tuple[AchievementInput, Image | None, str | None]:
        """What was given, its image, and the id of the issuer where it is known."""
        findings, image = lint(given)
        if findings:
            raise problem_of(findings)
        if given.profile_id is None:
            async with parts.database.transaction([who.tenant_id]) as tx:
                issuer = await store.issuer(tx, who.tenant_id, None)
        else:
            issuer = await own_profile(given.profile_id, who)
            given = given.model_copy(update={"profile_id": issuer.profile_id})
        did = None if issuer is None else issuer.did
        if did is not None and (unsignable := key_finding(given, did)):
            raise problem_of([unsignable])
        return given, image, did

    async def own_profile(named: str, who: Principal) -> store.Issuer:
        profile_id = as_uuid(named)
        for pause in _PAUSES if profile_id is not None else ():
            await asyncio.sleep(pause)
            async with parts.database.transaction([who.tenant_id]) as tx:
                if (issuer := await store.issuer(tx, who.tenant_id, str(profile_id))) is not None:
                    return issuer
        detail = "your organisation has no such issuer profile; name one by the profile_id that the issuer answered"
        raise problem_of([Finding("/profile_id", "unknown_profile", detail)])

    @app.post("/assessment/v1/achievements", response_model=shapes.Achievement, status_code=201, tags=["achievements"])
    async def create_achievement(given: AchievementInput, who: Writer) -> Response:
        """Make an achievement. It can be earned at once."""
        shown = await save(*await checked(given, who), who, None)
        return json_response(shown, 201, headers={"Location": f"/assessment/v1/achievements/{shown['achievement_id']}"})

    @app.get("/assessment/v1/achievements", response_model=shapes.Page[shapes.Achievement], tags=["achievements"])
    async def list_achievements(who: Reader, after: After = None, limit: Limit = 100) -> Response:
        """Your achievements, oldest first."""
        async with parts.database.transaction([who.tenant_id]) as tx:
            rows = await store.achievements(tx, after=cursor(after), limit=limit)
        return page([_shown(row, base_url) for row in rows], limit, "achievement_id")

    @app.get("/assessment/v1/achievements/{achievement_id}", response_model=shapes.Achievement, tags=["achievements"])
    async def get_achievement(achievement_id: str, who: Reader) -> Response:
        """One achievement, as it stands now."""
        name = str(uuid_in(achievement_id, "achievement"))
        async with parts.database.transaction([who.tenant_id]) as tx:
            found = await store.achievement(tx, name)
        if found is None:
            raise not_found("achievement")
        return json_response(_shown(found, base_url))

    @app.put("/assessment/v1/achievements/{achievement_id}", response_model=shapes.Achievement, tags=["achievements"])
    async def replace_achievement(achievement_id: str, given: AchievementInput, who: Writer) -> Response:
        """Publish a new version. Credentials that were issued keep the version that they were issued with."""
        name = str(uuid_in(achievement_id, "achievement"))
        return json_response(await save(*await checked(given, who), who, name))

    @app.post(
        "/assessment/v1/achievements/{achievement_id}/retire", response_model=shapes.Achievement, tags=["achievements"]
    )
    async def retire_achievement(achievement_id: str, who: Writer) -> Response:
        """End an achievement: it can no longer be earned; what was earned stays. Doing it again changes nothing."""
        name = str(uuid_in(achievement_id, "achievement"))
        now = parts.clock()
        async with parts.database.transaction([who.tenant_id]) as tx:
            found = await store.achievement(tx, name, lock=True)
            if found is None:
                raise not_found("achievement")
            if found["retired_at"] is None:
                await store.retire(tx, name, now)
                event = AchievementRetired(
                    tenant_id=who.tenant_id, achievement_id=name, version=found["version"], retired_at=now
                )
                await outbox.append(tx, [event], now=now)
                found["retired_at"] = now
                await audit.record(tx, who.tenant_id, who, "achievement.retire", name, at=now)
        return json_response(_shown(found, base_url))


# --- reports ------------------------------------------------------------------------------------------------


def _reports(app: FastAPI, parts: Parts) -> None:
    @app.get("/assessment/v1/reports/reconcile", response_model=shapes.Reconciliation, tags=["reports"])
    async def reconcile(who: Reporter, course_run: CourseRun = None) -> Response:
        """What became of it all: accepted = passed + not_passed + duplicate + rejected + waiting.

        For one course run, `waiting` counts every row that waits in an import and may name that run.
        """
        async with parts.database.transaction([who.tenant_id]) as tx:
            counts = await store.counts(tx, who.tenant_id, course_run)
        return json_response({"service": "assessment", "course_run": course_run, "counts": counts})

    @app.get("/assessment/v1/reports/outcomes", response_model=shapes.Page[shapes.Settled], tags=["reports"])
    async def outcomes(
        who: Reporter,
        course_run: CourseRun = None,
        day: Annotated[date | None, Query(description="Of the day (UTC) on which they were recorded.")] = None,
        outcome: shapes.Outcome | None = None,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> Response:
        """Every row that was taken in and decided, with what became of it; nothing about who it is."""
        async with parts.database.transaction([who.tenant_id]) as tx:
            items = await store.outcomes(
                tx, who.tenant_id, course_run, day=day, outcome=outcome, after=cursor(after), limit=limit
            )
        return json_response({"items": items, "next": items[-1]["result_id"] if len(items) == limit else None})

    @app.get("/assessment/v1/reports/credentials", response_model=shapes.Page[UUID], tags=["reports"])
    async def owed_credentials(
        who: Reporter,
        course_run: CourseRun = None,
        after: After = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> Response:
        """The ids of the credentials that are owed for passed results."""
        async with parts.database.transaction([who.tenant_id]) as tx:
            items = await store.owed_credentials(tx, who.tenant_id, course_run, after=cursor(after), limit=limit)
        return json_response({"items": items, "next": items[-1] if len(items) == limit else None})
