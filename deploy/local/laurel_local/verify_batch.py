"""`laurel verify --batch`: a file with a credential a line, and the verdict on each, while the rest is still judged.

With a server it goes there in parts: a client that sends everything before it reads would wait for itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from rich.text import Text

from laurel.plain_text import legible
from laurel.problems import bad_json
from laurel_local.client import Client
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from laurel_local.verify import local_intake
from laurel_verifier.api import BATCH, MAX_JSON
from laurel_verifier.batch import Batch, Limits, Line, Lines, Places
from laurel_verifier.batch_api import NDJSON, CredentialJudge, refused, too_long

Show = Callable[[dict[str, Any]], None]

_PIECE = 64 << 10
_PART_LINES = 500
_PART_BYTES = 1 << 20


async def run(source: str, *, url: str | None, local: bool, output: Output) -> Exit:
    """The exit code is that of the worst line: NO before UNREACHABLE before OK."""
    seen: Counter[str] = Counter()

    def show(answer: dict[str, Any]) -> None:
        seen[_word(answer)] += 1
        output.result(answer, line=True)
        if not output.as_json:
            _show(answer, output)

    with _opened(source) as file:
        await (_ask(url, file, show) if url else _here(file, show, local=local))
    if not seen:
        raise Failure(f"{source}: there is no credential in it", fix="write one on each line", code=Exit.USAGE)
    if not output.as_json:
        parts = ", ".join(f"{count:,} {word.replace('_', ' ')}" for word, count in seen.most_common())
        output.out.print(f"{seen.total():,} lines: {parts}")
    if set(seen) <= {"valid"}:
        return Exit.OK
    return Exit.UNREACHABLE if set(seen) <= {"valid", "could_not_check"} else Exit.NO


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        if sys.stdin is None:
            raise Failure("standard input is closed", fix="name a file", code=Exit.USAGE)
        yield sys.stdin.buffer
        return
    with _open(source) as file:
        yield file


def _open(source: str) -> BinaryIO:
    try:
        return Path(source).open("rb")
    except OSError as error:
        fix = "name a file, or - for standard input"
        raise Failure(f"{source}: {error.strerror}", fix=fix, code=Exit.USAGE) from None


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    read = getattr(file, "read1", file.read)  # of what is buffered, what has come so far
    while piece := await asyncio.to_thread(read, _PIECE):
        yield piece


# --- here -----------------------------------------------------------------------------------------------------------


async def _here(file: BinaryIO, show: Show, *, local: bool) -> None:
    processes = os.cpu_count() or 1
    limits = Limits(MAX_JSON, sys.maxsize, sys.maxsize)

    async def shown(out: bytes) -> None:
        for answer in out.splitlines():
            show(msgspec.json.decode(answer))

    async with local_intake(local=local, processes=processes) as intake:
        await Batch(CredentialJudge(intake), Places(processes), limits).run(_pieces(file), shown)


# --- there ----------------------------------------------------------------------------------------------------------


async def _ask(url: str, file: BinaryIO, show: Show) -> None:
    async with Client(url) as client:
        await _in_parts(file, lambda part: _ask_about(client, part, show))


async def _in_parts(file: BinaryIO, ask: Callable[[list[Line]], Awaitable[None]]) -> None:
    lines = Lines(MAX_JSON)
    part: list[Line] = []
    size = 0

    async def take(line: Line) -> None:
        nonlocal part, size
        if part and (len(part) >= _PART_LINES or size + len(line.raw) > _PART_BYTES):
            await ask(part)
            part, size = [], 0
        part.append(line)
        size += len(line.raw)

    async for piece in _pieces(file):
        for line in lines.feed(piece):
            await take(line)
    for line in lines.finish():
        await take(line)
    if part:
        await ask(part)


async def _ask_about(client: Client, part: list[Line], show: Show) -> None:
    sent = iter(part)
    body = b"\n".join(line.raw for line in part if not line.too_long)
    answered = 0
    if body:
        async for answer in client.lines("POST", BATCH, body=body, headers={"Content-Type": NDJSON[0]}):
            if answer.get("ended"):
                break
            line = next(sent)
            while line.too_long:
                show(_too_long(line))
                line = next(sent)
            show({**answer, "line": line.number})
            answered += 1
    if answered < sum(not line.too_long for line in part):
        fix = "send the rest again; look at the server's log"
        raise Failure(f"{client.url} ended before line {next(sent).number}", fix=fix, code=Exit.UNREACHABLE)
    for line in sent:
        show(_too_long(line))


def _too_long(line: Line) -> dict[str, Any]:
    answer: dict[str, Any] = msgspec.json.decode(refused(line.number, bad_json(too_long())))
    return answer


# --- what is shown --------------------------------------------------------------------------------------------------


def _word(answer: dict[str, Any]) -> str:
    """The verdict; what holds no credential is invalid, unless the fault is not its own."""
    if "verification" in answer:
        return str(answer["verification"]["verdict"])
    problem = answer["problem"]
    unasked = problem["type"].endswith(":fetch_refused")  # nothing was looked at, so nothing is said of it
    return "could_not_check" if problem["status"] >= 500 or unasked else "invalid"


def _show(answer: dict[str, Any], output: Output) -> None:
    word = _word(answer)
    found = answer.get("verification", {})
    wrong = next((one for one in found.get("checks", ()) if one["outcome"] in ("failed", "not_checked")), None)
    parts = [str(found.get("id") or "")]
    if word != "valid":
        parts.append(
            answer["problem"]["detail"] if not found else f"{wrong['step']}: {wrong['detail']}" if wrong else ""
        )
    colour = {"valid": "green", "could_not_check": "yellow"}.get(word, "red")
    # A stranger's words: they may not draw a line of their own.
    text = legible(" · ".join(part for part in parts if part))
    output.out.print(Text.assemble(f"{answer['line']:>6}  ", (f"{word.replace('_', ' '):<15}", colour), "  ", text))
