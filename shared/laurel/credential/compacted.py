"""A document says what its JSON says: properties that Laurel reads by their names may not hide behind other names.

RDFC-1.0 signs statements, not JSON. The same statements can be written with a full IRI, an alias of an inline context,
@nest, @included, @reverse or a prefix in place of the plain name: `validUntil` or `credentialStatus` would then be
signed, yet unseen by everybody who reads the JSON, and an expired or revoked badge would be valid again.
(VC Data Model 2.0 §1.3: a conforming document is a *compacted* JSON-LD document.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from laurel.credential import contexts
from laurel.credential.rdf import Unsafe

_MOVING = frozenset({"@nest", "@included", "@reverse", "@graph", "@set"})
_OF_TEXTS = frozenset({"@language", "@direction", "@index"})
_CREDENTIAL = "VerifiableCredential"
_CLAUSE = "(VC Data Model 2.0 §1.3: documents are compacted)"


@functools.cache
def bundled_names() -> Mapping[str, frozenset[str]]:
    """IRI → the terms that stand for it in the bundled contexts."""
    names: dict[str, set[str]] = {}
    for url in contexts.manifest():
        _collect(contexts.load(url).get("@context"), {}, names)
    return {iri: frozenset(terms) for iri, terms in names.items()}


def _collect(context: Any, outer: Mapping[str, Any], names: dict[str, set[str]]) -> None:
    for one in context if isinstance(context, list) else [context]:
        if not isinstance(one, dict):
            continue
        known = {**outer, **one}
        for term, definition in one.items():
            iri = _iri(term, known) if not term.startswith("@") else None
            if iri is not None:
                names.setdefault(iri, set()).add(term)
            if isinstance(definition, dict):
                _collect(definition.get("@context"), known, names)


def _iri(term: str, known: Mapping[str, Any]) -> str | None:
    """What a term of a bundled context stands for: its @id, which may itself be a term or have a prefix."""
    definition = known.get(term)
    iri = definition.get("@id") if isinstance(definition, dict) else definition
    if not isinstance(iri, str):
        return None
    prefix, colon, rest = iri.partition(":")
    if not colon:
        return iri if iri.startswith("@") or iri == term else _iri(iri, known)
    base = _iri(prefix, known) if not rest.startswith("//") and prefix in known else None
    return iri if base is None else base + rest


@functools.cache
def _property_names(iri: str) -> frozenset[str]:
    """Open Badges gives a class and a property one IRI (Achievement, achievement): properties begin in lower case."""
    names = bundled_names().get(iri, frozenset())
    return frozenset(name for name in names if not name[:1].isupper()) or names


def check_key(key: str, expanded: str | None, active: Mapping[str, Any], element: Mapping[str, Any]) -> None:
    """Refuse a property of `element` whose key hides what it is. active: the term definitions in force.

    Raises `rdf.Unsafe`.
    """
    if expanded is None:
        return
    definition = active.get(key)
    if expanded.startswith("@"):
        if expanded in _MOVING:
            raise Unsafe(f"{key!r} moves statements to where nobody looks for them {_CLAUSE}", key)
        if expanded in _OF_TEXTS and ("@value" not in element or element[key] is None):
            raise Unsafe(f"{key!r} says nothing here, so that JSON-LD drops it and it is not signed; leave it out", key)
        if expanded in ("@id", "@type") and key != expanded[1:]:
            alias = active.get(expanded[1:])
            aliased = alias is not None and alias["@id"] == expanded and "@value" not in element
            if aliased or key != expanded:
                raise Unsafe(f"{key!r} is to be written as {expanded[1:]!r} {_CLAUSE}", key)
    elif definition is not None and definition.get("reverse"):
        raise Unsafe(
            f"{key!r} is a reverse property: it moves statements to where nobody looks for them {_CLAUSE}", key
        )
    elif (names := _property_names(expanded)) and key not in names:
        raise Unsafe(f"{key!r} is another spelling of {_listed(names)} {_CLAUSE}", key)


def check_own_id(document: Mapping[str, Any]) -> None:
    """Refuse a credential that says things of itself in two places: who reads it looks in one. Raises `rdf.Unsafe`."""
    own, types = document.get("id"), document.get("type")
    if types != _CREDENTIAL and not (isinstance(types, list) and _CREDENTIAL in types):
        return
    pending = [(name, inner) for name, inner in document.items() if name != "proof"] if isinstance(own, str) else []
    while pending:
        name, value = pending.pop()
        if isinstance(value, list):
            pending += [(name, inner) for inner in value]
        elif isinstance(value, dict):
            if value.get("id") == own and len(value) > 1:
                raise Unsafe(f"{name!r} has the id of the whole document and says more of it", own)
            pending += value.items()


def check_value(value: str, expanded: str, *, vocabulary: bool) -> None:
    """Refuse an IRI, a type (`vocabulary`) or a word whose spelling hides what it is. Raises `rdf.Unsafe`."""
    if not vocabulary:
        if expanded == value:
            return
        raise Unsafe(f"{value!r} stands for {expanded!r} by a prefix; write it in full", value)
    names = bundled_names().get(expanded)
    if names and value not in names:
        raise Unsafe(f"{value!r} is another spelling of {_listed(names)} {_CLAUSE}", value)


def _listed(names: Iterable[str]) -> str:
    return " or ".join(repr(name) for name in sorted(names))
