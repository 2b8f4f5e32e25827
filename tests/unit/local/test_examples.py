"""The example cohort: reproducible, harmless, and as various as its README says."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ET
from collections import Counter

from PIL import Image

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"


def rows() -> list[dict[str, str]]:
    """The rows that are not broken on purpose."""
    header, *lines = (EXAMPLES / "cohort.csv").read_bytes().split(b"\n")
    good = [line.decode() for line in lines if line.startswith(b"s")]
    return list(csv.DictReader(io.StringIO("\n".join([header.decode(), *good]))))


def test_the_script_makes_the_same_bytes() -> None:
    done = subprocess.run([sys.executable, EXAMPLES / "make_cohort.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_in_many_scripts() -> None:
    scripts = Counter(
        unicodedata.name(letter).split()[0]
        for row in rows()
        for letter in row["name"]
        if unicodedata.category(letter).startswith("L")
    )
    wanted = {
        "LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "THAI", "CJK",
        "HANGUL", "HIRAGANA", "KATAKANA", "GEORGIAN", "ARMENIAN", "ETHIOPIC", "KHMER", "MYANMAR", "SINHALA",
    }  # fmt: skip
    assert wanted <= set(scripts)


def test_it_looks_like_a_cohort() -> None:
    found = rows()
    assert len(found) >= 1000
    names = [row["name"] for row in found]
    assert any(" " not in name for name in names), "people with one name"
    assert any(len(name) > 70 for name in names), "long names"
    assert any("'" in name for name in names), "apostrophes"
    assert {row["attempt"] for row in found} >= {"1", "2", "3"}
    assert all(unicodedata.is_normalized("NFC", name) for name in names)
    assert not any(unicodedata.category(letter) in ("So", "Cs") for name in names for letter in name), "no emoji"


def test_addresses_belong_to_nobody() -> None:
    for file in ("cohort.csv", "cohort.ndjson"):
        text = (EXAMPLES / file).read_text(encoding="utf-8", errors="replace")
        hosts = {word.split(",")[0].split('"')[0] for word in text.split("@")[1:]}
        strange = {host for host in hosts if not host.endswith(("example.org", "example.com", "example.net"))}
        assert strange <= {"two", "at"}, strange  # two@at@example.org is one of the broken rows


def test_the_badge_is_a_picture_in_both_forms() -> None:
    with Image.open(EXAMPLES / "badge.png") as image:
        image.verify()
        assert image.size == (400, 400)
    assert ET.parse(EXAMPLES / "badge.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_readme_counts_right() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    records = (EXAMPLES / "cohort.csv").read_bytes().count(b"\n")  # one for the header, none after the last record
    broken = records - len(rows())
    assert f"{records:,} rows" in readme
    assert f"{broken} rows that are broken" in readme


def test_the_achievement_is_one_that_the_service_takes() -> None:
    from laurel_assessment.achievements import AchievementInput, lint
    from laurel_local.demo.organisation import achievement

    findings, image = lint(AchievementInput.model_validate(achievement("profile")))
    assert findings == []
    assert image is not None
    assert json.loads((EXAMPLES / "achievement.json").read_text())["policy"]["minimum_score"] == 60
