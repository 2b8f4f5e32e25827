"""Laurel's HTTP API as the `laurel` command uses it: problem documents become Failures, pages become streams."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Any, Self

import httpx
import msgspec

from laurel_local.exits import Exit, Failure
from laurel_local.state import State
from laurel_local.trust import authorities, distrust

_PATIENCE_S = 30.0
_LONGEST_WAIT_S = 300.0  # whatever a Retry-After says
_LIKE = "write it like https://badges.example.org"


def checked(url: str) -> str:
    """A Laurel's address, as it may be asked. Raises Failure."""
    try:
        found = httpx.URL(url)
        if found.scheme not in ("http", "https") or not found.host or (found.port or 0) > 65_535:
            raise httpx.InvalidURL("no http:// or https:// address")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Failure(f"{url!r} is not a URL: {error}", fix=_LIKE, code=Exit.USAGE) from None
    return url


class Refused(Failure):
    """The server answered with a problem document. status: the HTTP status; problem: the document ({} if none)."""

    def __init__(self, message: str, *, status: int, problem: Mapping[str, Any], fix: str, code: Exit) -> None:
        super().__init__(message, fix=fix, code=code)
        self.status = status
        self.problem = dict(problem)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """What is wrong with which field, as the server says it."""
        found = self.problem.get("errors")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


class Client:
    """One Laurel, one API key. An async context manager.

    A server that is too busy (429, which has stored nothing) is asked again when it says. patience_s: for how long at
    most; waits: told before each wait how long it is and why.
    """

    patience_s: float = 60.0
    waits: Callable[[float, str], None] = staticmethod(lambda seconds, why: None)

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url.rstrip("/")
        if not all("!" <= letter <= "~" for letter in api_key):
            raise Failure(
                "the API key holds a blank, a line end or another character that no key has",
                fix="copy it again, whole and alone, into --api-key or LAUREL_API_KEY",
                code=Exit.USAGE,
            )
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx.Timeout(_PATIENCE_S, write=300.0, read=300.0)
        self._http = httpx.AsyncClient(
            base_url=checked(self.url), headers=headers, timeout=timeout, trust_env=False, verify=authorities()
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | AsyncIterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int | None] | None = None,
    ) -> Any:
        """The JSON object that a request is answered with; empty where there is no body. Raises Refused or Failure."""
        query = {name: value for name, value in (params or {}).items() if value is not None}
        given_up_at = asyncio.get_running_loop().time() + self.patience_s
        while True:
            try:
                answer = await self._http.request(
                    method, path, json=json, content=body, headers=dict(headers or {}), params=query
                )
            except httpx.TransportError as error:
                raise self._unanswered(error) from None
            except httpx.DecodingError as error:
                raise self.no_laurel(f"cannot be read ({error})") from None
            if answer.is_success:
                return self._content(answer)
            again = body is None or isinstance(body, bytes)  # a stream cannot be sent twice
            if answer.status_code != 429 or not again:
                raise self._refused(answer)
            seconds = _retry_after(answer)
            if asyncio.get_running_loop().time() + seconds > given_up_at:
                raise self._refused(answer)
            self.waits(seconds, str(_problem(answer).get("detail", "it answered 429")))
            await asyncio.sleep(seconds)

    async def lines(
        self, method: str, path: str, *, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[dict[str, Any]]:
        """The objects of an NDJSON answer, as they come. Raises as `call`."""
        try:
            async with self._http.stream(method, path, content=body, headers=dict(headers)) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise self._refused(answer)
                async for line in answer.aiter_lines():
                    yield msgspec.json.decode(line, type=dict[str, Any])
        except httpx.TransportError as error:
            raise self._unanswered(error) from None
        except (msgspec.DecodeError, RecursionError, httpx.DecodingError):
            raise self.no_laurel("is no NDJSON") from None

    def _content(self, answer: httpx.Response) -> Any:
        """Its JSON. An answer that is no Laurel's is a Failure when it comes, or where a member of it is missed."""

        class Members(dict[str, Any]):
            def __missing__(_, name: str) -> Any:  # noqa: N805
                raise self.no_laurel(f"has no {name!r}")

        try:
            found = answer.json(object_hook=Members) if answer.content else Members()
        except (ValueError, RecursionError):
            raise self.no_laurel("is no JSON") from None
        if not isinstance(found, dict):
            raise self.no_laurel("is no JSON object")
        return found

    def no_laurel(self, why: str) -> Failure:
        """What answers there is none, or none that this command knows."""
        return Failure(
            f"{self.url} gave an answer that {why}", fix="is it the address of a Laurel? " + _LIKE, code=Exit.USAGE
        )

    def _refused(self, answer: httpx.Response) -> Failure:
        if answer.is_redirect:
            where = answer.headers.get("location", "nowhere")
            why = f"{self.url} sends us on: {answer.status_code}, to {where}"
            return Failure(why, fix="give --url as it is after that", code=Exit.USAGE)
        if answer.status_code in (404, 405) and not _problem(answer):
            return self.no_laurel(f"is {answer.status_code} and no problem document")
        return _refused(answer)

    def _unanswered(self, error: httpx.TransportError) -> Failure:
        return distrust(self.url, error) or Failure(
            f"{self.url} does not answer: {type(error).__name__} {error}".rstrip(),
            fix="start it (`laurel up`), or name another with --url",
            code=Exit.UNREACHABLE,
        )

    async def pages(self, path: str, **params: str | int | None) -> AsyncIterator[Any]:
        """Every item of a list, page after page."""
        after: str | None = None
        while True:
            page = await self.call("GET", path, params={**params, "after": after})
            if not isinstance(page["items"], list):
                raise self.no_laurel("is no list")
            for item in page["items"]:
                yield item
            before, after = after, page.get("next")
            if after is None:
                return
            if after == before:
                raise self.no_laurel("leads to itself")

    async def call_when_known(self, method: str, path: str, **options: Any) -> Any:
        """`call`, with a new API key: until its event has reached the service (a second or so), that answers 401."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        while True:
            try:
                return await self.call(method, path, **options)
            except Refused as refused:
                if refused.status != 401 or loop.time() > deadline:
                    raise
                await asyncio.sleep(0.1)


def _retry_after(answer: httpx.Response) -> float:
    """Seconds (RFC 9110 §10.2.3; of its two forms the one that Laurel sends), and some more: not all at once."""
    given = answer.headers.get("retry-after", "")
    seconds = float(given) if given.isascii() and given.isdigit() and len(given) < 10 else 1.0
    return min(_LONGEST_WAIT_S, max(1.0, seconds)) * random.uniform(1.0, 1.25)  # noqa: S311 - jitter, not a secret


def _problem(answer: httpx.Response) -> dict[str, Any]:
    if "json" in answer.headers.get("content-type", ""):
        try:
            found = answer.json()
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
    return {}


def _refused(answer: httpx.Response) -> Refused:
    problem = _problem(answer)
    detail = str(problem.get("detail") or answer.reason_phrase or "no reason given")
    message = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {detail}"
    errors = problem.get("errors")
    fields = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    # The first error often is the detail.
    more = [f"{one.get('field')}: {one.get('detail')}" for one in fields if str(one.get("detail")) not in detail]
    message = "; ".join([message, *more[:5]])
    fix, code = "", Exit.NO
    if answer.status_code == 401:
        fix, code = "give an API key with --api-key or LAUREL_API_KEY", Exit.USAGE
    elif answer.status_code == 403:
        fix, code = "use an API key that has this scope", Exit.USAGE
    elif answer.status_code in (400, 422):
        fix, code = "correct what the message names", Exit.USAGE
    elif answer.status_code == 429:
        fix, code = "try again later", Exit.UNREACHABLE
    elif answer.status_code >= 500:
        fix, code = "look at `laurel status` and the server's log, then try again", Exit.UNREACHABLE
    return Refused(message, status=answer.status_code, problem=problem, fix=fix, code=code)


def connection(state: State, url: str | None, api_key: str | None, *, needed: bool = True) -> tuple[str, str]:
    """(URL, API key) to use: what was given, else what the state folder knows of `laurel up` and the demo.

    needed: whether knowing none is a Failure; else the URL is "".
    """
    address = url or str(state.read("state.json").get("public_url") or "")
    if not address and needed:
        raise Failure(
            "no Laurel to talk to",
            fix="give --url or LAUREL_URL, or --state with the folder of `laurel up`",
            code=Exit.USAGE,
        )
    key = api_key or ("" if url else str(state.read("demo.json").get("api_key") or ""))
    return address, key.strip()
