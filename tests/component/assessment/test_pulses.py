"""A quiet hour ends nothing."""

from __future__ import annotations

import pytest

from tests.component.assessment.conftest import World
from tests.component.pulses import every_loop_lives


async def test_every_loop_lives_while_it_has_nothing_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await every_loop_lives(world.service, world.bus, world.settings, monkeypatch)
    assert {"assessment imports: sweeping", "assessment imports: settling 1", "assessment relay"} <= names
