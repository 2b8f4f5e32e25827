"""What may become of a credential after it was issued, and what its status lists then show. Purely."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

from laurel.credential import status
from laurel.events import Status

Action = Literal["revoke", "suspend", "reinstate", "refresh", "message"]


class Refusal(NamedTuple):
    """Why a status can not change. `code` is stable."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of a credential. message: the value of its entry for messages, of which 0 is the first."""

    status: Status = "active"
    refresh: bool = False
    message: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody wants to become of credentials. value: the message, where that is the action."""

    action: Action
    value: int = 0


def entry_sizes(purposes: Iterable[str], messages: Sequence[str]) -> dict[str, int]:
    """The status entries of a credential, in their order, with the bits of each (`statusSize`).

    Every credential can be revoked, whatever its achievement asks for. Messages without a meaning make no entry.
    """
    sizes = {"revocation": 1} | {purpose: 1 for purpose in ("suspension", "refresh") if purpose in purposes}
    if "message" in purposes and messages:
        sizes["message"] = status.size_of(messages)
    return sizes


_TARGET: dict[str, Status] = {"revoke": "revoked", "suspend": "suspended", "reinstate": "active"}


def decide(
    current: Standing, change: Change, *, has: Iterable[str], messages: Sequence[str]
) -> Standing | Refusal | None:
    """How a credential stands after the change; None: it stands so already; or why it cannot.

    active ⇄ suspended → revoked, active → revoked; revoked is final, and so is an offer to refresh (Bitstring Status
    List 1.0 §2.1: "not reversible"). Neither that nor a message takes anything from a credential's validity, so both
    go with every status. has: the purposes of its entries; messages: what their values mean.
    """
    if change.action in ("refresh", "message") and change.action not in has:
        detail = f"it was issued without a status entry for “{change.action}”; its achievement did not ask for one"
        return Refusal("no_such_entry", detail)
    if change.action == "refresh":
        return None if current.refresh else replace(current, refresh=True)
    if change.action == "message":
        if not 0 <= change.value < len(messages) or messages[change.value] == status.UNDEFINED:
            named = ", ".join(str(value) for value, text in enumerate(messages) if text != status.UNDEFINED)
            return Refusal("unknown_message", f"{change.value} is no message of it; the values are {named}")
        return None if current.message == change.value else replace(current, message=change.value)
    target = _TARGET[change.action]
    if target == current.status:
        return None
    if current.status == "revoked":
        return Refusal("revoked_is_final", f"a revoked credential stays revoked; it cannot be {target}")
    return replace(current, status=target)


def shown_value(purpose: str, standing: Standing, *, has_suspension_entry: bool) -> int:
    """What a list of `purpose` says of a credential: 0, or the value of its entry.

    A credential whose only entry is for revocation sets that bit when it is suspended, too: foreign verifiers then
    refuse it, which is the safe side (ADR 0003).
    """
    if purpose == "message":
        return standing.message
    if purpose == "refresh":
        return int(standing.refresh)
    if purpose == "suspension":
        return int(standing.status == "suspended")
    return int(standing.status == "revoked" or (standing.status == "suspended" and not has_suspension_entry))


def list_bits(values: Iterable[tuple[int, int]], size: int) -> bytes:
    """The bits of a status list whose entries have `size` bits: exactly `values` (index, value) are not 0."""
    bits = bytearray(status.MINIMUM_ENTRIES * size // 8)
    for index, value in values:
        status.set_value(bits, index, value, size)
    return bytes(bits)


def cache_seconds(ttl_s: int, valid_until: datetime | None, now: datetime) -> int:
    """How long a list may be cached: its `ttl` (Bitstring Status List 1.0 §2.2), and never beyond its end."""
    if valid_until is None:
        return ttl_s
    return max(0, min(ttl_s, int((valid_until - now).total_seconds())))


def place_key(index_key: bytes, list_id: str) -> bytes:
    """The key that spreads the allocations of one list over its places."""
    return hashlib.blake2b(list_id.encode(), digest_size=32, key=index_key[:64], person=b"laurel-list").digest()


def places_from(allocated: int, count: int, key: bytes) -> list[int]:
    """The places of `count` allocations that follow `allocated` earlier ones: random-looking, never one twice."""
    return [status.permute(number, key, status.MINIMUM_ENTRIES) for number in range(allocated, allocated + count)]
