"""Loops that stand still, databases that do not answer, locks that are lost: each is noticed, and none for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from laurel import bus as buses
from laurel import outbox, telemetry, waiting, watchdog
from laurel.bus import Message, Record
from laurel.database import Database
from laurel.dead_letters import DeadLetter, bury
from laurel.envelope import Delivered
from laurel.errors import Silent, Stuck, first_failure
from laurel.events import CredentialStatusChanged, Event
from laurel.health import probe_database
from laurel.outbox import LockLost, Relay
from laurel.process import ensure_topics, run_parts
from laurel.service import Consumer, Saving, Worker
from laurel.topics import CREDENTIAL
from laurel.watchdog import Watch
from tests.component.kernel.conftest import Kernel, service, settings
from tests.conftest import private_postgres

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EVENT_LOOP = """
import asyncio, sys, time
from laurel import logs, watchdog

async def main():
    with watchdog.guard_loop(blocked_after_s=0.6, tick_s=0.1):
        {body}

logs.configure(json=True)
asyncio.run(main())
print("ended in order")
"""


def event(credential: str) -> Event:
    return CredentialStatusChanged(
        tenant_id="t1", credential_id=credential, version=1, status="revoked", reason="r", changed_at=NOW
    )


def gauge(name: str, **labels: str) -> float | None:
    return telemetry.REGISTRY.get_sample_value(name, labels)


# --- loops --------------------------------------------------------------------------------------------------


async def test_a_loop_in_an_await_without_end_ends_its_process_and_is_named(kernel: Kernel) -> None:
    async def hang(stop: asyncio.Event) -> None:
        await waiting.sleep(stop, 0.01)
        await asyncio.Event().wait()

    made = service(kernel, workers=(Worker("hanging", hang),))
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(60):
            await run_parts(
                made, kernel.bus, settings(kernel, stuck_after_s=8.0), roles=("worker",), stop=asyncio.Event()
            )
    failure = first_failure(raised.value)
    assert isinstance(failure, Silent)
    assert failure.part == f"{kernel.schema} hanging"
    assert gauge("laurel_part_failed", part=failure.part, kind="Silent") == 1


async def test_a_loop_that_turns_or_waits_on_purpose_is_left_alone() -> None:
    watch = Watch(stuck_after_s=0.5, tick_s=0.05)
    stop = asyncio.Event()

    async def turn() -> None:
        with watch.part("turning"):
            while not stop.is_set():
                await waiting.sleep(stop, 0.01)

    async def rest() -> None:
        with watch.part("resting"):
            await waiting.sleep(stop, 600.0)  # longer than it may be silent, and it says so

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for running in (turn(), rest(), watch.run(stop)):
            group.create_task(running)
        await asyncio.sleep(3.0)
        stop.set()


async def test_a_transaction_that_was_committed_is_a_sign_of_life(kernel: Kernel) -> None:
    with Watch(stuck_after_s=1.0).part("working") as pulse:
        pulse.silent_s = 1e6
        with pytest.raises(RuntimeError, match="changed my mind"):
            async with kernel.worker.transaction():
                raise RuntimeError("changed my mind")
        assert pulse.silent_s == 1e6
        async with kernel.worker.transaction() as tx:
            await tx.execute("SELECT 1")
        assert pulse.silent_s == 0.0


async def test_one_loop_does_not_answer_for_another_inside_the_same_part() -> None:
    watch = Watch(stuck_after_s=0.5, tick_s=0.05)

    async def both() -> None:
        async def lively() -> None:
            while True:
                await waiting.sleep(asyncio.Event(), 0.01)

        async def still() -> None:
            with watchdog.part("settling"):
                await asyncio.Event().wait()

        with watch.part("webhooks"):
            async with asyncio.TaskGroup() as group:
                group.create_task(lively())
                group.create_task(still())

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(both())
            group.create_task(watch.run(asyncio.Event()))
    failure = first_failure(raised.value)
    assert isinstance(failure, Silent)
    assert failure.part == "webhooks: settling"


async def test_who_waits_for_something_slow_says_so_and_others_do_not_take_it_back() -> None:
    watch = Watch(stuck_after_s=0.4, tick_s=0.05)
    done = asyncio.Event()

    async def sending() -> None:
        with watch.part("mail"):

            async def slow() -> None:
                with watchdog.patience(600.0):
                    await asyncio.sleep(2.0)

            async def quick() -> None:
                with watchdog.patience(0.1):
                    await asyncio.sleep(0.1)
                watchdog.beat()

            await asyncio.gather(slow(), quick())
            done.set()
            await asyncio.Event().wait()  # and without leave it is noticed

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(sending())
            group.create_task(watch.run(asyncio.Event()))
    assert isinstance(first_failure(raised.value), Silent)
    assert done.is_set()


async def test_a_batch_that_never_ends_is_noticed_although_records_came(kernel: Kernel) -> None:
    async def save(_: Any, events: Sequence[Delivered]) -> None:
        await asyncio.Event().wait()

    async with kernel.bus.producer(client_id="test") as producer:
        await producer.send(await _records(kernel, "c1"))
    consumer = Consumer("hanging", (CREDENTIAL,), Saving(save))
    made = service(kernel, consumers=(consumer,))
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(60):
            await run_parts(
                made, kernel.bus, settings(kernel, stuck_after_s=8.0), roles=("worker",), stop=asyncio.Event()
            )
    failure = first_failure(raised.value)
    assert isinstance(failure, Silent)
    assert failure.part == "hanging"


async def _records(kernel: Kernel, *credentials: str) -> list[Record]:
    """What the relay would send."""
    sent: list[Record] = []

    class Catching:
        async def __aenter__(self) -> Catching:
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def send(self, records: Sequence[Record]) -> None:
            sent.extend(records)

    class Bus:
        def producer(self, *, client_id: str) -> Catching:
            return Catching()

    async with kernel.api.transaction(["t1"]) as tx:
        await outbox.append(tx, [event(one) for one in credentials])
    stop = asyncio.Event()
    relay = Relay(kernel.worker, Bus(), service="kernel")  # type: ignore[arg-type]
    running = asyncio.create_task(relay.run(stop))
    async with asyncio.timeout(20):
        while len(sent) < len(credentials):
            await asyncio.sleep(0.01)
    stop.set()
    await running
    return sent


# --- the event loop itself ----------------------------------------------------------------------------------


def run_loop(body: str) -> subprocess.CompletedProcess[str]:
    code = EVENT_LOOP.format(body=textwrap.indent(body, " " * 8).strip())
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_a_blocked_event_loop_ends_its_process_and_shows_where() -> None:
    done = run_loop("time.sleep(50)")
    assert done.returncode == watchdog.EXIT_BLOCKED
    assert '"event": "event loop blocked"' in done.stderr
    assert '"level": "error"' in done.stderr
    assert "in main" in done.stderr, "the stack that holds the loop"


def test_code_that_holds_the_interpreter_itself_ends_its_process_too() -> None:
    done = run_loop("sum(range(10 ** 12))")  # one call into C that never lets another thread in
    assert done.returncode != 0
    assert "in main" in done.stderr
    assert "ended in order" not in done.stdout


def test_an_event_loop_that_turns_now_and_then_is_left_alone() -> None:
    done = run_loop("for _ in range(10):\n    time.sleep(0.15)\n    await asyncio.sleep(0.01)")
    assert (done.returncode, done.stdout) == (0, "ended in order\n"), done.stderr


def test_a_process_that_was_stopped_as_a_whole_is_not_taken_for_a_blocked_one() -> None:
    body = "print('up', flush=True)\nfor _ in range(10):\n    await asyncio.sleep(0.1)"
    # The last guard needs no interpreter and so goes by the clock: it is far away here.
    code = EVENT_LOOP.format(body=textwrap.indent(body, " " * 8).strip()).replace(
        "async def main",
        "import faulthandler\nfaulthandler.dump_traceback_later = lambda *_, **__: None\nasync def main",
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGSTOP)
    subprocess.run(["sleep", "2"], check=True)
    process.send_signal(signal.SIGCONT)
    assert (process.wait(60), process.stdout.read()) == (0, "ended in order\n")


def test_a_process_that_hangs_in_ending_is_ended() -> None:
    code = "from laurel import watchdog\nimport threading\nwatchdog.end_within(0.2)\nthreading.Event().wait()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == watchdog.EXIT_STUCK


HANGS = """
import asyncio
from laurel import watchdog

async def goodbye(said):
    await said.wait()

async def main():
    hanging = asyncio.create_task(goodbye(asyncio.Event()), name="the relay")
    watchdog.end_within(0.2)
    await hanging

asyncio.run(main())
"""


def test_it_says_what_it_waits_for() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60)
    assert done.returncode == watchdog.EXIT_STUCK
    assert "hung in ending" in done.stdout
    assert "the relay: locks.py" in done.stdout
    assert "< <string>:6 goodbye" in done.stdout


# --- the database -------------------------------------------------------------------------------------------


@asynccontextmanager
async def probing(
    database: Database, watch: Watch, *, serving: Database | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    probe = asyncio.create_task(probe_database(database, watch, stop, serving=serving))
    look = asyncio.create_task(watch.run(stop))
    try:
        yield look
    finally:
        stop.set()
        for task in (probe, look):
            task.cancel()
        await asyncio.gather(probe, look, return_exceptions=True)


async def until(wanted: Any) -> None:
    async with asyncio.timeout(60):
        while not wanted():
            await asyncio.sleep(0.05)


@pytest.fixture
async def silenced(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Database, list[int]]]:
    """A database of its own, and the processes of its server to be stopped and continued."""
    monkeypatch.setattr("laurel.health.PROBE_EVERY_S", 0.1)
    monkeypatch.setattr("laurel.health.PROBE_TIMEOUT_S", 1.0)
    with private_postgres() as server:
        postmaster = int((Path(server.pgdata) / "postmaster.pid").read_text().split("\n", 1)[0])
        if sys.platform != "linux":
            pytest.skip("needs Linux's /proc to find the server's processes")
        pids: list[int] = []
        async with Database(server.get_uri(), schema=f"probed{postmaster}", size=2, connect_timeout=1.0) as database:
            try:
                yield database, pids
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)


def stop_server(database: Database, pids: list[int]) -> None:
    postmaster = int(database.schema.removeprefix("probed"))
    pids.append(postmaster)
    os.kill(postmaster, signal.SIGSTOP)  # first: it forks no new ones
    for child in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
        pids.append(int(child))
        os.kill(int(child), signal.SIGSTOP)


async def test_a_database_that_takes_connections_and_never_answers_is_noticed(
    silenced: tuple[Database, list[int]],
) -> None:
    database, pids = silenced
    async with probing(database, Watch(stuck_after_s=8.0, tick_s=0.1)) as look:
        await until(lambda: gauge("laurel_database_up", service=database.schema) == 1)
        stop_server(database, pids)
        await until(lambda: gauge("laurel_database_up", service=database.schema) == 0)
        async with asyncio.timeout(60):
            with pytest.raises(Silent, match="database"):
                await look


async def test_a_request_waits_for_no_answer_of_a_silent_database(silenced: tuple[Database, list[int]]) -> None:
    """A statement may take a minute, and more than that to be taken back, while the server answers others."""
    database, pids = silenced

    async def ask() -> None:
        async with database.transaction() as tx:
            asked.set()
            await tx.fetchval("SELECT pg_sleep(600)")

    asked = asyncio.Event()
    asking = asyncio.create_task(ask())
    async with probing(database, Watch(stuck_after_s=600.0, tick_s=0.1), serving=database):
        await until(lambda: gauge("laurel_database_up", service=database.schema) == 1)
        await asked.wait()
        stop_server(database, pids)
        async with asyncio.timeout(30):
            with pytest.raises(TimeoutError, match="did not answer"):
                await asking


async def test_a_database_that_answers_again_in_time_ends_nothing(silenced: tuple[Database, list[int]]) -> None:
    database, pids = silenced
    async with probing(database, Watch(stuck_after_s=600.0, tick_s=0.1)) as look:
        await until(lambda: gauge("laurel_database_up", service=database.schema) == 1)
        stop_server(database, pids)
        await until(lambda: gauge("laurel_database_up", service=database.schema) == 0)
        while pids:
            os.kill(pids.pop(), signal.SIGCONT)
        await until(lambda: gauge("laurel_database_up", service=database.schema) == 1)
        assert not look.done()


# --- the relay's locks --------------------------------------------------------------------------------------


async def relay_backend(kernel: Kernel) -> tuple[asyncpg.Connection[Any], int]:
    admin = await asyncpg.connect(kernel.admin_dsn)
    find = (
        "SELECT a.pid FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' "
        "AND l.granted WHERE a.application_name = $1 LIMIT 1"
    )
    async with asyncio.timeout(30):
        while (pid := await admin.fetchval(find, f"laurel-{kernel.schema}")) is None:
            await asyncio.sleep(0.05)
    return admin, pid


async def depth(kernel: Kernel) -> int:
    async with kernel.worker.transaction() as tx:
        return int(await tx.fetchval("SELECT count(*) FROM outbox"))


async def test_a_relay_whose_connection_was_ended_takes_its_locks_again_and_goes_on(kernel: Kernel) -> None:
    stop = asyncio.Event()
    relay = Relay(kernel.worker, kernel.bus, service=kernel.schema)
    running = asyncio.create_task(relay.run(stop))
    admin, pid = await relay_backend(kernel)
    await admin.execute("SELECT pg_terminate_backend($1)", pid)
    async with kernel.api.transaction(["t1"]) as tx:
        await outbox.append(tx, [event(f"c{n}") for n in range(50)])
    async with asyncio.timeout(60):
        while await depth(kernel):
            await asyncio.sleep(0.05)
    assert (gauge("laurel_relay_interrupted_total", service=kernel.schema) or 0) >= 1
    await admin.close()
    stop.set()
    await running


async def test_a_relay_that_lost_its_locks_without_a_word_ends_its_process(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LOOK_AT_LOCKS_S", 0.1)

    class Pooled(Database):
        """As behind a pooler in transaction mode: the locks stay with another connection."""

        @asynccontextmanager
        async def session(self, *, timeout: float | None = None) -> AsyncIterator[Any]:
            async with super().session(timeout=timeout) as one, super().session(timeout=timeout) as other:

                class Connection:
                    def __getattr__(self, name: str) -> Any:
                        return getattr(one, name)

                    async def fetch(self, query: str, *values: Any) -> Any:
                        return await (other if "pg_try_advisory_lock" in query else one).fetch(query, *values)

                yield Connection()

    async with Pooled(kernel.worker.dsn, schema=kernel.schema, size=2) as database:
        relay = Relay(database, kernel.bus, service=kernel.schema)
        with pytest.raises(LockLost, match="transaction mode") as raised:
            async with asyncio.timeout(60):
                await relay.run(asyncio.Event())
    assert isinstance(raised.value, Stuck)


class Standing:
    """A bus whose producer never returns: its relay holds its locks and moves nothing, as under SIGSTOP."""

    def producer(self, *, client_id: str) -> Standing:
        return self

    async def __aenter__(self) -> Standing:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def send(self, records: Sequence[Record]) -> None:
        await asyncio.Event().wait()


async def test_a_relay_that_stands_still_with_its_locks_is_replaced_by_the_one_that_stands_by(kernel: Kernel) -> None:
    async with kernel.api.transaction(["t1"]) as tx:
        await outbox.append(tx, [event(f"c{n}") for n in range(20)])
    stop = asyncio.Event()
    still = Relay(kernel.worker, Standing(), service=kernel.schema, idle_s=1.0)  # type: ignore[arg-type]
    standing = asyncio.create_task(still.run(stop))
    admin, _ = await relay_backend(kernel)
    by = asyncio.create_task(Relay(kernel.worker, kernel.bus, service=kernel.schema).run(stop))
    async with asyncio.timeout(60):
        while await depth(kernel):
            await asyncio.sleep(0.05)
    found: list[Message] = []
    async with (
        asyncio.timeout(30),
        kernel.bus.consumer(group="all", topics=[CREDENTIAL.name], member_id="m") as source,
    ):
        while len(found) < 20:
            found += await source.poll(100, 0.2)
    assert len({one.key for one in found}) == 20
    await admin.close()
    stop.set()
    standing.cancel()
    await asyncio.gather(by, standing, return_exceptions=True)


# --- numbers ------------------------------------------------------------------------------------------------


async def test_the_numbers_of_the_alerts_are_there_from_the_start(kernel: Kernel) -> None:
    async def save(_: Any, events: Sequence[Delivered]) -> None: ...

    async with kernel.api.transaction(["t1"]) as tx:
        await outbox.append(tx, [event("c1")], now=datetime(2026, 1, 1, tzinfo=UTC))
        await bury(tx, f"g-{kernel.schema}", [DeadLetter(Message("t", 0, 0, b"", b"", (), 0), "t1", None, "x", "x")])
    bus = buses.connect(f"{kernel.admin_dsn}{'&' if '?' in kernel.admin_dsn else '?'}bus_schema=bus_{kernel.schema}")
    await ensure_topics(bus)
    still = Relay(kernel.worker, Standing(), service=kernel.schema)  # type: ignore[arg-type]
    made = service(kernel, relay=still, consumers=(Consumer(f"g-{kernel.schema}", (CREDENTIAL,), Saving(save)),))
    stop = asyncio.Event()
    running = asyncio.create_task(run_parts(made, bus, settings(kernel), roles=("worker", "relay"), stop=stop))
    await until(lambda: gauge("laurel_bus_up", service=kernel.schema) == 1)
    assert (gauge("laurel_outbox_oldest_seconds", service=kernel.schema) or 0) > 3600
    assert gauge("laurel_outbox_rows", service=kernel.schema) == 1
    assert gauge("laurel_consumer_lag", group=f"g-{kernel.schema}") == 0
    assert gauge("laurel_dead_letters_total", group=f"g-{kernel.schema}") == 0
    assert gauge("laurel_dead_letters_waiting", group=f"g-{kernel.schema}") == 1
    stop.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bus.close()


def test_metrics_are_text_that_prometheus_reads() -> None:
    from prometheus_client import generate_latest

    families = {one.name for one in text_string_to_metric_families(generate_latest(telemetry.REGISTRY).decode())}
    assert "process_start_time_seconds" in families
