"""Official vectors, found at LAUREL_VECTORS (default: ../shared/vectors beside the repository), and the Node oracle.

With CI=true both are required; elsewhere their tests are skipped with a reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from laurel.credential import contexts, jsonld
from tests.conformance import node_oracle

EXAMPLES_V2 = "https://www.w3.org/ns/credentials/examples/v2"
# What VC Data Model 2.0 §B.2 says of it.
EXAMPLES_CONTEXT = {"@context": {"@vocab": "https://www.w3.org/ns/credentials/examples#"}}
ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(os.environ.get("LAUREL_VECTORS") or ROOT.parent / "shared" / "vectors")


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason + " (required when CI=true)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of official test vectors."""
    if not VECTORS.is_dir():
        missing(f"no official vectors at {VECTORS}; set LAUREL_VECTORS")
    return VECTORS


@pytest.fixture
def examples_context(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The context of the official vectors, which production never loads, can be loaded in this test."""
    bundled = contexts.load
    monkeypatch.setattr(contexts, "load", lambda url: EXAMPLES_CONTEXT if url == EXAMPLES_V2 else bundled(url))
    jsonld._shared_processor.cache_clear()  # it keeps what it has processed
    yield
    jsonld._shared_processor.cache_clear()


@pytest.fixture(scope="session")
def node_verify() -> Callable[..., node_oracle.Verdict]:
    """`node_oracle.verify`, with its npm packages installed."""
    try:
        node_oracle.install()
    except node_oracle.Unavailable as unavailable:
        missing(str(unavailable))

    def verify(credential: dict[str, Any], *documents: dict[str, Any], now: str | None = None) -> node_oracle.Verdict:
        return node_oracle.verify(credential, *documents, now=now)

    return verify
