"""Open Badges 3.0 credentials from plain values. Nothing is looked up, invented or dated here.

Build with the dataclasses below and `build_open_badge`; the result passes `lint.lint`, which alone makes it signable.
Text is expected in NFC; empty optional values leave their property out.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laurel.credential.contexts import (
    CREDENTIALS_V2,
    ENDORSEMENT_SCHEMA,
    OPEN_BADGES,
    OPEN_BADGES_EXTENSIONS,
    OPEN_BADGES_SCHEMA,
)
from laurel.credential.text import timestamp


@dataclass(frozen=True)
class Profile:
    """An issuer (or creator) profile. id: DID or URL. image: URL or data URI."""

    id: str
    name: str
    url: str | None = None
    email: str | None = None
    description: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Alignment:
    """A link to a skill or outcome in a framework. target_type: an Open Badges value ("CTDL", …) or "ext:…"."""

    target_name: str
    target_url: str
    target_type: str | None = None
    target_code: str | None = None
    target_framework: str | None = None
    target_description: str | None = None


@dataclass(frozen=True)
class ResultDescription:
    """What a result can be. result_type: "Percent", "RawScore", "LetterGrade", "Status", … or "ext:…"."""

    id: str
    name: str
    result_type: str
    value_min: str | None = None
    value_max: str | None = None
    required_value: str | None = None
    allowed_value: tuple[str, ...] = ()


@dataclass(frozen=True)
class Achievement:
    """What was achieved. At least one of criteria_narrative and criteria_id is needed. image: URL or data URI."""

    id: str
    name: str
    description: str
    criteria_narrative: str | None = None
    criteria_id: str | None = None
    achievement_type: str | None = None
    image: str | None = None
    image_caption: str | None = None
    tag: tuple[str, ...] = ()
    alignment: tuple[Alignment, ...] = ()
    result_description: tuple[ResultDescription, ...] = ()
    in_language: str | None = None
    creator: Profile | None = None
    human_code: str | None = None
    field_of_study: str | None = None
    version: str | None = None
    credits_available: float | None = None


@dataclass(frozen=True)
class Result:
    """One result of the learner. result_description: the id of a ResultDescription of the achievement."""

    value: str | None = None
    result_description: str | None = None
    status: str | None = None
    achieved_level: str | None = None


@dataclass(frozen=True)
class IdentityHash:
    """A hashed identifier of the learner: `hash` is made by `identity_hash`, salt is what it was made with."""

    hash: str
    salt: str
    identity_type: str = "emailAddress"


@dataclass(frozen=True)
class Recipient:
    """Who earned it: a DID or URL (`id`), or a hashed identifier, or both."""

    id: str | None = None
    identity: IdentityHash | None = None


@dataclass(frozen=True)
class Evidence:
    """Evidence of the achievement. id: its URL."""

    id: str | None = None
    name: str | None = None
    narrative: str | None = None
    description: str | None = None
    genre: str | None = None
    audience: str | None = None


def identity_hash(email: str, salt: str) -> str:
    """`identityHash` of an e-mail address: "sha256$" + hex(SHA-256(UTF-8(address + salt))) (OB 3.0, IdentityHash).

    The standard does not say how to write the address; verifiers hash what the learner types. Laurel trims it, puts it
    in NFC and lower-cases it, as backpacks do.
    """
    address = unicodedata.normalize("NFC", email.strip()).lower()
    return "sha256$" + hashlib.sha256((address + salt).encode("utf-8")).hexdigest()


def build_open_badge(
    *,
    id: str,  # noqa: A002 - the field's name
    issuer: Profile,
    achievement: Achievement,
    recipient: Recipient,
    valid_from: datetime,
    name: str | None = None,
    description: str | None = None,
    awarded_date: datetime | None = None,
    valid_until: datetime | None = None,
    results: tuple[Result, ...] = (),
    evidence: tuple[Evidence, ...] = (),
    status: dict[str, Any] | list[dict[str, Any]] | None = None,
    activity_start_date: datetime | None = None,
    activity_end_date: datetime | None = None,
    credits_earned: float | None = None,
    license_number: str | None = None,
    role: str | None = None,
    term: str | None = None,
    credential_type: str = "OpenBadgeCredential",
) -> dict[str, Any]:
    """An unsigned OpenBadgeCredential on VC Data Model 2.0.

    id: the credential's URL or URN. name: the achievement's name if left out. Datetimes are aware and written in UTC
    seconds. status: one entry of `status.status_entry`, or a list of them. credential_type: "OpenBadgeCredential" or
    "AchievementCredential", which the standard lets mean the same.
    """
    subject = _without_gaps(
        {
            "id": recipient.id,
            "type": ["AchievementSubject"],
            "identifier": [_identity(recipient.identity)] if recipient.identity else None,
            "activityStartDate": _time(activity_start_date),
            "activityEndDate": _time(activity_end_date),
            "creditsEarned": credits_earned,
            "licenseNumber": license_number,
            "role": role,
            "term": term,
            "achievement": _achievement(achievement, issuer.id),
            "result": [_result(result) for result in results],
        }
    )
    return _without_gaps(
        {
            "@context": [CREDENTIALS_V2, OPEN_BADGES, OPEN_BADGES_EXTENSIONS],
            "id": id,
            "type": ["VerifiableCredential", credential_type],
            "name": name or achievement.name,
            "description": description,
            "issuer": _profile(issuer),
            "validFrom": timestamp(valid_from),
            "validUntil": _time(valid_until),
            "awardedDate": _time(awarded_date),
            "credentialSubject": subject,
            "credentialStatus": status,
            "credentialSchema": [{"id": OPEN_BADGES_SCHEMA, "type": "1EdTechJsonSchemaValidator2019"}],
            "evidence": [_evidence(item) for item in evidence],
        }
    )


def build_endorsement(
    *,
    id: str,  # noqa: A002 - the field's name
    issuer: Profile,
    subject_id: str,
    comment: str,
    valid_from: datetime,
    name: str,
    valid_until: datetime | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """An unsigned EndorsementCredential (Open Badges 3.0 §B.1.8). subject_id: who or what is endorsed; comment:
    Markdown."""
    return _without_gaps(
        {
            "@context": [CREDENTIALS_V2, OPEN_BADGES, OPEN_BADGES_EXTENSIONS],
            "id": id,
            "type": ["VerifiableCredential", "EndorsementCredential"],
            "name": name,
            "issuer": _profile(issuer),
            "validFrom": timestamp(valid_from),
            "validUntil": _time(valid_until),
            "credentialSubject": {"id": subject_id, "type": ["EndorsementSubject"], "endorsementComment": comment},
            "credentialStatus": status,
            "credentialSchema": [{"id": ENDORSEMENT_SCHEMA, "type": "1EdTechJsonSchemaValidator2019"}],
        }
    )


def profile_document(profile: Profile) -> dict[str, Any]:
    """The issuer profile as a JSON-LD document of its own, as served at the profile's address."""
    return {"@context": [CREDENTIALS_V2, OPEN_BADGES], **_profile(profile)}


def achievement_document(achievement: Achievement) -> dict[str, Any]:
    """The achievement as a JSON-LD document of its own, as served at its `id`."""
    return {"@context": [CREDENTIALS_V2, OPEN_BADGES], **_achievement(achievement)}


def _without_gaps(properties: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if value is not None and value not in ([], "")}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def _image(url: str | None, caption: str | None = None) -> dict[str, Any] | None:
    return _without_gaps({"id": url, "type": "Image", "caption": caption}) if url else None


def _profile(profile: Profile) -> dict[str, Any]:
    return _without_gaps(
        {
            "id": profile.id,
            "type": ["Profile"],
            "name": profile.name,
            "url": profile.url,
            "email": profile.email,
            "description": profile.description,
            "image": _image(profile.image),
        }
    )


def _identity(identity: IdentityHash) -> dict[str, Any]:
    return _without_gaps(
        {
            "type": "IdentityObject",
            "hashed": True,
            "identityHash": identity.hash,
            "identityType": identity.identity_type,
            "salt": identity.salt,
        }
    )


def _creator(creator: Profile | None, issuer_id: str | None) -> dict[str, Any] | None:
    """The creator; only by reference where it is the issuer. One node described at two places of a document would let
    either copy be cut away under an RDF signature, because the statements are still there."""
    if creator is None:
        return None
    return {"id": creator.id, "type": ["Profile"]} if creator.id == issuer_id else _profile(creator)


def _achievement(achievement: Achievement, issuer_id: str | None = None) -> dict[str, Any]:
    return _without_gaps(
        {
            "id": achievement.id,
            "type": ["Achievement"],
            "achievementType": achievement.achievement_type,
            "name": achievement.name,
            "description": achievement.description,
            "criteria": _without_gaps({"id": achievement.criteria_id, "narrative": achievement.criteria_narrative}),
            "image": _image(achievement.image, achievement.image_caption),
            "tag": list(achievement.tag),
            "alignment": [_alignment(alignment) for alignment in achievement.alignment],
            "resultDescription": [_result_description(item) for item in achievement.result_description],
            "inLanguage": achievement.in_language,
            "humanCode": achievement.human_code,
            "fieldOfStudy": achievement.field_of_study,
            "version": achievement.version,
            "creditsAvailable": achievement.credits_available,
            "creator": _creator(achievement.creator, issuer_id),
        }
    )


def _alignment(alignment: Alignment) -> dict[str, Any]:
    return _without_gaps(
        {
            "type": ["Alignment"],
            "targetName": alignment.target_name,
            "targetUrl": alignment.target_url,
            "targetType": alignment.target_type,
            "targetCode": alignment.target_code,
            "targetFramework": alignment.target_framework,
            "targetDescription": alignment.target_description,
        }
    )


def _result_description(item: ResultDescription) -> dict[str, Any]:
    return _without_gaps(
        {
            "id": item.id,
            "type": ["ResultDescription"],
            "name": item.name,
            "resultType": item.result_type,
            "valueMin": item.value_min,
            "valueMax": item.value_max,
            "requiredValue": item.required_value,
            "allowedValue": list(item.allowed_value),
        }
    )


def _result(result: Result) -> dict[str, Any]:
    return _without_gaps(
        {
            "type": ["Result"],
            "resultDescription": result.result_description,
            "value": result.value,
            "status": result.status,
            "achievedLevel": result.achieved_level,
        }
    )


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return _without_gaps(
        {
            "id": evidence.id,
            "type": ["Evidence"],
            "name": evidence.name,
            "narrative": evidence.narrative,
            "description": evidence.description,
            "genre": evidence.genre,
            "audience": evidence.audience,
        }
    )
