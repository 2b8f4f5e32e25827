"""Writes cohort.csv and cohort.ndjson beside this file: the same bytes on every run and machine.

    python examples/make_cohort.py [--check]

The people are made up: given and family names are drawn apart from each other. Addresses are under example.org, .com
and .net (RFC 2606), which belong to nobody.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
LEARNERS = 1040
COLUMNS = (
    "learner", "email", "name", "score", "part:project", "part:exam", "attempt", "completed_at", "result_id",
    "evidence", "locale",
)  # fmt: skip
START = datetime(2025, 9, 1, 8, 0, tzinfo=UTC)


def _people() -> list[tuple[str, bool, list[str], list[str]]]:
    """names.tsv: (locale, family name first, given names, family names; none of them: people with one name)."""
    lines = (HERE / "names.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return [(locale, order == "family-first", given.split(), family.split()) for locale, order, given, family in rows]


PEOPLE = _people()

LONG_NAMES = (
    "Maria Antónia Josefa Gabriela Rafaela Gonzaga de Bragança e Bourbon das Duas Sicílias-Coburgo Falcão de Almeida",
    "Wolfeschlegelsteinhausenbergerdorff-Oberhauser von und zu Hohenlangenweißenstein, Johann Friedrich (Jr.)",
    "Krungthepmahanakhon Amonrattanakosin Mahintharayutthaya Mahadilokphop",
    "José Luis María de los Ángeles Fernández-Villaverde y Ruiz de Arcaute-Ibarrola",
)


@dataclass(frozen=True)
class Row:
    """One result, as its platform writes it; None: an empty field."""

    learner: str
    email: str
    name: str
    score: float | None
    project: float | None
    exam: float | None
    attempt: int
    completed_at: str
    result_id: str
    evidence: str
    locale: str

    def cells(self) -> list[str]:
        """The fields in the order of COLUMNS."""
        numbers = ["" if value is None else f"{value:g}" for value in (self.score, self.project, self.exam)]
        return [
            self.learner, self.email, self.name, *numbers, str(self.attempt), self.completed_at, self.result_id,
            self.evidence, self.locale,
        ]  # fmt: skip


class Dice:
    """Draws that are the same on every Python: only Random.random() promises that."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - examples, not secrets

    def below(self, limit: int) -> int:
        """A whole number from 0 to limit - 1."""
        return int(self._random.random() * limit)

    def chance(self, share: float) -> bool:
        """True in `share` of the draws."""
        return self._random.random() < share


def learner(number: int, dice: Dice) -> tuple[str, str, str, str]:
    """(learner, email, name, locale) of the made-up person with this number."""
    locale, family_first, given_names, family_names = PEOPLE[number % len(PEOPLE)]
    given = _pick(given_names, dice)
    family = _pick(family_names, dice) if family_names else ""
    if number % 259 == 258:
        name, locale = LONG_NAMES[number // 259 % len(LONG_NAMES)], "en"
    elif not family:
        name = given
    elif locale in ("zh", "zh-Hant", "ja", "ko"):
        name = family + given
    else:
        name = f"{family} {given}" if family_first else f"{given} {family}"
    host = ("example.org", "example.com", "example.net", "students.example.org")[dice.below(4)]
    return f"s{number:06d}", f"{_mailbox(name, number)}@{host}", unicodedata.normalize("NFC", name), locale


def _pick(names: list[str], dice: Dice) -> str:
    return names[dice.below(len(names))].replace("_", " ")  # "_" stands for a blank within a name


def _mailbox(name: str, number: int) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    letters = [word for word in ("".join(c for c in part if c.isalnum()) for part in plain.split()) if word]
    return ".".join([*letters[:2], str(number)])[-60:].strip(".") if letters else f"learner.{number}"


def attempts(number: int, dice: Dice) -> Iterator[Row]:
    """The attempts of one learner, in order; most pass at the first, some never do."""
    who, email, name, locale = learner(number, dice)
    for attempt in (1, 2, 3, 4):
        strong = dice.chance(0.72 if attempt == 1 else 0.65)
        score = (60 + dice.below(81) / 2) if strong else (5 + dice.below(110) / 2)
        # A good score with a missing or weak project is no pass: parts are required on their own.
        weak_project = strong and dice.chance(0.03)
        project: float | None = (10 + dice.below(40)) if weak_project or not strong else (50 + dice.below(51))
        if weak_project and dice.chance(0.3):
            project = None
        moment = START + timedelta(days=21 * (attempt - 1), minutes=dice.below(20 * 24 * 60))
        offset = ("Z", "+02:00", "+05:30", "-03:00", "+09:00")[dice.below(5)]
        evidence = f"https://portfolio.example.org/{who}/project" if dice.chance(0.3) else ""
        yield Row(
            who, email, name, score, project, float(dice.below(101)), attempt,
            moment.strftime("%Y-%m-%dT%H:%M:%S") + offset, f"{who}-{attempt}", evidence, locale,
        )  # fmt: skip
        if (strong and not weak_project) or not dice.chance(0.5):
            return


def csv_line(cells: list[str]) -> bytes:
    """One CSV record (RFC 4180 §2), quoted where it must be."""
    quoted = ['"' + c.replace('"', '""') + '"' if any(x in c for x in ',"\n') else c for c in cells]
    return ",".join(quoted).encode() + b"\n"


def broken(sample: Row) -> list[bytes]:
    """Rows as they come from real platforms on a bad day, each broken in a way of its own."""
    ok = replace(sample, learner="b000000", email="b0@example.org", result_id="b000000-1")
    line = csv_line

    def row(number: int, **changes: object) -> list[str]:
        cells = replace(ok, learner=f"b{number:06d}", result_id=f"b{number:06d}-1").cells()
        for column, value in changes.items():
            cells[COLUMNS.index(column.replace("part_", "part:"))] = str(value)
        return cells

    return [
        line(row(1, learner="")),
        line(row(2, email="not-an-address")),
        line(row(3, email="two@at@example.org")),
        line(row(4, email="")),
        line(row(5, score="abc")),
        line(row(6, score="1e999")),
        line(row(7, score="NaN")),
        line(row(8, score="87,5")),
        line(row(9, completed_at="2025-09-12T10:00:00")),
        line(row(10, completed_at="12/09/2025 10:00")),
        line(row(11, completed_at="2025-02-30T10:00:00Z")),
        line(row(12, completed_at="2199-01-01T00:00:00Z")),
        line(row(13, attempt="first")),
        line(row(14, attempt="0")),
        line(row(15, attempt="1.5")),
        line(row(16, part_project="good")),
        line(row(17, locale="not a language")),
        line(row(18, evidence="portfolio on my desk")),
        line(row(19, evidence="javascript:alert(1)")),
        line(row(20, learner="b" * 300)),
        line(row(21)[:6]),
        line([*row(22), "surplus", "fields"]),
        line(row(23, name="Nul\x00l")),
        line(row(24)).replace(b"b0@", b"b\xff0@"),
        line(row(25)).replace(ok.name.encode(), b'"Ann" Quoted'),
        line(row(26, name="bell \x07 character")),
        b"b000027\n",
        # The last row opens a quote that nobody closes; it must cost no other row.
        line(row(28)).replace(ok.name.encode(), b'"Never closed').rstrip(b"\n"),
    ]


def cohort() -> list[bytes]:
    """The records of cohort.csv, without its header."""
    dice = Dice(20260101)
    by_learner = [list(attempts(number, dice)) for number in range(1, LEARNERS + 1)]
    rows = sorted((row for own in by_learner for row in own), key=lambda row: (row.completed_at[:19], row.learner))
    passed = [own[-1] for own in by_learner if _passes(own[-1])]
    failed = [own[-1] for own in by_learner if not _passes(own[-1])]
    lines = [csv_line(row.cells()) for row in rows]
    # What platforms send twice: the same again; the same with a corrected name (still the same attempt) …
    extra = [csv_line(row.cells()) for row in passed[5:400:11]]
    extra += [csv_line(replace(row, name=row.name + " (corrected)").cells()) for row in passed[7:60:13]]
    extra += [csv_line(row.cells()) for row in failed[3:60:7]]
    # … other points for the same attempt …
    extra += [csv_line(replace(row, score=(row.score or 0) + 0.5, name=row.name).cells()) for row in passed[9:200:24]]
    # … and another pass for a badge that is earned once.
    extra += [
        csv_line(replace(row, attempt=row.attempt + 1, result_id=f"{row.learner}-again").cells())
        for row in passed[400:600:33]
        if row.attempt < 3
    ]
    wrong = broken(rows[0])
    for number, one in enumerate(extra + wrong[:-1]):
        # Spread over the second half: whatever they repeat stands before them.
        lines.insert(len(lines) // 2 + (number * 37) % (len(lines) // 2), one)
    return [*lines, wrong[-1]]


def _passes(row: Row) -> bool:
    """The policy of achievement.json, to choose whom to repeat."""
    score, project = row.score or 0, row.project or 0
    return score >= 60 and project >= 50 and row.attempt <= 3


def ndjson() -> bytes:
    """A small cohort in the other format, with two rows that are wrong."""
    dice = Dice(7)
    rows = [row for number in range(5001, 5025) for row in attempts(number, dice)]
    lines = []
    for row in rows:
        value: dict[str, object] = {
            "learner": row.learner, "email": row.email, "name": row.name, "score": row.score,
            "parts": {"project": row.project or 0, "exam": row.exam}, "attempt": row.attempt,
            "completed_at": row.completed_at, "result_id": row.result_id, "locale": row.locale,
        }  # fmt: skip
        if row.evidence:
            value["evidence"] = [row.evidence]
        lines.append(json.dumps(value, ensure_ascii=False))
    lines.insert(9, '{"learner": "b005001", "email": "b1@example.org", "score": "sixty"}')
    lines.insert(14, '{"learner": "b005002", "email": "b2@example.org", "score": 71, ')
    return ("\n".join(lines) + "\n").encode()


FILES = {"cohort.csv": lambda: csv_line(list(COLUMNS)) + b"".join(cohort()), "cohort.ndjson": ndjson}


def main() -> int:
    """Write the files, or with --check say whether they are what this script makes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file differs")
    check = parser.parse_args().check
    stale = [name for name, make in FILES.items() if check and (HERE / name).read_bytes() != make()]
    if not check:
        for name, make in FILES.items():
            (HERE / name).write_bytes(make())
    for name in stale:
        print(f"{name} is not what make_cohort.py writes; run it", file=sys.stderr)  # noqa: T201
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
