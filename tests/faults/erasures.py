"""Learners who are erased while everything breaks, and what must then be there of them: docs/privacy.md.

Some were in an import: it is decided, or still waits. Some had a single result: its credential is issued, or on its
way. Every third comes back and is somebody new.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

if TYPE_CHECKING:
    from tests.faults.account import Account
    from tests.faults.load import Import, Known, Load

EVERY_S = 0.7
SPARED_ONE_IN = 5  # so many imports have one that is not sent again: learners of it may be erased


@dataclass(frozen=True)
class Erased:
    """An erasure, as it was answered. hasty: rows of the learner were perhaps not decided yet."""

    erasure_id: str
    tenant_id: str
    learner: str
    credentials: int
    hasty: bool
    back: str | None = None  # the credential of the learner who came back


def spared(number: int) -> bool:
    """Whether import `number` is never sent again."""
    return number % SPARED_ONE_IN == 1


class Erasing:
    """Erases one learner after the other."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._rng = random.Random(f"{load.known.seed}:erasures")
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; what has begun is ended."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await stop.wait()
                    return
            found = await self._of_an_import() if self._rng.random() < 0.6 else await self._of_a_single()
            if found is not None:
                await self._erase(*found)

    async def _of_an_import(self) -> tuple[str, str, str, bool] | None:
        """Slug, achievement, learner, and whether rows may still wait."""
        known = self._load.known
        able = [one for one in known.imports if not one.resent and spared(one.number)]
        if not able:
            return None
        accepted = able[-1] if self._rng.random() < 0.5 else self._rng.choice(able)
        learners = [one for one in known.learners(accepted) if one not in known.erased]
        if not learners:
            return None
        course = known.course_of(accepted.number)
        learner = self._rng.choice(learners)
        return course.tenant, course.achievement_id, learner, not await self._load.settled(accepted)

    async def _of_a_single(self) -> tuple[str, str, str, bool]:
        self._number += 1
        course = self._rng.choice(self._load.known.courses)
        learner = f"gone-{self._number}"
        who = {"email": f"{learner}@example.org"} if course.mail_one_in else {"did": f"did:example:{learner}"}
        await self._load.single(course.tenant, course.achievement_id, learner, learner, **who)
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.3, 1.5)))
        return course.tenant, course.achievement_id, learner, False

    async def _erase(self, slug: str, achievement_id: str, learner: str, hasty: bool) -> None:
        known = self._load.known
        answer = await self._load.insist(
            "POST", "/assessment/v1/learners/erase", known.keys[slug], (202,), body={"learner": learner}
        )
        back = None
        if self._rng.random() < 0.3:
            back = await self._load.single(
                slug, achievement_id, learner, f"back-{learner}", did=f"did:example:back-{learner}"
            )
        known.erased[learner] = Erased(
            answer["erasure_id"], known.tenants[slug], learner, answer["credentials"], hasty, back
        )


# --- what must be there ---------------------------------------------------------------------------------------------

Open = Callable[[str], AbstractAsyncContextManager["asyncpg.Connection[asyncpg.Record]"]]


@dataclass
class Tombstones:
    """What is erased. versions: (tenant, version) of the change of status that tells of it; 0: none does."""

    ids: set[str] = field(default_factory=set)
    versions: dict[str, tuple[str, int]] = field(default_factory=dict)


async def check(opened: Open, known: Known, account: Account) -> Tombstones:
    """What was erased stands under a tombstone in all of three services, and nowhere else."""
    note = account.note
    stones: dict[str, dict[str, tuple[str, str]]] = {}
    found = Tombstones()
    for service in ("issuer", "verifier", "notifier"):
        async with opened(service) as connection:
            rows = await connection.fetch(
                "SELECT credential_id, tenant_id, erasure_id, last_version FROM erased_credentials"
            )
        stones[service] = {row[0]: (row[1], row[2]) for row in rows}
        found.versions = {row[0]: (row[1], row[3]) for row in rows}
    owed = await _of_assessment(opened, known, account)
    for service, buried in stones.items():
        for identity in sorted(owed.keys() | buried.keys()):
            if owed.get(identity) != buried.get(identity):
                kind = "doubled" if identity not in owed else "lost"
                note(kind, f"credential {identity} is erased in assessment or in {service}, not in both alike")
    found.ids = set(stones["issuer"])
    account.erased = len(found.ids)
    for service, query in _LEFT.items():
        async with opened(service) as connection:
            for row in await connection.fetch(query, list(found.ids)):
                note("wrong", f"credential {row[0]} is erased and something of it is in {service}")
    return found


_LEFT = {
    "issuer": "SELECT credential_id::text FROM credentials WHERE credential_id::text = ANY ($1) "
    "AND (body <> '' OR status <> 'revoked' OR erased_at IS NULL)",
    "verifier": "SELECT credential_id FROM credentials WHERE credential_id = ANY ($1)",
    "notifier": "SELECT credential_id FROM messages m JOIN erased_credentials USING (credential_id) "
    "WHERE credential_id = ANY ($1) AND body <> '' AND message_id <> 'msg_' || credential_id || '_status_' || "
    "last_version UNION ALL SELECT credential_id FROM emails WHERE credential_id = ANY ($1) AND contact IS NOT NULL",
}


async def _of_assessment(opened: Open, known: Known, account: Account) -> dict[str, tuple[str, str]]:
    """(tenant, erasure) of each credential that the erased rows were owed."""
    note = account.note
    asked = {one.erasure_id: one for one in known.erased.values()}
    async with opened("assessment") as connection:
        rows = await connection.fetch("SELECT erasure_id::text, tenant_id, credentials FROM erasures")
        for row in rows:
            told = asked.get(row["erasure_id"])
            if told is None:
                note("doubled", f"erasure {row['erasure_id']} was answered to nobody")
            elif (told.tenant_id, told.credentials) != (row["tenant_id"], row["credentials"]):
                note("wrong", f"erasure {row['erasure_id']} is of {row['credentials']} credentials, not as answered")
        for erasure_id in sorted(asked.keys() - {row["erasure_id"] for row in rows}):
            note("lost", f"erasure {erasure_id} was answered and is not there")
        keys = {UUID(row["erasure_id"]).bytes: row["erasure_id"] for row in rows}
        emptied = await connection.fetch(
            "SELECT learner_key, result_id::text, tenant_id, outcome, credential_id::text, learner IS NULL "
            "AND external_id IS NULL AND score IS NULL AND row_text IS NULL AND completed_at IS NULL AS empty "
            "FROM results WHERE learner_key = ANY ($1)", list(keys),
        )  # fmt: skip
        named = await connection.fetch(
            "SELECT learner, credential_id::text FROM results WHERE learner = ANY ($1)", list(known.erased)
        )
    for row in emptied:
        if not row["empty"]:
            note("wrong", f"result {row['result_id']} ({row['credential_id']}) is erased and says something")
    back = {one.back: one.learner for one in known.erased.values() if one.back is not None}
    for row in named:
        if back.pop(row["credential_id"], None) != row["learner"]:
            note("wrong", f"learner {row['learner']} was erased and has a result")
    for credential_id, learner in back.items():
        note("lost", f"learner {learner} came back and has no result of {credential_id}")
    passed = [row for row in emptied if row["outcome"] == "passed"]
    counts = collections.Counter(keys[row["learner_key"]] for row in passed)
    for one in known.erased.values():
        if counts[one.erasure_id] != one.credentials:
            note(
                "wrong", f"erasure {one.erasure_id} was of {one.credentials} credentials, {counts[one.erasure_id]} are"
            )
    return {row["credential_id"]: (row["tenant_id"], keys[row["learner_key"]]) for row in passed}


def undecided(known: Known, accepted: Import) -> set[int]:
    """Lines (from 1) whose learner was erased while they may have waited: they may be rejected for it."""
    if accepted.resent or not spared(accepted.number):
        return set()
    return {
        place
        for place, learner in enumerate(known.learner_of_each(accepted), 1)
        if learner in known.erased and known.erased[learner].hasty
    }
