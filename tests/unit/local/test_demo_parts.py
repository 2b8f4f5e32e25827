"""The demo's own parts: made-up learners, percentiles, the inbox that checks signatures, the mailbox."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import httpx
import pytest
from standardwebhooks import Webhook

from laurel_local.demo.cohort import PART_ROWS, learner, parts
from laurel_local.demo.inbox import Inbox
from laurel_local.demo.mailbox import KEPT, Mailbox
from laurel_local.demo.report import percentile
from tests.conftest import ROOT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def bytes_of(part: object) -> bytes:
    return b"".join([piece async for piece in part.body()])  # type: ignore[attr-defined]


async def test_made_up_learners_are_the_same_in_every_run() -> None:
    file = ROOT / "examples" / "cohort.csv"
    first, made = list(parts(file, 2500))
    assert await bytes_of(first) == file.read_bytes()
    rows = list(csv.DictReader(io.StringIO((await bytes_of(made)).decode())))
    assert len({row["learner"] for row in rows}) == len(rows) == 2500
    passed = sum(float(row["score"]) >= 60 and float(row["part:project"]) >= 50 for row in rows)
    assert 0.85 < passed / len(rows) < 0.95
    again = list(parts(file, PART_ROWS + 2500))
    assert again[0].key == first.key
    assert [(part.first, part.count) for part in again[1:]] == [(0, PART_ROWS), (PART_ROWS, 2500)]
    assert learner(7) == (await bytes_of(again[1])).splitlines(keepends=True)[8]


def test_percentiles_are_of_the_values() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values[:1], 0.99)) == (50.0, 99.0, 1.0)
    assert percentile([], 0.5) is None


def signed(message_id: str, *, secret: str = SECRET) -> tuple[bytes, dict[str, str]]:
    data = {"credential_id": "c-1", "credential": {"credentialSubject": {"achievement": {"name": "<b>Bold</b>"}}}}
    body = json.dumps({"type": "credential.issued", "timestamp": "2026-01-01T00:00:00Z", "data": data})
    now = datetime.now(UTC)
    headers = {
        "webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }  # fmt: skip
    return body.encode(), headers


async def test_the_inbox_checks_signatures_and_takes_each_message_once(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox.ndjson")
    inbox.trust(SECRET)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(inbox.app()), base_url="http://laurel") as client:

        async def post(body: bytes, headers: dict[str, str]) -> int:
            return (await client.post("/demo/webhook", content=body, headers=headers)).status_code

        body, headers = signed("msg_1")
        assert await post(body, headers) == 204
        assert await post(body, headers) == 204
        assert await post(body + b" ", headers) == 401, "changed on the way"
        assert await post(*signed("msg_2", secret="whsec_" + "A" * 32)) == 401
        assert await post(body, headers | {"webhook-signature": "v1,%%%"}) == 401
        assert await post(body, {}) == 401
        page = (await client.get("/demo/inbox")).text
    assert (inbox.messages, inbox.repeated, inbox.refused) == (1, 1, 4)
    assert "&lt;b&gt;Bold" in page
    assert "<b>Bold" not in page
    inbox.close()
    with (tmp_path / "inbox.ndjson").open("a") as file:
        file.write('{"message_id": "half')  # killed while writing
    assert Inbox(tmp_path / "inbox.ndjson").messages == 1


async def test_the_mailbox_keeps_and_shows(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "mail")
    host, port = (await mailbox.start()).removeprefix("smtp://").split(":")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "badges@example.org", "l@example.org", "<i>Ваш значок</i>"
    message.set_content("Здравствуйте <script>")
    try:
        await aiosmtplib.send(message, hostname=host, port=int(port))
    finally:
        mailbox.stop()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(mailbox.app()), base_url="http://laurel") as client:
        listed = (await client.get("/demo/mailbox")).text
        shown = (await client.get("/demo/mailbox/1")).text
        assert (await client.get("/demo/mailbox/99")).status_code == 404
    assert "&lt;i&gt;Ваш значок" in listed
    assert "Здравствуйте &lt;script&gt;" in shown
    assert mailbox.messages == 1
    assert Mailbox(tmp_path / "mail")._next == 2, "a restart goes on counting"


def test_the_mailbox_does_not_fill_the_disk(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)

    class Envelope:
        content = b"Subject: x\r\n\r\nx"

    async def fill() -> None:
        for _ in range(KEPT + 5):
            await mailbox.handle_DATA(None, None, Envelope())  # type: ignore[arg-type]

    asyncio.run(fill())
    assert len(list(tmp_path.glob("*.eml"))) == KEPT


@pytest.mark.parametrize("name", ["inbox", "mailbox"])
async def test_pages_run_no_scripts(name: str, tmp_path: Path) -> None:
    app = Inbox(tmp_path / "i").app() if name == "inbox" else Mailbox(tmp_path / "m").app()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://laurel") as client:
        answer = await client.get(f"/demo/{name}")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
