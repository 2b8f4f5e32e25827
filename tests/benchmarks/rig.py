"""What the benches run: a cluster of which every service is a process of its own, its partner, and what goes in."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from laurel.bus import connect
from laurel.migrate import SERVICES, migrate_all
from laurel.process import ensure_topics
from laurel_local.embedded import Postgres
from tests.conftest import free_ports, private_kafka
from tests.e2e.cluster import OPERATOR, Cluster, settings

_ROWS_A_PIECE = 500


def plain_client(timeout: float = 60) -> httpx.AsyncClient:
    """A client that reads no certificates, which takes longer than all that a sample does: nothing here is https."""
    return httpx.AsyncClient(timeout=timeout, trust_env=False, verify=False)


@dataclass
class Look:
    """GET over one kept connection, by hand: what looks often must cost little. Answers have a Content-Length."""

    port: int
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=2**20)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        return int(head.split(None, 2)[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


@dataclass
class Partner:
    """The sink's process, as `Cluster` knows a partner."""

    url: str
    secret: str = ""

    def __post_init__(self) -> None:
        self._look = Look(urlsplit(self.url).port or 80)

    async def get(self, path: str) -> bytes:
        return (await self._look.get(path))[1]

    async def stats(self) -> dict[str, int]:
        found: dict[str, int] = json.loads(await self.get("/stats"))
        return found

    async def ids(self) -> set[str]:
        raw = await self.get("/ids")
        return {str(uuid.UUID(bytes=raw[place : place + 16])) for place in range(0, len(raw), 16)}


@dataclass
class Rig:
    """A running cluster, its partner, and the roots of the process trees that are watched, by name."""

    cluster: Cluster
    partner: Partner
    watched: dict[str, list[int]]
    postgres: str

    def start(self) -> None:
        """One process of each service."""
        for service in SERVICES:
            self.cluster.spawn(service)
            self.watched[service] = [self.cluster.processes[service].pid]


@asynccontextmanager
async def running(bus: str, folder: Path, workers: int = 1) -> AsyncIterator[Rig]:
    """Started and stopped. bus: "kafka" or "postgres". workers: processes of each service that consume and deliver."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Postgres(folder))
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        watched = {"postgres": [pid]}
        bus_url = server.dsn()
        if bus == "kafka":
            broker = stack.enter_context(private_kafka())
            bus_url = broker.url
            watched["kafka"] = [int((broker.folder / "kafka.pid").read_text())]
        await migrate_all(server.dsn())
        topics = connect(bus_url)
        await ensure_topics(topics)
        await topics.close()
        sink_port, *ports = free_ports(1 + len(SERVICES))
        arguments = [sys.executable, "-m", "tests.benchmarks.sink", str(sink_port)]
        sink = subprocess.Popen(arguments)  # noqa: ASYNC220 - once, before anything is measured
        stack.callback(sink.kill)
        watched["sink"] = [sink.pid]
        partner = Partner(f"http://127.0.0.1:{sink_port}/hook")
        cluster = Cluster(
            server.dsn(),
            settings(server.dsn(), bus_url),
            dict(zip(SERVICES, ports, strict=True)),
            folder,
            partner,
            None,
        )
        rig = Rig(cluster, partner, watched, server.dsn())
        rig.start()
        for service in SERVICES:
            for number in range(2, workers + 1):
                more = cluster.spawn_worker(service, number)
                stack.callback(more.wait, 30)
                stack.callback(more.terminate)
                watched[service].append(more.pid)
        try:
            await cluster.ready()
            await cluster.organise()
            async with plain_client() as client:
                await client.put(partner.url.removesuffix("/hook") + "/secret", content=partner.secret)
            yield rig
        finally:
            cluster.stop()


# --- what goes in ---------------------------------------------------------------------------------------------------


async def _ndjson(first: int, count: int, prefix: str) -> AsyncIterator[bytes]:
    """Passes as a platform sends them, in pieces."""
    for start in range(first, first + count, _ROWS_A_PIECE):
        rows = [
            f'{{"learner":"{prefix}{n}","did":"did:example:{prefix}{n}","name":"Learner {n}","score":{60 + n % 41}}}\n'
            for n in range(start, min(start + _ROWS_A_PIECE, first + count))
        ]
        yield "".join(rows).encode()
        await asyncio.sleep(0)


async def upload(cluster: Cluster, first: int, count: int, prefix: str) -> str:
    """Send passes as one import; its id. Told to wait, it waits."""
    url = f"http://127.0.0.1:{cluster.ports['assessment']}/assessment/v1/results/imports"
    async with plain_client(600) as client:
        while True:
            answer = await client.post(
                url,
                params={"achievement": cluster.achievement_id, "course_run": f"{prefix}run"},
                headers={"Authorization": f"Bearer {cluster.api_key}", "Content-Type": "application/x-ndjson"},
                content=_ndjson(first, count, prefix),
            )
            if answer.status_code != 429:
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["import_id"])


async def organise_small(other: Cluster) -> None:
    """An organisation without an endpoint."""
    slug = f"small-{uuid.uuid4().hex[:8]}"
    made = await other.call(
        "POST", "/issuer/v1/organisations", 201, key=OPERATOR, json={"slug": slug, "name": "Small school"}
    )
    other.api_key = made["api_key"]["text"]
    profile = await other.call(
        "POST", "/issuer/v1/profiles", 201, json={"slug": slug, "name": "Small", "url": "https://small.example.org"}
    )
    await other.call("POST", f"/issuer/v1/profiles/{profile['profile_id']}/keys", 201)
    achievement = await other.call(
        "POST", "/assessment/v1/achievements", 201,
        json={
            "profile_id": profile["profile_id"], "name": "Swimming", "description": "Swims.",
            "criteria": {"narrative": "Swim."}, "policy": {"minimum_score": 60},
        },
    )  # fmt: skip
    other.achievement_id = achievement["achievement_id"]
