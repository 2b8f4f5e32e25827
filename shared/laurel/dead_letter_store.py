"""What people do with dead letters: find them, look at one, ask for a redrive, take it back, discard one. SQL alone.

Asking writes rows and returns; the consumer's own process carries it out (`laurel.redrive`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

import asyncpg

from laurel.database import Transaction
from laurel.erasure import REASON
from laurel.ids import uuid7

State = Literal["waiting", "queued", "redriven", "discarded"]
Row = asyncpg.Record
PROGRESS = ("queued", "redriven", "died_again", "cancelled")  # what may be of a letter of a request
STATES: tuple[State, ...] = get_args(State)
YEARS = range(2000, 9000)  # in which a letter can have died: what PostgreSQL, Python and every time zone can write

_COLUMNS = (
    'id, tenant_id, consumer, topic, partition, "offset", key, event_type, code, detail, state, attempts, died_at, '
    "redriven_at"
)
_WHERE = """
    ($1::uuid[] IS NULL OR id = ANY ($1)) AND ($2::text[] IS NULL OR state = ANY ($2))
    AND ($3::text IS NULL OR tenant_id = $3) AND ($4::text IS NULL OR consumer = $4)
    AND ($5::text IS NULL OR topic = $5) AND ($6::text IS NULL OR code = $6)
    AND ($7::text IS NULL OR event_type = $7) AND ($8::bytea IS NULL OR key = $8)
    AND ($9::timestamptz IS NULL OR died_at >= $9) AND ($10::timestamptz IS NULL OR died_at < $10)
"""

# What an erasure has emptied says nothing any more that a consumer could do.
_THERE = f"NOT (value = '' AND detail = '{REASON}')"
# What has ended without an outcome of its own was cancelled.
_OUTCOME = "CASE WHEN finished_at IS NOT NULL THEN coalesce(outcome, 'cancelled') END"
_IDS = "CASE WHEN $1::uuid[] IS NOT NULL THEN array_agg({id}) END AS ids"  # of which letters, where ids were asked for


@dataclass(frozen=True, slots=True)
class Which:
    """Dead letters, narrowed by each field that is not None. tenant_id "": those of which no tenant could be read.

    died_from, died_to: from the first moment until before the second.
    """

    ids: Sequence[UUID] | None = None
    states: Sequence[State] | None = None
    tenant_id: str | None = None
    consumer: str | None = None
    topic: str | None = None
    code: str | None = None
    event_type: str | None = None
    key: bytes | None = None
    died_from: datetime | None = None
    died_to: datetime | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What $1 to $10 of the statements stand for."""
        return (
            None if self.ids is None else list(self.ids), None if self.states is None else list(self.states),
            self.tenant_id, self.consumer, self.topic, self.code, self.event_type, self.key, self.died_from,
            self.died_to,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Redrive:
    """A redrive that somebody asks for. rate: letters a second and consumer at most; most: letters at most."""

    which: Which
    asked_by: str
    note: str = ""
    rate: float | None = None
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Matched:
    """Letters that match: by (consumer, code) how many, the most first.

    queued: those of them that were queued, likewise. tenants: how many of those each organisation has, in the order in
    which audit chains are locked; letters whose organisation nobody knows belong to no chain. unmatched: the ids that
    were asked for and name no letter of these, in order.
    """

    letters: dict[tuple[str, str], int]
    queued: dict[tuple[str, str], int]
    tenants: dict[str, int]
    unmatched: list[UUID]


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What was taken back: by (tenant_id, request_id) how many letters, in the order in which audit chains are locked.

    begun: letters that matched and were left to their consumer, because it has begun them.
    """

    letters: dict[tuple[str, str], int]
    begun: int


async def find(tx: Transaction, which: Which, *, after: UUID | None = None, limit: int = 100) -> list[Row]:
    """Letters without their bytes, oldest first, from the first one behind the id `after`."""
    return await tx.fetch(
        f"SELECT {_COLUMNS} FROM dead_letters WHERE {_WHERE} AND ($11::uuid IS NULL OR id > $11) "  # noqa: S608
        "ORDER BY id LIMIT $12",
        *which.arguments, after, limit,
    )  # fmt: skip


async def count(tx: Transaction, which: Which) -> Matched:
    """How many match."""
    rows = await tx.fetch(
        f"SELECT tenant_id, consumer, code, count(*) AS matched, 0 AS queued, {_IDS.format(id='id')} FROM dead_letters "  # noqa: S608
        f"WHERE {_WHERE} GROUP BY 1, 2, 3",
        *which.arguments,
    )
    return _matched(which, rows)


async def get(tx: Transaction, letter_id: UUID, tenant_id: str | None = None) -> Row | None:
    """One letter with its record's bytes. tenant_id: None for the operator, who sees every tenant's."""
    return await tx.fetchrow(
        f"SELECT {_COLUMNS}, value, headers, timestamp_ms FROM dead_letters "  # noqa: S608
        "WHERE id = $1 AND ($2::text IS NULL OR tenant_id = $2)",
        letter_id, tenant_id,
    )  # fmt: skip


async def actions(tx: Transaction, letter_id: UUID) -> list[Row]:
    """What was asked for a letter and what came of it, in order. `was`: its reason before; `code`: the one after."""
    return await tx.fetch(
        f"SELECT request_id, action, asked_by, asked_at, note, was, {_OUTCOME} AS outcome, code, detail, finished_at "  # noqa: S608
        "FROM dead_letter_actions WHERE letter_id = $1 ORDER BY id",
        letter_id,
    )


async def ask(tx: Transaction, asked: Redrive) -> tuple[str, Matched]:
    """Queue letters for a redrive, oldest first; (the request's id, what matched and what of it is queued now).

    A letter that is queued already is left alone, and one that an erasure has emptied. The record of who asked is
    written in the same transaction. One statement, so that what is counted is what is queued; `picked` looks again at
    what somebody else held until then.
    """
    request_id = uuid7()
    rows = await tx.fetch(
        f"""
        WITH matching AS MATERIALIZED (
            SELECT id, tenant_id, consumer, code, state, {_THERE} AS there FROM dead_letters WHERE {_WHERE}
        ), picked AS (
            SELECT id AS letter_id FROM dead_letters
            WHERE id = ANY (ARRAY(SELECT id FROM matching WHERE state <> 'queued' AND there ORDER BY id LIMIT $11))
                AND {_WHERE} AND state <> 'queued' AND {_THERE} ORDER BY id FOR UPDATE
        ), queued AS (
            UPDATE dead_letters d SET state = 'queued' FROM picked p WHERE d.id = p.letter_id AND d.state <> 'queued'
            RETURNING d.id, d.tenant_id, d.code
        ), noted AS (
            INSERT INTO dead_letter_actions (tenant_id, letter_id, request_id, action, asked_by, note, was, rate)
            SELECT tenant_id, id, $12, 'redrive', $13, $14, code, $15 FROM queued ORDER BY id
        )
        SELECT m.tenant_id, m.consumer, m.code, count(*) AS matched, count(q.id) AS queued,
            {_IDS.format(id='m.id')}
        FROM matching m LEFT JOIN queued q ON q.id = m.id GROUP BY 1, 2, 3
        """,  # noqa: S608
        *asked.which.arguments, asked.most, request_id, asked.asked_by, asked.note, asked.rate,
    )  # fmt: skip
    return request_id, _matched(asked.which, rows)


def _matched(which: Which, rows: Sequence[Row]) -> Matched:
    letters: Counter[tuple[str, str]] = Counter()
    queued: Counter[tuple[str, str]] = Counter()
    tenants: Counter[str] = Counter()
    strange = set(which.ids or ())
    for row in rows:
        letters[row["consumer"], row["code"]] += row["matched"]
        queued[row["consumer"], row["code"]] += row["queued"]
        tenants[row["tenant_id"]] += row["queued"]
        strange.difference_update(row["ids"] or ())
    return Matched(
        _most_first(letters), _most_first(queued),
        {one: n for one, n in sorted(tenants.items()) if one and n}, sorted(strange),
    )  # fmt: skip


def _most_first(counted: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {of: n for of, n in sorted(counted.items(), key=lambda one: (-one[1], one[0])) if n}


async def discard(
    tx: Transaction, letter_id: UUID, *, asked_by: str, reason: str, tenant_id: str | None = None
) -> State | None:
    """A letter that waits is to stay unhandled; its state before (anything but `waiting`: nothing was done).

    None: there is no such letter.
    """
    row = await tx.fetchrow(
        "SELECT tenant_id, state, code FROM dead_letters WHERE id = $1 AND ($2::text IS NULL OR tenant_id = $2) "
        "FOR UPDATE",
        letter_id, tenant_id,
    )  # fmt: skip
    if row is None:
        return None
    state: State = row["state"]
    if state == "waiting":
        await tx.execute("UPDATE dead_letters SET state = 'discarded' WHERE id = $1", letter_id)
        await tx.execute(
            "INSERT INTO dead_letter_actions (tenant_id, letter_id, request_id, action, asked_by, note, was, outcome, "
            "finished_at) VALUES ($1, $2, $3, 'discard', $4, $5, $6, 'discarded', now())",
            row["tenant_id"], letter_id, uuid7(), asked_by, reason, row["code"],
        )  # fmt: skip
    return state


async def cancel(tx: Transaction, which: Which, *, asked_by: str, request_id: str | None = None) -> Cancelled:
    """Take letters that are queued out of the queue again, to the state in which they were; all, or one request's.

    A letter that its consumer has begun is left to it: also one whose process died over it, until it has ended.
    Letters are locked before their actions, in the order of their ids, as wherever both are written.
    """
    begun = "SELECT FROM dead_letter_actions a WHERE a.letter_id = d.id AND a.finished_at IS NULL"
    queued = f"FROM dead_letters d WHERE {_WHERE} AND state = 'queued'"
    mine = "($11::text IS NULL OR a.request_id = $11)"
    locked = await tx.fetch(
        f"SELECT id {queued} AND EXISTS ({begun} AND {mine} AND a.starts = 0) ORDER BY id FOR UPDATE",
        *which.arguments, request_id,
    )  # fmt: skip
    # A statement of its own: it sees what has begun until the letters were ours. From here on none can begin.
    rows = await tx.fetch(
        """
        WITH closed AS (
            UPDATE dead_letter_actions a SET finished_at = now(), code = 'cancelled', detail = 'by ' || $2
            WHERE letter_id = ANY ($1) AND finished_at IS NULL AND starts = 0
                AND ($3::text IS NULL OR request_id = $3)
            RETURNING letter_id, tenant_id, request_id
        ), back AS (
            UPDATE dead_letters d SET state = CASE
                WHEN redriven_at IS NOT NULL THEN 'redriven'
                WHEN 'discarded' = (SELECT outcome FROM dead_letter_actions e
                    WHERE e.letter_id = d.id AND outcome IS NOT NULL ORDER BY e.id DESC LIMIT 1) THEN 'discarded'
                ELSE 'waiting' END
            FROM closed WHERE d.id = closed.letter_id AND d.state = 'queued'
        )
        SELECT tenant_id, request_id, count(*) AS n FROM closed GROUP BY 1, 2 ORDER BY 1, 2
        """,
        [row["id"] for row in locked], asked_by, request_id,
    )  # fmt: skip
    left = await tx.fetchval(f"SELECT count(*) {queued} AND EXISTS ({begun} AND {mine})", *which.arguments, request_id)
    return Cancelled({(row["tenant_id"], row["request_id"]): row["n"] for row in rows}, left)


async def progress(tx: Transaction, request_id: str, tenant_id: str | None = None) -> dict[str, int] | None:
    """Of a redrive that was asked for: how many are queued, redriven, died_again, cancelled. None: no such request."""
    rows = await tx.fetch(
        f"SELECT coalesce({_OUTCOME}, 'queued') AS outcome, count(*) AS n FROM dead_letter_actions "  # noqa: S608
        "WHERE request_id = $1 AND action = 'redrive' AND ($2::text IS NULL OR tenant_id = $2) GROUP BY 1",
        request_id, tenant_id,
    )  # fmt: skip
    found = {row["outcome"]: row["n"] for row in rows}
    return {name: found.get(name, 0) for name in PROGRESS} if found else None
