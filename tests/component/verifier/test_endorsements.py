"""What others say of a badge: credentials of their own, with verdicts of their own, and never the badge's verdict."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from laurel.credential import contexts, jose, keys, proofs
from laurel.credential.lint import lint
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.test_foreign import Foreign, foreign
from tests.component.verifier.test_proofs import ED25519, P256, badge_of, by_did_key, with_proof
from tests.component.verifier.test_verdicts import code, outcomes

__all__ = ["foreign"]  # a fixture

ACHIEVEMENT = "https://else.example/achievements/a1"


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"allow_http_issuers": True}


def unsigned(issuer: str, of: str = ACHIEVEMENT, **changes: Any) -> dict[str, Any]:
    found = {
        "@context": badge_of(issuer)["@context"],
        "id": "urn:uuid:00000000-0000-4000-8000-0000000000e1",
        "type": ["VerifiableCredential", "EndorsementCredential"],
        "issuer": {"id": issuer, "type": ["Profile"], "name": "Accrediting Agency"},
        "validFrom": "2026-01-01T00:00:00Z",
        "name": "Endorsement",
        "credentialSubject": {
            "id": of, "type": ["EndorsementSubject"], "endorsementComment": "Taught well and examined fairly."
        },
    }  # fmt: skip
    return {**found, **changes}


def endorsement(of: str = ACHIEVEMENT, signer: keys.Signer = P256, **changes: Any) -> dict[str, Any]:
    issuer, named = by_did_key(signer)
    return with_proof(unsigned(issuer, of, **changes), named, proofs.ECDSA_RDFC)


def badge(*held: Any, where: str = "achievement", name: str = "endorsement") -> dict[str, Any]:
    """A badge that holds these endorsements, signed with them."""
    issuer, signer = by_did_key(ED25519)
    document = badge_of(issuer)
    del document["credentialSchema"]  # it has its own word on what stands where an endorsement should
    place: dict[str, Any] = {
        "achievement": document["credentialSubject"]["achievement"], "issuer": document["issuer"], "": document,
    }[where]  # fmt: skip
    place[name] = list(held)
    return with_proof(document, signer, proofs.RDFC)


async def test_an_endorsement_by_itself(verifier: Verifier) -> None:
    found = await verifier.verify(endorsement())
    assert found["verdict"] == "valid", found
    assert found["issuer_name"] == "Accrediting Agency"
    forged = endorsement()
    forged["credentialSubject"]["endorsementComment"] = "Taught by nobody."
    found = await verifier.verify(forged)
    assert (found["verdict"], code(found, "signature")) == ("invalid", "bad_signature")


async def test_an_endorsement_is_held_against_its_schema(verifier: Verifier) -> None:
    schema = {"id": contexts.ENDORSEMENT_SCHEMA, "type": "1EdTechJsonSchemaValidator2019"}
    found = await verifier.verify(endorsement(credentialSchema=[schema]))
    assert (found["verdict"], outcomes(found)["schema"]) == ("valid", "passed"), found
    (check,) = (check for check in found["checks"] if check["step"] == "schema")
    (against,) = check["against"]
    assert against["id"] == contexts.ENDORSEMENT_SCHEMA
    assert against["url"] == f"{contexts.OPEN_BADGES_SCHEMA}#/$defs/EndorsementCredential"
    found = await verifier.verify(endorsement(credentialSchema=[schema], name=["Endorsement"]))
    assert (found["verdict"], code(found, "schema")) == ("invalid", "schema_violated"), found


async def test_a_badge_and_its_endorsement(verifier: Verifier) -> None:
    found = await verifier.verify(badge(endorsement()))
    assert found["verdict"] == "valid", found
    assert outcomes(found)["endorsements"] == "passed"
    (one,) = found["endorsements"]
    assert one["pointer"] == "/credentialSubject/achievement/endorsement/0"
    assert (one["verdict"], one["concerns"], one["issuer"]) == ("valid", True, by_did_key(P256)[0])
    assert {check["step"]: check["outcome"] for check in one["checks"]}["signature"] == "passed"


def _forged() -> dict[str, Any]:
    found = copy.deepcopy(endorsement())
    found["credentialSubject"]["endorsementComment"] = "The best of all."
    return found


@pytest.mark.parametrize(
    ("held", "verdict", "concerns", "outcome"),
    [
        (_forged(), "invalid", True, "failed"),
        (endorsement(validUntil="2026-02-01T00:00:00Z"), "expired", True, "failed"),
        (endorsement("https://else.example/achievements/another"), "valid", False, "failed"),
        (unsigned("did:web:nobody.example"), "invalid", True, "failed"),
        (endorsement(type=["VerifiableCredential"]), "invalid", True, "failed"),
        (
            endorsement(credentialStatus={"id": "https://127.0.0.1:1/x", "type": "1EdTechRevocationList"}),
            "could_not_check",
            True,
            "not_checked",
        ),
    ],
)
async def test_a_bad_endorsement_takes_nothing_from_the_badge(
    verifier: Verifier, held: dict[str, Any], verdict: str, concerns: bool, outcome: str
) -> None:
    found = await verifier.verify(badge(held))
    assert found["verdict"] == "valid", found
    assert outcomes(found)["endorsements"] == outcome
    assert [(one["verdict"], one["concerns"]) for one in found["endorsements"]] == [(verdict, concerns)]
    said = next(check for check in found["checks"] if check["step"] == "endorsements")
    assert said["pointer"] == "/credentialSubject/achievement/endorsement/0"


async def test_an_endorsement_in_a_token(verifier: Verifier) -> None:
    issuer, signer = by_did_key(P256)
    linted = lint(unsigned(issuer), profile="vcdm", issuer=issuer)
    token = jose.sign_vc_jose(linted, signer).decode()
    found = await verifier.verify(badge(token, token[:-4] + "AAAA", name="endorsementJwt"))
    assert found["verdict"] == "valid", found
    assert [one["verdict"] for one in found["endorsements"]] == ["valid", "invalid"]
    assert found["endorsements"][0]["concerns"] is True


async def test_four_are_looked_at_and_all_are_counted(verifier: Verifier) -> None:
    held = [endorsement(id=f"urn:uuid:00000000-0000-4000-8000-0000000000{number:02}") for number in range(6)]
    found = await verifier.verify(badge(*held))
    assert found["verdict"] == "valid"
    assert [one["verdict"] for one in found["endorsements"]] == ["valid"] * 4
    said = next(check for check in found["checks"] if check["step"] == "endorsements")
    assert (said["outcome"], said["code"]) == ("not_checked", "endorsement_not_checked")
    assert "4 of 6" in said["detail"]


async def test_nobody_is_asked_for_the_endorsements_of_a_forgery(verifier: Verifier, foreign: Foreign) -> None:
    issuer = f"{foreign.url}/issuers/1"
    held = with_proof(unsigned(issuer), by_did_key(P256)[1], proofs.ECDSA_RDFC)
    forged = badge(held)
    forged["name"] = "Forged"
    found = await verifier.verify(forged)
    assert (found["verdict"], found.get("endorsements", [])) == ("invalid", [])
    assert outcomes(found)["endorsements"] == "not_checked"
    assert foreign.asked == []


async def test_a_newer_one_is_named_and_not_fetched(verifier: Verifier, foreign: Foreign) -> None:
    issuer, signer = by_did_key(ED25519)
    document = badge_of(issuer)
    document["refreshService"] = {"id": f"{foreign.url}/newer", "type": "1EdTechCredentialRefresh"}
    found = await verifier.verify(with_proof(document, signer, proofs.RDFC))
    assert (found["verdict"], code(found, "refresh")) == ("valid", "refresh_not_followed")
    assert foreign.asked == []
