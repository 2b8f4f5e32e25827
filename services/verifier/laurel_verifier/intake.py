"""From whatever somebody has to a verdict: one way in for the API, the page and `laurel verify`.

1. What is it? (`documents`, in a thread where it takes long: pictures are large)
2. An address: our own is looked up in the index; every other is fetched once, through the guarded client.
3. The credential goes to the verifier. What it was baked into stands in the report.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import msgspec

from laurel.credential import jose
from laurel.credential.baking import MAX_BAKED, Format
from laurel.http import FetchFailed, FetchRefused, GuardedClient
from laurel_verifier import checks, documents, tokens
from laurel_verifier.documents import Address, Document, Unreadable, Unsupported
from laurel_verifier.genuine import FREELY, Gate
from laurel_verifier.lookups import Lookups
from laurel_verifier.store import Indexed
from laurel_verifier.verification import Verification, Verifier

ACCEPT = (
    "application/vc+ld+json, application/vc, application/vc+jwt, application/jwt;q=0.9, application/ld+json;q=0.9, "
    "application/json;q=0.8, image/png;q=0.5, image/svg+xml;q=0.5, text/plain;q=0.4"
)


_SMALL = 16 << 10  # bytes of JSON that are read sooner than a thread wakes up
_LARGE = 64 << 10  # bytes that are read one after the other: side by side they would hold up everybody


class Examined(msgspec.Struct, frozen=True, gc=False):
    """The verdict, and the credential where it could be read."""

    verification: Verification
    document: dict[str, Any] | None = None


class Intake:
    """Takes what people hand in. base_url: our own, whose credentials are in the index."""

    def __init__(self, index: Lookups, verifier: Verifier, client: GuardedClient, base_url: str) -> None:
        self._index = index
        self._verifier = verifier
        self._client = client
        self._base_url = base_url
        self._large = asyncio.Semaphore(1)
        self._own_address = re.compile(rb'"%b/c/([0-9A-Za-z-]{1,64})"' % re.escape(base_url.encode())).search

    async def examine(
        self, body: bytes, expected_recipient: str | None = None, *, fetch: bool = True, gate: Gate = FREELY
    ) -> Examined:
        """Any bytes at all. Raises Unreadable when there is no credential in them, or none at their address.

        fetch: False refuses addresses that are not our own. gate: behind it everything is done that may take long.
        """
        row = await self._to_the_byte(body)
        if row is not None:
            return Examined(*await self._verifier.verify_indexed(row, expected_recipient, gate=gate))
        found = documents.read(body) if len(body) <= _SMALL and body[:1] == b"{" else None
        if isinstance(found, Document) and not documents.is_wrapper(found) and not tokens.is_enveloped(found.value):
            return await self._examine(found, expected_recipient, gate)
        async with gate:
            if found is None:
                async with self._large if len(body) > _LARGE else contextlib.nullcontext():
                    found = await asyncio.to_thread(documents.read, body)
            return await self._handed_in(found, expected_recipient, fetch=fetch)

    async def examine_address(self, url: str, expected_recipient: str | None = None, *, fetch: bool = True) -> Examined:
        """What is at an address. Raises Unreadable. fetch: as for `examine`."""
        return await self._examine(await self._at(documents.address(url).url, fetch=fetch), expected_recipient)

    def unreadable(self, error: Unreadable) -> Examined:
        """The same refusal as a verdict, for people."""
        check = checks.failed("format", error.code, error.detail, pointer=error.pointer or "", clause=error.clause)
        return Examined(self._verifier.unread(check))

    async def _to_the_byte(self, body: bytes) -> Indexed | None:
        """The row of our index that holds exactly these bytes: what we issued needs neither guard nor a look at its
        form. Found by the first address of ours in it; if that is none of its own, it is as any other document."""
        named = self._own_address(body) if len(body) <= _SMALL and body[:1] == b"{" else None
        row = None if named is None else await self._index.credential(named[1].decode())
        return row if row is not None and row.document == body.rstrip() else None

    async def _handed_in(
        self, found: Document | Address | Unsupported, expected: str | None, *, fetch: bool = True
    ) -> Examined:
        if isinstance(found, Document) and documents.is_wrapper(found):
            found, named = await asyncio.to_thread(documents.unwrap, found.value)
            expected = expected or named
        if isinstance(found, Address):
            found = await self._at(found.url, fetch=fetch)
        return await self._examine(found, expected)

    async def _examine(
        self, found: Document | Address | Unsupported, expected: str | None, gate: Gate = FREELY
    ) -> Examined:
        if isinstance(found, Address):
            raise Unreadable("bad_answer", "there is only another address; give the address of the credential itself")
        if isinstance(found, Unsupported):
            check = checks.not_checked("format", found.code, found.detail)
            return Examined(_told(self._verifier.unread(check), found.baked))
        if found.kind == "jwt" or tokens.is_enveloped(found.value):
            token = found.content.decode() if found.kind == "jwt" else found.value
            verification, inside = await self._verifier.verify_token(token, expected)
            return Examined(_told(verification, found.baked), inside)
        verification = await self._verifier.verify(found.value, expected, content=found.content, gate=gate)
        shown = found.value if isinstance(found.value, dict) else None
        return Examined(_told(verification, found.baked), shown)

    async def _at(self, url: str, *, fetch: bool) -> Document | Address | Unsupported:
        credential_id = documents.credential_id_at(url, self._base_url)
        if credential_id is not None:  # our own: no need to ask ourselves over the network
            row = await self._index.credential(credential_id) if credential_id else None
            if row is None:
                raise Unreadable("not_found", "there is no such credential here")
            _, token = jose.opened(row.document)
            return await asyncio.to_thread(documents.read, row.document if token is None else token.encode())
        if not fetch:
            detail = f"{url[:300]} is not fetched: in a batch only this Laurel's own addresses are looked up"
            raise Unreadable("fetch_refused", detail)
        try:
            fetched = await self._client.get(url, accept=ACCEPT, max_bytes=MAX_BAKED)
        except FetchRefused as error:
            raise Unreadable("fetch_refused", f"{url[:300]} is not fetched: {error.detail}") from None
        except FetchFailed as error:
            raise Unreadable("fetch_failed", f"{url[:300]} could not be fetched: {error.detail}") from None
        if fetched.status in (404, 410):
            raise Unreadable("not_found", f"{url[:300]} answers {fetched.status}: there is no credential")
        if fetched.status != 200:
            raise Unreadable("fetch_failed", f"{url[:300]} answers {fetched.status}, not 200")
        try:
            return await asyncio.to_thread(documents.read, fetched.body)
        except Unreadable as error:
            raise Unreadable("bad_answer", f"{url[:300]} answers with something else: {error.detail}") from None


def _told(verification: Verification, baked: Format | None) -> Verification:
    if baked is None:
        return verification
    form, *others = verification.checks
    form = msgspec.structs.replace(form, detail=f"taken out of a baked {baked.upper()}: {form.detail}")
    return msgspec.structs.replace(verification, baked=baked, checks=(form, *others))
