from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from laurel.credential import did, jsonld, multibase
from tests.unit.credential.samples import DID, SIGNER, did_document

KEY = SIGNER.public_key_multibase
OTHER = multibase.ed25519_public_encode(bytes(32))


@pytest.mark.parametrize(
    ("base", "slug", "expected"),
    [
        ("https://badges.example", "x", "did:web:badges.example:issuers:x"),
        ("https://badges.example:8443/", "x", "did:web:badges.example%3A8443:issuers:x"),
        ("http://localhost:8080", "open-u", "did:web:localhost%3A8080:issuers:open-u"),
        ("https://Uni.Example/laurel/v1/", "x", "did:web:uni.example:laurel:v1:issuers:x"),
    ],
)
def test_did_web_of_an_issuer(base: str, slug: str, expected: str) -> None:
    assert did.did_web(base, slug) == expected


@pytest.mark.parametrize(
    "base", ["ftp://x", "https://", "https://u:p@x", "https://x?y", "nonsense", "https://x:99999", "https://[::1]"]
)
def test_did_web_refuses_other_bases(base: str) -> None:
    with pytest.raises(did.DidError, match="malformed_did"):
        did.did_web(base, "x")


@pytest.mark.parametrize("slug", ["", ".", "..", "a b", "a/b", "a:b", "a%20b", "ä", "a\n"])
def test_did_web_refuses_slugs_that_are_no_segment(slug: str) -> None:
    with pytest.raises(did.DidError, match="malformed_did"):
        did.did_web("https://x.example", slug)


@pytest.mark.parametrize(
    ("identifier", "url"),
    [  # the examples of did:web §2.5.2
        ("did:web:w3c-ccg.github.io", "https://w3c-ccg.github.io/.well-known/did.json"),
        ("did:web:w3c-ccg.github.io:user:alice", "https://w3c-ccg.github.io/user/alice/did.json"),
        ("did:web:example.com%3A3000:user:alice", "https://example.com:3000/user/alice/did.json"),
        ("did:web:localhost%3A8080:issuers:x", "https://localhost:8080/issuers/x/did.json"),
    ],
)
def test_the_address_of_a_did_document(identifier: str, url: str) -> None:
    assert did.did_web_url(identifier) == url


def test_plain_http_is_for_localhost_on_request_only() -> None:
    local = "did:web:localhost%3A8080:issuers:x"
    assert did.did_web_url(local, allow_localhost_http=True) == "http://localhost:8080/issuers/x/did.json"
    assert did.did_web_url("did:web:x.example", allow_localhost_http=True).startswith("https://")
    assert did.did_web_url("did:web:localhost.evil.example", allow_localhost_http=True).startswith("https://")


@pytest.mark.parametrize(
    ("identifier", "code"),
    [
        ("did:key:z6Mk", "unsupported_method"),
        ("did:web:", "malformed_did"),
        ("did:web", "malformed_did"),
        ("web:x.example", "malformed_did"),
        ("did:web:x.example#key", "malformed_did"),
        ("did:web:x.example/path", "malformed_did"),
        ("did:web:x.example:..:y", "malformed_did"),
        ("did:web:x.example:%2e%2e:y", "malformed_did"),
        ("did:web:x.example:a%2Fb", "malformed_did"),
        ("did:web:x.example:a%20b", "malformed_did"),
        ("did:web:x.example::a", "malformed_did"),
        ("did:web:u%40x.example", "malformed_did"),
        ("did:web:x.example%2Fy", "malformed_did"),
        ("did:web:[::1]", "malformed_did"),
        ("did:web:x.example:a\nb", "malformed_did"),
    ],
)
def test_other_dids_are_refused_by_name(identifier: str, code: str) -> None:
    with pytest.raises(did.DidError) as refused:
        did.did_web_url(identifier)
    assert refused.value.code == code


def test_did_key_there_and_back() -> None:
    identifier = did.did_key(KEY)
    document = did.resolve_did_key(identifier)
    assert did.find_verification_method(document, f"{identifier}#{KEY}") == KEY
    for wrong, code in (
        ("did:key:zNope", "unsupported_key"),
        ("did:web:x", "unsupported_method"),
        ("did:key:", "malformed_did"),
    ):
        with pytest.raises(did.DidError) as refused:
            did.resolve_did_key(wrong)
        assert refused.value.code == code


def test_retired_keys_still_verify_and_compromised_ones_are_gone() -> None:
    document = did_document(did.DidKey("key-0", OTHER, active=False))
    assert did.find_verification_method(document, f"{DID}#key-0") == OTHER
    assert did.find_verification_method(document, f"{DID}#key-1") == KEY
    assert document["verificationMethod"][0]["id"] == f"{DID}#key-1"
    with pytest.raises(did.DidError, match="key_not_found"):
        did.find_verification_method(did_document(), f"{DID}#key-0")
    with pytest.raises(did.DidError, match="malformed_document"):
        did_document(did.DidKey("key-1", OTHER))


def test_the_did_document_is_safe_json_ld() -> None:
    document = did.build_did_document(DID, [did.DidKey("key-1", KEY)], also_known_as=["https://open.example/"])
    assert b"publicKeyMultibase" in jsonld.canonical_nquads(document)


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: d.update(id="did:web:evil.example"), "wrong_document"),
        (lambda d: d.pop("id"), "wrong_document"),
        (lambda d: d["verificationMethod"].clear(), "key_not_found"),
        (lambda d: d.pop("verificationMethod"), "key_not_found"),
        (lambda d: d.update(verificationMethod="x"), "key_not_found"),
        (lambda d: d["verificationMethod"][0].update(controller="did:web:evil.example"), "wrong_controller"),
        (lambda d: d["verificationMethod"][0].pop("controller"), "wrong_controller"),
        (lambda d: d.update(assertionMethod=[]), "not_for_assertion"),
        (lambda d: d.pop("assertionMethod"), "not_for_assertion"),
        (lambda d: d.update(authentication=d.pop("assertionMethod")), "not_for_assertion"),
        (lambda d: d["verificationMethod"][0].update(type="EcdsaSecp256k1VerificationKey2019"), "unsupported_key"),
        (lambda d: d["verificationMethod"][0].update(publicKeyMultibase="zNope"), "unsupported_key"),
        (lambda d: d["verificationMethod"][0].update(publicKeyMultibase=None), "unsupported_key"),
        (lambda d: d["verificationMethod"][0].update(revoked="2026-01-01T00:00:00Z"), "key_revoked"),
    ],
)
def test_each_flaw_of_a_did_document_has_its_name(change: Change, code: str) -> None:
    document = did_document()
    change(document)
    with pytest.raises(did.DidError) as refused:
        did.find_verification_method(document, f"{DID}#key-1")
    assert refused.value.code == code


@pytest.mark.parametrize("document", [None, [], "x", 5])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(did.DidError, match="malformed_document"):
        did.find_verification_method(document, f"{DID}#key-1")
    with pytest.raises(did.DidError, match="malformed_did"):
        did.find_verification_method(did_document(), DID)


def test_other_spellings_of_the_same_key_are_read() -> None:
    relative = did_document()
    relative["verificationMethod"][0]["id"] = "#key-1"
    relative["assertionMethod"] = "#key-1"
    embedded = did_document()
    embedded["assertionMethod"] = embedded.pop("verificationMethod")
    jwk = copy.deepcopy(did_document())
    method = jwk["verificationMethod"][0]
    method.pop("publicKeyMultibase")
    x = multibase.base64url_encode(multibase.ed25519_public_decode(KEY))
    method |= {"type": "JsonWebKey", "publicKeyJwk": {"kty": "OKP", "crv": "Ed25519", "x": x}}
    old = did_document()
    old["verificationMethod"][0]["type"] = "Ed25519VerificationKey2020"
    for document in (relative, embedded, jwk, old):
        assert did.find_verification_method(document, f"{DID}#key-1") == KEY
    method["publicKeyJwk"]["crv"] = "X25519"
    with pytest.raises(did.DidError, match="unsupported_key"):
        did.find_verification_method(jwk, f"{DID}#key-1")
