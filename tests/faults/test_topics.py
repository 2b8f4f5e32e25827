"""What the ledger reads in the topics: the order of each key, and repeats that are none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from laurel import envelope
from laurel.bus import Message, partition_for
from laurel.events import (
    AchievementPublished,
    AchievementRetired,
    ApiKeyCreated,
    ApiKeyRevoked,
    ApiKeyRotated,
    AssessmentPassed,
    CredentialErased,
    CredentialIssued,
    CredentialMessageChanged,
    CredentialRefreshOffered,
    CredentialStatusChanged,
    Event,
    IssuerProfilePublished,
    LearnerErased,
    OrganisationCreated,
    Recipient,
    Status,
)
from laurel.topics import ROUTES, route
from tests.faults.topics import Seen

NOW = datetime(2026, 11, 29, tzinfo=UTC)
T = "t"  # the tenant

founded = OrganisationCreated(tenant_id=T, slug="north", name="North", created_at=NOW)
made = ApiKeyCreated(tenant_id=T, key_id="k", secret_hash="h", scopes=(), label="", created_at=NOW)
rotated = ApiKeyRotated(tenant_id=T, key_id="k", secret_hash="i", previous=(), rotated_at=NOW)
revoked = ApiKeyRevoked(tenant_id=T, key_id="k", revoked_at=NOW)
retired = AchievementRetired(tenant_id=T, achievement_id="a", version=2, retired_at=NOW)
passed = AssessmentPassed(
    tenant_id=T, credential_id="c", result_id="r", achievement_id="a", achievement_version=1, award=1,
    recipient=Recipient(did="did:example:l"), achieved_at=NOW, decided_at=NOW,
)  # fmt: skip
forgotten = LearnerErased(tenant_id=T, credential_id="c", erasure_id="e", erased_at=NOW)
offered = CredentialRefreshOffered(tenant_id=T, credential_id="c", version=2, reason="", changed_at=NOW)
message = CredentialMessageChanged(
    tenant_id=T, credential_id="c", version=3, value=1, message="m", reason="", changed_at=NOW
)


def achievement(version: int, name: str = "A") -> Event:
    return AchievementPublished(
        tenant_id=T, achievement_id="a", version=version, profile_id="p", achievement={"name": name}, published_at=NOW
    )


def profile(version: int, name: str = "P") -> Event:
    return IssuerProfilePublished(
        tenant_id=T, profile_id="p", slug="p", version=version, did="did:web:p", profile={"name": name},
        did_document={}, published_at=NOW,
    )  # fmt: skip


def issued(document: bytes = b"{}") -> Event:
    return CredentialIssued(
        tenant_id=T, credential_id="c", result_id="r", achievement_id="a", achievement_name="A", profile_id="p",
        issuer="did:web:p", issued_at=NOW, valid_from=NOW, document=msgspec.Raw(document),
    )  # fmt: skip


def changed(version: int, status: Status = "suspended") -> Event:
    return CredentialStatusChanged(
        tenant_id=T, credential_id="c", version=version, status=status, reason="", changed_at=NOW
    )


def erased(version: int) -> Event:
    return CredentialErased(tenant_id=T, credential_id="c", erasure_id="e", version=version, erased_at=NOW)


def message_of(event: Event, offset: int, *, key: bytes | None = None, partition: int | None = None) -> Message:
    """A fact has one event id, however often it stands there."""
    topic, own = route(event)
    body = envelope.encode_data(event)
    headers = envelope.headers(
        event_id=f"{event.type}:{body!r}", event_type=event.type, source="/laurel/test", time=NOW, traceparent=None
    )
    place = partition_for(key or own, ROUTES[type(event)].partitions) if partition is None else partition
    return Message(topic, place, offset, key or own, body, headers, 0)


def seen(events: Sequence[Event]) -> Seen:
    found = Seen()
    for offset, event in enumerate(events):
        found.take(message_of(event, offset))
    return found


IN_ORDER: list[list[Event]] = [
    [founded, made, rotated, revoked],
    [achievement(1), achievement(2), retired],
    [profile(1), profile(2), profile(3)],
    [passed, forgotten],
    [issued(), changed(1), offered, message, changed(4, "revoked")],
    [issued(), changed(1), erased(2), changed(2, "revoked")],
]


@pytest.mark.parametrize("events", IN_ORDER)
def test_what_stands_in_order_may_stand_there_again(events: list[Event]) -> None:
    for again in ([], events, list(reversed(events)), events[:1]):
        found = seen([*events, *again])
        assert (found.out_of_order, found.different) == ([], [])
        assert found.repeated == len(again)


@pytest.mark.parametrize("events", IN_ORDER)
def test_two_facts_of_a_key_that_have_changed_places_are_told(events: list[Event]) -> None:
    for place in range(len(events) - 1):
        swapped = [*events]
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        assert seen(swapped).out_of_order, [event.type for event in swapped]


def test_every_order_but_one_is_told() -> None:
    for events in IN_ORDER[:5]:
        right = [order for order in itertools.permutations(events) if not seen(order).out_of_order]
        assert right == [tuple(events)]


def test_versions_may_be_missing_only_where_they_may() -> None:
    assert seen([achievement(1), achievement(3)]).out_of_order == ["achievement a: version 3 follows version 1"]
    assert seen([profile(4), profile(7)]).out_of_order == [], "the topic is compacted"
    assert seen([issued(), changed(2)]).out_of_order
    assert seen([issued(), erased(3), changed(3, "revoked")]).out_of_order == [], "what had not left need not leave"
    assert seen([erased(0)]).out_of_order == []
    assert seen([forgotten]).out_of_order == []


def test_what_comes_behind_an_erasure_is_told() -> None:
    assert seen([forgotten, passed]).out_of_order == ["c: its pass stands behind its erasure"]
    assert seen([erased(1), issued()]).out_of_order == ["c: its issue stands behind its erasure"]
    assert seen([issued(), erased(2), changed(1)]).out_of_order == ["c: version 1 stands behind its erasure"]
    assert seen([issued(), changed(1), erased(0), changed(2)]).out_of_order


def test_two_contents_of_one_fact_are_told() -> None:
    for first, second in (
        (achievement(1), achievement(1, "B")),
        (profile(1), profile(1, "Q")),
        (issued(), issued(b"[]")),
    ):
        assert len(seen([first, second]).different) == 1
    assert len(seen([issued(), changed(1), changed(1, "revoked")]).different) == 1


def test_a_key_has_one_partition_and_is_its_facts_own() -> None:
    found = Seen()
    home = message_of(founded, 0).partition
    found.take(message_of(founded, 0, partition=(home + 1) % 3))
    assert len(found.out_of_order) == 1
    found.take(message_of(achievement(1), 0, key=b"another"))
    assert len(found.different) == 1
