"""Results as strangers send them: the cutters of NDJSON and CSV, the readers of a row, and its check."""

from __future__ import annotations

from datetime import UTC, datetime

from laurel_assessment import records, row_json, rows

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DEFAULTS = rows.Defaults("https://badges.example", "018f9a3e-0000-7000-8000-000000000001", "run-1")
SEEDS = (
    b'\x00{"learner": "l1", "email": "a@b.example", "score": 87.5, "parts": {"essay": 12}}\n{"learner": 7}',
    b'\x01learner,email,score,part:essay\r\nl1,a@b.example,"87,5",12\r\n"l""2",b@c.example,,\r\n',
    b"\x02learner;did;score;evidence\nl1;did:key:z6Mk;87,5;https://x.example|https://y.example\n",
    b'\x03learner\temail\n"l\n1"\tx@y.example\n"open\tx',
    b'\x00{"learner":"\\ud800","completed_at":"2026-01-01T00:00:00+01:00"}',
)  # fmt: skip


def read(data: bytes) -> None:
    if not data:
        return
    size = 1 + data[0] // 4  # in pieces of any size the stream means the same
    body = data[1:]
    if data[0] % 4 == 0:
        whole, pieces = records.Lines(), records.Lines()
        found = _cut(whole, body, len(body) or 1)
        assert found == _cut(pieces, body, size)
        for record in found:
            if not record.problem:
                _check(row_json.read_json(record.raw))
                row_json.texts_of_json(record.raw)
        return
    line, _, rest = body.partition(b"\n")
    form = rows.read_header(line, DEFAULTS)
    if not isinstance(form, rows.CsvForm):
        assert form
        return
    found = _cut(records.CsvRecords(form.delimiter, line=1), rest, len(rest) or 1)
    assert found == _cut(records.CsvRecords(form.delimiter, line=1), rest, size)
    for record in found:
        if not record.problem:
            _check(rows.read_csv(record.raw, form))
            rows.texts_of_csv(record.raw, form)


def _cut(splitter: records.Splitter, body: bytes, size: int) -> list[records.Record]:
    found = []
    for start in range(0, len(body), size):
        found += splitter.feed(body[start : start + size])
    return found + splitter.finish()


def _check(row: rows.Read) -> None:
    if isinstance(row, list):
        assert row
        assert all(one.code and one.detail for one in row)
        return
    rows.glimpse(row, DEFAULTS)
    checked = rows.check(row, DEFAULTS, received_at=NOW)
    if isinstance(checked, list):
        assert checked
        assert all(rows.column_of(one).code for one in checked)
