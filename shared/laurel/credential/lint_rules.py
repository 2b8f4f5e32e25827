"""What every rule of `lint` is made of, and the rules about the document as a whole: form, contexts, ids, key, times.

A rule is a function of a `Subject`: it yields places with what is wrong there, and never raises. Its name, level and
clause stand in `lint_table`. A message quotes a value between quotation marks or not at all, so that it can be masked.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from laurel.credential import contexts, jsonld
from laurel.credential.text import (
    is_absolute_identifier,
    is_did,
    is_plausible,
    is_web_url,
    pointer,
    shows_nothing,
    usual_timestamp,
)

Path = tuple[str | int, ...]
Level = Literal["error", "warning"]
Found = tuple[Path, str]

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_VALUES = 5_000

TIME_KEYS = frozenset({"validFrom", "validUntil", "awardedDate", "activityStartDate", "activityEndDate"})
_PERIODS = (("validFrom", "validUntil"), ("activityStartDate", "activityEndDate"))
_A_DAY = timedelta(days=1)
# A key may be retired between the moment that dates a credential and the signature, on another process's clock.
KEY_GRACE = timedelta(minutes=5)
_HTTPS = frozenset({"image", "url", "statusListCredential"})
_LOOPBACK = re.compile(r"http://(localhost|127\.[0-9.]+|\[::1\]|[^/:?#]+\.localhost)(?=[:/?#]|$)", re.IGNORECASE).match
_OPEN_BADGES_CONTEXT = re.compile(r"https://purl\.imsglobal\.org/spec/ob/v3p0/context(-3\.\d\.\d)*\.json").fullmatch
_OPEN_BADGES_TYPES = frozenset({"OpenBadgeCredential", "AchievementCredential", "EndorsementCredential"})

is_identifier = functools.lru_cache(maxsize=1024)(is_absolute_identifier)


class Finding(NamedTuple):
    """What a rule found. pointer: JSON Pointer (RFC 6901); clause: the text that the rule enforces; fix: what to do."""

    rule: str
    level: Level
    pointer: str
    message: str
    clause: str
    fix: str = ""


class SigningKey(NamedTuple):
    """A key that will sign, as its keeper knows it. active_until: when it was retired; None: it is active."""

    verification_method: str
    active_until: datetime | None = None
    compromised: bool = False


class Subject:
    """The document under lint, with what several rules need of it, made once."""

    def __init__(
        self,
        document: dict[str, Any],
        expected_issuer: str | None,
        size: int,
        *,
        keys: tuple[SigningKey, ...] = (),
        endorsement: bool = False,
    ) -> None:
        self.document = document
        self.expected_issuer = expected_issuer
        self.size = size
        self.keys = keys
        self.endorsement = endorsement
        self.canonical: bytes | None = None  # RDFC-1.0 N-Quads, set by `safe_expansion`
        self.findings: list[Finding] = []  # of the rules that ran before

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
                stack.extend([((*path, key), key, inner) for key, inner in value.items() if key != "@context"])
            elif isinstance(value, list):
                stack.extend([((*path, index), name, inner) for index, inner in enumerate(value)])
        return found

    @functools.cached_property
    def strings(self) -> list[tuple[Path, str, str]]:
        return [entry for entry in self.values if isinstance(entry[2], str)]

    @functools.cached_property
    def _named(self) -> dict[str, list[tuple[Path, Any]]]:
        found: dict[str, list[tuple[Path, Any]]] = {}
        for path, name, value in self.values:
            if not isinstance(value, list):
                found.setdefault(name, []).append((path, value))
        return found

    def named(self, name: str) -> list[tuple[Path, Any]]:
        """Where a property of this name stands, and its value; each value of several."""
        return self._named.get(name, [])

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

    def is_told(self, place: str) -> bool:
        """Whether an earlier rule found an error at this JSON Pointer, below it, or at a value that holds it."""
        said = [one.pointer for one in self.findings if one.level == "error" and one.pointer != ""]
        return any(one == place or one.startswith(place + "/") or place.startswith(one + "/") for one in said)


Check = Callable[[Subject], Iterator[Found]]
Checker = Callable[[Subject], Iterator[Finding]]


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


def types_of(node: dict[str, Any]) -> list[Any]:
    value = node.get("type")
    return value if isinstance(value, list) else [value]


# --- form and size ---------------------------------------------------------------------------------------------------


def plain_json_findings(document: object) -> Iterator[Finding]:
    """Rule "plain-json" on anything at all: the other rules rely on plain, bounded JSON."""
    for path, message in not_plain(document):
        yield error("plain-json", path, message, "RFC 7493 §2")


def plain_json(subject: Subject) -> Iterator[Found]:
    """String keys, finite numbers, no lone surrogates, bounded depth."""
    return not_plain(subject.document)


def not_plain(document: object) -> Iterator[Found]:
    if not isinstance(document, dict):
        yield (), "the document is not a JSON object"
        return
    stack: list[tuple[Path, Any]] = [((), document)]
    while stack:
        path, value = stack.pop()
        if len(path) > MAX_DEPTH:
            yield path, f"nested more than {MAX_DEPTH} levels deep"
            return
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    yield path, f"the key {str(key)!r} is not a string"
                else:
                    stack.append(((*path, key), inner))
        elif isinstance(value, list):
            stack.extend(((*path, index), inner) for index, inner in enumerate(value))
        elif isinstance(value, str):
            if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
                yield path, "the text holds a lone surrogate"
        elif isinstance(value, float):
            if not math.isfinite(value):
                yield path, f"'{value!r}' is not a JSON number"
        elif value is not None and not isinstance(value, bool | int):
            yield path, f"{type(value).__name__} is not a JSON value"


def size(subject: Subject) -> Iterator[Found]:
    if subject.size > MAX_BYTES:
        yield (), f"the document has {subject.size} bytes; at most {MAX_BYTES} are issued"


def complexity(subject: Subject) -> Iterator[Found]:
    """Canonicalisation costs with every value, for us and for every verifier."""
    if len(subject.values) > MAX_VALUES:
        yield (), f"the document has {len(subject.values)} values; at most {MAX_VALUES} are issued"


def no_proof(subject: Subject) -> Iterator[Found]:
    if "proof" in subject.document:
        yield ("proof",), "the document already has a proof"


def no_empty_values(subject: Subject) -> Iterator[Found]:
    for path, _name, value in subject.values:
        if value is None or (not value and value in ("", [], {})) or (isinstance(value, str) and shows_nothing(value)):
            yield path, "the value is empty, or nothing of it can be seen"


# --- contexts and expansion ------------------------------------------------------------------------------------------


def context_order(subject: Subject) -> Iterator[Found]:
    """An ordered set of URLs: credentials/v2 first, the Open Badges context second."""
    listed = subject.document.get("@context")
    if not isinstance(listed, list):
        yield ("@context",), "@context is not a list of URLs"
        return
    if listed[:1] != [contexts.CREDENTIALS_V2]:
        yield ("@context", 0), "the first context is not that of the data model"
    badge = any(isinstance(one, str) and one in _OPEN_BADGES_TYPES for one in types_of(subject.document))
    if badge and not (len(listed) > 1 and _OPEN_BADGES_CONTEXT(str(listed[1]))):
        yield ("@context", 1), "the second context is not that of Open Badges 3.0"
    for index, url in enumerate(listed):
        if url in listed[:index]:
            yield ("@context", index), f"{url!r} is listed twice"


def context_pinned(subject: Subject) -> Iterator[Found]:
    """Contexts are bundled and pinned by SHA-256, wherever they stand: no other can change what a signed word means."""
    known = contexts.manifest()
    places: list[tuple[Path, Any]] = [
        ((*path, "@context"), value["@context"])
        for path, _, value in subject.values
        if isinstance(value, dict) and "@context" in value
    ]
    for path, listed in places:
        for index, url in enumerate(listed if isinstance(listed, list) else [listed]):
            place = (*path, index) if isinstance(listed, list) else path
            if not isinstance(url, str):
                yield place, "a context of the document's own"
            elif url not in known:
                yield place, f"{url!r} is not bundled with Laurel"


def safe_expansion(subject: Subject) -> Iterator[Found]:
    """Undefined terms and types, relative IRIs, dropped values: everything is signed or nothing is.

    What another rule said of the same place, or of the contexts, is not said again.
    """
    contexts_are_wrong = any(one.rule in ("context-order", "context-pinned") for one in subject.findings)
    try:
        subject.canonical = jsonld.canonical_nquads(subject.document)
    except jsonld.UnsafeDocument as caught:
        type_of_node = caught.pointer.rpartition("/")[0] + "/type"  # it defines the terms beside it
        if not (contexts_are_wrong or subject.is_told(caught.pointer) or subject.is_told(type_of_node)):
            yield steps(caught.pointer), caught.reason
    except contexts.UnknownContext as caught:
        if not contexts_are_wrong:
            yield ("@context",), str(caught)
    for path, name, _value in subject.values:
        if ":" in name and path and path[-1] == name:
            yield path, f"{name!r} is an IRI or prefixed name"


def steps(place: str) -> Path:
    """The path that a JSON Pointer writes; indexes stay text."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in place.split("/")[1:])


# An endorsement is a document of its own; the other two have rules of their own.
_ELSEWHERE = frozenset({"endorsement", "credentialStatus", "resultDescription"})


def described_once(subject: Subject) -> Iterator[Found]:
    """One node that is described at two places: either copy could be cut away under an RDF signature."""
    seen: dict[str, Path] = {}
    for path, value in reversed(subject.named("id")):
        if not isinstance(value, str) or path == ("credentialSubject", "id") or not _ELSEWHERE.isdisjoint(path):
            continue
        parent: Any = subject.document
        for step in path[:-1]:
            parent = parent[step]
        if not isinstance(parent, dict) or not parent.keys() - {"id", "type"}:
            continue
        first = seen.setdefault(value, path)
        if first is not path:
            yield path, f"{value!r} is already described at {pointer(first)}"


# --- identifiers -----------------------------------------------------------------------------------------------------


def credential_id(subject: Subject) -> Iterator[Found]:
    value = subject.document.get("id")
    if not isinstance(value, str):
        yield ("id",), "the credential has no id"
    elif not is_identifier(value):
        yield ("id",), f"{value!r} is not an absolute URL, URN or DID"


def absolute_ids(subject: Subject) -> Iterator[Found]:
    """Every id is an absolute URL, URN or DID; those of credential, issuer and images have rules of their own."""
    for path, value in subject.named("id"):
        if not isinstance(value, str) or path in (("id",), ("issuer", "id")) or "image" in path:
            continue
        if path[-1] == "id" and not value.startswith("data:") and not is_identifier(value):
            yield path, f"{value!r} is not an absolute URL, URN or DID"


def https_urls(subject: Subject) -> Iterator[Found]:
    """What verifiers and wallets load is loaded over TLS, except from the machine itself."""
    for name in _HTTPS:
        for path, value in subject.named(name):
            url, place = (value.get("id"), (*path, "id")) if isinstance(value, dict) else (value, path)
            if isinstance(url, str) and url[:5].lower() == "http:" and not _LOOPBACK(url):
                yield place, f"{url!r} is not loaded over TLS"


# --- issuer and key --------------------------------------------------------------------------------------------------


def issuer_id(subject: Subject) -> Iterator[Found]:
    """did:web, did:key or an https URL: what verifiers can find a key by."""
    place = ("issuer", "id") if isinstance(subject.document.get("issuer"), dict) else ("issuer",)
    value = subject.issuer_id
    if not value:
        yield ("issuer",), "the issuer has no id"
    elif value.startswith("did:"):
        if not value.startswith(("did:web:", "did:key:")) or not is_did(value) or set(value) & set("/?#"):
            yield place, f"{value!r} is neither a did:web nor a did:key"
    elif not is_web_url(value) or not (value[:6].lower() == "https:" or _LOOPBACK(value)):
        yield place, f"{value!r} is neither a DID nor an https URL"


def issuer_key(subject: Subject) -> Iterator[Found]:
    """The issuer is the controller of each key that will sign."""
    issuer = subject.issuer_id
    if subject.expected_issuer is not None and issuer != subject.expected_issuer:
        yield ("issuer",), f"the issuer is {issuer!r}, but the key belongs to {subject.expected_issuer!r}"
    for key in subject.keys:
        controller, mark, fragment = key.verification_method.partition("#")
        if controller != issuer or not mark or not fragment:
            yield ("issuer",), f"the key {key.verification_method!r} is not one of the issuer {issuer!r}"


def key_active(subject: Subject) -> Iterator[Found]:
    """Nothing is signed with a compromised key, and nothing new with a retired one.

    What was reserved and dated while a key was active may still be signed with it: equal intents give equal bytes.
    """
    dated = usual_timestamp(subject.document.get("validFrom"))
    for key in subject.keys:
        if key.compromised:
            yield ("issuer",), f"the key {key.verification_method!r} was compromised"
        elif key.active_until is not None and (dated is None or dated > key.active_until + KEY_GRACE):
            yield ("issuer",), f"the key {key.verification_method!r} was retired before the credential was made"


# --- times -----------------------------------------------------------------------------------------------------------


def timestamps(subject: Subject) -> Iterator[Found]:
    if "validFrom" not in subject.document:
        yield ("validFrom",), "validFrom is missing"
    for path, name, value in subject.values:
        if name in TIME_KEYS and value is not None and usual_timestamp(value) is None:
            yield path, f"{str(value)!r} is not a date and time with a time zone"


def periods(subject: Subject) -> Iterator[Found]:
    for path, node in ((), subject.document), *subject.subjects():
        for first, last in _PERIODS:
            start, end = usual_timestamp(node.get(first)), usual_timestamp(node.get(last))
            if start is not None and end is not None and end < start:
                yield (*path, last), f"{last} is before {first}"


def plausible_years(subject: Subject) -> Iterator[Found]:
    """What stands for no time at all."""
    for name in TIME_KEYS:
        for path, value in subject.named(name):
            moment = usual_timestamp(value)
            if moment is not None and not is_plausible(moment):
                yield path, f"{value!r} is hardly meant"


def awarded_date(subject: Subject) -> Iterator[Found]:
    awarded, start = (usual_timestamp(subject.document.get(name)) for name in ("awardedDate", "validFrom"))
    if awarded is not None and start is not None and awarded - start > _A_DAY:
        yield ("awardedDate",), "it was awarded more than a day after it became valid"
