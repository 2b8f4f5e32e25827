"""Rows read for the API: credentials, and where everything that reached the issuer stands."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from laurel.database import Transaction

Row = asyncpg.Record


async def credential(tx: Transaction, tenant_id: str, credential_id: UUID) -> Row | None:
    """One credential of the tenant, with its bytes."""
    return await tx.fetchrow(
        "SELECT * FROM credentials WHERE credential_id = $1 AND tenant_id = $2", credential_id, tenant_id
    )


async def place_of(tx: Transaction, tenant_id: str, credential_id: UUID) -> int | None:
    """The place of the tenant's credential in the order in which all were issued; None: it has none of that id.

    Of all tenants' credentials: the number is not to be told.
    """
    place: int | None = await tx.fetchval(
        "SELECT seq FROM credentials WHERE credential_id = $1 AND tenant_id = $2", credential_id, tenant_id
    )
    return place


async def credentials(
    tx: Transaction, tenant_id: str, *, achievement_id: str | None, course_run: str | None, status: str | None,
    after: int, limit: int,
) -> list[Row]:  # fmt: skip
    """Credentials of the tenant from behind the place `after`, as they were issued, without their bytes."""
    return await tx.fetch(
        """
        SELECT credential_id, achievement_id, achievement_version, profile_id, course_run, status, status_reason,
               status_version, status_changed_at, issued_at, valid_until
        FROM credentials WHERE tenant_id = $1 AND kind = 'achievement' AND seq > $5
            AND ($2::text IS NULL OR achievement_id = $2)
            AND ($3::text IS NULL OR course_run = $3) AND ($4::text IS NULL OR status = $4)
        ORDER BY seq LIMIT $6
        """,
        tenant_id, achievement_id, course_run, status, after, limit,
    )  # fmt: skip


async def issued_ids(tx: Transaction, tenant_id: str, *, course_run: str | None, after: int, limit: int) -> list[str]:
    """The credential ids of what was issued, in order, from the first one behind the place `after`."""
    rows = await tx.fetch(
        "SELECT credential_id FROM credentials WHERE tenant_id = $1 AND kind = 'achievement' AND seq > $3 "
        "AND erased_at IS NULL "
        "AND ($2::text IS NULL OR course_run = $2) ORDER BY seq LIMIT $4",
        tenant_id, course_run, after, limit,
    )  # fmt: skip
    return [str(row["credential_id"]) for row in rows]


async def waiting(
    tx: Transaction, tenant_id: str, *, course_run: str | None, after: UUID | None, limit: int
) -> list[dict[str, str]]:
    """Passed assessments that are parked or reserved and not yet finished, with the reason, in order of the id."""
    rows = await tx.fetch(
        """
        SELECT credential_id::text, reason FROM (
            SELECT credential_id, reason, course_run FROM parked WHERE tenant_id = $1
            UNION ALL
            SELECT credential_id, 'reserved', course_run FROM intents i WHERE tenant_id = $1
                AND NOT EXISTS (SELECT FROM credentials c WHERE c.credential_id = i.credential_id)
                AND NOT EXISTS (SELECT FROM parked p WHERE p.credential_id = i.credential_id)
        ) w WHERE ($2::text IS NULL OR course_run = $2) AND ($3::uuid IS NULL OR credential_id > $3)
        ORDER BY w.credential_id LIMIT $4
        """,
        tenant_id, course_run, after, limit,
    )  # fmt: skip
    return [dict(row) for row in rows]


async def counts(tx: Transaction, tenant_id: str, *, course_run: str | None, consumer: str) -> dict[str, Any]:
    """Where the tenant's passed assessments stand: issued, reserved, waiting (and for what), dead-lettered."""
    row = await tx.fetchrow(
        """
        SELECT
            (SELECT count(*) FROM credentials WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2))
                - (SELECT count(*) FROM credentials WHERE tenant_id = $1 AND kind = 'endorsement' AND $2::text IS NULL)
                - (SELECT count(*) FROM credentials WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2)
                    AND erased_at IS NOT NULL)
                AS issued,
            (SELECT count(*) FROM erased_credentials WHERE tenant_id = $1 AND $2::text IS NULL)
                + (SELECT count(*) FROM credentials WHERE tenant_id = $1 AND course_run = $2
                    AND erased_at IS NOT NULL) AS erased,
            (SELECT count(*) FROM credentials WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2)
                AND kind = 'achievement' AND status <> 'active' AND status = 'revoked' AND erased_at IS NULL)
                AS revoked,
            (SELECT count(*) FROM credentials WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2)
                AND kind = 'achievement' AND status <> 'active' AND status = 'suspended') AS suspended,
            (SELECT count(*) FROM intents i WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2)
                AND NOT EXISTS (SELECT 1 FROM credentials c WHERE c.credential_id = i.credential_id)
                AND NOT EXISTS (SELECT 1 FROM dead_letters d WHERE d.tenant_id = i.tenant_id AND d.consumer = $3
                    AND d.redriven_at IS NULL AND d.key = convert_to(i.credential_id::text, 'UTF8'))) AS reserved,
            (SELECT count(*) FROM outbox WHERE tenant_id = $1 AND $2::text IS NULL) AS unsent
        """,
        tenant_id, course_run, consumer,
    )  # fmt: skip
    assert row is not None
    dead = await tx.fetch(
        "SELECT value FROM dead_letters WHERE tenant_id = $1 AND consumer = $2 AND redriven_at IS NULL "
        "AND NOT EXISTS (SELECT FROM erased_credentials WHERE convert_to(credential_id, 'UTF8') = key)",
        tenant_id, consumer,
    )  # fmt: skip
    waiting = await tx.fetch(
        "SELECT reason, count(*) AS parked FROM parked WHERE tenant_id = $1 AND ($2::text IS NULL OR course_run = $2) "
        "GROUP BY reason",
        tenant_id, course_run,
    )  # fmt: skip
    reasons = {one["reason"]: one["parked"] for one in waiting}
    dead_lettered = sum(course_run is None or _course_run(one["value"]) == course_run for one in dead)
    return {**dict(row), "dead_lettered": dead_lettered, "waiting": sum(reasons.values()), "waiting_for": reasons}


class _OfCourseRun(msgspec.Struct):
    course_run: str | None = None


def _course_run(value: bytes) -> str | None:
    try:
        return msgspec.json.decode(value, type=_OfCourseRun).course_run
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
