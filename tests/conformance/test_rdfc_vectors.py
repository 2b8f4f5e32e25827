"""The RDFC-1.0 test suite of the W3C, through the canonicaliser that signs."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from laurel.credential import jsonld
from tests.conformance.conftest import VECTORS

FOLDER = VECTORS / "w3c-rdf-canon" / "tests"


def entries(kind: str) -> list[dict[str, Any]]:
    if not FOLDER.is_dir():  # the `vectors` fixture says so, and fails in CI
        return [{"id": "missing", "action": "", "result": ""}]
    manifest = json.loads((FOLDER / "manifest.jsonld").read_text("utf-8"))
    return [entry for entry in manifest["entries"] if entry["type"] == f"rdfc:{kind}"]


@pytest.mark.parametrize("entry", entries("RDFC10EvalTest"), ids=lambda entry: entry["id"])
def test_evaluation(vectors: Path, entry: dict[str, Any]) -> None:
    sha384 = entry.get("hashAlgorithm") == "SHA384"
    canonical = jsonld.canonicalize((FOLDER / entry["action"]).read_bytes(), sha384=sha384)
    assert canonical == (FOLDER / entry["result"]).read_bytes()


def test_the_suite_is_whole(vectors: Path) -> None:
    assert len(entries("RDFC10EvalTest")) == 64
    assert len(entries("RDFC10NegativeEvalTest")) == 1


def _canonicalize_file(path: str) -> None:
    jsonld.canonicalize(Path(path).read_bytes())
    os._exit(0)


def test_a_poison_graph_is_stopped_by_the_callers_time_limit(vectors: Path) -> None:
    """RDFC-1.0 §7.1: a dataset may be built to take for ever. A verifier runs it in a process that it can kill."""
    (poison,) = entries("RDFC10NegativeEvalTest")
    process = multiprocessing.get_context("spawn").Process(
        target=_canonicalize_file, args=(str(FOLDER / poison["action"]),), daemon=True
    )
    process.start()
    process.join(timeout=5)
    assert process.is_alive(), f"the clique was canonicalised after all (exit code {process.exitcode})"
    process.kill()
    process.join(timeout=10)
    assert process.exitcode == -9


def test_the_cheap_guard_refuses_the_poison_graph_by_its_size(vectors: Path) -> None:
    (poison,) = entries("RDFC10NegativeEvalTest")
    with pytest.raises(jsonld.UnsafeDocument, match="blank nodes"):
        jsonld.canonicalize((FOLDER / poison["action"]).read_bytes(), max_blank_nodes=8)
