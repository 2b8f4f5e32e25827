"""Decentralised identifiers: did:web for issuers, did:key for keys that speak for themselves.

DID Core 1.0, Controlled Identifiers 1.0, the did:web and did:key method specifications. Pure: fetching a document is
the caller's, through the guarded HTTP client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from laurel.credential import multibase, multikey
from laurel.credential.contexts import CID_V1, DID_V1, JWK_V1, MULTIKEY_V1
from laurel.credential.text import parse_timestamp
from laurel.errors import LaurelError

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::\d{1,5})?", re.ASCII).fullmatch
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})+", re.ASCII).fullmatch
_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII).fullmatch
_FORBIDDEN_IN_SEGMENT = re.compile(r"[\x00-\x20/\\?#\x7f]").search
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1"})


class DidError(LaurelError):
    """A DID or DID document is not usable. `code` is stable:

    malformed_did, unsupported_method, malformed_document, wrong_document, key_not_found, wrong_controller,
    not_for_assertion, unsupported_key, key_revoked, key_expired, ambiguous_key.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[DidError], tuple[str, str]]:
        return type(self), (self.code, self.detail)


class DidKey(NamedTuple):
    """A key of a DID document: its fragment, its public Multikey value, and whether it still signs."""

    kid: str
    public_key_multibase: str
    active: bool = True


def did_web(base_url: str, slug: str) -> str:
    """The DID of the issuer `slug` that is served under `base_url`: `did:web:host%3Aport:issuers:slug`.

    A path in `base_url` becomes leading segments. Raises DidError("malformed_did").
    """
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise DidError("malformed_did", f"{base_url!r} is not a URL: {error}") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not _HOST(host) or parts.username is not None:
        raise DidError("malformed_did", f"{base_url!r} is not an http(s) URL with a plain host name")
    if parts.query or parts.fragment:
        raise DidError("malformed_did", f"{base_url!r} has a query or fragment")
    authority = host if port is None else f"{host}%3A{port}"
    path = [part for part in parts.path.split("/") if part]
    segments = [*path, "issuers", slug]
    for segment in segments:
        if not _PLAIN_SEGMENT(segment) or segment in (".", ".."):
            raise DidError("malformed_did", f"{segment!r} is not a path segment of letters, digits, '.', '_' and '-'")
    return ":".join(("did:web", authority, *segments))


def did_web_url(did: str, *, allow_localhost_http: bool = False) -> str:
    """The URL of a did:web DID's document (did:web §2.5.2): https always.

    `allow_localhost_http`: for development, documents of localhost and 127.0.0.1 are looked up by plain http.
    Raises DidError: malformed_did, unsupported_method.
    """
    method, parts = _did_parts(did)
    if method != "web":
        raise DidError("unsupported_method", f"{did!r} is not a did:web")
    authority = unquote(parts[0])
    if not _HOST(authority):
        raise DidError("malformed_did", f"{parts[0]!r} is not a host with an optional %3A port")
    path = []
    for part in parts[1:]:
        segment = unquote(part)
        if not _SEGMENT(part) or segment in (".", "..") or _FORBIDDEN_IN_SEGMENT(segment):
            raise DidError("malformed_did", f"{part!r} is not a path segment")
        path.append(quote(segment, safe="-._~"))
    host = authority.partition(":")[0].lower()
    scheme = "http" if allow_localhost_http and host in _LOCAL_HOSTS else "https"
    tail = "/".join(path) if path else ".well-known"
    return f"{scheme}://{authority}/{tail}/did.json"


def _did_parts(did: str) -> tuple[str, list[str]]:
    if any(mark in did for mark in "/?#"):
        raise DidError("malformed_did", f"{did!r} is a DID URL, not a DID")
    pieces = did.split(":")
    if len(pieces) < 3 or pieces[0] != "did" or not pieces[1] or not all(pieces[2:]):
        raise DidError("malformed_did", f"{did!r} is not of the form did:method:identifier")
    return pieces[1], pieces[2:]


def did_key(public_multibase: str) -> str:
    """The did:key of a public Multikey value: Ed25519, P-256 or P-384. Raises multibase.MultibaseError."""
    multikey.decode_public(public_multibase)
    return f"did:key:{public_multibase}"


def resolve_did_key(did: str) -> dict[str, Any]:
    """The DID document of a did:key of Ed25519, P-256 or P-384 (did:key §3.1.1). Raises DidError."""
    method, parts = _did_parts(did)
    if method != "key":
        raise DidError("unsupported_method", f"{did!r} is not a did:key")
    if len(parts) != 1:
        raise DidError("malformed_did", f"{did!r} has more than one identifier")
    try:
        multikey.decode_public(parts[0])
    except multibase.MultibaseError as error:
        raise DidError("unsupported_key", str(error)) from None
    document = build_did_document(did, [DidKey(parts[0], parts[0])])
    document["authentication"] = list(document["assertionMethod"])
    return document


def build_did_document(
    did: str, keys: Iterable[DidKey | tuple[str, str, bool]], *, also_known_as: Sequence[str] = ()
) -> dict[str, Any]:
    """A DID document with Multikey verification methods, keys that still sign first. An RSA key, for which Controlled
    Identifiers 1.0 §2.2.2 has no Multikey, stands in it as JsonWebKey.

    A retired key (`active` false) stays listed for assertion, so that the badges it signed still verify; a compromised
    key is left out of `keys`. Raises multibase.MultibaseError, or DidError("malformed_document") for a repeated key id.
    """
    methods = verification_methods(did, keys)
    document: dict[str, Any] = {"@context": [DID_V1, MULTIKEY_V1], "id": did}
    if any(method["type"] == "JsonWebKey" for method in methods):
        document["@context"].append(JWK_V1)
    if also_known_as:
        document["alsoKnownAs"] = list(also_known_as)
    return {**document, **_relations(methods)}


def build_controlled_identifier_document(
    url: str, keys: Iterable[DidKey | tuple[str, str, bool]], *, also_known_as: Sequence[str] = ()
) -> dict[str, Any]:
    """The same for an issuer whose id is an https URL (Controlled Identifiers 1.0 §2.1).

    The context of Multikey says nothing that CID_V1 does not; other people's libraries look for it by its name.
    """
    document: dict[str, Any] = {"@context": [CID_V1, MULTIKEY_V1], "id": url}
    if also_known_as:
        document["alsoKnownAs"] = list(also_known_as)
    return {**document, **_relations(verification_methods(url, keys))}


def verification_methods(controller: str, keys: Iterable[DidKey | tuple[str, str, bool]]) -> list[dict[str, Any]]:
    """The keys of `controller`, those that still sign first. Raises as `build_did_document`."""
    ordered = sorted((DidKey(*key) for key in keys), key=lambda key: not key.active)
    if len({key.kid for key in ordered}) != len(ordered):
        raise DidError("malformed_document", "two keys have the same key id")
    methods = []
    for key in ordered:
        kind = multikey.decode_public(key.public_key_multibase).type
        method: dict[str, Any] = {"id": f"{controller}#{key.kid}", "type": "Multikey", "controller": controller}
        if kind == "RSA":
            method |= {"type": "JsonWebKey", "publicKeyJwk": multikey.to_jwk(key.public_key_multibase)}
        else:
            method["publicKeyMultibase"] = key.public_key_multibase
        methods.append(method)
    return methods


def _relations(methods: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"verificationMethod": list(methods), "assertionMethod": [method["id"] for method in methods]}


def jwk_set(document: dict[str, Any]) -> dict[str, Any]:
    """The keys of a document of ours as a JWK Set (RFC 7517 §5), each under its whole id as `kid`."""
    found = []
    for method in document["verificationMethod"]:
        jwk = method.get("publicKeyJwk") or multikey.to_jwk(method["publicKeyMultibase"])
        found.append({"kid": method["id"], "use": "sig", **jwk})
    return {"keys": found}


def find_verification_method(
    did_document: Any,
    vm_id: str,
    relationship: str = "assertionMethod",
    *,
    now: datetime | None = None,
    controller: str | None = None,
) -> str:
    """The public Multikey value of the verification method `vm_id`, if it may be used for `relationship`.

    Controlled Identifiers 1.0 §3.3: the document is that of the method's DID, the method's controller is that DID, and
    the method is listed under the relationship (assertionMethod: it may sign credentials; authentication:
    presentations). With `now`, a method past its `expires` or `revoked` is refused
    (§2.2), without it every one that has a `revoked`. With `controller`, whose document it is,
    the method may have a URL of its own that is no fragment of the document's. Raises DidError with the first thing
    that is wrong.
    """
    did, mark, fragment = vm_id.partition("#")
    if controller is not None and controller != did:
        did = controller
    elif not mark or not fragment or not did:
        raise DidError("malformed_did", f"{vm_id!r} does not name a key (DID#fragment)")
    if not isinstance(did_document, dict):
        raise DidError("malformed_document", "the DID document is not a JSON object")
    if did_document.get("id") != did:
        raise DidError("wrong_document", f"the document describes {did_document.get('id')!r}, not {did!r}")
    authorized = did_document.get(relationship)
    candidates = _entries(did_document.get("verificationMethod")) + _entries(authorized)
    method = next((entry for entry in candidates if _is_named(entry.get("id"), did, vm_id)), None)
    if method is None:
        raise DidError("key_not_found", f"the DID document has no verification method {vm_id!r}")
    if method.get("controller") != did:
        raise DidError("wrong_controller", f"{vm_id!r} is controlled by {method.get('controller')!r}, not {did!r}")
    listed = authorized if isinstance(authorized, list) else [authorized]
    if not any(_is_named(entry.get("id") if isinstance(entry, dict) else entry, did, vm_id) for entry in listed):
        raise DidError("not_for_assertion", f"{vm_id!r} is not listed in {relationship}")
    if method.get("revoked") is not None:
        revoked = parse_timestamp(method["revoked"])
        if now is None or revoked is None or revoked <= now:
            raise DidError("key_revoked", f"{vm_id!r} was revoked at {method['revoked']!r}")
    if now is not None and method.get("expires") is not None:
        expires = parse_timestamp(method["expires"])
        if expires is None or expires <= now:
            raise DidError("key_expired", f"{vm_id!r} expired at {method['expires']!r}")
    return _public_key(method, vm_id)


def _entries(value: Any) -> list[dict[str, Any]]:
    listed = value if isinstance(value, list) else [value]
    return [entry for entry in listed if isinstance(entry, dict)]


def _is_named(identifier: Any, did: str, vm_id: str) -> bool:
    if not isinstance(identifier, str):
        return False
    return identifier == vm_id or (identifier.startswith("#") and did + identifier == vm_id)  # DID Core §3.2.2


# Types that name their kind of key, and the only kind that they may hold.
_TYPED_KEYS: dict[str, multikey.KeyType] = {
    "Ed25519VerificationKey2020": "Ed25519",
    "EcdsaSecp256r1VerificationKey2019": "P-256",
    "EcdsaSecp384r1VerificationKey2019": "P-384",
}


def _public_key(method: dict[str, Any], vm_id: str) -> str:
    kind, value, jwk = method.get("type"), method.get("publicKeyMultibase"), method.get("publicKeyJwk")
    if value is not None and jwk is not None:  # Controlled Identifiers 1.0 §2.2: one key, written once
        raise DidError("malformed_document", f"{vm_id!r} has both publicKeyMultibase and publicKeyJwk")
    if isinstance(jwk, dict) and multikey.SECRET_MEMBERS & jwk.keys():
        raise DidError("secret_key_published", f"{vm_id!r} holds its secret key: anybody can sign with it")
    try:
        if isinstance(value, str) and (kind == "Multikey" or (isinstance(kind, str) and kind in _TYPED_KEYS)):
            key = multikey.decode_public(value)
            if _TYPED_KEYS.get(kind, key.type) != key.type:
                raise DidError("unsupported_key", f"{vm_id!r} of type {kind!r} holds a key of {key.type}")
            return value
        if kind in ("JsonWebKey", "JsonWebKey2020") and isinstance(jwk, dict):
            return multikey.from_jwk(jwk)
    except multibase.MultibaseError as error:
        raise DidError("unsupported_key", f"{vm_id!r}: {error}") from None
    raise DidError(
        "unsupported_key", f"{vm_id!r} of type {kind!r} is not a key that Laurel reads (Multikey, JsonWebKey)"
    )
