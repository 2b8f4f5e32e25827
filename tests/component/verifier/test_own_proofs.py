"""Credentials of the index: looked up together, their proofs checked without the sandbox, the verdict the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from laurel_verifier import intake, store
from laurel_verifier.lookups import Lookups
from laurel_verifier.sandbox import Findings, Job, Sandbox
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import TENANT, TestIssuer, changed, credential_id, issued


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the sandbox was asked about."""
    jobs: list[Job] = []
    examine = Sandbox.examine

    async def noted(self: Sandbox, job: Job) -> Findings:
        jobs.append(job)
        return await examine(self, job)

    monkeypatch.setattr(Sandbox, "examine", noted)
    return jobs


async def learnt(verifier: Verifier, issuer: TestIssuer, count: int = 8) -> list[dict[str, Any]]:
    """That many badges of one achievement; the first three have been verified."""
    documents = [issuer.badge(number) for number in range(1, count + 1)]
    await verifier.feed(issuer.published(), *(issued(one, number) for number, one in enumerate(documents, 1)))
    for one in documents[:3]:
        assert (await verifier.verify(one))["verdict"] == "valid"
    return documents


async def test_the_quick_way_says_what_the_sandbox_says(
    verifier: Verifier, issuer: TestIssuer, asked: list[Job]
) -> None:
    documents = await learnt(verifier, issuer)
    slow = await verifier.verify(documents[0])
    assert len(asked) == 3
    for one in documents:
        found = await verifier.verify(dict(reversed(one.items())))  # in another order: the same document
        assert found["checks"] == [
            {**check, "detail": found["checks"][place]["detail"]} for place, check in enumerate(slow["checks"])
        ]
    assert len(asked) == 3


async def test_bytes_that_stand_so_in_the_index_need_no_guard(
    verifier: Verifier, issuer: TestIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = await learnt(verifier, issuer)
    read: list[bytes] = []

    def noted(body: bytes) -> Any:
        read.append(body)
        return documents_read(body)

    documents_read = intake.documents.read
    monkeypatch.setattr(intake.documents, "read", noted)

    async def judged(body: bytes) -> dict[str, Any]:
        answer = await verifier.client.post("/verifier/v1/credentials/verify", content=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        for check in found["checks"]:  # what was asked at which second
            check.update(at="", against=[{**one, "at": ""} for one in check.get("against", [])])
            check["detail"] = check["detail"].partition(" asked at")[0].partition("; checked at")[0]
        return found | {"checked_at": ""}

    stored = msgspec.json.encode(documents[5])
    alike = [await judged(stored), await judged(stored + b"\n")]
    assert not read
    spaced = stored[:1] + b" " + stored[1:]
    alike.append(await judged(spaced))
    assert read == [spaced]
    alike[-1]["checks"][0]["detail"] = alike[-1]["checks"][0]["detail"].replace(f"{len(spaced):,}", f"{len(stored):,}")
    assert alike[0] == alike[1] == alike[2]
    assert alike[0]["verdict"] == "valid"
    # The first address of ours in it is another badge's: it is read as whatever anybody sends.
    foreign = b'{"about":"' + documents[6]["id"].encode() + b'",' + stored[1:]
    assert (await judged(foreign))["verdict"] == "invalid"
    assert read[-1] == foreign


async def test_what_was_changed_is_not_believed(verifier: Verifier, issuer: TestIssuer, asked: list[Job]) -> None:
    documents = await learnt(verifier, issuer)
    forged = {**documents[5], "validFrom": "2020-01-01T00:00:00Z"}
    found = await verifier.verify(forged)
    assert (found["verdict"], found["checks"][0]["code"]) == ("invalid", "not_the_indexed_document")
    await verifier.feed(changed(5, 1, "revoked"))
    assert (await verifier.verify(documents[4]))["verdict"] == "revoked"


async def test_a_forgery_in_the_index_is_not_believed(verifier: Verifier, issuer: TestIssuer, asked: list[Job]) -> None:
    """Whoever can write to the bus and has no key."""
    documents = await learnt(verifier, issuer)
    texts = {number: json.dumps(documents[number]) for number in (3, 4)}
    forgeries = [
        json.loads(text.replace(credential_id(number + 1), credential_id(20 + number)))
        for number, text in texts.items()
    ]
    forgeries[1]["proof"]["proofValue"] = documents[5]["proof"]["proofValue"]
    await verifier.feed(*(issued(one, number) for number, one in zip((23, 24), forgeries, strict=True)))
    for one in forgeries:
        found = await verifier.verify(one)
        assert found["verdict"] == "invalid"
        assert next(check["code"] for check in found["checks"] if check["step"] == "signature") == "bad_signature"
    assert len(asked) == 3 + 2  # it is the full way that says no


async def test_a_key_that_is_listed_no_longer(verifier: Verifier, issuer: TestIssuer) -> None:
    documents = await learnt(verifier, issuer)
    other = TestIssuer(seed=b"\x55" * 32)
    await verifier.feed(issuer.published(2, did_document=other.did_document()))

    for _ in range(60):
        found = await verifier.verify(documents[6])
        if found["verdict"] != "valid":
            break
        await asyncio.sleep(0.1)  # the register is kept for five seconds
    assert found["verdict"] == "invalid"


async def test_lookups_share_a_question_that_has_not_left(
    verifier: Verifier, one: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    ask = store.public_credentials

    async def noted(database: Any, ids: Any) -> Any:
        asked.append(list(ids))
        return await ask(database, ids)

    monkeypatch.setattr(store, "public_credentials", noted)
    lookups = Lookups(verifier.service.database)
    names = [credential_id(number % 5 + 1) for number in range(200)] + ["x" * 64, "", "a'b"]
    found = await asyncio.gather(*(lookups.credential(name) for name in names))
    assert [row is not None for row in found] == [name == credential_id(1) for name in names]
    assert sum(map(len, asked)) <= 16
    gone = asyncio.ensure_future(lookups.credential(credential_id(1)))
    stays = asyncio.ensure_future(lookups.credential(credential_id(1)))
    await asyncio.sleep(0)
    gone.cancel()
    row = await stays
    assert row is not None
    assert row.document == bytes(msgspec.Raw(json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode()))


async def test_a_lookup_sees_the_row_that_it_names_and_no_other(verifier: Verifier, one: dict[str, Any]) -> None:
    """Row-level security is in force within the function, and what it named is forgotten behind it."""
    database = verifier.service.database
    assert len(await database.fetch("SELECT * FROM public_credentials($1)", [credential_id(1)] * 2)) == 2
    assert await database.fetch("SELECT * FROM credentials") == []
    assert await database.fetch("SELECT * FROM public_credentials($1)", ["%", TENANT]) == []


async def test_the_database_away_is_said_to_all_who_wait(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(store, "public_credentials", away)
    lookups = Lookups(verifier.service.database)
    found = await asyncio.gather(*(lookups.credential("a") for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [ConnectionError] * 3
    answer = await verifier.client.get(f"/verifier/v1/credentials/{credential_id(1)}")
    assert answer.status_code == 503


async def test_a_silent_database_is_waited_for_once(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever came while a question was on its way is told with those who asked it."""
    silent, asked = asyncio.Event(), 0

    async def no_answer(*_: object) -> None:
        nonlocal asked
        asked += 1
        await silent.wait()
        raise TimeoutError

    monkeypatch.setattr(store, "public_credentials", no_answer)
    lookups = Lookups(verifier.service.database)
    waiting = []
    for names in ("a", "b", "abc"):  # two questions may be on their way
        waiting += [asyncio.create_task(lookups.credential(name)) for name in names]
        for _ in range(5):
            await asyncio.sleep(0)
    assert asked == 2
    silent.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [TimeoutError] * 5
    assert asked == 2
