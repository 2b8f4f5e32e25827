"""`python -m laurel_notifier`: the notifier as a process of its own, with all its roles."""

from __future__ import annotations

import asyncio

from laurel import bus as buses
from laurel import telemetry
from laurel.process import ROLES, run_parts, serve_http, stop_on_signals
from laurel_notifier.config import Settings
from laurel_notifier.service import NAME, open_service


async def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = Settings()
    telemetry.configure(NAME)
    stop = asyncio.Event()
    stop_on_signals(stop)
    bus = buses.connect(settings.bus_url)
    try:
        async with open_service(settings, bus) as service, asyncio.TaskGroup() as group:
            group.create_task(run_parts(service, bus, settings, roles=ROLES, stop=stop))
            group.create_task(serve_http(service.api, host=settings.host, port=settings.port, stop=stop))
    finally:
        await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
