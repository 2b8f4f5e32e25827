"""Webhook deliveries, compared id by id: has every issued credential a delivery to every endpoint that wants it?"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from laurel_local.client import Client, Refused

_PAGE = 10_000
_LISTED = 1000  # ids of one state that are kept for the list; counts are always whole
_UNDONE = ("pending", "held", "failed")


@dataclass
class Endpoint:
    """What is known of one endpoint. missing: issued credentials that it was never owed. why_not: "" when compared."""

    states: Counter[str] = field(default_factory=Counter)
    undone: dict[str, list[str]] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    missing: set[bytes] = field(default_factory=set)
    why_not: str = ""
    url: str = ""

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        ids = [str(uuid.UUID(bytes=one)) for one in sorted(self.missing)[:_LISTED]]
        return {
            "url": self.url, **dict(self.states), "credential_ids": self.undone,
            "missing": {"count": len(self.missing), "credential_ids": ids}, "not_compared": self.why_not or None,
        }  # fmt: skip


async def compare(
    client: Client, course_run: str | None, issued: set[bytes], dead: set[bytes]
) -> tuple[dict[str, Endpoint], Counter[str]]:
    """Endpoints by id, and all deliveries by state. dead: credentials whose events are dead letters of the notifier.

    An endpoint is owed what is issued while it is enabled and subscribed. When that was, nobody keeps; so an endpoint
    is compared when it has not been changed since the first result of the course run was recorded.
    """
    endpoints: dict[str, Endpoint] = {}
    async for one in client.pages("/notifier/v1/reports/deliveries", course_run=course_run, limit=_PAGE):
        found = endpoints.setdefault(one["endpoint_id"], Endpoint(why_not="it is deleted"))
        found.states[one["state"]] += 1
        found.seen.add(uuid.UUID(one["credential_id"]).bytes)
        if one["state"] in _UNDONE and len(listed := found.undone.setdefault(one["state"], [])) < _LISTED:
            listed.append(one["credential_id"])
    total = sum((one.states for one in endpoints.values()), Counter[str]())
    try:
        known = [one async for one in client.pages("/notifier/v1/endpoints", limit=1000)]
        first = await client.call("GET", "/assessment/v1/results", params={"course_run": course_run, "limit": 1})
    except Refused as refused:
        if refused.status != 403:
            raise
        for found in endpoints.values():
            found.why_not = "this API key may not read webhooks or results (webhooks:read, results:read)"
        return endpoints, total
    began = datetime.fromisoformat(first["items"][0]["recorded_at"]) if first["items"] else None
    for one in known:
        found = endpoints.setdefault(one["endpoint_id"], Endpoint())
        found.url, found.why_not = one["url"], ""
        if not one["enabled"]:
            found.why_not = "it is disabled"
        elif "credential.issued" not in one["event_types"]:
            found.why_not = "it is not subscribed to credential.issued"
        elif began is not None and datetime.fromisoformat(one["updated_at"]) > began:
            found.why_not = "it was made or changed after the first result"
        else:
            found.missing = issued - found.seen - dead
    return endpoints, total


def lines(endpoints: dict[str, Endpoint]) -> list[str]:
    """For people; nothing about an endpoint that has everything."""
    told = []
    for identifier, one in endpoints.items():
        name = f"endpoint {identifier}" + (f" ({one.url})" if one.url else "")
        if one.missing:
            told.append(f"{name}: {len(one.missing):,} issued credentials have no delivery")
            told += [f"  {uuid.UUID(bytes=raw)}" for raw in sorted(one.missing)[:_LISTED]]
        for state, ids in one.undone.items():
            told.append(f"{name}: {one.states[state]:,} {state}")
            told += [f"  {credential_id}" for credential_id in ids]
        if one.why_not:
            told.append(f"{name} is not compared with what was issued: {one.why_not}")
    return told
