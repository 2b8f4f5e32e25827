"""A process: which parts of which services it runs, from reading its settings to an orderly stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from laurel import crash_points, logs, telemetry, watchdog
from laurel.bus import Bus, TopicSpec, connect
from laurel.errors import ConfigurationError, Silent, Stuck, first_failure, said
from laurel.health import Health, Metrics, measure, probe_database
from laurel.http_server import serve_http
from laurel.limits import Limits
from laurel.loop import collect_rarely, do_not_preempt, run
from laurel.redaction import redact
from laurel.redrive import Redriver
from laurel.service import Engine, Service
from laurel.settings import Settings
from laurel.topics import TOPICS
from laurel.watchdog import Watch

log = structlog.get_logger()

ROLES: tuple[str, ...] = ("api", "worker", "relay")
LAST_WORDS_S = 12.0  # after a part has failed: Prometheus comes by once more (every 5 s) and hears which
END_WITHIN_S = 8.0  # after that the process is gone, whatever hangs in ending

S = TypeVar("S", bound=Settings)
OpenService = Callable[[S, Bus], AbstractAsyncContextManager[Service]]


def load_settings(kind: type[S], **values: Any) -> S:
    """From `values`, else LAUREL_* variables. Raises ConfigurationError naming each that is missing or wrong."""
    try:
        return kind(**values)
    except ValidationError as error:
        wrong = "; ".join(
            f"LAUREL_{'_'.join(str(part) for part in one['loc']).upper()}: {said(one['msg'])}" for one in error.errors()
        )
        hint = "; `laurel secrets` prints fresh keys" if "KEY: Field required" in wrong or "_KEK" in wrong else ""
        raise ConfigurationError(wrong + hint) from None


def open_bus(url: str, **options: float) -> Bus:
    """The bus that a URL names. Raises ConfigurationError for a URL that names none."""
    try:
        return connect(url, **options)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


async def serve(name: str, settings: S, open_service: OpenService[S], *, role: str) -> None:
    """One service in this process until SIGTERM or SIGINT. role: one of ROLES, or "all".

    Raises what a part fails with; the process is then to be started again.
    """
    if crash_points.arm_from_environment(settings.base_url):
        log.error("this process will die on purpose; only tests want that", crash_at=crash_points.armed())
    telemetry.configure(name)
    stop = asyncio.Event()
    stop_on_signals(stop)
    roles = ROLES if role == "all" else (role,)
    if role != "api":
        do_not_preempt()
    port = health_port()
    member = os.environ.get("LAUREL_MEMBER", "") or f"{name}-{socket.gethostname()}-{'-'.join(roles)}"
    heard = "api" in roles or port is not None
    bus = open_bus(settings.bus_url)
    try:
        with watchdog.guard_loop(blocked_after_s=settings.stuck_after_s):
            async with open_service(settings, bus) as service, asyncio.TaskGroup() as group:
                collect_rarely()
                if "api" in roles:
                    app = Metrics(service.api)
                    group.create_task(
                        serve_http(
                            app, host=settings.host, port=settings.port, stop=stop, proxies=settings.trusted_proxies
                        )
                    )
                elif port is not None:
                    app = Metrics(Health(service.worker_database))
                    group.create_task(serve_http(app, host=settings.host, port=port, stop=stop))
                parts = run_parts(
                    service, bus, settings, roles=roles, stop=stop, member=member,
                    last_words_s=LAST_WORDS_S if heard else 0.0, end_within_s=END_WITHIN_S,
                )  # fmt: skip
                group.create_task(parts)
    finally:
        await bus.close()


def health_port() -> int | None:
    """LAUREL_HEALTH_PORT: where a process without an API of its own answers /healthz, /readyz and /metrics."""
    given = os.environ.get("LAUREL_HEALTH_PORT", "")
    if given and not (given.isdecimal() and 0 < int(given) < 65_536):
        raise ConfigurationError(f"LAUREL_HEALTH_PORT: {given!r} is not a port")
    return int(given) if given else None


def main(name: str, kind: type[S], open_service: OpenService[S]) -> None:
    """The command line of `python -m laurel_<service>`."""
    parser = argparse.ArgumentParser(prog=f"laurel_{name}", description=f"Laurel's {name}, a process of its own.")
    parser.add_argument("--role", choices=(*ROLES, "all"), default="all")
    role = parser.parse_args().role
    logs.configure()
    try:
        run(serve(name, load_settings(kind), open_service, role=role))
    except (Exception, asyncio.CancelledError) as error:  # the latter is asyncpg's: nobody cancels us
        failure = first_failure(error)
        if failure is not error and not isinstance(error, BaseExceptionGroup):
            log.error("clearing up failed, too", reason=repr(error))
        if isinstance(failure, ConfigurationError):
            sys.exit(redact(f"{name}: {failure}"))
        if not isinstance(failure, Stuck):
            raise
        sys.stderr.write(redact(f"{name}: {failure}\n"))  # logged where it happened
        sys.exit(watchdog.EXIT_STUCK)


async def run_parts(
    service: Service,
    bus: Bus,
    settings: Settings,
    *,
    roles: Iterable[str],
    stop: asyncio.Event,
    member: str = "",
    last_words_s: float = 0.0,
    end_within_s: float | None = None,
) -> None:
    """Run a service's relay, consumers and workers until `stop`, watched. The API is served by `serve_http`.

    member: this process's name in consumer groups; must differ between processes that run at once.
    last_words_s: how long a part that has failed waits before its failure ends the others, so that it is seen.
    end_within_s: seconds after that until the process is ended by force; None: never.
    """
    name = member or f"{service.name}-{socket.gethostname()}"
    watch = Watch(stuck_after_s=settings.stuck_after_s)

    roles = frozenset(roles)
    if "api" in roles:
        service.api.state.limits = Limits.of(settings)

    async def guarded(part: str, running: Callable[[], Awaitable[None]], *, beats: bool = True) -> None:
        """A loop that ends before it was told to has failed, however quietly."""
        try:
            with watch.part(part) if beats else contextlib.nullcontext():
                await running()
            if not stop.is_set():
                raise Stuck(f"{part} ended although nobody stopped it")
        except Exception as error:
            kind = type(error).__name__
            part = error.part if isinstance(error, Silent) else part
            log.exception("part failed", part=part, kind=kind)
            telemetry.gauge("laurel_part_failed", 1, part=part, kind=kind)
            if end_within_s is not None:
                watchdog.end_within(last_words_s + end_within_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(last_words_s):
                    await stop.wait()
            raise

    async with asyncio.TaskGroup() as group:

        def start(part: str, running: Callable[[], Awaitable[None]], *, beats: bool = True) -> None:
            group.create_task(guarded(part, running, beats=beats), name=part)

        consumers = service.consumers if "worker" in roles else ()
        database = service.database if roles == {"api"} else service.worker_database
        start(f"{service.name} watchdog", lambda: watch.run(stop), beats=False)
        serving = service.database if "api" in roles else None
        probing = functools.partial(probe_database, database, watch, stop, serving=serving)
        start(f"{service.name} database", probing, beats=False)
        if "relay" in roles or consumers:
            outbox = "relay" in roles
            start(
                f"{service.name} numbers",
                lambda: measure(service, bus, outbox=outbox, consumers=consumers, stop=stop),
            )
        if "relay" in roles:
            start(f"{service.name} relay", lambda: service.relay.run(stop))
        for consumer in consumers:
            for number in range(1, consumer.members + 1):
                part = consumer.group if number == 1 else f"{consumer.group}-{number}"
                engine: Engine[Any] = Engine(
                    consumer, bus=bus, database=service.worker_database, member_id=f"{name}-{part}",
                    batch_size=settings.batch_size, stuck_after_s=settings.stuck_after_s,
                )  # fmt: skip
                start(part, functools.partial(engine.run, stop))
            redriver: Redriver[Any] = Redriver(consumer, bus=bus, database=service.worker_database)
            start(f"{consumer.group} redrive", functools.partial(redriver.run, stop))
        for worker in service.workers if "worker" in roles else ():
            start(f"{service.name} {worker.name}", functools.partial(worker.run, stop))


async def ensure_topics(bus: Bus) -> None:
    """Create the topics that are missing."""
    await bus.ensure_topics(
        TopicSpec(topic.name, topic.partitions, topic.retention_ms, topic.compacted) for topic in TOPICS
    )


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM, SIGINT and SIGHUP (a closed terminal) set `stop`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
