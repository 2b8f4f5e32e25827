"""A quiet hour ends nothing."""

from __future__ import annotations

import pytest

from tests.component.notifier.kit import Mailbox, opened
from tests.component.pulses import every_loop_lives


async def test_every_loop_lives_while_it_has_nothing_to_do(admin_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Mailbox().open() as mailbox, opened(admin_dsn, smtp_url=mailbox.url) as notifier:
        names = await every_loop_lives(notifier.service, notifier.bus, notifier.settings, monkeypatch)
    assert {
        "notifier webhooks",
        "notifier webhooks: settling",
        "notifier webhooks: listening",
        "notifier mail",
    } <= names
