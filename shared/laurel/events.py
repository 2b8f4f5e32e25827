"""One frozen struct per fact, in the past tense, with a version in its type name.

Facts change by adding fields with defaults; a change that a consumer could misread is a new type. They carry enough to
act without calling back, and no personal data that a consumer does not need: learners appear as keyed hashes, and what
only the notifier needs (name, address) travels sealed in `contact`.

msgspec structs rather than pydantic models: ADR 0001.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Status = Literal["active", "suspended", "revoked"]


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What every fact has. `type` is the CloudEvents type attribute."""

    type: ClassVar[str]

    tenant_id: str


class OrganisationCreated(Event, frozen=True, kw_only=True):
    """A tenant exists."""

    type: ClassVar[str] = "laurel.organisation.created.v1"

    slug: str
    name: str
    created_at: Instant


class ApiKeyCreated(Event, frozen=True, kw_only=True):
    """A key may be used from now on. secret_hash: hex SHA-256 of its secret part (itself stored nowhere)."""

    type: ClassVar[str] = "laurel.api_key.created.v1"

    key_id: str
    secret_hash: str
    scopes: tuple[str, ...]
    label: str
    created_at: Instant
    expires_at: Instant | None = None


class ApiKeyRevoked(Event, frozen=True, kw_only=True):
    """A key may no longer be used."""

    type: ClassVar[str] = "laurel.api_key.revoked.v1"

    key_id: str
    revoked_at: Instant


class PreviousSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that a key had before, by its hash, and when it stops to work."""

    secret_hash: str
    until: Instant


class ApiKeyRotated(Event, frozen=True, kw_only=True):
    """A key has a new secret; the older ones work until their time.

    secret_hash, previous, expires_at: all that holds from now on, whatever was said before.
    """

    type: ClassVar[str] = "laurel.api_key.rotated.v1"

    key_id: str
    secret_hash: str
    previous: tuple[PreviousSecret, ...]
    rotated_at: Instant
    expires_at: Instant | None = None


class TokenKeyMade(Event, frozen=True, kw_only=True):
    """Access tokens may be signed with this key until `ends_at`. It is no tenant's: tenant_id is "-".

    public_key: Ed25519, 32 bytes in base64. Its secret is the issuer service's alone.
    """

    type: ClassVar[str] = "laurel.token_key.made.v1"

    kid: str
    public_key: str
    created_at: Instant
    ends_at: Instant


class AchievementPublished(Event, frozen=True, kw_only=True):
    """An achievement, or a new version of one, can be earned.

    achievement: the Open Badges 3.0 Achievement object as it will stand in credentials (`id` included).
    validity_days: how long a credential of it is valid; None: for ever.
    status_messages: for the purpose `message`, what its values from 0 on mean. status_reference: a page about them.
    securing, credential_type: how its credentials are secured (credential/securing.py), and their Open Badges type;
    None: as its issuer profile says.
    """

    type: ClassVar[str] = "laurel.achievement.published.v1"

    achievement_id: str
    version: int
    profile_id: str | None
    achievement: dict[str, Any]
    validity_days: int | None = None
    status_purposes: tuple[str, ...] = ("revocation",)
    status_messages: tuple[str, ...] = ()
    status_reference: str | None = None
    securing: tuple[str, ...] | None = None
    credential_type: str | None = None
    published_at: Instant


class AchievementRetired(Event, frozen=True, kw_only=True):
    """An achievement can no longer be earned; what was earned stays."""

    type: ClassVar[str] = "laurel.achievement.retired.v1"

    achievement_id: str
    version: int
    retired_at: Instant


class IssuerProfilePublished(Event, frozen=True, kw_only=True):
    """An issuer's public face and keys, whenever either changes. `version` only grows.

    did: the issuer's id, which is a DID or, with the identity "https", the address of its profile. profile: the Open
    Badges 3.0 Profile object; did_document: the DID document or controlled identifier document that lists its keys.
    securing: how its credentials are secured where an achievement does not say otherwise.
    """

    type: ClassVar[str] = "laurel.issuer_profile.published.v1"

    profile_id: str
    slug: str
    version: int
    did: str
    profile: dict[str, Any]
    did_document: dict[str, Any]
    identity: str = "did:web"
    securing: tuple[str, ...] = ("eddsa-rdfc-2022",)
    published_at: Instant


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """Who the credential is about, as it will stand in it: a DID, or a hashed identifier (OB 3.0 §IdentityObject)."""

    did: str | None = None
    identity_hash: str | None = None
    identity_type: str = "emailAddress"
    salt: str | None = None


class ResultValue(msgspec.Struct, frozen=True, kw_only=True):
    """One Open Badges 3.0 Result: `result_description` is the id of the achievement's ResultDescription."""

    value: str
    result_description: str | None = None


class AssessmentPassed(Event, frozen=True, kw_only=True):
    """A learner has earned an achievement; the issuer owes a credential with exactly this id.

    contact: sealed (laurel.security.seal) JSON {learner, email, name, locale}, for the notifier alone.
    """

    type: ClassVar[str] = "laurel.assessment.passed.v1"

    credential_id: str
    result_id: str
    achievement_id: str
    achievement_version: int
    award: int
    course_run: str | None = None
    recipient: Recipient
    results: tuple[ResultValue, ...] = ()
    evidence: tuple[str, ...] = ()
    contact: str | None = None
    locale: str | None = None
    achieved_at: Instant
    decided_at: Instant
    policy_version: int = 1


class LearnerErased(Event, frozen=True, kw_only=True):
    """A learner was erased, whose credential this was or would have been: one fact for each, behind its pass.

    erasure_id: what all of them have in common; nothing here says who it was.
    """

    type: ClassVar[str] = "laurel.learner.erased.v1"

    credential_id: str
    erasure_id: str
    erased_at: Instant


class CredentialIssued(Event, frozen=True, kw_only=True):
    """A credential was signed and stored. `document` is its exact bytes: nobody re-serialises it."""

    type: ClassVar[str] = "laurel.credential.issued.v1"

    credential_id: str
    result_id: str
    achievement_id: str
    achievement_name: str
    profile_id: str
    issuer: str
    course_run: str | None = None
    contact: str | None = None
    locale: str | None = None
    issued_at: Instant
    valid_from: Instant
    valid_until: Instant | None = None
    document: msgspec.Raw


class EndorsementIssued(Event, frozen=True, kw_only=True):
    """An EndorsementCredential was signed and stored. `document`: as of `credential.issued`.

    subject_id: the URL or DID of what is endorsed; subject_type: "Profile", "Achievement" or "Credential". Its status
    changes by `credential.status_changed`, as that of every credential.
    """

    type: ClassVar[str] = "laurel.endorsement.issued.v1"

    credential_id: str
    name: str
    subject_id: str
    subject_type: str
    profile_id: str
    issuer: str
    issued_at: Instant
    valid_until: Instant | None = None
    document: msgspec.Raw


class CredentialStatusChanged(Event, frozen=True, kw_only=True):
    """A credential was revoked, suspended or reinstated.

    `version` grows by one with each change of one credential, of whichever of the three kinds: what is told here,
    a refresh that is offered, a message.
    """

    type: ClassVar[str] = "laurel.credential.status_changed.v1"

    credential_id: str
    version: int
    status: Status
    reason: str
    changed_at: Instant


class CredentialRefreshOffered(Event, frozen=True, kw_only=True):
    """A newer credential may be had in place of this one, which stays as valid as it is. Never taken back.

    A type of its own, like the next: who knows only `status_changed` must not take it for a reinstatement.
    """

    type: ClassVar[str] = "laurel.credential.refresh_offered.v1"

    credential_id: str
    version: int
    reason: str
    changed_at: Instant


class CredentialMessageChanged(Event, frozen=True, kw_only=True):
    """Another of a credential's status messages holds; it takes nothing from its validity.

    value: of the entry in the status list; message: what the credential itself says that this value means.
    """

    type: ClassVar[str] = "laurel.credential.message_changed.v1"

    credential_id: str
    version: int
    value: int
    message: str
    reason: str
    changed_at: Instant


class CredentialErased(Event, frozen=True, kw_only=True):
    """Whoever keeps anything of this credential removes it, for ever: its learner was erased.

    version: of the `status_changed` that comes behind it and tells that the credential is revoked; 0: none comes,
    because it was revoked before or never issued.
    """

    type: ClassVar[str] = "laurel.credential.erased.v1"

    credential_id: str
    erasure_id: str
    version: int = 0
    erased_at: Instant


ALL: tuple[type[Event], ...] = (
    OrganisationCreated,
    ApiKeyCreated,
    ApiKeyRevoked,
    ApiKeyRotated,
    TokenKeyMade,
    AchievementPublished,
    AchievementRetired,
    IssuerProfilePublished,
    AssessmentPassed,
    LearnerErased,
    CredentialIssued,
    EndorsementIssued,
    CredentialStatusChanged,
    CredentialRefreshOffered,
    CredentialMessageChanged,
    CredentialErased,
)
