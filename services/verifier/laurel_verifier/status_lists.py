"""Status lists of other issuers: fetched, checked like the credentials that they are, unfolded with a limit.

(Bitstring Status List 1.0 §3.2; lists of its predecessor StatusList2021 are read too, and 1EdTech's lists of ids.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laurel.credential import jose, status
from laurel.credential.text import parse_timestamp, timestamp
from laurel.http import GuardedClient
from laurel_verifier import domain, revocation_lists, tokens
from laurel_verifier.checks import Against, failed, not_checked
from laurel_verifier.memory import Memory
from laurel_verifier.resolution import Unresolvable, fetch_body, json_object
from laurel_verifier.revocation_lists import RevocationLists
from laurel_verifier.statuses import BadEntry, Entry, Told, judge, read_entry

MAX_LIST_DOCUMENT = 2 << 20
MAX_LIST_BYTES = 2 << 20  # 16,777,216 entries
DEFAULT_SECONDS = 60.0
MOST_SECONDS = 300.0  # a list may ask to be kept for a day; we want to see a revocation sooner

_ACCEPT = "application/vc+ld+json, application/vc, application/vc+jwt;q=0.9, application/json;q=0.9, */*;q=0.1"
_ENTRIES = {"BitstringStatusListEntry", "StatusList2021Entry"}
_LISTS = {"BitstringStatusListCredential", "StatusList2021Credential"}

# (list credential, the token that it came in, now) → why it cannot be relied on, or None
Genuine = Callable[[dict[str, Any], jose.Envelope | None, datetime], Awaitable[str | None]]


@dataclass(frozen=True, slots=True)
class _List:
    issuer: str | None
    purposes: tuple[str, ...]
    bits: bytes
    bitstring: bool  # else of Status List 2021
    fetched_at: datetime
    until: datetime | None


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
        self._revocation_lists = RevocationLists(client)

    def forget(self, url: str) -> None:
        """Ask for the list again the next time: whoever keeps it has said that it changed."""
        self._kept.forget(url)

    async def check(
        self, entry: dict[str, Any], at: str, document: Mapping[str, Any], now: datetime, genuine: Genuine
    ) -> Told:
        """Step "status" for one entry of the credential `document`. at: JSON Pointer to the entry."""
        types = {one for one in domain.listed(entry.get("type")) if isinstance(one, str)}
        if revocation_lists.TYPE in types:
            return Told(await self._revocation_lists.check(entry, at, document, now))
        if not types & _ENTRIES:
            detail = f"the status type {sorted(types)} is not read here"
            return Told(not_checked("status", "unsupported_status", detail, pointer=at))
        try:
            wanted, address = read_entry(entry, at), f"{at}/statusListCredential"
        except BadEntry as error:
            if error.unread:
                return Told(not_checked("status", "unsupported_status", error.detail, pointer=at))
            return Told(failed("status", "bad_status_entry", error.detail, pointer=at))
        try:
            return await self._told(wanted, document, now, genuine)
        except Unresolvable as error:
            detail = f"its status list is out of reach: {error.detail}"
            return Told(not_checked("status", error.code, detail, pointer=address))
        except _Unusable as error:
            detail = f"its status list cannot be relied on: {error.detail}"
            return Told(not_checked("status", error.code, detail, pointer=address))
        except status.StatusError as error:
            return Told(failed("status", error.code, error.detail, pointer=f"{at}/statusListIndex"))

    async def _told(self, wanted: Entry, document: Mapping[str, Any], now: datetime, genuine: Genuine) -> Told:
        issuer = domain.issuer_id(document)
        found = self._kept.get(wanted.url)
        if found is None or (found.until is not None and found.until < now):
            found = await self._fetched(wanted.url, now, genuine)
        if found.issuer != issuer:
            raise _Unusable("foreign_list", f"the list is issued by {found.issuer}, the credential by {issuer}")
        if wanted.purpose not in found.purposes:
            raise _Unusable("wrong_purpose", f"the list is about {', '.join(found.purposes)}, not {wanted.purpose}")
        if found.bitstring and status.entries(found.bits, wanted.size) < status.MINIMUM_ENTRIES:  # §3.2 step 9
            raise _Unusable(
                "list_too_short", f"it has fewer than {status.MINIMUM_ENTRIES} entries of {wanted.size} bits"
            )
        value = status.value(found.bits, wanted.index, wanted.size)
        at = timestamp(found.fetched_at)
        where = f"entry {wanted.index} of {wanted.url[:200]}, fetched at {at}"
        until = None if found.until is None else timestamp(found.until)
        held = Against(kind="status_list", id=wanted.url, source="fetched", at=at, until=until, index=wanted.index)
        return judge(wanted, value, where, document, [held])

    async def _fetched(self, url: str, now: datetime, genuine: Genuine) -> _List:
        document, envelope = _opened(await fetch_body(self._client, url, accept=_ACCEPT), url)
        if not set(map(str, domain.listed(document.get("type")))) & _LISTS:
            raise _Unusable("not_a_list", f"{url[:200]} is not a status list credential")
        if document.get("id") not in (None, url):
            raise _Unusable("wrong_list", f"{url[:200]} answers with another list")
        reason = await genuine(document, envelope, now)
        if reason is not None:
            raise _Unusable("list_not_genuine", reason)
        subjects = domain.objects(document["credentialSubject"])
        if len(subjects) != 1:
            raise _Unusable("not_a_list", f"{url[:200]} holds {len(subjects)} lists, and nothing says which one counts")
        purposes = tuple(one for one in domain.listed(subjects[0].get("statusPurpose")) if isinstance(one, str))
        encoded = subjects[0].get("encodedList")
        bitstring = "BitstringStatusListCredential" in domain.listed(document.get("type"))
        try:
            bits = status.decode_list(
                encoded if isinstance(encoded, str) else "",
                max_bytes=MAX_LIST_BYTES,
                multibase_prefix=bitstring,
            )
        except status.StatusError as error:
            raise _Unusable(error.code, error.detail) from None
        until = parse_timestamp(document.get("validUntil", document.get("expirationDate")))
        found = _List(domain.issuer_id(document), purposes, bits, bitstring, now, until)
        self._kept.put(url, found, _seconds(subjects[0].get("ttl"), until, now))
        return found


def _opened(body: bytes, url: str) -> tuple[dict[str, Any], jose.Envelope | None]:
    """A list credential, and the token that it came in, if it did (§3.6: secured as the credential is)."""
    token: str | dict[str, Any]
    if body.startswith(b"eyJ"):  # base64url of '{"'
        token = body.decode("ascii", "replace").strip()
    else:
        token = json_object(body, url, max_bytes=MAX_LIST_DOCUMENT)
        if not tokens.is_enveloped(token):
            return token, None
    try:
        envelope = jose.parse(token) if isinstance(token, str) else jose.unwrap(token)
    except jose.JoseError as error:
        raise _Unusable(error.code, f"{url[:200]} answers with a token that cannot be read: {error.detail}") from None
    wrong = tokens.misplaced(token, envelope)
    if wrong is not None:
        raise _Unusable(wrong.code or "wrong_typ", f"{url[:200]} answers with a misplaced token: {wrong.detail}")
    return envelope.document, envelope


def _seconds(ttl: Any, until: datetime | None, now: datetime) -> float:
    """How long a list is kept: its `ttl`, in milliseconds, and never beyond its end (§2.2: no override of validity)."""
    seconds = DEFAULT_SECONDS
    if isinstance(ttl, int | float) and not isinstance(ttl, bool):
        seconds = min(max(ttl, 0), MOST_SECONDS * 1000) / 1000
    return seconds if until is None else min(seconds, max(0.0, (until - now).total_seconds()))
