"""PostgreSQL from its wheel: durable over restarts, found again after kill -9, private, and never on a port."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from laurel.database import connect_arguments
from laurel_local.embedded import Postgres
from laurel_local.exits import Failure

OWNER = """
import asyncio, sys
from pathlib import Path
from laurel_local.embedded import Postgres

async def main():
    async with Postgres(Path(sys.argv[1])):
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def query(server: Postgres, sql: str) -> object:
    connection = await asyncpg.connect(**connect_arguments(server.dsn(), schema="public", timeout=10))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def mode(path: Path) -> int | None:
    """Its permissions; None where it is not."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / 'it\'s a folder, 100 % "odd"'
    made.mkdir(mode=0o700)
    return made


async def test_what_is_written_is_there_after_a_restart(folder: Path) -> None:
    async with Postgres(folder) as server:
        await query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert await query(server, "SHOW listen_addresses") == ""
        assert await query(server, "SHOW fsync") == "on"
        assert await query(server, "SHOW synchronous_commit") == "on"
        assert str(await query(server, "SHOW server_version")).startswith("18")
        socket_folder = Path(str(await query(server, "SHOW unix_socket_directories")).strip('"').replace('""', '"'))
        assert mode(socket_folder) == 0o700
        assert "ready to accept connections" in (folder / "postgres.log").read_text()
        assert mode(folder / "postgres.log") == 0o600
    async with Postgres(folder) as server:
        assert await query(server, "SELECT answer FROM kept") == 42


@pytest.mark.skipif(sys.platform != "linux", reason="the policy is Linux's")
async def test_its_processes_interrupt_nobody(folder: Path) -> None:
    async with Postgres(folder):
        server = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        policies = {pid: os.sched_getscheduler(pid) for pid in (server, *children_of(server))}
    assert len(policies) > 3
    assert set(policies.values()) == {os.SCHED_BATCH}


async def test_a_server_that_outlived_its_owner_is_taken_over(folder: Path) -> None:
    owner = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert await asyncio.to_thread(owner.stdout.readline) == b"up\n"
    left = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    owner.send_signal(signal.SIGKILL)
    await asyncio.to_thread(owner.wait)
    os.kill(left, 0)  # still there
    async with Postgres(folder) as server:
        assert await query(server, "SELECT 1") == 1
        assert int((folder / "postgres" / "postmaster.pid").read_text().split()[0]) != left
    assert not (folder / "postgres" / "postmaster.pid").exists()


async def test_a_first_start_that_was_cut_off_begins_again(folder: Path) -> None:
    (folder / "postgres" / "base").mkdir(parents=True)
    (folder / "postgres" / "base" / "half").write_text("")
    async with Postgres(folder) as server:
        assert await query(server, "SELECT 1") == 1


async def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    async with Postgres(folder) as server:
        assert await query(server, "SELECT 1") == 1
        elsewhere = Path(server.dsn().partition("host=")[2])
        assert not elsewhere.is_relative_to(folder)
    assert mode(elsewhere) is None, "and takes it away again"


async def test_a_data_folder_that_is_damaged_is_said(folder: Path) -> None:
    async with Postgres(folder):
        pass
    (folder / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(Failure, match="did not start"):
        async with Postgres(folder):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must hand the server to another user")
async def test_as_root_it_runs_as_somebody_else_and_says_what_it_opened(folder: Path) -> None:
    async with Postgres(folder) as server:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        assert os.stat(f"/proc/{pid}").st_uid != 0
        assert any(str(folder) in note and "o+x" in note for note in server.notes)
        assert mode(folder) == 0o701, "may be crossed, not listed"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc to find the server's processes")
@pytest.mark.parametrize("all_of_it", [False, True])
async def test_a_server_that_stands_still_is_stopped_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, all_of_it: bool
) -> None:
    monkeypatch.setattr("laurel_local.embedded.STOP_S", 3.0)
    async with Postgres(folder) as server:
        await query(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)
        for child in children_of(postmaster) if all_of_it else ():
            os.kill(child, signal.SIGSTOP)
    with pytest.raises(ProcessLookupError):
        os.kill(postmaster, 0)
    async with Postgres(folder) as server:
        assert await query(server, "SELECT answer FROM kept") == 42
