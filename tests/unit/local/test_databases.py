"""A database that does not answer: the operator is told which one, where it should be, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from laurel_local.databases import reached, worker_database
from laurel_local.exits import Exit, Failure
from laurel_local.state import State


async def test_a_stopped_laurel_is_said_with_the_folder_of_its_socket(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.write("state.json", {"database_url": f"postgresql://postgres@/laurel?host={tmp_path}"})
    with pytest.raises(Failure, match="database of issuer cannot be reached") as failure:
        async with worker_database("issuer", state):
            pytest.fail("nothing answers there")
    assert failure.value.code == Exit.UNREACHABLE
    assert str(tmp_path) in str(failure.value)
    assert "laurel up" in (failure.value.fix or "")


async def test_a_password_is_not_said() -> None:
    with pytest.raises(Failure) as failure:
        async with reached("issuer", "postgresql://laurel:hunter2@127.0.0.1:1/laurel"):
            pytest.fail("nothing answers there")
    assert "127.0.0.1, port 1" in str(failure.value)
    assert "hunter2" not in str(failure.value)
