"""Whom an issuer's name stands for, and what a status list says: from our own index, from the name itself, or fetched.

Everything that strangers name is fetched through the guarded client and kept for a few minutes in bounded memories.
A key that the kept document does not list may be new: then the document is read again, before anything is judged.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from laurel.credential import did
from laurel.credential.text import is_web_url
from laurel.database import Database
from laurel.errors import LaurelError
from laurel.http import FetchFailed, FetchRefused, GuardedClient
from laurel.security import BadJson, guard_json
from laurel_verifier import store

OWN_SECONDS = 5.0  # how long a compromised key of ours may still verify
FOREIGN_SECONDS = 300.0
REREAD_SECONDS = 30.0  # how often, at most, unknown keys make us fetch one issuer again
MAX_DID_DOCUMENT = 256 * 1024

_ACCEPT_DID = "application/did+json, application/did+ld+json, application/json;q=0.9"

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """The last `most` values, each for its own number of seconds."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, if it is there and its time is not over."""
        found = self._kept.get(key)
        if found is None or found[0] <= self._clock():
            self._kept.pop(key, None)
            return None
        self._kept.move_to_end(key)
        return found[1]

    def put(self, key: K, value: V, seconds: float) -> None:
        """Keep `value`; the one that was used least recently makes room."""
        self._kept[key] = (self._clock() + seconds, value)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The document that lists an issuer's keys. own: it is an issuer of ours. source: where it comes from, in words.

    published_at: of our own issuers, when it became so. stale: it may lack a newer key, but was read too lately to be
    read again.
    """

    document: dict[str, Any]
    source: str
    own: bool = False
    name: str | None = None
    published_at: datetime | None = None
    stale: bool = False


class Unresolvable(LaurelError):
    """An issuer's keys cannot be had. unknown: nobody knows it; else we could not find out now. code: stable."""

    def __init__(self, code: str, detail: str, *, unknown: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.unknown = unknown


class Issuers:
    """Finds the document that controls an issuer's keys (a DID document, or a controlled identifier document)."""

    def __init__(self, database: Database, client: GuardedClient, *, base_url: str, allow_http: bool) -> None:
        self._database = database
        self._client = client
        self._allow_http = allow_http
        self._own_prefix = did.did_web(base_url, "x").removesuffix(":x")
        self._own: Memory[str, Resolved] = Memory(2000)
        self._foreign: Memory[str, Resolved] = Memory(2000)
        self._reread: Memory[str, bool] = Memory(2000)

    async def resolve(self, issuer: str, methods: Sequence[str] = ()) -> Resolved:
        """The issuer's document, read again when the kept one lacks one of `methods`. Raises Unresolvable."""
        if issuer.startswith("did:key:"):
            try:
                return Resolved(did.resolve_did_key(issuer), "the DID itself (did:key)")
            except did.DidError as error:
                raise Unresolvable(error.code, error.detail, unknown=error.code == "malformed_did") from None
        known = self._own.get(issuer)
        if known is None or _lacks(known.document, methods):
            known = await self._replica(issuer)
        if known is not None:
            return known
        if issuer.startswith(self._own_prefix + ":"):
            raise Unresolvable("unknown_issuer", f"there is no issuer {issuer} here", unknown=True)
        kept = self._foreign.get(issuer)
        if kept is not None and not _lacks(kept.document, methods):
            return kept
        if kept is not None and self._reread.get(issuer):
            return replace(kept, stale=True)
        if kept is not None:
            self._reread.put(issuer, True, REREAD_SECONDS)  # before the request: others at the same time do not follow
        return await self._fetched(issuer)

    async def _replica(self, issuer: str) -> Resolved | None:
        found = await store.known_issuer(self._database, issuer)
        if found is None:
            return None
        name = found.profile.get("name")
        source = f"Laurel's register of issuers, version {found.version}"
        resolved = Resolved(
            found.did_document, source, own=True, name=name if isinstance(name, str) else None,
            published_at=found.published_at,
        )  # fmt: skip
        self._own.put(issuer, resolved, OWN_SECONDS)
        return resolved

    async def _fetched(self, issuer: str) -> Resolved:
        allow_http = False
        if issuer.startswith("did:web:"):
            try:
                url = did.did_web_url(issuer, allow_localhost_http=self._allow_http)
            except did.DidError as error:
                raise Unresolvable(error.code, error.detail, unknown=True) from None
            allow_http = self._allow_http and url.startswith("http://")
        elif issuer.startswith("https://") and is_web_url(issuer):
            url = issuer.partition("#")[0]
        else:
            method = ":".join(issuer.split(":")[:2])[:60]
            raise Unresolvable("unsupported_method", f"issuers of the kind {method} cannot be looked up by Laurel")
        document = await fetch_json(
            self._client, url, accept=_ACCEPT_DID, allow_http=allow_http, max_bytes=MAX_DID_DOCUMENT
        )
        resolved = Resolved(document, url)
        self._foreign.put(issuer, resolved, FOREIGN_SECONDS)
        return resolved


def _lacks(document: dict[str, Any], methods: Sequence[str]) -> bool:
    for method in methods:
        try:
            did.find_verification_method(document, method)
        except did.DidError as error:
            if error.code == "key_not_found":
                return True
    return False


async def fetch_json(
    client: GuardedClient, url: str, *, accept: str, max_bytes: int, allow_http: bool = False
) -> dict[str, Any]:
    """A JSON object from a stranger's address. Raises Unresolvable (unknown: the server says that there is none)."""
    try:
        fetched = await client.get(url, accept=accept, allow_http=allow_http)
    except FetchRefused as error:
        raise Unresolvable("fetch_refused", f"{url[:300]} is not fetched: {error.detail}") from None
    except FetchFailed as error:
        raise Unresolvable("fetch_failed", f"{url[:300]} could not be fetched: {error.detail}") from None
    if fetched.status in (404, 410):
        raise Unresolvable("not_found", f"{url[:300]} answers {fetched.status}: there is none", unknown=True)
    if fetched.status != 200:
        raise Unresolvable("fetch_failed", f"{url[:300]} answers {fetched.status}, not 200")
    try:
        document = guard_json(fetched.body, max_bytes=max_bytes)
    except BadJson as error:
        raise Unresolvable("bad_answer", f"{url[:300]} does not answer with JSON: {error.detail}") from None
    if not isinstance(document, dict):
        raise Unresolvable("bad_answer", f"{url[:300]} does not answer with a JSON object")
    return document
