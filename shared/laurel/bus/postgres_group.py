"""Consumer groups in PostgreSQL: who is a living member, and who should own which partition.

There is no coordinator process. Each member keeps a row fresh (heartbeat) and holds an advisory lock for its life; all
members read the same rows and compute the same assignment. Ownership itself is decided by advisory locks alone, so a
member with a stale view can be slow to give up or to take, but two members never own one partition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from laurel.bus import BusError, TopicPartition
from laurel.bus.postgres_session import FENCE, Connection, advisory_key

_HEARTBEAT = """
    UPDATE {s}.members SET heartbeat = clock_timestamp() WHERE grp = $1 AND member_id = $2 AND instance = $3
"""
_MEMBERS = """
    SELECT m.member_id, m.instance, m.topics, m.joined_at, l.pid,
        m.heartbeat < clock_timestamp() - $2::float8 * interval '1 second' AS silent
    FROM {s}.members m LEFT JOIN pg_locks l
        ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ((l.classid::bigint << 32) | l.objid::bigint) = m.lock_key
    WHERE m.grp = $1 ORDER BY m.member_id
"""
_UPSERT = """
    INSERT INTO {s}.members (grp, member_id, instance, lock_key, topics) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (grp, member_id) DO UPDATE SET instance = excluded.instance, lock_key = excluded.lock_key,
        topics = excluded.topics, heartbeat = clock_timestamp(), joined_at = clock_timestamp()
"""
_LEAVE = "DELETE FROM {s}.members WHERE grp = $1 AND member_id = $2 AND instance = $3"
_PARTITIONS = "SELECT id, topic, partition FROM {s}.partitions WHERE topic = ANY ($1)"


@dataclass(frozen=True, slots=True)
class Member:
    """This process's part in a group. ``instance`` tells two processes with one member_id apart."""

    schema: str
    group: str
    member_id: str
    instance: UUID
    topics: tuple[str, ...]

    def lock_key(self) -> int:
        return advisory_key(self.schema, "member", self.group, str(self.instance))

    def partition_key(self, owned: TopicPartition) -> int:
        return advisory_key(self.schema, "partition", self.group, owned.topic, str(owned.partition))


async def join(connection: Connection, member: Member, session_timeout: float, *, again: bool) -> None:
    """Enter the member's row, fencing an older process with the same member_id.

    ``again``: this process was a member before. When another living process has taken its member_id since, raises
    BusError: two processes with one id would throw each other out for ever.
    """
    s = member.schema
    await connection.execute(FENCE, member.lock_key())  # a connection of ours that the server still believes in
    await connection.execute("SELECT pg_advisory_lock($1)", member.lock_key())
    for row in await connection.fetch(_MEMBERS.format(s=s), member.group, session_timeout):
        if row["member_id"] != member.member_id or row["instance"] == member.instance or row["pid"] is None:
            continue
        if again and not row["silent"]:
            raise BusError(
                f"another process is member {member.member_id!r} of group {member.group!r}: "
                "give every process a member_id of its own (the pod's name)"
            )
        await connection.execute("SELECT pg_terminate_backend($1)", row["pid"])
    await connection.execute(
        _UPSERT.format(s=s),
        member.group,
        member.member_id,
        member.instance,
        member.lock_key(),
        list(member.topics),
    )
    await notify_group(connection, member)


async def leave(connection: Connection, member: Member) -> None:
    await connection.execute(_LEAVE.format(s=member.schema), member.group, member.member_id, member.instance)
    await notify_group(connection, member)


async def notify_group(connection: Connection, member: Member) -> None:
    await connection.execute("SELECT pg_notify($1, $2)", member.schema, f"g:{member.group}")


async def heartbeat(connection: Connection, member: Member) -> bool:
    """Tell the others that we live. False: our row is gone or another process's."""
    status = await connection.execute(
        _HEARTBEAT.format(s=member.schema), member.group, member.member_id, member.instance
    )
    return status == "UPDATE 1"


async def assignments(
    connection: Connection, member: Member, session_timeout: float
) -> tuple[dict[TopicPartition, int], frozenset[TopicPartition]]:
    """All partitions of our topics (with their row ids), and those that this member should own.

    Clears away the dead (no lock: their connection ended) and fences the silent (a lock, but no heartbeat for
    ``session_timeout``: their process is stopped or blocked) so that their partitions become free.
    """
    s = member.schema
    living: list[tuple[str, Sequence[str]]] = []
    for row in await connection.fetch(_MEMBERS.format(s=s), member.group, session_timeout):
        if row["instance"] == member.instance or (row["pid"] is not None and not row["silent"]):
            living.append((row["member_id"], row["topics"]))
        else:
            await _expel(connection, member, row)
    topics = sorted({topic for _, subscribed in living for topic in subscribed})
    ids = {
        TopicPartition(row["topic"], row["partition"]): row["id"]
        for row in await connection.fetch(_PARTITIONS.format(s=s), topics)
    }
    mine = {p: i for p, i in ids.items() if p.topic in member.topics}
    return mine, fair_share(living, sorted(ids))[member.member_id]


async def _expel(connection: Connection, member: Member, row: asyncpg.Record) -> None:
    if row["pid"] is not None:
        # Needs the same role as the silent member's, or pg_signal_backend.
        await connection.execute("SELECT pg_terminate_backend($1)", row["pid"])
    await connection.execute(_LEAVE.format(s=member.schema), member.group, row["member_id"], row["instance"])


def fair_share(
    members: Sequence[tuple[str, Sequence[str]]], partitions: Sequence[TopicPartition]
) -> dict[str, frozenset[TopicPartition]]:
    """Give each partition to the subscribed member that has fewest so far; ties go by member_id.

    ``members``: (member_id, topics). The same for every member that sees the same rows; loads differ by at most one
    where all subscribe alike.
    """
    share: dict[str, list[TopicPartition]] = {name: [] for name, _ in sorted(members)}
    subscribed = {name: frozenset(topics) for name, topics in members}
    for partition in partitions:
        takers = [name for name in share if partition.topic in subscribed[name]]
        if takers:
            share[min(takers, key=lambda name: len(share[name]))].append(partition)
    return {name: frozenset(owned) for name, owned in share.items()}
