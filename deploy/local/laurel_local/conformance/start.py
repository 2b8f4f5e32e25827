"""The conformance routes as a parts list, made and named in the order in which they need each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp

from laurel.database import Database
from laurel.http import AddressPolicy, Fetched, GuardedClient
from laurel.settings import Settings as SharedSettings
from laurel_local.conformance.api import create_conformance_api
from laurel_local.conformance.issuing import Issuer
from laurel_local.conformance.options import CRYPTOSUITES
from laurel_local.conformance.ring import new_ring
from laurel_local.conformance.verifying import Conformance
from laurel_local.conformance.worker import Sandbox
from laurel_verifier.config import Settings
from laurel_verifier.lookups import Lookups
from laurel_verifier.resolution import Issuers
from laurel_verifier.status_lists import MAX_LIST_DOCUMENT, StatusLists
from laurel_verifier.verification import Verifier

PREFIX = "/conformance/"


@dataclass(frozen=True)
class Routes:
    """app: answers below PREFIX. announcement: what a suite must know, as JSON."""

    app: ASGIApp
    announcement: dict[str, Any]


class _OwnListsFirst(GuardedClient):
    """Answers for our own lists without a request: our certificate is one that nobody trusts, we least of all."""

    def __init__(self, policy: AddressPolicy, **options: Any) -> None:
        super().__init__(policy, **options)
        self.own: tuple[str, Issuer] | None = None

    async def get(self, url: str, *, accept: str, allow_http: bool = False, max_bytes: int | None = None) -> Fetched:
        if self.own is not None and url.startswith(self.own[0] + "/"):
            found = await self.own[1].status_list(url.removeprefix(self.own[0] + "/"))
            return Fetched(200 if found else 404, "application/vc+ld+json", found or b"", url)
        return await super().get(url, accept=accept, allow_http=allow_http, max_bytes=max_bytes)


def _now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_conformance(
    database: Database, settings: SharedSettings, *, base_url: str, clock: Callable[[], datetime] = _now
) -> AsyncIterator[Routes]:
    """Open the routes. database, settings: the verifier's. base_url: https, without a path."""
    assert isinstance(settings, Settings)
    base = base_url + PREFIX.rstrip("/")
    async with AsyncExitStack() as stack:
        sandbox = Sandbox(
            processes=settings.sandbox_processes,
            seconds=settings.sandbox_seconds,
            memory=settings.sandbox_memory_mb << 20,
        )
        await stack.enter_async_context(sandbox)
        client = await stack.enter_async_context(
            _OwnListsFirst(AddressPolicy(settings.networks), max_bytes=MAX_LIST_DOCUMENT)
        )
        issuer = Issuer(new_ring(), f"{base}/status", sandbox, clock)
        client.own = (f"{base}/status", issuer)
        issuers = Issuers(database, client, base_url=base_url, allow_http=False)
        lists = StatusLists(client)
        verifier = Verifier(
            index=Lookups(database),
            issuers=issuers,
            lists=lists,
            own=sandbox,
            foreign=sandbox,
            base_url=base_url,
            clock=clock,
        )
        conformance = Conformance(verifier, issuers, sandbox, clock)
        yield Routes(
            create_conformance_api(database, issuer, conformance, lists),
            {
                "issuer": issuer.ring.of_kind("Ed25519").did,
                "issuers": issuer.ring.issuers,
                "issue": f"{base}/credentials/issue",
                "verify": f"{base}/credentials/verify",
                "verify_presentation": f"{base}/presentations/verify",
                "cryptosuites": list(CRYPTOSUITES),
            },
        )
