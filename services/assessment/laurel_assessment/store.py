"""Achievements and results in PostgreSQL. Every verb works inside the caller's transaction, which decides what is seen.

Imports have a file of their own: import_store.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import asyncpg
import msgspec

from laurel.database import Transaction, as_table
from laurel.events import IssuerProfilePublished
from laurel_assessment.achievements import descriptions_of
from laurel_assessment.domain import History, Policy, Rules, Stored
from laurel_assessment.images import Image

# --- achievements -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edition:
    """One version of an achievement, to be stored. definition: what the author wrote, without the image."""

    tenant_id: str
    achievement_id: str
    version: int
    policy: Policy
    policy_changed: bool
    profile_id: str | None
    name: str
    language: str | None
    repeatable: bool
    definition: Mapping[str, Any]
    document: Mapping[str, Any]
    image: Image | None
    published_at: datetime


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _parsed(value: str | None) -> Any:
    return None if value is None else msgspec.json.decode(value)


async def publish(tx: Transaction, edition: Edition) -> None:
    """Write a version, make it the current one, and keep its policy and image."""
    digest = edition.image.digest if edition.image is not None else None
    await tx.execute(
        "INSERT INTO achievements (achievement_id, tenant_id, version, policy_version, profile_id, name, language, "
        "document, image_digest, repeatable, created_at, published_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) "
        "ON CONFLICT (achievement_id) DO UPDATE SET version = $3, policy_version = $4, profile_id = $5, name = $6, "
        "language = $7, document = $8, image_digest = $9, repeatable = $10, published_at = $11",
        edition.achievement_id, edition.tenant_id, edition.version, edition.policy.version, edition.profile_id,
        edition.name, edition.language, _json(edition.document), digest, edition.repeatable, edition.published_at,
    )  # fmt: skip
    await tx.execute(
        "INSERT INTO achievement_versions (achievement_id, version, tenant_id, policy_version, definition, document, "
        "published_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        edition.achievement_id, edition.version, edition.tenant_id, edition.policy.version, _json(edition.definition),
        _json(edition.document), edition.published_at,
    )  # fmt: skip
    if edition.policy_changed:
        await tx.execute(
            "INSERT INTO policies (achievement_id, version, tenant_id, minimum_score, required_parts, max_attempts, "
            "created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            edition.achievement_id, edition.policy.version, edition.tenant_id, edition.policy.minimum_score,
            _json(edition.policy.required_parts), edition.policy.max_attempts, edition.published_at,
        )  # fmt: skip
    if edition.image is not None:
        await tx.execute(
            "INSERT INTO achievement_images (achievement_id, digest, tenant_id, media_type, content) "
            "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (achievement_id, digest) DO NOTHING",
            edition.achievement_id, digest, edition.tenant_id, edition.image.media_type, edition.image.content,
        )  # fmt: skip


_ACHIEVEMENT = """
SELECT a.achievement_id::text, a.tenant_id, a.version, a.policy_version, a.profile_id, a.name, a.language, a.document,
       a.image_digest, a.repeatable, a.created_at, a.published_at, a.retired_at, v.definition,
       p.minimum_score, p.required_parts, p.max_attempts
FROM achievements a
JOIN achievement_versions v ON v.achievement_id = a.achievement_id AND v.version = a.version
JOIN policies p ON p.achievement_id = a.achievement_id AND p.version = a.policy_version
"""


def _achievement(row: asyncpg.Record) -> dict[str, Any]:
    found = dict(row)
    for name in ("document", "definition", "required_parts"):
        found[name] = _parsed(found[name])
    return found


async def achievement(tx: Transaction, achievement_id: str, *, lock: bool = False) -> dict[str, Any] | None:
    """The current version of an achievement that this transaction may see. lock: nobody else changes it meanwhile."""
    if lock:
        # A statement of its own: after a wait, FOR UPDATE looks again at its own row and at no other of a join, and the
        # version that was current when it began is not the current one's any more.
        await tx.execute("SELECT FROM achievements WHERE achievement_id = $1 FOR UPDATE", achievement_id)
    row = await tx.fetchrow(f"{_ACHIEVEMENT} WHERE a.achievement_id = $1", achievement_id)
    return None if row is None else _achievement(row)


async def achievements(tx: Transaction, *, after: str | None, limit: int) -> list[dict[str, Any]]:
    """A page of achievements, oldest first."""
    rows = await tx.fetch(
        f"{_ACHIEVEMENT} WHERE ($1::uuid IS NULL OR a.achievement_id > $1) ORDER BY a.achievement_id LIMIT $2",
        after, limit,
    )  # fmt: skip
    return [_achievement(row) for row in rows]


async def retire(tx: Transaction, achievement_id: str, now: datetime) -> None:
    """From now on it cannot be earned."""
    await tx.execute("UPDATE achievements SET retired_at = $2 WHERE achievement_id = $1", achievement_id, now)


async def public_achievement(tx: Transaction, achievement_id: str) -> dict[str, Any] | None:
    """What everybody may see of the achievement that the transaction's public_id names."""
    row = await tx.fetchrow(
        "SELECT document, image_digest, name, language, version, retired_at FROM achievements "
        "WHERE achievement_id = $1",
        achievement_id,
    )  # fmt: skip
    return None if row is None else {**row, "document": _parsed(row["document"])}


async def public_image(tx: Transaction, achievement_id: str, digest: str | None) -> Image | None:
    """An image of the achievement that the transaction's public_id names; digest None: the current one."""
    row = await tx.fetchrow(
        "SELECT i.media_type, i.content FROM achievements a JOIN achievement_images i USING (achievement_id) "
        "WHERE a.achievement_id = $1 AND i.digest = coalesce($2, a.image_digest)",
        achievement_id, digest,
    )  # fmt: skip
    return None if row is None else Image(row["media_type"], row["content"])


async def rules(tx: Transaction, tenant_id: str, achievement_ids: Iterable[str], *, base_url: str) -> dict[str, Rules]:
    """What intake needs of a tenant's achievements, by id; unknown ones and other tenants' are left out."""
    rows = await tx.fetch(
        f"{_ACHIEVEMENT} WHERE a.achievement_id = ANY ($1::uuid[]) AND a.tenant_id = $2",
        list(achievement_ids), tenant_id,
    )  # fmt: skip
    found: dict[str, Rules] = {}
    for row in rows:
        name = row["achievement_id"]
        policy = Policy(
            row["policy_version"], row["minimum_score"], _parsed(row["required_parts"]), row["max_attempts"]
        )
        described = descriptions_of(_parsed(row["definition"]), url=f"{base_url}/achievements/{name}")
        found[name] = Rules(name, row["version"], policy, row["repeatable"], row["retired_at"] is not None, described)
    return found


# --- issuer profiles ----------------------------------------------------------------------------------------


async def keep_profile(tx: Transaction, event: IssuerProfilePublished) -> None:
    """Remember whose profile it is; an older version changes nothing."""
    await tx.execute(
        "INSERT INTO issuer_profiles (profile_id, tenant_id, version, did) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (profile_id) DO UPDATE SET version = $3, did = $4 WHERE issuer_profiles.version < $3",
        event.profile_id, event.tenant_id, event.version, event.did,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer profile of this organisation. did: the issuer's id; None: no event has told it here."""

    profile_id: str
    did: str | None


async def issuer(tx: Transaction, tenant_id: str, profile_id: str | None) -> Issuer | None:
    """This organisation's profile of this id; None asks for its first, which issues what names no profile."""
    row = await tx.fetchrow(
        "SELECT profile_id, did FROM issuer_profiles WHERE tenant_id = $1 AND ($2::text IS NULL OR profile_id = $2) "
        "ORDER BY profile_id LIMIT 1",  # their ids are UUIDs of version 7: the first is the oldest
        tenant_id, profile_id,
    )  # fmt: skip
    return None if row is None else Issuer(row["profile_id"], row["did"])


# --- results ------------------------------------------------------------------------------------------------


async def histories(tx: Transaction, pairs: Iterable[tuple[bytes, str]]) -> dict[tuple[bytes, str], History]:
    """What is decided already for these (learner_key, achievement_id)."""
    keys = list(pairs)
    found: dict[tuple[bytes, str], History] = {}
    if not keys:
        return found
    rows = await tx.fetch(
        """
        SELECT r.learner_key, r.achievement_id::text, r.attempt, r.result_id::text, r.content, r.outcome,
               r.credential_id::text
        FROM unnest($1::bytea[], $2::uuid[]) AS wanted (learner_key, achievement_id)
        JOIN results r ON r.learner_key = wanted.learner_key AND r.achievement_id = wanted.achievement_id
        WHERE r.outcome IN ('passed', 'not_passed')
        ORDER BY r.result_id
        """,
        [key for key, _ in keys], [achievement for _, achievement in keys],
    )  # fmt: skip
    for row in rows:
        history = found.setdefault((row["learner_key"], row["achievement_id"]), History())
        passed = row["outcome"] == "passed"
        history.add(row["attempt"], Stored(row["result_id"], row["content"], passed, row["credential_id"]))
    return found


class Recorded(msgspec.Struct, frozen=True):
    """A row of `results`, in the table's order after tenant_id, recorded_at and import_id."""

    result_id: str
    outcome: str
    reasons: tuple[str, ...]
    line: int | None = None
    achievement_id: str | None = None
    achievement_version: int | None = None
    policy_version: int | None = None
    learner: str | None = None
    learner_key: bytes | None = None
    attempt: int | None = None
    award: int | None = None
    credential_id: str | None = None
    duplicate_of: str | None = None
    course_run: str | None = None
    external_id: str | None = None
    score: float | None = None
    parts: Mapping[str, float] | None = None
    content: bytes | None = None
    completed_at: datetime | None = None
    errors: tuple[dict[str, str], ...] | None = None
    row_text: str | None = None


_RECORDED = (
    "result_id uuid, tenant_id text, recorded_at timestamptz, import_id uuid, outcome text, reasons jsonb, "
    "line bigint, achievement_id uuid, achievement_version int, policy_version int, learner text, learner_key bytea, "
    "attempt int, award int, credential_id uuid, duplicate_of uuid, course_run text, external_id text, score float8, "
    "parts jsonb, content bytea, completed_at timestamptz, errors jsonb, row_text text"
)


async def record(
    tx: Transaction, tenant_id: str, rows: Sequence[Recorded], *, import_id: str | None, now: datetime
) -> None:
    """Write results. Raises UniqueViolationError when another transaction decided one of these attempts first."""
    if not rows:
        return
    given = as_table(
        _RECORDED,
        (
            (
                one.result_id, tenant_id, now, import_id, one.outcome, _json(one.reasons), one.line, one.achievement_id,
                one.achievement_version, one.policy_version, one.learner, one.learner_key, one.attempt, one.award,
                one.credential_id, one.duplicate_of, one.course_run, one.external_id, one.score,
                _json(one.parts) if one.parts else None, one.content, one.completed_at,
                _json(one.errors) if one.errors else None, one.row_text,
            )
            for one in rows
        ),
    )  # fmt: skip
    await tx.execute(
        f"INSERT INTO results ({given.names}) SELECT {given.names} FROM {given.table}",  # noqa: S608 - names of ours
        *given.arguments,
    )


_RESULT = """
SELECT result_id::text, outcome, reasons, achievement_id::text, achievement_version, policy_version, learner, attempt,
       credential_id::text, duplicate_of::text, course_run, external_id, score, parts, completed_at, recorded_at,
       import_id::text, line, errors
FROM results
"""


def _result(row: asyncpg.Record) -> dict[str, Any]:
    found = dict(row)
    for name in ("reasons", "parts", "errors"):
        found[name] = _parsed(found[name])
    return found


async def result(tx: Transaction, result_id: str) -> dict[str, Any] | None:
    """One result."""
    row = await tx.fetchrow(f"{_RESULT} WHERE result_id = $1", result_id)
    return None if row is None else _result(row)


OF_LEARNER = """
((achievement_id = ANY (ARRAY(SELECT achievement_id FROM achievements WHERE tenant_id = $1)) AND learner_key = $2
  AND outcome IN ('passed', 'not_passed'))
 OR (learner_key = $2 AND outcome IN ('duplicate', 'rejected')))
"""
"""Results of the learner whose key is $2, of tenant $1. Each half has an index: that of attempts is by achievement."""


async def results(
    tx: Transaction,
    tenant_id: str,
    *,
    learner_key: bytes | None,
    achievement_id: str | None,
    course_run: str | None,
    after: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """A page of results in the order in which they came in: what became of a learner, a course run, an achievement."""
    rows = await tx.fetch(
        f"{_RESULT} WHERE tenant_id = $1 AND {OF_LEARNER if learner_key else '$2::bytea IS NULL'} "
        "AND ($3::uuid IS NULL OR achievement_id = $3) AND ($4::text IS NULL OR course_run = $4) "
        "AND ($5::uuid IS NULL OR result_id > $5) ORDER BY result_id LIMIT $6",
        tenant_id, learner_key, achievement_id, course_run, after, limit,
    )  # fmt: skip
    return [_result(row) for row in rows]


# --- single requests that are sent twice --------------------------------------------------------------------


async def only_here(tx: Transaction, tenant_id: str, operation: str, key: str) -> bool:
    """Whether nobody else is answering this idempotency key now; holds it until the transaction ends."""
    name = f"{operation}:{tenant_id}:{key}"
    return bool(await tx.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 1))", name))


@dataclass(frozen=True, slots=True)
class Answered:
    """What an idempotency key stands for. fingerprint None: the first request is still under way."""

    fingerprint: bytes | None
    status: int | None
    answer: bytes | None


async def answered(tx: Transaction, tenant_id: str, operation: str, key: str) -> Answered | None:
    """What was answered to this key."""
    row = await tx.fetchrow(
        "SELECT fingerprint, status, answer FROM idempotency_keys WHERE tenant_id = $1 AND operation = $2 AND key = $3",
        tenant_id, operation, key,
    )  # fmt: skip
    return None if row is None else Answered(row["fingerprint"], row["status"], row["answer"])


async def remember(
    tx: Transaction, tenant_id: str, operation: str, key: str, fingerprint: bytes, status: int, answer: bytes
) -> None:
    """Keep an answer, in the transaction of what it reports."""
    await tx.execute(
        "INSERT INTO idempotency_keys (tenant_id, operation, key, fingerprint, status, answer, created_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, now())",
        tenant_id, operation, key, fingerprint, status, answer,
    )  # fmt: skip


# --- reports ------------------------------------------------------------------------------------------------


async def counts(tx: Transaction, tenant_id: str, course_run: str | None) -> dict[str, int]:
    """Everything taken in, by what became of it. waiting: rows of imports that no worker has settled yet.

    A row may name its course run itself, and is not read before it is settled: for one course run, `waiting` counts
    every waiting row that may belong to it. It is never short; it is exact once it is 0.
    """
    rows = await tx.fetch(
        "SELECT outcome, count(*) AS n FROM results WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2) "
        "GROUP BY outcome",
        tenant_id, course_run,
    )  # fmt: skip
    found = {row["outcome"]: row["n"] for row in rows}
    waiting = await tx.fetchval(
        "SELECT coalesce(sum(rows - processed), 0)::bigint FROM imports "
        "WHERE tenant_id = $1 AND status = 'processing' AND ($2::text IS NULL OR course_run = $2 "
        "OR coalesce(form->'csv'->'columns' ? 'course_run', true))",
        tenant_id, course_run,
    )  # fmt: skip
    outbox = await tx.fetchval("SELECT count(*) FROM outbox WHERE tenant_id = $1", tenant_id)
    dead = await tx.fetchval(
        "SELECT count(*) FROM dead_letters WHERE tenant_id = $1 AND redriven_at IS NULL", tenant_id
    )
    outcomes = {name: found.get(name, 0) for name in ("passed", "not_passed", "duplicate", "rejected")}
    accepted = sum(outcomes.values()) + waiting
    return {"accepted": accepted, **outcomes, "waiting": waiting, "unsent_events": outbox, "dead_letters": dead}


async def outcomes(
    tx: Transaction, tenant_id: str, course_run: str | None, *, day: date | None, outcome: str | None,
    after: str | None, limit: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """A page of decided rows, in order of the result's id. day: UTC, on which it was recorded."""
    rows = await tx.fetch(
        """
        SELECT result_id::text, outcome, credential_id::text, course_run,
            (recorded_at AT TIME ZONE 'UTC')::date::text AS day
        FROM results WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2)
            AND ($3::date IS NULL OR (recorded_at >= $3::timestamp AT TIME ZONE 'UTC'
                AND recorded_at < ($3::timestamp + interval '1 day') AT TIME ZONE 'UTC'))
            AND ($4::text IS NULL OR outcome = $4) AND ($5::uuid IS NULL OR result_id > $5)
        ORDER BY result_id LIMIT $6
        """,
        tenant_id, course_run, day, outcome, after, limit,
    )  # fmt: skip
    return [dict(row) for row in rows]


async def owed_credentials(
    tx: Transaction, tenant_id: str, course_run: str | None, *, after: str | None, limit: int
) -> list[str]:
    """Ids of the credentials that passed results are owed, in order of the id."""
    rows = await tx.fetch(
        "SELECT credential_id::text FROM results WHERE tenant_id = $1 AND outcome = 'passed' "
        "AND ($2::text IS NULL OR course_run = $2) AND ($3::uuid IS NULL OR credential_id > $3) "
        "ORDER BY credential_id LIMIT $4",
        tenant_id, course_run, after, limit,
    )  # fmt: skip
    return [row["credential_id"] for row in rows]
