"""`python -m laurel_verifier`: the verifier in a process of its own, all its roles; settings from the environment."""

from __future__ import annotations

import asyncio

from laurel import telemetry
from laurel.bus import connect
from laurel.process import ROLES, run_parts, serve_http, stop_on_signals
from laurel_verifier.config import Settings
from laurel_verifier.service import open_service


async def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = Settings()
    telemetry.configure("verifier")
    stop = asyncio.Event()
    stop_on_signals(stop)
    bus = connect(settings.bus_url)
    try:
        async with open_service(settings, bus) as service, asyncio.TaskGroup() as group:
            group.create_task(serve_http(service.api, host=settings.host, port=settings.port, stop=stop))
            group.create_task(run_parts(service, bus, settings, roles=ROLES, stop=stop))
    finally:
        await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
