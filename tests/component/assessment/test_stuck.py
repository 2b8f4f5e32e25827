"""When its database stands still: requests are told soon, Prometheus too, and the process ends for its supervisor."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path

import httpx
import pytest

from laurel import bus as buses
from laurel.migrate import migrate
from laurel.process import ensure_topics
from laurel.watchdog import EXIT_STUCK
from tests.component.assessment.conftest import learner, opened
from tests.conftest import free_ports, private_postgres


def stop_server(data: Path) -> list[int]:
    """SIGSTOP to every process of a server: it takes connections (the kernel does) and never answers."""
    postmaster = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    os.kill(postmaster, signal.SIGSTOP)
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGSTOP)
    return [postmaster, *map(int, children)]


async def metrics(http: httpx.AsyncClient) -> str:
    try:
        answer = await http.get("/metrics")
    except httpx.TransportError:
        return ""
    return answer.text if answer.status_code == 200 else ""


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc to find the server's processes")


@needs_proc
async def test_requests_are_told_soon_that_the_database_stands_still() -> None:
    """With a connection and waiting for one (the pool has 8): a statement may take a minute, none of these does."""
    with private_postgres() as server:
        await migrate(server.get_uri(), "assessment")
        async with opened(server.get_uri()) as world:
            ours = await world.caller()
            one = learner(1, achievement=await ours.achievement())

            def every_way() -> list[Coroutine[None, None, httpx.Response]]:
                reads = [ours.get("/assessment/v1/results") for _ in range(12)]
                return [world.http.get("/readyz"), ours.post("/assessment/v1/results", one), *reads]

            answers = await asyncio.gather(*every_way())
            assert {answer.status_code for answer in answers} <= {200, 201}, answers
            stopped = stop_server(server.pgdata)
            try:
                async with asyncio.timeout(30):
                    answers = await asyncio.gather(*every_way())
                assert [answer.status_code for answer in answers] == [503] * len(answers)
                assert all("retry-after" in answer.headers for answer in answers)
                assert {answer.json()["type"] for answer in answers} == {"urn:laurel:problem:unavailable"}
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)
            async with asyncio.timeout(60):
                while (await world.http.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.1)
            answers = await asyncio.gather(*every_way())
            assert {answer.status_code for answer in answers} <= {200, 201}, answers


@needs_proc
@pytest.mark.parametrize("role", ["api", "all"])
async def test_a_silent_database_ends_the_process_after_its_last_words(role: str) -> None:
    with private_postgres() as server:
        dsn = server.get_uri()
        await migrate(dsn, "assessment")
        bus = buses.connect(dsn)
        await ensure_topics(bus)
        await bus.close()
        (port,) = free_ports(1)
        environment = {
            **os.environ, "LAUREL_BUS_URL": dsn, "LAUREL_DATABASE_URL": dsn, "LAUREL_PORT": str(port),
            "LAUREL_ID_KEY": base64.b64encode(b"i" * 32).decode(), "LAUREL_STUCK_AFTER_S": "10",
            "LAUREL_CONTACT_KEY": base64.b64encode(b"c" * 32).decode(),
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "laurel_assessment", "--role", role, env=environment, stderr=asyncio.subprocess.PIPE
        )
        stopped: list[int] = []
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as http:
                async with asyncio.timeout(120):
                    while 'laurel_database_up{service="assessment"} 1.0' not in await metrics(http):
                        assert process.returncode is None
                        await asyncio.sleep(0.1)
                stopped = stop_server(server.pgdata)
                async with asyncio.timeout(120):
                    while "laurel_part_failed{" not in (said := await metrics(http)):
                        assert process.returncode is None, "it ended without a last word"
                        await asyncio.sleep(0.1)
                assert 'kind="Silent"' in said
            async with asyncio.timeout(120):
                _, log = await process.communicate()
            assert process.returncode == EXIT_STUCK, log.decode()[-6000:]
            assert b'"event": "part failed"' in log
            assert b"database" in log
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            if process.returncode is None:
                process.kill()
                await process.wait()
