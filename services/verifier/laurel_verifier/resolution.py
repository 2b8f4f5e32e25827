"""Whom an issuer's name stands for, and what a status list says: from our own index, from the name itself, or fetched.

Everything that strangers name is fetched through the guarded client and kept for a few minutes in bounded memories.
A key that the kept document does not list may be new: then the document is read again, before anything is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from laurel.credential import did
from laurel.credential.text import is_web_url, timestamp
from laurel.database import Database
from laurel.errors import LaurelError
from laurel.http import FetchFailed, FetchRefused, GuardedClient
from laurel.security import BadJson, guard_json
from laurel_verifier import key_urls, store
from laurel_verifier.checks import Against, Check
from laurel_verifier.memory import Memory

OWN_SECONDS = 5.0  # how long a compromised key of ours may still verify
FOREIGN_SECONDS = 300.0
FAILED_SECONDS = 5.0  # how long an issuer that could not be looked up is not asked again
REREAD_SECONDS = 30.0  # how often, at most, unknown keys make us fetch one issuer again
MAX_DID_DOCUMENT = 256 * 1024
_MOST_LASTING = 64  # keys of one document
_LAST = datetime.max.replace(tzinfo=UTC)
MOST_KEY_URLS = 4  # of one issuer, for one credential

_ACCEPT_KEYS = (
    "application/did+json, application/did+ld+json, application/cid, application/ld+json, application/jwk+json, "
    "application/jwk-set+json, application/json;q=0.9"
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The document that lists an issuer's keys. own: it is an issuer of ours. source: where it comes from, in words.

    against: the same for a report. published_at: of our own issuers, when it became so. stale: it may lack a newer key,
    but was read too lately to be read again. problems: keys that it lists at URLs of their own, and why these cannot
    be had (those that can stand in the document). lasting: what `key` found that no time can change; told: what a
    report says of these (`issuer_keys`).
    """

    document: dict[str, Any]
    source: str
    against: Against
    own: bool = False
    name: str | None = None
    published_at: datetime | None = None
    stale: bool = False
    problems: dict[str, Unresolvable | did.DidError] = field(default_factory=dict)
    lasting: dict[str, str] = field(default_factory=dict, init=False, compare=False)
    told: dict[str, Check] = field(default_factory=dict, init=False, compare=False)

    def key(self, method: str, *, controller: str, now: datetime) -> str:
        """As `did.find_verification_method`; a key that neither ends nor was withdrawn is looked for once."""
        if (known := self.lasting.get(method)) is not None:
            return known
        found = did.find_verification_method(self.document, method, now=now, controller=controller)
        with contextlib.suppress(did.DidError):
            if len(self.lasting) < _MOST_LASTING:
                self.lasting[method] = did.find_verification_method(
                    self.document, method, now=_LAST, controller=controller
                )
        return found


class Unresolvable(LaurelError):
    """An issuer's keys cannot be had. unknown: nobody knows it; else we could not find out now. code: stable."""

    def __init__(self, code: str, detail: str, *, unknown: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.unknown = unknown


class Issuers:
    """Finds the document that controls an issuer's keys (a DID document, or a controlled identifier document).

    clock: says when something was fetched, for the report; it decides nothing.
    """

    def __init__(
        self,
        database: Database,
        client: GuardedClient,
        *,
        base_url: str,
        allow_http: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._client = client
        self._allow_http = allow_http
        self._clock = clock
        self._own_prefixes = (did.did_web(base_url, "x").removesuffix("x"), f"{base_url}/issuers/")
        self._own: Memory[str, Resolved] = Memory(2000)
        self._foreign: Memory[str, Resolved] = Memory(2000)
        self._failed: Memory[str, Unresolvable] = Memory(2000)
        self._keys: Memory[tuple[str, str], dict[str, Any]] = Memory(2000)
        self._reread: Memory[str, bool] = Memory(2000)
        self._asking: dict[str, asyncio.Task[Resolved]] = {}

    async def resolve(self, issuer: str, methods: Sequence[str] = ()) -> Resolved:
        """The issuer's document, read again when the kept one lacks one of `methods`. Raises Unresolvable.

        Of `methods`, those that the document lists at URLs of their own are fetched, too.
        """
        known = self.remembered(issuer, methods)
        if known is None:
            known = await self._replica(issuer)
        if known is not None:
            return known
        if self.is_ours(issuer):
            raise Unresolvable("unknown_issuer", f"there is no issuer {issuer} here", unknown=True)
        kept = self._foreign.get(issuer)
        if kept is None:
            kept = await self._once(issuer)
        elif _lacks(kept, issuer, methods):
            if self._reread.get(issuer):
                kept = replace(kept, stale=True)
            else:
                # Noted before the request: others at the same time do not follow.
                self._reread.put(issuer, True, REREAD_SECONDS)
                kept = await self._once(issuer)
        return await self._with_keys(kept, issuer, methods)

    def remembered(self, issuer: str, methods: Sequence[str]) -> Resolved | None:
        """What `resolve` answers without asking anybody: an issuer whose name is its key, or one of ours that was read
        a moment ago and whose document lacks no method. Raises Unresolvable."""
        if issuer.startswith("did:key:"):
            return _did_key(issuer)
        known = self.own_remembered(issuer)
        return None if known is None or _lacks(known, issuer, methods) else known

    def own_remembered(self, issuer: str) -> Resolved | None:
        """An issuer of ours that was read a moment ago."""
        return self._own.get(issuer)

    def is_ours(self, issuer: str) -> bool:
        """Whether an issuer of this name could only be one of ours: its id is an address of this Laurel."""
        return issuer.startswith(self._own_prefixes)

    async def is_known(self, issuer: str) -> bool:
        """Whether the issuer is in our register."""
        return self._own.get(issuer) is not None or await self._replica(issuer) is not None

    async def _replica(self, issuer: str) -> Resolved | None:
        found = await store.known_issuer(self._database, issuer)
        if found is None:
            return None
        name = found.profile.get("name")
        published = timestamp(found.published_at)
        against = Against(kind="issuer", id=issuer, source="register", version=str(found.version), at=published)
        source = f"Laurel's register of issuers, version {found.version}"
        resolved = Resolved(
            found.did_document, source, against, own=True, name=name if isinstance(name, str) else None,
            published_at=found.published_at,
        )  # fmt: skip
        self._own.put(issuer, resolved, OWN_SECONDS)
        return resolved

    async def _once(self, issuer: str) -> Resolved:
        """Fetched, by one request for all who want it now; trouble with its server is kept for a moment, too."""
        failed = self._failed.get(issuer)
        if failed is not None:
            raise failed
        asking = self._asking.get(issuer)
        if asking is None:
            asking = self._asking[issuer] = asyncio.ensure_future(self._fetched(issuer))
            asking.add_done_callback(lambda task: self._answered(issuer, task))
        return await asyncio.shield(asking)  # a caller that gives up must not end it for the others

    def _answered(self, issuer: str, task: asyncio.Task[Resolved]) -> None:
        self._asking.pop(issuer, None)
        if not task.cancelled():
            error = task.exception()
            if isinstance(error, Unresolvable) and not error.unknown:  # that there is none may be over at any moment
                self._failed.put(issuer, error, FAILED_SECONDS)

    async def _fetched(self, issuer: str) -> Resolved:
        allow_http = False
        if issuer.startswith("did:web:"):
            try:
                url = did.did_web_url(issuer, allow_localhost_http=self._allow_http)
            except did.DidError as error:
                raise Unresolvable(error.code, error.detail, unknown=True) from None
            allow_http = self._allow_http and url.startswith("http://")
        elif is_web_url(issuer) and (issuer.startswith("https://") or self._allow_http):
            url = key_urls.base(issuer)  # plain http: to `allow_networks` alone, the client sees to that
        else:
            method = ":".join(issuer.split(":")[:2])[:60]
            raise Unresolvable("unsupported_method", f"issuers of the kind {method} cannot be looked up by Laurel")
        document = await fetch_json(
            self._client, url, accept=_ACCEPT_KEYS, allow_http=allow_http, max_bytes=MAX_DID_DOCUMENT
        )
        if not issuer.startswith("did:") and document.get("id") != issuer:  # CID 1.0 §3.3 step 6
            what = f"{url[:300]} describes {str(document.get('id'))[:300]!r}, which is not exactly its own address"
            raise Unresolvable("wrong_document", what)
        at = timestamp(self._clock())
        against = Against(kind="issuer", id=issuer, source="fetched", url=None if url == issuer else url, at=at)
        resolved = Resolved(document, f"{url}, fetched at {at}", against)
        self._foreign.put(issuer, resolved, FOREIGN_SECONDS)
        return resolved

    async def _with_keys(self, resolved: Resolved, issuer: str, methods: Sequence[str]) -> Resolved:
        """The document with those of `methods` that it lists, but that are at URLs of their own."""
        wanted = [one for one in key_urls.elsewhere(resolved.document, methods) if is_web_url(one)]
        if not wanted:
            return resolved
        problems: dict[str, Unresolvable | did.DidError] = {
            one: Unresolvable("too_many_keys", f"{MOST_KEY_URLS} key URLs are looked up") for one in wanted
        }
        found = []
        asked = wanted[:MOST_KEY_URLS]
        for one, answer in zip(asked, await asyncio.gather(*(self._key_at(one, issuer) for one in asked)), strict=True):
            if isinstance(answer, dict):
                del problems[one]
                found.append(answer)
            else:
                problems[one] = answer
        described = resolved.document.get("verificationMethod", [])
        described = described if isinstance(described, list) else [described]
        document = {**resolved.document, "verificationMethod": [*described, *found]}
        return replace(resolved, document=document, problems=problems)

    async def _key_at(self, method: str, issuer: str) -> dict[str, Any] | Unresolvable | did.DidError:
        kept = self._keys.get((issuer, method))
        if kept is not None:
            return kept
        try:
            url = key_urls.base(method)
            found = await fetch_json(self._client, url, accept=_ACCEPT_KEYS, max_bytes=MAX_DID_DOCUMENT)
            key = key_urls.method_at(found, method, issuer)
        except (Unresolvable, did.DidError) as error:
            return error
        self._keys.put((issuer, method), key, FOREIGN_SECONDS)
        return key


@functools.lru_cache(maxsize=256)
def _did_key(issuer: str) -> Resolved:
    try:
        document = did.resolve_did_key(issuer)
    except did.DidError as error:
        raise Unresolvable(error.code, error.detail, unknown=error.code == "malformed_did") from None
    return Resolved(document, "the DID itself (did:key)", Against(kind="issuer", id=issuer, source="identifier"))


def _lacks(known: Resolved, issuer: str, methods: Sequence[str]) -> bool:
    for method in methods:
        if method in known.lasting:
            continue
        try:
            did.find_verification_method(known.document, method, controller=issuer)
        except did.DidError as error:
            if error.code == "key_not_found" and method not in key_urls.listed(known.document):
                return True
    return False


async def fetch_json(
    client: GuardedClient, url: str, *, accept: str, max_bytes: int, allow_http: bool = False
) -> dict[str, Any]:
    """A JSON object from a stranger's address. Raises Unresolvable (unknown: the server says that there is none)."""
    return json_object(await fetch_body(client, url, accept=accept, allow_http=allow_http), url, max_bytes=max_bytes)


async def fetch_body(client: GuardedClient, url: str, *, accept: str, allow_http: bool = False) -> bytes:
    """The bytes at a stranger's address. Raises Unresolvable."""
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
    return fetched.body


def json_object(body: bytes, url: str, *, max_bytes: int) -> dict[str, Any]:
    """The JSON object that `url` answered with. Raises Unresolvable."""
    try:
        document = guard_json(body, max_bytes=max_bytes)
    except BadJson as error:
        raise Unresolvable("bad_answer", f"{url[:300]} does not answer with JSON: {error.detail}") from None
    if not isinstance(document, dict):
        raise Unresolvable("bad_answer", f"{url[:300]} does not answer with a JSON object")
    return document
