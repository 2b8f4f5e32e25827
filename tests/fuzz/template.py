"""Templates of credentials: for any values the same bytes as the full way, or a word that the full way is needed."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from laurel.credential import contexts, jsonld, slots, template
from laurel.credential.jsonld import UnsafeDocument
from tests.fuzz.shaping import Bytes
from tests.mutants.places import at
from tests.unit.credential.samples import badge

SEEDS = (
    b"",
    b"\x00\x05hello",
    b"\x03\x10did:example:1234",
    b"\x01\x09urn:uuid:",
    b"\x02\x142026-01-01T00:00:00Z",
    b'\x04\x06"\\\n\x00\xe2\x80\xa8',
)


@cache
def _compiled() -> tuple[dict[str, Any], tuple[slots.Path, ...], template.CanonicalTemplate]:
    document = badge()
    paths = tuple(slots.varying_paths(document))
    return document, paths, template.CanonicalTemplate(document, [slots.slot_at(document, path) for path in paths])


def read(data: bytes) -> None:
    document, paths, compiled = _compiled()
    source = Bytes(data)
    values = [str(at(document, path)) for path in paths]
    for _ in range(1 + source.number() % 3):
        place = source.number() % len(values)
        values[place] = source.choice(values) if source.number() % 4 == 0 else source.text(48)
    try:
        filled = compiled.fill(compiled.fields(values))
    except template.NeedsFullWay:
        return
    made = copy.deepcopy(document)
    for path, value in zip(paths, values, strict=True):
        at(made, path[:-1])[path[-1]] = value
    try:
        assert filled == jsonld.canonical_nquads(made), values
    except (UnsafeDocument, contexts.UnknownContext) as error:
        raise AssertionError(f"a template filled what the full way refuses: {values}") from error
