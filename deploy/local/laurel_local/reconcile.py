"""Promise 1, checked: every accepted result ends as exactly one thing; what is owed, issued and indexed is the same.

Counts can agree by accident, so the ids themselves are compared: the set of credentials that the assessment service
owes against what the issuer issued and what the verifier indexed, exactly, whatever the services count.
"""

from __future__ import annotations

import asyncio
import unicodedata
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from laurel.migrate import SERVICES
from laurel_local.client import Client, Refused
from laurel_local.commands import By, Ids
from laurel_local.console import Output
from laurel_local.deliveries import Endpoint, compare, lines
from laurel_local.exits import Exit, Failure
from laurel_local.ledger import ids_of
from laurel_local.ledger import run as run_ledger
from laurel_local.letters import dead_letters, keys_of

EMAIL_STATES = ("sent", "pending", "sending", "uncertain", "failed", "held", "cancelled")
RETRY_EMAIL = (
    "An e-mail that is uncertain was being handed over when its worker died: whether it arrived, nobody knows. Send it "
    "again, like a failed one, with POST /notifier/v1/emails/{credential_id}/retry (GET /notifier/v1/emails?state=… "
    "lists them)."
)
_LISTED = 1000  # ids of one difference that are printed; the count is always whole


@dataclass
class Differences:
    """Credential ids that stand in one set and not in the other. `dead` are not in any: they are accounted for."""

    owed_not_issued: set[bytes] = field(default_factory=set)
    issued_not_owed: set[bytes] = field(default_factory=set)
    issued_not_indexed: set[bytes] = field(default_factory=set)
    indexed_not_issued: set[bytes] = field(default_factory=set)

    issued_not_delivered: set[bytes] = field(default_factory=set)  # no delivery to an endpoint that wanted it

    def __len__(self) -> int:
        return sum(len(ids) for ids in vars(self).values())


@dataclass
class Reconciliation:
    """What became of everything that was taken in. waiting: rows that are taken in and not yet decided."""

    accepted: int
    passed: int
    not_passed: int
    duplicate: int
    rejected: int
    waiting: int
    issued: int
    indexed: int
    erased: int
    dead_lettered: int
    deliveries: Counter[str]
    dead_letters: list[dict[str, Any]]
    differences: Differences
    counts: dict[str, dict[str, Any]]
    endpoints: dict[str, Endpoint] = field(default_factory=dict)

    @property
    def emails(self) -> Counter[str]:
        """E-mails to learners, by state. They account for nothing, and are not silent when they fail."""
        notifier = self.counts["notifier"]
        return Counter({name: int(notifier.get(f"emails_{name}", 0)) for name in EMAIL_STATES})

    @property
    def unaccounted(self) -> int:
        """Rows without an end, and ids that are in one place and not in the other."""
        lost = self.accepted - self.passed - self.not_passed - self.duplicate - self.rejected
        return abs(lost) + len(self.differences)

    @property
    def waiting_for(self) -> dict[str, int]:
        """Why the issuer cannot issue passed results yet: reason → how many."""
        return dict(self.counts["issuer"].get("waiting_for") or {})

    @property
    def undelivered(self) -> int:
        """Webhook deliveries that have not (yet) succeeded."""
        return sum(count for state, count in self.deliveries.items() if state != "delivered")

    def as_json(self) -> dict[str, Any]:
        """For --json; lists of ids are cut at 1,000, counts are not."""
        return {
            "accepted": self.accepted, "passed": self.passed, "not_passed": self.not_passed, "issued": self.issued,
            "erased": self.erased, "duplicate": self.duplicate, "rejected": self.rejected,
            "dead_lettered": self.dead_lettered,
            "waiting": self.waiting, "waiting_for": self.waiting_for, "indexed": self.indexed,
            "deliveries": dict(self.deliveries), "emails": dict(self.emails),
            "endpoints": {name: one.as_json() for name, one in self.endpoints.items()}, "unaccounted": self.unaccounted,
            "differences": {
                name: {"count": len(ids), "credential_ids": [_text(one) for one in sorted(ids)[:_LISTED]]}
                for name, ids in vars(self.differences).items()
            },
            "dead_letters": self.dead_letters[:_LISTED],
        }  # fmt: skip


async def reconcile(client: Client, course_run: str | None = None) -> Reconciliation:
    """Ask all four services, and compare. course_run: only what belongs to it."""
    reports = await asyncio.gather(
        *(client.call("GET", f"/{name}/v1/reports/reconcile", params={"course_run": course_run}) for name in SERVICES)
    )
    counts = {name: report["counts"] for name, report in zip(SERVICES, reports, strict=True)}
    # Before the ids: what is redriven meanwhile stands in both then, and never in neither.
    letters = await dead_letters(client)
    three = ("assessment", "issuer", "verifier")
    owed, issued, indexed = await asyncio.gather(
        *(ids_of(client, f"/{name}/v1/reports/credentials", course_run) for name in three)
    )
    # Behind the others: what is erased meanwhile stands here at least.
    erased = await ids_of(client, "/issuer/v1/reports/erased")
    dead = {name: keys_of(letters, name) for name in ("issuer", "verifier", "notifier")}
    endpoints, deliveries = await compare(client, course_run, issued, dead["notifier"])
    differences = Differences(
        owed_not_issued=owed - issued - erased - dead["issuer"],
        issued_not_owed=issued - owed,
        issued_not_indexed=issued - indexed - erased - dead["verifier"],
        indexed_not_issued=indexed - issued - erased,
        issued_not_delivered=set[bytes]().union(*(one.missing for one in endpoints.values())),
    )
    found = counts["assessment"]
    return Reconciliation(
        accepted=found["accepted"], passed=found["passed"], not_passed=found["not_passed"],
        duplicate=found["duplicate"], rejected=found["rejected"], waiting=found.get("waiting", 0),
        issued=len(issued & owed), indexed=len(indexed & issued), erased=len((owed - issued) & erased),
        dead_lettered=len((owed - issued - erased) & dead["issuer"]),
        deliveries=deliveries, dead_letters=letters, differences=differences, counts=counts,
        endpoints=endpoints,
    )  # fmt: skip


def _text(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw))


async def run(
    client: Client, course_run: str | None, output: Output, *, day: date | None = None, by: Sequence[By] = (),
    ids: Ids | None = None,
) -> Exit:  # fmt: skip
    """`laurel reconcile`. With day, by or ids: row by row, see ledger.py."""
    if course_run is not None:
        # As the services keep it: however its accents are composed, and without blanks around it.
        course_run = unicodedata.normalize("NFC", course_run.strip())
        if not course_run:
            raise Failure("the course run is blank", fix="name one, or leave it out for everything", code=Exit.USAGE)
    if day is not None or by or ids is not None:
        return await run_ledger(client, course_run, day=day, by=by, ids=ids, output=output)
    async with client:
        try:
            found = await reconcile(client, course_run)
        except Refused as refused:
            if refused.status != 422 or course_run is None:
                raise
            fix = "name a course run as it was sent with the results: 1 to 200 printable characters"
            raise Failure(refused.message, fix=fix, code=Exit.USAGE) from None
    # A course run that nobody knows is most likely misspelt: "everything is accounted for" would calm for nothing.
    unknown = course_run is not None and found.accepted == 0
    output.result(found.as_json())
    if not output.as_json:
        for number, word in _lines(found):
            output.out.print(f"{number:>12,}  {word}")
        for name, ids in vars(found.differences).items():
            if ids:
                output.out.print(f"{name.replace('_', ' ')}: {len(ids)}")
                for one in sorted(ids)[:_LISTED]:
                    output.out.print(f"  {_text(one)}")
        for line in lines(found.endpoints):
            output.out.print(line)
        if found.emails["uncertain"] or found.emails["failed"]:
            output.out.print(RETRY_EMAIL)
        for reason, number in sorted(found.waiting_for.items()):
            output.out.print(f"the issuer waits with {number:,}: {reason}")
        if found.waiting and course_run is not None:
            output.out.print("waiting to be decided: rows of imports that may belong to this course run, or to another")
        if found.accepted == 0:
            output.out.print(f"no results of {course_run!r}" if course_run is not None else "no results yet")
        if found.unaccounted:
            output.out.print(f"{found.unaccounted} unaccounted for")
        elif not unknown:
            output.out.print("everything is accounted for")
    return Exit.NO if found.unaccounted or unknown else Exit.OK


def _lines(found: Reconciliation) -> list[tuple[int, str]]:
    return [
        (found.accepted, "accepted"), (found.issued, "issued"), *([(found.erased, "erased")] if found.erased else []),
        (found.not_passed, "not passed"), (found.duplicate, "duplicate"), (found.rejected, "rejected"),
        (found.dead_lettered, "dead lettered"),
        (found.waiting, "waiting to be decided"), (found.indexed, "indexed"),
        *((number, f"deliveries {state}") for state, number in sorted(found.deliveries.items())),
        *((number, f"e-mails {state}") for state, number in found.emails.items() if number),
        (found.unaccounted, "unaccounted"),
    ]  # fmt: skip
