"""The JSON-LD contexts and JSON schemas that Laurel ships, pinned by SHA-256. Nothing else is ever loaded.

`contexts/manifest.json` and `schemas/manifest.json` name each file, its URL, where its bytes come from, its licence
and its hash. A context decides what a signed word means: a changed byte must stop the process, not change meanings.
(VC Data Model 2.0 §5.3 "Integrity of Related Resources"; Data Integrity §4.6 "Context Validation".)
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import resources
from typing import Any

from laurel.errors import LaurelError

CREDENTIALS_V2 = "https://www.w3.org/ns/credentials/v2"
CREDENTIALS_V1 = "https://www.w3.org/2018/credentials/v1"
OPEN_BADGES = "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json"
OPEN_BADGES_EXTENSIONS = "https://purl.imsglobal.org/spec/ob/v3p0/extensions.json"
DID_V1 = "https://www.w3.org/ns/did/v1"
MULTIKEY_V1 = "https://w3id.org/security/multikey/v1"
JWK_V1 = "https://w3id.org/security/jwk/v1"
CID_V1 = "https://www.w3.org/ns/cid/v1"
OPEN_BADGES_SCHEMA = "https://purl.imsglobal.org/spec/ob/v3p0/schema/json/ob_v3p0_achievementcredential_schema.json"
ENDORSEMENT_SCHEMA = "https://purl.imsglobal.org/spec/ob/v3p0/schema/json/ob_v3p0_endorsementcredential_schema.json"
# A schema without a file of its own: 1EdTech writes the same as a definition into one that is bundled.
_DEFINED_IN = {ENDORSEMENT_SCHEMA: (OPEN_BADGES_SCHEMA, "EndorsementCredential")}


@dataclass(frozen=True)
class _Extra:
    """What test suites add: see `unsafe_extra`. Empty in every process that issues or verifies for people."""

    documents: Mapping[str, dict[str, Any]]
    digests: Mapping[str, Collection[bytes]]


_NOTHING = _Extra({}, {})
_extra: ContextVar[_Extra] = ContextVar("extra contexts", default=_NOTHING)


class UnknownContext(LaurelError):
    """The document asks for a context (or schema) that is not bundled. `url` says which."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url!r} is not bundled with Laurel, and Laurel loads nothing from elsewhere")
        self.url = url

    def __reduce__(self) -> tuple[type[UnknownContext], tuple[str]]:
        return type(self), (self.url,)


class ChangedResource(LaurelError):
    """A bundled file does not have the bytes that its manifest pins: the installation is damaged or tampered with."""


@dataclass(frozen=True)
class Resource:
    """One bundled file: the URL that it stands for, and its pinned SHA-256 (lower-case hex)."""

    url: str
    file: str
    source: str
    version: str
    licence: str
    sha256: str


@functools.cache
def manifest(folder: str = "contexts") -> dict[str, Resource]:
    """URL → resource, for `folder` "contexts" or "schemas"."""
    text = resources.files(__package__).joinpath(folder).joinpath("manifest.json").read_text("utf-8")
    return {entry["url"]: Resource(**entry) for entry in json.loads(text)}


@functools.cache
def _pinned_bytes(folder: str, url: str) -> bytes:
    resource = manifest(folder).get(url)
    if resource is None:
        raise UnknownContext(url)
    content = resources.files(__package__).joinpath(folder).joinpath(resource.file).read_bytes()
    if hashlib.sha256(content).hexdigest() != resource.sha256:
        raise ChangedResource(f"{folder}/{resource.file} differs from its pinned SHA-256; reinstall Laurel")
    return content


def load(url: str) -> dict[str, Any]:
    """The context document published at `url`, as a fresh dict that the caller may change.

    Raises UnknownContext for every URL that is not bundled, ChangedResource when the bytes are not the pinned ones.
    """
    added = _extra.get().documents.get(url)
    if added is not None:
        return copy.deepcopy(added)
    document: dict[str, Any] = json.loads(_pinned_bytes("contexts", url))
    return document


@contextlib.contextmanager
def unsafe_extra(
    documents: Mapping[str, dict[str, Any]], *, digests: Mapping[str, Collection[bytes]] | None = None
) -> Iterator[None]:
    """Within the block also these context documents are loaded (URL → document): unpinned, for test suites alone.

    A context decides what a signed word means. The examples context of W3C, for one, gives a meaning to every word.
    digests: of earlier bytes of a resource, which then also count as its own (`is_digest`).
    """
    earlier = _extra.get()
    token = _extra.set(_Extra({**earlier.documents, **documents}, {**earlier.digests, **(digests or {})}))
    try:
        yield
    finally:
        _extra.reset(token)


def has_extra() -> bool:
    """Whether `unsafe_extra` is in force here; what is processed meanwhile must not be kept."""
    return bool(_extra.get().documents)


def is_digest(url: str, algorithm: str, digest: bytes) -> bool | None:
    """Whether `digest` is that of the bundled context or schema that stands for `url`; None when there is none.

    algorithm: a name of hashlib (VC Data Model 2.0 §5.3 "Integrity of Related Resources").
    """
    for folder in ("contexts", "schemas"):
        if url in manifest(folder):
            found = hashlib.new(algorithm, _pinned_bytes(folder, url)).digest() == digest
            return found or digest in _extra.get().digests.get(url, ())
    return None


def schema_source(url: str) -> tuple[Resource, str] | None:
    """The bundled file that holds the JSON schema of `url`, and where in it (a JSON Pointer); None: there is none."""
    bundled, definition = _DEFINED_IN.get(url, (url, ""))
    resource = manifest("schemas").get(bundled)
    return None if resource is None else (resource, definition and f"/$defs/{definition}")


def load_schema(url: str) -> dict[str, Any]:
    """The JSON schema that `url` stands for, bundled or defined in a bundled one, as a fresh dict. Raises as `load`."""
    bundled, definition = _DEFINED_IN.get(url, (url, ""))
    document: dict[str, Any] = json.loads(_pinned_bytes("schemas", bundled))
    return {**document["$defs"][definition], "$defs": document["$defs"]} if definition else document


def digest_sri(url: str) -> str:
    """The `digestSRI` of a bundled context ("sha256-" + base64), VC Data Model 2.0 §5.3."""
    import base64

    return "sha256-" + base64.b64encode(hashlib.sha256(_pinned_bytes("contexts", url)).digest()).decode()
