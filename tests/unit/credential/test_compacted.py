"""The same signed statements, written so that nobody who reads the JSON sees them: refused, whatever the trick."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from pyld import jsonld as pyld

from laurel.credential import compacted, jsonld, proofs
from tests.unit.credential.samples import CREATED, SIGNER, badge, signed, signed_badge

Rewrite = Callable[[dict[str, Any]], object]
CRED = "https://www.w3.org/2018/credentials#"
OB = "https://purl.imsglobal.org/spec/vc/ob/vocab.html#"
DATE_TIME = "http://www.w3.org/2001/XMLSchema#dateTime"


def rename(document: dict[str, Any], old: str, new: str, context: dict[str, Any] | None = None) -> None:
    document[new] = document.pop(old)
    if context is not None:
        document["@context"].append(context)


def elsewhere(document: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Another node object for the same credential."""
    return {"id": document["id"], "type": "VerifiableCredential", **members}


REWRITES: dict[str, Rewrite] = {
    "the end as a full IRI": lambda d: d.update(
        {f"{CRED}validUntil": {"@value": d.pop("validUntil"), "@type": DATE_TIME}}
    ),
    "the status as a full IRI": lambda d: rename(d, "credentialStatus", f"{CRED}credentialStatus"),
    "the status as a compact IRI": lambda d: rename(
        d, "credentialStatus", "c:credentialStatus", {"c": {"@id": CRED, "@prefix": True}}
    ),
    "the status below another vocabulary": lambda d: rename(
        d, "credentialStatus", "credentials#credentialStatus", {"@vocab": "https://www.w3.org/2018/"}
    ),
    "the end under an alias": lambda d: rename(
        d, "validUntil", "until", {"until": {"@id": f"{CRED}validUntil", "@type": DATE_TIME}}
    ),
    "the end in a nest": lambda d: d.update({"@nest": {"validUntil": d.pop("validUntil")}}),
    "the end in an aliased nest": lambda d: (
        d.update({"more": {"validUntil": d.pop("validUntil")}}), d["@context"].append({"more": "@nest"})
    ),
    "the end in an included node": lambda d: d.update(
        {"@included": [elsewhere(d, validUntil=d.pop("validUntil"))]}
    ),
    "the status in a reverse property": lambda d: d["issuer"].update(
        {"@reverse": {f"{CRED}issuer": elsewhere(d, credentialStatus=d.pop("credentialStatus"))}}
    ),
    "the status in a reverse term": lambda d: (
        d["issuer"].update(issued=elsewhere(d, credentialStatus=d.pop("credentialStatus"))),
        d["@context"].append({"issued": {"@reverse": f"{CRED}issuer"}}),
    ),
    "the id as a keyword": lambda d: rename(d, "id", "@id"),
    "the id under an alias": lambda d: rename(d, "id", "ident", {"ident": "@id"}),
    "a type as a keyword": lambda d: d["credentialStatus"].update({"@type": d["credentialStatus"].pop("type")}),
    "a type as a full IRI": lambda d: d.update(type=["VerifiableCredential", f"{OB}OpenBadgeCredential"]),
    "the evidence in a set": lambda d: d.update(evidence={"@set": d["evidence"]}),
    "an id by a prefix": lambda d: (
        d["credentialSubject"]["achievement"]["resultDescription"][0].update(id="mine:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e6f"),
        d["@context"].append({"mine": {"@id": "urn:uuid:", "@prefix": True}}),
    ),
}  # fmt: skip


def without_proof(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "proof"}


def unwatched(document: dict[str, Any]) -> str:
    """What PyLD, which watches nothing, makes of it: canonical N-Quads."""
    options = {"format": "application/n-quads", "documentLoader": jsonld._load,
               "contextResolver": pyld.ContextResolver({}, jsonld._load)}  # fmt: skip
    return str(pyld.normalize(document, options))


@pytest.mark.parametrize("name", REWRITES)
def test_the_same_statements_under_other_names_are_refused(name: str) -> None:
    document = signed(badge(valid_until=CREATED.replace(2027)))
    rewritten = copy.deepcopy(document)
    REWRITES[name](rewritten)
    assert rewritten != document
    assert unwatched(without_proof(rewritten)) == unwatched(without_proof(document)), "else it proves nothing"
    result = proofs.verify_proof(rewritten, rewritten["proof"], SIGNER.public_key_multibase)
    assert result.reason == "unsafe_document"
    assert proofs.verify_proof(document, document["proof"], SIGNER.public_key_multibase).ok


def test_a_proof_does_not_hide_when_it_ends() -> None:
    document = signed_badge()
    document["proof"]["https://w3id.org/security#expiration"] = {"@value": "2026-06-01T00:00:00Z", "@type": DATE_TIME}
    with pytest.raises(jsonld.UnsafeDocument, match="another spelling of 'expires'"):
        jsonld.expand({"@context": document["@context"], **document["proof"]})


def test_what_a_credential_says_of_itself_stands_in_one_place() -> None:
    document = badge(valid_until=CREATED.replace(2027))
    document["evidence"] = [{"id": document["id"], "type": ["Evidence", "VerifiableCredential"]}]
    moved = copy.deepcopy(document)
    moved["evidence"][0]["validUntil"] = moved.pop("validUntil")
    assert unwatched(moved) == unwatched(document)
    with pytest.raises(jsonld.UnsafeDocument, match="has the id of the whole document"):
        jsonld.expand(moved)
    moved["evidence"] = [document["id"]]  # a reference says nothing more
    assert jsonld.expand(moved)


@pytest.mark.parametrize("added", [{"@language": None}, {"@language": "en"}, {"@direction": None}, {"@index": None}])
def test_keywords_that_say_nothing_are_refused(added: dict[str, Any]) -> None:
    document = badge()
    document["credentialSubject"]["achievement"] |= added
    with pytest.raises(jsonld.UnsafeDocument, match="leave it out"):
        jsonld.expand(document)


@pytest.mark.parametrize("added", ["https://w3id.org/security/data-integrity/v1", {"created": "urn:x:y"}])
def test_a_context_of_the_proof_alone_is_refused(added: Any) -> None:
    document = signed_badge()
    document["proof"]["@context"] = added  # VC DI EdDSA §3.2.5 takes the document's instead: nobody has signed this one
    result = proofs.verify_proof(document, document["proof"], SIGNER.public_key_multibase)
    assert result.reason == "context_mismatch"
    document["proof"]["@context"] = document["@context"][0]
    assert proofs.verify_proof(document, document["proof"], SIGNER.public_key_multibase).ok


@pytest.mark.parametrize(
    ("name", "change"),
    {
        "a property of one's own": lambda d: (
            d.update(shelf="A"), d["@context"].append({"shelf": "https://library.example/shelf"})
        ),
        "a text with a language": lambda d: d.update(name={"@value": "Datenkunde", "@language": "de"}),
        "a typed value": lambda d: (
            d.update(size={"@value": "7", "@type": DATE_TIME}), d["@context"].append({"size": "urn:x:size"})
        ),
        "a list": lambda d: (d.update(order={"@list": ["b", "a"]}), d["@context"].append({"order": "urn:x:order"})),
        "the other name of badges": lambda d: d.update(type=["VerifiableCredential", "AchievementCredential"]),
    }.items(),
)  # fmt: skip
def test_what_hides_nothing_is_read(name: str, change: Rewrite) -> None:
    document = badge()
    change(document)
    assert jsonld.expand(document)


def test_names_come_from_every_bundled_context() -> None:
    names = compacted.bundled_names()
    assert names[f"{CRED}validUntil"] == {"validUntil"}
    assert names[f"{CRED}credentialStatus"] == {"credentialStatus"}
    assert names["https://www.w3.org/ns/credentials/status#statusSize"] == {"statusSize"}
    assert names["https://w3id.org/security#proofValue"] == {"proofValue"}
    assert names[f"{OB}OpenBadgeCredential"] == {"OpenBadgeCredential", "AchievementCredential"}
    assert names["@id"] == {"id"}
    assert len(names) > 200
