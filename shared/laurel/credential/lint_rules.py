"""The rules of `lint`, one function each: `rule(subject)` yields findings. The name of the function is the rule's name.

Each finding cites the clause it comes from; "Laurel" marks our own rules, learnt from badges that went wrong.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from laurel.credential import contexts, jsonld, status
from laurel.credential.text import is_absolute_identifier, is_did, is_web_url, parse_timestamp, pointer

Path = tuple[str | int, ...]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32

_TIME_KEYS = frozenset({"validFrom", "validUntil", "awardedDate", "activityStartDate", "activityEndDate"})
_LEFTOVERS = frozenset({"undefined", "null", "none", "nan", "nil", "[object object]", "todo", "tbd", "lorem ipsum"})
FREE_TEXT = frozenset(
    {"name", "description", "narrative", "caption", "targetName", "targetDescription", "targetFramework", "genre"}
    | {"audience", "humanCode", "fieldOfStudy", "role", "term", "licenseNumber", "tag", "specialization"}
)
_MARKUP = re.compile(r"<\s*[A-Za-z!/?][^<>]*>").search
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\u202a-\u202e]").search
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\$\{.*?\}|%\([a-z_]+\)s").search
_INDEX = re.compile(r"0|[1-9][0-9]{0,15}").fullmatch
_OPEN_BADGES_CONTEXT = re.compile(r"https://purl\.imsglobal\.org/spec/ob/v3p0/context(-3\.\d\.\d)*\.json").fullmatch


class Finding(NamedTuple):
    """What a rule found. pointer: JSON Pointer (RFC 6901); clause: the text that the rule enforces."""

    rule: str
    level: Literal["error", "warning"]
    pointer: str
    message: str
    clause: str


class Subject:
    """The document under lint, with what several rules need of it, made once."""

    def __init__(self, document: dict[str, Any], expected_issuer: str | None, size: int) -> None:
        self.document = document
        self.expected_issuer = expected_issuer
        self.size = size
        self.canonical: bytes | None = None  # RDFC-1.0 N-Quads, set by `safe_expansion`

    @functools.cached_property
    def values(self) -> list[tuple[Path, str, Any]]:
        """(path, nearest property name, value) of every value outside of @context, depth first."""
        found: list[tuple[Path, str, Any]] = []
        stack: list[tuple[Path, str, Any]] = [((), "", self.document)]
        while stack:
            entry = stack.pop()
            path, name, value = entry
            found.append(entry)
            if isinstance(value, dict):
                stack.extend(((*path, key), key, inner) for key, inner in value.items() if key != "@context")
            elif isinstance(value, list):
                stack.extend(((*path, index), name, inner) for index, inner in enumerate(value))
        return found

    @property
    def strings(self) -> Iterator[tuple[Path, str, str]]:
        return ((path, name, value) for path, name, value in self.values if isinstance(value, str))

    @property
    def issuer_id(self) -> str:
        issuer = self.document.get("issuer")
        identifier = issuer.get("id") if isinstance(issuer, dict) else issuer
        return identifier if isinstance(identifier, str) else ""

    def subjects(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        yield from objects_at(self.document, "credentialSubject", ())

    def achievements(self) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
        """(path of the achievement, the achievement, its credentialSubject)."""
        for path, subject in self.subjects():
            for inner, achievement in objects_at(subject, "achievement", path):
                yield inner, achievement, subject


Rule = Callable[[Subject], Iterator[Finding]]


def objects_at(parent: dict[str, Any], key: str, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    value = parent.get(key)
    if isinstance(value, dict):
        yield (*path, key), value
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            if isinstance(entry, dict):
                yield (*path, key, index), entry


def error(rule: str, path: Path, message: str, clause: str) -> Finding:
    return Finding(rule, "error", pointer(path), message, clause)


def warning(rule: str, path: Path, message: str, clause: str) -> Finding:
    return Finding(rule, "warning", pointer(path), message, clause)


def plain_json_findings(document: object) -> Iterator[Finding]:
    """Rule "plain-json": string keys, finite numbers, no lone surrogates, bounded depth."""
    rule, clause = "plain-json", "RFC 7493 §2"
    if not isinstance(document, dict):
        yield error(rule, (), "the document is not a JSON object", clause)
        return
    stack: list[tuple[Path, Any]] = [((), document)]
    while stack:
        path, value = stack.pop()
        if len(path) > MAX_DEPTH:
            yield error(rule, path, f"nested more than {MAX_DEPTH} levels deep", clause)
            return
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    yield error(rule, path, f"the key {key!r} is not a string", clause)
                else:
                    stack.append(((*path, key), inner))
        elif isinstance(value, list):
            stack.extend(((*path, index), inner) for index, inner in enumerate(value))
        elif isinstance(value, str):
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                yield error(rule, path, "the text holds a lone surrogate", clause)
        elif isinstance(value, float):
            if not math.isfinite(value):
                yield error(rule, path, f"{value!r} is not a JSON number", clause)
        elif value is not None and not isinstance(value, bool | int):
            yield error(rule, path, f"{type(value).__name__} is not a JSON value", clause)


def size(subject: Subject) -> Iterator[Finding]:
    if subject.size > MAX_BYTES:
        message = (
            f"the document has {subject.size} bytes, at most {MAX_BYTES} are issued; link images instead of embedding"
        )
        yield error("size", (), message, "Laurel")


def no_proof(subject: Subject) -> Iterator[Finding]:
    if "proof" in subject.document:
        message = "the document already has a proof; lint and sign the document without it"
        yield error("no-proof", ("proof",), message, 'VC Data Integrity 1.0 §4.2 "Add Proof"')


def context_order(subject: Subject) -> Iterator[Finding]:
    """credentials/v2 first, the Open Badges context second, and only bundled URLs."""
    clause = 'VC Data Model 2.0 §4.3 "Contexts"; Open Badges 3.0, AchievementCredential @context'
    listed = subject.document.get("@context")
    if not isinstance(listed, list) or not all(isinstance(url, str) for url in listed):
        yield error("context-order", ("@context",), "@context is not a list of URLs", clause)
        return
    if listed[:1] != [contexts.CREDENTIALS_V2]:
        yield error("context-order", ("@context", 0), f"the first context is not {contexts.CREDENTIALS_V2}", clause)
    if any(one in types_of(subject.document) for one in ("OpenBadgeCredential", "AchievementCredential")) and not (
        len(listed) > 1 and _OPEN_BADGES_CONTEXT(listed[1])
    ):
        yield error("context-order", ("@context", 1), "the second context is not that of Open Badges 3.0", clause)
    for index, url in enumerate(listed):
        if url not in contexts.manifest():
            yield error("context-order", ("@context", index), f"{url} is not bundled with Laurel", clause)
        if url in listed[:index]:
            yield error("context-order", ("@context", index), f"{url} is listed twice", clause)


def types_of(node: dict[str, Any]) -> list[Any]:
    value = node.get("type")
    return value if isinstance(value, list) else [value]


def safe_expansion(subject: Subject) -> Iterator[Finding]:
    """Undefined terms and types, relative IRIs, dropped values: everything is signed or nothing is."""
    clause = 'VC Data Integrity 1.0 §4.6 "Context Validation"; JSON-LD 1.1 §5.1'
    try:
        subject.canonical = jsonld.canonical_nquads(subject.document)
    except jsonld.UnsafeDocument as caught:
        yield Finding("safe-expansion", "error", caught.pointer, caught.reason, clause)
    except contexts.UnknownContext as caught:
        yield Finding("safe-expansion", "error", "/@context", str(caught), clause)
    for path, name, _value in subject.values:
        if ":" in name and path and path[-1] == name:
            message = f"{name!r} is an IRI or prefixed name; use the term of a context"
            yield error("safe-expansion", path, message, clause)


def absolute_ids(subject: Subject) -> Iterator[Finding]:
    """Every id is an absolute URL, URN or DID; the credential's and the issuer's are there."""
    clause = 'VC Data Model 2.0 §4.4 "Identifiers"'
    if not isinstance(subject.document.get("id"), str):
        yield error("absolute-ids", ("id",), "the credential has no id", clause)
    if not subject.issuer_id:
        yield error("absolute-ids", ("issuer",), "the issuer has no id", clause)
    for path, name, value in subject.strings:
        is_identifier = (name == "id" and path[-1] == "id") or path == ("issuer",)
        if is_identifier and not value.startswith("data:") and not is_absolute_identifier(value):
            yield error("absolute-ids", path, f"{value!r} is not an absolute URL, URN or DID", clause)


def issuer_key(subject: Subject) -> Iterator[Finding]:
    """The issuer is the controller of the key that will sign."""
    clause = 'VC Data Model 2.0 §4.7 "Issuer"; Controlled Identifiers 1.0 §3.3'
    if subject.expected_issuer is not None and subject.issuer_id != subject.expected_issuer:
        message = f"the issuer is {subject.issuer_id!r}, but the key belongs to {subject.expected_issuer!r}"
        yield error("issuer-key", ("issuer",), message, clause)


def dates(subject: Subject) -> Iterator[Finding]:
    clause = 'VC Data Model 2.0 §4.9 "Validity Period" (dateTimeStamp); Open Badges 3.0, DateTimeZ'
    if "validFrom" not in subject.document:
        yield error("dates", ("validFrom",), "validFrom is missing", clause)
    for path, name, value in subject.values:
        if name in _TIME_KEYS and parse_timestamp(value) is None:
            yield error("dates", path, f"{value!r} is not a date and time with a time zone", clause)
    nodes: list[tuple[Path, dict[str, Any], str, str]] = [((), subject.document, "validFrom", "validUntil")]
    nodes += [(path, node, "activityStartDate", "activityEndDate") for path, node in subject.subjects()]
    for path, node, first, last in nodes:
        start, end = parse_timestamp(node.get(first)), parse_timestamp(node.get(last))
        if start is not None and end is not None and end < start:
            yield error("dates", (*path, last), f"{last} is before {first}", clause)


def clean_text(subject: Subject) -> Iterator[Finding]:
    """Text as people will read it: NFC, no control characters, no leftovers of a program, no markup."""
    for path, name, value in subject.strings:
        yield from text_findings(path, name, value)


def text_findings(path: Path, name: str, value: str) -> Iterator[Finding]:
    """What `clean_text` finds in one value of the property `name`."""
    if not value.isascii() and not unicodedata.is_normalized("NFC", value):
        yield error("clean-text", path, "the text is not in Unicode NFC", "Unicode UAX #15")
    if _CONTROL(value):
        yield error("clean-text", path, "the text holds control or bidirectional override characters", "Laurel")
    if name not in FREE_TEXT:
        return
    if value.strip().casefold() in _LEFTOVERS or _TEMPLATE(value):
        yield error("clean-text", path, f"{value.strip()[:40]!r} looks like a program's leftover", "Laurel")
    if _MARKUP(value):
        message = "the text holds HTML or XML markup; Open Badges text is plain or Markdown"
        yield error("clean-text", path, message, "Open Badges 3.0, Markdown")


def no_empty_values(subject: Subject) -> Iterator[Finding]:
    for path, _name, value in subject.values:
        if value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip()):
            yield error("no-empty-values", path, "the value is empty; leave the property out", "Laurel; JSON-LD 1.1 §9")


def status_entries(subject: Subject) -> Iterator[Finding]:
    clause = 'Bitstring Status List 1.0 §2.1 "BitstringStatusListEntry"'
    seen: set[str] = set()
    value = subject.document.get("credentialStatus")
    if value is not None and not isinstance(value, dict | list):
        yield error("status-entries", ("credentialStatus",), "credentialStatus is neither an object nor a list", clause)
    for path, entry in objects_at(subject.document, "credentialStatus", ()):
        if entry.get("type") != "BitstringStatusListEntry":
            yield error("status-entries", (*path, "type"), "the entry is not a BitstringStatusListEntry", clause)
        index, url = entry.get("statusListIndex"), entry.get("statusListCredential")
        if not isinstance(index, str) or not _INDEX(index):
            message = "statusListIndex is not a string with a whole number"
            yield error("status-entries", (*path, "statusListIndex"), message, clause)
        if not isinstance(url, str) or not is_web_url(url):
            message = "statusListCredential is not an absolute http(s) URL"
            yield error("status-entries", (*path, "statusListCredential"), message, clause)
        elif entry.get("id") == url:
            yield error("status-entries", (*path, "id"), "the entry's id is the URL of the list", clause)
        if not isinstance(entry.get("statusPurpose"), str):
            yield error("status-entries", (*path, "statusPurpose"), "statusPurpose is missing", clause)
        for key in ((url, index), ("purpose", entry.get("statusPurpose"))):
            if repr(key) in seen:
                yield error("status-entries", path, "two entries share a list index or a purpose", clause)
            seen.add(repr(key))


def status_list(subject: Subject) -> Iterator[Finding]:
    """A BitstringStatusListCredential that verifiers can use."""
    clause = 'Bitstring Status List 1.0 §2.2 "BitstringStatusListCredential"'
    for wanted in ("VerifiableCredential", "BitstringStatusListCredential"):
        if wanted not in types_of(subject.document):
            yield error("status-list", ("type",), f"{wanted} is missing", clause)
    if not is_web_url(str(subject.document.get("id"))):
        yield error("status-list", ("id",), "the id is not the list's http(s) URL", clause)
    if not is_did(subject.issuer_id) and not is_web_url(subject.issuer_id):
        yield error("status-list", ("issuer",), "the issuer is neither a DID nor a URL", clause)
    nodes = list(subject.subjects())
    if len(nodes) != 1:
        yield error("status-list", ("credentialSubject",), "there is not exactly one credentialSubject", clause)
    for path, node in nodes:
        if node.get("type") != "BitstringStatusList":
            yield error("status-list", (*path, "type"), "the subject is not a BitstringStatusList", clause)
        if not isinstance(node.get("statusPurpose"), str):
            yield error("status-list", (*path, "statusPurpose"), "statusPurpose is missing", clause)
        ttl = node.get("ttl")
        if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or ttl <= 0):
            yield error("status-list", (*path, "ttl"), "ttl is not a positive number of milliseconds", clause)
        try:
            if not str(node.get("encodedList")).startswith("u"):
                raise status.StatusError("malformed_list", "encodedList does not start with the multibase prefix 'u'")
            entries = len(status.decode_list(str(node.get("encodedList")))) * 8
            if entries < status.MINIMUM_ENTRIES:
                raise status.StatusError(
                    "range", f"{entries} entries; at least {status.MINIMUM_ENTRIES} protect privacy"
                )
        except status.StatusError as caught:
            yield error("status-list", (*path, "encodedList"), str(caught), clause)
