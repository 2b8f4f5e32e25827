"""Routes that every service has below /<service>/v1: its audit log, and when it last saw which API key."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from laurel import audit
from laurel.callers import requires
from laurel.database import Database
from laurel.security import Principal

Auditor = Annotated[Principal, Depends(requires("audit:read"))]
KeysReader = Annotated[Principal, Depends(requires("keys:read"))]
_PLAIN = r"^[^\x00-\x1f\x7f]*$"


class AuditEntryOut(BaseModel):
    """One act. hash: SHA-256 of previous_hash (as bytes) and the RFC 8785 form of all the other members."""

    tenant_id: str
    seq: int = Field(description="1 for the first of this service's chain, then one more each.")
    at: str
    actor: str = Field(description="api_key:<key_id>, operator, or system:<part>.")
    token_id: str | None = Field(description="The access token by which the key acted, if it was one (`jti`).")
    action: str
    subject: str = Field(description="The id of what was acted on.")
    outcome: str = Field(description="done, unchanged, or refused:<why>.")
    details: dict[str, Any]
    trace_id: str | None
    request_id: str | None = Field(description="X-Request-Id of the answer.")
    previous_hash: str
    hash: str


class AuditHeadOut(BaseModel):
    """The end of the chain. Keep it elsewhere: what is cut off later shows by it."""

    seq: int
    hash: str


class AuditPageOut(BaseModel):
    """A page of the audit log, oldest first."""

    items: list[AuditEntryOut]
    next: int | None = Field(description="Give it as `after` for the next page; null: this is the last.")
    head: AuditHeadOut


class KeyUseOut(BaseModel):
    """When this service last saw an API key, itself or by an access token."""

    key_id: str
    last_used_at: datetime | None = Field(description="To the hour.")


class KeyUsePageOut(BaseModel):
    """A page of them."""

    items: list[KeyUseOut]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last.")


def common_routes(name: str, database: Database) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix=f"/{name}/v1")

    @router.get("/audit", tags=["audit"], response_model=AuditPageOut)
    async def audit_log(
        caller: Auditor,
        subject: Annotated[str | None, Query(max_length=200, pattern=_PLAIN, description="Of this id alone.")] = None,
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """Who did what to what in this service, as a hash chain that `laurel audit verify` checks."""
        async with database.transaction([caller.tenant_id]) as tx:
            items = await audit.entries(tx, caller.tenant_id, after=after, limit=limit + 1, subject=subject)
            head = await audit.head(tx, caller.tenant_id)
        more = len(items) > limit
        items = items[:limit]
        return {"items": items, "next": items[-1]["seq"] if more else None, "head": asdict(head)}

    @router.get("/api-keys/use", tags=["api keys"], response_model=KeyUsePageOut)
    async def key_use(
        caller: KeysReader,
        after: Annotated[str, Query(max_length=64, pattern=_PLAIN)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> dict[str, Any]:
        """When this service last saw each API key. Every service knows its own."""
        async with database.transaction([caller.tenant_id]) as tx:
            rows = await tx.fetch(
                "SELECT key_id, last_used_at FROM api_keys WHERE tenant_id = $1 AND key_id > $2 ORDER BY key_id "
                "LIMIT $3",
                caller.tenant_id, after, limit + 1,
            )  # fmt: skip
        items = [dict(row) for row in rows[:limit]]
        return {"items": items, "next": items[-1]["key_id"] if len(rows) > limit else None}

    return router
