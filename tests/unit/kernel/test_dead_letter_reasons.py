"""Whatever code a record can die of stands in the table of reasons, and nothing else does."""

from __future__ import annotations

import ast
from pathlib import Path

from laurel.dead_letter_reasons import REASONS, reason
from tests.conftest import ROOT

# Where the code stands among the arguments.
MAKERS = {"Reject": 1, "DeadLetter": 3, "of": 1, "Undecodable": 0, "Refused": 1}
SOURCES = (ROOT / "shared" / "laurel", *sorted((ROOT / "services").glob("*/laurel_*")))


def codes(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = MAKERS.get(name)
        if place is None or len(node.args) <= place or (name == "Refused" and file.name != "signing.py"):
            continue  # Refused of other modules are refusals of requests
        if name == "of" and not (isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "DeadLetter"):
            continue
        code = node.args[place]
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            found.add(code.value)
    return found


def test_the_table_has_every_code_and_no_other() -> None:
    files = [file for folder in SOURCES for file in folder.rglob("*.py") if "/credential/" not in str(file)]
    found: set[str] = set().union(*(codes(file) for file in files))
    # Set in SQL, when a redrive ends its process again and again.
    assert found | {"redrive_crashed"} == set(REASONS)


def test_a_code_of_another_version_is_told_as_such() -> None:
    assert "does not know" in reason("from_the_future").meaning


def test_what_a_redrive_cannot_help_says_what_to_do_instead() -> None:
    for one in REASONS.values():
        assert one.meaning.endswith(".")
        assert one.remedy.endswith(".")
        if one.helps == "never":
            assert "discard" in one.remedy, one.code
