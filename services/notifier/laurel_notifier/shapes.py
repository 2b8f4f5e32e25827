"""The JSON that the notifier's API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from laurel_notifier import domain

EventType = Literal[
    "credential.issued",
    "credential.revoked",
    "credential.suspended",
    "credential.reinstated",
    "credential.refresh_offered",
    "credential.message_changed",
]
DeliveryState = Literal["pending", "delivered", "failed", "held", "cancelled"]
EmailState = Literal["pending", "held", "sending", "sent", "failed", "uncertain", "cancelled"]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _distinct(types: list[EventType] | None) -> list[EventType] | None:
    if types is not None and len(set(types)) != len(types):
        raise ValueError("names an event type twice")
    return types


class NewEndpoint(_Input):
    """Where to send events."""

    url: str = Field(min_length=1, max_length=2048, description="https; events are sent here as POST requests.")
    event_types: list[EventType] = Field(min_length=1, max_length=len(domain.EVENT_TYPES))
    description: str = Field(default="", max_length=200)

    _types = field_validator("event_types")(_distinct)


class EndpointChange(_Input):
    """What is not given stays as it is."""

    url: str | None = Field(default=None, min_length=1, max_length=2048)
    event_types: list[EventType] | None = Field(default=None, min_length=1, max_length=len(domain.EVENT_TYPES))
    description: str | None = Field(default=None, max_length=200)
    enabled: bool | None = Field(
        default=None, description="false holds what waits and owes nothing new; true lets it go again."
    )

    _types = field_validator("event_types")(_distinct)


class Endpoint(BaseModel):
    """A webhook endpoint."""

    endpoint_id: UUID
    url: str
    description: str
    event_types: list[str]
    enabled: bool
    disabled_reason: str | None
    previous_secret_until: datetime | None = Field(
        description="Until then requests carry two signatures: with the new secret and with the one before."
    )
    created_at: datetime
    updated_at: datetime


class EndpointWithSecret(Endpoint):
    """Shown once: the secret cannot be read again, only replaced."""

    secret: str = Field(description="For a Standard Webhooks library (whsec_…).")


class Attempt(BaseModel):
    """One request."""

    at: datetime
    status: int | None
    error: str | None
    duration_ms: int


class Delivery(BaseModel):
    """One event on its way to one endpoint."""

    delivery_id: UUID
    endpoint_id: UUID
    message_id: str = Field(
        description="Sent as webhook-id: the same for every attempt, so that you can drop repetitions."
    )
    event_type: str
    credential_id: str | None
    course_run: str | None
    state: DeliveryState
    attempt_count: int
    next_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    settled_at: datetime | None
    attempts: list[Attempt]


class Email(BaseModel):
    """An e-mail to a learner. The address is not shown."""

    credential_id: str
    course_run: str | None
    achievement_id: str
    state: EmailState
    attempt_count: int
    next_attempt_at: datetime | None
    last_error: str | None
    created_at: datetime
    sent_at: datetime | None


class Page(BaseModel):
    """`next` is the `after` of the next page, null on the last."""

    items: list[Any]
    next: str | int | None


class Endpoints(Page):
    """Endpoints in the order of their creation."""

    items: list[Endpoint]


class Deliveries(Page):
    """Deliveries, the newest first."""

    items: list[Delivery]


class Emails(Page):
    """E-mails in the order of credential ids."""

    items: list[Email]
