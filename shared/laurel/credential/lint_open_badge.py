"""The rules of `lint` for Open Badges 3.0: types, profiles, the learner, evidence, endorsements, the schema itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from laurel.addresses import is_address
from laurel.credential import contexts, schema
from laurel.credential.lint_rules import Found, Path, Subject, is_identifier, objects_at, steps, types_of
from laurel.credential.multibase import MultibaseError, base64url_decode
from laurel.credential.text import is_did, is_web_url

SCHEMA_TYPE = "1EdTechJsonSchemaValidator2019"
ACHIEVEMENT_TYPES = frozenset({"OpenBadgeCredential", "AchievementCredential"})
SHA256_IDENTITY = re.compile(r"sha256\$[0-9a-fA-F]{64}").fullmatch
_MD5_IDENTITY = re.compile(r"md5\$[0-9a-fA-F]{32}").fullmatch
_PHONE = re.compile(r"(?:tel:)?\+?[0-9(][0-9 ()./-]{3,30}(?:(?:;ext=|\s?(?:x|ext\.?)\s?)[0-9]{1,8})?").fullmatch
_COUNTRY = re.compile(r"[A-Z]{2}").fullmatch
_EVIDENCE_DATA = re.compile(r"data:(image/(png|svg\+xml|jpeg|webp)|application/pdf|text/plain)[;,]").match


def types(subject: Subject) -> Iterator[Found]:
    listed = types_of(subject.document)
    if "VerifiableCredential" not in listed:
        yield ("type",), "VerifiableCredential is missing"
    if subject.endorsement and "EndorsementCredential" not in listed:
        yield ("type",), "EndorsementCredential is missing"
    if not subject.endorsement and not any(one in listed for one in ACHIEVEMENT_TYPES):
        yield ("type",), "OpenBadgeCredential is missing (AchievementCredential means the same)"
    for index, one in enumerate(listed):
        if one in listed[:index]:
            yield ("type", index), f"{one!r} stands twice in a set"


def json_schema(subject: Subject) -> Iterator[Found]:
    """The schema as 1EdTech publishes it; what another rule said of the same place is not said again."""
    document = subject.document
    entries = document.get("credentialStatus")
    if isinstance(entries, list) and entries:
        # VC Data Model 2.0 §4.10 allows several entries; the schema of 1EdTech knows one. `status_entries` checks each.
        document = {**document, "credentialStatus": entries[0]}
    for found in schema.open_badge_findings(document, _schema_url(subject)):
        if not subject.is_told(found.pointer):
            yield steps(found.pointer), found.message


def credential_schema(subject: Subject) -> Iterator[Found]:
    entries = [entry for _, entry in objects_at(subject.document, "credentialSchema", ())]
    if {"id": _schema_url(subject), "type": SCHEMA_TYPE} not in entries:
        yield ("credentialSchema",), f"no credentialSchema names the schema of 1EdTech with the type {SCHEMA_TYPE}"


def _schema_url(subject: Subject) -> str:
    return contexts.ENDORSEMENT_SCHEMA if subject.endorsement else contexts.OPEN_BADGES_SCHEMA


def credential_name(subject: Subject) -> Iterator[Found]:
    if not isinstance(subject.document.get("name"), str):
        yield ("name",), "the credential has no name; wallets show one"


# --- profiles --------------------------------------------------------------------------------------------------------


def issuer_profile(subject: Subject) -> Iterator[Found]:
    issuer = subject.document.get("issuer")
    if isinstance(issuer, str):
        yield ("issuer",), "the issuer is an id alone; wallets show no name"
    elif isinstance(issuer, dict) and not isinstance(issuer.get("name"), str):
        yield ("issuer", "name"), "the issuer has no name; wallets show one"


def contacts(subject: Subject) -> Iterator[Found]:
    """Addresses of profiles that lead somewhere: web, mail, telephone, post, map."""
    forms = (
        ("url", is_web_url, "an absolute http(s) URL"),
        ("email", is_address, "an e-mail address"),
        ("phone", _PHONE, "a telephone number"),
        ("addressCountryCode", _COUNTRY, "a country code of two capital letters"),
    )
    for name, is_one, what in forms:
        for path, value in subject.named(name):
            if isinstance(value, str) and not is_one(value):
                yield path, f"{value!r} is not {what}"
    for name, most in (("latitude", 90), ("longitude", 180)):
        for path, value in subject.named(name):
            if isinstance(value, int | float) and not -most <= value <= most:
                yield path, f"'{value}' is not between -{most} and {most} degrees"


# --- the learner -----------------------------------------------------------------------------------------------------


def recipient(subject: Subject) -> Iterator[Found]:
    """Who earned it is said, in a form that verifiers can check and that publishes no address."""
    for path, node in subject.subjects():
        learner = node.get("id")
        if not learner and not any(objects_at(node, "identifier", path)):
            yield path, "the learner has neither an id nor an identifier"
        if isinstance(learner, str):
            if learner.startswith("did:key:") and is_identifier(learner) and not is_did(learner):
                yield (*path, "id"), "the learner's did:key holds no key"
            elif learner.lower().startswith(("mailto:", "tel:")):
                yield (*path, "id"), "the learner's id is an address that everybody could read"


def self_awarded(subject: Subject) -> Iterator[Found]:
    for path, node in subject.subjects():
        if node.get("id") == subject.issuer_id != "":
            yield (*path, "id"), "the issuer awards it to itself"


def identity_hash(subject: Subject) -> Iterator[Found]:
    """Hashed identifiers are hashes: an address with `hashed: true` would be published."""
    for inner, identity in _identities(subject):
        value = identity.get("identityHash")
        if identity.get("hashed") is not True:
            yield (*inner, "hashed"), "the identifier is not hashed; it would publish who the learner is"
        elif not isinstance(value, str) or not (SHA256_IDENTITY(value) or _MD5_IDENTITY(value)):
            yield (*inner, "identityHash"), "identityHash is not 'sha256$' and 64 hexadecimal digits"


def identity_salt(subject: Subject) -> Iterator[Found]:
    """Addresses are few: without a salt, or under MD5, they are found by trying."""
    for inner, identity in _identities(subject):
        if str(identity.get("identityHash")).startswith("md5$"):
            yield (*inner, "identityHash"), "MD5 is easily reversed"
        if not identity.get("salt"):
            yield (*inner, "salt"), "no salt; the address can be guessed from its hash"


def _identities(subject: Subject) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path, node in subject.subjects():
        yield from objects_at(node, "identifier", path)


def evidence(subject: Subject) -> Iterator[Found]:
    """Evidence can be looked at: a web page, a harmless file in a data URI, or words."""
    for path, node in objects_at(subject.document, "evidence", ()):
        url = node.get("id")
        if isinstance(url, str) and not _is_shown(url):
            yield (*path, "id"), f"{url[:80]!r} is neither an http(s) URL nor a data URI of a picture, PDF or text"
        if not any(node.get(name) for name in ("id", "name", "narrative", "description")):
            yield path, "the evidence shows nothing"


def _is_shown(url: str) -> bool:
    # An id that is not absolute is told by absolute-ids.
    return bool(_EVIDENCE_DATA(url)) if url.startswith("data:") else is_web_url(url) or not is_identifier(url)


# --- endorsements ----------------------------------------------------------------------------------------------------


def endorsement_complete(subject: Subject) -> Iterator[Found]:
    """An endorsement says what it endorses, and what it says about it."""
    nodes = list(subject.subjects())
    if not nodes:
        yield ("credentialSubject",), "there is no credentialSubject"
    for path, node in nodes:
        if not isinstance(node.get("id"), str):
            yield (*path, "id"), "nothing says who or what is endorsed"
        if "EndorsementSubject" not in types_of(node):
            yield (*path, "type"), "the subject is not an EndorsementSubject"
        comment = node.get("endorsementComment")
        if not isinstance(comment, str) or not comment.strip():
            yield (*path, "endorsementComment"), "the endorsement says nothing"


def endorsement_target(subject: Subject) -> Iterator[Found]:
    """An endorsement that stands in a node endorses that node."""
    for path, parent, _ in _with_endorsement(subject):
        for inner, entry in objects_at(parent, "endorsement", path):
            for place, node in objects_at(entry, "credentialSubject", inner):
                if node.get("id") != parent.get("id"):
                    yield (*place, "id"), f"it endorses {node.get('id')!r}, not what it stands in"


def _with_endorsement(subject: Subject) -> Iterator[tuple[Path, dict[str, Any], Any]]:
    for path, _, value in subject.values:
        if isinstance(value, dict) and "endorsement" in value:
            yield path, value, value["endorsement"]


def endorsement_jwt(subject: Subject) -> Iterator[Found]:
    """Three base64url parts, of which the first two are JSON objects, signed by some algorithm."""
    for path, value in subject.named("endorsementJwt"):
        if not isinstance(value, str):
            continue
        try:
            header, payload, signature = value.split(".")
            parts = [json.loads(base64url_decode(part)) for part in (header, payload)]
        except (ValueError, MultibaseError, RecursionError):
            yield path, "the endorsement is not a compact JWS"
            continue
        if not all(isinstance(part, dict) for part in parts) or parts[0].get("alg", "none") == "none" or not signature:
            yield path, "the endorsement is not a signed JWT"
