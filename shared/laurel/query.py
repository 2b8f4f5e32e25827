"""The query of a request to the API: what its operation does not know, or is given twice, is refused.

A mistyped parameter that is dropped in silence answers another question than was asked, and where something is written,
writes something else. Only what is documented below /<service>/v1 is so strict: links to pages, pictures, DID documents
and status lists are decorated on their way (utm_source), and must go on working.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from laurel.problems import FieldError, Problem

_MOST_TOLD = 20


def known_query(prefix: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency of a whole application, for the operations below `prefix` that are public. Raises Problem 422.

    What demands a key calls `check_query` itself, once it lets somebody in: who may not is told that first.
    """

    async def known(request: Request) -> None:
        scope = request.scope
        route = scope["route"]
        if not scope["query_string"] or not route.include_in_schema or not scope["path"].startswith(prefix):
            return
        if not any(hasattr(one.call, "demand") for one in _all_of(route.dependant)):
            check_query(request)

    return known


def check_query(request: Request) -> None:
    """Raise Problem 422 for what the operation that is asked for does not know."""
    if request.scope["query_string"]:
        dependants = _all_of(request.scope["route"].dependant)
        refuse_unknown(request, [parameter.alias for one in dependants for parameter in one.query_params])


def refuse_unknown(request: Request, known: Collection[str]) -> None:
    """Raise Problem 422 for each parameter that is not among the `known` names, or stands there twice."""
    if not request.scope["query_string"]:
        return
    knows = f"this operation knows {', '.join(sorted(known))}" if known else "this operation takes none"
    wrong = []
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in known:
            wrong.append(_wrong(name, "unknown_parameter", f"there is no such query parameter; {knows}"))
        elif times > 1:
            wrong.append(_wrong(name, "repeated_parameter", f"is given {times} times; give it once"))
    if wrong:
        detail = f"{wrong[0].field}: {wrong[0].detail}"
        raise Problem(422, "invalid_input", detail, errors=wrong[:_MOST_TOLD])


def _wrong(name: str, code: str, detail: str) -> FieldError:
    return FieldError(field=name[:100] or "query", code=code, detail=detail)


def _all_of(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _all_of(one)
