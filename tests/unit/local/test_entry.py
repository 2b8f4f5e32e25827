"""Where the command starts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from laurel_local import entry
from laurel_local.exits import Exit


class _Interrupted:
    """Ctrl-C while the command's modules are read."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "laurel_local.cli":
            raise KeyboardInterrupt
        return None


def test_ctrl_c_while_it_loads_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "laurel_local.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == Exit.INTERRUPTED


def test_nor_is_ctrl_c_while_typer_builds_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["laurel", "doctor"])
    monkeypatch.setattr("typer.main.get_command", interrupted)
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == Exit.INTERRUPTED
