"""Which of an issuer's keys a token must have been signed with: what its header names, in the issuer's own document.

A key that only the token itself knows (`jwk`) proves nothing: anybody can write it there. It counts when the issuer's
document lists the very same key (RFC 7515 §4.1.3, §10.5; Open Badges 3.0 §8.2.2, §8.6).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from laurel.credential import did, multikey
from laurel.credential.jose import Envelope
from laurel.credential.text import is_absolute_identifier


def find_key(
    envelope: Envelope,
    document: Any,
    *,
    relationship: str = "assertionMethod",
    now: datetime | None = None,
    controller: str | None = None,
) -> str:
    """The Multikey of the method in `document`, the controlled identifier document of the issuer (or holder).

    1. kid is a URL: that method. 2. kid is a bare name: the method with this fragment, or whose JWK has this kid.
    3. no kid: the method that has the header's jwk; without a jwk the only one of the algorithm's kind.
    Raises did.DidError: as `did.find_verification_method`, which takes `controller`, too; key_not_found; ambiguous_key.
    """
    if envelope.kid is not None and is_absolute_identifier(envelope.kid):  # 1
        return did.find_verification_method(document, envelope.kid, relationship, now=now, controller=controller)
    methods = _methods(document, relationship)
    if envelope.kid is not None:  # 2
        wanted = envelope.kid.removeprefix("#")
        methods = [one for one in methods if wanted in (one[0].partition("#")[2], one[1])]
    found: dict[str, str] = {}
    problem: did.DidError | None = None
    for identifier, _ in methods:
        try:
            key = did.find_verification_method(document, identifier, relationship, now=now, controller=controller)
        except did.DidError as error:
            problem = error
        else:
            found[identifier] = key
    if envelope.kid is None:  # 3
        fitting = {
            name: key for name, key in found.items()
            if key == envelope.key or (envelope.key is None and _kind(key) == envelope.key_type)
        }  # fmt: skip
        problem = None if found else problem
    else:
        fitting = found
    keys = set(fitting.values())
    if len(keys) == 1:
        return keys.pop()
    if keys:
        raise did.DidError("ambiguous_key", f"the token does not say which of the issuer's {len(keys)} keys signed it")
    if problem is not None:
        raise problem
    what = f"no verification method {envelope.kid!r}" if envelope.kid is not None else "no such key as the token names"
    raise did.DidError("key_not_found", f"the issuer's document has {what}")


def _kind(key: str) -> multikey.KeyType:
    return multikey.decode_public(key).type


def _methods(document: Any, relationship: str) -> list[tuple[str, object]]:
    """(absolute id, kid of its JWK) of the methods that are listed under the relationship."""
    if not isinstance(document, dict) or not isinstance(document.get("id"), str):
        return []
    described = {
        _absolute(document["id"], one["id"]): one
        for one in _listed(document.get("verificationMethod"))
        if isinstance(one, dict) and isinstance(one.get("id"), str)
    }
    found: list[tuple[str, object]] = []
    for entry in _listed(document.get(relationship)):
        name = entry.get("id") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            identifier = _absolute(document["id"], name)
            method = entry if isinstance(entry, dict) else described.get(identifier, {})
            jwk = method.get("publicKeyJwk")
            found.append((identifier, jwk.get("kid") if isinstance(jwk, dict) else None))
    return found


def _absolute(controller: str, name: str) -> str:
    return controller + name if name.startswith("#") else name


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
