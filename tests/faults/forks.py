"""Processes of Laurel in a tenth of a second: a helper that has imported everything forks one whenever it is asked.

A walk over all crash points starts thousands of processes, and importing takes most of each start. A fork is a process
like any other: it dies alone, and its connections with it. `Forks.start` is called as `subprocess.Popen` is.
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

_PRELOAD = (
    "laurel.bus.postgres", "laurel_assessment.service", "laurel_issuer.service", "laurel_local.serve",
    "laurel_notifier.service", "laurel_verifier.service",
)  # fmt: skip


class Forked:
    """As much of subprocess.Popen as a cluster needs."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self._forks.listen(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forks:
    """The helper, as its user sees it. `with Forks() as forks: forks.start([...], env=..., log=...)`."""

    def __init__(self) -> None:
        self._living: dict[int, Forked] = {}  # a long walk meets the same process ids again
        self._started: list[Forked] = []
        self._buffer = b""

    def __enter__(self) -> Forks:
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._helper.stdin is not None
        self._helper.stdin.close()  # it ends what it has started
        self._helper.wait(30)

    def start(self, arguments: list[str], *, env: dict[str, str], log: Path) -> Forked:
        """Run the `laurel` command with these arguments; what it says is added to `log`."""
        assert self._helper.stdin is not None
        order = json.dumps({"arguments": arguments, "env": env, "log": str(log)})
        self._helper.stdin.write(order.encode() + b"\n")
        self._helper.stdin.flush()
        while not self._started:
            assert self._helper.poll() is None, "the helper that forks processes has ended"
            self.listen(1.0)
        return self._started.pop()

    def listen(self, seconds: float) -> None:
        """Take in what the helper has to say, waiting this long for it."""
        assert self._helper.stdout is not None
        while select.select([self._helper.stdout], [], [], seconds)[0]:
            said = os.read(self._helper.stdout.fileno(), 1 << 16)
            if not said:
                return
            self._buffer += said
            *lines, self._buffer = self._buffer.split(b"\n")
            for line in lines:
                pid, code = json.loads(line)
                if code is None:
                    self._living[pid] = Forked(self, pid)
                    self._started.append(self._living[pid])
                else:
                    self._living.pop(pid).returncode = code
            seconds = 0


# --- the helper ---------------------------------------------------------------------------------------------------


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its user stops it
    for module in _PRELOAD:
        __import__(module)
    gc.collect()
    gc.freeze()
    living: set[int] = set()
    buffer = b""
    try:
        while True:
            if select.select([0], [], [], 0.02)[0]:
                order = os.read(0, 1 << 16)
                if not order:
                    return
                buffer += order
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    pid = os.fork()
                    if pid == 0:
                        _become(json.loads(line))
                    living.add(pid)
                    _say(pid, None)
            while living:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                living.discard(pid)
                _say(pid, os.waitstatus_to_exitcode(status))
    finally:
        for pid in living:
            os.kill(pid, signal.SIGKILL)


def _say(pid: int, code: int | None) -> None:
    os.write(1, json.dumps([pid, code]).encode() + b"\n")


def _become(order: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(order["env"])
        random.seed()  # forks of one process would all be lucky at the same moment
        sys.argv = ["laurel", *order["arguments"]]
        from laurel_local.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001 - it ends here, whatever it is
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _main()
