"""Take each guard of "nothing lost, nothing doubled" away, and see that a test says so.

    python -m tests.faults.guards [--only relay] [--json]

A guard is taken away by changing the code in a copy of the tree; the product has no switch for it. Before that, the
tests that are to notice it must be green there: what is red for another reason notices nothing. A text that is no
longer in the code, or is there twice, is an error: the list below must follow the code.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import private_postgres

ROOT = Path(__file__).parent.parent.parent
PACKAGES = (
    "shared", "services/assessment", "services/issuer", "services/notifier", "services/verifier", "deploy/local",
)  # fmt: skip

_ENGINE = "shared/laurel/service.py"
_OUTBOX = "shared/laurel/outbox.py"
_PG = "shared/laurel/bus/postgres.py"
_PG_CONSUMER = "shared/laurel/bus/postgres_consumer.py"
_TABLES = "shared/laurel/tables.py"
_ASSESSMENT = "services/assessment/laurel_assessment"
_ISSUER = "services/issuer/laurel_issuer"
_NOTIFIER = "services/notifier/laurel_notifier"
_VERIFIER = "services/verifier/laurel_verifier"
_COMPONENT = "tests/component"
_HERE = "tests/faults/test_guards_of_the_engine.py"
_LATE = (
    "tests/contract/test_bus_transports.py::test_what_a_failed_send_left_at_the_server_is_gone_once_the_next_one_starts"
)


@dataclass(frozen=True)
class Guard:
    """What is taken away: `old` becomes `new` in `file`. tests: those that must notice, as pytest takes them."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


# What CI takes away each time; `python -m tests.faults.guards` takes all.
IN_CI = (
    "unique key of an attempt",
    "order in the relay",
    "advisory lock of a shard",
    "delete after the acknowledgement",
    "offsets after the effects",
    "drain before partitions are given up",
    "only a new credential leaves an event",
    "our own signature is checked",
    "who lost a lease settles no failure",
    "row-level security",
)

GUARDS = (
    # -- assessment
    Guard(
        "unique key of an attempt",
        f"{_ASSESSMENT}/migrations/0010_attempts_by_achievement.py",
        "CREATE UNIQUE INDEX results_attempt ",
        "CREATE INDEX results_attempt ",
        (f"{_COMPONENT}/assessment/test_results.py::test_two_transactions_cannot_decide_one_attempt",),
    ),
    Guard(
        "duplicates are looked for",
        f"{_ASSESSMENT}/intake.py",
        "known = await store.histories(tx, sorted(pairs))",
        "known = await store.histories(tx, [])",
        (f"{_COMPONENT}/assessment/test_imports.py::test_without_a_key_the_rows_themselves_are_the_guard",),
    ),
    Guard(
        "idempotency key of a result",
        f"{_ASSESSMENT}/results_api.py",
        "                if before is not None:\n                    if before.fingerprint",
        "                if before is None:\n                    if before.fingerprint",
        (f"{_COMPONENT}/assessment/test_results.py::test_the_same_key_and_body_is_answered_the_same",),
    ),
    Guard(
        "idempotency key of an import",
        f"{_ASSESSMENT}/import_store.py",
        'if taken != "INSERT 0 1":',
        'if taken == "never":',
        (f"{_COMPONENT}/assessment/test_imports.py::test_of_two_uploads_that_begin_with_one_key_at_once_one_is_taken",),
    ),
    Guard(
        "a chunk goes with the results that it led to",
        f"{_ASSESSMENT}/import_worker.py",
        "                work = await import_store.next_chunk(tx)  # 4\n",
        "                work = await import_store.next_chunk(tx)  # 4\n"
        "                if work is not None:\n"
        '                    gone = "DELETE FROM import_chunks WHERE import_id = $1 AND seq = $2"\n'
        "                    await tx.execute(gone, work.import_id, work.seq)\n"
        "            async with self._database.transaction() as tx:\n",
        (
            f"{_COMPONENT}/assessment/test_imports.py"
            "::test_a_worker_that_dies_inside_a_transaction_leaves_no_trace_of_it[after_results]",
        ),
    ),
    Guard(
        "rows that waited are refused to an erased learner",
        f"{_ASSESSMENT}/intake.py",
        "late = {one for one, found in relations.items() if import_id in found.imports}",
        "late = set[str]()",
        (f"{_COMPONENT}/assessment/test_erasure.py::test_rows_of_an_import_that_waits_are_refused",),
    ),
    # -- the relay
    Guard(
        "order in the relay",
        _OUTBOX,
        'ORDER BY id LIMIT $2"',
        'ORDER BY id DESC LIMIT $2"',
        (f"{_COMPONENT}/kernel/test_outbox.py::test_only_committed_events_leave_and_per_key_order_is_kept",),
    ),
    Guard(
        "no cursor in the relay",
        _OUTBOX,
        '"WHERE shard = ANY ($1::smallint[]) ORDER BY id LIMIT $2",\n            owned, self._batch_size,\n'
        "        )  # fmt: skip\n        if not rows:\n            return 0\n",
        '"WHERE shard = ANY ($1::smallint[]) AND id > $3 ORDER BY id LIMIT $2",\n            owned, self._batch_size, '
        'getattr(self, "_last", 0),\n        )  # fmt: skip\n        if not rows:\n            return 0\n'
        '        self._last = rows[-1]["id"]\n',
        (f"{_COMPONENT}/kernel/test_outbox.py::test_a_row_that_commits_late_with_a_smaller_id_is_not_stepped_over",),
    ),
    Guard(
        "advisory lock of a shard",
        _OUTBOX,
        "AND pg_try_advisory_lock(hashtextextended(current_schema() || ':outbox:' || s, 0))",
        "AND s IS NOT NULL",
        (f"{_COMPONENT}/kernel/test_outbox.py::test_two_relays_send_nothing_twice",),
    ),
    Guard(
        "delete after the acknowledgement",
        _OUTBOX,
        "        await producer.send(records)\n",
        '        await connection.execute("DELETE FROM outbox WHERE id = ANY ($1)", [row["id"] for row in rows])\n'
        "        await producer.send(records)\n",
        (f"{_COMPONENT}/kernel/test_outbox.py::test_without_an_acknowledgement_rows_stay_and_are_sent_again",),
    ),
    Guard(
        "events in the caller's transaction",
        f"{_ISSUER}/handlers.py",
        "        await outbox.append(\n            tx,\n            [outbox.Outgoing(_issued(one)",
        "        async with self._database.transaction() as tx_of_its_own:\n          await outbox.append(\n"
        "            tx_of_its_own,\n            [outbox.Outgoing(_issued(one)",
        (f"{_COMPONENT}/issuer/test_once.py::test_dying_in_the_finish_stores_nothing_and_the_next_try_stores_all",),
    ),
    # -- the engine
    Guard(
        "offsets after the effects",
        _ENGINE,
        "                    if not await self.process(messages, stop):\n",
        "                    await self._commit(source, messages)\n"
        "                    if not await self.process(messages, stop):\n",
        (f"{_COMPONENT}/kernel/test_engine.py::test_dying_before_the_transaction_leaves_the_offset_where_it_was",),
    ),
    Guard(
        "dead letters in the batch's transaction",
        _ENGINE,
        "                await bury(tx, self._consumer.group, refused)\n",
        "",
        (f"{_COMPONENT}/kernel/test_engine.py::test_a_rejected_record_becomes_a_dead_letter_and_the_rest_goes_on",),
    ),
    Guard(
        "what is cancelled does not begin",
        "shared/laurel/redrive.py",
        "a.letter_id = letter.id AND a.finished_at IS NULL RETURNING",
        "a.letter_id = letter.id RETURNING",
        (f"{_COMPONENT}/kernel/test_redrive.py::test_a_letter_that_is_cancelled_while_it_is_to_begin_does_not_begin",),
    ),
    Guard(
        "an outage is no dead letter",
        _ENGINE,
        "if _is_not_now(error) or isinstance(error, Stuck) or not events:",
        "if isinstance(error, Stuck) or not events:",
        (f"{_COMPONENT}/kernel/test_engine.py::test_not_now_is_tried_again_and_never_dead_lettered",),
    ),
    Guard(
        "too many failures stop the process",
        _ENGINE,
        "if self._unexplained > MAX_UNEXPLAINED:",
        "if self._unexplained < 0:",
        (f"{_COMPONENT}/kernel/test_engine.py::test_a_handler_that_fails_on_everything_stops_the_process",),
    ),
    Guard(
        "drain before partitions are given up",
        _ENGINE,
        "        async with self._in_hand:\n            reach",
        "        if True:\n            reach",
        (_HERE,),
    ),
    # -- the bus on PostgreSQL
    Guard(
        "who lost a partition cannot commit",
        _PG_CONSUMER,
        "        if lost := offsets.keys() - self._owned.keys():\n",
        "        if lost := set():\n",
        ("tests/contract/test_bus.py::test_committing_what_is_not_owned_is_refused[postgres]",),
    ),
    Guard(
        "advisory lock of a partition",
        _PG_CONSUMER,
        "SELECT key, pg_try_advisory_lock(key) AS held",
        "SELECT key, true AS held",
        (_HERE,),
    ),
    Guard(
        "a failed send is ended before the next",
        _PG,
        "            await connection.execute(FENCE, self._lock_key)\n",
        "            pass\n",
        (_LATE,),
    ),
    Guard(
        "advisory lock of a producer",
        _PG,
        "SELECT pg_advisory_lock($1)",
        "SELECT $1::bigint",
        (_LATE,),
    ),
    # -- the issuer
    Guard(
        "only a new credential leaves an event",
        f"{_ISSUER}/handlers.py",
        "for one in signed if one.intent.credential_id in new]",
        "for one in signed]",
        (
            f"{_COMPONENT}/issuer/test_once.py::test_members_that_handle_the_same_events_at_once_make_each_credential_once",
        ),
    ),
    Guard(
        "unique key of a credential",
        f"{_ISSUER}/store_issuance.py",
        "ON CONFLICT DO NOTHING RETURNING credential_id",
        "ON CONFLICT (credential_id) DO UPDATE SET body = excluded.body RETURNING credential_id",
        (
            f"{_COMPONENT}/issuer/test_once.py::test_members_that_handle_the_same_events_at_once_make_each_credential_once",
        ),
    ),
    Guard(
        "an intent that is there is taken up",
        f"{_ISSUER}/store_issuance.py",
        "    await _take_up(tx, ids, passed, found)\n    if found",
        '    await tx.execute("DELETE FROM intents WHERE credential_id = ANY ($1)", ids)\n    if found',
        (f"{_COMPONENT}/issuer/test_once.py::test_dying_between_reserve_and_finish_leads_to_the_same_bytes",),
    ),
    Guard(
        "lock over places in status lists",
        f"{_ISSUER}/store_issuance.py",
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))",
        "SELECT length($1)",
        (f"{_COMPONENT}/issuer/test_once.py::test_places_that_are_taken_at_once_are_all_different",),
    ),
    Guard(
        "our own signature is checked",
        f"{_ISSUER}/signing.py",
        "    _check(safe, ready, bodies)  # 5\n",
        "",
        (f"{_COMPONENT}/issuer/test_once.py::test_a_signature_of_ours_that_does_not_verify_stops_the_process",),
    ),
    Guard(
        "a compromised key finishes nothing",
        f"{_ISSUER}/handlers.py",
        "            await store_issuance.require_usable_keys(",
        "            0 and await store_issuance.require_usable_keys(",
        (f"{_COMPONENT}/issuer/test_once.py::test_what_was_signed_before_a_compromise_is_not_stored_after_it",),
    ),
    Guard(
        "row lock of a change of status",
        f"{_ISSUER}/store_status.py",
        '_CURRENT if dry_run else _CURRENT + " FOR UPDATE OF c"',
        "_CURRENT",
        (f"{_COMPONENT}/issuer/test_status.py::test_one_credential_changed_by_many_at_once_has_one_history",),
    ),
    Guard(
        "lock of a status list",
        f"{_ISSUER}/store_status.py",
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 2))",
        "SELECT length($1)",
        (f"{_COMPONENT}/issuer/test_status.py::test_publishers_at_the_same_time_lose_no_version_and_no_change",),
    ),
    Guard(
        "dirt is deleted by what was read",
        f"{_ISSUER}/store_status.py",
        '"DELETE FROM status_list_dirt WHERE id = ANY ($1::bigint[])", state.dirt)',
        '"DELETE FROM status_list_dirt WHERE list_id = $1", list_id)',
        (f"{_COMPONENT}/issuer/test_status.py::test_what_changes_while_a_list_is_signed_is_told_by_its_next_version",),
    ),
    Guard(
        "a list is there before its credential",
        f"{_ISSUER}/handlers.py",
        "            await self._publisher.publish(list_id, only_first=True)\n",
        "            pass\n",
        (f"{_COMPONENT}/issuer/test_issuing.py::test_the_list_that_a_credential_names_is_there_before_the_credential",),
    ),
    Guard(
        "who erases waits for who stores",
        f"{_ISSUER}/handlers.py",
        "            await alongside(tx)\n        gone = ",
        "            pass\n        gone = ",
        (f"{_COMPONENT}/issuer/test_erasure.py::test_who_stores_first_is_waited_for_and_erased_then",),
    ),
    Guard(
        "what is erased is not issued",
        f"{_ISSUER}/handlers.py",
        "for name, tenant_id in await buried(tx, tenants) if",
        "for name, tenant_id in await buried(tx, []) if",
        (f"{_COMPONENT}/issuer/test_erasure.py::test_a_signed_one_that_is_erased_before_it_is_stored_is_not_issued",),
    ),
    # -- the notifier
    Guard(
        "one message an event",
        f"{_NOTIFIER}/domain.py",
        'return f"msg_{credential_id}_"',
        'return f"msg_{credential_id}_{id(object())}{rfc3339(datetime.now(UTC))}"',
        (f"{_COMPONENT}/notifier/test_webhooks.py::test_a_redelivered_event_owes_nothing_new",),
    ),
    Guard(
        "a leased delivery is left alone",
        f"{_NOTIFIER}/queue.py",
        "                      AND (d.lease_until IS NULL OR d.lease_until < now())\n",
        "",
        (f"{_COMPONENT}/notifier/test_webhooks.py::test_several_workers_share_the_work_and_never_double_it",),
    ),
    Guard(
        "who lost a lease settles no failure",
        f"{_NOTIFIER}/queue.py",
        "AND (d.lease = $1 OR (given.state = 'delivered' AND d.state <> 'delivered'))",
        "AND ($1::uuid IS NOT NULL)",
        (f"{_COMPONENT}/notifier/test_webhooks.py::test_a_late_success_counts_and_a_late_failure_does_not",),
    ),
    Guard(
        "of what is erased nobody is told",
        f"{_NOTIFIER}/handlers.py",
        "        gone = await buried(tx, told)  #",
        "        gone = await buried(tx, [])  #",
        (f"{_COMPONENT}/notifier/test_erasure.py::test_no_order_of_events_brings_anything_back",),
    ),
    Guard(
        "one e-mail a credential",
        f"{_NOTIFIER}/store.py",
        "ON CONFLICT (credential_id) DO NOTHING",
        "ON CONFLICT (credential_id) DO UPDATE SET state = 'pending', contact = excluded.contact",
        (
            f"{_COMPONENT}/notifier/test_mail.py::test_a_hundred_learners_get_one_mail_each_also_with_two_workers_and_redelivered_events",
        ),
    ),
    Guard(
        "an uncertain mail is not repeated",
        f"{_NOTIFIER}/mailbox.py",
        "UPDATE emails SET state = 'uncertain',",
        "UPDATE emails SET state = 'pending',",
        (f"{_COMPONENT}/notifier/test_mail.py::test_a_process_that_dies_over_a_mail_leaves_it_uncertain_not_doubled",),
    ),
    # -- the verifier
    Guard(
        "indexed bytes never change",
        f"{_VERIFIER}/store.py",
        "ON CONFLICT (credential_id) DO NOTHING",
        "ON CONFLICT (credential_id) DO UPDATE SET document = excluded.document",
        (f"{_COMPONENT}/verifier/test_index.py::test_a_credential_never_gets_other_bytes",),
    ),
    Guard(
        "statuses never go backwards",
        f"{_VERIFIER}/store.py",
        "WHERE credential_id = c AND status_version < v",
        "WHERE credential_id = c",
        (f"{_COMPONENT}/verifier/test_index.py::test_statuses_apply_by_version_and_never_backwards",),
    ),
    Guard(
        "what is erased is not indexed again",
        f"{_VERIFIER}/handlers.py",
        "        gone = await buried(tx, {one.credential_id for _, one in (*prepared.issued, *prepared.changed)})\n",
        "        gone: dict[tuple[str, str], object] = {}\n",
        (f"{_COMPONENT}/verifier/test_erasure.py::test_no_order_of_events_brings_it_back",),
    ),
    # -- tenants
    Guard(
        "row-level security",
        _TABLES,
        "own = \"tenant_id = ANY (string_to_array(current_setting('laurel.tenants', true), ','))\"",
        'own = "true"',
        (f"{_COMPONENT}/kernel/test_tenants.py",),
    ),
    Guard(
        "row-level security is forced",
        _TABLES,
        '        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",\n',
        "",
        (f"{_COMPONENT}/kernel/test_tenants.py::test_neither_role_owns_or_bypasses",),
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What its tests said. noticed: they failed without the guard, as tests fail and not for want of something."""

    guard: Guard
    noticed: bool
    seconds: float
    said: str


class Bench:
    """A copy of the tree, and a database that all runs of pytest share."""

    def __init__(self, folder: Path, server: Any) -> None:
        self._server, self._runs = server, 0
        self._tree = folder / "laurel"
        hidden = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "node_modules")
        shutil.copytree(ROOT, self._tree, ignore=hidden)
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(self._tree / one) for one in (".", *PACKAGES)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """pytest in the copy, on a database that nobody has migrated yet: a guard may stand in a migration."""
        self._runs += 1
        name = f"guard_{self._runs}"
        self._server.psql(f"CREATE DATABASE {name};")
        plain = [part for plugin in ("cacheprovider", "xdist", "schemathesis") for part in ("-p", f"no:{plugin}")]
        arguments = [sys.executable, "-m", "pytest", "-x", "-q", *plain, *tests]
        environment = {**self._environment, "LAUREL_TEST_POSTGRES": self._server.get_uri(name)}
        return subprocess.run(arguments, cwd=self._tree, env=environment, capture_output=True, text=True, timeout=600)

    @contextmanager
    def without(self, guard: Guard) -> Iterator[None]:
        path = self._tree / guard.file
        whole = path.read_text(encoding="utf-8")
        assert whole.count(guard.old) == 1, f"{guard.name}: {whole.count(guard.old)} times in {guard.file}, not once"
        path.write_text(whole.replace(guard.old, guard.new), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(whole, encoding="utf-8")

    def judge(self, guard: Guard) -> Verdict:
        started = time.monotonic()
        with self.without(guard):
            done = self.run(guard.tests)
        failed = re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
        return Verdict(guard, done.returncode == 1 and bool(failed), time.monotonic() - started, done.stdout[-3000:])

    def green(self, tests: Sequence[str]) -> str:
        """ "": they pass with every guard in its place; else what they said."""
        done = self.run(tests)
        return "" if done.returncode == 0 else done.stdout[-5000:] + done.stderr[-2000:]


@contextmanager
def bench() -> Iterator[Bench]:
    """A bench of one's own."""
    with tempfile.TemporaryDirectory(prefix="laurel-guards-") as folder, private_postgres() as server:
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield Bench(Path(folder), server)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.guards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="guards whose name has this in it")
    parser.add_argument("--from", dest="first", default="", help="begin with the first guard whose name has this in it")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    begin = next(place for place, guard in enumerate(GUARDS) if given.first in guard.name)
    chosen = [guard for guard in GUARDS[begin:] if given.only in guard.name]
    with bench() as ready:
        if said := ready.green(sorted({test for guard in chosen for test in guard.tests})):
            sys.exit(f"not green with every guard in its place:\n{said}")
        verdicts = []
        for guard in chosen:
            verdicts.append(ready.judge(guard))
            if not given.json:
                word = "noticed" if verdicts[-1].noticed else "NOT NOTICED"
                print(f"{word:12} {guard.name} ({verdicts[-1].seconds:.1f} s)", flush=True)
                if not verdicts[-1].noticed:
                    print(verdicts[-1].said)
    missed = [one.guard.name for one in verdicts if not one.noticed]
    if given.json:
        print(json.dumps({"guards": len(verdicts), "noticed": len(verdicts) - len(missed), "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
