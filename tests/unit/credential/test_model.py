from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from laurel.credential import jsonld, lint, model, status
from tests.unit.credential.samples import ACHIEVEMENT, DID, NOW, PROFILE, RECIPIENT, badge


def test_identity_hash_is_the_example_of_the_standard() -> None:
    # Open Badges 3.0, IdentityHash: "a@example.com" salted with "Kosher"
    expected = "sha256$b5809d8a92f8858436d7e6b87c12ebc0ae1eac4baecc2c0b913aee2c922ef399"
    assert model.identity_hash("a@example.com", "Kosher") == expected
    assert model.identity_hash(" A@Example.COM\n", "Kosher") == expected
    assert model.identity_hash("a@example.com", "kosher") != expected
    assert model.identity_hash("jose\u0301@example.com", "s") == model.identity_hash("josé@example.com", "s")


def test_a_badge_has_the_contexts_in_order_and_all_that_was_given() -> None:
    document = badge()
    assert document["@context"] == [
        "https://www.w3.org/ns/credentials/v2",
        "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json",
        "https://purl.imsglobal.org/spec/ob/v3p0/extensions.json",
    ]
    assert document["type"] == ["VerifiableCredential", "OpenBadgeCredential"]
    assert document["issuer"]["id"] == DID
    assert document["name"] == ACHIEVEMENT.name
    assert document["validFrom"] == document["awardedDate"] == "2026-05-04T12:30:00Z"
    subject = document["credentialSubject"]
    assert subject["identifier"][0]["hashed"] is True
    assert subject["result"][0]["resultDescription"] == subject["achievement"]["resultDescription"][0]["id"]
    assert subject["achievement"]["image"]["caption"] == "A laurel wreath"
    assert document["credentialStatus"]["statusListIndex"] == "94567"


def test_the_least_that_a_badge_needs_passes_too() -> None:
    achievement = model.Achievement("urn:uuid:8f4c…".replace("…", "1a2b"), "A", "B", criteria_narrative="C")
    document = model.build_open_badge(
        id="urn:uuid:7c9e6679-7425-40de-944b-e07fc1f90ae7",
        issuer=model.Profile("did:web:x.example", "X"),
        achievement=achievement,
        recipient=model.Recipient(id="did:example:learner"),
        valid_from=NOW,
    )
    assert lint.lint(document, issuer="did:web:x.example").findings == ()
    assert set(document["credentialSubject"]) == {"id", "type", "achievement"}


def test_times_are_written_in_utc_and_need_a_zone() -> None:
    noon_in_delhi = datetime(2026, 1, 1, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert badge(valid_from=noon_in_delhi)["validFrom"] == "2026-01-01T06:30:00Z"
    with pytest.raises(ValueError, match="time zone"):
        badge(valid_until=datetime(2027, 1, 1))


def test_the_creator_that_is_the_issuer_is_only_referred_to() -> None:
    assert badge()["credentialSubject"]["achievement"]["creator"] == {"id": DID, "type": ["Profile"]}
    other = model.Profile("did:web:press.example", "Press", url="https://press.example")
    achievement = model.Achievement("urn:x:a", "A", "B", criteria_narrative="C", creator=other)
    document = badge(achievement=achievement, results=())
    assert document["credentialSubject"]["achievement"]["creator"]["name"] == "Press"
    assert lint.lint(document, issuer=DID).findings == ()


def test_every_optional_value_has_its_place() -> None:
    achievement = model.Achievement(
        id="https://x.example/a", name="A", description="B", criteria_id="https://x.example/a/criteria",
        human_code="MOOC-101", field_of_study="Statistics", version="2",
        result_description=(
            model.ResultDescription("urn:x:r", "Grade", "LetterGrade", required_value="B", allowed_value=("A", "B")),
        ),
    )  # fmt: skip
    document = badge(
        achievement=achievement, description="For the whole course.",
        results=(model.Result("A", "urn:x:r", "Completed"),),
        valid_until=NOW + timedelta(days=365), activity_start_date=NOW - timedelta(days=30), license_number="L-1",
        role="Student", term="Spring",
        evidence=(model.Evidence("https://x.example/e", "E", "N", "D", "Portfolio", "Employers"),),
        status=[
            status.status_entry("https://x.example/status/1", 1),
            status.status_entry("https://x.example/status/2", 1, "suspension"),
        ],
    )  # fmt: skip
    assert lint.lint(document, issuer=DID).findings == ()
    canonical = jsonld.canonical_nquads(document).decode()
    words = "MOOC-101 Statistics L-1 Student Spring Portfolio Employers suspension Completed"
    for value in words.split():
        assert f'"{value}"' in canonical


def test_documents_served_beside_the_credential_are_safe_json_ld() -> None:
    for document in (model.profile_document(PROFILE), model.achievement_document(ACHIEVEMENT)):
        assert jsonld.canonical_nquads(document)


def test_building_is_a_function_of_its_arguments() -> None:
    assert badge() == badge()
    assert badge(recipient=RECIPIENT, valid_from=datetime(2026, 5, 4, 12, 30, tzinfo=UTC)) == badge()
