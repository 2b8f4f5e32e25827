"""Routes that are answered ahead of the framework: what is asked a thousand times a second and takes no parameters.

FastAPI's way to a handler (its exit stacks, its routing, dependencies and models) costs as much as a lookup. A route
that is answered here is documented there all the same, and has the edge before it as every other has (`edge`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from fastapi import FastAPI, Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from laurel.problems import Problem
from laurel.query import refuse_unknown

Handler = Callable[[Request], Awaitable[Response]]


async def body_of(request: Request) -> bytes:
    """The body of a request that the guard has read: it comes in one piece."""
    message = await request.receive()
    body: bytes = message["body"]
    return body


class _Quick(NamedTuple):
    method: str
    route: Route
    handler: Handler


class QuickRoutes:
    """Answers those that `quick_route` names, and hands everything else on. The innermost part of the edge."""

    def __init__(self, app: ASGIApp, *, routes: list[_Quick]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for method, route, handler in self._routes:
                if method == scope["method"] and (match := route.path_regex.match(scope["path"])) is not None:
                    scope["route"], scope["path_params"] = route, match.groupdict()
                    response = await _answer(handler, Request(scope, receive, send))
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        refuse_unknown(request, ())
        return await handler(request)
    except Problem as refused:
        return refused.response(request.url.path)


def quick_route(app: FastAPI, path: str, method: str) -> Callable[[Handler], Handler]:
    """A decorator: answers a documented route by a handler that takes the request alone, and refuses by Problem.

    It goes above the decorator that documents the route. The parameters in the path are text; there are no others.
    """

    def decorate(handler: Handler) -> Handler:
        app.state.quick_routes.append(_Quick(method, Route(path, handler), handler))
        return handler

    return decorate
