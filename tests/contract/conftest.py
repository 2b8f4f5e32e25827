"""Both transports, one after the other, for every test that asks for a bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from laurel.bus import Bus, TopicSpec, connect

# 6 s is the shortest session that a Kafka broker's defaults allow.
TIMEOUTS = {"request_timeout": 15.0, "session_timeout": 6.0, "rebalance_timeout": 60.0}


@pytest.fixture(params=["postgres", pytest.param("kafka", marks=pytest.mark.kafka)])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(transport: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue({"postgres": "postgres_dsn", "kafka": "kafka_url"}[transport]))


@pytest.fixture
async def bus(url: str) -> AsyncIterator[Bus]:
    bus = connect(url, **TIMEOUTS)
    yield bus
    await bus.close()


@pytest.fixture
def group() -> str:
    return f"group-{uuid4().hex[:12]}"


@pytest.fixture
async def topic(bus: Bus) -> str:
    name = f"topic-{uuid4().hex[:12]}"
    await bus.ensure_topics([TopicSpec(name, partitions=6)])
    return name
