"""Erasing a learner (Regulation (EU) 2016/679, article 17): what is removed here, and the facts that others follow.

Numbered as at the code:
1. results of this organisation are held off for the moment; a learner's later results find the erasure (intake.py);
2. what says who the learner was is taken out of the rows here; events that have not left yet go with it;
3. a fact for each credential leaves, behind the pass that it was owed for: the issuer follows, then verifier and
   notifier.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from laurel import audit, outbox
from laurel.crash_points import reach
from laurel.database import Database, Transaction
from laurel.erasure import alone
from laurel.events import LearnerErased
from laurel.ids import learner_key, uuid7
from laurel.problems import not_found, uuid_in
from laurel.security import Principal
from laurel.web import json_response, requires
from laurel_assessment import erasure_store, shapes
from laurel_assessment.answers import problem_of
from laurel_assessment.domain import Finding
from laurel_assessment.intake import Keys
from laurel_assessment.rows import plain_learner

Writer = Annotated[Principal, Depends(requires("erasures:write"))]
Reader = Annotated[Principal, Depends(requires("erasures:read"))]
_PATH = "/assessment/v1/erasures"


class LearnerToErase(BaseModel):
    """Whom to erase. It stands in the body, because addresses of requests are logged."""

    model_config = ConfigDict(extra="forbid")

    learner: str = Field(description="The platform's own id of the learner, as in results.")


def routes(app: FastAPI, database: Database, keys: Keys, clock: Callable[[], datetime]) -> None:
    """Add the routes."""

    @app.post("/assessment/v1/learners/erase", response_model=shapes.Erasure, status_code=202, tags=["erasures"])
    async def erase_learner(given: LearnerToErase, who: Writer) -> Response:
        """Erase a learner: for ever, here at once and in the other services within seconds.

        Credentials are revoked, and their documents, contacts and messages removed. Counts and ids that name nobody
        stay. Asked again, it answers the same, unless results have come since: those are a new erasure.
        """
        learner = plain_learner(given.learner)
        if isinstance(learner, Finding):
            raise problem_of([learner])
        now = clock()
        async with database.transaction([who.tenant_id]) as tx:
            await alone(tx, who.tenant_id)  # 1
            found, new = await _erase(tx, who.tenant_id, learner, keys, now)
            await audit.record(
                tx, who.tenant_id, who, "learner.erase", found["erasure_id"], outcome="done" if new else "unchanged",
                details={name: found[name] for name in ("results", "credentials")}, at=now,
            )  # fmt: skip
            reach("erasure.recording")
        reach("erasure.recorded")
        return json_response(_shown(found), 202, headers={"Location": f"{_PATH}/{found['erasure_id']}"})

    @app.get(f"{_PATH}/{{erasure_id}}", response_model=shapes.Erasure, tags=["erasures"])
    async def get_erasure(erasure_id: str, who: Reader) -> Response:
        """An erasure: done here. The other services tell at GET /<service>/v1/erasures/{id} how far they are."""
        name = str(uuid_in(erasure_id, "erasure"))
        async with database.transaction([who.tenant_id]) as tx:
            found = await erasure_store.erasure(tx, name)
        if found is None:
            raise not_found("erasure")
        return json_response(_shown(found))


async def _erase(
    tx: Transaction, tenant_id: str, learner: str, keys: Keys, now: datetime
) -> tuple[dict[str, Any], bool]:
    """The erasure, and whether it is a new one."""
    pseudonym = learner_key(keys.id_key, tenant_id=tenant_id, learner=learner)
    before = (await erasure_store.known(tx, [pseudonym])).get(pseudonym)
    relation = 0 if before is None else before.relation
    current = learner_key(keys.id_key, tenant_id=tenant_id, learner=learner, relation=relation)
    erasure_id = uuid7(int(now.timestamp() * 1000))
    removed = await erasure_store.remove(tx, tenant_id, current, erasure_id)  # 2
    if before is not None and not removed.results:
        return await erasure_store.asked_again(tx, tenant_id, pseudonym, now), False
    await erasure_store.write(tx, tenant_id, erasure_id, pseudonym, relation, removed, now)
    await outbox.append(  # 3
        tx,
        [
            LearnerErased(tenant_id=tenant_id, credential_id=one, erasure_id=erasure_id, erased_at=now)
            for one in removed.credential_ids
        ],
        now=now,
    )
    found = await erasure_store.erasure(tx, erasure_id)
    assert found is not None
    return found, True


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "service": "assessment", "url": f"{_PATH}/{found['erasure_id']}"}
