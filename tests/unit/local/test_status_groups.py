"""`laurel status` knows every consumer group: its table against the services' own parts lists."""

from __future__ import annotations

import base64

import pytest

from laurel.bus import connect
from laurel.migrate import SERVICES
from laurel_local.status import GROUPS
from laurel_local.up import open_service, settings_class


async def test_every_group_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    key = base64.b64encode(bytes(32)).decode()
    url = "postgresql://nobody@127.0.0.1:9/none"  # services open their pools without a connection
    bus = connect(url)
    found = {}
    for name in SERVICES:
        values = {"bus_url": url, "database_url": url, "id_key": key, "contact_key": key, "kek": key, "signers": 0}
        async with open_service(name, settings_class(name)(**values), bus) as service:
            found |= {consumer.group: consumer.topics for consumer in service.consumers}
    await bus.close()
    assert found == GROUPS
