"""Every refusal names its step, its property and its clause, and has a problem type that programs know."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from laurel.credential.did import DidError
from laurel_verifier import checks, domain, endorsements, key_urls
from laurel_verifier.checks import CLAUSES, STEPS, Step

VCDM, SECURITY = "https://www.w3.org/TR/vc-data-model#", "https://w3id.org/security#"
STATUS = "https://www.w3.org/ns/credentials/status-list#"
# VC Data Model 2.0 §7.1; VC Data Integrity 1.0 §4.7; Controlled Identifiers 1.0 §3.5; Bitstring Status List 1.0 §3.5
PUBLISHED = {
    VCDM + "PARSING_ERROR", VCDM + "CRYPTOGRAPHIC_SECURITY_ERROR", VCDM + "MALFORMED_VALUE_ERROR", VCDM + "RANGE_ERROR",
    *(
        SECURITY + name
        for name in (
            "PROOF_VERIFICATION_ERROR", "PROOF_TRANSFORMATION_ERROR", "INVALID_DOMAIN_ERROR", "INVALID_CHALLENGE_ERROR",
            "INVALID_VERIFICATION_METHOD_URL", "INVALID_CONTROLLED_IDENTIFIER_DOCUMENT_ID",
            "INVALID_CONTROLLED_IDENTIFIER_DOCUMENT", "INVALID_VERIFICATION_METHOD",
            "INVALID_RELATIONSHIP_FOR_VERIFICATION_METHOD",
        )
    ),
    *(STATUS + name for name in ("STATUS_RETRIEVAL_ERROR", "STATUS_VERIFICATION_ERROR", "STATUS_LIST_LENGTH_ERROR")),
}  # fmt: skip


def test_every_step_has_its_clause_and_stands_in_the_order_of_open_badges() -> None:
    assert set(STEPS) == set(CLAUSES) == set(get_args(Step))
    order = ["signature", "refresh", "status", "recipient", "endorsements"]  # Open Badges 3.0 §9.1 steps 2 to 6
    assert [step for step in STEPS if step in order] == order


@pytest.mark.parametrize(
    ("step", "code", "made", "kind"),
    [
        ("format", "no_proof", "failed", VCDM + "MALFORMED_VALUE_ERROR"),
        ("format", "duplicate_key", "failed", VCDM + "PARSING_ERROR"),
        ("context", "unsafe_document", "failed", SECURITY + "PROOF_TRANSFORMATION_ERROR"),
        ("context", "limit_exceeded", "failed", "urn:laurel:problem:limit_exceeded"),
        ("schema", "schema_violated", "failed", VCDM + "MALFORMED_VALUE_ERROR"),
        ("issuer", "not_for_assertion", "failed", SECURITY + "INVALID_RELATIONSHIP_FOR_VERIFICATION_METHOD"),
        ("issuer", "wrong_controller", "failed", SECURITY + "INVALID_VERIFICATION_METHOD"),
        ("issuer", "wrong_document", "not_checked", SECURITY + "INVALID_CONTROLLED_IDENTIFIER_DOCUMENT_ID"),
        ("issuer", "unknown_issuer", "failed", "urn:laurel:problem:unknown_issuer"),
        ("signature", "bad_signature", "failed", VCDM + "CRYPTOGRAPHIC_SECURITY_ERROR"),
        ("signature", "wrong_challenge", "failed", SECURITY + "INVALID_CHALLENGE_ERROR"),
        ("signature", "wrong_domain", "failed", SECURITY + "INVALID_DOMAIN_ERROR"),
        ("signature", "proof_expired", "failed", SECURITY + "PROOF_VERIFICATION_ERROR"),
        ("dates", "expired", "failed", VCDM + "RANGE_ERROR"),
        ("status", "range", "failed", VCDM + "RANGE_ERROR"),
        ("status", "fetch_failed", "not_checked", STATUS + "STATUS_RETRIEVAL_ERROR"),
        ("status", "bad_status_entry", "failed", STATUS + "STATUS_VERIFICATION_ERROR"),
        ("status", "revoked", "failed", "urn:laurel:problem:revoked"),
        ("recipient", "recipient_mismatch", "failed", "urn:laurel:problem:recipient_mismatch"),
    ],
)
def test_problem_types(step: Step, code: str, made: str, kind: str) -> None:
    found = (checks.failed if made == "failed" else checks.not_checked)(step, code, "Why.", pointer="/x")
    assert found.problem is not None
    assert (found.problem.type, found.problem.detail) == (kind, "Why.")
    assert kind in PUBLISHED or kind == f"urn:laurel:problem:{code}"
    assert found.problem.title == code.replace("_", " ").capitalize()
    assert (found.clause, found.pointer) == (CLAUSES[step], "/x")


def good() -> dict[str, Any]:
    return {
        "@context": ["https://www.w3.org/ns/credentials/v2"],
        "type": ["VerifiableCredential", "OpenBadgeCredential"],
        "issuer": "did:web:issuer.example",
        "credentialSubject": {"id": "did:web:learner.example"},
        "proof": {"type": "DataIntegrityProof"},
    }


SPOILED: list[tuple[dict[str, Any], str, str]] = [
    ({"@context": "https://www.w3.org/ns/credentials/v2"}, "no_credential_context", "/@context"),
    ({"@context": ["https://www.w3.org/ns/credentials/v2", 7]}, "bad_context", "/@context"),
    ({"type": "OpenBadgeCredential"}, "not_a_credential", "/type"),
    ({"id": None}, "null_member", "/id"),
    ({"id": "badge-7"}, "bad_id", "/id"),
    ({"issuer": {"name": "x"}}, "bad_issuer", "/issuer"),
    ({"credentialSubject": []}, "no_subject", "/credentialSubject"),
    ({"credentialSubject": {"type": "AchievementSubject"}}, "unidentified_subject", "/credentialSubject"),
    ({"evidence": "x"}, "bad_member", "/evidence"),
    ({"credentialStatus": [{"type": "X"}] * 9}, "too_many_statuses", "/credentialStatus"),
    ({"validUntil": "tomorrow"}, "bad_date", "/validUntil"),
    ({"@context": ["https://www.w3.org/2018/credentials/v1"]}, "no_issuance_date", "/issuanceDate"),
    ({"proof": []}, "no_proof", "/proof"),
    ({"proof": "x"}, "bad_proof", "/proof"),
    ({"proof": [{}] * 9}, "too_many_proofs", "/proof"),
]


@pytest.mark.parametrize(("changes", "code", "pointer"), SPOILED)
def test_the_form_names_the_property(changes: dict[str, Any], code: str, pointer: str) -> None:
    assert domain.check_format(good(), 1).outcome == "passed"
    found = domain.check_format({**good(), **changes}, 1)
    assert (found.outcome, found.code, found.pointer) == ("failed", code, pointer)
    assert found.problem is not None
    assert found.problem.type in PUBLISHED


def test_a_subject_may_be_identified_either_way() -> None:
    assert domain.check_format({**good(), "credentialSubject": {"identifier": [{"hashed": True}]}}, 1).code is None
    other = {**good(), "type": ["VerifiableCredential"], "credentialSubject": {"name": "x"}}
    assert domain.check_format(other, 1).code is None  # that is a rule of Open Badges alone


@pytest.mark.parametrize(
    "changes", [{"type": "VerifiablePresentation"}, {"@context": "https://w3id.org/openbadges/v2", "type": "Assertion"}]
)
def test_what_is_not_read_is_no_failure(changes: dict[str, Any]) -> None:
    found = domain.check_format({**good(), **changes}, 1)
    assert (found.outcome, found.code) == ("not_checked", "unsupported_format")
    assert domain.decide([found]) == "could_not_check"


# --- keys at URLs of their own ---------------------------------------------------------------------------------------

ISSUER, KEY = "https://issuer.example/1", "https://issuer.example/keys/1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x", "https://a.example:443/y?z", True),
        ("https://A.example/x", "https://a.example/", True),
        ("https://a.example/", "http://a.example/", False),
        ("https://a.example/", "https://a.example:8443/", False),
        ("https://a.example/", "https://a.example.evil.example/", False),
        ("https://a.example/", "https://b@a.example.evil/", False),
        ("https://a.example/", "https://[::1", False),
        ("did:web:a", "did:web:a", False),
    ],
)
def test_same_origin(one: str, other: str, same: bool) -> None:
    assert key_urls.same_origin(one, other) is same


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({"id": KEY, "publicKeyMultibase": "z", "controller": "https://evil.example"}, "wrong_controller"),
        ({"id": KEY, "publicKeyMultibase": "z"}, "wrong_controller"),
        ({"id": KEY, "controller": ISSUER}, "key_not_found"),
        ({"id": ISSUER, "publicKeyMultibase": "z", "controller": ISSUER}, "wrong_document"),
        ({"publicKeyMultibase": "z", "controller": ISSUER}, "wrong_document"),
        ({"keys": []}, "key_not_found"),
        ({"keys": [{"kid": KEY}, {"kid": KEY}]}, "key_not_found"),
        ({}, "wrong_document"),
    ],
)
def test_what_a_key_url_must_not_answer(found: dict[str, Any], code: str) -> None:
    with pytest.raises(DidError) as caught:
        key_urls.method_at(found, KEY, ISSUER)
    assert caught.value.code == code


def test_a_bare_key_of_another_origin_is_nobodys() -> None:
    with pytest.raises(DidError, match="own origin"):
        key_urls.method_at({"kty": "OKP"}, "https://keys.example/1", ISSUER)
    assert key_urls.method_at({"kty": "OKP"}, KEY, ISSUER)["controller"] == ISSUER


# --- endorsements ----------------------------------------------------------------------------------------------------


def test_endorsements_are_found_wherever_they_stand() -> None:
    inner = {"id": "urn:e:1", "endorsement": [{"id": "urn:e:2"}], "credentialSubject": {"id": "urn:a"}}
    document = {
        "id": "urn:b",
        "endorsementJwt": "a.b.c",
        "issuer": {"id": "urn:i", "endorsement": inner},
        "credentialSubject": {"achievement": {"id": "urn:a", "endorsement": [inner, 7, None]}},
        "@context": [{"endorsement": {"id": "urn:no"}}],
    }
    found = [(one.pointer, one.of) for one in endorsements.attached(document)]
    assert found == [
        ("/endorsementJwt", "urn:b"),
        ("/issuer/endorsement", "urn:i"),
        ("/credentialSubject/achievement/endorsement/0", "urn:a"),
    ]
    assert [endorsements.concerns(one, inner) for one in endorsements.attached(document)] == [False, False, True]


def test_endorsements_are_counted_within_bounds() -> None:
    nested: dict[str, Any] = {}
    for _ in range(200):
        nested = {"x": nested, "endorsement": []}
    nested["endorsement"] = [{}] * 5000
    assert len(endorsements.attached(nested)) == 1000
