"""The short fault run on both transports: each kind of fault once, and nothing lost, doubled or out of order.

On the PostgreSQL bus the ledger is then tried itself: each offence that is put into the databases or the partners' book
must be found, or the zeros above would mean nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.conftest import require_kafka_tools
from tests.faults.load import Load
from tests.faults.report import failures
from tests.faults.rig import Rig
from tests.faults.run import Wanted, count, run

SEED = 4


def exact(report: dict[str, Any], folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=2))
    told = json.dumps({name: report[name] for name in ("offenders", "slow_rounds", "ended_while_healthy")}, indent=1)
    assert failures(report, in_time=False) == [], told
    assert report["issued"] > 500
    assert report["status_changes"] > 0
    assert report["erased"] > 5
    assert report["faults_total"] >= 18, "each kind that can be done here, but for those in each other's way"


# Victims that are not erased: the passes of single results, with what is told of each; credentials that one request
# for one of them, or for many, has changed once.
SINGLES = (
    "SELECT credential_id::text AS id, {} AS told FROM assessment.results WHERE import_id IS NULL "
    "AND learner IS NOT NULL"
)
CHANGED_ONCE = (
    "SELECT c.credential_id::text AS id FROM issuer.credentials c JOIN issuer.status_changes s USING (credential_id) "
    "WHERE status_version = 1 AND erased_at IS NULL AND s.reason = '{}'"
)

# The records of a key against their order, without their repeats: what stands there twice stands at both ends.
REVERSED = (
    'WITH ranked AS (SELECT partition_id, "offset", row_number() OVER (PARTITION BY partition_id, value ORDER BY '
    "\"offset\") AS time FROM bus.messages WHERE key = convert_to($1, 'UTF8')), again AS (DELETE FROM bus.messages m "
    'USING ranked WHERE time > 1 AND m.partition_id = ranked.partition_id AND m."offset" = ranked."offset") UPDATE '
    'bus.messages m SET "offset" = -m."offset" - 1 FROM ranked WHERE time = 1 AND m.partition_id = ranked.partition_id '
    'AND m."offset" = ranked."offset"'
)

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
    "a single result that is not there": (
        "lost", "has no row",
        SINGLES.format("result_id::text"),
        "DELETE FROM assessment.results WHERE credential_id = $1::uuid",
    ),
    "a single result with another outcome": (
        "wrong", "accepted result",
        SINGLES.format("result_id::text"),
        "UPDATE assessment.results SET outcome = 'not_passed' WHERE credential_id = $1::uuid",
    ),
    "a single result with another credential": (
        "wrong", "accepted result",
        SINGLES.format("result_id::text"),
        "UPDATE assessment.results SET credential_id = gen_random_uuid() WHERE credential_id = $1::uuid",
    ),
    "a single result that is doubled": (
        "doubled", "is one more than was sent",
        SINGLES.format("'of ' || learner"),
        "INSERT INTO assessment.results (tenant_id, result_id, outcome, reasons, achievement_id, learner, learner_key, "
        "attempt, content, credential_id, duplicate_of, recorded_at) SELECT tenant_id, gen_random_uuid(), 'duplicate', "
        "'[]', achievement_id, learner, learner_key, attempt, content, credential_id, result_id, now() "
        "FROM assessment.results WHERE credential_id = $1::uuid",
    ),
    "a single result that nobody sent": (
        "doubled", "was sent by nobody",
        SINGLES.format("'of nobody'"),
        "INSERT INTO assessment.results (tenant_id, result_id, outcome, reasons, achievement_id, learner, learner_key, "
        "attempt, content, recorded_at) SELECT tenant_id, gen_random_uuid(), 'not_passed', '[]', achievement_id, "
        "'nobody', 'nobody', 1, '', now() FROM assessment.results WHERE credential_id = $1::uuid",
    ),
    "results of an import that is none": (
        "doubled", "which is none",
        SINGLES.format("'import ' || result_id"),
        "INSERT INTO assessment.results (tenant_id, result_id, outcome, reasons, import_id, line, recorded_at) "
        "SELECT tenant_id, gen_random_uuid(), 'duplicate', '[]', result_id, 1, now() FROM assessment.results "
        "WHERE credential_id = $1::uuid",
    ),
    "a change of status that nobody asked for": (
        "doubled", "and nobody asked for that",
        "SELECT credential_id::text AS id FROM issuer.credentials WHERE status_version = 0 AND erased_at IS NULL",
        "INSERT INTO issuer.status_changes (credential_id, version, tenant_id, status, reason, key_id, changed_at) "
        "SELECT credential_id, 1, tenant_id, 'suspended', '', '', now() FROM issuer.credentials "
        "WHERE credential_id = $1::uuid",
    ),
    "a change of status that is gone": (
        "lost", "",
        CHANGED_ONCE.format("one"),
        "WITH gone AS (DELETE FROM issuer.status_changes WHERE credential_id = $1::uuid) UPDATE issuer.credentials "
        "SET status = 'active', status_version = 0 WHERE credential_id = $1::uuid",
    ),
    "a change of many that is gone": (
        "lost", "does not lead to",
        CHANGED_ONCE.format("many"),
        "WITH gone AS (DELETE FROM issuer.status_changes WHERE credential_id = $1::uuid) UPDATE issuer.credentials "
        "SET status = 'active', status_version = 0 WHERE credential_id = $1::uuid",
    ),
    "a version that is left out": (
        "lost", "not 1 to",
        "SELECT credential_id::text AS id FROM issuer.credentials WHERE status_version > 0 AND erased_at IS NULL",
        "UPDATE issuer.status_changes SET version = version + 5 WHERE credential_id = $1::uuid "
        "AND version = (SELECT status_version FROM issuer.credentials WHERE credential_id = $1::uuid)",
    ),
    "a status that its changes do not say": (
        "wrong", "and its last change is",
        "SELECT credential_id::text AS id FROM issuer.credentials WHERE status_version > 0 AND erased_at IS NULL",
        "UPDATE issuer.credentials SET status_version = 9 WHERE credential_id = $1::uuid",
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
        REVERSED,
    ),
    "versions of an achievement against their order": (
        "out_of_order", "follows version 0",
        "SELECT achievement_id::text AS id FROM assessment.achievements WHERE version > 1",
        REVERSED,
    ),
    "versions of a profile against their order": (  # the topic is compacted: one version may be all that is left
        "out_of_order", "version 0 follows version",
        "SELECT profile_id AS id FROM issuer.issuer_profiles WHERE version > 1",
        "INSERT INTO bus.messages (partition_id, \"offset\", key, value, headers, ts) SELECT partition_id, "
        "\"offset\" + 1000000, key, convert_to(regexp_replace(convert_from(value, 'UTF8'), '\"version\":\\d+', "
        "'\"version\":0'), 'UTF8'), headers, ts FROM bus.messages WHERE key = convert_to($1, 'UTF8') "
        "ORDER BY \"offset\" DESC LIMIT 1",
    ),
    "an API key before its organisation": (
        "out_of_order", "stands before its creation",
        "SELECT tenant_id AS id, 'organisation ' || tenant_id AS told FROM issuer.organisations WHERE slug = 'probe'",
        REVERSED,
    ),
    "a pass behind its erasure": (
        "out_of_order", "its pass stands behind its erasure",
        "SELECT e.credential_id AS id FROM issuer.erased_credentials e WHERE 2 = (SELECT count(DISTINCT m.value) "
        "FROM bus.messages m JOIN bus.partitions p ON p.id = m.partition_id WHERE p.topic = 'laurel.assessment' "
        "AND m.key = convert_to(e.credential_id, 'UTF8'))",
        REVERSED,
    ),
    "an issue behind its erasure": (
        "out_of_order", "its issue stands behind its erasure",
        "SELECT credential_id::text AS id FROM issuer.credentials c WHERE erased_at IS NOT NULL AND (SELECT "
        "count(DISTINCT m.value) FROM bus.messages m JOIN bus.partitions p ON p.id = m.partition_id "
        "WHERE p.topic = 'laurel.credential' AND m.key = convert_to(c.credential_id::text, 'UTF8')) = 2 + (SELECT "
        "count(*) FROM issuer.status_changes s WHERE s.credential_id = c.credential_id)",
        REVERSED,
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
