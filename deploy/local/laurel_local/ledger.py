"""`laurel reconcile --by …, --day …, --ids …`: how every accepted row ended, and the ids behind each number.

Each row that the assessment service decided has exactly one end, so the columns of a line add up to what was accepted.
A passed row ends where its credential stands: issued, else erased with its learner, else dead-lettered, else waiting,
else missing (unaccounted for).
Rows come in pages and are counted as they come; only the ids of credentials are held, 16 bytes each.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, get_args

import msgspec
from rich.table import Table

from laurel_local.client import Client
from laurel_local.commands import By, Ids
from laurel_local.console import Output
from laurel_local.exits import Exit
from laurel_local.letters import dead_letters, keys_of

End = Literal["issued", "erased", "not_passed", "duplicate", "rejected", "dead_lettered", "waiting", "missing"]
ENDS: tuple[End, ...] = get_args(End)
PAGE = 10_000
_NO_RUN = "(none)"


@dataclass(frozen=True, slots=True)
class Known:
    """Where credentials stand, by their ids. dead: letters of the issuer; lost: letters of the verifier."""

    issued: set[bytes]
    indexed: set[bytes]
    dead: set[bytes]
    waiting: set[bytes]
    lost: set[bytes]
    erased: set[bytes] = field(default_factory=set)


async def known(client: Client, course_run: str | None) -> Known:
    """Ask issuer and verifier. Letters first: what is redriven meanwhile stands in both, and never in neither."""
    letters = await dead_letters(client)
    waiting = {
        uuid.UUID(one["credential_id"]).bytes
        async for one in client.pages("/issuer/v1/reports/waiting", course_run=course_run, limit=PAGE)
    }
    issued, indexed = await asyncio.gather(
        *(ids_of(client, f"/{name}/v1/reports/credentials", course_run) for name in ("issuer", "verifier"))
    )
    erased = await ids_of(client, "/issuer/v1/reports/erased")  # last: what is erased meanwhile stands here at least
    return Known(issued, indexed, keys_of(letters, "issuer"), waiting, keys_of(letters, "verifier"), erased)


async def ids_of(client: Client, path: str, course_run: str | None = None) -> set[bytes]:
    """Every id of a report. 16 bytes instead of 36 characters: a million of them must fit three times."""
    return {uuid.UUID(one).bytes async for one in client.pages(path, course_run=course_run, limit=PAGE)}


def end_of(row: dict[str, Any], where: Known) -> End:
    """The one end of a decided row."""
    if row["outcome"] != "passed":
        outcome: End = row["outcome"]
        return outcome
    credential = uuid.UUID(row["credential_id"]).bytes
    if credential in where.issued:
        return "issued"
    if credential in where.erased:
        return "erased"
    if credential in where.dead:
        return "dead_lettered"
    return "waiting" if credential in where.waiting else "missing"


async def rows(client: Client, course_run: str | None, day: date | None) -> AsyncIterator[dict[str, Any]]:
    """Every decided row, in order of its id."""
    query = {"course_run": course_run, "day": None if day is None else day.isoformat(), "limit": PAGE}
    async for row in client.pages("/assessment/v1/reports/outcomes", **query):
        yield row


def wanted(row: dict[str, Any], end: End, where: Known, ids: Ids) -> bool:
    """Whether a row is among those behind the number `ids`."""
    if ids in ("indexed", "not_indexed"):
        if end != "issued":
            return False
        credential = uuid.UUID(row["credential_id"]).bytes
        if ids == "indexed":
            return credential in where.indexed
        return not any(credential in one for one in (where.indexed, where.lost, where.erased))
    return ids == "accepted" or end == ids or (ids == "passed" and row["outcome"] == "passed")


async def run(
    client: Client, course_run: str | None, *, day: date | None, by: Sequence[By], ids: Ids | None, output: Output
) -> Exit:
    """The command. NO: something is missing, or there are no such rows."""
    counts: dict[tuple[str, ...], Counter[str]] = {}
    total: Counter[str] = Counter()
    found = 0
    async with client:
        where = await known(client, course_run)
        async for row in rows(client, course_run, day):
            end = end_of(row, where)
            found += 1
            if ids is not None:
                if wanted(row, end, where, ids):
                    _tell(row, end, output)
                    total[ids] += 1
                total["missing"] += end == "missing"
                continue
            key = tuple((row["course_run"] or _NO_RUN) if one == "course-run" else row["day"] for one in by)
            line = counts.setdefault(key, Counter())
            for name in ("accepted", end, *(("indexed",) if wanted(row, end, where, "indexed") else ())):
                line[name] += 1
                total[name] += 1
    if ids is not None:
        if not found:
            output.note("no results of such a course run or day")
        return Exit.NO if total["missing"] or not found else Exit.OK
    output.result(
        {
            "course_run": course_run, "day": None if day is None else day.isoformat(), "by": list(by),
            "lines": [
                {**{_field(one): word for one, word in zip(by, key, strict=True)}, **_numbers(line)}
                for key, line in sorted(counts.items())
            ],
            "total": _numbers(total),
        }
    )  # fmt: skip
    if not output.as_json:
        output.out.print(_table(by, counts, total))
        word = f"{total['missing']:,} unaccounted for; --ids missing names them" if total["missing"] else ""
        output.out.print(word or ("everything is accounted for" if total["accepted"] else "no results"))
    return Exit.NO if total["missing"] or not total["accepted"] else Exit.OK


def _tell(row: dict[str, Any], end: End, output: Output) -> None:
    """One line: the credential's id, or the result's where there is no credential; with --json the whole row."""
    if output.as_json:
        text = msgspec.json.encode({**row, "end": end}).decode()
    else:
        text = row["credential_id"] or row["result_id"]
    sys.stdout.write(text + "\n")


def _field(by: By) -> str:
    return by.replace("-", "_")


def _numbers(line: Counter[str]) -> dict[str, int]:
    return {name: line[name] for name in ("accepted", *ENDS, "indexed")}


def _table(by: Sequence[By], counts: dict[tuple[str, ...], Counter[str]], total: Counter[str]) -> Table:
    table = Table(box=None, show_footer=True)
    for place, one in enumerate(by):
        table.add_column(one.replace("-", " "), footer="" if place else "total")
    for name, number in _numbers(total).items():
        table.add_column(name.replace("_", " "), justify="right", footer=f"{number:,}")
    for key, line in sorted(counts.items()):
        table.add_row(*key, *(f"{number:,}" for number in _numbers(line).values()))
    return table
