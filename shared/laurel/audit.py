"""The audit log: who did what to what, and when, in the transaction of the act; each entry holds the hash of the last.

Each service keeps one chain a tenant. An entry's hash is the SHA-256 of the hash before it (32 zero bytes at first)
and its own canonical JSON (RFC 8785), hashes left out. So whatever is changed, taken out or put elsewhere afterwards
breaks the chain from there on; what is cut off at its end shows to whoever has kept a later head.

Entries are written under a lock of the tenant's chain that is held until the transaction ends: `record` comes last in
a transaction, and never where credentials are issued.
"""

# ruff: noqa: S608 - the column list put into statements is the constant of this file

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from laurel import telemetry
from laurel.credential.jcs import canonical
from laurel.database import Transaction
from laurel.security import Principal

GENESIS = bytes(32)
OPERATOR = "operator"
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':audit:' || $1, 0))"
_COLUMNS = (
    "tenant_id, seq, at, actor, token_id, action, subject, outcome, details, trace_id, request_id, previous_hash, hash"
)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: what to keep elsewhere, to see later whether something was cut off. seq 0: it is empty."""

    seq: int
    hash: str


class Broken(Exception):
    """A chain that was tampered with. seq: of the first entry that does not fit."""

    def __init__(self, seq: int, detail: str) -> None:
        super().__init__(f"entry {seq}: {detail}")
        self.seq = seq
        self.detail = detail


async def record(
    tx: Transaction,
    tenant_id: str,
    actor: Principal | str,
    action: str,
    subject: str,
    *,
    outcome: str = "done",
    details: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> None:
    """Write an entry, last in the transaction of the act.

    actor: the caller, or OPERATOR (":" and a name may follow), or "system:" and a name. action: a noun and a verb,
    "credential.revoke". subject: an id, no personal data. outcome: "done", "unchanged", or "refused:" and a code.
    details: strings, integers, booleans, lists and objects of them; no secret, no personal data.
    """
    await tx.execute(_LOCK, tenant_id)
    # A statement of its own: it sees what the holder of the lock before us has committed.
    last = await tx.fetchrow(
        "SELECT seq, hash FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1", tenant_id
    )
    seq, previous = (1, GENESIS) if last is None else (last["seq"] + 1, last["hash"])
    moment = at or datetime.now(UTC)
    name, token_id = (actor, None) if isinstance(actor, str) else (f"api_key:{actor.key_id}", actor.token_id)
    traceparent = telemetry.current_traceparent()
    trace_id = None if traceparent is None else traceparent.split("-")[1]
    request_id = telemetry.current_request_id()
    content = _content(
        tenant_id=tenant_id, seq=seq, at=moment, actor=name, token_id=token_id, action=action, subject=subject,
        outcome=outcome, details=dict(details or {}), trace_id=trace_id, request_id=request_id,
    )  # fmt: skip
    await tx.execute(
        f"INSERT INTO audit_log ({_COLUMNS}) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12, $13)",
        tenant_id, seq, moment, name, token_id, action, subject, outcome,
        msgspec.json.encode(content["details"]).decode(), trace_id, request_id, previous, _hash(previous, content),
    )  # fmt: skip


async def entries(
    tx: Transaction, tenant_id: str, *, after: int = 0, limit: int = 1000, subject: str | None = None
) -> list[dict[str, Any]]:
    """Entries as the API shows them, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_COLUMNS} FROM audit_log WHERE tenant_id = $1 AND seq > $2 AND ($3::text IS NULL OR subject = $3) "
        "ORDER BY seq LIMIT $4",
        tenant_id, after, subject, limit,
    )  # fmt: skip
    return [
        {
            **_content(**{name: row[name] for name in _CONTENT if name != "details"},
                       details=msgspec.json.decode(row["details"])),
            "previous_hash": row["previous_hash"].hex(), "hash": row["hash"].hex(),
        }
        for row in rows
    ]  # fmt: skip


async def head(tx: Transaction, tenant_id: str) -> Head:
    """The end of the tenant's chain."""
    row = await tx.fetchrow("SELECT seq, hash FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1", tenant_id)
    return Head(0, GENESIS.hex()) if row is None else Head(row["seq"], row["hash"].hex())


def check(found: Iterable[Mapping[str, Any]], *, tenant_id: str, before: Head | None = None) -> Head:
    """Hold a chain, or the next part of one, against its hashes; returns its end.

    found: entries as `entries` gives them. before: the end of the part before. Raises Broken.
    """
    last = before or Head(0, GENESIS.hex())
    for entry in found:
        seq = last.seq + 1
        if entry.get("seq") != seq:
            raise Broken(seq, f"it is missing; {entry.get('seq')} stands in its place")
        if set(entry) != {*_CONTENT, "previous_hash", "hash"} or entry["tenant_id"] != tenant_id:
            raise Broken(seq, "it is not an entry of this chain")
        if entry["previous_hash"] != last.hash:
            raise Broken(seq, "it does not follow the entry before it")
        content = {name: entry[name] for name in _CONTENT}
        if _hash(bytes.fromhex(last.hash), content).hex() != entry["hash"]:
            raise Broken(seq, "its content is not what was written")
        last = Head(seq, entry["hash"])
    return last


_CONTENT = (
    "tenant_id", "seq", "at", "actor", "token_id", "action", "subject", "outcome", "details", "trace_id", "request_id",
)  # fmt: skip


def _content(**values: Any) -> dict[str, Any]:
    moment: datetime = values["at"]
    values["at"] = moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {name: values[name] for name in _CONTENT}


def _hash(previous: bytes, content: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(previous + canonical(dict(content))).digest()
