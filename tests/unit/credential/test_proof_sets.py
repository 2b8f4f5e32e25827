"""Sets and chains of proofs, made by `proofs.sign_all` and taken apart."""

from __future__ import annotations

import copy
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laurel.credential import did, keys, lint, multibase, proof_sets, proofs
from laurel.credential.proofs import Order
from tests.unit.credential.samples import CREATED, DID, P256_SIGNER, P384_SIGNER, SIGNER, SUITES, badge

PUBLISHED = did.build_did_document(
    DID,
    [
        did.DidKey(signer.verification_method.partition("#")[2], signer.public_key_multibase)
        for signer in (SIGNER, P256_SIGNER, P384_SIGNER)
    ],
)
LINTED = lint.lint(badge(), issuer=DID)
FIRST, SECOND, THIRD = (f"urn:uuid:00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))


def resolve(method: str) -> str:
    return did.find_verification_method(PUBLISHED, method)


def secured(*orders: Order) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(proofs.sign_all(LINTED, orders)))
    return document


def reasons(document: dict[str, Any], **options: Any) -> list[str | None]:
    return [result.reason for result in proof_sets.verify_proofs(document, resolve, **options)]


A_SET = secured(*(Order(signer, suite, CREATED) for suite, signer in SUITES))
# THIRD builds on FIRST and SECOND; a nameless one builds on THIRD.
A_CHAIN = secured(
    Order(SIGNER, proofs.RDFC, CREATED, id=FIRST),
    Order(P256_SIGNER, proofs.ECDSA_JCS, CREATED, id=SECOND),
    Order(P384_SIGNER, proofs.ECDSA_RDFC, CREATED, id=THIRD, previous=(FIRST, SECOND)),
    Order(SIGNER, proofs.JCS, CREATED, previous=(THIRD,)),
)


def test_every_proof_of_a_set_is_checked_by_itself() -> None:
    assert len(A_SET["proof"]) == len(SUITES)
    assert reasons(A_SET) == [None] * len(SUITES)
    for place in range(len(SUITES)):
        document = copy.deepcopy(A_SET)
        document["proof"][place]["created"] = "2026-05-04T12:31:06Z"
        found = reasons(document)
        assert found.pop(place) == "bad_signature"
        assert set(found) == {None}
    # A proof of a set does not sign the others: one may go, and any order will do.
    for chosen in itertools.permutations(A_SET["proof"], 2):
        assert reasons({**A_SET, "proof": list(chosen)}) == [None, None]


def test_a_chain_of_every_cryptosuite_on_every_cryptosuite() -> None:
    for (suite, signer), (later, later_signer) in itertools.product(SUITES, SUITES):
        document = secured(
            Order(signer, suite, CREATED, id=FIRST), Order(later_signer, later, CREATED, previous=(FIRST,))
        )
        assert document["proof"][1]["previousProof"] == FIRST
        assert reasons(document) == [None, None], (suite, later)
        document["proof"][0]["proofValue"] = A_SET["proof"][0]["proofValue"]
        assert reasons(document)[1] == "bad_signature", (suite, later)


def test_a_chain_holds_as_long_as_every_link() -> None:
    assert reasons(A_CHAIN) == [None] * 4
    for order in itertools.permutations(A_CHAIN["proof"]):
        assert reasons({**A_CHAIN, "proof": list(order)}) == [None] * 4
    for place, expected in ((0, 2), (1, 2), (2, 3)):
        document = {**A_CHAIN, "proof": [one for at, one in enumerate(A_CHAIN["proof"]) if at != place]}
        assert "missing_previous_proof" in reasons(document), (place, expected)
    # Its last link can be taken away: nothing says that there was one.
    assert reasons({**A_CHAIN, "proof": A_CHAIN["proof"][:3]}) == [None] * 3


def test_what_is_wrong_with_a_link_is_wrong_with_all_that_build_on_it() -> None:
    def without_the_second_key(method: str) -> str:
        if method == P256_SIGNER.verification_method:
            raise proofs.ProofError("no_key", "out of reach")
        return resolve(method)

    results = proof_sets.verify_proofs(A_CHAIN, without_the_second_key)
    assert [result.outcome for result in results] == ["passed", "not_checked", "not_checked", "not_checked"]

    def with_a_revoked_key(method: str) -> str:
        if method == P256_SIGNER.verification_method:
            raise did.DidError("key_revoked", "revoked")
        return resolve(method)

    results = proof_sets.verify_proofs(A_CHAIN, with_a_revoked_key)
    assert [result.outcome for result in results] == ["passed", "failed", "failed", "failed"]
    assert [result.reason for result in results[1:]] == ["key_revoked", *["previous_proof_failed"] * 2]

    # An expired link (its signature is good) takes the others with it as well.
    soon = CREATED + timedelta(days=1)
    document = secured(
        Order(SIGNER, proofs.RDFC, CREATED, expires=soon, id=FIRST),
        Order(SIGNER, proofs.RDFC, CREATED, previous=(FIRST,)),
    )
    assert reasons(document, now=soon) == [None, None]
    assert reasons(document, now=soon + timedelta(seconds=1)) == ["proof_expired", "previous_proof_failed"]


def test_an_unknown_proof_beside_a_good_one_is_told_apart() -> None:
    unknown = {**A_SET["proof"][0], "cryptosuite": "bbs-2023"}
    results = proof_sets.verify_proofs({**A_SET, "proof": [A_SET["proof"][0], unknown]}, resolve)
    assert [result.outcome for result in results] == ["passed", "not_checked"]
    assert results[1].reason == "unknown_cryptosuite"


def test_two_proofs_of_one_name_are_nothing_to_build_on() -> None:
    document = copy.deepcopy(A_CHAIN)
    document["proof"].append(copy.deepcopy(document["proof"][0]))
    found = reasons(document)
    assert found[2] == "malformed_proof"
    assert found[3] == "previous_proof_failed"


def test_proofs_that_build_on_each_other_end_in_a_refusal() -> None:
    document = copy.deepcopy(A_CHAIN)
    document["proof"][0]["previousProof"] = THIRD
    assert reasons(document)[:1] == ["bad_signature"]
    document["proof"][2]["previousProof"] = THIRD
    assert reasons(document)[2] == "malformed_proof"


@pytest.mark.parametrize("attached", [[], None])
def test_no_proof_is_no_result(attached: Any) -> None:
    assert proof_sets.verify_proofs({**badge(), "proof": attached}, resolve) == ()


def test_orders_that_make_no_sense_are_refused() -> None:
    order = Order(SIGNER, proofs.RDFC, CREATED, id=FIRST)
    for orders, code in (
        ([order, order], "malformed_proof"),
        ([Order(SIGNER, proofs.RDFC, CREATED, previous=(FIRST,)), order], "missing_previous_proof"),
        ([Order(SIGNER, proofs.ED25519_2020, CREATED)], "unknown_cryptosuite"),
        ([order, Order(P256_SIGNER, proofs.RDFC, CREATED)], "wrong_key_type"),
        ([order, Order(keys.Ed25519Signer(bytes(32), "did:web:e#k"), proofs.RDFC, CREATED)], "wrong_controller"),
    ):
        with pytest.raises(proofs.ProofError) as refused:
            proofs.sign_all(LINTED, orders)
        assert refused.value.code == code
    with pytest.raises(ValueError, match="no proof"):
        proofs.sign_all(LINTED, [])


# -- tampering ---------------------------------------------------------------------------------------------------

OTHER = proofs.sign(lint.lint(badge(name="Another badge"), issuer=DID), SIGNER, CREATED)["proof"]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_bit_of_any_proof_value_can_be_changed(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from([A_SET, A_CHAIN])))
    place = data.draw(st.integers(0, len(document["proof"]) - 1))
    raw = bytearray(multibase.decode(document["proof"][place]["proofValue"]))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    document["proof"][place]["proofValue"] = multibase.encode(bytes(raw))
    assert reasons(document)[place] is not None


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_proof_can_be_put_in_the_place_of_another(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from([A_SET, A_CHAIN])))
    proof = data.draw(st.sampled_from(document["proof"]))
    name = data.draw(st.sampled_from(["proofValue", "verificationMethod", "cryptosuite", "previousProof", "id"]))
    other = data.draw(st.sampled_from([*A_SET["proof"], *A_CHAIN["proof"], OTHER]))
    if proof.get(name) == other.get(name):
        return
    if name in other:
        proof[name] = other[name]
    else:
        del proof[name]
    found = proof_sets.verify_proofs(document, resolve)
    assert not all(result.ok for result in found)
    swapped = {**document, "proof": OTHER}
    assert reasons(swapped) == ["bad_signature"]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([*A_CHAIN["proof"], OTHER, {}, 5, None, "x"])
        | st.fixed_dictionaries(
            {"type": st.just("DataIntegrityProof"), "cryptosuite": st.just(proofs.JCS)},
            optional={
                "id": st.sampled_from([FIRST, SECOND, "x", 5]),
                "previousProof": st.sampled_from([FIRST, [FIRST, SECOND], [[]], {}, "x"]),
                "verificationMethod": st.sampled_from([SIGNER.verification_method, "x", []]),
            },
        ),
        max_size=5,
    )
)
def test_no_set_makes_it_raise(attached: list[Any]) -> None:
    assert len(reasons({**badge(), "proof": attached})) == len(attached)


def test_a_proof_for_a_challenge_and_a_domain() -> None:
    """As a wallet makes it for a presentation; `proofs.sign` makes none, so it is put together here."""
    presentation = {
        "@context": ["https://www.w3.org/ns/credentials/v2"], "type": ["VerifiablePresentation"], "holder": DID,
    }  # fmt: skip
    proof = {
        "type": "DataIntegrityProof", "cryptosuite": proofs.ECDSA_RDFC, "created": "2026-05-04T12:31:05Z",
        "verificationMethod": P256_SIGNER.verification_method, "proofPurpose": "authentication",
        "challenge": "c4", "domain": ["https://a.example", "https://b.example"],
    }  # fmt: skip
    forms = [
        proofs.canonical(one, proofs.ECDSA_RDFC, "P-256")
        for one in ({**proof, "@context": presentation["@context"]}, presentation)
    ]
    value = multibase.encode(P256_SIGNER.sign(proofs.hash_data(forms[0], forms[1], "P-256")))
    document = {**presentation, "proof": {**proof, "proofValue": value}}
    both = {"https://a.example", "https://b.example"}
    for options, reason in (
        ({}, None),
        ({"challenge": "c4", "domain": both}, None),
        ({"challenge": "c5", "domain": both}, "wrong_challenge"),
        ({"challenge": "c4", "domain": "https://a.example"}, "wrong_domain"),
        ({"now": datetime(2099, 1, 1, tzinfo=UTC)}, None),
    ):
        assert reasons(document, purpose="authentication", **options) == [reason]
    assert reasons(document) == ["wrong_purpose"]
