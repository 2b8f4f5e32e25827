"""From the event to the learner's mailbox: once, to the right person, in their language."""

from __future__ import annotations

import asyncio
import email
import email.policy
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage

import pytest
import time_machine

from laurel.errors import ConfigurationError
from laurel_notifier.mail import MailServer
from tests.component.notifier.kit import (
    Mailbox,
    Notifier,
    changed,
    contact,
    credential_id,
    issued,
    opened,
    running,
    settings,
    until,
)


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    text: str = body.get_content()
    return text


async def test_the_learner_gets_one_mail_in_their_language_with_the_link(mailing: Notifier, mailbox: Mailbox) -> None:
    event = issued(
        1,
        achievement_name="Größe & <Weite> des Alls " + "sehr " * 30 + "weit",
        contact=contact(email="ada@learner.example", name="Ada <b>Łovelace</b>", locale="de-AT"),
        valid_until=issued(1).issued_at + timedelta(days=365),
    )
    await mailing.take_in(event)
    async with mailing.worker("mail"):
        await until(lambda: len(mailbox.mails) == 1)
        await mailing.take_in(event)
    assert await mailing.email_states() == {"sent": 1}
    [(sender, recipients, raw)] = mailbox.mails
    assert sender == "badges@uni.example"
    assert recipients == ["ada@learner.example"]
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    message = read(raw)
    assert message["to"] == "ada@learner.example"
    assert message["from"] == "Beispiel-Universität <badges@uni.example>"
    assert message["subject"].startswith("Sie haben erworben: Größe & <Weite> des Alls sehr")
    assert message["message-id"] == f"<{credential_id(1)}@badges.example>"
    assert message["auto-submitted"] == "auto-generated"
    url = f"https://badges.example/c/{credential_id(1)}"
    text, html = part(message, "plain"), part(message, "html")
    assert "Guten Tag, Ada <b>Łovelace</b>," in text
    assert "Ausgestellt von Beispiel-Uni." in text
    assert "gültig bis 2027-11-20" in text
    assert url in text
    assert f'href="{url}"' in html
    assert "Ada &lt;b&gt;Łovelace&lt;/b&gt;" in html
    assert "<Weite>" not in html


@pytest.mark.parametrize(
    ("locale", "start"),
    [("fr", "Vous avez obtenu"), ("es_MX", "Has obtenido"), ("xx", "You have earned"), (None, "You have earned")],
)
async def test_the_language_follows_the_locale(
    mailing: Notifier, mailbox: Mailbox, locale: str | None, start: str
) -> None:
    await mailing.take_in(issued(1, contact=contact(locale=locale), locale=None))
    async with mailing.worker("mail"):
        await until(lambda: len(mailbox.mails) == 1)
    assert read(mailbox.mails[0][2])["subject"].startswith(start)


async def test_a_hundred_learners_get_one_mail_each_also_with_two_workers_and_redelivered_events(
    mailing: Notifier, mailbox: Mailbox
) -> None:
    events = [issued(number, contact=contact(email=f"learner{number}@x.example")) for number in range(100)]
    await mailing.take_in(*events, *events[:30])
    async with opened(mailing.admin_dsn, smtp_url=mailbox.url) as second, mailing.worker("mail"), second.worker("mail"):
        await mailing.take_in(*events)
        await until(lambda: len(mailbox.mails) >= 100)
    addressees = [recipients for _, recipients, _ in mailbox.mails]
    assert sorted(addressees) == sorted([f"learner{number}@x.example"] for number in range(100))
    for _, [recipient], raw in mailbox.mails:
        number = int(recipient.removeprefix("learner").partition("@")[0])
        assert f"/c/{credential_id(number)}" in part(read(raw), "plain")
    assert await mailing.email_states() == {"sent": 100}
    assert await mailing.sql("SELECT 1 FROM emails WHERE contact IS NOT NULL") == []


async def test_without_a_mail_server_mails_wait_and_go_out_when_there_is_one(
    notifier: Notifier, mailbox: Mailbox
) -> None:
    await notifier.take_in(*(issued(number) for number in range(3)))
    assert [one.name for one in notifier.service.workers] == ["webhooks"]
    assert await notifier.email_states() == {"held": 3}
    counts = (await notifier.http.get("/notifier/v1/reports/reconcile")).json()["counts"]
    assert counts["emails_held"] == 3
    async with opened(notifier.admin_dsn, smtp_url=mailbox.url) as later, later.worker("mail"):
        await until(lambda: len(mailbox.mails) == 3)
    assert await notifier.email_states() == {"sent": 3}


async def test_nobody_is_congratulated_on_a_revoked_credential(notifier: Notifier, mailbox: Mailbox) -> None:
    await notifier.take_in(issued(1), issued(2), changed(2), issued(3))
    await notifier.take_in(changed(3, status="suspended"))
    await notifier.take_in(changed(1), issued(1))
    assert await notifier.email_states() == {"held": 1, "cancelled": 2}
    assert len(await notifier.sql("SELECT 1 FROM emails WHERE contact IS NULL")) == 2
    async with opened(notifier.admin_dsn, smtp_url=mailbox.url) as later, later.worker("mail"):
        await until(lambda: len(mailbox.mails) == 1)
    assert await notifier.email_states() == {"sent": 1, "cancelled": 2}


async def test_no_address_no_mail_and_a_dangerous_address_fails_without_a_word_to_the_server(
    mailing: Notifier, mailbox: Mailbox
) -> None:
    hostile = ["a@b\r\nRCPT TO:<x@y>", "a@b, c@d", "<a@b>", "a b@c", "@c", "a@", "a@b@c", "a\x00@b", '"a"@b']
    await mailing.take_in(
        issued(1, contact=contact(email=None)), issued(2, contact=contact(email="")), issued(3, contact=None),
        *(issued(10 + number, contact=contact(email=one)) for number, one in enumerate(hostile)), issued(99),
    )  # fmt: skip
    async with mailing.worker("mail"):
        await until(lambda: len(mailbox.mails) == 1)
    assert mailbox.heard == ["ada@learner.example"]
    assert await mailing.email_states() == {"sent": 1, "failed": len(hostile)}


async def test_refused_for_good_has_failed_and_refused_for_now_is_tried_again(
    mailing: Notifier, mailbox: Mailbox
) -> None:
    mailbox.refuse = {"nobody@x.example": "550 no such user", "busy@x.example": "451 try later"}
    await mailing.take_in(
        issued(1, contact=contact(email="nobody@x.example")), issued(2, contact=contact(email="busy@x.example")),
        issued(3, contact=contact(email="fine@x.example")),
    )  # fmt: skip

    async def settled() -> bool:
        return (
            await mailing.email_states() == {"failed": 1, "pending": 1, "sent": 1} and "busy@x.example" in mailbox.heard
        )

    async with mailing.worker("mail"):
        await until(settled)
        mailbox.refuse.pop("busy@x.example")
        await mailing.due_now()
        await until(lambda: len(mailbox.mails) == 2)
    items = (await mailing.http.get("/notifier/v1/emails", params={"state": "failed"})).json()["items"]
    assert [(one["credential_id"], one["last_error"]) for one in items] == [
        (credential_id(1), "the mail server refused the recipient with 550")
    ]
    mailbox.refuse.clear()
    assert (await mailing.http.post(f"/notifier/v1/emails/{credential_id(1)}/retry")).status_code == 202
    assert (await mailing.http.post(f"/notifier/v1/emails/{credential_id(2)}/retry")).status_code == 409
    async with mailing.worker("mail"):
        await until(lambda: len(mailbox.mails) == 3)


async def test_a_mail_is_not_given_up_because_our_clock_is_days_ahead(mailing: Notifier, mailbox: Mailbox) -> None:
    mailbox.refuse = {"busy@x.example": "451 try later"}
    await mailing.take_in(issued(1, contact=contact(email="busy@x.example")))
    with time_machine.travel(datetime.now(UTC) + timedelta(days=4), tick=True):
        async with mailing.worker("mail"):
            await until(lambda: "busy@x.example" in mailbox.heard)
    [row] = await mailing.sql("SELECT state, next_attempt_at < now() + interval '1 minute' AS soon FROM emails")
    assert (row["state"], row["soon"]) == ("pending", True)


async def test_a_server_that_is_away_costs_nothing_but_time(mailing: Notifier, mailbox: Mailbox) -> None:
    async with opened(mailing.admin_dsn, smtp_url="smtp://127.0.0.1:1") as other:
        await mailing.take_in(issued(1))

        async def attempted() -> bool:
            [row] = await mailing.sql("SELECT state, attempt_count, last_error FROM emails")
            return row["state"] == "pending" and row["attempt_count"] == 1 and "could not be used" in row["last_error"]

        async with other.worker("mail"):
            await until(attempted)
    await mailing.due_now()
    async with mailing.worker("mail"):
        await until(lambda: len(mailbox.mails) == 1)


async def test_a_connection_that_breaks_during_the_content_is_uncertain_and_not_repeated_by_itself(
    mailing: Notifier, mailbox: Mailbox
) -> None:
    mailbox.on_data = lambda envelope: "break"
    await mailing.take_in(issued(1))

    async def uncertain() -> bool:
        return await mailing.email_states() == {"uncertain": 1}

    async with mailing.worker("mail"):
        await until(uncertain)
        await mailing.due_now()
        await mailing.take_in(issued(1))
        mailbox.on_data = None
        await mailing.take_in(issued(2))
        await until(lambda: len(mailbox.mails) == 1)
    assert f"/c/{credential_id(2)}" in part(read(mailbox.mails[0][2]), "plain")
    assert (await mailing.http.post(f"/notifier/v1/emails/{credential_id(1)}/retry")).status_code == 202
    async with mailing.worker("mail"):
        await until(lambda: len(mailbox.mails) == 2)
    assert await mailing.email_states() == {"sent": 2}


async def test_a_process_that_dies_over_a_mail_leaves_it_uncertain_not_doubled(
    mailing: Notifier, mailbox: Mailbox
) -> None:
    await mailing.take_in(issued(1))
    reached, mails = asyncio.Event(), mailbox.mails
    worker = next(one for one in mailing.service.workers if one.name == "mail")

    async def stall(*_: object, **__: object) -> str:
        reached.set()
        await asyncio.Event().wait()
        return "250 never"

    answer, mailbox.handle_DATA = mailbox.handle_DATA, stall  # type: ignore[method-assign]
    task = asyncio.ensure_future(worker.run(asyncio.Event()))
    await reached.wait()
    async with opened(mailing.admin_dsn, smtp_url=mailbox.url) as another, another.worker("mail"):
        await asyncio.sleep(0.3)  # it has looked around by now, and must leave alone what the living one has in hand
        assert await mailing.email_states() == {"sending": 1}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    mailbox.handle_DATA = answer  # type: ignore[method-assign]
    assert await mailing.email_states() == {"sending": 1}

    async def uncertain() -> bool:
        return await mailing.email_states() == {"uncertain": 1}

    async with opened(mailing.admin_dsn, smtp_url=mailbox.url) as next_process, next_process.worker("mail"):
        await until(uncertain)
    assert not mails


async def test_stopping_gives_unsent_mails_back(mailing: Notifier, mailbox: Mailbox) -> None:
    await mailing.take_in(*(issued(number) for number in range(60)))
    worker = next(one for one in mailing.service.workers if one.name == "mail")
    stop = asyncio.Event()

    def stop_soon(_: object) -> None:
        if len(mailbox.mails) >= 5:
            stop.set()

    mailbox.on_data = stop_soon
    await worker.run(stop)
    states = await mailing.email_states()
    assert states["sent"] == len(mailbox.mails) < 60
    assert states["sent"] + states["pending"] == 60
    mailbox.on_data = None
    async with running(worker.run):
        await until(lambda: len(mailbox.mails) == 60)
    assert await mailing.email_states() == {"sent": 60}


async def test_an_address_beyond_ascii_goes_to_a_server_that_takes_it(mailing: Notifier, mailbox: Mailbox) -> None:
    await mailing.take_in(issued(1, contact=contact(email="jürgen@müller.example")))
    async with mailing.worker("mail"):
        await until(lambda: len(mailbox.mails) == 1)
    assert mailbox.mails[0][1] == ["jürgen@müller.example"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", ("mail.example", 25, None, False, None)),
        ("smtp://127.0.0.1:2525", ("127.0.0.1", 2525, None, False, None)),
        ("smtps://u%40x:p%3A@mail.example", ("mail.example", 465, "u@x", True, False)),
        ("smtp+starttls://u:p@mail.example", ("mail.example", 587, "u", False, True)),
        ("smtp://u:p@mail.example", ("mail.example", 25, "u", False, True)),
    ],
)
def test_a_mail_servers_url_is_read(url: str, expected: tuple[str, int, str | None, bool, bool | None]) -> None:
    server = MailServer.parse(url)
    assert (server.host, server.port, server.username, server.tls, server.start_tls) == expected
    assert "p%3A" not in repr(server)


def test_an_empty_url_is_no_mail_server() -> None:
    assert settings("postgres://x", smtp_url="").smtp_url is None


@pytest.mark.parametrize("url", ["http://mail.example", "smtp://", "mail.example:25", "smtp://x:99999", ""])
def test_a_mail_servers_url_that_is_none_names_the_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="LAUREL_SMTP_URL"):
        MailServer.parse(url)
