"""A PostgreSQL that is reached over TCP ends the session of a machine that is gone, and with it what it had locked."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from laurel.bus.postgres_session import Session
from laurel.database import Database
from laurel_local import embedded
from tests.conftest import free_ports

ASK = "SELECT array_agg(setting::int ORDER BY name) FROM pg_settings WHERE name LIKE 'tcp_keepalives%'"


@pytest.fixture
async def dsn(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A server on a TCP port of its own."""
    (port,) = free_ports(1)

    class OverTcp(embedded.Postgres):
        def dsn(self, database: str = "laurel", user: str = "postgres") -> str:
            return f"{super().dsn(database, user)}&port={port}"

    monkeypatch.setitem(embedded._SETTINGS, "listen_addresses", "127.0.0.1")
    monkeypatch.setitem(embedded._SETTINGS, "port", str(port))
    with tempfile.TemporaryDirectory(prefix="laurel-pg-") as folder:
        async with OverTcp(Path(folder)):
            yield f"postgresql://postgres@127.0.0.1:{port}/laurel"


async def test_sessions_of_every_kind_are_kept_alive_and_ended_within_twenty_seconds(dsn: str) -> None:
    async with Database(dsn, schema="public", size=2) as database:
        async with database.transaction() as tx:
            found = [await tx.fetchval(ASK)]
        async with database.session() as connection:
            found.append(await connection.fetchval(ASK))
    session = Session(dsn, name="test", timeout=10)
    async with session.use("ask") as connection:
        found.append(await connection.fetchval(ASK))
    await session.close()
    for count, idle, interval in found:
        assert 0 < idle + count * interval <= 20, "PostgreSQL's own: two hours and eleven minutes"
