"""Keys that have an address of their own, apart from the document of the issuer whose they are. Purely.

Open Badges 3.0 §8.5 lets a key be any HTTP URL from which a JWK comes; it does not say whose key that is. Anybody could
then sign as anybody. So both sides must say it, as Controlled Identifiers 1.0 §2.2 and §3.3 ask of a key and its
controller:
 1. the issuer's own document, found at the issuer's id, lists the key's URL under `assertionMethod`;
 2. what is found at the key's URL names the issuer as its `controller`. A bare JWK or a JWK Set has no such word: it
    must come from the issuer's own origin (RFC 6454 §4), where nobody else answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from laurel.credential.did import DidError


def base(method: str) -> str:
    """The document that a key's URL is a part of: the URL without its fragment."""
    return method.partition("#")[0]


def same_origin(one: str, other: str) -> bool:
    """Whether two web URLs have scheme, host and port in common (RFC 6454 §4)."""
    try:
        parts = [urlsplit(url) for url in (one, other)]
        origins = [(part.scheme, part.hostname, part.port or 443) for part in parts]
    except ValueError:
        return False
    return origins[0] == origins[1] and origins[0][1] is not None


def listed(document: Mapping[str, Any], relationship: str = "assertionMethod") -> set[str]:
    """The methods that a document lists under the relationship, by reference or by value."""
    entries = (entry.get("id") if isinstance(entry, dict) else entry for entry in _list(document.get(relationship)))
    return {entry for entry in entries if isinstance(entry, str)}


def described(document: Mapping[str, Any], relationship: str = "assertionMethod") -> set[str]:
    """The methods that a document holds by value."""
    entries = [*_list(document.get("verificationMethod")), *_list(document.get(relationship))]
    return {one["id"] for one in entries if isinstance(one, dict) and isinstance(one.get("id"), str)}


def elsewhere(document: Mapping[str, Any], methods: Iterable[str]) -> list[str]:
    """Those of `methods` (web URLs) that the document lists, but that have to be fetched from where they are."""
    missing = listed(document) - described(document)
    return [one for one in dict.fromkeys(methods) if one in missing and base(one) != document.get("id")]


def method_at(found: Mapping[str, Any], method: str, issuer: str) -> dict[str, Any]:
    """The verification method `method` of `issuer`, from what its URL answered with. Raises DidError.

    Read are: the method itself, a controlled identifier document that holds it, a JWK, a JWK Set.
    """
    if "kty" in found or isinstance(found.get("keys"), list):
        if not same_origin(method, issuer):
            detail = f"{method!r} is a bare JWK and not of the issuer's own origin: nothing there says whose key it is"
            raise DidError("wrong_controller", detail)
        key = _jwk(found, method)
        return {"id": method, "type": "JsonWebKey", "controller": issuer, "publicKeyJwk": key}
    entries = [found, *(one for one in _list(found.get("verificationMethod")) if isinstance(one, dict))]
    if found.get("id") not in (method, base(method)):
        raise DidError("wrong_document", f"what is at {method!r} describes {found.get('id')!r}")
    names = {method, "#" + method.partition("#")[2]} if "#" in method else {method}
    for entry in entries:
        if entry.get("id") in names and ("publicKeyMultibase" in entry or "publicKeyJwk" in entry):
            if entry.get("controller") != issuer:
                detail = f"{method!r} is controlled by {entry.get('controller')!r}, not by {issuer!r}"
                raise DidError("wrong_controller", detail)
            return {**entry, "id": method}
    raise DidError("key_not_found", f"what is at {base(method)!r} has no key {method!r}")


def _jwk(found: Mapping[str, Any], method: str) -> Mapping[str, Any]:
    """The JWK itself, or the one of a set that the URL names (RFC 7517 §4.5, §5)."""
    if "kty" in found:
        return found
    keys = [one for one in _list(found.get("keys")) if isinstance(one, dict)]
    wanted = {method, method.partition("#")[2]}
    fitting = [one for one in keys if isinstance(one.get("kid"), str) and one["kid"] in wanted]
    if len(fitting) != 1:
        raise DidError("key_not_found", f"{len(fitting)} keys of the JWK Set have the kid of {method!r}")
    return fitting[0]


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
