"""The dead letters of a service over HTTP, the same routes for each. A tenant sees its own alone."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    model_validator,
)

from laurel import audit
from laurel import dead_letter_store as store
from laurel.crash_points import reach
from laurel.database import Database, Transaction
from laurel.dead_letter_reasons import Helps, reason
from laurel.dead_letter_store import YEARS, Redrive, State, Which
from laurel.dead_letters import headers_of
from laurel.plain_text import is_plain
from laurel.problems import FieldError, Problem, not_found, uuid_in
from laurel.security import Principal
from laurel.web import requires

MAX_ASKED = 10_000


def _in_range(moment: datetime) -> datetime:
    if moment.year not in YEARS:
        raise ValueError(f"must lie between the years {YEARS.start} and {YEARS.stop}")
    return moment


def _check_period(since: datetime | None, until: datetime | None) -> None:
    if since is not None and until is not None and since >= until:
        raise ValueError("died_from must lie before died_to, or nothing can match; exchange them")


def _plain(text: str) -> str:
    if not is_plain(text):
        raise ValueError("must not hold control characters; remove them")
    return text


Moment = Annotated[AwareDatetime, AfterValidator(_in_range)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,200}$")]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500), AfterValidator(_plain)]
Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(_plain)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_plain)]
InPath = Annotated[str, Path(max_length=64, description="The letter's id.")]
InRequestPath = Annotated[str, Path(max_length=64, description="The redrive's `request_id`.")]

Reporter = Annotated[Principal, Depends(requires("reports:read"))]
Reader = Annotated[Principal, Depends(requires("dead-letters:read"))]
Writer = Annotated[Principal, Depends(requires("dead-letters:write"))]


class DeadLetter(BaseModel):
    """An event that could not be handled. Its place in the topic is not told: all organisations share the numbers."""

    id: UUID
    consumer: str = Field(description="The consumer group that could not handle it.")
    topic: str
    key: str = Field(description="The record's key: for credentials and passed assessments the credential id.")
    event_type: str | None
    code: str = Field(description="Why; docs/dead-letters.md has the table.")
    detail: str
    state: State
    attempts: int = Field(description="Redrives that were tried.")
    redrive_helps: Helps = Field(description="`after_fix`: once what made it fail is mended; `never`: not by itself.")
    died_at: datetime
    redriven_at: datetime | None


class DeadLetters(BaseModel):
    """A page of dead letters, oldest first."""

    items: list[DeadLetter]
    next: UUID | None = Field(description="Give it as `after` for the next page; null: this is the last.")


class Header(BaseModel):
    """A header of the record."""

    name: str
    value: str


class DeadLetterAction(BaseModel):
    """What somebody asked for, and what came of it."""

    request_id: str
    action: Literal["redrive", "replay", "discard"]
    asked_by: str
    asked_at: datetime
    note: str
    was: str = Field(description="The letter's reason when it was asked for.")
    outcome: Literal["redriven", "died_again", "discarded", "cancelled"] | None = Field(
        description="null: still queued."
    )
    code: str | None = Field(description="Why it died again; `cancelled`: it was taken back, `detail` says by whom.")
    detail: str | None
    finished_at: datetime | None


class WholeDeadLetter(DeadLetter):
    """A dead letter with its original bytes, what its reason means, and what was done about it."""

    meaning: str
    remedy: str
    key_base64: str
    value_base64: str = Field(description="The record's value, byte for byte.")
    value: str | None = Field(description="The same as text, where it is UTF-8.")
    headers: list[Header]
    actions: list[DeadLetterAction]


class WhichLetters(BaseModel):
    """Which letters are to be redriven: fields narrow each other; without any of them say `"all": true`."""

    model_config = ConfigDict(extra="forbid")

    all: StrictBool = Field(default=False, description="All that are in this state, up to `max`.")

    ids: list[UUID] | None = Field(default=None, min_length=1, max_length=MAX_ASKED)
    state: Literal["waiting", "discarded", "redriven"] = "waiting"
    consumer: Name | None = None
    topic: Name | None = None
    code: Name | None = None
    event_type: Name | None = None
    key: Key | None = None
    died_from: Moment | None = Field(default=None, description="Died at or after.")
    died_to: Moment | None = Field(default=None, description="Died before.")
    max: int = Field(default=1000, ge=1, le=MAX_ASKED, description="No more than so many, the oldest first.")
    rate: float | None = Field(default=None, ge=0.01, le=10_000, description="Letters a second and consumer at most.")
    note: Note = Field(default="", description="For the record: why.")
    dry_run: StrictBool = Field(default=False, description="Only count.")

    @model_validator(mode="after")
    def _is_narrowed(self) -> Self:
        named = (self.ids, self.key, self.died_from, self.died_to)
        fields = (*named, self.consumer, self.topic, self.code, self.event_type)
        if not self.all and all(one is None for one in fields):
            raise ValueError('name letters (ids), narrow them (code, consumer, …), or say "all": true')
        _check_period(self.died_from, self.died_to)
        if self.all and self.ids is not None:
            raise ValueError('give either "ids" or "all": true; leave the other out')
        return self


class Asked(BaseModel):
    """How many of which consumer died for which reason."""

    consumer: str
    code: str
    count: int
    redrive_helps: Helps


class RedriveReport(BaseModel):
    """What a request for a redrive came to."""

    request_id: str | None = Field(description="For GET …/dead-letters/redrives/{request_id}; null on a dry run.")
    matched: int
    queued: int = Field(description="0 on a dry run; at most `max`.")
    letters: list[Asked] = Field(description="Of those that were queued; on a dry run of all that match.")
    unmatched: list[UUID] = Field(
        default=[], description="Of `ids`: no such letter here, in another state than was asked for, or narrowed out."
    )


class Progress(BaseModel):
    """Where a redrive stands."""

    request_id: str
    queued: int
    redriven: int
    died_again: int
    cancelled: int


class Discard(BaseModel):
    """Why a letter is to stay unhandled."""

    model_config = ConfigDict(extra="forbid")

    reason: Why


def dead_letter_routes(service: str, database: Database) -> APIRouter:
    """The routes. Lists need `reports:read`, contents `dead-letters:read`, what changes them `dead-letters:write`."""
    router = APIRouter(prefix=f"/{service}/v1/dead-letters", tags=["dead letters"])

    @router.get("", summary="Events that could not be handled, and why", operation_id="list_dead_letters")
    async def dead_letters(
        who: Reporter,
        state: State | None = None,
        consumer: Annotated[Name | None, Query()] = None,
        topic: Annotated[Name | None, Query()] = None,
        code: Annotated[Name | None, Query()] = None,
        event_type: Annotated[Name | None, Query()] = None,
        key: Annotated[Key | None, Query()] = None,
        died_from: Annotated[Moment | None, Query()] = None,
        died_to: Annotated[Moment | None, Query()] = None,
        after: Annotated[UUID | None, Query(description="The `next` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> DeadLetters:
        """Oldest first, without their contents."""
        try:
            _check_period(died_from, died_to)
        except ValueError as error:
            wrong = FieldError(field="died_from", code="invalid_range", detail=str(error))
            raise Problem(422, "invalid_input", str(error), errors=[wrong]) from None
        which = Which(
            states=None if state is None else [state], tenant_id=who.tenant_id, consumer=consumer, topic=topic,
            code=code, event_type=event_type, key=None if key is None else key.encode(), died_from=died_from,
            died_to=died_to,
        )  # fmt: skip
        async with database.transaction([who.tenant_id]) as tx:
            rows = await store.find(tx, which, after=after, limit=limit + 1)
        items = [DeadLetter(**shown(row)) for row in rows[:limit]]
        return DeadLetters(items=items, next=items[-1].id if len(rows) > limit else None)

    @router.post("/redrive", status_code=202, summary="Have dead letters handled again", operation_id="redrive")
    async def redrive(body: WhichLetters, who: Writer) -> RedriveReport:
        """Each goes once more through the consumer that refused it, and through no other.

        The answer says what was queued; the service's workers carry it out. What fails again waits with its new reason.
        """
        which = Which(
            ids=body.ids, states=[body.state], tenant_id=who.tenant_id, consumer=body.consumer, topic=body.topic,
            code=body.code, event_type=body.event_type, key=None if body.key is None else body.key.encode(),
            died_from=body.died_from, died_to=body.died_to,
        )  # fmt: skip
        async with database.transaction([who.tenant_id]) as tx:
            if body.dry_run:
                request_id, found = None, await store.count(tx, which)
            else:
                asked = Redrive(which, f"key:{who.key_id}", body.note, body.rate, body.max)
                request_id, found = await store.ask(tx, asked)
            queued = sum(found.queued.values())
            if queued:
                await audit.record(
                    tx, who.tenant_id, who, "dead_letters.redrive", str(request_id), details={"queued": queued}
                )
        if queued:
            reach("redrive.asked", service)
        letters = [
            Asked(consumer=consumer, code=code, count=n, redrive_helps=reason(code).helps)
            for (consumer, code), n in (found.letters if body.dry_run else found.queued).items()
        ]
        return RedriveReport(
            request_id=request_id if queued else None, matched=sum(found.letters.values()), queued=queued,
            letters=letters, unmatched=found.unmatched,
        )  # fmt: skip

    @router.get("/redrives/{request_id}", summary="Where a redrive stands", operation_id="get_redrive")
    async def redrive_progress(request_id: InRequestPath, who: Reporter) -> Progress:
        """How many letters of it are queued, redriven, cancelled, or have died again."""
        _known(request_id)
        async with database.transaction([who.tenant_id]) as tx:
            return await _progress(tx, request_id, who)

    @router.post("/redrives/{request_id}/cancel", summary="Take a redrive back", operation_id="cancel_redrive")
    async def cancel(request_id: InRequestPath, who: Writer) -> Progress:
        """Letters that are still queued are again what they were before; mostly, they wait.

        What the consumer has begun is left to it, and counts as queued until it has ended.
        """
        _known(request_id)
        async with database.transaction([who.tenant_id]) as tx:
            which = Which(tenant_id=who.tenant_id)
            done = await store.cancel(tx, which, asked_by=f"key:{who.key_id}", request_id=request_id)
            found = await _progress(tx, request_id, who)
            for n in done.letters.values():
                await audit.record(
                    tx, who.tenant_id, who, "dead_letters.cancel", request_id, details={"cancelled": n}
                )  # fmt: skip
        return found

    @router.get("/{letter_id}", summary="A dead letter with its original bytes", operation_id="get_dead_letter")
    async def dead_letter(letter_id: InPath, who: Reader) -> WholeDeadLetter:
        """Its value, key and headers as they came, what its reason means, and what was done about it."""
        wanted = uuid_in(letter_id, "dead letter")
        async with database.transaction([who.tenant_id]) as tx:
            row = await store.get(tx, wanted, who.tenant_id)
            if row is None:
                raise not_found("dead letter")
            history = await store.actions(tx, wanted)
        return WholeDeadLetter(**whole(row, history))

    @router.post("/{letter_id}/discard", summary="Let a dead letter stay unhandled", operation_id="discard_dead_letter")
    async def discard(letter_id: InPath, body: Discard, who: Writer) -> WholeDeadLetter:
        """It is kept, and still accounts for its event. A redrive with `"state": "discarded"` takes it up again."""
        wanted = uuid_in(letter_id, "dead letter")
        async with database.transaction([who.tenant_id]) as tx:
            state = await store.discard(
                tx, wanted, asked_by=f"key:{who.key_id}", reason=body.reason, tenant_id=who.tenant_id
            )
            if state is None:
                raise not_found("dead letter")
            if state != "waiting":
                fix = "; cancel its redrive first" if state == "queued" else ""
                raise Problem(409, "not_waiting", f"it is {state}; only letters that wait can be discarded{fix}")
            row = await store.get(tx, wanted, who.tenant_id)
            history = await store.actions(tx, wanted)
            await audit.record(tx, who.tenant_id, who, "dead_letter.discard", str(wanted))
        assert row is not None
        return WholeDeadLetter(**whole(row, history))

    return router


def _known(request_id: str) -> None:
    if "\x00" in request_id:  # PostgreSQL's text holds none
        raise not_found("redrive")


async def _progress(tx: Transaction, request_id: str, who: Principal) -> Progress:
    found = await store.progress(tx, request_id, who.tenant_id)
    if found is None:
        raise not_found("redrive")
    return Progress(request_id=request_id, **found)


def shown(row: store.Row) -> dict[str, Any]:
    """A letter as it is told, without its bytes."""
    return {
        **{name: value for name, value in row.items() if name not in ("value", "headers", "timestamp_ms")},
        "key": text_of(row["key"]), "redrive_helps": reason(row["code"]).helps,
    }  # fmt: skip


def whole(row: store.Row, history: list[store.Row]) -> dict[str, Any]:
    """A letter as it is told, with its bytes and its history."""
    value: bytes = row["value"]
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = None
    told = reason(row["code"])
    return {
        **shown(row), "meaning": told.meaning, "remedy": told.remedy,
        "key_base64": base64.b64encode(row["key"]).decode(), "value_base64": base64.b64encode(value).decode(),
        "value": text, "headers": [{"name": name, "value": text_of(one)} for name, one in headers_of(row["headers"])],
        "actions": [dict(one) for one in history],
    }  # fmt: skip


def text_of(raw: bytes) -> str:
    """Bytes as text; what is no UTF-8 is escaped."""
    return raw.decode("utf-8", "backslashreplace")
