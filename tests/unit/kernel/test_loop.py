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
try:
    asyncio.run(process.serve("issuer", SimpleNamespace(base_url="", bus_url=""), None, role=sys.argv[1]))
except NoBus:
    subprocess.run([sys.executable, "-c", "import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH)"], check=True)
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="SCHED_BATCH is Linux's")
@pytest.mark.parametrize(
    ("role", "waits"), [("api", False), ("worker", True), ("relay", True), ("all", True)], ids=lambda one: str(one)
)
def test_who_works_through_batches_interrupts_nobody(role: str, waits: bool) -> None:
    """And neither do the processes that it starts."""
    done = subprocess.run([sys.executable, "-c", POLICY, role], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [str(waits)], done.stderr
