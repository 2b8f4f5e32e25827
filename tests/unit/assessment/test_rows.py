"""Reading rows: one meaning for JSON and CSV, and the fast reader agrees with the careful one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential.jsonld import canonical_nquads
from laurel.credential.text import is_absolute_identifier, is_web_url
from laurel.security import BadJson, guard_json
from laurel_assessment.domain import Attempt, Finding
from laurel_assessment.row_json import from_mapping, read_json
from laurel_assessment.rows import FIELDS, CsvForm, Defaults, Row, check, read_csv, read_header

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ACHIEVEMENT = "01a2011e-05f0-7e18-9946-913a0139a4b5"
DEFAULTS = Defaults("https://badges.example", ACHIEVEMENT, "run-1")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
likely = {
    "score": st.floats() | st.integers(), "attempt": st.integers(),
    "parts": st.dictionaries(st.text(max_size=5), st.floats()),
    "evidence": st.lists(st.text(max_size=9)),
}  # fmt: skip
objects = st.fixed_dictionaries({}, optional={name: likely.get(name, st.text()) | values for name in FIELDS})


def careful(raw: bytes) -> Row | list[Finding]:
    """What a row means by the guard alone, without the typed decoder."""
    try:
        value = guard_json(raw, max_bytes=1 << 16)
    except BadJson as error:
        return [Finding("", error.code, error.detail)]
    if not isinstance(value, dict):
        return [Finding("", "not_an_object", "")]
    return from_mapping(value)


@given(objects, st.booleans())
def test_the_fast_reader_and_the_careful_one_agree(value: dict[str, Any], ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert read_json(raw) == careful(raw)


@given(st.lists(st.sampled_from([*FIELDS[:4], "score"]), min_size=1, max_size=6), st.data())
def test_no_key_stands_twice_unnoticed(names: list[str], data: st.DataObject) -> None:
    text = ",".join(
        f'"{name}":{data.draw(st.sampled_from([chr(34) * 2, "null", chr(34) + "a" + chr(34), "5"]))}' for name in names
    )
    row = read_json(b"{" + text.encode() + b"}")
    if len(set(names)) < len(names):
        assert isinstance(row, list)
        assert "duplicate_key" in {one.code for one in row}


@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_comes_is_a_row_or_a_finding(raw: bytes) -> None:
    for row in (read_json(raw), read_csv(raw, CsvForm(",", ("learner", "score", "part:essay")))):
        if isinstance(row, Row):
            checked = check(row, DEFAULTS, received_at=NOW)
            assert isinstance(checked, Attempt) or checked
        else:
            assert row
            assert all(one.code and one.detail for one in row)
    header = read_header(raw, DEFAULTS)
    assert isinstance(header, CsvForm) or header


@given(objects)
def test_a_checked_attempt_is_fit_to_be_stored(value: dict[str, Any]) -> None:
    row = from_mapping({"learner": "x", "email": "x@example.org", **value})
    if not isinstance(row, Row):
        return
    checked = check(row, DEFAULTS, received_at=NOW)
    if isinstance(checked, Attempt):
        texts = [checked.learner, checked.email, checked.did, checked.name, checked.course_run, *checked.parts]
        for text in texts:
            assert text is None or "\x00" not in text
            assert text is None or text.encode("utf-8")
        assert 1 <= checked.attempt <= 32_767
        assert checked.email or checked.did
        assert checked.score is None or abs(checked.score) <= 1e12
        assert all(abs(points) <= 1e12 for points in checked.parts.values())


def attempt(**fields: Any) -> Attempt | list[Finding]:
    row = from_mapping({"learner": "L-1", "email": "l@example.org", **fields})
    return row if isinstance(row, list) else check(row, DEFAULTS, received_at=NOW)


def test_defaults_hold_where_a_row_says_nothing() -> None:
    found = attempt(score=None)
    assert isinstance(found, Attempt)
    assert (found.achievement_id, found.course_run, found.attempt, found.completed_at) == (
        ACHIEVEMENT,
        "run-1",
        1,
        None,
    )
    named = attempt(achievement=f"https://badges.example/achievements/{ACHIEVEMENT.upper()}", course_run="run-2")
    assert isinstance(named, Attempt)
    assert (named.achievement_id, named.course_run) == (ACHIEVEMENT, "run-2")


def test_equal_texts_become_equal() -> None:
    found = attempt(learner=" Zoe\u0308 ", name="A\u030angstrom")
    assert isinstance(found, Attempt)
    assert (found.learner, found.name) == ("Zo\u00eb", "\u00c5ngstrom")


@pytest.mark.parametrize(
    "email",
    ["a@example.org", "first.last+tag@sub.example.org", "ü@münchen.example", "用户@例え.テスト", "o'brien@example.ie"],
)
def test_addresses_of_the_world(email: str) -> None:
    assert isinstance(attempt(email=email), Attempt)


@pytest.mark.parametrize(
    "email", ["a", "@example.org", "a@", "a@b", "a b@example.org", "a@example..org", "a@e.org,b@e.org", "<a@b.org>"]
)  # fmt: skip
def test_what_is_no_address(email: str) -> None:
    found = attempt(email=email)
    assert isinstance(found, list)
    assert [(one.field, one.code) for one in found] == [("/email", "not_an_email")]


@pytest.mark.parametrize(
    ("text", "delimiter", "expected"),
    [
        ("87.5", ",", 87.5), ("87,5", ";", 87.5), ("87,50", "\t", 87.5), ("+1e2", ",", 100.0), (".5", ",", 0.5),
        ("1,000", ";", None), ("1.000,5", ";", None), ("nan", ",", None), ("inf", ",", None), ("0x10", ",", None),
        ("1_000", ",", None), ("80%", ",", None), ("٨٠", ",", None), ("1e9999", ",", None), ("--1", ",", None),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(text: str, delimiter: str, expected: float | None) -> None:
    row = read_csv(f"x{delimiter}{text}".encode(), CsvForm(delimiter, ("learner", "score")))
    if expected is None:
        assert isinstance(row, list)
        assert [(one.field, one.code) for one in row] == [("score", "wrong_type")]
    else:
        assert isinstance(row, Row)
        assert row.score == expected


@pytest.mark.parametrize(
    ("line", "delimiter", "columns"),
    [
        (b"learner,email,score\r\n", ",", ("learner", "email", "score")),
        (b"\xef\xbb\xbfLearner; E-Mail;Email ;part:Essay 1;;\n", None, ()),
        (b"\xef\xbb\xbfLearner;Email ;part: A, b;Course Run;;\n", ";", ("learner", "email", "part:A, b", "course_run")),
        (b'"learner"\t"did"\t"score"', "\t", ("learner", "did", "score")),
    ],
)  # fmt: skip
def test_headers_as_programs_write_them(line: bytes, delimiter: str | None, columns: tuple[str, ...]) -> None:
    form = read_header(line, DEFAULTS)
    if delimiter is None:
        assert isinstance(form, list)
    else:
        assert form == CsvForm(delimiter, columns)


# What URLs are made of, and what breaks them: in RFC 3987, private and non-characters, blanks, broken escapes.
pieces = st.lists(
    st.sampled_from(
        ["a", "9", "-._~", "!$&'()*+,;=", ":", "@", "/", "?", "#", "[", "]", "%", "%41", "%zz", "<", "\"", "{", "|",
         "\\", "^", "`", " ", "\x7f", "é", "\xa0", "\u2028", "\ue000", "\ufdd0", "\uffff", "\U0001f600", "\U0001fffe",
         "\U000e0001", "\U000f0000"]
    ), max_size=6,
).map("".join)  # fmt: skip
starts = st.sampled_from(
    ["https://x.example", "http://x.example:80/", "https://[::1]/", "https://", "urn:x:", "did:x:a"]
)


@given(starts, pieces)
def test_a_url_that_is_taken_in_can_be_signed(start: str, rest: str) -> None:
    url = start + rest
    document = {"@context": ["https://www.w3.org/ns/credentials/v2"], "type": ["VerifiableCredential"], "id": url}
    if is_absolute_identifier(url):
        assert canonical_nquads(document)  # raises UnsafeDocument for what lint would refuse


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example", "http://127.0.0.1:8080/a?b=c#d", "https://[2001:db8::1]/", "HTTPS://x.example/%C3%A9",
        "https://bücher.example/straße?q=größe#ä", "https://x.example/a;b=c/(d)!*'$&,+=:@~", "https://x.example?/?",
    ],
)  # fmt: skip
def test_a_good_url_is_taken(url: str) -> None:
    assert is_web_url(url)
    assert isinstance(
        check(Row(learner="L", email="l@example.org", evidence=[url]), DEFAULTS, received_at=NOW), Attempt
    )


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.4Z", "1970-01-01T01:00:00+01:00"])
def test_a_time_that_no_credential_may_bear_is_refused_at_intake(text: str) -> None:
    row = Row(learner="L-1", email="l@example.org", completed_at=text)
    findings = check(row, DEFAULTS, received_at=NOW)
    assert isinstance(findings, list)
    assert [(one.field, one.code) for one in findings] == [("/completed_at", "out_of_range")]


def test_the_second_after_it_is_a_time() -> None:
    row = Row(learner="L-1", email="l@example.org", completed_at="1970-01-01T00:00:01Z")
    assert isinstance(check(row, DEFAULTS, received_at=NOW), Attempt)


def test_evidence_is_counted_in_bytes() -> None:
    row = Row(learner="L-1", email="l@example.org", evidence=["https://e.org/" + "\u00e9" * 1500])
    findings = check(row, DEFAULTS, received_at=NOW)
    assert isinstance(findings, list)
    assert [one.field for one in findings] == ["/evidence/0"]
