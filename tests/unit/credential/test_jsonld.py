from __future__ import annotations

import copy
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from pyld import jsonld as pyld

from laurel.credential import contexts, jsonld
from tests.unit.credential.samples import badge, signed_badge, status_list

Change = Callable[[dict[str, Any]], object]


def pyld_canonical(document: dict[str, Any]) -> bytes:
    """The same document by PyLD alone: its own expansion, RDF and canonicalisation, nothing shared or watched."""
    text = pyld.normalize(
        document,
        {
            "algorithm": "URDNA2015",
            "format": "application/n-quads",
            "documentLoader": jsonld._load,
            "contextResolver": pyld.ContextResolver({}, jsonld._load),
        },
    )
    return str(text).encode()


@pytest.mark.parametrize("document", [badge(), status_list(5), signed_badge()], ids=["badge", "status list", "signed"])
def test_the_canonical_form_is_that_of_pyld(document: dict[str, Any]) -> None:
    expected = pyld_canonical(document)
    assert expected.count(b"\n") > 8
    assert jsonld.canonical_nquads(document) == expected
    assert jsonld.canonical_nquads(document) == expected  # once more, now from processed contexts


def test_inline_contexts_expand_as_in_pyld() -> None:
    document = badge()
    document["@context"].append(
        {"shelf": "https://library.example/shelf", "when": {"@id": "urn:when", "@type": "@json"}}
    )
    document |= {
        "shelf": ["A", {"@value": 'Ö\u0007\\"\n', "@language": "DE"}, 3.5, 7, True, 1e21],
        "when": {"b": 1, "a": 2},
    }
    ours = jsonld.canonical_nquads(document)
    assert ours.count(b"library.example/shelf") == 6
    # PyLD escapes U+0007 too little; everything else is equal.
    assert ours.replace(b"\\u0007", b"\x07") == pyld_canonical(document)


def test_order_and_spelling_of_json_do_not_matter() -> None:
    document = badge()
    shuffled = json.loads(json.dumps(document, sort_keys=True))
    shuffled["@context"] = document["@context"]
    assert jsonld.canonical_nquads(shuffled) == jsonld.canonical_nquads(document)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (lambda d: d.update(foo=1), "/foo"),
        (lambda d: d["credentialSubject"]["achievement"].update(foo={"a": 1}), "/credentialSubject/achievement/foo"),
        (
            lambda d: d["credentialSubject"]["achievement"]["alignment"].append({"targetName": "no type"}),
            "/credentialSubject/achievement/alignment/2/targetName",
        ),
        (lambda d: d["type"].append("MadeUpCredential"), "/type/2"),
        (lambda d: d["evidence"][0].update(type="MadeUp"), "/evidence/0/type"),
        (lambda d: d["credentialSubject"].update(id="learners/1"), "/credentialSubject/id"),
        (lambda d: d["issuer"].update(id="//evil.example/"), "/issuer/id"),
        (lambda d: d.update(issuer=""), "/issuer"),
        (lambda d: d.update(issuer="no scheme"), "/issuer"),
        (lambda d: d.update(validUntil=None), "/validUntil"),
        (lambda d: d["credentialSubject"]["achievement"]["tag"].append(None), "/credentialSubject/achievement/tag/2"),
        (lambda d: d.update(name={"@value": None}), "/name"),
        (lambda d: d.update(issuer="@nothing"), "/issuer"),
        (lambda d: d.update(evidence=["x"]), "/evidence/0"),
        (lambda d: d.update({"https://x.example/a b": 1}), "/https:~1~1x.example~1a b"),
    ],
)
def test_what_would_be_dropped_is_refused_and_pointed_at(change: Change, pointer: str) -> None:
    document = badge()
    change(document)
    with pytest.raises(jsonld.UnsafeDocument) as refused:
        jsonld.canonical_nquads(document)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update({"@nothing": 1}),
        lambda d: d.update({"_:p": 1}),
        lambda d: d.update(issuer="did:web:a b"),
        lambda d: d.update(issuer="https://x.example/<y>"),
        lambda d: d.update(name={"@value": "x", "@direction": "sideways"}),
        lambda d: d.update(name={"@value": "x", "@index": "y"}),
        lambda d: d.update(name={"@value": "x", "@language": "not a tag"}),
        lambda d: d.update(name={"@value": "x", "@type": "_:b"}),
        lambda d: d["issuer"].update({"@index": "y"}),
        lambda d: d.update(name=2**53 + 2),
        lambda d: d.update(name=float("nan")),
        lambda d: d.update(name="\ud800"),
        lambda d: d.update(id=5),
        lambda d: d.update(type={"a": 1}),
        lambda d: d.update({"@context": 5}),
        lambda d: d.update({"@context": None}),
        lambda d: d.update({"@context": []}),
        lambda d: d["@context"].append({"name": "https://evil.example/name"}),
        lambda d: d["@context"].append({"@import": contexts.CREDENTIALS_V2}),
        lambda d: d["@context"].append({"x": {"@id": 5}}),
        lambda d: d["@context"].append({"@version": 2}),
        lambda d: d["@context"].append({"@vocab": None, "@language": None, "@direction": None}),
        lambda d: d["@context"].append([[[]]]),
        lambda d: d["@context"].extend(contexts.CREDENTIALS_V2 for _ in range(100_000)),
        lambda d: d["@context"].append({"x": {"@container": ["@set", "@list", 5]}}),
        lambda d: d["issuer"].update({"@context": {"x": {"@reverse": 7}}}),
    ],
)
def test_hostile_documents_end_in_a_named_error(change: Change) -> None:
    document = badge()
    change(document)
    with pytest.raises((jsonld.UnsafeDocument, contexts.UnknownContext)):
        jsonld.canonical_nquads(document)


def test_a_base_direction_is_signed_as_a_datatype() -> None:
    """rdfDirection "i18n-datatype", as the published RDFC suites have it: another direction is another document."""
    document = {**badge(), "name": {"@value": "x", "@language": "AR-eg", "@direction": "rtl"}}
    assert b'"x"^^<https://www.w3.org/ns/i18n#ar-eg_rtl>' in jsonld.canonical_nquads(document)
    document["name"] = {"@value": "x", "@direction": "ltr"}
    assert b'"x"^^<https://www.w3.org/ns/i18n#_ltr>' in jsonld.canonical_nquads(document)


def test_contexts_of_test_suites_are_known_in_their_block_alone() -> None:
    url = "https://context.example/v1"
    document = {"@context": [contexts.CREDENTIALS_V2, url], "id": "urn:a:b", "word": "x"}
    with contexts.unsafe_extra({url: {"@context": {"word": "https://word.example/"}}}):
        assert b"<https://word.example/>" in jsonld.canonical_nquads(document)
    for _ in range(2):
        with pytest.raises(contexts.UnknownContext):
            jsonld.canonical_nquads(document)


def test_a_free_floating_document_is_refused() -> None:
    for document in ({}, {"@context": contexts.CREDENTIALS_V2}, {"@context": contexts.CREDENTIALS_V2, "id": "urn:a:b"}):
        with pytest.raises(jsonld.UnsafeDocument):
            jsonld.canonical_nquads(document)


def test_deep_nesting_is_refused() -> None:
    document = badge()
    node = document["issuer"]
    for _ in range(3000):
        node["parentOrg"] = {"id": "urn:a:b", "type": "Profile"}
        node = node["parentOrg"]
    with pytest.raises(jsonld.UnsafeDocument, match="deep"):
        jsonld.canonical_nquads(document)


def test_an_unknown_context_is_told_apart() -> None:
    document = badge()
    document["@context"].append("https://evil.example/v1")
    with pytest.raises(contexts.UnknownContext) as refused:
        jsonld.canonical_nquads(document)
    assert refused.value.url == "https://evil.example/v1"


def test_hostile_contexts_poison_nothing_for_the_next_document() -> None:
    expected = jsonld.canonical_nquads(badge())
    terms = {"@vocab": "https://evil.example/", "awarded": "urn:x:y"}
    for inline in ({"@import": contexts.OPEN_BADGES, "x": "urn:x:y"}, terms, {"@base": "https://evil.example/"}):
        for place in ("document", "issuer"):
            hostile = badge()
            if place == "document":
                hostile["@context"].append(inline)
            else:
                hostile["issuer"]["@context"] = inline
            with pytest.raises(jsonld.UnsafeDocument) if "@import" in inline else nullcontext():
                jsonld.canonical_nquads(hostile)
        assert jsonld.canonical_nquads(badge()) == expected
        with pytest.raises(jsonld.UnsafeDocument):
            jsonld.canonical_nquads({**badge(), "foo": 1})


def test_other_peoples_context_lists_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of bundled contexts is processed once and kept; only so many of them, and only short ones."""
    monkeypatch.setattr(jsonld, "_MAX_PROCESSED", 20)
    jsonld._shared_processor.cache_clear()
    processor = jsonld._shared_processor()
    urls = [contexts.CREDENTIALS_V2, contexts.OPEN_BADGES, contexts.OPEN_BADGES_EXTENSIONS, contexts.CREDENTIALS_V2]

    def expand(listed: list[str]) -> int:
        jsonld.expand({"@context": listed, "id": "urn:x:y", "type": "VerifiableCredential", "name": "x"})
        return len(processor._processed)

    sizes = [
        expand([contexts.CREDENTIALS_V2, *(urls[(start + step) % 4] for step in range(length))])
        for length in range(1, 8)
        for start in range(4)
    ]
    assert max(sizes) == 20
    assert min(sizes[10:]) < 10  # it was emptied, and the work went on
    kept = len(processor._processed)
    assert expand([contexts.CREDENTIALS_V2] * 30) == kept  # allowed, but not kept
    assert jsonld.canonical_nquads(badge()) == pyld_canonical(badge())
    jsonld._shared_processor.cache_clear()


def test_threads_may_share_processed_contexts() -> None:
    jsonld._shared_processor.cache_clear()
    document = badge()
    with ThreadPoolExecutor(8) as pool:
        forms = set(pool.map(lambda _: jsonld.canonical_nquads(copy.deepcopy(document)), range(32)))
    assert forms == {pyld_canonical(document)}


@pytest.mark.parametrize(
    ("value", "literal"),
    [  # JSON-LD 1.1 API §8.2.2, as jsonld.js writes them
        (True, '"true"^^<http://www.w3.org/2001/XMLSchema#boolean>'),
        (7, '"7"^^<http://www.w3.org/2001/XMLSchema#integer>'),
        (3.0, '"3"^^<http://www.w3.org/2001/XMLSchema#integer>'),
        (-0.5, '"-5.0E-1"^^<http://www.w3.org/2001/XMLSchema#double>'),
        (5.3, '"5.3E0"^^<http://www.w3.org/2001/XMLSchema#double>'),
        (1e21, '"1.0E21"^^<http://www.w3.org/2001/XMLSchema#double>'),
        ('tab\tquote"back\\bell\x07del\x7f\u2028', '"tab\\tquote\\"back\\\\bell\\u0007del\\u007F\u2028"'),
        ({"@value": "x", "@language": "EN-gb"}, '"x"@en-gb'),
    ],
)
def test_literals(value: Any, literal: str) -> None:
    document = {"@context": {"p": "urn:x:p"}, "@id": "urn:x:s", "p": value}
    assert jsonld.canonical_nquads(document).decode() == f"<urn:x:s> <urn:x:p> {literal} .\n"


def test_true_and_one_are_two_values() -> None:
    document = {"@context": {"p": "urn:x:p"}, "@id": "urn:x:s", "p": [True, 1, 1.0, "1"]}
    assert jsonld.canonical_nquads(document).count(b"\n") == 3


def test_lists_and_graphs_are_as_in_pyld() -> None:
    document = {
        "@context": {
            "p": "urn:x:p", "l": {"@id": "urn:x:l", "@container": "@list"},
            "g": {"@id": "urn:x:g", "@container": "@graph"},
        },
        "@id": "urn:x:s", "l": ["a", "a", ["b"], {"p": "c"}],
        "g": [{"@id": "_:n", "p": [1, {"@id": "_:n"}, {"@id": "urn:x:i", "@type": ["urn:x:T", "_:t"]}]}, {"l": []}],
    }  # fmt: skip
    nquads = pyld.to_rdf(document, {"format": "application/n-quads"})
    assert nquads.count("\n") > 15
    assert jsonld.canonical_nquads(document) == jsonld.canonicalize(nquads)  # PyLD fails 2 of the RDFC-1.0 vectors


def test_too_many_blank_nodes_are_refused_cheaply() -> None:
    nquads = "".join(f'_:b{number} <urn:x:p> "{number}" .\n' for number in range(101))
    assert jsonld.canonicalize(nquads, max_blank_nodes=101).count(b"\n") == 101
    with pytest.raises(jsonld.UnsafeDocument, match="blank nodes"):
        jsonld.canonicalize(nquads, max_blank_nodes=100)


def test_too_many_blank_nodes_of_a_document_are_not_even_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def statements(count: int) -> jsonld.Statements:
        context = {"p": {"@id": "urn:x:p", "@container": "@list"}}
        return jsonld.Statements({"@context": context, "@id": "urn:x:s", "p": [str(number) for number in range(count)]})

    assert statements(10_000).canonical()
    monkeypatch.delattr(jsonld, "canonicalize")
    refused = statements(10_001)
    assert refused.nquads.count("\n") == 20_003  # what is signed without RDF may have any number
    with pytest.raises(jsonld.UnsafeDocument, match="10001 blank nodes; at most 10000"):
        refused.canonical()


def test_what_is_not_nquads_is_refused() -> None:
    for text in ("nonsense", '<a> <urn:x:p> "x" .', b"\xff\xfe", '<urn:x:s> <urn:x:p> "\ud800" .'):
        with pytest.raises(jsonld.UnsafeDocument):
            jsonld.canonicalize(text)
