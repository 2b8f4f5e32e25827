"""`laurel dlq`: dead letters of all services and tenants, straight from the databases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import msgspec
from rich.table import Table

from laurel import audit
from laurel import dead_letter_store as store
from laurel.database import Database
from laurel.dead_letter_reasons import REASONS, reason
from laurel.dead_letter_store import Redrive, Which
from laurel.dead_letters_api import shown, whole
from laurel.plain_text import legible
from laurel_local.console import Output, write_bytes
from laurel_local.databases import operator, worker_database
from laurel_local.exits import Exit, Failure
from laurel_local.state import State

_HELPS = {"after_fix": "yes, once mended", "never": "no"}
_LOOK_S = 0.5


async def list_letters(state: State, services: Sequence[str], which: Which, *, limit: int, output: Output) -> Exit:
    """`laurel dlq list`."""
    counts: list[dict[str, Any]] = []
    letters: list[dict[str, Any]] = []
    others = 0  # where nothing matches: what is in that state all the same
    codes: set[str] = set()  # and what letters in any state have
    for service in services:
        async with worker_database(service, state) as database, database.transaction() as tx:
            counts += _counted(service, (await store.count(tx, which)).letters)
            rows = await store.find(tx, which, limit=limit)
            if not counts:
                others += sum((await store.count(tx, Which(states=which.states))).letters.values())
                codes |= {code for _, code in (await store.count(tx, Which())).letters}
        letters += [_named(service, shown(row)) for row in rows]
    if not counts:
        _refuse_unknown(which.code, codes)
    output.result(msgspec.to_builtins({"counts": counts, "letters": letters}))
    if output.as_json:
        return Exit.OK
    if not counts:
        none = "no dead letters" if which.states is None else f"no dead letters are {which.states[0]}"
        output.out.print(f"{none} of those that were asked for; others: {others:,}" if others else none)
        return Exit.OK
    output.out.print(_counts_table(counts))
    for one in letters:  # no table: a letter's name fills half a line, and must stand there whole to be copied
        output.out.print(one["letter"])
        died = f"{one['died_at']:%Y-%m-%d %H:%M:%S} {one['consumer']} {one['code']}"
        output.out.print(f"  {died}: {one['state']}, tried again {one['attempts']} times")
        output.out.print(legible(f"  tenant {one['tenant_id'] or 'unknown'}, key {one['key']}"))
    total = sum(one["count"] for one in counts)
    if total > len(letters):
        output.out.print(f"{total - len(letters):,} more; --limit lists more, the other options narrow")
    output.out.print("`laurel dlq show LETTER` tells what to do about one")
    return Exit.OK


def _refuse_unknown(code: str | None, codes: Set[str]) -> None:
    """A code that this version does not know and no letter has is mistyped: "none" would look like "all is well"."""
    if code is None or code in REASONS or code in codes:
        return
    there = f"the letters have {', '.join(sorted(codes))}; " if codes else ""
    fix = f"{there}`laurel dlq reasons` lists all codes"
    raise Failure(f"no dead letter has the code {code!r}, and there is no such code", fix=fix, code=Exit.USAGE)


async def show(state: State, service: str, letter_id: UUID, *, raw: bool, output: Output) -> Exit:
    """`laurel dlq show`."""
    async with worker_database(service, state) as database, database.transaction() as tx:
        row = await store.get(tx, letter_id)
        if row is None:
            raise _no_letter(service, letter_id)
        history = await store.actions(tx, letter_id)
    if raw:
        write_bytes(row["value"])
        return Exit.OK
    found = _named(service, whole(row, history))
    output.result(msgspec.to_builtins(found))
    if not output.as_json:
        _show(found, output)
    return Exit.OK


def _show(found: Mapping[str, Any], output: Output) -> None:
    def say(text: str) -> None:  # a record is a stranger's, whatever it says
        output.out.print(legible(text))

    say(f"{found['letter']}: {found['state']}, {found['code']}")
    say(f"  {found['detail']}")
    say(f"  {found['meaning']}")
    say(f"  what to do: {found['remedy']}")
    say(f"  can a redrive help: {_HELPS[found['redrive_helps']]}")
    place = f"{found['topic']}, partition {found['partition']}, offset {found['offset']}"
    for name, value in (
        ("consumer", found["consumer"]), ("record", place), ("tenant", found["tenant_id"] or "unknown"),
        ("event", found["event_type"] or "unknown"), ("died at", f"{found['died_at']:%Y-%m-%d %H:%M:%S %Z}"),
        ("tries", found["attempts"]), ("key", found["key"]),
    ):  # fmt: skip
        say(f"  {name}: {value}")
    for header in found["headers"]:
        say(f"  header {header['name']}: {header['value']}")
    for act in found["actions"]:
        came = act["outcome"] or f"queued, request {act['request_id']}"
        told = {"died_again": f" {act['code']}: {act['detail']}", "cancelled": f" {act['detail']}"}
        why = told.get(act["outcome"], "")
        note = f" ({act['note']})" if act["note"] else ""
        say(f"  {act['asked_at']:%Y-%m-%d %H:%M:%S} {act['action']} by {act['asked_by']}{note}: {came}{why}")
    value = found["value"]
    if value is None:
        say(f"the value is no text; base64: {found['value_base64']}")
        return
    try:
        value = json.dumps(json.loads(value), indent=1, ensure_ascii=False)
    except ValueError:
        say("the value is no JSON:")
    for line in value.split("\n"):
        say(line)


async def redrive(
    state: State, services: Sequence[str], which: Which, *, named: Mapping[str, Sequence[UUID]] | None, most: int,
    rate: float | None, note: str, by: str | None, dry_run: bool, wait: bool, output: Output,
) -> Exit:  # fmt: skip
    """`laurel dlq redrive`."""
    counts: list[dict[str, Any]] = []
    requests: dict[str, str] = {}
    matched = 0
    async with AsyncExitStack() as opened:
        databases = {name: await opened.enter_async_context(worker_database(name, state)) for name in services}
        for service, database in databases.items():
            wanted = which if named is None else replace(which, ids=named[service])
            async with database.transaction() as tx:
                if dry_run:
                    found = await store.count(tx, wanted)
                else:
                    request_id, found = await store.ask(tx, Redrive(wanted, operator(by), note, rate, most))
                    if found.queued:
                        requests[service] = request_id
                    for tenant_id, queued_of in found.tenants.items():
                        await audit.record(
                            tx, tenant_id, operator(by), "dead_letters.redrive", request_id,
                            details={"queued": queued_of},
                        )  # fmt: skip
            matched += sum(found.letters.values())
            counts += _counted(service, found.letters if dry_run else found.queued)
        queued = 0 if dry_run else sum(one["count"] for one in counts)
        ended = await _wait(databases, requests, output) if wait and requests else None
    result = {"matched": matched, "queued": queued, "dry_run": dry_run, "requests": requests, "counts": counts}
    output.result(result if ended is None else result | {"ended": ended})
    if not output.as_json:
        if counts:
            output.out.print(_counts_table(counts))
        if dry_run:
            output.out.print(f"{matched:,} letters match; nothing was queued (--dry-run)")
        elif matched > queued:
            output.out.print(f"{queued:,} of {matched:,} letters are queued; --max takes more at once")
        else:
            output.out.print(f"{queued:,} letters are queued" if queued else "no letter matches; nothing was queued")
        if ended is not None:
            taken_back = f", {ended['cancelled']:,} cancelled" if ended["cancelled"] else ""
            output.out.print(f"{ended['redriven']:,} redriven, {ended['died_again']:,} died again{taken_back}")
        elif queued:
            output.out.print(
                "the services' workers take them now; `laurel dlq list --status queued` shows what is left"
            )
            for request_id in requests.values():
                output.out.print(f"`laurel dlq cancel --request {request_id}` takes back what is not begun")
    if ended is not None and (ended["died_again"] or ended["cancelled"]):
        return Exit.PARTIAL
    return Exit.OK if matched else Exit.NO


async def _wait(databases: Mapping[str, Database], requests: Mapping[str, str], output: Output) -> dict[str, int]:
    """Until nothing of these requests is queued any more."""
    told = -1
    while True:
        total = dict.fromkeys(store.PROGRESS, 0)
        for service, request_id in requests.items():
            async with databases[service].transaction() as tx:
                for name, number in (await store.progress(tx, request_id) or {}).items():
                    total[name] += number
        if not total["queued"]:
            return total
        if total["queued"] != told:
            told = total["queued"]
            output.note(f"{told:,} still queued; Ctrl-C leaves them to the workers")
        await asyncio.sleep(_LOOK_S)


async def cancel(
    state: State, services: Sequence[str], which: Which, *, named: Mapping[str, Sequence[UUID]] | None,
    request_id: str | None, by: str | None, output: Output,
) -> Exit:  # fmt: skip
    """`laurel dlq cancel`."""
    cancelled = dict.fromkeys(services, 0)
    begun = 0
    for service in services:
        wanted = which if named is None else replace(which, ids=named[service])
        async with worker_database(service, state) as database, database.transaction() as tx:
            done = await store.cancel(tx, wanted, asked_by=operator(by), request_id=request_id)
            for (tenant_id, of), n in done.letters.items():
                cancelled[service] += n
                if tenant_id:
                    await audit.record(
                        tx, tenant_id, operator(by), "dead_letters.cancel", of, details={"cancelled": n}
                    )  # fmt: skip
        begun += done.begun
    total = sum(cancelled.values())
    output.result({"cancelled": total, "begun": begun, "services": {name: n for name, n in cancelled.items() if n}})
    if not output.as_json:
        output.out.print(
            f"{total:,} letters are taken back" if total else "no letter that is queued and not begun matches"
        )
        if begun:
            output.out.print(
                f"{begun:,} are begun, and are left to their consumers; `laurel dlq show` tells how they end"
            )
    return Exit.OK if total else Exit.NO


async def discard(state: State, service: str, letter_id: UUID, *, reason: str, by: str | None, output: Output) -> Exit:
    """`laurel dlq discard`."""
    async with worker_database(service, state) as database, database.transaction() as tx:
        row = await store.get(tx, letter_id)
        before = await store.discard(tx, letter_id, asked_by=operator(by), reason=reason)
        if row is not None and row["tenant_id"] and before == "waiting":
            await audit.record(tx, row["tenant_id"], operator(by), "dead_letter.discard", str(letter_id))
    if before is None:
        raise _no_letter(service, letter_id)
    if before != "waiting":
        first = f"; `laurel dlq cancel {service}/{letter_id}` takes it back first" if before == "queued" else ""
        raise Failure(f"{service}/{letter_id} is {before}", fix=f"only letters that wait can be discarded{first}")
    output.result({"letter": f"{service}/{letter_id}", "state": "discarded"})
    if not output.as_json:
        output.out.print(
            f"{service}/{letter_id} is discarded; `laurel dlq redrive --status discarded` takes it up again"
        )
    return Exit.OK


async def reasons(output: Output) -> Exit:
    """`laurel dlq reasons`."""
    output.result([asdict(one) for one in REASONS.values()])
    if not output.as_json:
        for one in REASONS.values():
            output.out.print(f"{one.code}: {one.meaning}")
            output.out.print(f"  redrive helps: {_HELPS[one.helps]}. {one.remedy}")
    return Exit.OK


def _no_letter(service: str, letter_id: UUID) -> Failure:
    return Failure(
        f"there is no dead letter {service}/{letter_id}", fix="`laurel dlq list --status all` names them all"
    )


def _named(service: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"letter": f"{service}/{found['id']}", "service": service, **found}


def _counted(service: str, counts: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    return [
        {"service": service, "consumer": consumer, "code": code, "count": n, "redrive_helps": reason(code).helps}
        for (consumer, code), n in counts.items()
    ]


def _counts_table(counts: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None)
    table.add_column("letters", justify="right")
    for column in ("consumer", "code", "can a redrive help", "meaning"):
        table.add_column(column)
    for one in counts:
        told = reason(one["code"])
        table.add_row(f"{one['count']:,}", one["consumer"], one["code"], _HELPS[told.helps], told.meaning)
    return table
