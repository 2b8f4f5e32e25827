"""The W3C Verifiable Credentials Data Model 2.0 (and 1.1): which credentials and presentations conform, and why not.

`credential_findings` and `presentation_findings` answer with what is wrong, each finding with the name of its rule and
its clause; nothing found means that the document conforms. What an issuer may sign beyond that is lint's to say
(profile "vcdm" for these rules alone), whether a signature is true is `proofs`'.

Section numbers are those of Data Model 2.0 unless a finding says 1.1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from laurel.credential import contexts, jsonld, multibase
from laurel.credential.lint_rules import Checker, Finding, Path, Subject, error, objects_at, plain_json_findings
from laurel.credential.text import is_web_url, parse_timestamp, pointer

ENVELOPED_CREDENTIAL = "EnvelopedVerifiableCredential"
ENVELOPED_PRESENTATION = "EnvelopedVerifiablePresentation"
MAX_CREDENTIALS = 32  # of one presentation; each costs what a credential costs

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>\"{}|^`\\\x7f]+").fullmatch  # RFC 3986 §3.1, RFC 3987 §2.2
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*").fullmatch  # RFC 5646 §2.1, well-formed by its outline
_DIGEST_SRI = re.compile(r"(sha256|sha384|sha512)-([A-Za-z0-9+/_-]+={0,2})").match  # Subresource Integrity §3.5
_MULTIHASH = {0x12: "sha256", 0x20: "sha384", 0x13: "sha512"}  # multicodec: sha2-256, sha2-384, sha2-512

# Property → (must it have an id, the clause): the objects that must say their type (§4.5, table).
_TYPED: dict[str, tuple[bool, str]] = {
    "credentialStatus": (False, '§4.10 "Status"'),
    "credentialSchema": (True, '§4.11 "Data Schemas"'),
    "refreshService": (False, '§5.4 "Refreshing"'),
    "termsOfUse": (False, '§5.5 "Terms of Use"'),
    "evidence": (False, '§5.6 "Evidence"'),
    "proof": (False, '§4.12 "Securing Mechanisms"'),
}


def is_url(value: object) -> bool:
    """Whether `value` is one absolute URL of any scheme (§4.4: "a single URL"; DIDs and URNs are URLs)."""
    if not isinstance(value, str) or _SCHEME(value) is None:
        return False
    return is_web_url(value) if value.lower().startswith(("http:", "https:")) else True


def _model(name: str, text: str) -> str:
    return f"VC Data Model {name} {text}"


def _is_one_point_one(document: dict[str, Any]) -> bool:
    listed = one_or_more(document.get("@context"))
    return bool(listed) and listed[0] == contexts.CREDENTIALS_V1


def one_or_more(value: Any) -> list[Any]:
    """JSON-LD's "one or several" as a list; null is none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


# --- rules of credentials and presentations alike --------------------------------------------------------------------


def base_context(subject: Subject) -> Iterator[Finding]:
    """An ordered set that begins with the base context; the rest are URLs and objects."""
    rule, clause = "base-context", _model("2.0", '§4.3 "Contexts"')
    listed = subject.document.get("@context")
    if not isinstance(listed, list) or not listed:
        yield error(rule, ("@context",), f"@context is not a list that begins with {contexts.CREDENTIALS_V2}", clause)
        return
    if listed[0] not in (contexts.CREDENTIALS_V2, contexts.CREDENTIALS_V1):
        yield error(rule, ("@context", 0), f"the first context is not {contexts.CREDENTIALS_V2}", clause)
    for index, entry in enumerate(listed):
        if not isinstance(entry, dict) and not is_url(entry):
            yield error(rule, ("@context", index), "a context is neither a URL nor an object", clause)
        elif isinstance(entry, str) and entry in listed[:index]:
            yield error(rule, ("@context", index), f"{entry} is listed twice: @context is an ordered set", clause)


def document_type(subject: Subject) -> Iterator[Finding]:
    """One or more terms or URLs, among them VerifiableCredential."""
    yield from _typed_as(subject, "VerifiableCredential")


def presentation_type(subject: Subject) -> Iterator[Finding]:
    """One or more terms or URLs, among them VerifiablePresentation."""
    yield from _typed_as(subject, "VerifiablePresentation")


def _typed_as(subject: Subject, wanted: str) -> Iterator[Finding]:
    rule, clause = "type", _model("2.0", '§4.5 "Types"')
    if not _is_type(subject.document.get("type")):
        yield error(rule, ("type",), "type is not one or more terms or URLs", clause)
    elif wanted not in one_or_more(subject.document["type"]):
        yield error(rule, ("type",), f"type does not hold {wanted}", clause)


def _is_type(value: Any) -> bool:
    entries = one_or_more(value)
    return bool(entries) and all(isinstance(entry, str) and entry for entry in entries)


def identifiers(subject: Subject) -> Iterator[Finding]:
    """`id`, where it is present, is a single URL: of the document, its subjects and its typed objects."""
    rule, clause = "identifiers", _model("2.0", '§4.4 "Identifiers"')
    places: list[tuple[Path, dict[str, Any]]] = [((), subject.document)]
    for name in ("credentialSubject", *_TYPED):
        places.extend(objects_at(subject.document, name, ()))
    for path, node in places:
        if "id" in node and not is_url(node["id"]):
            yield error(rule, (*path, "id"), "the id is not a single URL", clause)


def typed_objects(subject: Subject) -> Iterator[Finding]:
    """Status, schema, refresh service, terms of use, evidence and proof: objects that say their type."""
    for name, (needs_id, section) in _TYPED.items():
        if name not in subject.document:
            continue
        clause = _model("2.0", section)
        value = subject.document[name]
        if (
            not isinstance(value, dict | list)
            or not value
            or not all(isinstance(one, dict) for one in one_or_more(value))
        ):
            # An empty object is an object without a type.
            yield error("typed-objects", (name,), f"{name} is not one or more objects with a type", clause)
            continue
        for path, node in objects_at(subject.document, name, ()):
            if not _is_type(node.get("type")):
                yield error("typed-objects", (*path, "type"), f"{name} without a type", clause)
            if needs_id and "id" not in node:
                yield error("typed-objects", (*path, "id"), f"{name} without an id", clause)


def names(subject: Subject) -> Iterator[Finding]:
    """`name` and `description` of the credential and of its issuer: text, or text with language and direction."""
    rule, clause = "names", _model("2.0", '§4.6 "Names and Descriptions", §11.1 "Language and Base Direction"')
    places: list[tuple[Path, dict[str, Any]]] = [((), subject.document)]
    places.extend(objects_at(subject.document, "issuer", ()))
    for path, node in places:
        for name in ("name", "description"):
            if name not in node:
                continue
            values = node[name] if isinstance(node[name], list) else [node[name]]
            if not values or not all(isinstance(value, str) or _is_language_value(value) for value in values):
                message = f"{name} is neither text nor a language value object (@value, @language, @direction)"
                yield error(rule, (*path, name), message, clause)


def _is_language_value(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= {"@value", "@language", "@direction"}:
        return False
    language, direction = value.get("@language", "en"), value.get("@direction", "ltr")
    well_formed = isinstance(language, str) and _LANGUAGE(language) is not None
    return isinstance(value.get("@value"), str) and well_formed and direction in ("ltr", "rtl")


def processable(subject: Subject) -> Iterator[Finding]:
    """Every context can be processed, no term is redefined, and no word of the document is lost (safe expansion)."""
    rule, clause = "processable", _model("2.0", '§5.2.1 "Semantic Interoperability"; JSON-LD 1.1 §5.1')
    try:
        subject.canonical = jsonld.canonical_nquads(_without_proofs(subject.document))
    except jsonld.UnsafeDocument as caught:
        yield Finding(rule, "error", caught.pointer, caught.reason, clause)
    except contexts.UnknownContext as caught:
        yield Finding(rule, "error", "/@context", str(caught), clause)


def _without_proofs(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "proof"}


# --- rules of credentials ---------------------------------------------------------------------------------------------


def issuer(subject: Subject) -> Iterator[Finding]:
    """A URL, or an object with an id that is one."""
    value = subject.document.get("issuer")
    identifier = value.get("id") if isinstance(value, dict) else value
    if not is_url(identifier):
        message = "the issuer is neither a URL nor an object with an id that is a URL"
        yield error("issuer", ("issuer",), message, _model("2.0", '§4.7 "Issuer"'))


def credential_subject(subject: Subject) -> Iterator[Finding]:
    """One or more objects, each with a claim (§4.8)."""
    subjects = subject.document.get("credentialSubject")
    listed = subjects if isinstance(subjects, list) else [subjects]
    if not listed or not all(isinstance(one, dict) and one for one in listed):
        message = "credentialSubject is not one or more objects that each make a claim"
        clause = _model("2.0", '§4.8 "Credential Subject"')
        yield error("credential-subject", ("credentialSubject",), message, clause)


def validity(subject: Subject) -> Iterator[Finding]:
    """dateTimeStamps, of which the first is not after the second."""
    old = _is_one_point_one(subject.document)
    first, last = ("issuanceDate", "expirationDate") if old else ("validFrom", "validUntil")
    clause = _model("1.1", "§4.6, §4.8") if old else _model("2.0", '§4.9 "Validity Period"')
    if old and first not in subject.document:
        yield error("validity", (first,), "issuanceDate is missing", clause)
    moments = {}
    for name in (first, last):
        if name in subject.document:
            moments[name] = parse_timestamp(subject.document[name])
            if moments[name] is None:
                message = f"{name} is not a date and time with a time zone (XML Schema 1.1 dateTimeStamp)"
                yield error("validity", (name,), message, clause)
    begin, end = moments.get(first), moments.get(last)
    if begin is not None and end is not None and end < begin:
        yield error("validity", (last,), f"{last} is before {first}: it is never valid", clause)


def related_resources(subject: Subject) -> Iterator[Finding]:
    """Objects with an id of their own and a digest; where Laurel has the resource itself, the digest is compared."""
    rule, clause = "related-resources", _model("2.0", '§5.3 "Integrity of Related Resources"')
    if "relatedResource" not in subject.document:
        return
    value = subject.document["relatedResource"]
    entries = value if isinstance(value, list) else [value]
    if not entries:
        yield error(rule, ("relatedResource",), "relatedResource is empty", clause)
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        path: Path = ("relatedResource", index) if isinstance(value, list) else ("relatedResource",)
        if not isinstance(entry, dict) or not is_url(entry.get("id")):
            yield error(rule, path, "a related resource is an object with an id that is a URL", clause)
            continue
        if entry["id"] in seen:
            yield error(rule, (*path, "id"), f"{entry['id']} is listed twice", clause)
        seen.add(entry["id"])
        if "digestSRI" not in entry and "digestMultibase" not in entry:
            yield error(rule, path, "neither digestSRI nor digestMultibase", clause)
        for name, digests in (("digestSRI", _sri_digests), ("digestMultibase", _multibase_digests)):
            found = digests(entry.get(name))
            matches = [contexts.is_digest(entry["id"], algorithm, digest) for algorithm, digest in found]
            if name in entry and not found:
                yield error(rule, (*path, name), f"{name} is not a SHA-2 digest in that form", clause)
            elif False in matches and True not in matches:
                yield error(rule, (*path, name), f"{name} is not the digest of {entry['id']}", clause)


def _sri_digests(value: Any) -> list[tuple[str, bytes]]:
    match = _DIGEST_SRI(value) if isinstance(value, str) else None
    if match is None:
        return []
    try:
        # Standard base64 by its specification; base64url is common in credentials and says the same.
        digest = base64.b64decode(match[2].replace("-", "+").replace("_", "/") + "=" * (-len(match[2]) % 4))
    except binascii.Error:
        return []
    return [(match[1], digest)] if len(digest) == hashlib.new(match[1]).digest_size else []


def _multibase_digests(value: Any) -> list[tuple[str, bytes]]:
    """A multihash (Controlled Identifiers 1.0 §2.5), or a bare digest, as published examples have it."""
    try:
        data = multibase.decode(value) if isinstance(value, str) else b""
    except multibase.MultibaseError:
        return []
    if len(data) > 2 and data[0] in _MULTIHASH and data[1] == len(data) - 2:
        return [(_MULTIHASH[data[0]], data[2:])]
    return [(name, data) for name in _MULTIHASH.values() if hashlib.new(name).digest_size == len(data)]


# --- rules of presentations -------------------------------------------------------------------------------------------


def holder(subject: Subject) -> Iterator[Finding]:
    """A URL, or an object with an id that is one."""
    if "holder" in subject.document and not is_url(holder_id(subject.document)):
        message = "the holder is neither a URL nor an object with an id that is a URL"
        yield error("holder", ("holder",), message, _model("2.0", '§4.13 "Verifiable Presentations"'))


def presented_credentials(subject: Subject) -> Iterator[Finding]:
    """Each is a credential that conforms, or an enveloped one; never a string."""
    rule, clause = "presented-credentials", _model("2.0", '§4.13 "Verifiable Presentations"')
    value = subject.document.get("verifiableCredential", [])
    entries = value if isinstance(value, list) else [value]
    if len(entries) > MAX_CREDENTIALS:
        yield error(rule, ("verifiableCredential",), f"more than {MAX_CREDENTIALS} credentials", "Laurel")
        return
    for index, entry in enumerate(entries):
        path: Path = ("verifiableCredential", index) if isinstance(value, list) else ("verifiableCredential",)
        if not isinstance(entry, dict):
            yield error(rule, path, "a presented credential is an object, not a string, number or URL", clause)
        elif ENVELOPED_CREDENTIAL in one_or_more(entry.get("type")):
            yield from (_below(path, found) for found in envelope_findings(entry, ENVELOPED_CREDENTIAL))
        else:
            inner = Subject(entry, None, 0)
            for one in CREDENTIAL_RULES:
                if one is not processable:  # the presentation is processed whole
                    yield from (_below(path, found) for found in one(inner))


def _below(path: Path, found: Finding) -> Finding:
    return found._replace(pointer=pointer(path) + found.pointer)


def envelope_findings(document: dict[str, Any], wanted: str) -> tuple[Finding, ...]:
    """What is wrong with an enveloped credential or presentation: an object with a data: URL (§4.13.1, §4.13.2)."""
    clause = _model("2.0", "§4.13.1, §4.13.2 (enveloped credentials and presentations)")
    found = []
    if contexts.CREDENTIALS_V2 not in one_or_more(document.get("@context")):
        found.append(error("envelope", ("@context",), f"@context does not hold {contexts.CREDENTIALS_V2}", clause))
    if document.get("type") not in (wanted, [wanted]):
        found.append(error("envelope", ("type",), f"type is not {wanted}", clause))
    identifier = document.get("id")
    if not isinstance(identifier, str) or not identifier.startswith("data:") or "," not in identifier:
        found.append(error("envelope", ("id",), "id is not a data: URL (RFC 2397)", clause))
    return tuple(found)


CREDENTIAL_RULES: tuple[Checker, ...] = (
    base_context, document_type, identifiers, issuer, credential_subject, validity, typed_objects, names,
    related_resources, processable,
)  # fmt: skip
PRESENTATION_RULES: tuple[Checker, ...] = (
    base_context, presentation_type, identifiers, holder, typed_objects, presented_credentials, processable,
)  # fmt: skip


def credential_findings(document: object) -> tuple[Finding, ...]:
    """What keeps `document` from being a conforming credential (secured or not); empty when nothing does."""
    return _findings(document, CREDENTIAL_RULES)


def presentation_findings(document: object) -> tuple[Finding, ...]:
    """What keeps `document` from being a conforming presentation, its credentials included; empty when nothing does."""
    return _findings(document, PRESENTATION_RULES)


def _findings(document: object, rules: tuple[Checker, ...]) -> tuple[Finding, ...]:
    broken = tuple(plain_json_findings(document))
    if broken or not isinstance(document, dict):
        return broken
    subject = Subject(document, None, 0)
    return tuple(found for rule in rules for found in rule(subject))


def holder_id(presentation: dict[str, Any]) -> Any:
    """The holder's URL, as it stands there: of any type."""
    value = presentation.get("holder")
    return value.get("id") if isinstance(value, dict) else value


def is_self_asserted(credential: dict[str, Any], presentation: dict[str, Any]) -> bool:
    """Whether the credential needs no proof of its own, because its issuer is the presentation's holder (§6.2).

    The presentation's proof then speaks for both, once it is shown to be the holder's.
    """
    value = credential.get("issuer")
    identifier = value.get("id") if isinstance(value, dict) else value
    return "proof" not in credential and is_url(identifier) and identifier == holder_id(presentation)
