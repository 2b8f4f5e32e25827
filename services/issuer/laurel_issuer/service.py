"""The issuer, as a parts list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from laurel.bus import Bus
from laurel.database import BEGIN_WITHIN_S, Database
from laurel.outbox import Relay
from laurel.service import Consumer, Service, Worker
from laurel.topics import ACHIEVEMENT, ASSESSMENT
from laurel_issuer.api import create_api
from laurel_issuer.config import Settings
from laurel_issuer.edge import Desk
from laurel_issuer.endorsing import Endorser
from laurel_issuer.handlers import GROUP, Issuance, achievements_handler
from laurel_issuer.keyring import KeyMaker
from laurel_issuer.numbers import numbers
from laurel_issuer.oauth import TokenDesk
from laurel_issuer.parking import ParkedIssuer
from laurel_issuer.signing import Signers
from laurel_issuer.status_lists import Publisher
from laurel_issuer.store_issuance import Terms
from laurel_issuer.token_keys import TokenKeys


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_service(
    settings: Settings, bus: Bus, *, clock: Callable[[], datetime] = utc_now
) -> AsyncIterator[Service]:
    """Open the issuer's parts; nothing runs yet. The databases and the signing processes are closed at the end."""
    async with AsyncExitStack() as resources:
        size = settings.database_pool
        database = await resources.enter_async_context(
            Database(settings.dsn("issuer"), schema="issuer", size=size, begin_within=BEGIN_WITHIN_S)
        )
        worker_database = await resources.enter_async_context(
            Database(settings.dsn("issuer", worker=True), schema="issuer", size=size)
        )
        kek = settings.kek.get_secret_value()
        signers = await resources.enter_async_context(
            Signers(kek, processes=settings.signers, canary_every=settings.canary_every)
        )
        publisher = Publisher(
            worker_database, signers, ttl_s=settings.status_ttl_s, valid_s=settings.status_valid_s, clock=clock
        )
        terms = Terms(settings.base_url, settings.status_list_entries, settings.index_key)
        keys = KeyMaker(worker_database, kek=kek, base_url=settings.base_url, clock=clock)
        issuance = Consumer(
            group=GROUP,
            topics=(ASSESSMENT,),
            handler=Issuance(worker_database, signers, publisher, keys=keys, terms=terms, clock=clock),
            members=settings.issuance_members,
        )
        replica = Consumer(group="issuer.achievements", topics=(ACHIEVEMENT,), handler=achievements_handler())
        parked = ParkedIssuer(worker_database, bus, issuance, batch_size=settings.batch_size)
        endorser = Endorser(database, signers, publisher, keys=keys, terms=terms, clock=clock)
        desk = Desk(
            database=database,
            base_url=settings.base_url,
            kek=kek,
            operator_token=settings.operator_token.get_secret_value() if settings.operator_token else None,
            status_ttl_s=settings.status_ttl_s,
            clock=clock,
        )
        # Real time, whatever the clock of the rest: every service checks tokens by its own.
        token_keys = TokenKeys(database, kek=kek, clock=utc_now)
        token_desk = TokenDesk(token_keys, settings.base_url, settings.token_ttl_s)
        yield Service(
            name="issuer",
            api=create_api(desk, endorser, settings.id_key.get_secret_value(), token_desk),
            database=database,
            worker_database=worker_database,
            relay=Relay(worker_database, bus, service="issuer"),
            consumers=(issuance, replica),
            workers=(Worker("status lists", publisher.run), Worker("parked", parked.run)),
            numbers=numbers,
        )
