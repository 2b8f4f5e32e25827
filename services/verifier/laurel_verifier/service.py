"""The verifier's parts, in the order in which they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from laurel.access import access_consumer
from laurel.bus import Bus
from laurel.credential.images import MAX_IMAGE
from laurel.database import BEGIN_WITHIN_S, Database
from laurel.http import AddressPolicy, GuardedClient
from laurel.outbox import Relay
from laurel.service import Service
from laurel_verifier.api import create_api
from laurel_verifier.batch_api import add_batch
from laurel_verifier.config import Settings
from laurel_verifier.downloads import Badges
from laurel_verifier.handlers import index_consumer, issuers_consumer
from laurel_verifier.intake import Intake
from laurel_verifier.lookups import Lookups
from laurel_verifier.pages import add_pages
from laurel_verifier.resolution import Issuers
from laurel_verifier.sandbox import Sandbox
from laurel_verifier.status_lists import MAX_LIST_DOCUMENT, StatusLists
from laurel_verifier.verification import Verifier

FETCH_SECONDS = 5.0
ANYWHERE = "0.0.0.0/0,::/0"


def _now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_service(settings: Settings, bus: Bus, *, clock: Callable[[], datetime] = _now) -> AsyncIterator[Service]:
    """Open the verifier. clock: what "now" is for the dates of credentials (aware)."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database(
                settings.dsn("verifier"), schema="verifier", size=settings.database_pool, begin_within=BEGIN_WITHIN_S
            )
        )
        worker_database = await stack.enter_async_context(
            Database(settings.dsn("verifier", worker=True), schema="verifier", size=settings.database_pool)
        )
        client = await stack.enter_async_context(
            GuardedClient(AddressPolicy(settings.networks), total_timeout=FETCH_SECONDS, max_bytes=MAX_LIST_DOCUMENT)
        )
        own_client = await stack.enter_async_context(  # for our own origin alone, wherever it lies
            GuardedClient(AddressPolicy.parse(ANYWHERE), total_timeout=FETCH_SECONDS, max_bytes=MAX_IMAGE)
        )
        memory = settings.sandbox_memory_mb << 20
        own = await stack.enter_async_context(Sandbox(processes=1, seconds=settings.sandbox_seconds, memory=memory))
        foreign = await stack.enter_async_context(
            Sandbox(processes=settings.sandbox_processes, seconds=settings.sandbox_seconds, memory=memory)
        )
        index = Lookups(database)
        verifier = Verifier(
            index=index,
            issuers=Issuers(
                database, client, base_url=settings.base_url, allow_http=settings.allow_http_issuers, clock=clock
            ),
            lists=StatusLists(client),
            own=own,
            foreign=foreign,
            base_url=settings.base_url,
            clock=clock,
        )
        intake = Intake(index, verifier, client, settings.base_url)
        api = create_api(database, index, intake, base_url=settings.base_url)
        add_batch(api, intake, settings)
        badges = Badges(own_client, settings.base_url)
        add_pages(api, index=index, verifier=verifier, intake=intake, badges=badges, base_url=settings.base_url)
        yield Service(
            name="verifier",
            api=api,
            database=database,
            worker_database=worker_database,
            relay=Relay(worker_database, bus, service="verifier"),
            consumers=(index_consumer(), issuers_consumer(), access_consumer("verifier")),
        )
