"""What every process begins with."""

from __future__ import annotations

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
