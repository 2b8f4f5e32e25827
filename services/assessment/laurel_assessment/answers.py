"""What the routes share: the course run as a parameter, problem documents made of findings, pages of lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import AfterValidator

from laurel.problems import FieldError, Problem
from laurel.web import json_response
from laurel_assessment.domain import Finding
from laurel_assessment.rows import MAX_COURSE_RUN, as_uuid, plain_course_run


def _course_run(text: str | None) -> str | None:
    found = None if text is None else plain_course_run(text)
    if isinstance(found, Finding):
        raise ValueError(found.detail)
    return found


# As at intake: what was accepted under one name is found under it, however its accents are composed.
CourseRun = Annotated[
    str | None, Query(min_length=1, max_length=MAX_COURSE_RUN, description="A course run."), AfterValidator(_course_run)
]


def problem_of(findings: Sequence[Finding], *, status: int = 422, code: str = "invalid_input") -> Problem:
    """A problem document that names every field that is wrong."""
    errors = [FieldError(field=one.field, code=one.code, detail=one.detail) for one in findings]
    return Problem(status, code, f"{errors[0].field or 'body'}: {errors[0].detail}", errors=errors)


def cursor(after: str | None) -> str | None:
    """The id after which a page begins. Raises Problem 422."""
    found = as_uuid(after) if after is not None else None
    if after is not None and found is None:
        raise problem_of([Finding("after", "bad_cursor", "send the `next` of the page before, as it is")])
    return found


def page(items: list[dict[str, Any]], limit: int, name: str) -> Response:
    """A page of a list; `next` is null where it ends."""
    return json_response({"items": items, "next": str(items[-1][name]) if len(items) == limit else None})
