"""A quiet hour ends nothing."""

from __future__ import annotations

import pytest

from tests.component.issuer.kit import Issuer
from tests.component.pulses import every_loop_lives


async def test_every_loop_lives_while_it_has_nothing_to_do(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await every_loop_lives(issuer.service, issuer.bus, issuer.settings, monkeypatch)
    assert {"issuer status lists", "issuer parked", "issuer.issuance"} <= names
