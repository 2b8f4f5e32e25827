"""Other people's proofs at the verifier's door: ECDSA, older suites, sets, chains, JSON Web Keys, data model 1.1."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest

from laurel.credential import did, keys, multibase, multikey, proofs
from laurel.credential.lint import lint
from laurel.credential.proofs import Order
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import NOW, TestIssuer
from tests.component.verifier.test_foreign import Foreign, foreign
from tests.component.verifier.test_verdicts import code, outcomes

__all__ = ["foreign"]  # a fixture

MADE = NOW - timedelta(hours=1)
ED25519 = keys.Ed25519Signer(bytes(range(32)), "x:y#z")
P256 = keys.EcdsaSigner("P-256", bytes(range(1, 33)), "x:y#z")
P384 = keys.EcdsaSigner("P-384", bytes(range(1, 49)), "x:y#z")
FIRST = "urn:uuid:00000000-0000-4000-8000-000000000001"


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"allow_http_issuers": True}


def named(signer: keys.Signer, method: str) -> keys.Signer:
    """The same key under another name."""
    made = copy.copy(signer)
    made.verification_method = method  # type: ignore[misc]
    return made


def by_did_key(signer: keys.Signer) -> tuple[str, keys.Signer]:
    identifier = did.did_key(signer.public_key_multibase)
    return identifier, named(signer, f"{identifier}#{signer.public_key_multibase}")


def badge_of(issuer: str) -> dict[str, Any]:
    """An unsigned Open Badge of that issuer."""
    document = TestIssuer(slug="", base_url="https://else.example").badge()
    del document["proof"]
    document["issuer"]["id"] = issuer
    return document


def with_proof(
    document: dict[str, Any], signer: keys.Signer, suite: str, attached: tuple[dict[str, Any], ...] = (), **more: Any
) -> dict[str, Any]:
    """`document` and one proof more, as somebody makes it who does not use our lint."""
    kind = multikey.decode_public(signer.public_key_multibase).type
    proof = {
        **({"type": suite} if suite == proofs.ED25519_2020 else {"type": "DataIntegrityProof", "cryptosuite": suite}),
        "created": "2026-11-21T00:00:00Z", "verificationMethod": signer.verification_method,
        "proofPurpose": "assertionMethod", **more,
    }  # fmt: skip
    if suite in (proofs.JCS, proofs.ECDSA_JCS):
        proof["@context"] = document["@context"]
    forms = [proofs.canonical(one, suite, kind) for one in ({**proof, "@context": document["@context"]}, document)]
    value = multibase.encode(signer.sign(proofs.hash_data(forms[0], forms[1], kind)))
    return {**document, "proof": [*attached, {**proof, "proofValue": value}]}


@pytest.mark.parametrize(
    ("suite", "key"),
    [
        (proofs.ECDSA_RDFC, P256), (proofs.ECDSA_RDFC, P384), (proofs.ECDSA_JCS, P256), (proofs.ECDSA_JCS, P384),
        (proofs.RDFC, ED25519), (proofs.JCS, ED25519),
    ],
)  # fmt: skip
async def test_every_cryptosuite(verifier: Verifier, suite: str, key: keys.Signer) -> None:
    issuer, signer = by_did_key(key)
    document = proofs.sign(lint(badge_of(issuer), issuer=issuer), signer, MADE, suite)
    found = await verifier.verify(document)
    assert found["verdict"] == "valid", found
    detail = next(check["detail"] for check in found["checks"] if check["step"] == "signature")
    assert suite in detail
    document["name"] += "."
    found = await verifier.verify(document)
    assert (found["verdict"], code(found, "signature")) == ("invalid", "bad_signature")


async def test_all_proofs_of_a_set_must_be_true(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document = proofs.sign_all(
        lint(badge_of(issuer), issuer=issuer), [Order(signer, proofs.RDFC, MADE), Order(signer, proofs.JCS, MADE)]
    )
    found = await verifier.verify(document)
    assert found["verdict"] == "valid", found
    for place in (0, 1):
        changed = json.loads(json.dumps(document))
        changed["proof"][place]["created"] = "2026-11-22T11:00:01Z"
        found = await verifier.verify(changed)
        assert (found["verdict"], code(found, "signature")) == ("invalid", "bad_signature")
    unknown = json.loads(json.dumps(document))
    unknown["proof"][1]["cryptosuite"] = "bbs-2023"
    found = await verifier.verify(unknown)
    assert (found["verdict"], code(found, "signature")) == ("could_not_check", "unknown_cryptosuite")
    unknown["proof"][0]["created"] = "2026-11-22T11:00:01Z"  # a false one outweighs one that cannot be read
    assert (await verifier.verify(unknown))["verdict"] == "invalid"


async def test_a_second_signer_counts_as_well(verifier: Verifier, foreign: Foreign) -> None:
    issuer, signer = by_did_key(ED25519)
    witness = did.did_web(foreign.url, "witness")
    method = f"{witness}#k"
    document = with_proof(badge_of(issuer), signer, proofs.RDFC)
    unsigned = {key: value for key, value in document.items() if key != "proof"}
    both = with_proof(unsigned, named(P384, method), proofs.ECDSA_RDFC, tuple(document["proof"]))
    found = await verifier.verify(both)
    assert (found["verdict"], code(found, "signature")) == ("could_not_check", "no_key")  # its DID is not found
    entry = {"id": method, "type": "JsonWebKey", "controller": witness}
    published = {"id": witness, "verificationMethod": [entry], "assertionMethod": [method]}
    entry["publicKeyJwk"] = multikey.to_jwk(P384.public_key_multibase)  # type: ignore[assignment]
    foreign.put("/issuers/witness/did.json", published)
    found = await verifier.verify(both)
    assert found["verdict"] == "valid", found
    # The witness alone is not the issuer.
    found = await verifier.verify({**both, "proof": both["proof"][1]})
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "not_the_issuers_key")


@pytest.mark.parametrize(
    ("spoil", "verdict", "why"),
    [
        ({"assertionMethod": []}, "invalid", "not_for_assertion"),
        ({"verificationMethod": []}, "invalid", "key_not_found"),
    ],
)
async def test_a_second_signers_key_must_be_one_for_assertion(
    verifier: Verifier, foreign: Foreign, spoil: dict[str, Any], verdict: str, why: str
) -> None:
    issuer, signer = by_did_key(ED25519)
    university = TestIssuer(slug="second", seed=b"\x0e" * 32, base_url=foreign.url)
    foreign.put("/issuers/second/did.json", {**university.did_document(), **spoil})
    document = with_proof(badge_of(issuer), signer, proofs.RDFC)
    unsigned = {key: value for key, value in document.items() if key != "proof"}
    both = with_proof(unsigned, university.signer, proofs.RDFC, tuple(document["proof"]))
    found = await verifier.verify(both)
    assert (found["verdict"], code(found, "signature")) == (verdict, why)


async def test_a_chain(verifier: Verifier) -> None:
    issuer, signer = by_did_key(P256)
    document = proofs.sign_all(
        lint(badge_of(issuer), issuer=issuer),
        [
            Order(signer, proofs.ECDSA_RDFC, MADE, id=FIRST),
            Order(signer, proofs.ECDSA_JCS, MADE, previous=(FIRST,)),
        ],
    )
    found = await verifier.verify(document)
    assert found["verdict"] == "valid", found
    found = await verifier.verify({**document, "proof": document["proof"][1]})
    assert (found["verdict"], code(found, "signature")) == ("invalid", "missing_previous_proof")


async def test_an_expired_proof_and_an_expired_key(verifier: Verifier, foreign: Foreign) -> None:
    issuer, signer = by_did_key(ED25519)
    order = Order(signer, proofs.RDFC, MADE, expires=NOW + timedelta(hours=1))
    document = proofs.sign_all(lint(badge_of(issuer), issuer=issuer), [order])
    assert (await verifier.verify(document))["verdict"] == "valid"
    verifier.clock.now = NOW + timedelta(hours=2)
    found = await verifier.verify(document)
    assert (found["verdict"], code(found, "signature")) == ("invalid", "proof_expired")

    university = TestIssuer(slug="old", seed=b"\x0e" * 32, base_url=foreign.url)
    published = university.did_document()
    published["verificationMethod"][0]["expires"] = "2026-11-22T13:00:00Z"
    foreign.put("/issuers/old/did.json", published)
    badge = university.badge()
    assert code(await verifier.verify(badge), "issuer") == "key_expired"
    verifier.clock.now = NOW
    assert (await verifier.verify(badge))["verdict"] == "valid"


V1 = "https://www.w3.org/2018/credentials/v1"
SUITE_2020 = "https://w3id.org/security/suites/ed25519-2020/v1"
DATA_INTEGRITY_V2 = "https://w3id.org/security/data-integrity/v2"


def old_badge(issuer: str, suite_context: str, **changes: Any) -> dict[str, Any]:
    """An Open Badge on data model 1.1."""
    return {
        "@context": [V1, "https://purl.imsglobal.org/spec/ob/v3p0/context.json", suite_context],
        "id": "urn:uuid:00000000-0000-4000-8000-00000000000a",
        "type": ["VerifiableCredential", "OpenBadgeCredential"],
        "issuer": {"id": issuer, "type": ["Profile"], "name": "Old University"},
        "issuanceDate": "2026-01-01T00:00:00Z",
        "name": "An old badge",
        "credentialSubject": {
            "id": "did:example:learner",
            "type": ["AchievementSubject"],
            "achievement": {
                "id": "urn:uuid:00000000-0000-4000-8000-00000000000b",
                "type": ["Achievement"],
                "name": "History",
                "description": "Knows what was.",
                "criteria": {"narrative": "Passed."},
            },
        },
        **changes,
    }


@pytest.mark.parametrize(
    ("suite", "context", "key"),
    [
        (proofs.ED25519_2020, SUITE_2020, ED25519),
        (proofs.RDFC, DATA_INTEGRITY_V2, ED25519),
        (proofs.JCS, DATA_INTEGRITY_V2, ED25519),
        (proofs.ECDSA_RDFC, DATA_INTEGRITY_V2, P256),
    ],
)
async def test_data_model_1_1(verifier: Verifier, suite: str, context: str, key: keys.Signer) -> None:
    issuer, signer = by_did_key(key)
    document = with_proof(old_badge(issuer, context), signer, suite)
    found = await verifier.verify(document)
    assert found["verdict"] == "valid", found
    assert "data model 1.1" in found["checks"][0]["detail"]
    changed = json.loads(json.dumps(document))
    changed["credentialSubject"]["achievement"]["name"] = "Herstory"
    assert code(await verifier.verify(changed), "signature") == "bad_signature"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"expirationDate": "2026-06-01T00:00:00Z"}, "expired"),
        ({"expirationDate": "2027-06-01T00:00:00Z"}, "valid"),
        ({"issuanceDate": "2027-01-01T00:00:00Z"}, "not_yet_valid"),
        ({"validFrom": "2027-01-01T00:00:00Z"}, "not_yet_valid"),
        ({"issuanceDate": "yesterday"}, "invalid"),
    ],
)
async def test_the_dates_of_data_model_1_1(verifier: Verifier, changes: dict[str, Any], verdict: str) -> None:
    issuer, signer = by_did_key(ED25519)
    document = with_proof(old_badge(issuer, SUITE_2020, **changes), signer, proofs.ED25519_2020)
    found = await verifier.verify(document)
    assert found["verdict"] == verdict, found


async def test_data_model_1_1_wants_its_issuance_date(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document = old_badge(issuer, SUITE_2020)
    del document["issuanceDate"]
    found = await verifier.verify(with_proof(document, signer, proofs.ED25519_2020))
    assert (found["verdict"], code(found, "format")) == ("invalid", "no_issuance_date")
    assert outcomes(found)["signature"] == "not_checked"
