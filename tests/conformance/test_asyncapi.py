"""docs/asyncapi.yaml is AsyncAPI 3: the official parser is the judge."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance import node_oracle
from tests.conformance.conftest import ROOT

pytestmark = pytest.mark.node


def parse(text: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "asyncapi.mjs"],
        cwd=node_oracle.FOLDER,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_parser_finds_nothing(node_verify: Callable[..., object]) -> None:
    text = (ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8")
    assert parse(text) == {"parsed": True, "found": []}


def test_the_parser_would_find_something(node_verify: Callable[..., object]) -> None:
    text = (ROOT / "docs/asyncapi.yaml").read_text(encoding="utf-8").replace("action: send", "action: shout", 1)
    assert parse(text)["found"]
