"""Imports in PostgreSQL: an upload is spooled in chunks; each is owed until the transaction that settles it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from laurel.database import Transaction
from laurel_assessment.records import Record
from laurel_assessment.rows import CsvForm


class Form(msgspec.Struct, frozen=True):
    """How a body is written. csv None: NDJSON."""

    csv: CsvForm | None = None


class Request(NamedTuple):
    """What an upload asks for, apart from its rows."""

    form: Form
    achievement_id: str | None
    course_run: str | None
    traceparent: str | None


_chunk_decoder = msgspec.msgpack.Decoder(list[Record])


async def begin(
    tx: Transaction, tenant_id: str, import_id: str, request: Request, *, key: str | None, now: datetime
) -> bool:
    """Open an import. False when its idempotency key is taken: somebody else is sending the same."""
    if key is not None:
        taken = await tx.execute(
            "INSERT INTO idempotency_keys (tenant_id, operation, key, import_id, created_at) "
            "VALUES ($1, 'import', $2, $3, $4) ON CONFLICT DO NOTHING",
            tenant_id, key, import_id, now,
        )  # fmt: skip
        if taken != "INSERT 0 1":
            return False
    await tx.execute(
        "INSERT INTO imports (import_id, tenant_id, status, form, achievement_id, course_run, created_at, traceparent) "
        "VALUES ($1, $2, 'receiving', $3, $4, $5, $6, $7)",
        import_id, tenant_id, msgspec.json.encode(request.form).decode(), request.achievement_id, request.course_run,
        now, request.traceparent,
    )  # fmt: skip
    return True


async def append_chunk(tx: Transaction, tenant_id: str, import_id: str, seq: int, records: Sequence[Record]) -> bool:
    """Spool whole records. False when the import is no longer open."""
    open_still = await tx.execute(
        "UPDATE imports SET rows = rows + $2, chunks = chunks + 1, heard_at = now() "
        "WHERE import_id = $1 AND status = 'receiving'",
        import_id, len(records),
    )  # fmt: skip
    if open_still != "UPDATE 1":
        return False
    await tx.execute(
        "INSERT INTO import_chunks (import_id, seq, tenant_id, rows, payload) VALUES ($1, $2, $3, $4, $5)",
        import_id, seq, tenant_id, len(records), msgspec.msgpack.encode(records),
    )  # fmt: skip
    return True


async def still_coming(tx: Transaction, import_id: str) -> None:
    """The upload is slow, not dead."""
    await tx.execute("UPDATE imports SET heard_at = now() WHERE import_id = $1 AND status = 'receiving'", import_id)


async def complete(
    tx: Transaction,
    tenant_id: str,
    import_id: str,
    *,
    size: int,
    sha256: bytes,
    key: str | None,
    fingerprint: bytes,
    answer: bytes,
) -> bool:
    """The upload is whole: from here on a worker owes it. False when the import is no longer open."""
    done = await tx.execute(
        "UPDATE imports SET status = 'processing', bytes = $2, sha256 = $3, heard_at = now() "
        "WHERE import_id = $1 AND status = 'receiving'",
        import_id, size, sha256,
    )  # fmt: skip
    if done != "UPDATE 1":
        return False
    if key is not None:
        await tx.execute(
            "UPDATE idempotency_keys SET fingerprint = $3, status = 202, answer = $4 "
            "WHERE tenant_id = $1 AND operation = 'import' AND key = $2",
            tenant_id, key, fingerprint, answer,
        )  # fmt: skip
    return True


async def fail(tx: Transaction, import_id: str, reason: str) -> None:
    """The upload broke off: nothing of it is processed, and its idempotency key is free again."""
    failed = await tx.execute(
        "UPDATE imports SET status = 'failed', failure = $2, finished_at = now() "
        "WHERE import_id = $1 AND status = 'receiving'",
        import_id, reason,
    )  # fmt: skip
    if failed == "UPDATE 1":
        await tx.execute("DELETE FROM import_chunks WHERE import_id = $1", import_id)
        await tx.execute("DELETE FROM idempotency_keys WHERE import_id = $1", import_id)


async def fail_abandoned(tx: Transaction, *, silent_s: float) -> list[str]:
    """Fail the uploads whose process died: nothing was heard of them for so long. Returns their ids."""
    rows = await tx.fetch(
        "SELECT import_id::text FROM imports "
        "WHERE status = 'receiving' AND heard_at < now() - make_interval(secs => $1) "
        "ORDER BY import_id FOR UPDATE SKIP LOCKED",  # one that is heard of at this moment is not silent
        silent_s,
    )
    for row in rows:
        await fail(tx, row["import_id"], "upload_interrupted: the upload ended before its end; send it again")
    return [row["import_id"] for row in rows]


async def forget_answers(tx: Transaction, *, days: int) -> None:
    """Idempotency keys are kept for so long; the rows that they led to stay, and catch duplicates by themselves."""
    await tx.execute(
        "DELETE FROM idempotency_keys WHERE fingerprint IS NOT NULL AND created_at < now() - make_interval(days => $1)",
        days,
    )


class Work(NamedTuple):
    """A chunk to settle, and what is known of its import."""

    import_id: str
    tenant_id: str
    form: Form
    achievement_id: str | None
    course_run: str | None
    created_at: datetime
    traceparent: str | None
    seq: int
    records: list[Record]


async def next_chunk(tx: Transaction) -> Work | None:
    """The next chunk that is owed, of the import that waited longest; its import is locked until the transaction ends.

    One chunk of an import at a time keeps the order of its lines; taking turns keeps a small import from waiting for a
    large one.
    """
    row = await tx.fetchrow(
        "SELECT import_id::text, tenant_id, form, achievement_id, course_run, created_at, traceparent FROM imports "
        "WHERE status = 'processing' ORDER BY coalesce(worked_at, created_at), import_id LIMIT 1 FOR UPDATE SKIP LOCKED"
    )
    if row is None:
        return None
    chunk = await tx.fetchrow(
        "SELECT seq, payload FROM import_chunks WHERE import_id = $1 ORDER BY seq LIMIT 1", row["import_id"]
    )
    if chunk is None:
        raise RuntimeError(f"import {row['import_id']} is processing and has no chunk left")
    form = msgspec.json.decode(row["form"], type=Form)
    return Work(
        row["import_id"], row["tenant_id"], form, row["achievement_id"], row["course_run"], row["created_at"],
        row["traceparent"], chunk["seq"], _chunk_decoder.decode(chunk["payload"]),
    )  # fmt: skip


async def chunk_settled(tx: Transaction, work: Work, outcomes: Mapping[str, int], *, now: datetime) -> bool:
    """The chunk is done with: it goes, and the import's numbers grow. True when it was the last one."""
    await tx.execute("DELETE FROM import_chunks WHERE import_id = $1 AND seq = $2", work.import_id, work.seq)
    return bool(
        await tx.fetchval(
            """
            UPDATE imports SET processed = processed + $2, passed = passed + $3, not_passed = not_passed + $4,
                duplicate = duplicate + $5, rejected = rejected + $6, chunks_processed = chunks_processed + 1,
                worked_at = clock_timestamp(),
                status = CASE WHEN chunks_processed + 1 = chunks THEN 'done' ELSE status END,
                finished_at = CASE WHEN chunks_processed + 1 = chunks THEN $7::timestamptz END
            WHERE import_id = $1 RETURNING status = 'done'
            """,
            work.import_id,
            len(work.records),
            outcomes.get("passed", 0),
            outcomes.get("not_passed", 0),
            outcomes.get("duplicate", 0),
            outcomes.get("rejected", 0),
            now,
        )
    )


_IMPORT = """
SELECT import_id::text, status, failure, achievement_id, course_run, bytes, rows, processed, passed, not_passed,
       duplicate, rejected, created_at, finished_at
FROM imports
"""


def _import(row: asyncpg.Record) -> dict[str, Any]:
    found = dict(row)
    found["accepted"] = found["rows"] if found["status"] in ("processing", "done") else 0
    return found


async def one_import(tx: Transaction, import_id: str) -> dict[str, Any] | None:
    """An import as it stands now."""
    row = await tx.fetchrow(f"{_IMPORT} WHERE import_id = $1", import_id)
    return None if row is None else _import(row)


async def imports(tx: Transaction, *, after: str | None, limit: int) -> list[dict[str, Any]]:
    """A page of imports, oldest first."""
    rows = await tx.fetch(
        f"{_IMPORT} WHERE ($1::uuid IS NULL OR import_id > $1) ORDER BY import_id LIMIT $2", after, limit
    )
    return [_import(row) for row in rows]


async def rejections(tx: Transaction, import_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
    """A page of an import's rejected rows, by line."""
    rows = await tx.fetch(
        "SELECT line, errors, row_text FROM results "
        "WHERE import_id = $1 AND line > $2 AND outcome = 'rejected' ORDER BY line LIMIT $3",
        import_id, after, limit,
    )  # fmt: skip
    items = []
    for row in rows:
        errors = msgspec.json.decode(row["errors"])
        items.append({"line": row["line"], **errors[0], "errors": errors, "row": row["row_text"]})
    return items


async def outcomes(tx: Transaction, import_id: str, *, after: int, limit: int) -> list[dict[str, Any]]:
    """A page of what became of an import's rows, by line."""
    rows = await tx.fetch(
        "SELECT line, learner, outcome, result_id::text, attempt, credential_id::text, reasons FROM results "
        "WHERE import_id = $1 AND line > $2 ORDER BY line LIMIT $3",
        import_id, after, limit,
    )  # fmt: skip
    return [{**row, "reasons": msgspec.json.decode(row["reasons"])} for row in rows]


class Backlog(NamedTuple):
    """What waits behind intake, of all tenants. outbox: events, by their ids; spooled: rows that nobody has decided."""

    outbox: int
    outbox_head: int
    outbox_age_s: float
    spooled: int


async def backlog(tx: Transaction, *, now: datetime) -> Backlog:
    """Both queues, by their ends: what it costs does not grow with them."""
    row = await tx.fetchrow(
        """
        SELECT head.id, head.occurred_at, (SELECT max(id) FROM outbox) AS last,
               (SELECT coalesce(sum(rows - processed), 0)::bigint FROM imports
                WHERE status IN ('receiving', 'processing')) AS spooled
        FROM (SELECT) AS one LEFT JOIN LATERAL (SELECT id, occurred_at FROM outbox ORDER BY id LIMIT 1) AS head ON true
        """
    )
    assert row is not None
    if row["id"] is None:
        return Backlog(0, 0, 0.0, row["spooled"])
    age = max(0.0, (now - row["occurred_at"]).total_seconds())
    return Backlog(row["last"] - row["id"] + 1, row["id"], age, row["spooled"])
