"""A quiet hour ends nothing."""

from __future__ import annotations

import pytest

from tests.component.pulses import every_loop_lives
from tests.component.verifier.conftest import Verifier


async def test_every_loop_lives_while_it_has_nothing_to_do(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await every_loop_lives(verifier.service, verifier.bus, verifier.settings, monkeypatch)
    assert {consumer.group for consumer in verifier.service.consumers} <= names
