"""What a process says of itself: /healthz, /readyz, /metrics, and numbers that only a look at the database gives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog
from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from laurel import telemetry
from laurel.bus import Bus, BusError
from laurel.database import UNAVAILABLE, Database
from laurel.service import Consumer, Service
from laurel.waiting import sleep
from laurel.watchdog import Watch, beat
from laurel.web import json_response

log = structlog.get_logger()

PROBE_EVERY_S = 5.0
PROBE_TIMEOUT_S = 5.0
MEASURE_EVERY_S = 10.0
# A role or a schema that is not there yet, too: the process waits for whoever migrates, and ends when nobody does.
_AWAY: tuple[type[BaseException], ...] = (*UNAVAILABLE, asyncpg.PostgresError)
_COUNTED = 100_000  # rows of an outbox that are counted; beyond it is simply "many"


class Metrics:
    """/metrics before an application: for Prometheus, on the port that no gateway passes /metrics to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD"):
            await Response(generate_latest(telemetry.REGISTRY), media_type=CONTENT_TYPE_LATEST)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Health:
    """/healthz and /readyz of a process without an API: alive while its loop turns, ready with its databases."""

    def __init__(self, *databases: Database) -> None:
        self._databases = databases

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        status, word = 404, "not found"
        if scope["path"] == "/healthz":
            status, word = 200, "alive"
        elif scope["path"] == "/readyz":
            try:
                for database in self._databases:
                    await database.ping()
            except Exception as error:  # noqa: BLE001 - whatever it is, we are not ready
                status, word = 503, f"database: {type(error).__name__}"
            else:
                status, word = 200, "ready"
        await json_response({"status": word}, status)(scope, receive, send)


async def probe_database(
    database: Database, watch: Watch, stop: asyncio.Event, *, serving: Database | None = None
) -> None:
    """Ask the database whether it is there, on a connection of our own, until `stop`.

    The pulse beats only when it answers: a database that takes connections and never answers ends the process as one
    that refuses them does, and every connection that hangs goes with it.

    serving: the pool of requests on the same server. Their statements may take long, but not while it is silent.
    """
    every_s = min(PROBE_EVERY_S, watch.stuck_after_s / 4)
    with watch.part(f"{database.schema}'s database") as pulse:
        reachable: bool | None = None
        while not stop.is_set():
            try:
                async with database.session(timeout=PROBE_TIMEOUT_S) as connection:
                    while not stop.is_set():
                        await connection.fetchval("SELECT 1", timeout=PROBE_TIMEOUT_S)
                        pulse.beat()
                        if not reachable:
                            reachable = True
                            telemetry.gauge("laurel_database_up", 1, service=database.schema)
                        await _pause(stop, every_s)
            except _AWAY as error:
                if serving is not None and isinstance(error, TimeoutError):
                    serving.hang_up()
                if reachable is not False:
                    reachable = False
                    telemetry.gauge("laurel_database_up", 0, service=database.schema)
                    reason = f"{type(error).__name__}: {error}"
                    log.error("database out of reach", service=database.schema, reason=reason)
                await _pause(stop, every_s)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    # Not laurel.waiting: that beats.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def measure(
    service: Service, bus: Bus, *, outbox: bool, consumers: Sequence[Consumer[Any]], stop: asyncio.Event
) -> None:
    """Set the gauges that the alerts ask for, until `stop`. What cannot be looked at now keeps its last number."""
    for consumer in consumers:  # a counter that begins with its first event cannot be seen to grow by it
        telemetry.count("laurel_consumed_total", 0, group=consumer.group)
        telemetry.count("laurel_dead_letters_total", 0, group=consumer.group)
    while not stop.is_set():
        try:
            if outbox:
                await _measure_outbox(service)
            if consumers:
                await _measure_dead_letters(service, consumers)
            if consumers and service.numbers is not None:
                async with service.worker_database.transaction() as tx:
                    for name, value in (await service.numbers(tx)).items():
                        telemetry.gauge(name, value)
        except _AWAY as error:  # a number that is missing is no reason to end what works
            log.warning("not measured", service=service.name, reason=f"{type(error).__name__}: {error}")
        if consumers:
            await _measure_lag(service.name, bus, consumers)
        await sleep(stop, MEASURE_EVERY_S)


async def _measure_outbox(service: Service) -> None:
    async with service.worker_database.transaction() as tx:
        row = await tx.fetchrow(
            "SELECT (SELECT extract(epoch FROM clock_timestamp() - occurred_at)::float8 FROM outbox "
            "ORDER BY id LIMIT 1) AS oldest, (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) AS counted) AS rows",
            _COUNTED,
        )
    assert row is not None
    telemetry.gauge("laurel_outbox_oldest_seconds", max(0.0, row["oldest"] or 0.0), service=service.name)
    telemetry.gauge("laurel_outbox_rows", row["rows"], service=service.name)


async def _measure_dead_letters(service: Service, consumers: Sequence[Consumer[Any]]) -> None:
    async with service.worker_database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT consumer, count(*) AS waiting FROM dead_letters WHERE state = 'waiting' GROUP BY consumer"
        )
    waiting = {row["consumer"]: row["waiting"] for row in rows}
    for consumer in consumers:
        telemetry.gauge("laurel_dead_letters_waiting", waiting.get(consumer.group, 0), group=consumer.group)


async def _measure_lag(service: str, bus: Bus, consumers: Sequence[Consumer[Any]]) -> None:
    try:
        for consumer in consumers:
            lag = await bus.lag(consumer.group, [topic.name for topic in consumer.topics])
            telemetry.gauge("laurel_consumer_lag", sum(lag.values()), group=consumer.group)
            beat()
    except BusError as error:
        telemetry.gauge("laurel_bus_up", 0, service=service)
        log.warning("the bus does not say how far its consumers are", service=service, reason=str(error))
    else:
        telemetry.gauge("laurel_bus_up", 1, service=service)
