"""The file that `laurel issue bulk` reads: its rows, checked by the server's own code, cut into parts to send."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from laurel_assessment.import_store import Form
from laurel_assessment.import_worker import read_record
from laurel_assessment.records import CsvRecords, Lines, Record, Splitter
from laurel_assessment.rows import Defaults, column_of, read_header
from laurel_local.exits import Exit, Failure

PART_ROWS = 20_000
_PIECE = 1 << 16
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
    """A CSV or NDJSON file of results. Raises Failure when it is neither, or its header cannot be used.

    path: what is read; name: what it is called before people, its ending says what it is. Standard input and pipes have
    no ending and are recognised by their first character.
    """

    def __init__(self, path: Path, defaults: Defaults, *, name: str = "") -> None:
        self.path = path
        self.name = name or str(path)
        self._defaults = defaults
        self._header = b""
        self._form = Form()
        try:
            with path.open("rb") as file:
                self.is_csv = self._is_csv(file)
                if self.is_csv:
                    self._header = self._read_header(file.readline())
        except OSError as error:
            raise Failure(f"{self.name}: {error.strerror}", fix="name a readable file", code=Exit.USAGE) from None

    def _is_csv(self, file: BinaryIO) -> bool:
        begin = file.read(_PIECE)
        file.seek(0)
        text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
        ending = Path(self.name).suffix.lower()
        if ending not in _NDJSON and (ending or text[:1] not in (b"{", b"[")):
            return True
        first = text.partition(b"\n")[0].strip()
        if first == b"{" or first[:1] == b"[":
            raise Failure(
                f"{self.name} is JSON, but not NDJSON: Laurel reads one object a line",
                fix="write each result on a line of its own, for example with: jq -c '.[]' (or jq -c . for one result)",
                code=Exit.USAGE,
            )
        return False

    def _read_header(self, line: bytes) -> bytes:
        found = read_header(line.rstrip(b"\r\n"), self._defaults)
        if isinstance(found, list):
            wrong = "; ".join(f"{one.field}: {in_options(one.detail)}" for one in found)
            only_unnamed = all(one.field == "achievement" for one in found)
            fix = "name the achievement with --achievement" if only_unnamed else "correct the first line"
            raise Failure(f"{self.name}: {wrong}", fix=f"{fix}; nothing was sent", code=Exit.USAGE)
        self._form = Form(found)
        return line

    def key(self, part: Part, course_run: str | None, achievement: str | None) -> str:
        """The Idempotency-Key of a part: whatever is sent is in it, so that one key never stands for two bodies.

        Not of the file: which of its rows are good may depend on the day (a completion in the future) and on Laurel.
        """
        digest = hashlib.sha256(part.body)
        for text in (course_run or "", achievement or "", "csv" if self.is_csv else "ndjson", str(part.number)):
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
        return [Refusal(record.line, one.field, one.code, in_options(one.detail), arrival.shown) for one in findings]

    def parts(self, now: datetime) -> Iterator[Part]:
        """The good rows, in parts. Cut by good rows alone, so that the same good rows always give the same parts."""
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


def in_options(detail: str) -> str:
    """The server's words for whoever uses a command line: it names options where the server names parameters."""
    return detail.replace("?achievement=", "--achievement")


@contextlib.contextmanager
def readable(file: Path) -> Iterator[Path]:
    """A path that can be read more than once: the file itself, or a copy of standard input (-) or of a pipe."""
    try:
        if str(file) != "-" and (file.is_file() or file.is_dir() or not file.exists()):
            yield file
            return
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", fix="name a readable file", code=Exit.USAGE) from None
    if str(file) == "-" and sys.stdin is None:
        raise Failure("standard input is closed", fix="name a file, or send one in with <", code=Exit.USAGE)
    with tempfile.TemporaryDirectory(prefix="laurel-") as folder:
        copy = Path(folder) / "results"
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, _PIECE)
        yield copy
