"""From a passed assessment to a signed credential and its event, through the real consumer engine."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from laurel.credential import proofs, schema, status
from laurel.credential.did import find_verification_method
from laurel.events import CredentialIssued, Recipient
from tests.component.issuer.kit import BASE_URL, START, Issuer, passed_of


async def verify(issuer: Issuer, document: dict[str, Any]) -> proofs.ProofResult:
    """As a stranger would: with the key from the public DID document."""
    proof = document["proof"]
    issued_by = document["issuer"]
    slug = (issued_by if isinstance(issued_by, str) else issued_by["id"]).rpartition(":")[2]
    did_document = await issuer.get(None, f"/issuers/{slug}/did.json")
    return proofs.verify_proof(document, proof, find_verification_method(did_document, proof["verificationMethod"]))


async def test_a_pass_becomes_a_credential_that_strangers_can_verify(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"], validity_days=365)
    passed = passed_of(achievement, 1)
    await issuer.process([passed])

    shown = await issuer.get(tenant, f"/issuer/v1/credentials/{passed.credential_id}")
    document = shown["document"]
    assert document["id"] == f"{BASE_URL}/c/{passed.credential_id}"
    assert document["issuer"]["id"] == "did:web:badges.example.org:issuers:physics"
    assert document["validFrom"] == "2026-03-01T09:30:15Z"
    assert document["validUntil"] == "2027-03-01T09:30:15Z"
    assert document["credentialSubject"]["achievement"] == achievement.achievement
    assert document["credentialSubject"]["identifier"][0]["identityHash"] == passed.recipient.identity_hash
    assert document["credentialStatus"]["statusPurpose"] == "revocation"
    assert not schema.open_badge_findings(document)
    assert (await verify(issuer, document)).ok
    document["credentialSubject"]["achievement"]["name"] = "Quantum field theory"
    assert (await verify(issuer, document)).reason == "bad_signature"

    (event,) = await issuer.outbox(CredentialIssued)
    assert isinstance(event, CredentialIssued)
    (row,) = await issuer.sql("SELECT body FROM credentials")
    assert bytes(event.document) == row["body"]
    assert event.issued_at == START.replace(microsecond=0)
    assert event.valid_until == event.issued_at + timedelta(days=365)
    assert (event.achievement_name, event.course_run) == ("Thermodynamics", "2026-spring")


async def test_the_list_that_a_credential_names_is_there_before_the_credential(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    passed = passed_of(achievement, 1)
    prepared = await issuer.issuance.prepare(decoded(issuer, [passed]))
    entry = json.loads(prepared.signed[0].body)["credentialStatus"]
    assert not await issuer.sql("SELECT 1 FROM credentials")
    document = await issuer.get(None, entry["statusListCredential"].removeprefix(BASE_URL))
    assert (await verify(issuer, document)).ok
    bits = status.decode_list(document["credentialSubject"]["encodedList"])
    assert not any(bits)


def decoded(issuer: Issuer, events: list[Any]) -> list[Any]:
    from laurel import envelope

    return [envelope.decode(message) for message in issuer.messages(events)]


async def test_a_learner_with_a_did_is_the_subject(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    profile = await issuer.profile(tenant)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    learner = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
    passed = passed_of(achievement, 1, recipient=Recipient(did=learner))
    await issuer.process([passed])
    shown = await issuer.get(tenant, f"/issuer/v1/credentials/{passed.credential_id}")
    assert shown["document"]["credentialSubject"]["id"] == learner
    assert "identifier" not in shown["document"]["credentialSubject"]
