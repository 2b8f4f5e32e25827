"""What the API answers, as documented in its OpenAPI page. Tests hold the real answers against these."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
StatusWord = Literal["active", "suspended", "revoked"]


class Shape(BaseModel):
    """An answer; nothing is in it that is not named here."""

    model_config = ConfigDict(extra="forbid")


class Page(Shape, Generic[T]):
    """A page of a list."""

    items: list[T]
    next: str | None = Field(description="Give it as `after` for the next page; null: this is the last.")


class SecretTimes(Shape):
    """A secret of an API key that works: from when and until when. Itself it is told nowhere."""

    state: Literal["current", "previous"]
    since: datetime | None
    until: datetime | None


class ApiKey(Shape):
    """An API key, without its secrets."""

    key_id: str
    scopes: list[str]
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(
        description="To the hour, in this service; the others' are at GET /<service>/v1/api-keys/use."
    )
    secrets: list[SecretTimes] = Field(description="The current one, and older ones that still work.")


class CreatedApiKey(Shape):
    """An API key that was just made."""

    key_id: str
    text: str = Field(description="The key itself, shown this once: send it as `Authorization: Bearer …`.")
    scopes: list[str]
    label: str
    created_at: datetime
    expires_at: datetime | None


class RotatedApiKey(CreatedApiKey):
    """An API key that has another secret now."""

    rotated_at: datetime
    previous_until: datetime | None = Field(description="When the last of the older secrets stops; null: they have.")


class Organisation(Shape):
    """A tenant."""

    tenant_id: str
    slug: str
    name: str
    created_at: datetime


class CreatedOrganisation(Organisation):
    """A tenant that was just made, with its first key."""

    api_key: CreatedApiKey


class Profile(Shape):
    """An issuer profile. did: the issuer's id, in whatever form `identity` says.

    version: grows with every change of the profile or its keys.
    """

    profile_id: str
    slug: str
    did: str
    identity: Literal["did:web", "did:key", "https"]
    name: str
    url: str
    email: str | None
    description: str | None
    image: str | None
    securing: list[str]
    credential_type: Literal["OpenBadgeCredential", "AchievementCredential"]
    version: int
    created_at: datetime
    updated_at: datetime


class SigningKey(Shape):
    """A signing key's public side. An RSA key stands in the published document as JsonWebKey; as a Multikey here."""

    key_id: str
    key_type: Literal["Ed25519", "P-256", "P-384", "RSA"]
    verification_method: str
    public_key_multibase: str
    state: Literal["active", "retired", "compromised"]
    created_at: datetime
    ended_at: datetime | None


class Compromised(Shape):
    """A key that was taken out."""

    key_id: str
    state: Literal["compromised"]


class Credential(Shape):
    """A credential, without its document."""

    credential_id: UUID
    achievement_id: str
    achievement_version: int
    profile_id: str
    course_run: str | None
    status: StatusWord
    status_reason: str | None
    status_version: int = Field(description="How often its status, refresh or message has changed.")
    status_changed_at: datetime | None
    issued_at: datetime
    valid_until: datetime | None


class Change(Shape):
    """One change. key_id: the API key that asked for it."""

    version: int
    change: Literal["status", "refresh", "message"]
    status: StatusWord = Field(description="From then on; a refresh or a message leaves it as it was.")
    message: int | None = Field(description="Where the message changed: its value from then on.")
    reason: str
    key_id: str
    changed_at: datetime


class FullCredential(Credential):
    """A credential with its exact document and its history."""

    result_id: str
    refresh: bool | None = Field(description="Whether a newer one is offered; null: it has no such status entry.")
    message: int | None = Field(description="The value of its message; null: it has no such status entry.")
    status_changes: list[Change]
    erased_at: datetime | None = Field(description="When its learner was erased: its document is gone.")
    document: dict[str, Any] | str | None = Field(
        description="A JSON object; a string where it is a JSON Web Token; null: its learner was erased."
    )


class EndorsementSubject(Shape):
    """Who or what is endorsed."""

    id: str
    type: Literal["Profile", "Achievement", "Credential"]


class Endorsement(Shape):
    """An endorsement, without its document. url: its public page."""

    credential_id: UUID
    url: str
    profile_id: str
    name: str
    subject: EndorsementSubject
    endorsement_comment: str
    status: StatusWord
    status_reason: str | None
    status_version: int
    issued_at: datetime
    valid_until: datetime | None


class FullEndorsement(Endorsement):
    """An endorsement with its exact document."""

    document: dict[str, Any] | str = Field(description="A JSON object; a string where it is a JSON Web Token.")


class Outcome(Shape):
    """The status after the call. changed: false when it was so already."""

    credential_id: UUID
    status: StatusWord
    version: int
    changed: bool


class Refused(Shape):
    """A credential whose status cannot change like this."""

    credential_id: UUID
    code: str
    detail: str


class ChangeReport(Shape):
    """What a change by query came to; matched + not_found = changed + unchanged + refused_total."""

    matched: int
    changed: int
    unchanged: int
    not_found: int = Field(description="Ids of `credential_ids` that this organisation does not have; all refused.")
    refused: list[Refused] = Field(description="The first 10,000 of them.")
    refused_total: int


class Counts(Shape):
    """Passed assessments that reached the issuer: issued + erased + reserved + waiting + dead_lettered."""

    issued: int
    erased: int = Field(description="Learners erased; of one course run: those that had been issued.")
    revoked: int = Field(description="Among the issued.")
    suspended: int = Field(description="Among the issued.")
    reserved: int = Field(description="Reserved and not yet finished.")
    waiting: int = Field(description="Parked until their achievement, profile or key is there.")
    waiting_for: dict[str, int]
    dead_lettered: int
    unsent: int = Field(description="Events in the outbox, of all course runs; 0 when asked for one run.")


class Waiting(Shape):
    """A credential that is owed and not issued yet. reason: what it waits for, or `reserved`: it is being issued."""

    credential_id: UUID
    reason: str


class Reconciliation(Shape):
    """Where everything stands."""

    service: Literal["issuer"]
    counts: Counts


# --- public documents: the standards' own shapes, and what Laurel puts into them --------------------------------

_TEXT = {"type": "string"}
_LIST_OF_TEXT = {"type": "array", "items": _TEXT}


def _object(title: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "title": title, "required": required, "properties": properties}


OPEN_PROFILE = _object(
    "Open Badges 3.0 Profile", ["@context", "id", "type", "name", "url"],
    **{"@context": _LIST_OF_TEXT}, id=_TEXT, type=_LIST_OF_TEXT, name=_TEXT, url=_TEXT, email=_TEXT, description=_TEXT,
    image={"type": "object"},
)  # fmt: skip
DID_DOCUMENT = _object(
    "DID document", ["@context", "id", "verificationMethod", "assertionMethod"],
    **{"@context": _LIST_OF_TEXT}, id=_TEXT, alsoKnownAs=_LIST_OF_TEXT, assertionMethod=_LIST_OF_TEXT,
    verificationMethod={
        "type": "array",
        "items": _object(
            "Multikey or JsonWebKey", ["id", "type", "controller"], id=_TEXT, type=_TEXT, controller=_TEXT,
            publicKeyMultibase=_TEXT, publicKeyJwk={"type": "object"},
        ),
    },
)  # fmt: skip
JWK_SET = _object("JWK Set", ["keys"], keys={"type": "array", "items": {"type": "object"}})
STATUS_LIST = _object(
    "BitstringStatusListCredential", ["@context", "id", "type", "issuer", "validFrom", "credentialSubject", "proof"],
    **{"@context": _LIST_OF_TEXT}, id=_TEXT, type=_LIST_OF_TEXT, issuer=_TEXT, validFrom=_TEXT,
    credentialSubject=_object(
        "BitstringStatusList", ["type", "statusPurpose", "encodedList"], id=_TEXT, type=_TEXT, statusPurpose=_TEXT,
        encodedList=_TEXT, ttl={"type": "integer"},
    ),
    validUntil=_TEXT,
    proof={"type": "object"},
)  # fmt: skip
