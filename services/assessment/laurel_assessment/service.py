"""The assessment service, as a list of its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from laurel.bus import Bus
from laurel.database import BEGIN_WITHIN_S, Database
from laurel.outbox import Relay
from laurel.service import Service, Worker
from laurel_assessment.api import Parts, make_api
from laurel_assessment.config import Settings
from laurel_assessment.handlers import consumers
from laurel_assessment.import_worker import ImportWorker
from laurel_assessment.imports import abandoned_after
from laurel_assessment.intake import Keys
from laurel_assessment.numbers import numbers
from laurel_assessment.pacing import Pace
from laurel_assessment.pressure import Pressure

NAME = "assessment"


@asynccontextmanager
async def open_service(
    settings: Settings, bus: Bus, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncIterator[Service]:
    """Open the databases and hand over the parts; nothing runs yet."""
    keys = Keys(settings.id_key.get_secret_value(), settings.contact_key.get_secret_value(), settings.base_url)
    async with (
        Database(settings.dsn(NAME), schema=NAME, size=settings.database_pool, begin_within=BEGIN_WITHIN_S) as database,
        Database(settings.dsn(NAME, worker=True), schema=NAME, size=settings.database_pool) as worker_database,
    ):
        importing = ImportWorker(
            worker_database, keys=keys, at_once=settings.import_workers, clock=clock,
            pace=Pace(bus, worker_database, ahead_s=settings.import_ahead_s),
            silent_s=abandoned_after(settings.import_idle_s),
        )  # fmt: skip
        pressure = Pressure(database, worker_database, settings, clock=clock)
        yield Service(
            name=NAME,
            api=make_api(Parts(database, settings, keys, clock, pressure)),
            database=database,
            worker_database=worker_database,
            relay=Relay(worker_database, bus, service=NAME),
            consumers=consumers(),
            workers=(Worker("imports", importing.run),),
            numbers=numbers,
        )
