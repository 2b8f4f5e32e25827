"""Canonical forms from a template: documents that differ in a few strings are expanded once, not each time.

The long way of a document (`jsonld.canonical_nquads`) is expansion, N-Quads, RDFC-1.0. For documents of one shape only
some terms of the N-Quads differ, and with them the labels of blank nodes and the order of lines. So:

1. compile: put marks into the varying places, write the N-Quads once with each of two kinds of marks, and learn which
   terms the places become. What the two disagree on depends on values: it is not compiled.
2. fill: SHA-256 of the first-degree quads of the blank nodes that a value touches (RDFC-1.0 §4.6); the sorted hashes
   give the labels (§4.4.3 steps 3 and 4); the lines in their order, with labels and values in, are the canonical form.

`NeedsFullWay` is raised whenever step 2 is not plainly the same as the long way: equal hashes (§4.4.3 step 5 would have
to look at whole neighbourhoods), an IRI that two places share or that stands in the document already, a value that
would be escaped or read as something else. Every place has a rule (`Slot.accepts`) and no value gets round it.

Nothing is generated or evaluated: a template is lists of bytes with holes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, NamedTuple

from laurel.credential import contexts, jsonld
from laurel.credential.rdf import UnsafeDocument

Path = tuple[str | int, ...]

_MAX_LAYOUTS = 192  # orders of lines kept per template; they grow factorially with the blank nodes that values touch
_SCHEMES = frozenset({"http", "https", "urn", "did"})
_LINE = re.compile(
    r'(<[^ ]*>|_:[^ ]+) (<[^ ]*>) (<[^ ]*>|_:[^ ]+|"(?:[^"\\]|\\.)*"(?:\^\^<[^ ]*>|@[A-Za-z0-9-]+)?) \.'
).fullmatch
_DOUBLE = "^^<http://www.w3.org/2001/XMLSchema#double>"
_JSON = "^^<http://www.w3.org/1999/02/22-rdf-syntax-ns#JSON>"

# http(s) with a plain host, urn:uuid, DIDs without path: absolute for JSON-LD whatever the context's terms are called
# (checked in `_reserved`), valid for every RDF parser, and identifiers to lint (text.is_absolute_identifier).
_PART = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]++|%[0-9A-Fa-f]{2})*+"
_WEB = rf"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::(?:[0-9]{{1,4}}|[1-5][0-9]{{4}}))?(?:/{_PART})?(?:\?{_PART})?(?:\#{_PART})?"
_WEB_IRI = re.compile(_WEB).fullmatch
_IRI = re.compile(
    rf"{_WEB}"
    r"|urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|did:[a-z0-9]+:(?:[A-Za-z0-9._:-]++|%[0-9A-Fa-f]{2})++"
).fullmatch


class NeedsFullWay(Exception):
    """This value, or this document, can not be done by a template; the message says why. The long way can do it."""


class NotCompilable(NeedsFullWay):
    """No template can be made of this document."""


class Slot(NamedTuple):
    """A varying string. iri: it becomes an IRI; accepts: whether a value surely goes the template's way."""

    path: Path
    iri: bool
    accepts: Callable[[str], object]  # truthy or not


def is_plain_iri(text: str) -> bool:
    """Whether `text` is an IRI that means itself in every document: the rule of an IRI slot."""
    return _IRI(text) is not None


def iri_slot(path: Path) -> Slot:
    """The slot of an identifier."""
    return Slot(path, True, _IRI)


def web_slot(path: Path) -> Slot:
    """The slot of an address on the web."""
    return Slot(path, True, _WEB_IRI)


def is_plain_text(text: str) -> bool:
    """Whether `text` stands as it is in N-Quads and in JSON: printable, and nothing to escape."""
    return text.isprintable() and '"' not in text and "\\" not in text


def value_at(document: Any, path: Path) -> Any:
    """The value at `path`; None when there is none."""
    for step in path:
        try:
            document = document[step]
        except (KeyError, IndexError, TypeError):
            return None
    return document


class _Form:
    """Bytes with holes: `fixed` has a place after each piece but the last; `fields` fill them in."""

    __slots__ = ("_fixed", "_pick")

    def __init__(self, tokens: Sequence[bytes | int]) -> None:
        fixed: list[bytes] = [b""]
        holes: list[int] = []
        for token in tokens:
            if isinstance(token, bytes):
                fixed[-1] += token
            else:
                holes.append(token)
                fixed += [b"", b""]
        self._fixed = fixed
        self._pick: Callable[[Sequence[bytes]], Sequence[bytes]]
        if len(holes) > 1:
            self._pick = itemgetter(*holes)
        else:
            self._pick = lambda fields: [fields[hole] for hole in holes]

    def fill(self, fields: Sequence[bytes]) -> bytes:
        pieces = self._fixed.copy()
        pieces[1::2] = self._pick(fields)
        return b"".join(pieces)


class JsonTemplate:
    """The compact JSON of a document, in its own key order, with the slots as holes."""

    def __init__(self, document: dict[str, Any], paths: Sequence[Path], encode: Callable[[Any], bytes]) -> None:
        marks = _marks(document, len(paths), "laurel-json-")
        text = encode(_with(document, paths, marks))
        tokens: list[bytes | int] = []
        places = sorted((text.index(b'"%b"' % mark.encode()), number) for number, mark in enumerate(marks))
        last = 0
        for start, number in places:
            tokens += [text[last : start + 1], number]
            last = start + 1 + len(marks[number])
        self._form = _Form([*tokens, text[last:]])

    def fill(self, fields: Sequence[bytes]) -> bytes:
        """The JSON with these UTF-8 values, none of which needs an escape."""
        return self._form.fill(fields)


class CanonicalTemplate:
    """The RDFC-1.0 canonical N-Quads of every document that differs from `document` in the slots alone."""

    def __init__(self, document: dict[str, Any], slots: Sequence[Slot]) -> None:
        """Raises NotCompilable."""
        if not all(isinstance(url, str) for url in _contexts_in(document)):
            raise NotCompilable("the document brings a context of its own; its terms could be anything")
        self._slots = tuple(slots)
        rows = _probe(document, slots, "https://%s.example/x")
        if rows != _probe(document, slots, "urn:x-%s:y"):
            raise NotCompilable("the document's structure depends on the values")
        self._rows = _without_repetitions(rows)
        self._check_slots()
        self._check_order()
        self._iri_slots = [number for number, slot in enumerate(slots) if slot.iri]
        self._iris = sorted({token for row in rows for token in row if isinstance(token, bytes) and token[:1] == b"<"})
        self._reserved = {b"<%b>" % key.encode() for key in _reserved()}.union(self._iris)
        self._lines = [_Form(_tokens(row, len(slots))) for row in self._rows]
        self._compile_hashes()
        self._layouts: dict[Any, _Form] = {}

    # -- compiling -------------------------------------------------------------------------------------------

    def _check_slots(self) -> None:
        for number, slot in enumerate(self._slots):
            found = {
                token.suffix is None
                for row in self._rows
                for token in row
                if isinstance(token, _Slotted) and token.slot == number
            }
            if found != {slot.iri}:
                raise NotCompilable(f"{slot.path} does not always become {'an IRI' if slot.iri else 'a literal'}")

    def _check_order(self) -> None:
        """A literal that varies may not share subject and predicate with another object: they could be equal."""
        groups: dict[tuple[Any, Any], list[Any]] = {}
        for subject, predicate, value in self._rows:
            groups.setdefault((subject, predicate), []).append(value)
        for values in groups.values():
            if len(values) > 1 and any(isinstance(value, _Slotted) and value.suffix is not None for value in values):
                raise NotCompilable("a varying literal is one of several values of a property")

    def _compile_hashes(self) -> None:
        """RDFC-1.0 §4.6 for each blank node: done now, or a form that is filled and hashed for each document."""
        nodes = sorted({token.number for row in self._rows for token in row if isinstance(token, _Blank)})
        self._fixed_hashes: dict[bytes, int] = {}
        self._hash_forms: list[tuple[int, _Form]] = []
        for node in nodes:
            rows = [row for row in self._rows if _Blank(node) in row]
            labels = [b"_:a" if one == node else b"_:z" for one in range(len(nodes))]
            lines = [_tokens(row, 0, labels=labels) for row in rows]
            if not any(isinstance(token, int) for line in lines for token in line):
                text = b"".join(sorted(b"".join(line) for line in lines))  # type: ignore[arg-type]
                self._fixed_hashes[hashlib.sha256(text).digest()] = node
                continue
            starts = sorted((_until_hole(line), number) for number, line in enumerate(lines))
            for ((first, open_), _), ((second, _), _) in pairwise(starts):
                if open_ and second.startswith(first):
                    raise NotCompilable("the order of a blank node's statements depends on the values")
            self._hash_forms.append((node, _Form([token for _, number in starts for token in lines[number]])))
        if len(self._fixed_hashes) + len(self._hash_forms) != len(nodes):
            raise NotCompilable("two blank nodes have equal first-degree hashes")
        self._nodes = len(nodes)

    # -- filling ---------------------------------------------------------------------------------------------

    def fields(self, values: Sequence[str]) -> list[bytes]:
        """The values in UTF-8, each accepted by its slot. Raises NeedsFullWay."""
        for slot, value in zip(self._slots, values, strict=True):
            if not slot.accepts(value):
                raise NeedsFullWay(f"the value of {slot.path} is out of the ordinary")
        return [value.encode() for value in values]

    def fill(self, fields: Sequence[bytes]) -> bytes:
        """The canonical form for `fields` (made by `fields`). Raises NeedsFullWay."""
        iris = [b"<%b>" % fields[number] for number in self._iri_slots]
        different = set(iris)
        if len(different) != len(iris):
            raise NeedsFullWay("two identifiers are equal: their statements would be one node's")
        if not self._reserved.isdisjoint(different):
            raise NeedsFullWay("an identifier stands elsewhere in the document, too")
        nodes = self._fixed_hashes.copy()
        for node, form in self._hash_forms:
            nodes[hashlib.sha256(form.fill(fields)).digest()] = node
        if len(nodes) != self._nodes:
            raise NeedsFullWay("two blank nodes have equal first-degree hashes")
        order = [nodes[digest] for digest in sorted(nodes)]
        key = (
            *order,
            *[bisect_left(self._iris, iri) for iri in iris],
            *map(iris.index, sorted(iris)),
        )
        layout = self._layouts.get(key)
        if layout is not None:
            return layout.fill(fields)
        return self._arrange(fields, order, key)

    def _arrange(self, fields: Sequence[bytes], order: list[int], key: Any) -> bytes:
        """Sort the lines as they are now; keep their order for the next document with the same order of terms."""
        labels = [b""] * self._nodes
        for place, node in enumerate(order):
            labels[node] = b"_:c14n%d" % place
        filled = [*fields, *labels]
        lines = sorted((line.fill(filled), number) for number, line in enumerate(self._lines))
        if len(self._layouts) < _MAX_LAYOUTS:
            self._layouts[key] = _Form(
                [token for _, number in lines for token in _tokens(self._rows[number], 0, labels=labels)]
            )
        return b"".join([line for line, _ in lines])


# -- how a document becomes rows of tokens -------------------------------------------------------------------


class _Blank(NamedTuple):
    number: int


class _Slotted(NamedTuple):
    slot: int
    suffix: bytes | None  # None: an IRI; else what follows the closing quote of the literal


_Token = bytes | _Blank | _Slotted
_Row = tuple[_Token, bytes, _Token]


def _probe(document: dict[str, Any], slots: Sequence[Slot], iri: str) -> list[_Row]:
    names = _marks(document, len(slots), "laurel-slot-")
    marks = [iri % name if slot.iri else f"{name} text" for name, slot in zip(names, slots, strict=True)]
    numbers = {mark: number for number, mark in enumerate(marks)}
    try:
        quads = jsonld.to_nquads(_with(document, [slot.path for slot in slots], marks))
    except (UnsafeDocument, contexts.UnknownContext) as error:
        raise NotCompilable(f"not with these slots: {error}") from error
    blanks: dict[str, int] = {}

    def token(text: str) -> _Token:
        if text.startswith("_:"):
            return _Blank(blanks.setdefault(text, len(blanks)))
        end = len(text) - 1 if text[0] == "<" else text.rindex('"')
        body, suffix = text[1:end], None if text[0] == "<" else text[end + 1 :]
        if body in numbers:
            if suffix is not None and suffix in (_DOUBLE, _JSON):
                raise NotCompilable("a varying value would be rewritten by its datatype")
            return _Slotted(numbers[body], None if suffix is None else suffix.encode())
        if "laurel-slot-" in text and any(name in text for name in names):
            raise NotCompilable("a varying value becomes a part of a term")
        return text.encode()

    rows: list[_Row] = []
    for line in quads.split("\n")[:-1]:
        match = _LINE(line)
        if match is None:
            raise NotCompilable("a statement of a named graph, or one with unusual characters")
        subject, predicate, value = match.groups()
        verb = token(predicate)
        if not isinstance(verb, bytes):
            raise NotCompilable("a varying value becomes a property")
        rows.append((token(subject), verb, token(value)))
    return rows


def _without_repetitions(rows: list[_Row]) -> list[_Row]:
    """A dataset is a set: what is said twice (an issuer that is also the creator) stands in it once."""
    if any(rows.count(row) > 1 for row in rows if any(isinstance(token, _Slotted) for token in row)):
        raise NotCompilable("a statement with a varying value is made twice")
    return list(dict.fromkeys(rows))


def _tokens(row: _Row, slots: int, *, labels: Sequence[bytes] | None = None) -> list[bytes | int]:
    """The line of a row: bytes, and numbers of fields. Without `labels` those are fields, too, after the slots."""
    found: list[bytes | int] = []
    for token in row:
        if isinstance(token, _Blank):
            found.append(labels[token.number] if labels else slots + token.number)
        elif isinstance(token, _Slotted):
            found += [b"<", token.slot, b">"] if token.suffix is None else [b'"', token.slot, b'"' + token.suffix]
        else:
            found.append(token)
        found.append(b" ")
    return [*found, b".\n"]


def _until_hole(line: list[bytes | int]) -> tuple[bytes, bool]:
    """The bytes before the first hole, and whether there is one."""
    start = b""
    for token in line:
        if isinstance(token, int):
            return start, True
        start += token
    return start, False


def _marks(document: dict[str, Any], count: int, stem: str) -> list[str]:
    text = json.dumps(document)
    while stem in text:
        stem += "x-"
    return [f"{stem}{number}-z" for number in range(count)]


def _with(document: dict[str, Any], paths: Sequence[Path], values: Sequence[str]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(document))
    for path, value in zip(paths, values, strict=True):
        parent = value_at(copy, path[:-1])
        if not isinstance(value_at(copy, path), str):
            raise NotCompilable(f"{path} is not a string")
        parent[path[-1]] = value
    return copy


def _contexts_in(document: Any) -> list[Any]:
    found: list[Any] = []
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "@context" in value:
                context = value["@context"]
                found += context if isinstance(context, list) else [context]
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return found


@functools.cache
def _reserved() -> frozenset[str]:
    """Every key of every bundled context: an IRI spelt like one could be read as a term. Raises NotCompilable."""
    keys: set[str] = set()
    stack: list[Any] = [contexts.load(url) for url in contexts.manifest()]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            keys |= value.keys()
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    if keys & _SCHEMES:
        raise NotCompilable(f"a context uses {sorted(keys & _SCHEMES)} as terms; identifiers could be read as prefixed")
    return frozenset(keys)
