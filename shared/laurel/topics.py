"""Every topic, declared once, as data. Creation, routing, docs/events.md and asyncapi.yaml are derived from it."""

from __future__ import annotations

from dataclasses import dataclass

from laurel import events
from laurel.events import Event

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A stream of facts.

    key: the event field that orders them (equal keys keep their order); it never identifies a learner.
    retention_ms: how long records stay; None with `compacted`: the last record of each key stays for ever.
    """

    name: str
    key: str
    events: tuple[type[Event], ...]
    producer: str
    consumers: tuple[str, ...]
    description: str
    partitions: int = 6
    retention_ms: int | None = 14 * DAY_MS
    compacted: bool = False


ORGANISATION = Topic(
    name="laurel.organisation",
    key="tenant_id",
    events=(
        events.OrganisationCreated,
        events.ApiKeyCreated,
        events.ApiKeyRevoked,
        events.ApiKeyRotated,
        events.TokenKeyMade,
    ),
    producer="issuer",
    consumers=("assessment", "notifier", "verifier"),
    description="Organisations, their API keys and the keys of access tokens: so every service can tell who calls.",
    partitions=3,
    retention_ms=None,
)
ACHIEVEMENT = Topic(
    name="laurel.achievement",
    key="achievement_id",
    events=(events.AchievementPublished, events.AchievementRetired),
    producer="assessment",
    consumers=("issuer",),
    description="What can be earned, as it will stand in credentials.",
    partitions=3,
    retention_ms=None,
)
ISSUER = Topic(
    name="laurel.issuer",
    key="profile_id",
    events=(events.IssuerProfilePublished,),
    producer="issuer",
    consumers=("assessment", "verifier"),
    description="Issuer profiles with their DID documents.",
    partitions=3,
    retention_ms=None,
    compacted=True,
)
ASSESSMENT = Topic(
    name="laurel.assessment",
    key="credential_id",
    events=(events.AssessmentPassed, events.LearnerErased),
    producer="assessment",
    consumers=("issuer",),
    description="Passed assessments: each is owed exactly one credential, unless its learner is erased.",
)
CREDENTIAL = Topic(
    name="laurel.credential",
    key="credential_id",
    events=(
        events.CredentialIssued,
        events.EndorsementIssued,
        events.CredentialStatusChanged,
        events.CredentialRefreshOffered,
        events.CredentialMessageChanged,
        events.CredentialErased,
    ),
    producer="issuer",
    consumers=("notifier", "verifier"),
    description="Issued credentials with their exact bytes, and what became of them.",
)

ISSUANCE_GROUP = "issuer.issuance"
"""The consumer group that makes credentials of `laurel.assessment`; how far it is says how much may be sent."""

TOPICS: tuple[Topic, ...] = (ORGANISATION, ACHIEVEMENT, ISSUER, ASSESSMENT, CREDENTIAL)

ROUTES: dict[type[Event], Topic] = {event: topic for topic in TOPICS for event in topic.events}
EVENT_TYPES: dict[str, type[Event]] = {event.type: event for event in ROUTES}


def route(event: Event) -> tuple[str, bytes]:
    """The topic's name and the message key of an event."""
    topic = ROUTES[type(event)]
    return topic.name, getattr(event, topic.key).encode()
