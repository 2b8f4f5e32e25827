"""Which endpoints an application has and what each demands: for docs/scopes.md, OpenAPI, and the test of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

PUBLIC = "public"


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One method of one path. demand: a scope, "operator" (LAUREL_OPERATOR_TOKEN), or PUBLIC."""

    path: str
    method: str
    demand: str
    documented: bool = True


def endpoints(app: FastAPI) -> list[Endpoint]:
    """Every endpoint that the application answers, mounted files included, in order of the path."""
    found: dict[tuple[str, str], Endpoint] = {}
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        for method in sorted(context.methods or {"GET"}):
            path = str(context.path)
            documented = hasattr(route, "dependant") and bool(getattr(route, "include_in_schema", False))
            before = found.get((path, method))
            if before is not None:  # the first of two routes answers; the other may be its documentation
                documented |= before.documented
                found[path, method] = Endpoint(path, method, before.demand, documented)
            else:
                found[path, method] = Endpoint(path, method, _demand(route), documented)
    return sorted(found.values())


def _demand(route: Any) -> str:
    """What the dependencies of a route say in their attribute `demand`."""
    pending: list[Dependant] = [route.dependant] if hasattr(route, "dependant") else []
    while pending:
        one = pending.pop()
        if isinstance(demand := getattr(one.call, "demand", None), str):
            return demand
        pending.extend(one.dependencies)
    return PUBLIC


def document_scopes(app: FastAPI) -> None:
    """Have the OpenAPI document say which scope each operation demands, of an API key or an access token."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        document = plain()
        for one in endpoints(app) if fresh else ():
            operation = document["paths"].get(one.path, {}).get(one.method.lower())
            if operation is not None and one.demand not in (PUBLIC, "operator"):
                operation["security"] = [{"ApiKey": [one.demand]}, {"ClientCredentials": [one.demand]}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
