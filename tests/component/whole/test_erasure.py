"""`laurel erase` through all four services: no table says who it was, and nothing that comes again changes that."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest

from laurel import bus as buses
from laurel.bus import Record
from laurel.credential import status
from laurel.migrate import SERVICES
from laurel_local import erase, reconcile
from laurel_local.console import Output
from laurel_local.exits import Exit, Failure
from tests.component.whole.conftest import Tenant, Whole, until
from tests.component.whole.test_access_commands import client
from tests.faults.mortal import Partners

LEARNER, EMAIL, DID = "learner-mark-e7", "learner-mark-e7@example.org", "did:example:mark-e7"


async def school(whole: Whole, partners: Partners) -> tuple[Tenant, str]:
    """An organisation that issues, with a partner who hears of it; and the achievement."""
    tenant = await whole.tenant("uni")
    profile = await whole.call(
        tenant, "POST", "/issuer/v1/profiles", 201, json={"slug": "uni", "name": "Uni", "url": "https://u.example"}
    )
    await whole.call(tenant, "POST", f"/issuer/v1/profiles/{profile['profile_id']}/keys", 201)
    made = await whole.call(
        tenant, "POST", "/assessment/v1/achievements", 201,
        json={
            "name": "A", "description": "d", "criteria": {"narrative": "n"}, "policy": {"minimum_score": 60},
            "profile_id": profile["profile_id"], "repeatable": True,
        },
    )  # fmt: skip
    endpoint = await whole.call(
        tenant, "POST", "/notifier/v1/endpoints", 201,
        json={"url": f"{partners.url}/uni", "event_types": ["credential.issued", "credential.revoked"]},
    )  # fmt: skip
    partners.secrets["uni"] = endpoint["secret"]
    return tenant, str(made["achievement_id"])


async def passed(whole: Whole, tenant: Tenant, achievement: str, learner: str, **more: Any) -> str:
    row = {"achievement": achievement, "learner": learner, "score": 81.25, **more}
    return str((await whole.call(tenant, "POST", "/assessment/v1/results", 201, json=row))["credential_id"])


async def kept(whole: Whole) -> list[str]:
    """The tables in which anything of the learner stands, sealed contacts and documents included."""
    found = []
    for service in SERVICES:
        tables = await whole.sql("SELECT tablename FROM pg_tables WHERE schemaname = $1", service)
        for table in tables:
            for row in await whole.sql(f"SELECT * FROM {service}.{table['tablename']}"):
                if any(mark in repr(dict(row)) for mark in (LEARNER, "mark-e7", "81.25")):
                    found.append(f"{service}.{table['tablename']}")
    contacts = await whole.sql("SELECT credential_id FROM notifier.emails WHERE contact IS NOT NULL")
    return found + [row[0] for row in contacts]


async def erased(whole: Whole, tenant: Tenant, learner: str = LEARNER) -> tuple[Exit, Output]:
    output = Output(as_json=True)
    return await erase.run(client(whole, tenant.key), learner, yes=True, patience_s=60, output=output), output


@pytest.mark.timeout(300)
async def test_a_learner_is_erased_everywhere_and_stays_so(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    async with Partners().open() as partners:
        tenant, achievement = await school(whole, partners)
        hers = [
            await passed(whole, tenant, achievement, LEARNER, email=EMAIL, name="Mark E7"),
            await passed(whole, tenant, achievement, LEARNER, did=DID, attempt=2),
        ]
        other = await passed(whole, tenant, achievement, "bob", did="did:example:bob", score=90)
        await until(lambda: _heard(partners, 3))
        assert {"assessment.results", "issuer.credentials", "verifier.credentials", "notifier.messages"} <= set(
            await kept(whole)
        )

        exits, _ = await erased(whole, tenant)
        answer = json.loads(capsys.readouterr().out)
        assert exits == Exit.OK
        assert (answer["results"], answer["credentials"]) == (2, 2)
        assert answer["states"] == dict.fromkeys(SERVICES, "done")
        await until(lambda: _heard(partners, 5))
        assert await kept(whole) == []
        revoked = [event for _, event in partners.received["uni"] if event["type"] == "credential.revoked"]
        assert {event["data"]["credential_id"] for event in revoked} == set(hers)
        assert "mark-e7" not in json.dumps(revoked)
        for name in hers:
            assert (await whole.http.get(f"/c/{name}")).status_code == 404
        assert (await whole.http.get(f"/c/{other}")).status_code == 200
        await until(lambda: _bits(whole, len(hers)))

        # All that ever was on the bus, once more; and the same request.
        before = len(partners.received["uni"])
        await replay(whole)
        await until(lambda: _nothing_waits(whole))
        assert await kept(whole) == []
        assert len(partners.received["uni"]) == before
        exits, _ = await erased(whole, tenant)
        assert json.loads(capsys.readouterr().out)["erasure_id"] == answer["erasure_id"]

        # The learner comes back: somebody new.
        again = await passed(whole, tenant, achievement, LEARNER, did=DID)
        assert again not in hers
        await until(lambda: whole.sql("SELECT 1 FROM verifier.credentials WHERE credential_id = $1", again))
        await until(lambda: _heard(partners, before + 1))
        found = await reconcile.reconcile(client(whole, tenant.key))
        assert (found.passed, found.issued, found.erased, found.unaccounted) == (4, 2, 2, 0)
        assert await reconcile.run(
            client(whole, tenant.key), None, Output(as_json=True), ids="erased"
        ) == Exit.OK  # fmt: skip
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {row["credential_id"] for row in rows} == set(hers)


async def _heard(partners: Partners, number: int) -> bool:
    return len(partners.received["uni"]) >= number


async def _bits(whole: Whole, number: int) -> bool:
    (row,) = await whole.sql("SELECT body FROM issuer.status_lists WHERE purpose = 'revocation'")
    bits = status.decode_list(json.loads(row["body"])["credentialSubject"]["encodedList"])
    return sum(byte.bit_count() for byte in bits) == number


async def replay(whole: Whole) -> None:
    rows = await whole.sql(
        "SELECT p.topic, m.key, m.value, m.headers FROM bus.messages m JOIN bus.partitions p ON p.id = m.partition_id "
        "WHERE p.topic IN ('laurel.assessment', 'laurel.credential') ORDER BY p.id, m.\"offset\""
    )
    assert len(rows) >= 8
    records = [
        Record(row["topic"], row["key"], row["value"], tuple(map(tuple, msgspec.msgpack.decode(row["headers"]))))
        for row in rows
    ]
    bus = buses.connect(whole.admin_dsn)
    try:
        async with bus.producer(client_id="replay") as producer:
            await producer.send(records)
    finally:
        await bus.close()


async def _nothing_waits(whole: Whole) -> bool:
    bus = buses.connect(whole.admin_dsn)
    try:
        for service in whole.services.values():
            for consumer in service.consumers:
                if any((await bus.lag(consumer.group, [one.name for one in consumer.topics])).values()):
                    return False
    finally:
        await bus.close()
    return True


async def test_it_asks_before_and_says_when_nothing_was_known(
    whole: Whole, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await whole.tenant("uni")
    monkeypatch.setattr("sys.stdin", io.StringIO("nobody\n"))
    with pytest.raises(Failure, match="confirm"):
        await erase.run(client(whole, tenant.key), "nobody", yes=False, patience_s=1, output=Output(as_json=True))
    assert await whole.sql("SELECT 1 FROM assessment.erasures") == []
    exits, _ = await erased(whole, tenant, "-")
    assert exits == Exit.NO
    answer = json.loads(capsys.readouterr().out)
    assert (answer["results"], answer["credentials"], set(answer["states"].values())) == (0, 0, {"done"})
    with pytest.raises(Failure, match="no learner"):
        await erased(whole, tenant, " ")
