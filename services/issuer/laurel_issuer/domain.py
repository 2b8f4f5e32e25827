"""What the issuer decides, purely: what a credential says, and what its issuer publishes. Its status: standing.py.

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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from laurel.credential import did, model, status
from laurel.credential.multikey import KeyType
from laurel.credential.securing import DEFAULT, key_types, ways
from laurel.credential.text import timestamp
from laurel.errors import Stuck
from laurel.events import AssessmentPassed

Identity = Literal["did:web", "did:key", "https"]
CredentialType = Literal["OpenBadgeCredential", "AchievementCredential"]


class Inconsistent(Stuck):
    """What we stored contradicts itself, or our own signature is wrong: the process stops, nothing is guessed."""


# --- 1 and 2: what a credential says ------------------------------------------------------------------------


class StatusPlace(msgspec.Struct, frozen=True, gc=False):
    """A place in a status list: the list's URL, the index in it, and what is told there.

    messages: what its values from 0 on mean; none: a bit that is set or not. reference: a page about them.
    """

    list_url: str
    list_index: int
    purpose: str
    messages: tuple[str, ...] = ()
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class IssuerProfile:
    """The public face of an issuer, as it stands in credentials. did: its id: a DID, or its https address."""

    did: str
    name: str
    url: str
    email: str | None = None
    description: str | None = None
    image: str | None = None


@dataclass(frozen=True)
class Prerequisites:
    """What a reservation needs and what is known of it; None: not (yet) there.

    securing: how the credential is to be secured; profile_securing: how the profile's are by default. keys: the ids of
    the profile's active keys by their kind; kinds_made: of which there ever was one. new_kinds: whether the profile can
    be given keys of other kinds, which one whose id is its key cannot.
    """

    achievement_id: str | None = None
    profile_id: str | None = None
    profile_version: int | None = None
    securing: tuple[str, ...] = DEFAULT
    profile_securing: tuple[str, ...] = DEFAULT
    keys: Mapping[KeyType, str] = field(default_factory=dict)
    kinds_made: frozenset[KeyType] = frozenset()
    new_kinds: bool = True
    status_purposes: tuple[str, ...] = ("revocation",)
    status_messages: tuple[str, ...] = ()

    @functools.cached_property
    def key_ids(self) -> tuple[str, ...]:
        """The keys that sign the credential, one for each way. Raises KeyError where one is not there."""
        return tuple(self.keys[way.key_type] for way in ways(self.securing))


def waits_for(known: Prerequisites) -> str | None:
    """What a passed assessment waits for, as a stable word; None: it can be issued now."""
    if known.achievement_id is None:
        return "achievement_unknown"
    if known.profile_id is None or known.profile_version is None:
        return "issuer_profile_unknown"
    if not set(key_types(known.securing, known.profile_securing)) <= known.keys.keys():
        return "no_active_key"
    return None


def kinds_to_make(known: Prerequisites) -> tuple[KeyType, ...]:
    """The kinds of keys that are made now because this credential is the first that needs them.

    The profile's very first key is its owner's to make; so is one after a compromise.
    """
    if known.profile_id is None or not known.kinds_made or not known.new_kinds:
        return ()
    needed = key_types(known.securing, known.profile_securing)
    return tuple(kind for kind in needed if kind not in known.kinds_made)


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
    credential_type: str = "OpenBadgeCredential",
) -> dict[str, Any]:
    """The unsigned Open Badge of a passed assessment (step 2). Equal arguments give equal documents.

    definition: the Open Badges 3.0 Achievement object as published; it goes in unchanged, lint judges it.
    places: one for each status purpose; one alone becomes a single object, because the Open Badges 3.0 schema has
    credentialStatus [0..1] (ADR 0003).
    """
    entries = [
        status.status_entry(place.list_url, place.list_index, place.purpose, place.messages, place.reference)
        for place in places
    ]
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
        credential_type=credential_type,
    )
    document["credentialSubject"]["achievement"] = definition
    return document


class Varying(msgspec.Struct, frozen=True, gc=False):
    """What the credentials of one achievement and issuer differ in. `values` stand at `varying_paths(shape)`."""

    shape: Shape
    values: list[str]


class Shape(msgspec.Struct, frozen=True, gc=False):
    """Which properties a credential has, and those values of them that repeat."""

    expires: bool
    did: bool
    identity_type: str | None
    results: tuple[str | None, ...]
    evidence: int
    status: tuple[tuple[str, str, tuple[str, ...], str | None], ...]


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
        values += f"{place.list_url}#{place.list_index}", str(place.list_index)
    values += passed.evidence
    shape = Shape(
        expires=until is not None,
        did=recipient.did is not None,
        identity_type=recipient.identity_type if hashed else None,
        results=tuple([one.result_description for one in passed.results]),
        evidence=len(passed.evidence),
        status=tuple([(place.list_url, place.purpose, place.messages, place.reference) for place in places]),
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


class IssuerDocuments(NamedTuple):
    """profile: as served at the profile's address; controller: the document that lists its keys, under its id."""

    profile: dict[str, Any]
    controller: dict[str, Any]


def issuer_documents(profile: IssuerProfile, keys: Iterable[PublicKey], *, profile_url: str) -> IssuerDocuments:
    """What an issuer publishes: active and retired keys, so that old badges verify; never a compromised one.

    An https issuer id is the address of the profile, so that there both documents are one (Controlled Identifiers 1.0
    §2.1; Open Badges 3.0, Profile).
    """
    shown = [
        did.DidKey(key.verification_method.partition("#")[2], key.public_key_multibase, active=key.state == "active")
        for key in keys
        if key.state != "compromised"
    ]
    document = model.profile_document(profile_model(profile))
    if profile.did.startswith("did:"):
        return IssuerDocuments(document, did.build_did_document(profile.did, shown, also_known_as=[profile_url]))
    controller = did.build_controlled_identifier_document(profile.did, shown)
    keys_of_it = {name: controller[name] for name in ("verificationMethod", "assertionMethod")}
    return IssuerDocuments(
        {**document, "@context": [*document["@context"], *controller["@context"]], **keys_of_it}, controller
    )


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
