"""What the issuer decides, purely: what a credential says, whether its status may change, what a status list shows.

The way of one credential (the same numbers stand in handlers.py and signing.py):
 1. reserve: id, places in status lists, key, time and content are stored, before anything is signed;
 2. build: the document follows from the stored intent alone;
 3. lint: only what passes can be signed;
 4. sign;
 5. check our own signature, from the very bytes that will be stored;
 6. finish: the bytes and the event, in one transaction.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from laurel.credential import did, model, status
from laurel.credential.text import timestamp
from laurel.errors import Stuck
from laurel.events import AssessmentPassed, Status

Action = Literal["revoke", "suspend", "reinstate"]
Purpose = Literal["revocation", "suspension"]
KeyState = Literal["active", "retired", "compromised"]


class Inconsistent(Stuck):
    """What we stored contradicts itself, or our own signature is wrong: the process stops, nothing is guessed."""


# --- 1 and 2: what a credential says ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StatusPlace:
    """A place in a status list: the list's URL, the index in it, and what a set bit means."""

    list_url: str
    index: int
    purpose: str


@dataclass(frozen=True, slots=True)
class IssuerProfile:
    """The public face of an issuer, as it stands in credentials."""

    did: str
    name: str
    url: str
    email: str | None = None
    description: str | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Prerequisites:
    """What a reservation needs and what is known of it; None: not (yet) there."""

    achievement_id: str | None = None
    profile_id: str | None = None
    profile_version: int | None = None
    key_id: str | None = None
    status_purposes: tuple[str, ...] = ("revocation",)


def waits_for(known: Prerequisites) -> str | None:
    """What a passed assessment waits for, as a stable word; None: it can be issued now."""
    if known.achievement_id is None:
        return "achievement_unknown"
    if known.profile_id is None or known.profile_version is None:
        return "issuer_profile_unknown"
    if known.key_id is None:
        return "no_active_key"
    return None


def valid_until(created: datetime, validity_days: int | None) -> datetime | None:
    """When a credential expires: so many days of 24 hours after it was issued; None: never.

    A period that reaches beyond the year 9999 is none.
    """
    if validity_days is None:
        return None
    try:
        return created + timedelta(days=validity_days)
    except OverflowError:
        return None


def build_credential(
    passed: AssessmentPassed,
    *,
    document_url: str,
    created: datetime,
    definition: dict[str, Any],
    issuer: IssuerProfile,
    places: Sequence[StatusPlace],
    validity_days: int | None,
) -> dict[str, Any]:
    """The unsigned Open Badge of a passed assessment (step 2). Equal arguments give equal documents.

    definition: the Open Badges 3.0 Achievement object as published; it goes in unchanged, lint judges it.
    places: one for each status purpose; one alone becomes a single object, because the Open Badges 3.0 schema has
    credentialStatus [0..1] (ADR 0003).
    """
    entries = [status.status_entry(place.list_url, place.index, place.purpose) for place in places]
    recipient = passed.recipient
    hashed = recipient.identity_hash is not None
    document = model.build_open_badge(
        id=document_url,
        issuer=profile_model(issuer),
        achievement=model.Achievement(
            id=str(definition.get("id", "")),
            name=str(definition.get("name", "")),
            description=str(definition.get("description", "")),
        ),
        recipient=model.Recipient(
            id=recipient.did,
            identity=model.IdentityHash(
                hash=recipient.identity_hash or "", salt=recipient.salt or "", identity_type=recipient.identity_type
            )
            if hashed
            else None,
        ),
        valid_from=created,
        valid_until=valid_until(created, validity_days),
        awarded_date=passed.achieved_at,
        results=tuple(
            model.Result(value=one.value, result_description=one.result_description) for one in passed.results
        ),
        evidence=tuple(model.Evidence(id=url) for url in passed.evidence),
        status=entries[0] if len(entries) == 1 else entries,
    )
    document["credentialSubject"]["achievement"] = definition
    return document


class Varying(NamedTuple):
    """What the credentials of one achievement and issuer differ in. `values` stand at `varying_paths(shape)`."""

    shape: Shape
    values: list[str]


class Shape(NamedTuple):
    """Which properties a credential has, and those values of them that repeat."""

    expires: bool
    did: bool
    identity_type: str | None
    results: tuple[str | None, ...]
    evidence: int
    status: tuple[tuple[str, str], ...]


def varying(
    passed: AssessmentPassed,
    *,
    document_url: str,
    created: datetime,
    places: Sequence[StatusPlace],
    validity_days: int | None,
) -> Varying:
    """What `build_credential` would put into the varying places. An absent value is "", which no template accepts."""
    recipient = passed.recipient
    until = valid_until(created, validity_days)
    hashed = recipient.identity_hash is not None
    values = [document_url, _repeated_timestamp(created), timestamp(passed.achieved_at)]
    if until is not None:
        values.append(_repeated_timestamp(until))
    if recipient.did is not None:
        values.append(recipient.did)
    if hashed:
        values += recipient.identity_hash or "", recipient.salt or ""
    for one in passed.results:
        values.append(one.value)
    for place in places:
        values += f"{place.list_url}#{place.index}", str(place.index)
    values += passed.evidence
    shape = Shape(
        expires=until is not None,
        did=recipient.did is not None,
        identity_type=recipient.identity_type if hashed else None,
        results=tuple([one.result_description for one in passed.results]),
        evidence=len(passed.evidence),
        status=tuple([(place.list_url, place.purpose) for place in places]),
    )
    return Varying(shape, values)


_repeated_timestamp = functools.lru_cache(maxsize=64)(timestamp)  # a batch is created at one moment


def varying_paths(shape: Shape) -> list[tuple[str | int, ...]]:
    """Where in the document the values of `varying` stand."""
    subject = "credentialSubject"
    paths: list[tuple[str | int, ...]] = [("id",), ("validFrom",), ("awardedDate",)]
    if shape.expires:
        paths.append(("validUntil",))
    if shape.did:
        paths.append((subject, "id"))
    if shape.identity_type is not None:
        paths += (subject, "identifier", 0, "identityHash"), (subject, "identifier", 0, "salt")
    paths += [(subject, "result", number, "value") for number in range(len(shape.results))]
    for number in range(len(shape.status)):
        entry: tuple[str | int, ...] = ("credentialStatus",)
        if len(shape.status) > 1:
            entry = (*entry, number)
        paths += (*entry, "id"), (*entry, "statusListIndex")
    paths += [("evidence", number, "id") for number in range(shape.evidence)]
    return paths


# --- issuer profiles and keys -------------------------------------------------------------------------------


def profile_model(profile: IssuerProfile) -> model.Profile:
    """The profile as the credential model takes it."""
    return model.Profile(
        id=profile.did,
        name=profile.name,
        url=profile.url,
        email=profile.email,
        description=profile.description,
        image=profile.image,
    )


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of a profile, as the public may see it."""

    verification_method: str
    public_key_multibase: str
    state: str


def did_document(profile_did: str, keys: Iterable[PublicKey], *, profile_url: str) -> dict[str, Any]:
    """The profile's DID document: active and retired keys, so that old badges verify; never a compromised one."""
    return did.build_did_document(
        profile_did,
        [
            did.DidKey(
                key.verification_method.partition("#")[2], key.public_key_multibase, active=key.state == "active"
            )
            for key in keys
            if key.state != "compromised"
        ],
        also_known_as=[profile_url],
    )


# --- status -------------------------------------------------------------------------------------------------


class Refusal(NamedTuple):
    """Why a status can not change. `code` is stable."""

    code: str
    detail: str


_TARGET: dict[Action, Status] = {"revoke": "revoked", "suspend": "suspended", "reinstate": "active"}


def decide_status(current: Status, action: Action) -> Status | Refusal | None:
    """The new status; None: it is so already; or why not.

    active ⇄ suspended → revoked, active → revoked; revoked is final.
    """
    target = _TARGET[action]
    if target == current:
        return None
    if current == "revoked":
        return Refusal("revoked_is_final", f"a revoked credential stays revoked; it cannot be {target}")
    return target


def shows_bit(purpose: str, current: Status, *, has_suspension_entry: bool) -> bool:
    """Whether a list of `purpose` has the bit of a credential set.

    A credential whose only entry is for revocation sets that bit when it is suspended, too: foreign verifiers then
    refuse it, which is the safe side (ADR 0003).
    """
    if purpose == "suspension":
        return current == "suspended"
    return current == "revoked" or (current == "suspended" and not has_suspension_entry)


def list_bits(indexes: Iterable[int]) -> bytes:
    """The bits of a status list in which exactly `indexes` are set."""
    bits = bytearray(status.MINIMUM_ENTRIES // 8)
    for index in indexes:
        status.set_bit(bits, index)
    return bytes(bits)


def place_key(index_key: bytes, list_id: str) -> bytes:
    """The key that spreads the allocations of one list over its places."""
    return hashlib.blake2b(list_id.encode(), digest_size=32, key=index_key[:64], person=b"laurel-list").digest()


def places_from(allocated: int, count: int, key: bytes) -> list[int]:
    """The places of `count` allocations that follow `allocated` earlier ones: random-looking, never one twice."""
    return [status.permute(number, key, status.MINIMUM_ENTRIES) for number in range(allocated, allocated + count)]


def probe_credential(profile: IssuerProfile, now: datetime) -> dict[str, Any]:
    """A harmless badge of this issuer: what lint finds in its `/issuer` would spoil every credential."""
    return model.build_open_badge(
        id="urn:uuid:00000000-0000-8000-8000-000000000000",
        issuer=profile_model(profile),
        achievement=model.Achievement(
            id="urn:uuid:00000000-0000-8000-8000-000000000001",
            name="Probe",
            description="A badge that is never issued.",
            criteria_narrative="None can earn it.",
        ),
        recipient=model.Recipient(id="did:example:nobody"),
        valid_from=now,
    )
