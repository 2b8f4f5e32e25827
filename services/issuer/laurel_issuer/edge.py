"""What the issuer's routes share: their parts, the forms of input that they accept, pages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints

from laurel.database import Database
from laurel.problems import FieldError, Problem, not_found

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]").search
_ID = re.compile(r"[0-9a-zA-Z-]{1,64}").fullmatch
_YEARS = range(2000, 9000)  # what PostgreSQL, Python and every time zone can write


@dataclass(frozen=True)
class Desk:
    """What the routes work with. clock: aware now. kek: encrypts signing keys."""

    database: Database
    base_url: str
    kek: bytes
    operator_token: str | None
    status_ttl_s: int
    clock: Callable[[], datetime]

    def profile_url(self, slug: str) -> str:
        """Where a profile is published."""
        return f"{self.base_url}/issuers/{slug}"


class Body(BaseModel):
    """A request body: unknown fields are errors, so that a typing mistake is not silently lost."""

    model_config = ConfigDict(extra="forbid")


def _line(text: str) -> str:
    if _CONTROL(text):
        raise ValueError("must not hold control characters; remove them")
    return unicodedata.normalize("NFC", text)


def _in_range(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise ValueError(f"must lie between the years {_YEARS.start} and {_YEARS.stop}")
    return moment


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_line)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(_line)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Moment = Annotated[AwareDatetime, AfterValidator(_in_range)]
Filter = Annotated[
    str | None, Query(max_length=200), AfterValidator(lambda text: None if text is None else _line(text))
]
After = Annotated[str | None, Query(max_length=64, description="The `next` of the page before.")]


def id_in(text: str, what: str) -> str:
    """An id from a path; what cannot be one is not found, whatever it is. Raises Problem 404."""
    if not _ID(text):
        raise not_found(what)
    return text


def credential_after(after: str) -> UUID:
    """The credential after which a page begins. Raises Problem 422."""
    try:
        return UUID(after)
    except ValueError:
        raise bad_cursor() from None


async def place_after(after: str | None, place_of: Callable[[UUID], Awaitable[int | None]]) -> int:
    """The place behind which a page begins: of what ended the page before. Raises Problem 422.

    place_of: the place of one of the caller's own, None where it has none of that id.
    """
    place = 0 if after is None else await place_of(credential_after(after))
    if place is None:
        raise bad_cursor()
    return place


def id_after(after: str | None) -> str:
    """The id after which a page begins. Raises Problem 422."""
    if after is not None and not _ID(after):
        raise bad_cursor()
    return after or ""


def bad_cursor() -> Problem:
    """What was sent as `after` is no `next` of ours."""
    return invalid("after", "bad_cursor", "take the `next` of the page before, unchanged")


def invalid(field: str, code: str, detail: str) -> Problem:
    """The input is wrong in one field."""
    return Problem(
        422, "invalid_input", f"{field}: {detail}", errors=[FieldError(field=field, code=code, detail=detail)]
    )


def page(items: list[dict[str, Any]], limit: int, cursor: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """{items, next} for rows that were read with LIMIT limit + 1."""
    more = len(items) > limit
    items = items[:limit]
    return {"items": items, "next": str(cursor(items[-1])) if more and items else None}
