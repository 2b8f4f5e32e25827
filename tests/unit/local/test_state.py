"""The state folder: secrets made once and private, one owner at a time, one port for its badges."""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from laurel_local.exits import Exit, Failure
from laurel_local.state import SECRET_NAMES, State, open_log
from laurel_local.up import choose_port


@pytest.fixture
def state(tmp_path: Path) -> State:
    made = State(tmp_path / "state")
    made.prepare()
    return made


def test_secrets_are_made_once_and_are_private(state: State) -> None:
    first = state.secrets()
    assert set(first) == set(SECRET_NAMES)
    assert all(len(base64.b64decode(first[name])) == 32 for name in SECRET_NAMES[:3])
    assert stat.S_IMODE(state.secrets_file.stat().st_mode) == 0o600
    assert State(state.folder).secrets() == first


def test_a_secret_that_was_lost_is_said_and_not_made_anew(state: State) -> None:
    state.secrets()
    kept = [line for line in state.secrets_file.read_text().splitlines() if not line.startswith("LAUREL_KEK")]
    state.secrets_file.write_text("\n".join(kept))
    with pytest.raises(Failure, match="LAUREL_KEK"):
        state.secrets()


@pytest.mark.parametrize("before", [None, 0o644])
def test_a_log_is_its_owners_alone_and_goes_on_where_it_ended(state: State, before: int | None) -> None:
    if before is not None:
        state.log_file.write_text("old ")
        state.log_file.chmod(before)
    with os.fdopen(open_log(state.log_file), "a") as log:
        log.write("new")
    assert stat.S_IMODE(state.log_file.stat().st_mode) == 0o600
    assert state.log_file.read_text() == ("new" if before is None else "old new")


def test_one_owner_at_a_time(state: State) -> None:
    with state.held(), pytest.raises(Failure, match=str(os.getpid())), State(state.folder).held():
        pass
    with state.held():  # given back
        pass


def test_documents_are_replaced_whole(state: State) -> None:
    assert state.read("demo.json") == {}
    state.write("demo.json", {"name": "Ложка"})
    assert state.read("demo.json") == {"name": "Ложка"}
    (state.folder / "demo.json").write_text("{")
    with pytest.raises(Failure, match="not JSON"):
        state.read("demo.json")


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure) as caught:
        State(tmp_path / "file" / "below").prepare()
    assert caught.value.code is Exit.USAGE


def test_a_folder_keeps_its_port(state: State) -> None:
    port = choose_port(state, 0, "127.0.0.1")
    state.write("state.json", {"port": port})
    assert choose_port(state, 0, "127.0.0.1") == port
    assert choose_port(state, None, "127.0.0.1") == port
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(Failure, match=f"port {port} is taken"):
            choose_port(state, None, "127.0.0.1")
        with pytest.raises(Failure, match=f"port {port} is taken"):
            choose_port(state, port, "127.0.0.1")


def test_the_next_free_port_where_none_is_named(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("laurel_local.up.DEFAULT_PORT", port)
        assert choose_port(state, None, "127.0.0.1") > port
    assert (
        json.loads((state.folder / "state.json").read_text() if (state.folder / "state.json").exists() else "{}") == {}
    )
