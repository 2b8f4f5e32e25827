"""`laurel serve`, `laurel migrate`, `laurel topics`: what a distributed installation runs."""

from __future__ import annotations

from laurel import process
from laurel.migrate import SERVICES, migrate_all
from laurel.process import ensure_topics, open_bus
from laurel_local.databases import checked_url
from laurel_local.up import open_service, settings_class


async def serve(service: str, role: str) -> None:
    """Run one service until SIGTERM or SIGINT; settings from the environment. role: api, worker, relay or all."""
    settings = process.load_settings(settings_class(service))
    await process.serve(service, settings, lambda settings, bus: open_service(service, settings, bus), role=role)


async def migrate(admin_dsn: str, password: str, services: tuple[str, ...] = SERVICES) -> None:
    """Roles, schemas and migrations of all services. Raises ConfigurationError for a URL that is none."""
    where = "the database's URL (--database, LAUREL_ADMIN_DATABASE_URL)"
    await migrate_all(checked_url(admin_dsn, where), services, password=password)


async def create_topics(bus_url: str) -> None:
    """Create the topics that the bus lacks."""
    bus = open_bus(bus_url)
    try:
        await ensure_topics(bus)
    finally:
        await bus.close()
