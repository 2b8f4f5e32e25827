"""What an event leads to in this service: replicas of who is calling, and of the profiles that achievements name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from laurel.access import access_consumer
from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.events import IssuerProfilePublished
from laurel.service import Consumer, Saving
from laurel.topics import ISSUER
from laurel_assessment import store


def consumers() -> tuple[Consumer[Any], ...]:
    """organisation.created, api_key.created, api_key.revoked → API keys; issuer_profile.published → profiles."""
    return (
        access_consumer("assessment"),
        Consumer(group="assessment.issuers", topics=(ISSUER,), handler=Saving(_save_profiles)),
    )


async def _save_profiles(tx: Transaction, events: Sequence[Delivered]) -> None:
    published = [one.event for one in events if isinstance(one.event, IssuerProfilePublished)]
    for event in sorted(published, key=lambda one: (one.profile_id, one.version)):
        await store.keep_profile(tx, event)
