"""A learner is erased: nothing that names a person is sent any more, and partners hear that it is revoked."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from laurel.erasure import REASON
from laurel.events import CredentialErased, CredentialStatusChanged
from tests.component.notifier.kit import (
    ISSUED_AT,
    TENANT,
    Mailbox,
    Notifier,
    Sink,
    answers,
    changed,
    credential_id,
    issued,
    opened,
    until,
)

ERASURE = "0199d1f0-0000-7000-8000-00000000e7a5"
MARKS = ("learner-7", "ada@learner.example", "z3J", "issued by mistake")


def erased(number: int = 1, version: int = 2) -> CredentialErased:
    return CredentialErased(
        tenant_id=TENANT, credential_id=credential_id(number), erasure_id=ERASURE, version=version, erased_at=ISSUED_AT
    )


def revoked(number: int = 1, version: int = 2) -> CredentialStatusChanged:
    return CredentialStatusChanged(
        tenant_id=TENANT, credential_id=credential_id(number), version=version, status="revoked", reason=REASON,
        changed_at=ISSUED_AT,
    )  # fmt: skip


async def kept(notifier: Notifier) -> list[str]:
    """Which marks of a person stand in any table, in bodies as anywhere else."""
    tables = await notifier.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'notifier'")
    names = [row["tablename"] for row in tables if row["tablename"] != "alembic_version"]
    text = ""
    for name in names:
        for row in await notifier.sql(f"SELECT * FROM {name}"):
            text += repr(dict(row))
    contacts = await notifier.sql("SELECT 1 FROM emails WHERE contact IS NOT NULL")
    return [*(mark for mark in MARKS if mark in text), *("contact" for _ in contacts)]


def told(sink: Sink) -> list[dict[str, Any]]:
    return [msgspec.json.decode(one.body) for one in sink.received]


async def test_what_was_delivered_is_emptied_and_partners_are_told(notifier: Notifier, sink: Sink) -> None:
    await notifier.endpoint(f"{sink.base}/one")
    await notifier.take_in(issued(1), changed(1, status="suspended", version=1))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 2)
        await until(lambda: _all_settled(notifier))
        assert {"learner-7", "contact"} <= set(await kept(notifier))
        await notifier.take_in(erased(), revoked())
        await until(lambda: len(sink.received) == 3)
        await until(lambda: _all_settled(notifier))
    assert await kept(notifier) == []
    assert told(sink)[2]["type"] == "credential.revoked"
    assert told(sink)[2]["data"]["reason"] == REASON
    assert not [mark for mark in MARKS if mark in sink.received[2].body.decode()]
    assert await notifier.states() == {"delivered": 3}, "what was delivered stays counted"
    for one in await notifier.deliveries():
        if one["message_id"].endswith(("issued", "status_1")):
            answer = await notifier.http.post(f"/notifier/v1/deliveries/{one['delivery_id']}/retry")
            assert (answer.status_code, answer.json()["type"]) == (409, "urn:laurel:problem:erased")
    answer = await notifier.http.get(f"/notifier/v1/erasures/{ERASURE}")
    assert (answer.status_code, answer.json()["credentials"]) == (200, 1)


async def _all_settled(notifier: Notifier) -> bool:
    return "pending" not in await notifier.states()


async def test_what_waits_is_not_sent(notifier: Notifier, sink: Sink) -> None:
    made = await notifier.endpoint(f"{sink.base}/one")
    sink.behaviour["one"] = answers(503)
    await notifier.take_in(issued(1), issued(2))
    async with notifier.worker():
        await until(lambda: len(sink.received) == 2)
    disabled = {"enabled": False}
    assert (
        await notifier.http.patch(f"/notifier/v1/endpoints/{made['endpoint_id']}", json=disabled)
    ).status_code == 200
    assert await notifier.states() == {"held": 2}
    await notifier.take_in(erased(1))
    assert await notifier.states() == {"held": 1, "cancelled": 1}
    assert await notifier.email_states() == {"held": 1, "cancelled": 1}
    await notifier.http.patch(f"/notifier/v1/endpoints/{made['endpoint_id']}", json={"enabled": True})
    assert await notifier.states() == {"pending": 1, "cancelled": 1}


@pytest.mark.parametrize("together", [True, False])
async def test_no_order_of_events_brings_anything_back(notifier: Notifier, sink: Sink, together: bool) -> None:
    await notifier.endpoint(f"{sink.base}/one")
    await notifier.take_in(erased(), revoked())
    events = [issued(1), changed(1, status="suspended", version=1), erased(), revoked()]
    for order in itertools.islice(itertools.permutations(events), 0, None, 5):
        if together:
            await notifier.take_in(*order)
        else:
            for one in order:
                await notifier.take_in(one)
        assert await kept(notifier) == []
        messages = await notifier.sql("SELECT message_id FROM messages")
        assert [row["message_id"] for row in messages] == [f"msg_{credential_id(1)}_status_2"]
    assert await notifier.email_states() == {}


async def test_a_mail_that_is_not_out_yet_never_goes(admin_dsn: str) -> None:
    async with (
        Mailbox().open() as mailbox,
        opened(admin_dsn, smtp_url=mailbox.url, mail_from="Uni <badges@uni.example>") as mailing,
    ):
        await mailing.take_in(issued(1), issued(2))
        await mailing.take_in(erased(1, version=0))
        async with mailing.worker("mail"):
            await until(lambda: len(mailbox.mails) == 1)
        assert await mailing.email_states() == {"cancelled": 1, "sent": 1}
        answer = await mailing.http.post(f"/notifier/v1/emails/{credential_id(1)}/retry")
        assert answer.status_code == 409


async def test_what_dies_of_it_afterwards_is_emptied_by_the_erasures_event(notifier: Notifier) -> None:
    await notifier.take_in(erased())
    await notifier.take_in(issued(1, contact="sealed with another key"))
    assert [tuple(row) for row in await notifier.sql("SELECT code, state FROM dead_letters")] == [
        ("contact_unsealable", "waiting")
    ]
    await notifier.take_in(erased())
    assert [tuple(row) for row in await notifier.sql("SELECT value, state FROM dead_letters")] == [(b"", "discarded")]
