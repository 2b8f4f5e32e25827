"""The helper that forks the processes of a walk."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from tests.faults.forks import Forks


def test_a_process_id_that_comes_again_is_another_process() -> None:
    """A system gives ids out in a circle: a walk of an hour meets those of its own dead again."""
    read, write = os.pipe()
    forks = Forks()
    with os.fdopen(read, "rb") as said, os.fdopen(write, "wb", buffering=0) as helper:
        stand_in: Any = SimpleNamespace(stdout=said, stdin=open(os.devnull, "wb"), poll=lambda: None)  # noqa: SIM115
        forks._helper = stand_in
        with stand_in.stdin:
            helper.write(b"[7, null]\n[7, 42]\n")
            first = forks.start([], env={}, log=os.devnull)  # type: ignore[arg-type]
            helper.write(b"[7, null]\n")
            second = forks.start([], env={}, log=os.devnull)  # type: ignore[arg-type]
            assert (first.poll(), second.poll()) == (42, None)
            helper.write(b"[7, 0]\n")
            assert (first.poll(), second.poll()) == (42, 0)
