"""JSON-LD to canonical RDF, safely: what is not covered by the signature is an error, never silently dropped.

1. Expansion by PyLD, against bundled contexts only, with a watch on every value: an undefined term or type, a relative
   IRI, a null, a free-floating value, an index or a known property under another name (`compacted`) is an
   `UnsafeDocument`.
2. Expanded form → N-Quads, by ourselves, correctly escaped (`rdf.QuadWriter`).
3. RDFC-1.0 by pyoxigraph; lines sorted by code point (`rdf.canonicalize`).

PyLD spends most of its time on processing the same scoped contexts again. Documents whose contexts are all bundled URLs
share processed contexts; documents with inline contexts get a processor of their own, so that they can poison nothing.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NoReturn

from pyld import jsonld as pyld

from laurel.credential import compacted, contexts
from laurel.credential.rdf import (
    MAX_BLANK_NODES,
    RELATIVE,
    QuadWriter,
    Unsafe,
    UnsafeDocument,
    bad_iris,
    canonicalize,
    too_many_blank_nodes,
)
from laurel.credential.text import pointer
from laurel.errors import LaurelError

__all__ = ["Statements", "UnsafeDocument", "canonical_nquads", "canonicalize", "expand", "to_nquads"]

_BASE = RELATIVE + "//document/"
_MAX_PROCESSED = 1024
_MAX_CONTEXTS = 32  # in one list; credentials have two to five
_MAX_SHARED_CONTEXTS = 8
_HAS_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match  # "scheme://…" is absolute before any prefix
_KEYWORDS = frozenset(pyld.KEYWORDS)


def _load(url: str, options: object) -> dict[str, Any]:
    return {"contextUrl": None, "documentUrl": url, "document": contexts.load(url), "tag": "static"}


class _Resolver(pyld.ContextResolver):  # type: ignore[misc]
    """PyLD's resolver with plain dicts as caches: its LRU caches break when threads share them, dicts do not."""

    def resolve(self, *args: Any, **kwargs: Any) -> Any:
        resolved = super().resolve(*args, **kwargs)
        for context in resolved:
            if type(context.cache) is not dict:
                context.cache = {}
        return resolved


class _SafeProcessor(pyld.JsonLdProcessor):  # type: ignore[misc]
    """PyLD's expansion with a watch on every value. `share` = all contexts are bundled, so processed ones are kept."""

    def __init__(self, *, share: bool) -> None:
        super().__init__(on_property_dropped=self._refuse_term)
        self._share = share
        self._processed: dict[tuple[Any, ...], tuple[Any, Any, Any]] = {}
        self._options = {
            "isFrame": False,
            "keepFreeFloatingNodes": False,
            "documentLoader": _load,
            "contextResolver": _Resolver({}, _load),
            "processingMode": "json-ld-1.1",
            "base": _BASE,
        }

    def safe_expand(self, document: dict[str, Any]) -> list[Any]:
        expanded = self._expand(self._get_initial_context(self._options), None, document, self._options)
        return expanded if isinstance(expanded, list) else [expanded]

    @staticmethod
    def _refuse_term(expanded: str | None) -> NoReturn:
        if expanded is None:
            raise Unsafe("a property that looks like a keyword, or that the context maps to null, would be dropped")
        raise Unsafe(f"the term {expanded!r} is not defined by the document's contexts", expanded)

    def _expand(
        self, active_ctx: Any, active_property: Any, element: Any, options: Any, *args: Any, **kwargs: Any
    ) -> Any:
        try:
            expanded = super()._expand(active_ctx, active_property, element, options, *args, **kwargs)
            if expanded is None:
                reason = "null values" if element is None else "values that describe nothing"
                raise Unsafe(f"{reason} are dropped by JSON-LD and not signed; leave them out", element)
        except Unsafe as unsafe:
            unsafe.climb(element)
            raise
        return expanded

    def _expand_object(
        self, active_ctx: Any, active_property: Any, expanded_active: Any, element: Any, *args: Any, **kwargs: Any
    ) -> None:
        terms = active_ctx["mappings"]
        for key in element:
            if key != "@context":
                compacted.check_key(key, self._expand_iri(active_ctx, key, vocab=True), terms, element)
        super()._expand_object(active_ctx, active_property, expanded_active, element, *args, **kwargs)

    def _expand_language_map(self, active_ctx: Any, language_map: Any, direction: Any) -> Any:
        for value in language_map.values():
            if value is None or (isinstance(value, list) and None in value):
                raise Unsafe("null values are dropped by JSON-LD and not signed; leave them out")
        return super()._expand_language_map(active_ctx, language_map, direction)

    def _expand_iri(
        self,
        active_ctx: Any,
        value: Any,
        base: Any = None,
        vocab: Any = False,
        local_ctx: Any = None,
        defined: Any = None,
    ) -> Any:
        if value is None:
            return None
        if local_ctx is None and type(value) is str:  # the common cases, without PyLD's regular expressions
            mapping = active_ctx["mappings"].get(value) if vocab else None
            if mapping is not None:
                if base is not None:
                    compacted.check_value(value, mapping["@id"], vocabulary=True)
                return mapping["@id"]
            if value in _KEYWORDS or _HAS_AUTHORITY(value):
                if vocab and base is not None:
                    compacted.check_value(value, value, vocabulary=True)
                return value
        expanded = super()._expand_iri(active_ctx, value, base, vocab, local_ctx, defined)
        if base is not None:
            if expanded is None:
                raise Unsafe(f"{value!r} looks like a keyword and would be dropped", value)
            if isinstance(expanded, str) and expanded.startswith(RELATIVE):
                what = "is not a type or value that the document's contexts define" if vocab else "is a relative IRI"
                raise Unsafe(f"{value!r} {what}", value)
            if isinstance(expanded, str):
                compacted.check_value(value, expanded, vocabulary=vocab)
        return expanded

    def _process_context(
        self,
        active_ctx: Any,
        local_ctx: Any,
        options: Any,
        override_protected: bool = False,
        propagate: bool = True,
        validate_scoped: bool = True,
        cycles: Any = None,
    ) -> Any:
        if not self._share or cycles is not None:
            return super()._process_context(
                active_ctx, local_ctx, options, override_protected, propagate, validate_scoped, cycles
            )
        # The key holds identities: the entry keeps both objects alive, so they can not be reused meanwhile.
        if isinstance(local_ctx, str):
            local_key: Any = local_ctx
        elif isinstance(local_ctx, list) and all(isinstance(url, str) for url in local_ctx):
            local_key = tuple(local_ctx)
        else:
            local_key = id(local_ctx)
        key = (id(active_ctx), local_key, override_protected, propagate, validate_scoped)
        found = self._processed.get(key)
        if found is not None:
            return found[2]
        # Two threads may do this at the same time: both results are right, and one of them is kept.
        result = super()._process_context(
            active_ctx, local_ctx, options, override_protected, propagate, validate_scoped
        )
        if len(self._processed) >= _MAX_PROCESSED:
            self._processed.clear()
            self._options["contextResolver"] = _Resolver({}, _load)
        self._processed[key] = (active_ctx, local_ctx, result)
        return result


@functools.cache
def _shared_processor() -> _SafeProcessor:
    return _SafeProcessor(share=True)


def _may_share(value: Any) -> bool:
    """Whether every `@context` in the document is a URL or a short list of URLs: then processed contexts may be kept.

    Refuses very long lists, and `@import`: PyLD applies it in place, to the very context that others use.
    """
    stack = [value]
    share = True
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            if "@import" in current:
                raise UnsafeDocument("", "@import is not supported in contexts")
            if "@context" in current:
                context = current["@context"]
                entries = context if isinstance(context, list) else [context]
                if len(entries) > _MAX_CONTEXTS:
                    raise UnsafeDocument("", f"{len(entries)} contexts in one list; at most {_MAX_CONTEXTS} are read")
                share = share and len(entries) <= _MAX_SHARED_CONTEXTS
                share = share and all(isinstance(entry, str) for entry in entries)
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)
    return share


def expand(document: dict[str, Any]) -> list[Any]:
    """The expanded form. Raises UnsafeDocument, or contexts.UnknownContext when a context is not bundled."""
    try:
        share = _may_share(document) and not contexts.has_extra()
        compacted.check_own_id(document)
        processor = _shared_processor() if share else _SafeProcessor(share=False)
        return processor.safe_expand(document)
    except Unsafe as unsafe:
        raise unsafe.public() from None
    except pyld.JsonLdError as error:
        raise _translated(error) from error
    except RecursionError:
        raise UnsafeDocument("", "nested too deeply") from None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        # PyLD does not guard every shape that a hostile inline context can have.
        raise UnsafeDocument("", f"not valid JSON-LD ({type(error).__name__}: {error})") from error


def _translated(error: BaseException) -> LaurelError:
    """What really happened, below PyLD's wrappers."""
    cause: BaseException | None = error
    message = str(error.args[0]) if error.args else "invalid"
    while cause is not None:
        if isinstance(cause, Unsafe):
            return cause.public()
        if isinstance(cause, contexts.UnknownContext | contexts.ChangedResource):
            return cause
        if isinstance(cause, pyld.JsonLdError) and cause.args:
            message = str(cause.args[0])
        cause = cause.__cause__
    return UnsafeDocument("", f"not valid JSON-LD: {message}")


def _place_of(culprit: object, document: dict[str, Any]) -> list[str | int]:
    """The path of the first value of the document that is the text `culprit`; [] where there is none."""
    if not isinstance(culprit, str):
        return []
    wanted = culprit.removeprefix(RELATIVE)
    stack: list[tuple[list[str | int], Any]] = [([], document)]
    while stack:
        path, value = stack.pop()
        if value == wanted and isinstance(value, str):
            return path
        if isinstance(value, dict):
            stack.extend(([*path, key], inner) for key, inner in reversed(value.items()) if key != "@context")
        elif isinstance(value, list):
            stack.extend(([*path, index], value[index]) for index in reversed(range(len(value))))
    return []


class Statements:
    """What a document says, as RDF. It is read once, and put into canonical form once, however many proofs ask."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._canonical: dict[bool, bytes] = {}
        self._blank_nodes = 0  # among the statements, once they are written

    @property
    def nquads(self) -> str:
        """The RDF dataset as N-Quads: one statement a line, not canonical. Raises as `expand`."""
        if isinstance(self._read, LaurelError):
            raise self._read
        return self._read

    @functools.cached_property
    def _read(self) -> str | LaurelError:
        writer = QuadWriter()
        try:
            for node in expand(self._document):
                writer.node(node, "")
        except Unsafe as unsafe:  # the writer sees expanded nodes, which no longer know where they stood
            unsafe.path = _place_of(unsafe.below, self._document)
            return unsafe.public()
        except RecursionError:
            return UnsafeDocument("", "nested too deeply")
        except (UnsafeDocument, contexts.UnknownContext) as error:
            return error
        self._blank_nodes = writer.blank_nodes
        return "".join(writer.lines)

    def canonical(self, *, sha384: bool = False) -> bytes:
        """The RDFC-1.0 canonical N-Quads. Raises as `expand` and `canonicalize`."""
        if sha384 not in self._canonical:
            nquads = self.nquads
            if self._blank_nodes > MAX_BLANK_NODES:  # without reading again what was just written
                raise too_many_blank_nodes(self._blank_nodes)
            try:
                self._canonical[sha384] = canonicalize(nquads, sha384=sha384)
            except UnsafeDocument as unsafe:
                for iri in bad_iris(nquads):
                    if place := _place_of(iri, self._document):
                        raise UnsafeDocument(pointer(tuple(place)), f"{iri!r} is not an IRI: {unsafe.reason}") from None
                raise
        return self._canonical[sha384]


def to_nquads(document: dict[str, Any]) -> str:
    """`Statements.nquads` of a document that is asked once."""
    return Statements(document).nquads


def canonical_nquads(document: dict[str, Any], *, sha384: bool = False) -> bytes:
    """`Statements.canonical` of a document that is asked once."""
    return Statements(document).canonical(sha384=sha384)
