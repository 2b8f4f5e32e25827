"""What Laurel writes into entries and lists, held against the context of Bitstring Status List 1.0 itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from laurel.credential import status

URL = "https://badges.example.org/status/1"


@pytest.fixture
def terms(vectors: Path) -> dict[str, Any]:
    context = json.loads((vectors / "w3c-bitstring-status-list" / "contexts" / "v1.jsonld").read_text())
    found: dict[str, Any] = context["@context"]
    return found


def test_an_entry_has_only_terms_of_the_standard(terms: dict[str, Any]) -> None:
    defined = terms["BitstringStatusListEntry"]["@context"]
    entry = status.status_entry(URL, 7, "message", ["fine", "under review", "replaced"], "https://example.org/meanings")
    assert set(entry) <= set(defined)
    assert set(status.status_entry(URL, 7)) < set(entry)
    assert {name for one in entry["statusMessage"] for name in one} <= set(defined["statusMessage"]["@context"])
    assert defined["statusSize"]["@type"].endswith("#integer")
    assert isinstance(entry["statusSize"], int)


def test_a_list_has_only_terms_of_the_standard(terms: dict[str, Any]) -> None:
    encoded = status.encode_list(bytes(status.MINIMUM_ENTRIES // 8))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    document = status.build_status_list(URL, "did:web:badges.example.org", "message", encoded, at, 60_000, at)
    defined = terms["BitstringStatusList"]["@context"]
    assert set(document["credentialSubject"]) <= set(defined)
    # §2.2 speaks of statusSize and statusMessages of the list, which its own context does not know.
    assert not {"statusSize", "statusMessages"} & set(defined)
