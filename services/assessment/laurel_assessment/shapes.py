"""What the API answers, as documented in its OpenAPI page. Tests hold the real answers against these."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from laurel_assessment.achievements import AlignmentInput, CriteriaInput, ResultDescriptionInput, StatusMessageInput

T = TypeVar("T")
Outcome = Literal["passed", "not_passed", "duplicate", "rejected"]


class Shape(BaseModel):
    """An answer; nothing is in it that is not named here."""

    model_config = ConfigDict(extra="forbid")


class Page(Shape, Generic[T]):
    """A page of a list."""

    items: list[T]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last.")


class Policy(Shape):
    """When a result is a pass, and which version of the policy says so."""

    version: int
    minimum_score: float | None
    required_parts: dict[str, float]
    max_attempts: int | None


class Achievement(Shape):
    """An achievement as it stands now. image: its address; achievement: the Open Badges 3.0 object."""

    achievement_id: UUID
    version: int
    url: str
    status: Literal["published", "retired"]
    profile_id: str | None
    name: str
    description: str
    criteria: CriteriaInput
    image: str | None
    image_caption: str | None
    tags: list[str] | None
    alignment: list[AlignmentInput] | None
    achievement_type: str | None
    result_descriptions: list[ResultDescriptionInput] | None
    language: str | None
    validity_days: int | None
    status_purposes: list[str] | None
    status_messages: list[StatusMessageInput] | None
    status_reference: str | None
    securing: list[str] | None
    credential_type: Literal["OpenBadgeCredential", "AchievementCredential"] | None
    repeatable: bool | None
    policy: Policy
    achievement: dict[str, Any]
    created_at: datetime
    published_at: datetime
    retired_at: datetime | None


class Decided(Shape):
    """What became of a result. credential_id, credential_url: where its credential will be, for a pass."""

    result_id: UUID = Field(description="For a duplicate: the id of the result that stands in its place.")
    outcome: Literal["passed", "not_passed", "duplicate"]
    reasons: list[str]
    policy_version: int | None
    external_id: str | None
    credential_id: UUID | None = None
    credential_url: str | None = None


class Fault(Shape):
    """One thing that is wrong with a row."""

    field: str
    code: str
    detail: str


class Result(Shape):
    """A row that was taken in, whatever became of it."""

    result_id: UUID
    outcome: Outcome
    reasons: list[str]
    achievement_id: UUID | None
    achievement_version: int | None
    policy_version: int | None
    learner: str | None
    attempt: int | None
    credential_id: UUID | None
    credential_url: str | None = None
    duplicate_of: UUID | None
    course_run: str | None
    external_id: str | None
    score: float | None
    parts: dict[str, float] | None
    completed_at: datetime | None
    recorded_at: datetime
    import_id: UUID | None
    line: int | None
    errors: list[Fault] | None


class AcceptedImport(Shape):
    """An import whose every row is stored and owed an outcome."""

    import_id: UUID
    url: str


class Import(Shape):
    """How far an import is."""

    import_id: UUID
    status: Literal["receiving", "processing", "done", "failed"]
    failure: str | None
    achievement_id: str | None
    course_run: str | None
    bytes: int
    rows: int
    processed: int
    accepted: int
    passed: int
    not_passed: int
    duplicate: int
    rejected: int
    created_at: datetime
    finished_at: datetime | None


class Rejection(Fault):
    """A rejected row. field, code, detail: the first of its errors; row: as it was sent."""

    line: int
    errors: list[Fault]
    row: str | None


class ImportedRow(Shape):
    """What became of a row of an import."""

    line: int
    learner: str | None
    outcome: Outcome
    result_id: UUID
    attempt: int | None
    credential_id: UUID | None
    reasons: list[str]


class Settled(Shape):
    """A row that was taken in, and what became of it. day: on which it was recorded, UTC."""

    result_id: UUID
    outcome: Outcome
    credential_id: UUID | None
    course_run: str | None
    day: date


class Erasure(Shape):
    """A learner that was erased: here it is done. Nothing says who it was."""

    erasure_id: UUID
    service: Literal["assessment"]
    results: int = Field(description="Rows that were taken in of the learner.")
    credentials: int = Field(description="Credentials that the other services erase; 0 of them: there are none.")
    requested_at: datetime
    erased_at: datetime = Field(description="What was received before, and is decided later, is refused.")
    url: str


class Counts(Shape):
    """accepted = passed + not_passed + duplicate + rejected + waiting."""

    accepted: int
    passed: int
    not_passed: int
    duplicate: int
    rejected: int
    waiting: int = Field(description="Rows of imports that are not settled; of one course run: those that may be its.")
    unsent_events: int
    dead_letters: int


class Reconciliation(Shape):
    """Where everything stands."""

    service: Literal["assessment"]
    course_run: str | None
    counts: Counts
