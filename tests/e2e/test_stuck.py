"""`laurel up` when PostgreSQL under it stands still: it says so, stops everything in order, and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from laurel_local.exits import Exit
from tests.conftest import free_ports
from tests.e2e.test_demo import environment


def processes_of(postmaster: int) -> list[int]:
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


def asked(http: httpx.Client, port: int) -> int | None:
    """The status with which a door answers that looks into the database; None when nobody answers."""
    try:
        answer = http.get(
            f"http://127.0.0.1:{port}/issuer/v1/profiles", headers={"Authorization": "Bearer laurel_unknown_key"}
        )
    except httpx.TransportError:
        return None
    return answer.status_code


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc to find the server's processes")
@pytest.mark.parametrize("answers_again", [True, False])
def test_a_part_that_stands_still_ends_laurel_up_with_a_message(tmp_path: Path, answers_again: bool) -> None:
    state, (port, health) = tmp_path / "state", free_ports(2)
    given = {**environment(), "LAUREL_STUCK_AFTER_S": "10", "LAUREL_HEALTH_PORT": str(health)}
    up = subprocess.Popen(
        [sys.executable, "-m", "laurel_local.cli", "up", "--state", str(state), "--port", str(port), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given, cwd=tmp_path,
    )  # fmt: skip
    stopped: list[int] = []
    try:
        assert up.stdout is not None
        assert json.loads(up.stdout.readline())["port"] == port
        with httpx.Client(trust_env=False, timeout=20) as http:
            assert asked(http, port) == 401
            assert 'laurel_database_up{service="issuer"} 1.0' in http.get(f"http://127.0.0.1:{health}/metrics").text
            assert http.get(f"http://127.0.0.1:{port}/metrics").status_code == 404, "not for everybody"
        postmaster = int((state / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)
        for pid in processes_of(postmaster):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        deadline = time.monotonic() + 120
        log = state / "laurel.log"
        while "part failed" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
            assert up.poll() is None
            time.sleep(0.2)
        for pid in stopped if answers_again else ():  # the disk answers again: PostgreSQL can be stopped in order
            os.kill(pid, signal.SIGCONT)
        with httpx.Client(trust_env=False, timeout=20) as http:
            while up.poll() is None and time.monotonic() < deadline + 60:
                assert asked(http, port) in (None, 401, 503), "what is being closed answers nobody"
                time.sleep(0.05)
        out, err = up.communicate(timeout=150)
        assert up.returncode == int(Exit.STUCK), out + err
        assert "no sign of life" in out + err
        assert "Traceback" not in out + err
        assert "hung in ending" not in log.read_text()
        assert not (state / "postgres" / "postmaster.pid").exists(), "PostgreSQL was stopped, too"
    finally:
        for pid in stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        if up.poll() is None:
            up.kill()
            up.wait()
