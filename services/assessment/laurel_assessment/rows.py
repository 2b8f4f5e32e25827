"""A row of results, from a stranger's bytes to a checked attempt: NDJSON lines, CSV records, the single POST's body.

All three end in the same `Row` and the same `check`, so a field means the same wherever it comes from. Pure.
"""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from msgspec import UNSET, UnsetType

from laurel.addresses import is_address
from laurel.credential.text import is_did, is_plausible, is_web_url, usual_timestamp
from laurel_assessment.domain import Attempt, Finding

MAX_ROW = 64 * 1024  # bytes of one record
MAX_TEXT = 255
MAX_COURSE_RUN = 200  # the same as where credentials are asked for and revoked by course run
MAX_ATTEMPT = 32_767
MAX_PARTS = 100
MAX_EVIDENCE = 10
MAX_URL = 2000  # bytes
MAX_NUMBER = 1e12
CLOCK_SKEW = timedelta(days=1)  # a platform's clock and time zone may be wrong by this much


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """A result as it is sent. null and absent mean the same."""

    achievement: str | UnsetType | None = UNSET
    learner: str | UnsetType | None = UNSET
    email: str | UnsetType | None = UNSET
    did: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    score: float | UnsetType | None = UNSET
    parts: dict[str, float] | UnsetType | None = UNSET
    attempt: int | UnsetType | None = UNSET
    completed_at: str | UnsetType | None = UNSET
    course_run: str | UnsetType | None = UNSET
    result_id: str | UnsetType | None = UNSET
    evidence: list[str] | UnsetType | None = UNSET
    locale: str | UnsetType | None = UNSET


FIELDS: tuple[str, ...] = Row.__struct_fields__
TEXTS = frozenset(FIELDS) - {"score", "parts", "attempt", "evidence"}

# What a row becomes: the row, or what is wrong with it.
Read = Row | list[Finding]


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a row says nothing, and what we call ourselves (an achievement may be named by its URL)."""

    base_url: str
    achievement_id: str | None = None
    course_run: str | None = None


class Glimpse(msgspec.Struct, frozen=True, gc=False):
    """Where a rejected row belongs."""

    learner: str | None = None
    achievement_id: str | None = None
    course_run: str | None = None


# --- CSV ----------------------------------------------------------------------------------------------------

_PART = "part:"
_DELIMITERS = ",;\t"
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+").fullmatch
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII).fullmatch
_WHOLE = re.compile(r"\d{1,9}(\.0+)?", re.ASCII).fullmatch


class CsvForm(msgspec.Struct, frozen=True):
    """How a CSV file is written: its delimiter and its columns, in order."""

    delimiter: str
    columns: tuple[str, ...]


def read_header(line: bytes, defaults: Defaults) -> CsvForm | list[Finding]:
    """The form of a CSV file by its first line; or what is wrong with that line."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        return [Finding("header", "not_utf8", "this is UTF-16; save the file as UTF-8 CSV")]
    try:
        text = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        return [Finding("header", "not_utf8", f"byte {error.start} is not UTF-8; save the file as UTF-8 CSV")]
    text = text.rstrip("\r\n")
    if "\r" in text:
        return [Finding("header", "bad_line_ends", "lines end with CR alone; save the file with CRLF or LF")]
    if "\x00" in text:
        return [Finding("header", "bad_string", "the header holds NUL; this is not a text file")]
    # The delimiter is the one that cuts the line into most columns that we know.
    best = max(_DELIMITERS, key=lambda delimiter: _known(_split_header(text, delimiter)))
    columns = _split_header(text, best)
    findings = _header_findings(columns, defaults)
    return findings or CsvForm(best, tuple(columns))


def _split_header(text: str, delimiter: str) -> list[str]:
    try:
        names = next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error:
        names = text.split(delimiter)
    names = [unicodedata.normalize("NFC", name.strip()) for name in names]
    while names and not names[-1]:
        names.pop()
    columns = []
    for name in names:
        if name.lower().startswith(_PART):
            columns.append(_PART + name[len(_PART) :].strip())
        else:
            columns.append(name.lower().replace(" ", "_"))
    return columns


def _known(columns: Sequence[str]) -> int:
    return sum(column in FIELDS or column.startswith(_PART) for column in columns)


def _header_findings(columns: Sequence[str], defaults: Defaults) -> list[Finding]:
    findings: list[Finding] = []
    allowed = ", ".join(name for name in FIELDS if name != "parts")
    for place, column in enumerate(columns, 1):
        if column == "parts" or not (column in FIELDS or (column.startswith(_PART) and len(column) > len(_PART))):
            detail = f"column {place} is called {column[:80]!r}; known are {allowed} and part:<name>"
            findings.append(Finding(column[:80] or f"column {place}", "unknown_column", detail))
        elif columns.index(column) != place - 1:
            findings.append(Finding(column, "duplicate_column", f"column {place} has the same name as an earlier one"))
    if not _known(columns):
        detail = f"the first line must name the columns, such as learner,email,score; known are {allowed}"
        return [Finding("header", "no_header", detail)]
    if "learner" not in columns:
        findings.append(Finding("learner", "missing_column", "add the column `learner`: who took the assessment"))
    if "email" not in columns and "did" not in columns:
        findings.append(
            Finding("email", "missing_column", "add a column `email` or `did`: a credential needs a recipient")
        )
    if "achievement" not in columns and defaults.achievement_id is None:
        detail = "add a column `achievement`, or name one for all rows by ?achievement="
        findings.append(Finding("achievement", "missing_column", detail))
    return findings


def read_csv(raw: bytes, form: CsvForm) -> Read:
    """Read one CSV record (RFC 4180); an empty field is an absent one."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return [Finding("", "not_utf8", f"byte {error.start} of this record is not UTF-8")]
    if "\x00" in text:
        return [Finding("", "bad_string", "the record holds NUL")]
    cells = _cells(text, form)
    return _from_cells(cells, form) if isinstance(cells, list) else [cells]


def _cells(text: str, form: CsvForm) -> list[str] | Finding:
    if '"' in text:
        try:
            cells = next(csv.reader([text], delimiter=form.delimiter, strict=True))
        except (csv.Error, StopIteration) as error:
            detail = f'not CSV ({error}); put fields with quotes in quotes and double them: "5"" screen"'
            return Finding("", "bad_csv", detail)
    else:
        cells = text.split(form.delimiter)
    if len(cells) > len(form.columns) and not any(cell.strip() for cell in cells[len(form.columns) :]):
        cells = cells[: len(form.columns)]
    if len(cells) != len(form.columns):
        detail = f"this record has {len(cells)} fields and the header names {len(form.columns)} columns"
        return Finding("", "wrong_column_count", detail)
    return cells


def texts_of_csv(raw: bytes, form: CsvForm) -> Row:
    """The texts alone of a record that is rejected for something else; an empty row where there are none."""
    cells = _cells(raw.decode("utf-8", "replace"), form)
    row = Row()
    if isinstance(cells, list):
        for column, cell in zip(form.columns, cells, strict=True):
            if column in TEXTS and cell.strip() and "\ufffd" not in cell:
                setattr(row, column, cell.strip())
    return row


def _from_cells(cells: Sequence[str], form: CsvForm) -> Read:
    row = Row()
    findings: list[Finding] = []
    for column, cell in zip(form.columns, cells, strict=True):
        value = cell.strip()
        if not value:
            continue
        if column in TEXTS:
            setattr(row, column, value)
        elif column == "evidence":
            row.evidence = value.replace("|", " ").split()
        elif column == "attempt":
            if _WHOLE(value) is None:
                findings.append(Finding(column, "wrong_type", f"{value[:40]!r} is not a whole number"))
            else:
                row.attempt = int(float(value))
        else:
            number = _number(value, form.delimiter)
            if isinstance(number, str):
                findings.append(Finding(column, "wrong_type", number))
            elif column == "score":
                row.score = number
            else:
                row.parts = {**(row.parts or {}), column[len(_PART) :]: number}
    return findings or row


def _number(text: str, delimiter: str) -> float | str:
    """The number, or what is wrong. A decimal comma is read where commas separate no fields and it is unmistakable."""
    if delimiter != "," and _DECIMAL_COMMA(text):
        if len(text.rpartition(",")[2]) == 3:
            return f"{text[:40]!r} may be a decimal or a thousand; write a decimal point"
        text = text.replace(",", ".")
    if _NUMBER(text) is None:
        return f"{text[:40]!r} is not a number; write it like 87.5"
    return float(text)


def column_of(finding: Finding) -> Finding:
    """The same finding, with the column's name in place of the JSON pointer."""
    name = finding.field.removeprefix("/")
    if name.startswith("parts/"):
        name = "part:" + name.removeprefix("parts/").replace("~1", "/").replace("~0", "~")
    return Finding(name, finding.code, finding.detail)


def pointer_step(name: str) -> str:
    """A name as a step of a JSON pointer."""
    return name[:80].replace("~", "~0").replace("/", "~1")  # RFC 6901 §3


# --- checking -----------------------------------------------------------------------------------------------

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_LOCALE = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*", re.ASCII).fullmatch
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]").search
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069\ufffe\uffff]").search


def as_uuid(text: str) -> str | None:
    """The canonical form of a UUID; None for anything else."""
    lowered = text.strip().lower()
    return lowered if _UUID(lowered) else None


def achievement_id(text: str, base_url: str) -> str | None:
    """The id of an achievement that is named by its id or by its URL."""
    return as_uuid(text.strip().removeprefix(f"{base_url}/achievements/"))


def plain_course_run(text: str) -> str | Finding:
    """A course run in the one form in which it is stored and asked for; or what is wrong with it."""
    text = text.strip()
    normal = unicodedata.normalize("NFC", text)
    if not text:
        return Finding("/course_run", "blank", "name a course run, or leave it out")
    if max(len(text), len(normal)) > MAX_COURSE_RUN:
        return Finding("/course_run", "too_long", f"at most {MAX_COURSE_RUN} characters")
    if _CONTROL(normal) or _TURNED(normal):
        detail = "control characters, lone surrogates and characters that turn the text around are not allowed"
        return Finding("/course_run", "bad_string", detail)
    return normal


def plain_learner(text: str) -> str | Finding:
    """A learner's id in the one form in which it comes with results; or what is wrong with it."""
    findings: list[Finding] = []
    learner = _text(text, "learner", findings)
    if findings:
        return findings[0]
    return learner or Finding("/learner", "blank", "name the learner: the platform's own id, as in results")


def glimpse(row: Row, defaults: Defaults) -> Glimpse:
    """What a row that is rejected says of itself, as far as it can be read."""
    unused: list[Finding] = []
    named = _text(row.achievement, "achievement", unused, most=2000)
    run = plain_course_run(row.course_run) if row.course_run and row.course_run.strip() else defaults.course_run
    learner = _text(row.learner, "learner", unused)
    if any(one.field == "/learner" for one in unused):
        learner = None
    return Glimpse(
        learner, achievement_id(named, defaults.base_url) if named else defaults.achievement_id,
        None if isinstance(run, Finding) else run,
    )  # fmt: skip


def check(row: Row, defaults: Defaults, *, received_at: datetime) -> Attempt | list[Finding]:
    """The attempt that a row describes, or everything that is wrong with it."""
    findings: list[Finding] = []
    learner = _text(row.learner, "learner", findings)
    if learner is None and not findings:
        findings.append(
            Finding("/learner", "missing", "say who took the assessment: the platform's own id of the learner")
        )
    email = _text(row.email, "email", findings, most=254)
    if email is not None and not is_address(email):
        findings.append(Finding("/email", "not_an_email", f"{email[:80]!r} is not an e-mail address"))
    did = _text(row.did, "did", findings)
    if did is not None and not (is_did(did) and not set(did) & set("/?#")):
        findings.append(Finding("/did", "not_a_did", f"{did[:80]!r} is not a DID (DID Core §3.1)"))
    if not email and not did and not any(one.field in ("/email", "/did") for one in findings):
        findings.append(Finding("/email", "no_recipient", "send `email` or `did`: a credential needs a recipient"))
    named = _text(row.achievement, "achievement", findings, most=2000)
    achievement = achievement_id(named, defaults.base_url) if named else defaults.achievement_id
    if achievement is None and not any(one.field == "/achievement" for one in findings):
        code = "unknown_achievement" if named else "missing"
        findings.append(Finding("/achievement", code, "name an achievement of yours by its id or its URL"))
    evidence = tuple(dict.fromkeys(row.evidence or ()))
    if len(evidence) > MAX_EVIDENCE:
        findings.append(Finding("/evidence", "too_many", f"at most {MAX_EVIDENCE} URLs"))
    for place, url in enumerate(evidence[:MAX_EVIDENCE]):
        # Lint refuses to sign text that is not in NFC, or that turns its direction around.
        readable = url.isascii() or (unicodedata.is_normalized("NFC", url) and url.isprintable())
        if len(url.encode("utf-8", "replace")) > MAX_URL or not readable or not is_web_url(url):
            findings.append(Finding(f"/evidence/{place}", "not_a_url", f"{url[:80]!r} is not an absolute http(s) URL"))
    locale = _text(row.locale, "locale", findings, most=35)
    if locale is not None and _LOCALE(locale) is None:
        findings.append(Finding("/locale", "not_a_locale", f"{locale!r} is not a language tag such as fr or pt-BR"))
    attempt = 1 if row.attempt is None or row.attempt is UNSET else row.attempt
    if not 1 <= attempt <= MAX_ATTEMPT:
        findings.append(Finding("/attempt", "out_of_range", f"send a whole number from 1 to {MAX_ATTEMPT}"))
    score = None if row.score is None or row.score is UNSET else row.score
    if score is not None and not _in_range(score):
        findings.append(Finding("/score", "out_of_range", f"send a finite number between ±{MAX_NUMBER:g}"))
    name = _text(row.name, "name", findings)
    course_run = defaults.course_run
    if row.course_run and row.course_run.strip():
        named_run = plain_course_run(row.course_run)
        if isinstance(named_run, Finding):
            findings.append(named_run)
        else:
            course_run = named_run
    external_id = _text(row.result_id, "result_id", findings)
    parts = _parts(row, findings)
    completed_at = _completed_at(row, findings, received_at)
    if findings or learner is None or achievement is None:
        return findings
    return Attempt(
        achievement, learner, attempt, email, did, name, score, parts, completed_at, course_run, external_id,
        evidence, locale.replace("_", "-") if locale else None,
    )  # fmt: skip


def _in_range(number: float) -> bool:
    return math.isfinite(number) and abs(number) <= MAX_NUMBER


def _parts(row: Row, findings: list[Finding]) -> dict[str, float]:
    if not row.parts:
        return {}
    if len(row.parts) > MAX_PARTS:
        findings.append(Finding("/parts", "too_many", f"at most {MAX_PARTS} parts"))
        return {}
    parts: dict[str, float] = {}
    for given, points in row.parts.items():
        place = f"/parts/{pointer_step(given)}"
        part = unicodedata.normalize("NFC", given.strip())
        if not part or len(part) > 100 or _CONTROL(part):
            findings.append(Finding(place, "bad_name", "a part's name has 1 to 100 printable characters"))
        elif part in parts:
            findings.append(Finding(place, "duplicate_key", "two parts have the same name"))
        elif not _in_range(points):
            findings.append(Finding(place, "out_of_range", f"send a finite number between ±{MAX_NUMBER:g}"))
        parts[part] = points
    return parts


def _completed_at(row: Row, findings: list[Finding], received_at: datetime) -> datetime | None:
    text = row.completed_at
    if not text:
        return None
    moment = usual_timestamp(text.strip())
    if moment is None:
        detail = f"{text[:40]!r} is not an RFC 3339 time with an offset, such as 2026-05-31T17:00:00Z"
        findings.append(Finding("/completed_at", "not_a_timestamp", detail))
    elif moment > received_at + CLOCK_SKEW:
        findings.append(Finding("/completed_at", "in_the_future", f"{text[:40]} lies more than a day in the future"))
    elif moment.year < 1970 or not is_plausible(moment):  # no credential is signed with such a date
        detail = f"{text[:40]} lies before 1970, or is its first second, which stands for no time; leave it out"
        findings.append(Finding("/completed_at", "out_of_range", detail))
    else:
        return moment
    return None


def _text(value: str | UnsetType | None, name: str, findings: list[Finding], *, most: int = MAX_TEXT) -> str | None:
    """The text in Unicode NFC without outer blanks; None where there is none."""
    if not value:  # UNSET, None and "" alike
        return None
    text = value.strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if len(text) > most:
        findings.append(Finding(f"/{name}", "too_long", f"at most {most} characters"))
    elif not text.isprintable() and _CONTROL(text):
        findings.append(Finding(f"/{name}", "bad_string", "control characters and lone surrogates are not allowed"))
    return text or None
