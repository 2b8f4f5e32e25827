"""How far an erasure is in a service, over HTTP: the same route for issuer, verifier and notifier."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from laurel import erasure
from laurel.database import Database
from laurel.problems import not_found
from laurel.security import Principal
from laurel.web import requires

Reader = Annotated[Principal, Depends(requires("erasures:read"))]
_ID = re.compile(r"[0-9a-f-]{36}").fullmatch


class ErasureProgress(BaseModel):
    """What this service has erased of it: done once `credentials` is the number that assessment tells."""

    erasure_id: str
    service: str
    credentials: int = Field(description="Credentials of it that are erased here.")
    erased_at: datetime = Field(description="When the last of them was asked for.")


def erasure_routes(service: str, database: Database) -> APIRouter:
    """GET /<service>/v1/erasures/{erasure_id}."""
    router = APIRouter(prefix=f"/{service}/v1/erasures", tags=["erasures"])

    @router.get("/{erasure_id}")
    async def get_erasure(
        erasure_id: Annotated[str, Path(max_length=64, description="As assessment answered it.")], caller: Reader
    ) -> ErasureProgress:
        """How far an erasure is in this service; 404 until the first event of it is here."""
        if not _ID(erasure_id):
            raise not_found("erasure")
        async with database.transaction([caller.tenant_id]) as tx:
            found = await erasure.progress(tx, caller.tenant_id, erasure_id)
        if found is None:
            raise not_found("erasure")
        return ErasureProgress(
            erasure_id=erasure_id, service=service, credentials=found.credentials, erased_at=found.erased_at
        )

    return router
