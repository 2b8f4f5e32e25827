"""A process: which parts of which services it runs, from start to an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from laurel.bus import Bus, TopicSpec
from laurel.errors import Stuck
from laurel.service import Engine, Service
from laurel.settings import Settings
from laurel.topics import TOPICS

log = structlog.get_logger()

ROLES: tuple[str, ...] = ("api", "worker", "relay")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: one place stops the whole process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    app: ASGIApp, *, host: str, port: int, stop: asyncio.Event, listening: asyncio.Event | None = None
) -> None:
    """Serve until `stop`. `listening` is set once connections are accepted. Raises OSError when the port is taken."""
    # Bound here, so that a taken port is an exception like any other and not uvicorn's sys.exit.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.create_server((host, port), family=family, backlog=2048)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=10,
        server_header=False,
        backlog=2048,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    stopping = asyncio.create_task(stop.wait())
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn offers a flag, no event
        if listening is not None:
            listening.set()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        bound.close()


async def run_parts(
    service: Service,
    bus: Bus,
    settings: Settings,
    *,
    roles: Iterable[str],
    stop: asyncio.Event,
    member: str = "",
) -> None:
    """Run a service's relay, consumers and workers until `stop`. The API is served by `serve_http`.

    member: this process's name in consumer groups; must differ between processes that run at once.
    """
    name = member or f"{service.name}-{socket.gethostname()}"
    async with asyncio.TaskGroup() as group:
        if "relay" in roles:
            group.create_task(_guarded(f"{service.name} relay", service.relay.run(stop), stop))
        if "worker" in roles:
            for consumer in service.consumers:
                engine: Engine[Any] = Engine(
                    consumer, bus=bus, database=service.worker_database, member_id=f"{name}-{consumer.group}",
                    batch_size=settings.batch_size, stuck_after_s=settings.stuck_after_s,
                )  # fmt: skip
                group.create_task(_guarded(consumer.group, engine.run(stop), stop))
            for worker in service.workers:
                group.create_task(_guarded(f"{service.name} {worker.name}", worker.run(stop), stop))


async def _guarded(name: str, running: Any, stop: asyncio.Event) -> None:
    """A loop that ends before it was told to has failed, however quietly."""
    try:
        await running
    except Exception:
        log.exception("part failed", part=name)
        raise
    if not stop.is_set():
        raise Stuck(f"{name} ended although nobody stopped it")


async def ensure_topics(bus: Bus) -> None:
    """Create the topics that are missing."""
    await bus.ensure_topics(
        TopicSpec(topic.name, topic.partitions, topic.retention_ms, topic.compacted) for topic in TOPICS
    )


def stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
