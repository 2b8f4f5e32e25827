"""What the demo says at the end: the table, the measured latency, the links."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from laurel.ids import uuid7
from laurel_local.client import Client, Refused
from laurel_local.console import Output
from laurel_local.demo.inbox import Inbox
from laurel_local.demo.mailbox import Mailbox
from laurel_local.reconcile import EMAIL_STATES, RETRY_EMAIL, Reconciliation

SAMPLE = 400  # passes whose way is timed
_AT_ONCE = 8
_WINDOWS = 40


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the stored decision "passed" to the moment of indexing, over `sample` credentials."""

    sample: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Outcome:
    """Everything that was found out. new: rows that were not there before this run."""

    reconciliation: Reconciliation
    new: int
    imports: list[str]
    rejections: dict[str, int]
    latency: Latency
    credential_id: str | None
    docs: list[str]
    seconds: float


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of the values do not exceed (nearest rank); None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


async def latency(client: Client, course_run: str) -> Latency:
    """Time real passes by what the services recorded: `recorded_at` of the result, `indexed_at` of the credential."""
    # By id: windows of a short course run overlap, and a result is timed once.
    found = {one["result_id"]: one async for one in _results(client, course_run)}
    passed = [one for one in found.values() if one["outcome"] == "passed"]
    step = max(1, len(passed) // SAMPLE)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def milliseconds(result: dict[str, Any]) -> float | None:
        async with gate:
            try:
                known = await client.call("GET", f"/verifier/v1/credentials/{result['credential_id']}")
            except Refused as refused:
                if refused.status != 404:
                    raise
                return None  # not indexed: the table says so
        indexed_at, decided_at = (datetime.fromisoformat(one) for one in (known["indexed_at"], result["recorded_at"]))
        return (indexed_at - decided_at).total_seconds() * 1000

    asked = await asyncio.gather(*(milliseconds(one) for one in passed[::step]))
    times = [one for one in asked if one is not None]
    return Latency(len(times), percentile(times, 0.50), percentile(times, 0.99))


async def _results(client: Client, course_run: str) -> AsyncIterator[dict[str, Any]]:
    """All results of a small course run; of a large one 40 short runs of them, evenly spread over the time it took."""
    path = "/assessment/v1/results"
    params: dict[str, str | int | None] = {"course_run": course_run, "limit": 1000}
    first = await client.call("GET", path, params=params)
    for one in first["items"]:
        yield one
    if first["next"] is None:
        return
    begin = end = _moment(first["items"][-1])
    async for made in client.pages("/assessment/v1/results/imports", limit=1000):
        if made["course_run"] == course_run and made["finished_at"]:
            end = max(end, datetime.fromisoformat(made["finished_at"]).timestamp())
    for place in range(_WINDOWS):
        # Result ids are UUIDs of version 7: an id made of a moment is a place in the list.
        at = uuid7(int(1000 * (begin + (end - begin) * place / _WINDOWS)), bytes(10))
        page = await client.call("GET", path, params={**params, "after": at, "limit": 50})
        for one in page["items"]:
            yield one


def _moment(result: dict[str, Any]) -> float:
    return datetime.fromisoformat(result["recorded_at"]).timestamp()


async def one_credential(client: Client, course_run: str) -> str | None:
    """A credential to look at."""
    page = await client.call("GET", "/verifier/v1/reports/credentials", params={"course_run": course_run, "limit": 1})
    return str(page["items"][0]) if page["items"] else None


def document(outcome: Outcome, mailbox: Mailbox, inbox: Inbox, url: str, total_seconds: float) -> dict[str, Any]:
    """What --json prints."""
    found = outcome.reconciliation
    links = {"inbox": f"{url}/demo/inbox", "mailbox": f"{url}/demo/mailbox", "docs": outcome.docs}
    if outcome.credential_id is not None:
        links["credential"] = f"{url}/c/{outcome.credential_id}"
    return {
        "accepted": found.accepted,
        "passed": found.passed,
        "not_passed": found.not_passed,
        "issued": found.issued,
        "duplicate": found.duplicate,
        "rejected": found.rejected,
        "dead_lettered": found.dead_lettered,
        "indexed": found.indexed,
        "deliveries": found.deliveries["delivered"],
        "unaccounted": found.unaccounted,
        "seconds": round(outcome.seconds, 3),
        "new": outcome.new,
        "undelivered": found.undelivered,
        "emails": found.emails["sent"],
        **{f"emails_{name}": found.emails[name] for name in EMAIL_STATES if name != "sent"},
        "rejected_for": outcome.rejections,
        "inbox": {"messages": inbox.messages, "repeated": inbox.repeated, "refused": inbox.refused},
        "mailbox": {"received_this_run": mailbox.messages},
        "p50_ms": _rounded(outcome.latency.p50_ms),
        "p99_ms": _rounded(outcome.latency.p99_ms),
        "latency_sample": outcome.latency.sample,
        "imports": outcome.imports,
        "links": links,
        "total_seconds": round(total_seconds, 3),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def show(found: dict[str, Any], output: Output) -> None:
    """The same for people."""
    console = output.out
    console.print()
    reasons = ", ".join(f"{count} {code}" for code, count in found["rejected_for"].items())
    rows: list[tuple[str, str]] = [
        (_number(found["accepted"]), "accepted" + (f" ({found['new']:,} in this run)" if found["new"] else "")),
        (_number(found["passed"]), "passed"),
        (_number(found["not_passed"]), "not passed"),
        (_number(found["issued"]), "issued"),
        (_number(found["duplicate"]), "duplicate"),
        (_number(found["rejected"]), "rejected" + (f": {reasons}" if reasons else "")),
        (_number(found["deliveries"]), "delivered to the partner, signature checked"),
        (_number(found["emails"]), "e-mails to learners"),
        (_number(found["indexed"]), "indexed"),
        (_number(found["dead_lettered"]), "dead lettered"),
        (_number(found["unaccounted"]), "unaccounted"),
    ]
    unsent = [(found[f"emails_{name}"], name) for name in EMAIL_STATES if name != "sent"]
    at = 1 + next(place for place, (_, word) in enumerate(rows) if word.startswith("e-mails"))
    rows[at:at] = [(_number(count), f"e-mails {name}") for count, name in unsent if count]
    if found["p50_ms"] is not None:
        sample = f"from pass to verifiable (of {found['latency_sample']} passes)"
        rows.append((f"{found['p50_ms']:,.0f} / {found['p99_ms']:,.0f} ms", f"p50 / p99 {sample}"))
    for number, word in rows:
        console.print(Text.assemble((f"{number:>18}", "bold"), f"  {word}"))
    if found["emails_uncertain"] or found["emails_failed"]:
        console.print(RETRY_EMAIL)
    if not found["new"]:
        console.print(
            "Nothing new: these results were taken in by an earlier run, and sending them again changed nothing."
        )
    console.print()
    links = found["links"]
    if "credential" in links:
        console.print(f"A credential        {links['credential']}")
    console.print(f"The partner's inbox {links['inbox']}")
    console.print(f"The mailbox         {links['mailbox']}")
    for place, url in enumerate(links["docs"]):
        console.print(f"{'The API' if place == 0 else '':19} {url}")
    console.print()


def _number(value: int) -> str:
    return f"{value:,}"
