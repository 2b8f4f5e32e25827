"""The ledger's first page: every accepted row and every single result has the one outcome that it deserves."""

from __future__ import annotations

import collections
from collections.abc import Collection
from typing import TYPE_CHECKING

from tests.faults import erasures
from tests.faults.load import Known, Single

if TYPE_CHECKING:
    import asyncpg

    from tests.faults.account import Account
    from tests.faults.erasures import Open


async def check(opened: Open, known: Known, erased: Collection[str], account: Account) -> None:
    """Imports and single results against what was sent and answered. erased: credentials whose learner was."""
    counted: collections.Counter[str] = collections.Counter()
    async with opened("assessment") as connection:
        accepted = {one.import_id: one for one in known.imports}
        if len(accepted) != len(known.imports):
            account.note("doubled", "one import was answered for two uploads")
        for row in await connection.fetch("SELECT import_id::text, status, failure FROM imports"):
            if row["import_id"] in accepted and row["status"] != "done":
                account.note("lost", f"accepted import {row['import_id']} is {row['status']}: {row['failure']}")
            if row["import_id"] not in accepted and row["status"] != "failed":
                account.note("doubled", f"import {row['import_id']} is {row['status']} and nobody was told so")
        for import_id, one in accepted.items():
            found = await connection.fetch(
                "SELECT line, outcome FROM results WHERE import_id = $1::uuid ORDER BY line", import_id
            )
            counted.update(row["outcome"] for row in found)
            expected = known.expected(one)
            rejected = {row["line"] for row in found if row["outcome"] == "rejected"}
            for line in erasures.undecided(known, one) & rejected:
                expected[line - 1] = "rejected"
            _lines(import_id, expected, found, account)
        singles = await connection.fetch(
            "SELECT result_id::text, tenant_id, achievement_id::text, learner, attempt, outcome, "
            "credential_id::text FROM results WHERE import_id IS NULL"
        )
        counted.update(row["outcome"] for row in singles)
        _singles(singles, known, erased, account)
        strangers = await connection.fetch(
            "SELECT import_id::text, count(*) FROM results WHERE import_id IS NOT NULL "
            "AND NOT import_id::text = ANY ($1) GROUP BY 1", list(accepted),
        )  # fmt: skip
        for row in strangers:
            account.note("doubled", f"{row['count']} results belong to import {row['import_id']}, which is none", 1)
    account.results, account.outcomes = sum(counted.values()), dict(sorted(counted.items()))


def _singles(rows: list[asyncpg.Record], known: Known, erased: Collection[str], account: Account) -> None:
    """Each that was answered is one row, as answered; what was cut off may be one, and nothing else is."""
    stored = {row["result_id"]: row for row in rows}
    answered = {one.result_id: one for one in known.singles}
    if len(answered) != len(known.singles):
        account.note("doubled", "one result was answered for two that were sent")
    for result_id, one in answered.items():
        if one.outcome != "passed":
            account.note("wrong", f"result {result_id} was answered to be {one.outcome}, and it is a pass")
        if (row := stored.get(result_id)) is None:
            account.note("lost", f"accepted result {result_id} has no row")
            continue
        found = row["outcome"], row["credential_id"], row["tenant_id"], row["achievement_id"], row["attempt"]
        wanted = one.outcome, one.credential_id, one.sent.tenant_id, one.sent.achievement_id, one.sent.attempt
        nameless = row["learner"] is None and one.credential_id in erased
        if found != wanted or not (row["learner"] == one.sent.learner or nameless):
            account.note("wrong", f"accepted result {result_id} is {found} of {row['learner']}, not {wanted}")
    number: collections.Counter[Single] = collections.Counter()
    for row in rows:
        sent = Single(row["tenant_id"], row["achievement_id"], row["learner"], row["attempt"])
        if row["learner"] is None and row["result_id"] in answered:
            sent = answered[row["result_id"]].sent
        number[sent] += 1
        if not known.sent[sent]:
            account.note("doubled", f"result {row['result_id']} of {row['learner']} was sent by nobody")
        elif number[sent] > known.sent[sent]:
            account.note("doubled", f"result {row['result_id']} of {row['learner']} is one more than was sent")


def _lines(import_id: str, expected: list[str], found: list[asyncpg.Record], account: Account) -> None:
    if [row["outcome"] for row in found] == expected and [row["line"] for row in found] == list(
        range(1, len(expected) + 1)
    ):
        return
    lines = collections.Counter(row["line"] for row in found)
    by_line = {row["line"]: row["outcome"] for row in found}
    for line, outcome in enumerate(expected, 1):
        place = f"line {line} of import {import_id}"
        if line not in by_line:
            account.note("lost", f"{place} has no outcome")
        elif lines[line] > 1:
            account.note("doubled", f"{place} has {lines[line]} outcomes")
        elif by_line[line] != outcome:
            kind = {"passed": "lost", "duplicate": "doubled"}.get(outcome, "wrong")
            account.note(kind, f"{place} is {by_line[line]}, not {outcome}")
    for line in lines.keys() - set(range(1, len(expected) + 1)):
        account.note("doubled", f"line {line} of import {import_id} was never sent")
