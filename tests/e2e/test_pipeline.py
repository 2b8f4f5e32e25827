"""A cohort through four processes on both transports, with every service killed once in the middle of it.

Afterwards the databases and what the partner received are compared id by id; the services' own counters are not asked.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from laurel.migrate import SERVICES
from tests.conformance.node_oracle import Verdict
from tests.conftest import private_postgres
from tests.e2e.cluster import Cluster, cluster

LEARNERS = 2500
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with private_postgres() as postgres:
        yield postgres.get_uri()


@pytest.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
async def laurel(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    name = f"e2e_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    dsn = server.replace("/postgres?", f"/{name}?")
    bus_url = dsn if request.param == "postgres" else request.getfixturevalue("kafka_url")
    async with cluster(postgres_dsn=dsn, bus_url=bus_url, logs=tmp_path) as running:
        await running.organise()
        yield running


def cohort(learners: int) -> str:
    """A CSV: every tenth fails, every twentieth stands twice, every fiftieth has no usable address."""
    rows = ["learner,email,name,score,attempt"]
    for n in range(learners):
        address = "not-an-address" if n % 50 == 7 else f"learner{n}@example.org"
        row = f"l{n},{address},Ложка №{n},{40 if n % 10 == 3 else 80},1"
        rows += [row, row] if n % 20 == 11 else [row]
    return "\n".join(rows) + "\n"


@pytest.mark.timeout(420)
async def test_kill_9_of_every_service_in_the_middle_of_a_cohort(laurel: Cluster) -> None:
    rejected = len([n for n in range(LEARNERS) if n % 50 == 7])
    failed = len([n for n in range(LEARNERS) if n % 10 == 3 and n % 50 != 7])
    duplicate = len([n for n in range(LEARNERS) if n % 20 == 11 and n % 50 != 7])
    rejected += len([n for n in range(LEARNERS) if n % 20 == 11 and n % 50 == 7])
    passed = LEARNERS - len([n for n in range(LEARNERS) if n % 50 == 7]) - failed

    accepted = await laurel.call(
        "POST", f"/assessment/v1/results/imports?achievement={laurel.achievement_id}&course_run=run-1", 202,
        content=cohort(LEARNERS).encode(), headers={"Content-Type": "text/csv"},
    )  # fmt: skip
    status_path = f"/assessment/v1/results/imports/{accepted['import_id']}"

    async def count(sql: str) -> int:
        return int((await laurel.database(sql))[0][0])

    progress = {
        "assessment": "SELECT count(*) FROM assessment.results",
        "issuer": "SELECT count(*) FROM issuer.credentials",
        "verifier": "SELECT count(*) FROM verifier.credentials",
        "notifier": "SELECT count(*) FROM notifier.deliveries",
    }
    for service in SERVICES:  # in the middle: something is done, and not everything

        async def begun(sql: str = progress[service]) -> bool:
            return await count(sql) > 0

        await laurel.until(f"{service} has begun", begun, 60)
        laurel.kill(service)
        laurel.spawn(service)
    await laurel.ready()

    async def settled() -> bool:
        status = await laurel.request("GET", status_path)
        if status.status_code != 200 or status.json()["status"] != "done":
            return False
        if await count(progress["verifier"]) < passed or await count(progress["notifier"]) < passed:
            return False
        waiting = await count("SELECT count(*) FROM notifier.deliveries WHERE state <> 'delivered'")
        unsent = await count("SELECT count(*) FROM notifier.emails WHERE state NOT IN ('sent', 'uncertain')")
        return waiting == 0 and unsent == 0

    await laurel.until("everything has arrived", settled, 240)

    # 1. the assessment's account of the import
    status = await laurel.call("GET", status_path, 200)
    assert {name: status[name] for name in ("passed", "not_passed", "duplicate", "rejected")} == {
        "passed": passed, "not_passed": failed, "duplicate": duplicate, "rejected": rejected,
    }  # fmt: skip
    assert status["accepted"] == passed + failed + duplicate + rejected

    # 2. owed = issued = indexed, byte for byte, and nothing else
    owed = {
        str(row[0])
        for row in await laurel.database("SELECT credential_id FROM assessment.results WHERE outcome = 'passed'")
    }
    issued = {
        str(row[0]): row[1] for row in await laurel.database("SELECT credential_id, body FROM issuer.credentials")
    }
    indexed = {
        str(row[0]): row[1] for row in await laurel.database("SELECT credential_id, document FROM verifier.credentials")
    }
    assert len(owed) == passed
    assert set(issued) == owed
    assert indexed == issued
    places = await laurel.database("SELECT revocation_list, revocation_index FROM issuer.credentials")
    assert await count("SELECT count(*) FROM issuer.intents") == 0, "every reservation was finished"
    assert len({tuple(row) for row in places}) == len(places), "no two credentials share a status index"

    # 3. one delivery per credential, each received; a redelivery keeps its webhook-id
    assert laurel.sink.bad_signatures == 0
    received = {message_id: event for message_id, event, _ in laurel.sink.received}
    assert {event["data"]["credential_id"] for event in received.values()} == owed
    assert len(received) == passed, "a webhook-id for each credential and no more"
    assert await count("SELECT count(*) FROM notifier.deliveries") == passed

    # 4. at most one e-mail each; "uncertain" says openly what a kill in the middle of SMTP left behind
    assert max(laurel.mailbox.recipients.values()) == 1
    uncertain = await count("SELECT count(*) FROM notifier.emails WHERE state = 'uncertain'")
    assert passed - uncertain <= len(laurel.mailbox.recipients) <= passed

    # 5. nothing is left on the way, and nothing died
    for service in SERVICES:
        assert await count(f"SELECT count(*) FROM {service}.outbox") == 0
        assert await count(f"SELECT count(*) FROM {service}.dead_letters") == 0
    assert set(laurel.starts.values()) == {2}, "each service was started twice: at first and after its kill"

    # 6. what was issued verifies, and the partner got the same bytes
    one = sorted(owed)[0]
    verdict = await laurel.call(
        "POST",
        "/verifier/v1/credentials/verify",
        200,
        content=issued[one],
        headers={"Content-Type": "application/json"},
    )
    assert verdict["verdict"] == "valid", verdict


@pytest.mark.node
async def test_one_trace_from_the_call_to_the_webhook_and_a_status_change(
    laurel: Cluster, node_verify: Callable[..., Verdict]
) -> None:
    result = await laurel.call(
        "POST", "/assessment/v1/results", 201,
        headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
        json={"achievement": laurel.achievement_id, "learner": "l1", "email": "l1@example.org", "score": 90},
    )  # fmt: skip
    assert result["outcome"] == "passed"

    async def received(count: int) -> bool:
        return len({message_id for message_id, _, _ in laurel.sink.received}) >= count

    await laurel.until("the webhook", lambda: received(1), 60)
    _, event, headers = laurel.sink.received[0]
    assert event["type"] == "credential.issued"
    assert event["data"]["credential_id"] == result["credential_id"]
    assert event["data"]["learner"] == "l1"
    assert headers["traceparent"].split("-")[1] == TRACE

    path = f"/c/{result['credential_id']}"
    document = await laurel.call("GET", path, 200, headers={"Accept": "application/json"})
    assert document == event["data"]["credential"]

    # an independent verifier, given what the outside can fetch from us, agrees before and after the revocation
    did_document = await laurel.call("GET", "/issuers/uni/did.json", 200)
    list_path = document["credentialStatus"]["statusListCredential"].removeprefix("https://badges.example.org")
    fetched = await laurel.call("GET", list_path, 200)
    before = node_verify(document, did_document, fetched)
    assert before.verified, before.error

    await laurel.call(
        "POST", f"/issuer/v1/credentials/{result['credential_id']}/revoke", 200, json={"reason": "plagiarism"}
    )
    await laurel.until("the second webhook", lambda: received(2), 60)
    assert laurel.sink.received[-1][1]["type"] == "credential.revoked"

    async def revoked() -> bool:
        answer = await laurel.call("POST", "/verifier/v1/credentials/verify", 200, json=document)
        return bool(answer["verdict"] == "revoked")

    await laurel.until("the verifier knows", revoked, 30)

    async def published() -> bool:
        latest = await laurel.call("GET", list_path, 200)
        return not node_verify(document, did_document, latest).verified

    await laurel.until("the published list says so too", published, 30)
