"""Cutting a stream into whole records, whatever pieces it arrives in, holding no more than one record at a time. Pure.

A record that is longer than 64 kB, or a CSV quote that is never rightly closed, costs that line and no other.
"""

from __future__ import annotations

import csv
from typing import Protocol

import msgspec
from msgspec.structs import replace

from laurel_assessment.rows import MAX_ROW

_SHOWN = 500  # bytes kept of a record that is too long


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record: the line it begins on (from 1), its bytes, and what is wrong with it already ("" for nothing)."""

    line: int
    raw: bytes
    problem: str = ""


PROBLEMS = {
    "row_too_long": f"this row is longer than {MAX_ROW} bytes",
    "unclosed_quote": 'a quoted field begins in this row and never ends; double the quotes inside fields ("")',
}


class Splitter(Protocol):
    """Takes the stream piece by piece and returns the records that are whole by now."""

    def feed(self, data: bytes) -> list[Record]:
        """The records that end within `data`."""
        ...

    def finish(self) -> list[Record]:
        """What is left when the stream has ended."""
        ...


class Lines:
    """NDJSON: a record a line. Blank lines count as lines and are no records."""

    def __init__(self, *, line: int = 0, strip: bytes = b" \t\r", blank: bool = False) -> None:
        self._line = line
        self._strip = strip
        self._blank = blank  # whether blank lines are wanted, too
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Record]:
        """The lines that end within `data`."""
        if self._skipping:
            end = data.find(b"\n")
            if end < 0:
                return []
            self._skipping = False
            data = data[end + 1 :]
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        records = [self._record(line) for line in lines]
        if len(self._rest) > MAX_ROW:
            records.append(self._record(self._rest))
            self._rest = b""
            self._skipping = True
        return records if self._blank else [record for record in records if record.raw]

    def finish(self) -> list[Record]:
        """The last line, if it has no line end."""
        rest, self._rest = self._rest, b""
        record = self._record(rest)
        return [record] if record.raw else []

    def _record(self, raw: bytes) -> Record:
        self._line += 1
        if len(raw) > MAX_ROW:
            return Record(self._line, raw[:_SHOWN], "row_too_long")
        return Record(self._line, raw.strip(self._strip))


class CsvRecords:
    """CSV (RFC 4180): a quoted field may hold line ends. `line` is the number of the header's line."""

    def __init__(self, delimiter: str, *, line: int) -> None:
        self._lines = Lines(line=line, strip=b"\r", blank=True)
        # Spreadsheets write empty rows as bare delimiters.
        self._blank = f" \t\r{delimiter}".encode()
        self._delimiter = delimiter.encode()
        self._open: list[Record] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Record]:
        """The records that end within `data`."""
        return self._join(self._lines.feed(data))

    def finish(self) -> list[Record]:
        """What is left; a quote that is still open is given up."""
        records = self._join(self._lines.finish())
        return records + self._give_up()

    def _join(self, lines: list[Record]) -> list[Record]:
        records: list[Record] = []
        for line in lines:
            if line.problem:
                records += self._give_up()
                records.append(line)
            elif not self._open:
                if b'"' in line.raw and self._ends_inside(line.raw, False):
                    self._open, self._size = [line], len(line.raw)
                elif line.raw.strip(self._blank):
                    records.append(line)
            else:
                self._open.append(line)
                self._size += len(line.raw) + 1
                if self._size > MAX_ROW:
                    records += self._give_up()
                elif b'"' in line.raw and not self._ends_inside(line.raw, True):
                    joined = Record(self._open[0].line, b"\n".join(one.raw for one in self._open))
                    if self._is_csv(joined.raw):
                        records.append(joined)
                        self._open = []
                    else:
                        records += self._give_up()
        return records

    def _is_csv(self, raw: bytes) -> bool:
        """Whether these lines are one record. If not, a stray quote would have swallowed good rows that follow it."""
        try:
            return len(list(csv.reader([raw.decode("latin-1")], delimiter=self._delimiter.decode(), strict=True))) == 1
        except csv.Error:
            return False

    def _give_up(self) -> list[Record]:
        # The first line is to blame. The others are taken line by line, so that each byte is looked at twice at most.
        lines, self._open = self._open, []
        if not lines:
            return []
        others = [line for line in lines[1:] if line.raw.strip(self._blank)]
        return [replace(lines[0], problem="unclosed_quote"), *others]

    def _ends_inside(self, line: bytes, inside: bool) -> bool:
        """Whether a quoted field is open at the end of `line`, having been open (`inside`) at its beginning."""
        place, end = 0, len(line)
        while True:
            if inside:
                place = line.find(b'"', place)
                while place >= 0 and line[place + 1 : place + 2] == b'"':
                    place = line.find(b'"', place + 2)
                if place < 0:
                    return True
                inside = False
                place = line.find(self._delimiter, place)
                if place < 0:
                    return False
                place += 1
            if line[place : place + 1] == b'"':
                inside = True
                place += 1
                continue
            place = line.find(self._delimiter, place)
            if place < 0 or place + 1 > end:
                return False
            place += 1
