"""`laurel issue bulk`: a file of results to a Laurel, checked first, in parts that can be sent again.

1. Every row is read and checked with the server's own code. What is wrong stays here, with line, field and reason.
2. Good rows go up in parts of at most 20,000, each with an Idempotency-Key made of the file and the part's number: a
   run that was killed is simply started again, and what had arrived is recognised.
3. The server's answers are collected: rows that it refuses (a contradiction with what it knows) join those of step 1.
4. All refused rows are written beside the file, as CSV.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from laurel_assessment.import_store import Form
from laurel_assessment.import_worker import read_record
from laurel_assessment.records import CsvRecords, Lines, Record, Splitter
from laurel_assessment.rows import Defaults, achievement_id, column_of, read_header
from laurel_local.client import Client, Refused
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure

PART_ROWS = 20_000
_PIECE = 1 << 16
_IN_FLIGHT_S = 330.0  # how long a server may believe in an upload whose sender died
_NO_ACHIEVEMENT = "00000000-0000-0000-0000-000000000000"  # stands in for a --dry-run that names none
_NDJSON = (".ndjson", ".jsonl", ".json")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not taken. line: where it begins in the file, from 1."""

    line: int
    field: str
    code: str
    detail: str
    row: str


@dataclass
class Part:
    """Rows that go up together. lines: place in the part's body → line in the file."""

    number: int
    body: bytearray
    lines: dict[int, int] = field(default_factory=dict)
    next_line: int = 1

    def add(self, record: Record) -> None:
        """One more row."""
        self.lines[self.next_line] = record.line
        self.body += record.raw + b"\n"
        self.next_line += record.raw.count(b"\n") + 1


class ResultsFile:
    """A CSV or NDJSON file of results. Raises Failure when it is neither, or its header cannot be used."""

    def __init__(self, path: Path, defaults: Defaults) -> None:
        self.path = path
        self._defaults = defaults
        self.is_csv = path.suffix.lower() not in _NDJSON
        self._header = b""
        self._form = Form()
        self._digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    self._digest.update(piece)
                file.seek(0)
                if self.is_csv:
                    self._header = self._read_header(file.readline())
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}", fix="name a readable file", code=Exit.USAGE) from None

    def _read_header(self, line: bytes) -> bytes:
        found = read_header(line.rstrip(b"\r\n"), self._defaults)
        if isinstance(found, list):
            wrong = "; ".join(f"{one.field}: {one.detail}" for one in found)
            raise Failure(f"{self.path}: {wrong}", fix="correct the first line; nothing was sent", code=Exit.USAGE)
        self._form = Form(found)
        return line

    def key(self, part: int, course_run: str | None, achievement: str | None) -> str:
        """The Idempotency-Key of a part: the same file, part and parameters have the same one."""
        digest = self._digest.copy()
        for text in (course_run or "", achievement or "", str(part)):
            digest.update(b"\0" + text.encode())
        return f"bulk-{digest.hexdigest()[:40]}"

    def records(self) -> Iterator[Record]:
        """The rows as they stand in the file."""
        splitter: Splitter
        with self.path.open("rb") as file:
            if self._form.csv is not None:
                file.seek(len(self._header))
                splitter = CsvRecords(self._form.csv.delimiter, line=1)
            else:
                splitter = Lines()
            while piece := file.read(_PIECE):
                yield from splitter.feed(piece)
            yield from splitter.finish()

    def refusals(self, record: Record, now: datetime) -> list[Refusal]:
        """What is wrong with a row, by the server's own rules; [] for a good one."""
        arrival = read_record(record, self._form, self._defaults, now)
        findings = [column_of(one) for one in arrival.findings] if self.is_csv else arrival.findings
        return [Refusal(record.line, one.field, one.code, one.detail, arrival.shown) for one in findings]

    def parts(self, now: datetime) -> Iterator[Part]:
        """The good rows, in parts. Cut by good rows alone, so that the same file always gives the same parts."""
        part = self._part(0)
        for record in self.records():
            if self.refusals(record, now):
                continue
            if len(part.lines) == PART_ROWS:
                yield part
                part = self._part(part.number + 1)
            part.add(record)
        if part.lines:
            yield part

    def _part(self, number: int) -> Part:
        header = bytearray(self._header.rstrip(b"\r\n") + b"\n") if self.is_csv else bytearray()
        return Part(number, header, next_line=2 if self.is_csv else 1)


@dataclass
class Tally:
    """What became of the file's rows."""

    rows: int = 0
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)

    @property
    def refused_rows(self) -> int:
        """Rows, not reasons: one row may have several."""
        return len({one.line for one in self.refusals})

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
    """Check, send, collect, write what was refused. PARTIAL when rows were refused."""
    named = achievement_id(achievement, url.rstrip("/")) if achievement else None
    if achievement and named is None:
        raise Failure(f"--achievement {achievement!r} is neither an id nor a URL of this Laurel", code=Exit.USAGE)
    defaults = Defaults(url.rstrip("/"), named or (_NO_ACHIEVEMENT if dry_run else None), course_run)
    results = ResultsFile(file, defaults)
    tally = Tally()
    now = datetime.now(UTC)
    with _progress(output) as progress:
        checking = progress.add_task("checking", total=None)
        for record in results.records():  # 1
            tally.rows += 1
            tally.refusals += results.refusals(record, now)
            if tally.rows % 1000 == 0:
                progress.update(checking, completed=tally.rows)
        good = tally.rows - tally.refused_rows
        progress.update(checking, completed=tally.rows, total=tally.rows)
        if not dry_run and good:
            sending = progress.add_task("sending", total=good)
            async with Client(url, api_key) as client:
                for part in results.parts(now):  # 2
                    key = results.key(part.number, course_run, named)
                    await _send(client, part, key, results.is_csv, named, course_run, tally)
                    progress.update(sending, completed=tally.sent)
    tally.refusals.sort(key=lambda one: one.line)
    refused_file = _write_refusals(file, tally.refusals)  # 4
    output.result(tally.as_json(file, refused_file))
    if not output.as_json:
        _show(tally, file, refused_file, dry_run, output)
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
            # The same part is still on its way from a run that was killed: the server finds out after a while.
            if refused.status != 409 or loop.time() > deadline:
                raise
            await asyncio.sleep(0.5)
    path = f"/assessment/v1/results/imports/{answer['import_id']}"
    while True:
        status = await client.call("GET", path)
        if status["status"] in ("done", "failed"):
            break
        await asyncio.sleep(0.2)
    if status["status"] == "failed":
        raise Failure(f"import {answer['import_id']} failed: {status['failure']}", fix="run the same command again")
    tally.imports.append(answer["import_id"])
    tally.sent += len(part.lines)
    tally.outcomes.update({name: status[name] for name in ("passed", "not_passed", "duplicate")})
    async for item in client.pages(f"{path}/rejections", limit=1000):  # 3
        line = part.lines.get(item["line"], 0)
        for one in item["errors"]:
            tally.refusals.append(Refusal(line, one["field"], one["code"], one["detail"], item["row"] or ""))


def _write_refusals(file: Path, refusals: list[Refusal]) -> Path | None:
    """FILE.rejected.csv beside the file, replaced whole; removed when nothing was refused."""
    target = file.with_name(f"{file.stem}.rejected.csv")
    if not refusals:
        target.unlink(missing_ok=True)
        return None
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
        TextColumn("{task.description:>9}"), BarColumn(), TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(), TimeRemainingColumn(),
        console=output.err, disable=not output.err.is_terminal, transient=True,
    )  # fmt: skip


def _show(tally: Tally, file: Path, refused_file: Path | None, dry_run: bool, output: Output) -> None:
    good = tally.rows - tally.refused_rows
    if dry_run:
        bad = tally.refused_rows
        output.out.print(f"{file}: {tally.rows:,} rows, {good:,} good, {bad:,} to correct. Nothing was sent.")
    else:
        names = ("passed", "not_passed", "duplicate")
        counts = ", ".join(f"{tally.outcomes[name]:,} {name.replace('_', ' ')}" for name in names)
        output.out.print(f"{file}: {tally.rows:,} rows, {tally.sent:,} sent: {counts}; {tally.refused_rows:,} refused.")
    for code, count in tally.reasons().items():
        output.out.print(f"  {count:>6,} {code}")
    if refused_file is not None:
        output.out.print(f"Refused rows, with line, field and reason: {refused_file}")
