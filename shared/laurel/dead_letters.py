"""Records that could not be handled: their original bytes and the reason, kept in the transaction of their batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from laurel.bus import Message
from laurel.database import Transaction
from laurel.envelope import Delivered


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


async def bury(tx: Transaction, consumer: str, letters: Sequence[DeadLetter]) -> None:
    """Write dead letters. A redelivered record that was buried before stays one row."""
    if not letters:
        return
    await tx.executemany(
        """
        INSERT INTO dead_letters
            (tenant_id, consumer, topic, partition, "offset", key, value, headers, event_type, code, detail)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (consumer, topic, partition, "offset") DO NOTHING
        """,
        [
            (
                letter.tenant_id, consumer, letter.message.topic, letter.message.partition, letter.message.offset,
                letter.message.key, letter.message.value, msgspec.msgpack.encode(letter.message.headers),
                letter.event_type, letter.code, letter.detail[:2000],
            )
            for letter in letters
        ],
    )  # fmt: skip
