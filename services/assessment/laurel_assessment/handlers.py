"""What an event leads to in this service. One table; today the service only needs to know who is calling."""

from __future__ import annotations

from typing import Any

from laurel.access import access_consumer
from laurel.service import Consumer


def consumers() -> tuple[Consumer[Any], ...]:
    """organisation.created, api_key.created, api_key.revoked → the replica of API keys."""
    return (access_consumer("assessment"),)
