"""`1EdTechRevocationList`: the ids of revoked credentials, as their issuer publishes them (1EdTech vcrl 1.0).

Such a list is not signed. What it says stands on two things: it comes over https from the address that the signed
credential names, and it names the same issuer. The property is `revokedCredential` since document version 1.2 of the
specification and was `revokedCredentials` before; both are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laurel.credential.text import is_web_url, timestamp
from laurel.http import GuardedClient
from laurel_verifier import domain
from laurel_verifier.checks import Against, Check, failed, not_checked, passed
from laurel_verifier.memory import Memory
from laurel_verifier.resolution import Unresolvable, fetch_json

TYPE = "1EdTechRevocationList"
KEPT_SECONDS = 60.0  # the specification has no time to live
MAX_DOCUMENT = 2 << 20

_NOT_SIGNED = "the list is not signed: it stands on https and on naming the same issuer"


@dataclass(frozen=True, slots=True)
class _List:
    issuer: str | None
    revoked: frozenset[str]
    fetched_at: datetime


class RevocationLists:
    """Answers whether a credential is on its issuer's list. The memory holds at most 16 lists."""

    def __init__(self, client: GuardedClient) -> None:
        self._client = client
        self._kept: Memory[str, _List] = Memory(16)

    async def check(self, entry: Mapping[str, Any], at: str, document: Mapping[str, Any], now: datetime) -> Check:
        """Step "status" for an entry {id, type} of the credential `document`. at: JSON Pointer to the entry."""
        url, credential_id, issuer = entry.get("id"), document.get("id"), domain.issuer_id(document)
        if not isinstance(url, str) or not is_web_url(url):
            detail = "the id of a 1EdTechRevocationList must be the URL of the list"
            return failed("status", "bad_status_entry", detail, pointer=f"{at}/id")
        if not isinstance(credential_id, str):
            detail = "the list is of ids, and the credential has none"
            return failed("status", "bad_status_entry", detail, pointer="/id")
        if not url.startswith("https://"):
            detail = f"{url[:200]} is not fetched: a list that is not signed is worth nothing without https"
            return not_checked("status", "insecure_list", detail, pointer=f"{at}/id")
        try:
            found = self._kept.get(url) or await self._fetched(url, now)
        except Unresolvable as error:
            detail = f"its revocation list is out of reach: {error.detail}"
            return not_checked("status", error.code, detail, pointer=f"{at}/id")
        if found is None:
            detail = f"{url[:200]} does not answer with a revocation list: id, issuer, revokedCredential"
            return not_checked("status", "not_a_list", detail, pointer=f"{at}/id")
        when = timestamp(found.fetched_at)
        against = [Against(kind="status_list", id=url, source="fetched", at=when)]
        if found.issuer != issuer:
            detail = f"the list is issued by {str(found.issuer)[:200]}, the credential by {issuer}"
            return not_checked("status", "foreign_list", detail, pointer=f"{at}/id", against=against)
        where = f"{url[:200]}, fetched at {when}; {_NOT_SIGNED}"
        if credential_id in found.revoked:
            detail = f"revoked by its issuer: its id is on the list {where}"
            return failed("status", "revoked", detail, pointer=at, against=against)
        return passed("status", f"not revoked: its id is not on the list {where}", against=against)

    async def _fetched(self, url: str, now: datetime) -> _List | None:
        document = await fetch_json(self._client, url, accept="application/json", max_bytes=MAX_DOCUMENT)
        revoked = _revoked(document, url)
        if revoked is None:
            return None
        found = _List(domain.issuer_id(document), revoked, now)
        self._kept.put(url, found, KEPT_SECONDS)
        return found


def _revoked(document: Mapping[str, Any], url: str) -> frozenset[str] | None:
    """The ids on a list; None: this is not the list of `url`, or not one that can be read to its end."""
    identifier = document.get("id")
    named = [document[name] for name in ("revokedCredential", "revokedCredentials") if name in document]
    if identifier != url and (identifier is not None or not named):
        return None
    found: set[str] = set()
    for one in (entry for value in named for entry in domain.listed(value)):
        if not isinstance(one, dict) or not isinstance(one.get("id"), str):
            return None
        # "revoked" is true or left out; some write it as text. Whatever else it may be is not an all-clear; 0 neither,
        # which Python takes for False.
        if one.get("revoked") is not False and one.get("revoked") != "false":
            found.add(one["id"])
    return frozenset(found)
