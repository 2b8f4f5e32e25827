"""An issued badge, its DID document and its status list, put before somebody else's verifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from laurel.credential import contexts, did, keys, lint, model, multibase, multikey, proofs, status
from tests.conformance import node_oracle
from tests.conformance.node_oracle import Verdict
from tests.unit.credential.samples import (
    CREATED,
    DID,
    INDEX,
    LIST_URL,
    NOW,
    P256_SIGNER,
    P384_SIGNER,
    SIGNER,
    badge,
    did_document,
    signed,
    signed_badge,
    status_list,
)

pytestmark = pytest.mark.node

Verify = Callable[..., Verdict]
AT = "2026-06-01T00:00:00Z"


def signed_list(*revoked: int) -> dict[str, Any]:
    return signed(status_list(*revoked), "statuslist")


def test_an_issued_badge_is_accepted(node_verify: Verify) -> None:
    verdict = node_verify(signed_badge(), did_document(), signed_list(), now=AT)
    assert verdict.verified, verdict.error
    assert set(verdict.loaded) >= {DID, f"{DID}#key-1", LIST_URL, contexts.OPEN_BADGES}


def test_the_neighbours_revocation_is_not_ours(node_verify: Verify) -> None:
    verdict = node_verify(signed_badge(), did_document(), signed_list(INDEX - 1, INDEX + 1), now=AT)
    assert verdict.verified, verdict.error


def test_a_badge_to_a_did_without_status_is_accepted(node_verify: Verify) -> None:
    document = badge(
        recipient=model.Recipient(id="did:example:learner"), status=None, valid_until=CREATED.replace(2027)
    )
    verdict = node_verify(signed(document), did_document(), now=AT)
    assert verdict.verified, verdict.error


def test_a_badge_of_a_retired_key_is_accepted_and_of_a_removed_key_refused(node_verify: Verify) -> None:
    old = keys.Ed25519Signer(bytes(range(1, 33)), f"{DID}#key-0")
    document = proofs.sign(lint.lint(badge(), issuer=DID), old, CREATED)
    retired = did_document(did.DidKey("key-0", old.public_key_multibase, active=False))
    verdict = node_verify(document, retired, signed_list(), now=AT)
    assert verdict.verified, verdict.error
    assert not node_verify(document, did_document(), signed_list(), now=AT).verified


def test_a_revoked_badge_is_refused(node_verify: Verify) -> None:
    verdict = node_verify(signed_badge(), did_document(), signed_list(INDEX), now=AT)
    assert not verdict.verified
    assert "the bit is set for revocation" in (verdict.error or "")


def test_two_status_entries_are_both_looked_at(node_verify: Verify) -> None:
    second = LIST_URL + "-suspension"
    entries = [status.status_entry(LIST_URL, INDEX), status.status_entry(second, 5, "suspension")]
    document = signed(badge(status=entries))
    for suspended in (False, True):
        bits = bytearray(status.MINIMUM_ENTRIES // 8)
        if suspended:
            status.set_value(bits, 5, 1)
        other = status.build_status_list(second, DID, "suspension", status.encode_list(bits), NOW)
        verdict = node_verify(document, did_document(), signed_list(), signed(other, "statuslist"), now=AT)
        assert verdict.verified is not suspended, verdict.error
        assert not suspended or "suspension" in (verdict.error or "")


def test_an_expired_badge_is_refused(node_verify: Verify) -> None:
    document = signed(badge(valid_until=CREATED.replace(month=5, day=20)))
    assert node_verify(document, did_document(), signed_list(), now="2026-05-19T00:00:00Z").verified
    verdict = node_verify(document, did_document(), signed_list(), now=AT)
    assert not verdict.verified
    assert "validUntil" in (verdict.error or "")


def test_a_badge_is_refused_before_its_time(node_verify: Verify) -> None:
    assert not node_verify(signed_badge(), did_document(), signed_list(), now="2026-05-01T00:00:00Z").verified


@pytest.mark.parametrize("what", ["name", "result", "recipient", "status", "proof value", "created", "key", "list"])
def test_what_was_tampered_with_is_refused(node_verify: Verify, what: str) -> None:
    document, keys_of_issuer, listed = signed_badge(), did_document(), signed_list()
    match what:
        case "name":
            document["name"] += "."
        case "result":
            document["credentialSubject"]["result"][0]["value"] = "100"
        case "recipient":
            document["credentialSubject"]["identifier"][0]["identityHash"] = model.identity_hash(
                "eve@x.example", "s4lt"
            )
        case "status":
            document["credentialStatus"]["statusListIndex"] = str(INDEX + 1)
        case "proof value":
            raw = bytearray(multibase.decode(document["proof"]["proofValue"]))
            raw[5] ^= 1
            document["proof"]["proofValue"] = multibase.encode(bytes(raw))
        case "created":
            document["proof"]["created"] = "2026-05-04T12:31:06Z"
        case "key":
            other = keys.Ed25519Signer(bytes(32), SIGNER.verification_method)
            keys_of_issuer = did.build_did_document(DID, [("key-1", other.public_key_multibase, True)])
        case "list":
            listed["credentialSubject"]["encodedList"] = status.encode_list(bytes(32_768))
    verdict = node_verify(document, keys_of_issuer, listed, now=AT)
    assert not verdict.verified
    assert verdict.error


def test_the_oracle_loads_nothing_from_elsewhere(node_verify: Verify) -> None:
    verdict = node_verify(signed_badge(), signed_list(), now=AT)
    assert not verdict.verified
    assert "offline: no document was given" in (verdict.error or "")


def test_text_in_any_script_has_the_same_canonical_form(node_verify: Verify) -> None:
    """Our canonical form is what jsonld.js and rdf-canonize sign, whatever the text and its script."""
    names = [
        'naïve "quoted" \\ back',
        "日本語の🎓\u200d",
        "tab\tand\nnewline",
        "\u2028 separators \uffee",
        "मुक्त विद्यालय",
    ]
    for name in names:
        document = badge(name=name)
        linted = lint.lint(document, issuer=DID)
        verdict = node_verify(proofs.sign(linted, SIGNER, CREATED), did_document(), signed_list(), now=AT)
        assert verdict.verified, (name, verdict.error)


@pytest.mark.parametrize("document", [badge(), status_list(INDEX)], ids=["badge", "status list"])
def test_what_the_oracle_signs_is_byte_for_byte_what_we_sign(node_verify: Verify, document: dict[str, Any]) -> None:
    theirs = node_oracle.issue(
        document, "Ed25519", bytes(range(32)), SIGNER.verification_method, "2026-05-04T12:31:05Z"
    )
    proof = theirs["proof"]
    assert proofs.verify_proof(theirs, proof, SIGNER.public_key_multibase).ok
    profile: lint.Profile = "statuslist" if "BitstringStatusListCredential" in document["type"] else "openbadge"
    assert signed(document, profile)["proof"] == proof
    theirs["issuer"] = "did:web:evil.example"
    assert proofs.verify_proof(theirs, proof, SIGNER.public_key_multibase).reason == "bad_signature"


# -- ECDSA and the older suite -----------------------------------------------------------------------------------

ECDSA = [
    (proofs.ECDSA_RDFC, "P-256", P256_SIGNER), (proofs.ECDSA_RDFC, "P-384", P384_SIGNER),
    (proofs.ECDSA_JCS, "P-256", P256_SIGNER), (proofs.ECDSA_JCS, "P-384", P384_SIGNER),
]  # fmt: skip


def with_keys_of_ecdsa() -> dict[str, Any]:
    return did_document(
        *(did.DidKey(one.verification_method.partition("#")[2], one.public_key_multibase) for _, _, one in ECDSA[:2])
    )


@pytest.mark.parametrize(("suite", "curve", "signer"), ECDSA)
def test_what_we_sign_with_ecdsa_is_accepted(
    node_verify: Verify, suite: str, curve: str, signer: keys.EcdsaSigner
) -> None:
    document = proofs.sign(lint.lint(badge(), issuer=DID), signer, CREATED, suite)
    verdict = node_verify(document, with_keys_of_ecdsa(), signed_list(), now=AT)
    assert verdict.verified, verdict.error
    document["name"] += "."
    assert not node_verify(document, with_keys_of_ecdsa(), signed_list(), now=AT).verified


@pytest.mark.parametrize(("suite", "curve", "signer"), ECDSA)
def test_what_the_oracle_signs_with_ecdsa_verifies(
    node_verify: Verify, suite: str, curve: multikey.KeyType, signer: keys.EcdsaSigner
) -> None:
    secret = bytes(range(multikey.SECRET_SIZES[curve]))
    made = "2026-05-04T12:31:05Z"
    theirs = node_oracle.issue(badge(), curve, secret, signer.verification_method, made, suite)
    result = proofs.verify_proof(theirs, theirs["proof"], signer.public_key_multibase)
    assert result.ok, result
    ours = proofs.sign(lint.lint(badge(), issuer=DID), signer, CREATED, suite)["proof"]
    unlike = {name for name in ours if ours[name] != theirs["proof"].get(name)}
    assert unlike == {"proofValue"}  # theirs is random, ours is RFC 6979
    theirs["name"] += "."
    assert proofs.verify_proof(theirs, theirs["proof"], signer.public_key_multibase).reason == "bad_signature"


def test_what_the_oracle_signs_with_ed25519signature2020_verifies(node_verify: Verify) -> None:
    document = badge()
    document["@context"].append("https://w3id.org/security/suites/ed25519-2020/v1")
    theirs = node_oracle.issue(
        document, "Ed25519", bytes(range(32)), SIGNER.verification_method, "2026-05-04T12:31:05Z", proofs.ED25519_2020
    )
    assert theirs["proof"]["type"] == proofs.ED25519_2020
    result = proofs.verify_proof(theirs, theirs["proof"], SIGNER.public_key_multibase)
    assert result.ok, result
    theirs["name"] += "."
    assert proofs.verify_proof(theirs, theirs["proof"], SIGNER.public_key_multibase).reason == "bad_signature"


def test_a_set_of_ours_is_accepted_proof_by_proof(node_verify: Verify) -> None:
    first = "urn:uuid:00000000-0000-4000-8000-000000000001"
    orders = [
        proofs.Order(SIGNER, proofs.RDFC, CREATED, id=first),
        proofs.Order(P256_SIGNER, proofs.ECDSA_RDFC, CREATED),
    ]
    pair = proofs.sign_all(lint.lint(badge(), issuer=DID), orders)
    verdict = node_verify(pair, with_keys_of_ecdsa(), signed_list(), now=AT)
    assert verdict.proofs == (True, True), verdict.error
    pair["proof"][1]["created"] = "2026-05-04T12:31:06Z"
    verdict = node_verify(pair, with_keys_of_ecdsa(), signed_list(), now=AT)
    assert verdict.proofs == (True, False)
    # The library has not learnt previousProof: of a chain it verifies the proofs that build on nothing. Whether chains
    # are right is for the official vectors to say (test_eddsa_vectors).
    orders[1] = proofs.Order(P256_SIGNER, proofs.ECDSA_RDFC, CREATED, previous=(first,))
    chain = proofs.sign_all(lint.lint(badge(), issuer=DID), orders)
    verdict = node_verify(chain, with_keys_of_ecdsa(), signed_list(), now=AT)
    assert verdict.verified
    assert verdict.proofs[0]
