"""The notifier's HTTP API: endpoints, deliveries, e-mails, reports."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from fastapi import Depends, FastAPI, Query, Response

from laurel import audit, telemetry
from laurel.database import Database
from laurel.dead_letters_api import dead_letter_routes
from laurel.erasure_api import erasure_routes
from laurel.http import FetchFailed, FetchRefused, GuardedClient
from laurel.ids import uuid7
from laurel.problems import FieldError, Problem, not_found, uuid_in
from laurel.security import Principal, seal
from laurel.web import create_app, requires
from laurel_notifier import domain, mailbox, store
from laurel_notifier.shapes import (
    Deliveries,
    Delivery,
    DeliveryState,
    Email,
    Emails,
    EmailState,
    Endpoint,
    EndpointChange,
    Endpoints,
    EndpointWithSecret,
    EventType,
    NewEndpoint,
    Page,
)
from laurel_notifier.webhooks import SECRET_PURPOSE

_PREFIX = "/notifier/v1"
# Text that PostgreSQL and a log line can hold.
_PLAIN = r"^[^\x00-\x1f\x7f]*$"

Reader = Annotated[Principal, Depends(requires("webhooks:read"))]
Writer = Annotated[Principal, Depends(requires("webhooks:write"))]
Reporter = Annotated[Principal, Depends(requires("reports:read"))]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items of one page.")]
AfterId = Annotated[UUID | None, Query(description="`next` of the page before.")]
CourseRun = Annotated[str | None, Query(max_length=200, pattern=_PLAIN)]


def create_api(
    database: Database,
    client: GuardedClient,
    *,
    base_url: str,
    seal_key: bytes,
    endpoints_per_tenant: int,
    clock: Callable[[], datetime],
) -> FastAPI:
    """The application. client: checks the URLs of endpoints, with the same policy that deliveries obey."""
    app = create_app(
        "notifier",
        title="Laurel notifier",
        description="Tells partners by signed webhooks (Standard Webhooks) and learners by e-mail what was issued.",
        database=database,
        base_url=base_url,
    )

    async def acceptable(url: str) -> str:
        try:
            return await client.check(url)
        except (FetchRefused, FetchFailed) as error:
            wrong = FieldError(field="/url", code=error.code, detail=error.detail)
            raise Problem(422, "invalid_input", f"/url: {error.detail}", errors=[wrong]) from None

    def new_secret() -> tuple[str, str]:
        raw = os.urandom(domain.SECRET_BYTES)
        return domain.secret_text(raw), seal(seal_key, raw, purpose=SECRET_PURPOSE)

    @app.post(f"{_PREFIX}/endpoints", status_code=201, tags=["endpoints"])
    async def create_endpoint(given: NewEndpoint, principal: Writer) -> EndpointWithSecret:
        """Register an endpoint. Its URL must be https and lead to a public address."""
        url = await acceptable(given.url)
        secret, sealed = new_secret()
        async with database.transaction([principal.tenant_id]) as tx:
            if await store.count_endpoints(tx, principal.tenant_id) >= endpoints_per_tenant:
                raise Problem(409, "too_many_endpoints", f"{endpoints_per_tenant} endpoints are allowed; delete one")
            row = await store.create_endpoint(
                tx, endpoint_id=uuid7(), tenant_id=principal.tenant_id, url=url, description=given.description,
                event_types=given.event_types, secret=sealed,
            )  # fmt: skip
            await audit.record(
                tx, principal.tenant_id, principal, "endpoint.create", str(row["endpoint_id"]),
                details=_audited(row), at=clock(),
            )  # fmt: skip
        return EndpointWithSecret.model_validate({**row, "secret": secret})

    @app.get(f"{_PREFIX}/endpoints", tags=["endpoints"])
    async def list_endpoints(principal: Reader, after: AfterId = None, limit: Limit = 100) -> Endpoints:
        async with database.transaction([principal.tenant_id]) as tx:
            rows = await store.list_endpoints(tx, principal.tenant_id, after=after, limit=limit + 1)
        items = [Endpoint.model_validate(dict(row)) for row in rows[:limit]]
        return Endpoints(items=items, next=str(items[-1].endpoint_id) if len(rows) > limit else None)

    @app.get(f"{_PREFIX}/endpoints/{{endpoint_id}}", tags=["endpoints"])
    async def get_endpoint(endpoint_id: str, principal: Reader) -> Endpoint:
        async with database.transaction([principal.tenant_id]) as tx:
            row = await store.find_endpoint(tx, principal.tenant_id, uuid_in(endpoint_id, "endpoint"))
        if row is None:
            raise not_found("endpoint")
        return Endpoint.model_validate(dict(row))

    @app.patch(f"{_PREFIX}/endpoints/{{endpoint_id}}", tags=["endpoints"])
    async def change_endpoint(endpoint_id: str, change: EndpointChange, principal: Writer) -> Endpoint:
        """Change an endpoint. While it is disabled, no new events are owed to it, and those that wait are held."""
        identifier = uuid_in(endpoint_id, "endpoint")
        url = None if change.url is None else await acceptable(change.url)
        async with database.transaction([principal.tenant_id]) as tx:
            row = await store.change_endpoint(
                tx, principal.tenant_id, identifier, url=url, description=change.description,
                event_types=change.event_types, enabled=change.enabled,
            )  # fmt: skip
            if row is None:
                raise not_found("endpoint")
            await audit.record(
                tx, principal.tenant_id, principal, "endpoint.change", str(identifier), details=_audited(row),
                at=clock(),
            )  # fmt: skip
        return Endpoint.model_validate(dict(row))

    @app.delete(f"{_PREFIX}/endpoints/{{endpoint_id}}", status_code=204, tags=["endpoints"])
    async def delete_endpoint(endpoint_id: str, principal: Writer) -> Response:
        """Delete an endpoint; what waits for it is cancelled. Its deliveries stay on record."""
        async with database.transaction([principal.tenant_id]) as tx:
            identifier = uuid_in(endpoint_id, "endpoint")
            if not await store.delete_endpoint(tx, principal.tenant_id, identifier):
                raise not_found("endpoint")
            await audit.record(tx, principal.tenant_id, principal, "endpoint.delete", str(identifier), at=clock())
        return Response(status_code=204)

    @app.post(f"{_PREFIX}/endpoints/{{endpoint_id}}/rotate-secret", tags=["endpoints"])
    async def rotate_secret(endpoint_id: str, principal: Writer) -> EndpointWithSecret:
        """Replace the secret. For 24 hours requests are signed with both, so that you can change over in peace."""
        secret, sealed = new_secret()
        async with database.transaction([principal.tenant_id]) as tx:
            row = await store.rotate_secret(
                tx, principal.tenant_id, uuid_in(endpoint_id, "endpoint"), secret=sealed,
                previous_until=clock() + domain.ROTATION_OVERLAP,
            )  # fmt: skip
            if row is None:
                raise not_found("endpoint")
            await audit.record(
                tx, principal.tenant_id, principal, "endpoint.rotate_secret", str(row["endpoint_id"]), at=clock()
            )
        return EndpointWithSecret.model_validate({**row, "secret": secret})

    @app.post(f"{_PREFIX}/endpoints/{{endpoint_id}}/test", status_code=202, tags=["endpoints"])
    async def send_test(endpoint_id: str, principal: Writer) -> Delivery:
        """Send an event of type endpoint.test, which stands for nothing. Its delivery shows what came of it."""
        identifier = uuid_in(endpoint_id, "endpoint")
        async with database.transaction([principal.tenant_id]) as tx:
            row = await store.find_endpoint(tx, principal.tenant_id, identifier, for_update=True)
            if row is None:
                raise not_found("endpoint")
            if not row["enabled"]:
                raise _disabled()
            message = domain.sample_message(
                message_id=f"msg_test_{uuid7()}", tenant_id=principal.tenant_id, endpoint_id=str(identifier),
                now=clock(), traceparent=telemetry.current_traceparent(),
            )  # fmt: skip
            delivery_id = await store.write_test(tx, identifier, message)
            made = await store.find_delivery(tx, principal.tenant_id, delivery_id)
        assert made is not None
        return _delivery(made)

    @app.get(f"{_PREFIX}/deliveries", tags=["deliveries"])
    async def list_deliveries(
        principal: Reader,
        endpoint_id: UUID | None = None,
        state: DeliveryState | None = None,
        credential_id: Annotated[str | None, Query(max_length=64, pattern=r"^[0-9A-Za-z-]+$")] = None,
        after: AfterId = None,
        limit: Limit = 100,
    ) -> Deliveries:
        async with database.transaction([principal.tenant_id]) as tx:
            rows = await store.list_deliveries(
                tx, principal.tenant_id, endpoint_id=endpoint_id, state=state, credential_id=credential_id,
                after=after, limit=limit + 1,
            )  # fmt: skip
        items = [_delivery(row) for row in rows[:limit]]
        return Deliveries(items=items, next=str(items[-1].delivery_id) if len(rows) > limit else None)

    @app.get(f"{_PREFIX}/deliveries/{{delivery_id}}", tags=["deliveries"])
    async def get_delivery(delivery_id: str, principal: Reader) -> Delivery:
        async with database.transaction([principal.tenant_id]) as tx:
            row = await store.find_delivery(tx, principal.tenant_id, uuid_in(delivery_id, "delivery"))
        if row is None:
            raise not_found("delivery")
        return _delivery(row)

    @app.post(f"{_PREFIX}/deliveries/{{delivery_id}}/retry", status_code=202, tags=["deliveries"])
    async def retry_delivery(delivery_id: str, principal: Writer) -> Delivery:
        """Send it again now, whatever became of it before, under the same webhook-id."""
        identifier = uuid_in(delivery_id, "delivery")
        async with database.transaction([principal.tenant_id]) as tx:
            found = await store.find_delivery(tx, principal.tenant_id, identifier)
            if found is None:
                raise not_found("delivery")
            endpoint = await store.find_endpoint(tx, principal.tenant_id, found["endpoint_id"], for_update=True)
            found = await store.find_delivery(tx, principal.tenant_id, identifier)  # an erasure holds the endpoint, too
            if found is None or found["emptied"]:
                raise Problem(409, "erased", "its learner was erased: there is nothing left to send")
            if endpoint is None:
                raise Problem(409, "endpoint_deleted", "its endpoint was deleted")
            if not endpoint["enabled"]:
                raise _disabled()
            await store.retry_delivery(tx, identifier)
            again = await store.find_delivery(tx, principal.tenant_id, identifier)
            await audit.record(tx, principal.tenant_id, principal, "delivery.retry", str(identifier), at=clock())
        assert again is not None
        return _delivery(again)

    @app.get(f"{_PREFIX}/emails", tags=["e-mails"])
    async def list_emails(
        principal: Reader,
        state: EmailState | None = None,
        after: Annotated[str | None, Query(max_length=64, pattern=r"^[0-9A-Za-z-]+$")] = None,
        limit: Limit = 100,
    ) -> Emails:
        async with database.transaction([principal.tenant_id]) as tx:
            rows = await mailbox.list_emails(tx, principal.tenant_id, state=state, after=after, limit=limit + 1)
        items = [_email(row) for row in rows[:limit]]
        return Emails(items=items, next=items[-1].credential_id if len(rows) > limit else None)

    @app.post(f"{_PREFIX}/emails/{{credential_id}}/retry", status_code=202, tags=["e-mails"])
    async def retry_email(credential_id: str, principal: Writer) -> Email:
        """Send a failed or uncertain e-mail again. An uncertain one may then arrive twice."""
        if "\x00" in credential_id:
            raise not_found("e-mail")
        async with database.transaction([principal.tenant_id]) as tx:
            row = await mailbox.retry_email(tx, principal.tenant_id, credential_id)
            found = row or await mailbox.find_email(tx, principal.tenant_id, credential_id)
            if row is not None:
                await audit.record(tx, principal.tenant_id, principal, "email.retry", credential_id, at=clock())
        if found is None:
            raise not_found("e-mail")
        if row is None and found["state"] in ("failed", "uncertain"):
            raise Problem(409, "revoked", "its credential was revoked: nobody is congratulated on it any more")
        if row is None:
            raise Problem(409, "not_failed", f"it is {found['state']}; only failed and uncertain ones are sent again")
        return _email(found)

    _reports(app, database)
    app.include_router(dead_letter_routes("notifier", database))
    app.include_router(erasure_routes("notifier", database))
    return app


def _reports(app: FastAPI, database: Database) -> None:
    @app.get(f"{_PREFIX}/reports/reconcile", tags=["reports"])
    async def reconcile(principal: Reporter, course_run: CourseRun = None) -> dict[str, Any]:
        """Counts by state. Test events are not counted; status changes belong to no course run."""
        async with database.transaction([principal.tenant_id]) as tx:
            found = await store.counts(tx, principal.tenant_id, course_run)
        deliveries = [f"deliveries_{state}" for state in get_args(DeliveryState)]
        emails = [f"emails_{state}" for state in get_args(EmailState)]
        names = ["messages", *deliveries, *emails, "dead_lettered"]
        return {"service": "notifier", "counts": {name: found.get(name, 0) for name in names}}

    @app.get(f"{_PREFIX}/reports/deliveries", tags=["reports"])
    async def report_deliveries(
        principal: Reporter,
        course_run: CourseRun = None,
        event_type: EventType = "credential.issued",
        after: AfterId = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    ) -> Page:
        """Which credentials went to which endpoint, the oldest first."""
        async with database.transaction([principal.tenant_id]) as tx:
            rows = await store.report_deliveries(
                tx, principal.tenant_id, course_run=course_run, event_type=event_type, after=after, limit=limit + 1
            )
        items = [
            {"credential_id": row["credential_id"], "endpoint_id": str(row["endpoint_id"]), "state": row["state"]}
            for row in rows[:limit]
        ]
        return Page(items=items, next=str(rows[limit - 1]["delivery_id"]) if len(rows) > limit else None)


def _audited(row: store.Record) -> dict[str, Any]:
    """What of an endpoint the audit log tells: its host alone, for paths and queries of webhooks hold secrets."""
    return {"host": urlsplit(row["url"]).hostname, "event_types": list(row["event_types"]), "enabled": row["enabled"]}


def _disabled() -> Problem:
    return Problem(409, "endpoint_disabled", 'the endpoint is disabled; enable it with PATCH {"enabled": true} first')


def _delivery(row: store.Record) -> Delivery:
    values = dict(row)
    values["attempts"] = msgspec.json.decode(row["attempts"])
    del values["emptied"]
    if row["state"] != "pending":
        values["next_attempt_at"] = None
    return Delivery.model_validate(values)


def _email(row: store.Record) -> Email:
    values = dict(row)
    if row["state"] != "pending":
        values["next_attempt_at"] = None
    return Email.model_validate(values)
