"""The rules of `lint` for Open Badges 3.0; see `lint_rules` for their form."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from typing import Any

from laurel.credential import contexts, schema
from laurel.credential import images as pictures
from laurel.credential.lint_rules import Finding, Path, Subject, error, objects_at, types_of, warning
from laurel.credential.text import is_did, is_web_url

_IDENTITY_HASH = re.compile(r"(sha256\$[0-9a-fA-F]{64}|md5\$[0-9a-fA-F]{32})").fullmatch
_DATA_IMAGE = re.compile(r"data:image/(png|svg\+xml)(?:;charset=utf-8)?;base64,([A-Za-z0-9+/]+={0,2})").fullmatch
_LANGUAGE = re.compile(r"[a-z]{2,4}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?").fullmatch


def open_badge_type(subject: Subject) -> Iterator[Finding]:
    types = types_of(subject.document)
    clause = "Open Badges 3.0, AchievementCredential type"
    if "VerifiableCredential" not in types:
        yield error("open-badge-type", ("type",), "VerifiableCredential is missing", clause)
    if not {"OpenBadgeCredential", "AchievementCredential"} & {one for one in types if isinstance(one, str)}:
        message = "OpenBadgeCredential is missing (AchievementCredential means the same)"
        yield error("open-badge-type", ("type",), message, clause)


def open_badge_schema(subject: Subject) -> Iterator[Finding]:
    clause = "Open Badges 3.0, JSON Schema (ob_v3p0_achievementcredential_schema.json)"
    document = subject.document
    entries = document.get("credentialStatus")
    if isinstance(entries, list) and entries:
        # VC Data Model 2.0 §4.10 allows several entries; the schema of 1EdTech knows one. `status_entry` checks each.
        document = {**document, "credentialStatus": entries[0]}
    for found in schema.open_badge_findings(document):
        yield Finding("open-badge-schema", "error", found.pointer, found.message, clause)


def credential_schema(subject: Subject) -> Iterator[Finding]:
    entries = [entry for _, entry in objects_at(subject.document, "credentialSchema", ())]
    if {"id": contexts.OPEN_BADGES_SCHEMA, "type": "1EdTechJsonSchemaValidator2019"} not in entries:
        message = "no credentialSchema names the Open Badges schema with the type 1EdTechJsonSchemaValidator2019"
        yield error("credential-schema", ("credentialSchema",), message, "Open Badges 3.0, CredentialSchema")


def achievement_complete(subject: Subject) -> Iterator[Finding]:
    clause = "Open Badges 3.0, Achievement and Criteria"
    found = False
    for path, achievement, _ in subject.achievements():
        found = True
        for name in ("name", "description"):
            if not isinstance(achievement.get(name), str) or not achievement[name].strip():
                yield error("achievement-complete", (*path, name), f"the achievement has no {name}", clause)
        criteria = achievement.get("criteria")
        if not isinstance(criteria, dict) or not (criteria.get("id") or criteria.get("narrative")):
            message = "the criteria have neither a narrative nor an id; nobody can see what was asked of the learner"
            yield error("achievement-complete", (*path, "criteria"), message, clause)
    if not found:
        yield error("achievement-complete", ("credentialSubject",), "there is no achievement", clause)
    if not isinstance(subject.document.get("name"), str):
        yield warning("achievement-complete", ("name",), "the credential has no name; wallets show one", clause)


def recipient(subject: Subject) -> Iterator[Finding]:
    """Who earned it is said, in a form that verifiers can check, and without a readable address."""
    clause = "Open Badges 3.0, AchievementSubject and IdentityObject (IdentityHash)"
    for path, node in subject.subjects():
        identities = list(objects_at(node, "identifier", path))
        if not node.get("id") and not identities:
            yield error("recipient", path, "the learner has neither an id nor an identifier", clause)
        learner = node.get("id")
        if isinstance(learner, str) and learner.startswith("did:") and not is_did(learner):
            yield error("recipient", (*path, "id"), "the learner's id is no DID; a did:key must hold a key", clause)
        for inner, identity in identities:
            value = identity.get("identityHash")
            if identity.get("hashed") is not True:
                message = "the identifier is not hashed; it would publish who the learner is"
                yield error("recipient", (*inner, "hashed"), message, clause)
            elif not isinstance(value, str) or not _IDENTITY_HASH(value):
                message = "identityHash is not 'sha256$' and 64 (or 'md5$' and 32) hexadecimal digits"
                yield error("recipient", (*inner, "identityHash"), message, clause)
            elif value.startswith("md5"):
                yield warning("recipient", (*inner, "identityHash"), "MD5 is easily reversed; use sha256", clause)
            if not identity.get("salt"):
                yield warning("recipient", inner, "no salt; the address can be guessed from its hash", clause)


def images(subject: Subject) -> Iterator[Finding]:
    clause = "Open Badges 3.0, Image (PNG or SVG; URL or data URI)"
    for path, name, value in subject.values:
        if name != "image" or isinstance(value, list):
            continue
        url = value.get("id") if isinstance(value, dict) else value
        where = (*path, "id") if isinstance(value, dict) else path
        if not isinstance(url, str) or not (is_web_url(url) or url.startswith("data:")):
            yield error("images", where, "the image is neither an http(s) URL nor a data URI", clause)
        elif url.startswith("data:") and (wrong := _wrong_image(url)):
            yield error("images", where, wrong, clause)


def _wrong_image(url: str) -> str | None:
    wrong = "the data URI is not a base64 PNG or SVG image"
    match = _DATA_IMAGE(url)
    if match is None:
        return wrong
    try:
        content = base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return wrong
    if match[1] == "png":
        return None if content.startswith(b"\x89PNG\r\n\x1a\n") else wrong
    try:
        pictures.check_svg(content)
    except pictures.BadImage as bad:
        return bad.detail
    return None


def alignments(subject: Subject) -> Iterator[Finding]:
    for path, name, value in subject.strings:
        if name == "targetUrl" and not is_web_url(value):
            message = f"{value!r} is not an absolute http(s) URL"
            yield error("alignments", path, message, "Open Badges 3.0, Alignment targetUrl")


def languages(subject: Subject) -> Iterator[Finding]:
    for path, name, value in subject.strings:
        if name == "inLanguage" and not _LANGUAGE(value):
            message = f"{value!r} is not a language tag like 'en', 'pt-BR' or 'zh-Hant-TW'"
            yield error("languages", path, message, "Open Badges 3.0, LanguageCode; BCP 47")


def results(subject: Subject) -> Iterator[Finding]:
    """A result refers to a description of its own achievement and keeps to its range."""
    clause = "Open Badges 3.0, Result and ResultDescription"
    for path, achievement, node in subject.achievements():
        described = result_descriptions(achievement)
        for inner, result in objects_at(node, "result", path[:-1]):
            reference, value = result.get("resultDescription"), result.get("value")
            if reference is None:
                continue
            if str(reference) not in described:
                message = f"{reference!r} is not a resultDescription of the achievement"
                yield error("results", (*inner, "resultDescription"), message, clause)
                continue
            yield from value_in_range(described[str(reference)], value, (*inner, "value"), clause)


def result_descriptions(achievement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The achievement's result descriptions by their id."""
    return {str(item.get("id")): item for _, item in objects_at(achievement, "resultDescription", ())}


def value_in_range(description: dict[str, Any], value: Any, path: Path, clause: str) -> Iterator[Finding]:
    allowed = description.get("allowedValue")
    if isinstance(allowed, list) and value is not None and value not in allowed:
        yield error("results", path, f"{value!r} is not among the allowed values", clause)
    number = _number(value)
    if number is None:
        return
    lowest, highest = _number(description.get("valueMin")), _number(description.get("valueMax"))
    if lowest is not None and number < lowest:
        yield error("results", path, f"{value!r} is below valueMin {description['valueMin']!r}", clause)
    if highest is not None and number > highest:
        yield error("results", path, f"{value!r} is above valueMax {description['valueMax']!r}", clause)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
