"""Status lists of other issuers: fetched, checked like the credentials that they are, unfolded with a limit.

(Bitstring Status List 1.0 §3.2; lists of its predecessor StatusList2021 are read too.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laurel.credential import status
from laurel.credential.text import is_web_url, timestamp
from laurel.http import GuardedClient
from laurel_verifier import domain
from laurel_verifier.checks import Check, failed, not_checked, passed
from laurel_verifier.resolution import Memory, Unresolvable, fetch_json

MAX_LIST_DOCUMENT = 2 << 20
MAX_LIST_BYTES = 2 << 20  # 16,777,216 entries
DEFAULT_SECONDS = 60.0
MOST_SECONDS = 300.0  # a list may ask to be kept for a day; we want to see a revocation sooner

_ACCEPT = "application/vc+ld+json, application/vc, application/json;q=0.9"
_ENTRIES = {"BitstringStatusListEntry", "StatusList2021Entry"}
_LISTS = {"BitstringStatusListCredential", "StatusList2021Credential"}
_VERDICTS = {"revocation": "revoked", "suspension": "suspended"}

# (list credential, now) → why it cannot be relied on, or None
Genuine = Callable[[dict[str, Any], datetime], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class _List:
    issuer: str | None
    purposes: tuple[str, ...]
    bits: bytes
    fetched_at: datetime


class _Unusable(Exception):
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class StatusLists:
    """Answers what a list says about an entry. The memory holds at most 16 lists: 32 MiB."""

    def __init__(self, client: GuardedClient) -> None:
        self._client = client
        self._kept: Memory[str, _List] = Memory(16)

    async def check(self, entry: dict[str, Any], issuer: str, now: datetime, genuine: Genuine) -> Check:
        """Step "status" for one entry of a credential of `issuer`."""
        types = {one for one in domain.listed(entry.get("type")) if isinstance(one, str)}
        if not types & _ENTRIES:
            return not_checked("status", "unsupported_status", f"the status type {sorted(types)} is not read here")
        purpose, url = entry.get("statusPurpose"), entry.get("statusListCredential")
        index = _index(entry.get("statusListIndex"))
        if not isinstance(purpose, str) or not isinstance(url, str) or not is_web_url(url) or index is None:
            detail = "statusPurpose, statusListIndex and statusListCredential must name a bit of a list"
            return failed("status", "bad_status_entry", detail)
        if entry.get("statusSize", 1) != 1:
            return not_checked("status", "unsupported_status", "statuses of several bits are not read here")
        try:
            found = self._kept.get(url) or await self._fetched(url, now, genuine)
            if found.issuer != issuer:
                raise _Unusable("foreign_list", f"the list is issued by {found.issuer}, the credential by {issuer}")
            if purpose not in found.purposes:
                raise _Unusable("wrong_purpose", f"the list is about {', '.join(found.purposes)}, not {purpose}")
            is_set = status.bit(found.bits, index)
        except Unresolvable as error:
            return not_checked("status", error.code, f"its status list is out of reach: {error.detail}")
        except _Unusable as error:
            return not_checked("status", error.code, f"its status list cannot be relied on: {error.detail}")
        except status.StatusError as error:
            return failed("status", error.code, error.detail)
        where = f"entry {index} of {url[:200]}, fetched at {timestamp(found.fetched_at)}"
        if is_set and purpose in _VERDICTS:
            return failed("status", _VERDICTS[purpose], f"{_VERDICTS[purpose]} by its issuer: {where}")
        if is_set:
            meaning = f"the bit for “{purpose[:60]}” is set, which takes nothing from its validity"
            return passed("status", f"{meaning}: {where}")
        return passed("status", f"not {_VERDICTS.get(purpose, 'set for ' + purpose[:60])}: {where}")

    async def _fetched(self, url: str, now: datetime, genuine: Genuine) -> _List:
        document = await fetch_json(self._client, url, accept=_ACCEPT, max_bytes=MAX_LIST_DOCUMENT)
        if not set(map(str, domain.listed(document.get("type")))) & _LISTS:
            raise _Unusable("not_a_list", f"{url[:200]} is not a status list credential")
        if document.get("id") not in (None, url):
            raise _Unusable("wrong_list", f"{url[:200]} answers with another list")
        reason = await genuine(document, now)
        if reason is not None:
            raise _Unusable("list_not_genuine", reason)
        subjects = domain.objects(document["credentialSubject"])
        purposes = tuple(one for one in domain.listed(subjects[0].get("statusPurpose")) if isinstance(one, str))
        encoded = subjects[0].get("encodedList")
        try:
            bits = status.decode_list(
                encoded if isinstance(encoded, str) else "",
                max_bytes=MAX_LIST_BYTES,
                multibase_prefix="BitstringStatusListCredential" in domain.listed(document.get("type")),
            )
        except status.StatusError as error:
            raise _Unusable(error.code, error.detail) from None
        found = _List(domain.issuer_id(document), purposes, bits, now)
        self._kept.put(url, found, _seconds(subjects[0].get("ttl")))
        return found


def _index(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 15:
        return int(value)
    return None


def _seconds(ttl: Any) -> float:
    """`ttl` is in milliseconds (Bitstring Status List 1.0 §2.2)."""
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        return DEFAULT_SECONDS
    return min(max(float(ttl) / 1000, 0.0), MOST_SECONDS)
