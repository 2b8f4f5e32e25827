"""The notifier's parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from laurel.access import access_consumer
from laurel.bus import Bus
from laurel.database import BEGIN_WITHIN_S, Database
from laurel.http import GuardedClient
from laurel.outbox import Relay
from laurel.service import Service, Worker
from laurel_notifier.api import create_api
from laurel_notifier.config import Settings
from laurel_notifier.handlers import Notify, deliveries_consumer
from laurel_notifier.mail import MailServer, MailWorker
from laurel_notifier.mail_text import Letters
from laurel_notifier.numbers import numbers
from laurel_notifier.webhooks import DeliveryWorker

NAME = "notifier"


def _now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_service(settings: Settings, bus: Bus) -> AsyncIterator[Service]:
    """Everything that the notifier runs on, opened; closed again at the end.

    Raises ConfigurationError for a mail server's URL that cannot be read.
    """
    key = settings.contact_key.get_secret_value()
    policy = settings.address_policy
    user_agent = f"Laurel/1.0 (+{settings.base_url})"
    async with AsyncExitStack() as opened:
        database = await opened.enter_async_context(
            Database(settings.dsn(NAME), schema=NAME, size=settings.database_pool, begin_within=BEGIN_WITHIN_S)
        )
        worker_database = await opened.enter_async_context(
            Database(settings.dsn(NAME, worker=True), schema=NAME, size=settings.database_pool)
        )
        checking = await opened.enter_async_context(GuardedClient(policy, total_timeout=5.0, user_agent=user_agent))
        delivering = await opened.enter_async_context(
            GuardedClient(policy, total_timeout=settings.webhook_timeout_s, user_agent=user_agent)
        )
        api = create_api(
            database, checking, base_url=settings.base_url, seal_key=key,
            endpoints_per_tenant=settings.endpoints_per_tenant, clock=_now,
        )  # fmt: skip
        webhooks = DeliveryWorker(
            worker_database,
            delivering,
            key=key,
            concurrency=settings.webhook_concurrency,
            concurrency_per_endpoint=settings.webhook_concurrency_per_endpoint,
            # What a killed worker held is due again when its lease ends: with the default 25 s later.
            lease_s=settings.webhook_timeout_s + 10.0,
            needs_s=settings.webhook_timeout_s + 3.0,
        )
        notify = Notify(
            contact_key=key, base_url=settings.base_url, mail=settings.smtp_url is not None, at_once=webhooks,
            key_lost=settings.contact_key_lost,
        )  # fmt: skip
        workers = [Worker("webhooks", webhooks.run)]
        if settings.smtp_url is not None:
            mail = MailWorker(
                worker_database,
                MailServer.parse(settings.smtp_url.get_secret_value()),
                Letters(sender=settings.mail_from, base_url=settings.base_url),
                key=key,
                connections=settings.mail_connections,
            )
            workers.append(Worker("mail", mail.run))
        yield Service(
            name=NAME,
            api=api,
            database=database,
            worker_database=worker_database,
            relay=Relay(worker_database, bus, service=NAME),
            consumers=(deliveries_consumer(notify), access_consumer(NAME)),
            workers=tuple(workers),
            numbers=numbers,
        )
