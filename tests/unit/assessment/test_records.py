"""Cutting streams into records: the same ones, however the network cuts the bytes."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel_assessment.records import CsvRecords, Lines, Record, Splitter
from laurel_assessment.rows import MAX_ROW, CsvForm, Row, read_csv


def cut(splitter: Splitter, body: bytes, sizes: list[int]) -> list[Record]:
    records: list[Record] = []
    place, turn = 0, 0
    while place < len(body):
        size = sizes[turn % len(sizes)] if sizes else len(body)
        records += splitter.feed(body[place : place + size])
        place, turn = place + size, turn + 1
    return records + splitter.finish()


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cs"]) | st.sampled_from('\n",;'),
    max_size=20,
)
sizes = st.lists(st.integers(1, 40), max_size=6)


@given(st.lists(st.binary(max_size=30)), sizes)
def test_lines_are_lines_however_they_come(lines: list[bytes], pieces: list[int]) -> None:
    body = b"\n".join(lines)
    expected = [(n, line.strip(b" \t\r")) for n, line in enumerate(body.split(b"\n"), 1) if line.strip(b" \t\r")]
    assert [(one.line, one.raw) for one in cut(Lines(), body, pieces)] == expected


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from(",;\t"), sizes, st.booleans())
def test_what_pythons_csv_writes_is_read_back(
    rows: list[tuple[str, str]], delimiter: str, pieces: list[int], crlf: bool
) -> None:
    written = io.StringIO(newline="")
    # A marker in front: an empty row would be no record at all.
    csv.writer(written, delimiter=delimiter, lineterminator="\r\n" if crlf else "\n").writerows(
        [("#", *row) for row in rows]
    )
    records = cut(CsvRecords(delimiter, line=1), written.getvalue().encode(), pieces)
    assert [one.problem for one in records] == [""] * len(rows)
    form = CsvForm(delimiter, ("result_id", "learner", "name"))
    for record, (learner, name) in zip(records, rows, strict=True):
        row = read_csv(record.raw, form)
        assert isinstance(row, Row)
        assert (row.learner or "", row.name or "") == (learner.strip(), name.strip())


@given(st.binary(max_size=300), sizes, sizes)
def test_no_bytes_break_it_and_the_cuts_do_not_matter(body: bytes, one: list[int], other: list[int]) -> None:
    body = body.replace(b"\x01", b'"').replace(b"\x02", b",").replace(b"\x03", b"\n")
    assert cut(CsvRecords(",", line=1), body, one) == cut(CsvRecords(",", line=1), body, other)


@given(st.text('ab",\n', max_size=120), sizes)
def test_every_line_of_quotes_ends_in_some_record(text: str, pieces: list[int]) -> None:
    records = cut(CsvRecords(",", line=1), text.encode(), pieces)
    kept = b"\n".join(one.raw for one in records)
    assert kept.count(b"a") == text.count("a")
    assert [one.line for one in records] == sorted({one.line for one in records})


def test_a_field_may_hold_lines() -> None:
    records = cut(CsvRecords(",", line=1), b'a,"one\n\ntwo ""x""",b\r\nc,d,e\n', [3])
    assert records == [Record(2, b'a,"one\n\ntwo ""x""",b'), Record(5, b"c,d,e")]


@pytest.mark.parametrize("end", [b"", b"\nz,9\n"])
def test_an_unclosed_quote_costs_its_line(end: bytes) -> None:
    body = b'a,1\nb,"2\n' + b"\n".join(b"c%d,3" % n for n in range(20)) + end
    records = cut(CsvRecords(",", line=1), body, [5])
    assert records[1] == Record(3, b'b,"2', "unclosed_quote")
    assert [one.problem for one in records if one is not records[1]] == [""] * (len(records) - 1)
    assert len(records) == 22 + (end != b"")


def test_an_unclosed_quote_is_given_up_within_the_size_of_a_row() -> None:
    splitter = CsvRecords(",", line=1)
    records = splitter.feed(b'b,"2\n')
    lines = 0
    while not records:
        records = splitter.feed(b"c,3\n" * 1000)
        lines += 1000
    assert records[0].problem == "unclosed_quote"
    assert len(records) == lines + 1
    assert lines * 4 < MAX_ROW + 8000


@pytest.mark.parametrize("splitter", [Lines(line=1), CsvRecords(",", line=1)], ids=["lines", "csv"])
def test_an_endless_line_is_dropped_as_it_comes(splitter: Splitter) -> None:
    records = splitter.feed(b"a,1\n")
    for _ in range(100):
        records += splitter.feed(b"x" * 10_000)
    records += splitter.feed(b"x\nb,2\n") + splitter.finish()
    assert [(one.line, one.problem) for one in records] == [(2, ""), (3, "row_too_long"), (4, "")]
    assert len(records[1].raw) <= 500


def test_bare_delimiters_are_no_record() -> None:
    assert cut(CsvRecords(";", line=1), b"a;b\n;\n ; ;\r\n", []) == [Record(2, b"a;b")]


def test_a_stray_quote_swallows_no_good_rows() -> None:
    body = b'O,80,"open\nP,80,x\n,,\nQ,80,"fine"\nR,80,"two\nlines"\n'
    assert cut(CsvRecords(",", line=1), body, [7]) == [
        Record(2, b'O,80,"open', "unclosed_quote"),
        Record(3, b"P,80,x"),
        Record(5, b'Q,80,"fine"'),
        Record(6, b'R,80,"two\nlines"'),
    ]
