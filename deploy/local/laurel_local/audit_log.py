"""`laurel audit`: check the hash chains of the audit log, page by page, by the API or in the database; export them."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from laurel import audit
from laurel.audit import Broken, Head
from laurel.database import Database
from laurel.migrate import SERVICES
from laurel_local.client import Client
from laurel_local.console import Output
from laurel_local.databases import reached
from laurel_local.exits import Exit, Failure

Entry = dict[str, Any]
Kept = Mapping[tuple[str, str], Head]
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Chain:
    """What was found of one chain. broken: the first entry that does not fit, and why; None: it holds."""

    service: str
    tenant_id: str
    seq: int
    hash: str
    broken: int | None = None
    detail: str | None = None


async def verify(client: Client, heads: Path | None, output: Output) -> Exit:
    """Check the organisation's chain in every service."""
    kept = _kept(heads)
    async with client:
        chains = [await _checked(name, None, _of_api(client, name), kept) for name in SERVICES]
    return _report(chains, _own(kept, chains, heads), output)


def _own(kept: Kept, chains: list[Chain], heads: Path | None) -> Kept:
    """The kept heads of the organisation that asks: it sees no other's chains. Raises Failure where there are none."""
    owners = {one.tenant_id for one in chains if one.tenant_id}
    if not owners or not kept:  # no entry at all says whose it would be: what was kept is missing
        return kept
    own = {place: head for place, head in kept.items() if place[1] in owners}
    if not own:
        others = ", ".join(sorted({tenant_id for _, tenant_id in kept if tenant_id})) or "nobody"
        raise Failure(
            f"{heads} holds heads of another organisation ({others}); the API key is of {', '.join(sorted(owners))}",
            fix="give the heads that `laurel audit verify --json` printed with a key of this organisation",
            code=Exit.USAGE,
        )
    return own


async def verify_database(url: str, heads: Path | None, output: Output) -> Exit:
    """Check every organisation's chain in every service, as the services' workers, who see all."""
    kept = _kept(heads)
    chains: list[Chain] = []
    for name in SERVICES:
        async with reached(name, url, size=1) as database:
            async with database.transaction() as tx:
                rows = await tx.fetch("SELECT DISTINCT tenant_id FROM audit_log ORDER BY tenant_id")
            for row in rows:
                entries = _of_database(database, row["tenant_id"])
                chains.append(await _checked(name, row["tenant_id"], entries, kept))
    return _report(chains, kept, output)


async def export(client: Client, file: Path, output: Output) -> Exit:
    """Write every entry to `file` (-: standard output), checked. What fails leaves no file.

    Raises Failure for one that is there.
    """
    if str(file) == "-":
        return await _export_to_stdout(client, output)
    if file.exists():  # noqa: ASYNC240 - once, before anything runs
        raise Failure(f"{file} is there already", fix="name another file, or move that one away", code=Exit.USAGE)
    partial = file.with_name(f"{file.name}.partial")
    with contextlib.ExitStack() as cleaning, partial.open("w", encoding="utf-8") as target:
        cleaning.callback(partial.unlink, missing_ok=True)
        chains = await _exported(client, target)
        target.flush()
        partial.replace(file)
    return _report(chains, {}, output)


async def _export_to_stdout(client: Client, output: Output) -> Exit:
    """Entries on standard output, what was found of the chains on standard error."""
    if output.as_json:
        fix = "name a file, or leave --json out: the entries are JSON already"
        raise Failure("--json and - both want standard output", fix=fix, code=Exit.USAGE)
    chains = await _exported(client, sys.stdout)
    sys.stdout.flush()
    for one in chains:
        output.note(_line(one))
    return _answer(chains)


async def _exported(client: Client, target: TextIO) -> list[Chain]:
    async def written(name: str, entries: AsyncIterable[Entry]) -> AsyncIterator[Entry]:
        async for entry in entries:
            target.write(json.dumps({"service": name, **entry}, ensure_ascii=target is sys.stdout) + "\n")
            yield entry

    async with client:
        return [await _checked(name, None, written(name, _of_api(client, name)), {}) for name in SERVICES]


async def _of_api(client: Client, service: str) -> AsyncIterator[Entry]:
    async for entry in client.pages(f"/{service}/v1/audit", limit=_PAGE):
        yield entry


async def _of_database(database: Database, tenant_id: str) -> AsyncIterator[Entry]:
    after = 0
    while True:
        async with database.transaction() as tx:
            page = await audit.entries(tx, tenant_id, after=after, limit=_PAGE)
        for entry in page:
            yield entry
        if len(page) < _PAGE:
            return
        after = page[-1]["seq"]


async def _checked(service: str, tenant_id: str | None, entries: AsyncIterable[Entry], kept: Kept) -> Chain:
    """tenant_id: None: that of the first entry, for who asks sees their own alone."""
    owner, end = tenant_id or "", Head(0, audit.GENESIS.hex())
    broken: Broken | None = None
    async for entry in entries:
        owner = owner or str(entry.get("tenant_id"))
        if broken is not None:
            continue  # read on: an export is written whole
        try:
            end = audit.check([entry], tenant_id=owner, before=end)
            before = kept.get((service, owner))
            if before is not None and before.seq == end.seq and before.hash != end.hash:
                raise Broken(end.seq, "another entry stood here when the head was kept: the chain was made anew")
        except Broken as error:
            broken = error
    if broken is None and (before := kept.get((service, owner))) is not None and before.seq > end.seq:
        broken = Broken(end.seq + 1, f"it is missing: the head that was kept is entry {before.seq}")
    if broken is not None:
        return Chain(service, owner, end.seq, end.hash, broken.seq, broken.detail)
    return Chain(service, owner, end.seq, end.hash)


def _report(chains: list[Chain], kept: Kept, output: Output) -> Exit:
    # A chain that was kept and is not there at all, to its last entry.
    found = {(one.service, one.tenant_id) for one in chains}
    for (service, tenant_id), head in kept.items():
        if (service, tenant_id) not in found and head.seq:
            chains.append(Chain(service, tenant_id, 0, audit.GENESIS.hex(), 1, "the whole chain is missing"))
    answer = _answer(chains)
    output.result({"ok": answer is Exit.OK, "chains": [asdict(one) for one in chains]})
    if not output.as_json:
        for one in chains:
            output.out.print(_line(one))
    return answer


def _answer(chains: list[Chain]) -> Exit:
    return Exit.OK if all(one.broken is None for one in chains) else Exit.NO


def _line(one: Chain) -> str:
    what = "holds" if one.broken is None else f"BROKEN at entry {one.broken}: {one.detail}"
    return f"{one.service} {one.tenant_id or '-'}: {one.seq} entries, head {one.hash}: {what}"


def _kept(file: Path | None) -> dict[tuple[str, str], Head]:
    """The heads of an earlier run with --json. Raises Failure."""
    if file is None:
        return {}
    try:
        chains = json.loads(file.read_text(encoding="utf-8"))["chains"]
        return {(one["service"], one["tenant_id"]): Head(int(one["seq"]), str(one["hash"])) for one in chains}
    except (ValueError, KeyError, TypeError):
        raise Failure(
            f"{file} holds no heads", fix="give what `laurel audit verify --json` printed", code=Exit.USAGE
        ) from None
