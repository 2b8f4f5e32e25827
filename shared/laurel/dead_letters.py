"""Records that could not be handled: their original bytes and the reason, kept in the transaction of their batch.

A letter's state: `waiting` → `queued` (somebody asked for a redrive) → `redriven` (handled after all), or `waiting`
again with a new reason; `discarded`: somebody decided that it stays unhandled. A redrive that is not begun can be
cancelled: the letter is then what it was before. What was asked and what came of it: rows
of `dead_letter_actions` (`laurel.dead_letter_store`); who carries it out: `laurel.redrive`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from laurel.bus import Message
from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.erasure import REASON

_decoder = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One such record. tenant_id is "" where not even that could be read."""

    message: Message
    tenant_id: str
    event_type: str | None
    code: str
    detail: str

    @classmethod
    def of(cls, delivered: Delivered, code: str, detail: str) -> DeadLetter:
        """The dead letter of a decoded event."""
        return cls(delivered.message, delivered.event.tenant_id, delivered.event.type, code, detail)


def headers_of(stored: bytes) -> tuple[tuple[str, bytes], ...]:
    """The record's headers, from a dead letter's row."""
    return _decoder.decode(stored)


def letters_get_uuids() -> list[str]:
    """Statements of a migration: letters are named by UUIDs, which tell nobody how many there are. Never edit.

    Numbers of one sequence told an organisation how many letters the others had, and could be counted through. Letters
    that are there keep their order and their actions; so do actions whose letter somebody has deleted.
    """
    forced = ("dead_letters", "dead_letter_actions")  # their owner is no exception from policies while they are forced
    return [
        *(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY" for table in forced),
        """
CREATE TEMPORARY TABLE letter_names ON COMMIT DROP AS
SELECT number, uuidv7() AS name
FROM (SELECT id AS number FROM dead_letters UNION SELECT letter_id FROM dead_letter_actions ORDER BY 1) AS numbers
""",
        "ALTER TABLE letter_names ADD PRIMARY KEY (number)",
        "CREATE FUNCTION pg_temp.letter_name(bigint) RETURNS uuid LANGUAGE sql STABLE "
        "AS 'SELECT name FROM pg_temp.letter_names WHERE number = $1'",
        "ALTER TABLE dead_letters ALTER COLUMN id DROP IDENTITY",
        "ALTER TABLE dead_letters ALTER COLUMN id TYPE uuid USING pg_temp.letter_name(id), "
        "ALTER COLUMN id SET DEFAULT uuidv7()",
        "ALTER TABLE dead_letter_actions ALTER COLUMN letter_id TYPE uuid USING pg_temp.letter_name(letter_id)",
        "DROP FUNCTION pg_temp.letter_name(bigint)",
        *(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY" for table in forced),
    ]


async def bury(tx: Transaction, consumer: str, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters. A redelivered record that was buried before stays one row.

    One that is queued for a redrive, or was redriven, has died again: it waits anew, with the new reason.
    """
    if not letters:
        return
    await tx.executemany(
        """
        INSERT INTO dead_letters AS d (tenant_id, consumer, topic, partition, "offset", key, value, headers, event_type,
            code, detail, timestamp_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        ON CONFLICT (consumer, topic, partition, "offset") DO UPDATE SET
            state = 'waiting', redriven_at = NULL, tenant_id = excluded.tenant_id, event_type = excluded.event_type,
            code = excluded.code, detail = excluded.detail, attempts = d.attempts + (d.state = 'queued')::int
        WHERE d.state IN ('queued', 'redriven')
        """,
        [
            (
                _storable(letter.tenant_id), consumer, letter.message.topic, letter.message.partition,
                letter.message.offset, letter.message.key, letter.message.value,
                msgspec.msgpack.encode(letter.message.headers), letter.event_type, letter.code,
                _storable(letter.detail)[:2000], letter.message.timestamp_ms,
            )
            for letter in letters
        ],
    )  # fmt: skip
    # A letter that waits has nothing under way: what was, has ended here.
    await tx.execute(
        """
        UPDATE dead_letter_actions a SET finished_at = now(), outcome = 'died_again', code = d.code, detail = d.detail
        FROM dead_letters d JOIN unnest($2::text[], $3::int[], $4::bigint[]) AS m (topic, partition, "offset")
            ON d.topic = m.topic AND d.partition = m.partition AND d."offset" = m."offset"
        WHERE d.consumer = $1 AND d.state = 'waiting' AND a.letter_id = d.id AND a.finished_at IS NULL
        """,
        consumer, *places(letter.message for letter in letters),
    )  # fmt: skip


async def forget(tx: Transaction, credentials: Sequence[tuple[str, str]]) -> None:
    """Empty what died about these credentials, by (id, tenant): their learner was erased. None is redriven any more.

    Also what died of a tenant that could not be read; its key is the credential's all the same.
    """
    rows = await tx.fetch(
        """
        UPDATE dead_letters d SET value = '', headers = $3, event_type = NULL, detail = $4,
            state = CASE WHEN state IN ('waiting', 'queued') THEN 'discarded' ELSE state END
        FROM unnest($1::bytea[], $2::text[]) AS w (key, tenant_id)
        WHERE d.key = w.key AND d.tenant_id IN (w.tenant_id, '') AND (d.value <> '' OR d.headers <> $3
            OR d.event_type IS NOT NULL OR d.detail <> $4 OR d.state IN ('waiting', 'queued'))
        RETURNING d.id
        """,
        [one.encode() for one, _ in credentials], [one for _, one in credentials], msgspec.msgpack.encode(()), REASON,
    )  # fmt: skip
    if rows:
        # The reason of an earlier death may quote the record. What is cancelled has an end and no outcome.
        await tx.execute(
            "UPDATE dead_letter_actions SET detail = CASE WHEN outcome = 'died_again' THEN NULL ELSE detail END, "
            "outcome = CASE WHEN finished_at IS NULL THEN 'discarded' ELSE outcome END, "
            "finished_at = coalesce(finished_at, now()) WHERE letter_id = ANY ($1::uuid[])",
            [row["id"] for row in rows],
        )


def places(messages: Iterable[Message]) -> tuple[list[str], list[int], list[int]]:
    """Topics, partitions and offsets of messages, as the arrays that `unnest` takes."""
    found = [(one.topic, one.partition, one.offset) for one in messages]
    return [one[0] for one in found], [one[1] for one in found], [one[2] for one in found]


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL and no lone surrogate; a letter must be writable, whatever died."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
