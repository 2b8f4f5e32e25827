"""Generated docs are checked, not trusted."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _tests_of(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_the_threat_model_names_is_there() -> None:
    text = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 60
    assert len(named) == text.count("::"), "a test is named in another form than `tests/file.py::test_name`"
    missing = [
        f"{path}::{name}" for path, name in named if not (ROOT / path).is_file() or name not in _tests_of(ROOT / path)
    ]
    assert not missing


def test_every_threat_has_a_test_or_stands_among_what_is_not_stopped() -> None:
    text = (
        (ROOT / "docs/threat-model.md")
        .read_text(encoding="utf-8")
        .partition("## Threats")[2]
        .partition("## Not stopped")[0]
    )
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Who and what")]
    assert len(rows) >= 40
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 3, row
        assert "::test_" in cells[2] or "(#not-stopped)" in cells[2], row
