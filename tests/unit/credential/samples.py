"""One complete Open Badge and its issuer, built by the public builders, with fixed times and keys."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from laurel.credential import contexts, did, keys, lint, model, multikey, proofs, status

BASE = "https://badges.example"
DID = did.did_web(BASE, "open-university")
LIST_URL = f"{BASE}/status/7"
INDEX = 94_567
NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
CREATED = datetime(2026, 5, 4, 12, 31, 5, tzinfo=UTC)
SIGNER = keys.Ed25519Signer(bytes(range(32)), f"{DID}#key-1")
P256_SIGNER = keys.EcdsaSigner("P-256", bytes(range(32)), f"{DID}#key-p256")
P384_SIGNER = keys.EcdsaSigner("P-384", bytes(range(48)), f"{DID}#key-p384")
RSA_SIGNER = keys.RsaSigner(
    multikey.rsa_secret(rsa.generate_private_key(public_exponent=65537, key_size=2048)), f"{DID}#key-rsa"
)
# Every cryptosuite, with the kinds of keys that it takes.
SUITES: tuple[tuple[str, keys.Signer], ...] = (
    (proofs.RDFC, SIGNER),
    (proofs.JCS, SIGNER),
    (proofs.ECDSA_RDFC, P256_SIGNER),
    (proofs.ECDSA_RDFC, P384_SIGNER),
    (proofs.ECDSA_JCS, P256_SIGNER),
    (proofs.ECDSA_JCS, P384_SIGNER),
)
RESULT_DESCRIPTION = "urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e6f"
PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVQIW2NgUPr/HwADaAIhG61j/AAAAABJRU5ErkJggg=="
)

PROFILE = model.Profile(
    id=DID,
    name="Ανοικτό Πανεπιστήμιο",
    url="https://open.example/",
    email="badges@open.example",
    description="An open university.",
    image=f"{BASE}/issuers/open-university/logo.svg",
)
ACHIEVEMENT = model.Achievement(
    id=f"{BASE}/achievements/018f9a3e-0000-7000-8000-000000000001",
    name="数据素养 · Data Literacy",
    description="Reads, cleans and questions data.",
    criteria_narrative="Pass the *final project* with at least 70 %.",
    criteria_id=f"{BASE}/courses/data-literacy",
    achievement_type="Course",
    image=PNG,
    image_caption="A laurel wreath",
    tag=("data", "statistics"),
    alignment=(
        model.Alignment(
            target_name="analyse data",
            target_url="http://data.europa.eu/esco/skill/2b92a5b2-6758-4ee3-9fb4-b6387a55cc8f",
            target_type="ext:ESCO",
            target_framework="ESCO",
        ),
        model.Alignment("Data Literacy", "https://credentialfinder.org/competency/ce-1", target_type="CTDL"),
    ),
    result_description=(model.ResultDescription(RESULT_DESCRIPTION, "Final grade", "Percent", "0", "100"),),
    in_language="en",
    creator=PROFILE,
    credits_available=2.5,
)
RECIPIENT = model.Recipient(identity=model.IdentityHash(model.identity_hash("ada@example.org", "s4lt"), "s4lt"))


def badge(**changes: Any) -> dict[str, Any]:
    """An unsigned badge; `changes` are arguments of build_open_badge."""
    arguments: dict[str, Any] = {
        "id": f"{BASE}/c/7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "issuer": PROFILE,
        "achievement": ACHIEVEMENT,
        "recipient": RECIPIENT,
        "valid_from": NOW,
        "awarded_date": NOW,
        "results": (model.Result("93", RESULT_DESCRIPTION),),
        "evidence": (model.Evidence(id="https://lms.example/essays/1", name="Essay", narrative="On medians."),),
        "status": status.status_entry(LIST_URL, INDEX),
        "activity_end_date": NOW,
        "credits_earned": 2.5,
    }
    return model.build_open_badge(**{**arguments, **changes})


def endorsement() -> dict[str, Any]:
    """An unsigned endorsement of the sample's achievement."""
    return {
        "@context": [contexts.CREDENTIALS_V2, contexts.OPEN_BADGES, contexts.OPEN_BADGES_EXTENSIONS],
        "id": f"{BASE}/e/0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e61",
        "type": ["VerifiableCredential", "EndorsementCredential"],
        "name": "Endorsement of Data Literacy",
        "issuer": {"id": DID, "type": ["Profile"], "name": "Open University"},
        "validFrom": "2026-05-04T12:30:00Z",
        "credentialSubject": {
            "id": ACHIEVEMENT.id,
            "type": ["EndorsementSubject"],
            "endorsementComment": "We recognise it for *two* [credits](https://open.example/credits).",
        },
        "credentialSchema": [{"id": contexts.ENDORSEMENT_SCHEMA, "type": "1EdTechJsonSchemaValidator2019"}],
    }


def status_list(*revoked: int, valid_from: datetime = NOW) -> dict[str, Any]:
    """An unsigned status list with these bits set."""
    bits = bytearray(status.MINIMUM_ENTRIES // 8)
    for index in revoked:
        status.set_value(bits, index, 1)
    return status.build_status_list(LIST_URL, DID, "revocation", status.encode_list(bits), valid_from, 300_000)


def did_document(*kept: did.DidKey) -> dict[str, Any]:
    """The issuer's DID document with the signer's key and `kept` ones."""
    return did.build_did_document(DID, [did.DidKey("key-1", SIGNER.public_key_multibase), *kept])


def signed(document: dict[str, Any], profile: lint.Profile = "openbadge") -> dict[str, Any]:
    """`document`, linted and signed by the sample issuer."""
    return proofs.sign(lint.lint(document, profile=profile, issuer=DID), SIGNER, CREATED)


@functools.cache
def _signed_badge_text(cryptosuite: str, signer: keys.Signer) -> str:
    return json.dumps(proofs.sign(lint.lint(badge(), issuer=DID), signer, CREATED, cryptosuite))


def signed_badge(cryptosuite: str = proofs.RDFC, signer: keys.Signer = SIGNER) -> dict[str, Any]:
    """A fresh copy of the signed sample badge."""
    document: dict[str, Any] = json.loads(_signed_badge_text(cryptosuite, signer))
    return document
