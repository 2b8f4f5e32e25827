"""`laurel replay`: a range of kept events, once more through one consumer's handler.

The reader belongs to no group, so the running group keeps its offsets and goes on. What comes of it is as if the events
were redelivered: effects are idempotent, so what was done before changes nothing and what is missing comes back. Events
that the handler refuses become dead letters, and a dead letter that it now handles is settled.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from laurel import envelope
from laurel.bus import Bus, Message, TopicPartition
from laurel.database import Database
from laurel.envelope import Undecodable
from laurel.ids import uuid7
from laurel.process import load_settings, open_bus, stop_on_signals
from laurel.redrive import settling
from laurel.service import Engine
from laurel.settings import Settings
from laurel_local.console import Output
from laurel_local.databases import operator
from laurel_local.exits import Exit, Failure
from laurel_local.state import State
from laurel_local.status import GROUPS
from laurel_local.up import open_service, settings_class

_PLACE = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,200})/(?P<partition>\d{1,6}):(?P<begin>\d{1,18})\.\.(?P<stop>\d{1,18})"
)


@dataclass(frozen=True)
class Bounds:
    """What is replayed. offsets: instead of everything that is kept; tenant_id: only its events."""

    since: datetime | None = None
    until: datetime | None = None
    offsets: Mapping[TopicPartition, range] = field(default_factory=dict)
    tenant_id: str | None = None


@dataclass
class Replayed:
    """What came of it. read: records in the range; taken: those of them that were replayed (the tenant's)."""

    read: int = 0
    taken: int = 0
    types: Counter[str] = field(default_factory=Counter)
    offsets: dict[str, str] = field(default_factory=dict)
    settled: int = 0
    died: int = 0
    done: bool = True

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "read": self.read, "replayed": self.taken, "types": dict(self.types.most_common()),
            "offsets": self.offsets, "settled": self.settled, "new_dead_letters": self.died, "complete": self.done,
        }  # fmt: skip


def offsets_in(words: Sequence[str]) -> dict[TopicPartition, range]:
    """TOPIC/PARTITION:FROM..TO, from the first offset until before the second. Raises Failure."""
    found: dict[TopicPartition, range] = {}
    for word in words:
        match = _PLACE.fullmatch(word)
        if match is None:
            raise Failure(
                f"{word!r} names no offsets", fix="write it like laurel.credential/3:1000..2000", code=Exit.USAGE
            )
        place = TopicPartition(match["topic"], int(match["partition"]))
        if place in found:
            raise Failure(f"{place.topic}/{place.partition} is given twice", fix="give it once", code=Exit.USAGE)
        if int(match["begin"]) >= int(match["stop"]):
            raise Failure(f"{word!r} holds no offset", fix="FROM must lie before TO; exchange them", code=Exit.USAGE)
        found[place] = range(int(match["begin"]), int(match["stop"]))
    return found


def settings_of(service: str, state: State) -> Settings:
    """From the environment as for `laurel serve`; what is not there, from the state folder of `laurel up`."""
    known = state.read("state.json")
    values: dict[str, Any] = {name: known[name] for name in ("bus_url", "database_url", "public_url") if name in known}
    if state.secrets_file.exists():
        values |= {name.removeprefix("LAUREL_").lower(): value for name, value in state.secrets().items()}
    unset = {name: value for name, value in values.items() if f"LAUREL_{name.upper()}" not in os.environ}
    return load_settings(settings_class(service), **unset)


async def run(
    state: State, group: str, bounds: Bounds, *, dry_run: bool, by: str | None, batch_size: int, output: Output
) -> Exit:
    """`laurel replay`."""
    if group not in GROUPS:
        known = ", ".join(GROUPS)
        raise Failure(f"there is no consumer {group!r}", fix=f"use one of {known}", code=Exit.USAGE)
    topics = [topic.name for topic in GROUPS[group]]
    if foreign := sorted({one.topic for one in bounds.offsets} - set(topics)):
        raise Failure(f"{group} does not read {foreign[0]}", fix=f"it reads {', '.join(topics)}", code=Exit.USAGE)
    service = group.partition(".")[0]
    settings = settings_of(service, state)
    stop = asyncio.Event()
    stop_on_signals(stop)
    bus = open_bus(settings.bus_url)
    try:
        offsets = await _offsets(bus, topics, bounds)
        if dry_run:
            found = await _replay(bus, offsets, bounds, None, stop, batch_size, output)
        else:
            async with open_service(service, settings, bus) as opened:
                consumer = next(one for one in opened.consumers if one.group == group)
                request_id = uuid7()
                engine: Engine[Any] = Engine(
                    settling(consumer, action="replay", asked_by=operator(by), request_id=request_id),
                    bus=bus, database=opened.worker_database, member_id="replay", stuck_after_s=settings.stuck_after_s,
                )  # fmt: skip
                before = await _dead(opened.worker_database, group, offsets)
                found = await _replay(bus, offsets, bounds, engine, stop, batch_size, output)
                found.settled = await _settled(opened.worker_database, request_id)
                found.died = len(await _dead(opened.worker_database, group, offsets) - before)
    finally:
        await bus.close()
    output.result({"consumer": group, "dry_run": dry_run, **found.as_json()})
    if not output.as_json:
        _show(group, found, dry_run=dry_run, output=output)
    if not found.done:
        return Exit.INTERRUPTED
    return Exit.PARTIAL if found.died else Exit.OK


async def _offsets(bus: Bus, topics: Sequence[str], bounds: Bounds) -> dict[TopicPartition, range]:
    def ms(moment: datetime | None) -> int | None:
        return None if moment is None else int(moment.timestamp() * 1000)

    kept = await bus.retained(topics, from_ms=ms(bounds.since), to_ms=ms(bounds.until))
    if not bounds.offsets:
        return kept
    if missing := bounds.offsets.keys() - kept.keys():
        one = min(missing)
        raise Failure(
            f"{one.topic} has no partition {one.partition}",
            fix="`laurel replay --consumer GROUP --dry-run` lists them", code=Exit.USAGE,
        )  # fmt: skip
    return {
        place: range(max(asked.start, kept[place].start), max(asked.start, min(asked.stop, kept[place].stop)))
        for place, asked in bounds.offsets.items()
    }


async def _replay(
    bus: Bus, offsets: Mapping[TopicPartition, range], bounds: Bounds, engine: Engine[Any] | None,
    stop: asyncio.Event, batch_size: int, output: Output,
) -> Replayed:  # fmt: skip
    found = Replayed()
    found.offsets = {f"{one.topic}/{one.partition}": f"{r.start}..{r.stop}" for one, r in sorted(offsets.items())}
    total = sum(len(one) for one in offsets.values())
    told = 0
    async for messages in bus.read(offsets, max_records=batch_size):
        found.read += len(messages)
        taken = [one for one in messages if _counted(one, bounds.tenant_id, found)]
        if taken and engine is not None and not await engine.process(taken, stop):
            found.done = False
            break
        found.taken += len(taken)
        if found.read - told >= 50_000:
            told = found.read
            output.note(f"{found.read:,} of about {total:,} records")
        if stop.is_set():
            found.done = False
            break
    return found


def _counted(message: Message, tenant_id: str | None, found: Replayed) -> bool:
    """Whether it is to be replayed; counts it by its type."""
    try:
        event = envelope.decode(message).event
    except Undecodable as error:
        if tenant_id is None:
            found.types[error.code] += 1
        return tenant_id is None
    if tenant_id is not None and event.tenant_id != tenant_id:
        return False
    found.types[event.type] += 1
    return True


async def _dead(database: Database, group: str, offsets: Mapping[TopicPartition, range]) -> set[UUID]:
    """The letters that wait and lie in the range: the running group may bury others at the same time."""
    rows = await database.fetch(
        "SELECT id, topic, partition, \"offset\" FROM dead_letters WHERE consumer = $1 AND state = 'waiting'", group
    )
    nowhere = range(0)
    return {
        row["id"] for row in rows
        if row["offset"] in offsets.get(TopicPartition(row["topic"], row["partition"]), nowhere)
    }  # fmt: skip


async def _settled(database: Database, request_id: str) -> int:
    rows = await database.fetch(
        "SELECT count(*) AS n FROM dead_letter_actions WHERE request_id = $1 AND outcome = 'redriven'", request_id
    )
    return int(rows[0]["n"])


def _show(group: str, found: Replayed, *, dry_run: bool, output: Output) -> None:
    out = output.out
    for place, what in found.offsets.items():
        out.print(f"  {place}: offsets {what}")
    for name, number in found.types.most_common():
        out.print(f"{number:>12,}  {name}")
    if dry_run:
        out.print(f"{found.taken:,} of {found.read:,} records would go through {group}; nothing was done (--dry-run)")
        return
    out.print(f"{found.taken:,} of {found.read:,} records went through {group}")
    if found.settled:
        out.print(f"{found.settled:,} dead letters are settled by it")
    if found.died:
        out.print(f"{found.died:,} new dead letters; `laurel dlq list --consumer {group}` names them")
    if not found.done:
        out.print("stopped before the end; run it again: what was done changes nothing")
