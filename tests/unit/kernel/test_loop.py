"""What every process begins with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

resource = pytest.importorskip("resource", reason="limits are Unix's")

ASKS = """
import resource
from laurel.loop import run

async def main():
    return resource.getrlimit(resource.RLIMIT_NOFILE)

resource.setrlimit(resource.RLIMIT_NOFILE, (128, {hard}))
print(*run(main()))
"""


def test_a_process_opens_as_many_files_as_it_may() -> None:
    """A shell's 1024 would be taken up by as many connections, whoever they come from."""
    hard = 200
    done = subprocess.run(
        [sys.executable, "-c", ASKS.format(hard=hard)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == [str(hard), str(hard)]


POLICY = """
import asyncio, os, subprocess, sys
from types import SimpleNamespace
from laurel import process

class NoBus(Exception):
    pass

def open_bus(url):
    raise NoBus

process.open_bus = open_bus
os.sched_setscheduler(0, int(sys.argv[2]), os.sched_param(0))
try:
    asyncio.run(process.serve("issuer", SimpleNamespace(base_url="", bus_url=""), None, role=sys.argv[1]))
except NoBus:
    subprocess.run([sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"], check=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="these policies are Linux's")
@pytest.mark.parametrize(
    ("role", "given", "becomes"),
    [
        ("api", "SCHED_OTHER", "SCHED_OTHER"),
        ("worker", "SCHED_OTHER", "SCHED_BATCH"),
        ("relay", "SCHED_OTHER", "SCHED_BATCH"),
        ("all", "SCHED_OTHER", "SCHED_BATCH"),
        ("worker", "SCHED_IDLE", "SCHED_IDLE"),
    ],
)
def test_who_works_through_batches_interrupts_nobody(role: str, given: str, becomes: str) -> None:
    """And neither do the processes that it starts. What somebody chose stays."""
    done = subprocess.run(
        [sys.executable, "-c", POLICY, role, str(getattr(os, given))],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == [str(getattr(os, becomes))], done.stderr
