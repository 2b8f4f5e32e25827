"""Dead letters over HTTP, as reconciliation needs them: which credentials' events have died where."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from laurel.migrate import SERVICES
from laurel_local.client import Client


async def dead_letters(client: Client) -> list[dict[str, Any]]:
    """Every letter of the organisation that was not handled after all; those that were discarded among them."""
    letters: list[dict[str, Any]] = []
    for name in SERVICES:
        async for letter in client.pages(f"/{name}/v1/dead-letters", limit=500):
            if letter.get("redriven_at") is None:
                letters.append({"service": name, **letter})
    return letters


def keys_of(letters: Sequence[dict[str, Any]], service: str) -> set[bytes]:
    """The credentials whose events died in a service: topics of credentials are keyed by credential id."""
    found = set()
    for letter in letters:
        if letter["service"] == service:
            try:
                found.add(uuid.UUID(str(letter.get("key", ""))).bytes)
            except ValueError:
                continue  # an event of another kind
    return found
