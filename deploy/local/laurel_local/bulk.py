"""`laurel issue bulk`: a file of results to a Laurel, checked first, in parts that can be sent again.

1. Every row is read and checked with the server's own code. What is wrong stays here, with line, field and reason.
2. Good rows go up in parts of at most 20,000, each with an Idempotency-Key made of the part's own bytes: a run that
   was killed is simply started again, and what had arrived is recognised.
   A server that is too busy is asked again when it says, for as long as it takes.
3. The server's answers are collected: rows that it refuses (a contradiction with what it knows) join those of step 1.
4. Refused rows, where there are any, are written beside the file: FILE.rejected.csv.
"""

from __future__ import annotations

import asyncio
import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from laurel_assessment.rows import MAX_COURSE_RUN, Defaults, achievement_id
from laurel_local.client import Client, Refused
from laurel_local.console import Output, Rate
from laurel_local.exits import Exit, Failure
from laurel_local.results_file import Part, Refusal, ResultsFile, in_options, readable

_IN_FLIGHT_S = 330.0  # how long a server may believe in an upload whose sender died
_NOWHERE = "https://no-laurel.invalid"  # RFC 6761 §6.4: nobody's address


@dataclass
class Tally:
    """What became of the file's rows."""

    rows: int = 0
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)

    _lines: set[int] = field(default_factory=set)

    def refuse(self, refusals: list[Refusal]) -> None:
        """Rows that were not taken."""
        self.refusals += refusals
        self._lines.update(one.line for one in refusals)

    @property
    def refused_rows(self) -> int:
        """Rows, not reasons: one row may have several."""
        return len(self._lines)

    @property
    def failures(self) -> str:
        """For the progress bar."""
        return f"{self.refused_rows:,} refused" if self._lines else ""

    def reasons(self) -> dict[str, int]:
        """How many rows were refused for which reason; a row with several counts under its first."""
        first = {one.line: one.code for one in reversed(self.refusals)}
        return dict(Counter(first.values()).most_common())

    def as_json(self, file: Path, refused_file: Path | None) -> dict[str, Any]:
        """For --json."""
        return {
            "file": str(file), "rows": self.rows, "sent": self.sent, "passed": self.outcomes["passed"],
            "not_passed": self.outcomes["not_passed"], "duplicate": self.outcomes["duplicate"],
            "refused": self.refused_rows, "refused_for": self.reasons(),
            "refused_file": str(refused_file) if refused_file else None, "imports": self.imports,
        }  # fmt: skip


async def run(
    file: Path,
    *,
    url: str,
    api_key: str,
    achievement: str | None,
    course_run: str | None,
    dry_run: bool,
    output: Output,
) -> Exit:
    """Check, send, collect, write what was refused. PARTIAL when rows were refused.

    file: - for standard input. url: "" for a dry run that knows no Laurel; then URLs of achievements are unknown.
    """
    base_url = url.rstrip("/") or _NOWHERE
    named = achievement_id(achievement, base_url) if achievement else None
    if achievement and named is None:
        where = f"a URL below {base_url}/achievements/" if url else "(no Laurel is known: give --url) a URL of one"
        raise Failure(
            f"--achievement {achievement!r} is neither an id nor {where}",
            fix="copy the id that publishing the achievement answered",
            code=Exit.USAGE,
        )
    if course_run is not None and not (0 < len(course_run) <= MAX_COURSE_RUN and course_run.isprintable()):
        raise Failure(
            f"--course-run: write 1 to {MAX_COURSE_RUN} printable characters; nothing was sent", code=Exit.USAGE
        )
    name = "standard input" if str(file) == "-" else str(file)
    tally = Tally()
    now = datetime.now(UTC)
    with readable(file) as path:
        results = ResultsFile(path, Defaults(base_url, named, course_run), name="" if path == file else name)
        with _progress(output) as progress:
            checking = progress.add_task("checking", total=None, failures="")
            for record in results.records():  # 1
                tally.rows += 1
                tally.refuse(results.refusals(record, now))
                if tally.rows % 1000 == 0:
                    progress.update(checking, completed=tally.rows, failures=tally.failures)
            if not tally.rows:
                fix = "check that this is the file that was meant; nothing was sent"
                raise Failure(f"{name}: there is no row in it", fix=fix, code=Exit.USAGE)
            good = tally.rows - tally.refused_rows
            progress.update(checking, completed=tally.rows, total=tally.rows, failures=tally.failures)
            if not dry_run and good:
                sending = progress.add_task("sending", total=good, failures=tally.failures)
                async with Client(url, api_key) as client:
                    client.patience_s = math.inf
                    client.waits = lambda seconds, why: output.note(f"Waiting {seconds:.0f} s: {why}")
                    for part in results.parts(now):  # 2
                        key = results.key(part, course_run, named)
                        await _send(client, part, key, results.is_csv, named, course_run, tally)
                        progress.update(sending, completed=tally.sent, failures=tally.failures)
    tally.refusals.sort(key=lambda one: one.line)
    target = _target(file)
    refused_file = _write_refusals(target, tally.refusals) if tally.refusals else None  # 4
    output.result(tally.as_json(file, refused_file))
    if not output.as_json:
        _show(tally, name, refused_file, dry_run, output)
    if refused_file is None and target.exists():
        output.note(f"{target} is of an earlier run; this one refused nothing.")
    return Exit.PARTIAL if tally.refusals else Exit.OK


async def _send(
    client: Client,
    part: Part,
    key: str,
    is_csv: bool,
    achievement: str | None,
    course_run: str | None,
    tally: Tally,
) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _IN_FLIGHT_S
    headers = {"Content-Type": "text/csv" if is_csv else "application/x-ndjson", "Idempotency-Key": key}
    params = {"achievement": achievement, "course_run": course_run}
    while True:
        try:
            answer = await client.call(
                "POST", "/assessment/v1/results/imports", params=params, headers=headers, body=bytes(part.body)
            )
            break
        except Refused as refused:
            # 409: the same part is still on its way from a run that was killed: the server finds out after a while.
            # 503: something that the server needs is away for now.
            if refused.status not in (409, 503) or loop.time() > deadline:
                raise _in_options(refused) from None
            await asyncio.sleep(0.5 if refused.status == 409 else 2.0)
    if not re.fullmatch("[0-9A-Za-z-]{1,64}", str(answer["import_id"])):
        raise client.no_laurel("names no import")
    path = f"/assessment/v1/results/imports/{answer['import_id']}"
    while True:
        status = await client.call("GET", path)
        if status["status"] in ("done", "failed"):
            break
        if status["status"] not in ("receiving", "processing"):
            raise client.no_laurel(f"says that an import is {status['status']!r}")
        await asyncio.sleep(0.2)
    if status["status"] == "failed":
        raise Failure(f"import {answer['import_id']} failed: {status['failure']}", fix="run the same command again")
    tally.imports.append(answer["import_id"])
    tally.sent += len(part.lines)
    tally.outcomes.update({name: status[name] for name in ("passed", "not_passed", "duplicate")})
    async for item in client.pages(f"{path}/rejections", limit=1000):  # 3
        line = part.lines.get(item["line"], 0)
        for one in item["errors"]:
            tally.refuse([Refusal(line, one["field"], one["code"], in_options(one["detail"]), item["row"] or "")])


def _in_options(refused: Refused) -> Failure:
    """An upload that the server will not take, in the words of this command's options."""
    if refused.status not in (400, 404, 422):
        return refused
    fields = {str(one.get("field", "")): str(one.get("detail", "")) for one in refused.errors}
    for name in ("achievement", "course_run"):
        for place, detail in fields.items():
            if name in place:
                option = f"--{name.replace('_', '-')}"
                return Failure(f"{option}: {in_options(detail)}", fix=f"correct {option}", code=Exit.USAGE)
    return Failure(refused.message, fix=refused.fix, code=Exit.USAGE)


def _target(file: Path) -> Path:
    """Where refused rows go: beside the file, under its whole name; of standard input and pipes, here."""
    if str(file) == "-" or not file.is_file():
        return Path("stdin.rejected.csv")
    return file.with_name(f"{file.name}.rejected.csv")


def _write_refusals(target: Path, refusals: list[Refusal]) -> Path:
    """The list of refused rows, replaced whole."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["line", "field", "code", "detail", "row"])
    writer.writerows((one.line, one.field, one.code, one.detail, _harmless(one.row)) for one in refusals)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(text.getvalue(), encoding="utf-8", newline="")
        partial.replace(target)
    except OSError as error:
        raise Failure(
            f"{target} cannot be written: {error.strerror}; {len(refusals)} refusals are not listed",
            fix="make its folder writable and run the same command again: nothing is sent twice",
            code=Exit.USAGE,
        ) from None
    return target


def _harmless(row: str) -> str:
    """A spreadsheet takes a cell that begins like this for a formula, and the row is a stranger's."""
    return "'" + row if row[:1] in ("=", "+", "-", "@", "\t", "\r") else row


def _progress(output: Output) -> Progress:
    return Progress(
        TextColumn("{task.description:>9}"), BarColumn(), TextColumn("{task.completed:,.0f} rows"), Rate(),
        TextColumn("[red]{task.fields[failures]}"), TimeElapsedColumn(), TimeRemainingColumn(),
        console=output.err, disable=not output.err.is_terminal, transient=True,
    )  # fmt: skip


def _show(tally: Tally, name: str, refused_file: Path | None, dry_run: bool, output: Output) -> None:
    good = tally.rows - tally.refused_rows
    if dry_run:
        bad = tally.refused_rows
        output.out.print(f"{name}: {tally.rows:,} rows, {good:,} good, {bad:,} to correct. Nothing was sent.")
    else:
        names = ("passed", "not_passed", "duplicate")
        counts = ", ".join(f"{tally.outcomes[one]:,} {one.replace('_', ' ')}" for one in names)
        output.out.print(f"{name}: {tally.rows:,} rows, {tally.sent:,} sent: {counts}; {tally.refused_rows:,} refused.")
    for code, count in tally.reasons().items():
        output.out.print(f"  {count:>6,} {code}")
    if refused_file is not None:
        output.out.print(f"Refused rows, with line, field and reason: {refused_file}")
