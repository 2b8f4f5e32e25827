"""The short fault run on both transports: each kind of fault once, and nothing lost, doubled or out of order.

On the PostgreSQL bus the ledger is then tried itself: each offence that is put into the databases or the partners' book
must be found, or the zeros above would mean nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import uvloop

from tests.conftest import require_kafka_tools
from tests.faults.load import Load
from tests.faults.rig import Rig
from tests.faults.run import Wanted, count, run

SEED = 4


def exact(report: dict[str, object], folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    told = json.dumps({name: report[name] for name in ("offenders", "slow_rounds", "ended_by_themselves")}, indent=1)
    assert report["drain_s"] is not None, told
    assert {name: report[name] for name in ("lost", "doubled", "out_of_order", "wrong")} == {
        "lost": 0, "doubled": 0, "out_of_order": 0, "wrong": 0,
    }, told  # fmt: skip
    assert report["not_recovered"] == 0, told
    assert report["bad_signatures"] == 0
    assert report["issued"] > 500  # type: ignore[operator]
    assert report["status_changes"] > 0  # type: ignore[operator]
    assert report["erased"] > 5  # type: ignore[operator]
    assert report["faults_total"] >= 18, "each kind that can be done here, but for those in each other's way"  # type: ignore[operator]


# What is put into a copy of the databases, each offence upon a credential (or result) of its own: what the ledger must
# then say of that one, where it is found, and how it is done.
OFFENCES = {
    "a result without an outcome": (
        "lost", "has no outcome",
        "SELECT result_id::text AS id, 'line ' || line || ' of import ' || import_id AS told FROM assessment.results "
        "WHERE outcome = 'not_passed'",
        "UPDATE assessment.results SET line = -line WHERE result_id = $1::uuid",
    ),
    "an outcome that is not the right one": (
        "doubled", "is not_passed, not duplicate",
        "SELECT result_id::text AS id, 'line ' || line || ' of import ' || import_id AS told FROM assessment.results "
        "WHERE outcome = 'duplicate' AND import_id = (SELECT min(import_id::text)::uuid FROM assessment.results)",
        "UPDATE assessment.results SET outcome = 'not_passed', attempt = 77, content = '' WHERE result_id = $1::uuid",
    ),
    "a pass that was not issued": (
        "lost", "is owed and was not issued",
        "SELECT credential_id::text AS id FROM issuer.credentials WHERE erased_at IS NULL",
        "DELETE FROM issuer.credentials WHERE credential_id = $1::uuid",
    ),
    "a credential that nobody is owed": (
        "doubled", "was issued and nobody is owed it",
        "SELECT credential_id::text AS id FROM issuer.credentials WHERE erased_at IS NULL",
        "DELETE FROM assessment.results WHERE credential_id = $1::uuid",
    ),
    "other bytes in the index": (
        "wrong", "the index differs",
        "SELECT credential_id AS id FROM verifier.credentials",
        "UPDATE verifier.credentials SET document = document || ' ' WHERE credential_id = $1",
    ),
    "a credential that the index lacks": (
        "lost", "is not in the index",
        "SELECT credential_id AS id FROM verifier.credentials",
        "DELETE FROM verifier.credentials WHERE credential_id = $1",
    ),
    "a change of status that the index missed": (
        "wrong", "the index differs",
        "SELECT credential_id AS id FROM verifier.credentials WHERE status <> 'active'",
        "UPDATE verifier.credentials SET status = 'active', status_version = 0 WHERE credential_id = $1",
    ),
    "a published bit too many": (
        "doubled", "is set and no row says so",
        "SELECT credential_id::text AS id, 'place ' || suspension_index AS told FROM issuer.credentials "
        "WHERE status = 'suspended'",
        "UPDATE issuer.credentials SET status = 'active' WHERE credential_id = $1::uuid",
    ),
    "a published bit that is missing": (
        "lost", "is not set",
        "SELECT credential_id::text AS id, 'place ' || revocation_index AS told FROM issuer.credentials "
        "WHERE status = 'active' AND erased_at IS NULL",
        "UPDATE issuer.credentials SET status = 'revoked' WHERE credential_id = $1::uuid",
    ),
    "a delivery that is missing": (
        "lost", "has no delivery of",
        "SELECT credential_id AS id FROM notifier.messages WHERE event_type = 'credential.issued' AND body <> ''",
        "DELETE FROM notifier.deliveries WHERE message_no = (SELECT min(message_no) FROM notifier.messages "
        "WHERE credential_id = $1)",
    ),
    "a delivery that waits": (
        "lost", "is pending",
        "SELECT credential_id AS id FROM notifier.messages WHERE event_type = 'credential.issued' AND body <> ''",
        "UPDATE notifier.deliveries SET state = 'pending' WHERE message_no = (SELECT min(message_no) "
        "FROM notifier.messages WHERE credential_id = $1)",
    ),
    "an e-mail that is not there": (
        "lost", "no e-mail is owed to",
        "SELECT e.credential_id AS id, r.learner AS told FROM notifier.emails e JOIN assessment.results r "
        "ON r.credential_id = e.credential_id::uuid AND r.outcome = 'passed' AND r.learner IS NOT NULL",
        "DELETE FROM notifier.emails WHERE credential_id = $1",
    ),
    "an event left in an outbox": (
        "lost", "are left in the outbox of issuer",
        "SELECT credential_id::text AS id, '1 events' AS told FROM issuer.credentials",
        "INSERT INTO issuer.outbox (tenant_id, shard, topic, key, event_id, type, occurred_at, data) "
        "SELECT tenant_id, 0, 't', '', 'e', 'y', now(), '' FROM issuer.credentials WHERE credential_id = $1::uuid",
    ),
    "a lost event": (
        "lost", "has no credential.issued",
        "SELECT credential_id::text AS id FROM issuer.credentials WHERE erased_at IS NULL",
        "DELETE FROM bus.messages WHERE key = convert_to($1, 'UTF8')",
    ),
    "a change of status before the issue": (
        "out_of_order", "stands before its issue",
        "SELECT credential_id::text AS id FROM issuer.status_changes JOIN issuer.credentials USING (credential_id) "
        "WHERE version = 1 AND erased_at IS NULL",
        'UPDATE bus.messages SET "offset" = -"offset" - 1 WHERE key = convert_to($1, \'UTF8\')',
    ),
    "a tombstone that the verifier lacks": (
        "lost", "is erased in assessment or in verifier, not in both alike",
        "SELECT credential_id AS id FROM verifier.erased_credentials",
        "DELETE FROM verifier.erased_credentials WHERE credential_id = $1",
    ),
    "a tombstone of nobody who was erased": (
        "doubled", "is erased in assessment or in notifier, not in both alike",
        "SELECT credential_id AS id FROM verifier.credentials",
        "INSERT INTO notifier.erased_credentials SELECT credential_id, tenant_id, 'none', 0, now() "
        "FROM verifier.credentials WHERE credential_id = $1",
    ),
    "a document of an erased credential": (
        "wrong", "is erased and something of it is in issuer",
        "SELECT credential_id::text AS id FROM issuer.credentials WHERE erased_at IS NOT NULL",
        "UPDATE issuer.credentials SET body = '{}' WHERE credential_id = $1::uuid",
    ),
    "a score of an erased learner": (
        "wrong", "is erased and says something",
        "SELECT credential_id AS id FROM issuer.erased_credentials",
        "UPDATE assessment.results SET score = 90 WHERE credential_id = $1::uuid",
    ),
    "a partner who was not told of an erasure": (
        "lost", "has no delivery of",
        "SELECT credential_id AS id FROM notifier.erased_credentials JOIN notifier.messages USING (credential_id) "
        "WHERE message_id = 'msg_' || credential_id || '_status_' || last_version",
        "DELETE FROM notifier.deliveries d USING notifier.messages m WHERE m.message_no = d.message_no "
        "AND m.credential_id = $1 AND m.body <> ''",
    ),
}  # fmt: skip


async def the_ledger_finds(rig: Rig, load: Load) -> None:
    await _in_the_databases(rig, load)
    await _at_the_partners(rig, load)
    assert (await count(rig, load)).exact, "all offences were taken out again"


async def _in_the_databases(rig: Rig, load: Load) -> None:
    await rig.execute_in("postgres", "CREATE DATABASE copy TEMPLATE laurel")
    used: set[str] = set()
    expected: dict[str, tuple[str, str, str]] = {}
    for what, (kind, said, victims, offence) in OFFENCES.items():
        victim = next((one for one in await rig.fetch(victims) if one["id"] not in used), None)
        assert victim is not None, f"nobody to try {what} on"
        used.add(victim["id"])
        await rig.execute_in("copy", offence, victim["id"])
        expected[what] = kind, said, victim.get("told") or victim["id"]
    account = await count(rig, load, database="copy")
    for what, (kind, said, named) in expected.items():
        found = [one for one in account.offenders if one.startswith(f"{kind}: ") and said in one and named in one]
        assert found, f"{what} was not found: no {kind!r} of {named} that says {said!r} in {account.offenders}"


async def _at_the_partners(rig: Rig, load: Load) -> None:
    lines = rig.book.read_text().splitlines(keepends=True)
    places = [tuple(line.split()[:2]) for line in lines]
    erased = {row[0] for row in await rig.fetch("SELECT credential_id FROM issuer.erased_credentials")}
    once = next(one for one in places if places.count(one) == 1 and one[1].split("_")[1] not in erased)
    address = next(iter(rig.mailbox.recipients))
    rig.mailbox.recipients[address] += 1
    kept = [line for line, place in zip(lines, places, strict=True) if place != once]
    rig.book.write_text("".join([*kept, "north-0 msg_nobody_issued " + "0" * 64 + "\n"]))
    account = await count(rig, load)
    assert (account.lost, account.doubled) == (1, 2), account.offenders
    assert any(f"{once[1]} never reached {once[0]}" in one for one in account.offenders)
    rig.book.write_text("".join(lines))
    rig.mailbox.recipients[address] -= 1


@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_on_the_postgres_bus(tmp_path: Path) -> None:
    exact(uvloop.run(run(Wanted(SEED, "postgres"), afterwards=the_ledger_finds)), tmp_path)


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_on_kafka(tmp_path: Path) -> None:
    require_kafka_tools()
    exact(uvloop.run(run(Wanted(SEED, "kafka"))), tmp_path)
