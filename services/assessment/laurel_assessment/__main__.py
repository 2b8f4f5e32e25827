"""`python -m laurel_assessment [--role api|worker|relay|all]`: this service as a process of its own."""

from __future__ import annotations

import argparse
import asyncio

from laurel import telemetry
from laurel.bus import connect
from laurel.process import ROLES, run_parts, serve_http, stop_on_signals
from laurel_assessment.config import Settings
from laurel_assessment.service import NAME, open_service


async def serve(roles: tuple[str, ...]) -> None:
    """Run until SIGTERM or SIGINT. Raises what a part fails with; the process is then to be started again."""
    settings = Settings()  # from the environment
    telemetry.configure(NAME)
    stop = asyncio.Event()
    stop_on_signals(stop)
    bus = connect(settings.bus_url)
    try:
        async with open_service(settings, bus) as service, asyncio.TaskGroup() as group:
            if "api" in roles:
                group.create_task(serve_http(service.api, host=settings.host, port=settings.port, stop=stop))
            group.create_task(run_parts(service, bus, settings, roles=roles, stop=stop))
    finally:
        await bus.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="laurel_assessment", description=__doc__)
    parser.add_argument("--role", choices=(*ROLES, "all"), default="all")
    role = parser.parse_args().role
    asyncio.run(serve(ROLES if role == "all" else (role,)))


if __name__ == "__main__":
    main()
