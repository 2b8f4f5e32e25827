"""`POST /verifier/v1/credentials/verify/batch`: NDJSON in, a verdict a line out, while the body still comes.

What is refused as a whole is a problem document before any work; what comes to light later is the last line.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from starlette.types import Message, Receive, Scope, Send

from laurel.database import is_unavailable
from laurel.problems import FieldError, Problem, bad_json, too_large
from laurel.security import BadJson, guard_json
from laurel_verifier.api import BATCH, MAX_JSON, ProblemDetailsOut, VerificationOut, unreadable
from laurel_verifier.batch import Batch, Ended, Limits, Line, Place, Places
from laurel_verifier.config import Settings
from laurel_verifier.documents import Unreadable
from laurel_verifier.downloads import PUBLIC
from laurel_verifier.intake import Intake
from laurel_verifier.verification import Verification

log = structlog.get_logger()

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
MOST_BATCHES = 32  # at the same time in one process
SILENCE_S = 30.0  # of whoever sends, or reads
PATIENCE_S = 120.0  # for both of them in all: a place is not held by a byte now and then
_LINGER_S = 2.0  # for the rest of a body that is not read: a connection that breaks off may lose the last line


class LineProblemOut(ProblemDetailsOut):
    """Why there is no verdict: what the API of one credential answers with."""

    status: int
    errors: list[FieldError] = Field(default=[], description="What is wrong, and where.")


class BatchLineOut(BaseModel):
    """One line of the answer: a verdict, or a problem."""

    line: int = Field(description="Of the body, from 1; blank lines are counted and have no answer.")
    verification: VerificationOut | None = None
    problem: LineProblemOut | None = None
    ended: bool = Field(
        default=False, description="true in the last line, where this line and the rest are not judged."
    )


class _Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    errors: tuple[dict[str, Any], ...] = ()


class _Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    line: int
    verification: Verification | None = None
    problem: _Problem | None = None
    ended: bool = False


class CredentialJudge:
    """Judges a line as the API judges the body of one request. No address is fetched that is not our own."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def answer(self, line: Line, place: Place) -> bytes:
        """A verdict, or a problem."""
        try:
            examined = await self._examine(line, place)
        except BadJson as error:
            return refused(line.number, bad_json(error))
        except Unreadable as error:
            return refused(line.number, unreadable(error))
        except Problem as problem:
            return refused(line.number, problem)
        except Exception as error:
            if is_unavailable(error):
                return refused(line.number, Problem(503, "unavailable", "a part that this needs is out of reach"))
            log.exception("unhandled error", line=line.number)
            return refused(line.number, Problem(500, "internal_error", "this is our fault and has been logged"))
        return msgspec.json.encode(_Answer(line.number, examined))

    def last(self, number: int, ended: Ended) -> bytes:
        """Why the rest is not judged."""
        return refused(number, Problem(_ENDS[ended.code], ended.code, ended.detail), ended=True)

    async def _examine(self, line: Line, place: Place) -> Verification:
        if line.too_long:
            raise too_long()
        raw = line.raw
        if raw[:1] == b'"':  # a token as a JSON string
            raw = guard_json(raw, max_bytes=MAX_JSON).encode()
        return (await self._intake.examine(raw, fetch=False, gate=place)).verification


_ENDS = {"too_large": 413, "too_many_lines": 413, "timeout": 408}


def too_long() -> BadJson:
    """What is wrong with a line that was passed over."""
    return BadJson("too_large", f"the line is longer than {MAX_JSON} bytes", "RFC 8259 §9")


def refused(number: int, problem: Problem, *, ended: bool = False) -> bytes:
    """A line that says why there is no verdict."""
    told = problem.document()
    errors = tuple(one.model_dump(exclude_none=True) for one in told.errors)
    shown = _Problem(told.type, told.title, told.status, told.detail, errors)
    return msgspec.json.encode(_Answer(number, problem=shown, ended=ended))


_DESCRIPTION = (
    "A line for each credential: the credential, its JWT as a JSON string, or an object with `credential` and "
    "`expected_recipient`, as for one."
)
_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {NDJSON[0]: {"schema": {"type": "string", "description": _DESCRIPTION}}},
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A line for each that is not blank, in their order; each of them has this schema.",
        "content": {NDJSON[0]: {"schema": {"$ref": "#/components/schemas/BatchLineOut"}}},
        "model": BatchLineOut,
    }
}


def add_batch(app: FastAPI, intake: Intake, settings: Settings) -> None:
    """Add the route to the verifier's application."""
    limits = Limits(MAX_JSON, settings.batch_max_lines, settings.batch_max_bytes)
    places = Places(settings.sandbox_processes)
    judge = CredentialJudge(intake)
    free = asyncio.Semaphore(MOST_BATCHES)

    @app.post(
        BATCH,
        tags=["verify"],
        summary="Verify many credentials",
        response_class=Response,
        responses=_ANSWERS,
        openapi_extra=_DOCS,
    )
    async def verify_batch(request: Request) -> Response:
        """Judges the lines side by side and answers in their order, while the body still comes. Read while you send:
        whoever does not read is not read from, either. No API key is needed."""
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in NDJSON:
            raise Problem(415, "unsupported_media_type", f"send {NDJSON[0]}: a credential a line")
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "unsupported_encoding", "send the body without Content-Encoding")
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.size:
            ended = limits.too_large()
            raise too_large(ended.detail, code=ended.code, headers={"Connection": "close"})
        if free.locked():
            detail = f"{MOST_BATCHES} batches are being judged here; send it again in a moment"
            raise Problem(429, "too_many_batches", detail, headers={"Retry-After": "5", "Connection": "close"})
        return _Streamed(Batch(judge, places, limits), free)


class _Gone(Exception):
    """Nobody is there any more to read the answer."""


class _Streamed(Response):
    """Answers while the body still comes. Starlette's StreamingResponse would read the body itself, and drop it."""

    media_type = NDJSON[0]

    def __init__(self, batch: Batch, free: asyncio.Semaphore) -> None:
        # A proxy shall pass on what there is. The connection may end with a body that was not read.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "close", **PUBLIC}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._batch = batch
        self._free = free
        self._gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        async with self._free:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async with asyncio.TaskGroup() as group:
                    body = _Body(receive, _Patience())
                    reader = _Patience()
                    watching = group.create_task(body.watch())
                    await self._batch.run(body.pieces(), lambda out: _sent(send, out, reader))
                    watching.cancel()
            except* _Gone:
                self._gone = True
            if self._gone:
                return
            await body.linger()
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Patience:
    """What a batch may wait for the other side: a while each time, and so long in all."""

    def __init__(self) -> None:
        self._left = PATIENCE_S

    @contextlib.asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Raises TimeoutError."""
        began = time.monotonic()
        async with asyncio.timeout(min(SILENCE_S, self._left)):
            yield
        self._left -= time.monotonic() - began


async def _sent(send: Send, out: bytes, patience: _Patience) -> None:
    try:
        async with patience.wait():
            await send({"type": "http.response.body", "body": out, "more_body": True})
    except (TimeoutError, OSError):
        raise _Gone from None


class _Body:
    """The body of a request, and whether somebody is still there behind its end."""

    def __init__(self, receive: Receive, patience: _Patience) -> None:
        self._receive = receive
        self._patience = patience
        self._read = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        """As they come. Raises Ended, _Gone."""
        while not self._read.is_set():
            try:
                async with self._patience.wait():
                    message = await self._next()
            except TimeoutError:
                detail = f"{SILENCE_S:g} s at once, or {PATIENCE_S:g} in all, were waited for; send the rest anew"
                raise Ended("timeout", detail) from None
            yield message.get("body", b"")

    async def watch(self) -> None:
        """Raise _Gone when the other side goes away after it has sent everything."""
        await self._read.wait()
        while True:
            await self._next()

    async def linger(self) -> None:
        """Read a little of what is not wanted."""
        with contextlib.suppress(TimeoutError, _Gone):
            async with asyncio.timeout(_LINGER_S):
                while not self._read.is_set():
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        if not message.get("more_body", False):
            self._read.set()
        return message
