"""Expanded JSON-LD to N-Quads, and N-Quads to their canonical form (RDFC-1.0).

(JSON-LD 1.1 API §8.1, §8.2 "Deserialize JSON-LD to RDF"; RDF Dataset Canonicalization 1.0.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import pyoxigraph

from laurel.credential import jcs
from laurel.errors import LaurelError

# Every relative reference resolves into this scheme (JSON-LD would silently take the document's address as the base).
RELATIVE = "x-laurel-relative:"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XSD = "http://www.w3.org/2001/XMLSchema#"
_I18N = "https://www.w3.org/ns/i18n#"
MAX_BLANK_NODES = 10_000  # of a document that is put into canonical form
_JSON_SAFE_INTEGER = 2**53  # RFC 7493 §2.2: JavaScript verifiers can not read larger integers exactly

# Canonical N-Quads, RDF 1.2 N-Quads §5: short escapes, \u for the other controls and DEL, everything else as it is.
_ESCAPES = {code: f"\\u{code:04X}" for code in [*range(0x20), 0x7F]}
_ESCAPES |= {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
_NEEDS_ESCAPE = re.compile('[\x00-\x1f\x7f"\\\\]').search
_IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20<>\"{}|^`\\\ud800-\udfff]*").fullmatch
_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII).fullmatch
_WRITTEN_IRI = re.compile(r"<([^<>\s]*)>").findall
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*").fullmatch


class UnsafeDocument(LaurelError):
    """Something in the document would not be covered by a signature. `pointer` is a JSON Pointer (RFC 6901) to it.

    Where the place is not known exactly, the pointer names the nearest enclosing value.
    """

    def __init__(self, pointer: str, reason: str) -> None:
        super().__init__(f"{pointer or '/'}: {reason}")
        self.pointer = pointer
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnsafeDocument], tuple[str, str]]:
        return type(self), (self.pointer, self.reason)


class Unsafe(Exception):
    def __init__(self, reason: str, culprit: object = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: list[str | int] = []
        self.below: object = culprit

    def climb(self, element: object) -> None:
        """Extend the path by the step from `element` to the value below it."""
        if self.below is element:
            return
        steps: list[tuple[str | int, object]] = []
        if isinstance(element, dict):
            steps = list(element.items())
        elif isinstance(element, list):
            steps = list(enumerate(element))
        for step, value in steps:
            if value is self.below or (isinstance(value, str) and value == self.below):
                self.path.insert(0, step)
                break
            if isinstance(value, list) and isinstance(self.below, str) and self.below in value:
                self.path[0:0] = [step, value.index(self.below)]
                break
            if step == self.below and not self.path:  # an undefined term is its own key
                self.path.insert(0, step)
                break
        self.below = element

    def public(self) -> UnsafeDocument:
        parts = (str(step).replace("~", "~0").replace("/", "~1") for step in self.path)
        return UnsafeDocument("".join("/" + part for part in parts), self.reason)


def bad_iris(nquads: str) -> Iterator[str]:
    """What stands between < and > in N-Quads and is no IRI (RFC 3987 §2.2): for messages, once parsing has failed."""
    for iri in _WRITTEN_IRI(nquads):
        try:
            pyoxigraph.NamedNode(iri)
        except ValueError:
            yield iri


class QuadWriter:
    """Expanded JSON-LD → N-Quads lines (JSON-LD 1.1 API §8.1 Deserialize, §8.2 Object and §8.3 List to RDF).

    lines: what was written; blank_nodes: how many of them it names.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._labels: dict[str, str] = {}
        self.blank_nodes = 0

    def _fresh(self) -> str:
        self.blank_nodes += 1
        return f"_:b{self.blank_nodes}"

    def _resource(self, identifier: object) -> str:
        if not isinstance(identifier, str):
            raise Unsafe(f"{identifier!r} is not an IRI", identifier)
        if identifier.startswith("_:"):
            label = self._labels.get(identifier)
            if label is None:
                label = self._labels[identifier] = self._fresh()
            return label
        if identifier.startswith(RELATIVE) or not _IRI(identifier):
            raise Unsafe(f"{identifier!r} is not an absolute IRI", identifier)
        return f"<{identifier}>"

    def node(self, node: Any, graph: str) -> str:
        """Write everything that `node` says into `graph` ("" or " <name>") and return its term."""
        if not isinstance(node, dict):
            raise Unsafe("a value outside of any node is dropped by JSON-LD", node)
        subject = self._resource(node["@id"]) if "@id" in node else self._fresh()
        for key, values in node.items():
            if key == "@id":
                continue
            if key == "@type":
                for type_ in values:
                    self.lines.append(f"{subject} <{_RDF}type> {self._resource(type_)}{graph} .\n")
            elif key == "@graph":
                for member in values:
                    self.node(member, f" {subject}")
            elif key.startswith("@"):
                raise Unsafe(f"{key} is not part of the RDF dataset and would not be signed")
            else:
                predicate = self._predicate(key)
                for value in values:
                    self.lines.append(f"{subject} {predicate} {self._object(value, graph)}{graph} .\n")
        return subject

    def _predicate(self, key: str) -> str:
        if key.startswith("_:"):
            raise Unsafe(f"the blank node {key!r} as a property is dropped by JSON-LD")
        return self._resource(key)

    def _object(self, value: Any, graph: str) -> str:
        if "@value" in value:
            return self._literal(value)
        if "@list" in value:
            return self._list(value, graph)
        return self.node(value, graph)

    def _list(self, value: dict[str, Any], graph: str) -> str:
        if set(value) != {"@list"}:
            raise Unsafe("an index on a list is not part of the RDF dataset and would not be signed")
        members = value["@list"]
        cells = [self._fresh() for _ in members]
        cells.append(f"<{_RDF}nil>")
        for position, member in enumerate(members):
            cell = cells[position]
            self.lines.append(f"{cell} <{_RDF}first> {self._object(member, graph)}{graph} .\n")
            self.lines.append(f"{cell} <{_RDF}rest> {cells[position + 1]}{graph} .\n")
        return cells[0]

    def _literal(self, node: dict[str, Any]) -> str:
        for key in node:
            if key not in ("@value", "@type", "@language", "@direction"):
                raise Unsafe(f"{key} on a value is not part of the RDF dataset and would not be signed")
        value, datatype, language = node["@value"], node.get("@type"), node.get("@language")
        if "@direction" in node:
            return self._directed(value, language, node["@direction"])
        if datatype == "@json":
            try:
                text = jcs.canonical(value).decode()
            except jcs.NotCanonicalizable as error:
                raise Unsafe(f"a JSON literal without a canonical form: {error}") from error
            return f'"{_escaped(text)}"^^<{_RDF}JSON>'
        if isinstance(value, str):
            if language is not None:
                if not isinstance(language, str) or not _LANGUAGE(language):
                    raise Unsafe(f"{language!r} is not a language tag")
                return f'"{_escaped(value)}"@{language}'
            if datatype is None or datatype == _XSD + "string":
                return f'"{_escaped(value)}"'
            if datatype == _XSD + "double":
                value = _double_from_text(value)
            return f'"{_escaped(value)}"^^{self._datatype(datatype)}'
        text, natural = _number(value, datatype)
        return f'"{text}"^^{self._datatype(datatype or natural)}'

    def _directed(self, value: Any, language: Any, direction: Any) -> str:
        """A text with a base direction as the datatype https://www.w3.org/ns/i18n#language_direction.

        JSON-LD 1.1 API §8.2.2 step 13 with rdfDirection "i18n-datatype". The default would leave the direction out of
        what is signed; the published implementations of the RDFC suites use this form.
        """
        if not isinstance(value, str) or direction not in ("ltr", "rtl"):
            raise Unsafe(f"{direction!r} is not a base direction of a text")
        if language is not None and (not isinstance(language, str) or not _LANGUAGE(language)):
            raise Unsafe(f"{language!r} is not a language tag")
        return f'"{_escaped(value)}"^^<{_I18N}{(language or "").lower()}_{direction}>'

    def _datatype(self, datatype: object) -> str:
        if not isinstance(datatype, str) or datatype.startswith("_:"):
            raise Unsafe(f"{datatype!r} is not a datatype IRI")
        return self._resource(datatype)


def _escaped(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Unsafe("text with a lone surrogate", text) from None
    return text.translate(_ESCAPES) if _NEEDS_ESCAPE(text) else text


def _number(value: Any, datatype: str | None) -> tuple[str, str]:
    """Lexical form and default datatype of a JSON boolean or number (JSON-LD 1.1 API §8.2.2 steps 6–10)."""
    if isinstance(value, bool):
        return ("true" if value else "false"), _XSD + "boolean"
    if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise Unsafe(f"{value!r} is not a JSON scalar")
    if isinstance(value, int) and abs(value) > _JSON_SAFE_INTEGER:
        raise Unsafe(f"the integer {value} is beyond 2^53; other verifiers would read another number")
    fractional = isinstance(value, float) and not value.is_integer()
    if fractional or abs(value) >= 1e21 or datatype == _XSD + "double":
        return _canonical_double(float(value)), _XSD + "double"
    return str(int(value)), _XSD + "integer"


def _double_from_text(text: str) -> str:
    """jsonld.js and PyLD write a string typed xsd:double in canonical form too; other text stays as it is."""
    if not _DECIMAL(text):
        return text
    number = float(text)
    return _canonical_double(number) if math.isfinite(number) else text


def _canonical_double(value: float) -> str:
    """XSD canonical double with 15 fraction digits, for example 5.3E0 (JSON-LD 1.1 API §8.6 Data Round Tripping)."""
    mantissa, _, exponent = f"{value:.15E}".partition("E")
    whole, _, fraction = mantissa.partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}E{int(exponent)}"


def too_many_blank_nodes(count: int, most: int = MAX_BLANK_NODES) -> UnsafeDocument:
    """What is said of a document that is not put into canonical form."""
    return UnsafeDocument("", f"{count} blank nodes; at most {most} are canonicalised")


def canonicalize(nquads: str | bytes, *, max_blank_nodes: int = MAX_BLANK_NODES, sha384: bool = False) -> bytes:
    """RDFC-1.0 canonical N-Quads (UTF-8, sorted by code point) of an N-Quads text, hashing by SHA-256 (or SHA-384).

    Poison graphs can take time that is exponential in their blank nodes: the caller runs documents of others in a
    process with a hard time limit. `max_blank_nodes` is only a cheap first guard. Raises UnsafeDocument for text that
    is not N-Quads and for too many blank nodes.
    """
    content = nquads.encode("utf-8", "surrogatepass") if isinstance(nquads, str) else nquads
    try:
        dataset = pyoxigraph.Dataset(pyoxigraph.parse(content, format=pyoxigraph.RdfFormat.N_QUADS))
    except (SyntaxError, ValueError) as error:
        raise UnsafeDocument("", f"not RDF: {error}") from error
    if content.count(b"_:") > max_blank_nodes:  # only then it is worth counting exactly
        blank = {
            term
            for quad in dataset
            for term in (quad.subject, quad.object, quad.graph_name)
            if isinstance(term, pyoxigraph.BlankNode)
        }
        if len(blank) > max_blank_nodes:
            raise too_many_blank_nodes(len(blank), max_blank_nodes)
    algorithms = pyoxigraph.CanonicalizationAlgorithm
    dataset.canonicalize(algorithms.RDFC_1_0_SHA_384 if sha384 else algorithms.RDFC_1_0_SHA_256)
    serialized = pyoxigraph.serialize(dataset, format=pyoxigraph.RdfFormat.N_QUADS)
    lines = (serialized or b"").splitlines(keepends=True)
    lines.sort()  # UTF-8 bytes sort as code points do; JavaScript's UTF-16 order differs beyond U+FFFF
    return b"".join(lines)
