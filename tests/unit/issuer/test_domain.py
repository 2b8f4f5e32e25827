"""What the issuer decides, as values to values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from laurel.credential import lint, status
from laurel.events import AssessmentPassed, Recipient, ResultValue
from laurel_issuer.domain import (
    IssuerProfile,
    Prerequisites,
    PublicKey,
    StatusPlace,
    build_credential,
    issuer_documents,
    probe_credential,
    valid_until,
    waits_for,
)

NOW = datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)
DID = "did:web:badges.example.org:issuers:physics"
ISSUER = IssuerProfile(DID, "Department of Physics", "https://physics.example.org/")
KEYS = (
    "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
    "z6MkrJVnaZkeFzdQyMZu1cgjg7k1pZZ6pvBQ7XJPt4swbTQ2",
    "z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf",
)
DEFINITION = {
    "id": "https://badges.example.org/achievements/1",
    "type": ["Achievement"],
    "name": "Thermodynamics",
    "description": "Heat, work and entropy.",
    "criteria": {"narrative": "Pass the examination."},
}


def passed(**changes: Any) -> AssessmentPassed:
    fields: dict[str, Any] = {
        "tenant_id": "t",
        "credential_id": "c",
        "result_id": "r",
        "achievement_id": "a",
        "achievement_version": 1,
        "award": 1,
        "recipient": Recipient(identity_hash="sha256$" + "0" * 64, salt="s"),
        "achieved_at": NOW - timedelta(days=1),
        "decided_at": NOW,
    }
    return AssessmentPassed(**{**fields, **changes})


def build(event: AssessmentPassed, *places: StatusPlace, validity_days: int | None = None) -> dict[str, Any]:
    return build_credential(
        event,
        document_url="https://badges.example.org/c/1",
        created=NOW,
        definition=DEFINITION,
        issuer=ISSUER,
        places=places or (StatusPlace("https://badges.example.org/status/1", 7, "revocation"),),
        validity_days=validity_days,
    )


MESSAGES = ("nothing to tell", "under review", status.UNDEFINED, "replaced")
ALL = ("revocation", "suspension", "refresh", "message")


def test_what_a_reservation_waits_for() -> None:
    assert waits_for(Prerequisites()) == "achievement_unknown"
    assert waits_for(Prerequisites(achievement_id="a")) == "issuer_profile_unknown"
    assert waits_for(Prerequisites(achievement_id="a", profile_id="p", profile_version=1)) == "no_active_key"
    assert waits_for(Prerequisites("a", "p", 1, keys={"Ed25519": "k"})) is None


def test_a_built_credential_passes_lint_with_every_part_filled() -> None:
    event = passed(
        recipient=Recipient(did="did:key:" + KEYS[0], identity_hash="sha256$" + "1" * 64, salt="x"),
        results=(ResultValue(value="85"),),
        evidence=("https://lms.example.org/1", "https://lms.example.org/2"),
    )
    document = build(event, validity_days=30)
    assert lint.lint(document, issuer=DID).issuer == DID
    assert document["validUntil"] == "2026-03-31T09:30:15Z"
    assert document["awardedDate"] == "2026-02-28T09:30:15Z"
    assert document["credentialStatus"]["statusListIndex"] == "7"
    assert len(document["evidence"]) == 2
    assert document["credentialSubject"]["achievement"] == DEFINITION


def test_a_credential_with_all_four_entries_passes_lint() -> None:
    base = "https://badges.example.org/status"
    places = [StatusPlace(f"{base}/{number}", number, purpose) for number, purpose in enumerate(ALL)]
    places[-1] = replace(places[-1], messages=MESSAGES[:3], reference="https://badges.example.org/meanings")
    document = build(passed(), *places)
    assert lint.lint(document, issuer=DID).issuer == DID
    *bits, message = document["credentialStatus"]
    assert not any("statusSize" in entry or "statusMessage" in entry for entry in bits)
    assert message["statusSize"] == 2
    assert [one["message"] for one in message["statusMessage"]] == [*MESSAGES[:2], status.UNDEFINED, status.UNDEFINED]


def test_two_places_become_an_array() -> None:
    places = (
        StatusPlace("https://x.example/status/1", 7, "revocation"),
        StatusPlace("https://x.example/status/2", 9, "suspension"),
    )
    entries = build(passed(), *places)["credentialStatus"]
    assert [(entry["statusPurpose"], entry["statusListIndex"]) for entry in entries] == [
        ("revocation", "7"),
        ("suspension", "9"),
    ]


def test_equal_intents_give_equal_documents() -> None:
    assert build(passed()) == build(passed())
    assert build(passed()) != build(passed(achieved_at=NOW))


def test_validity_that_outlives_the_calendar_is_none() -> None:
    assert valid_until(NOW, None) is None
    assert valid_until(NOW, 1) == NOW + timedelta(days=1)
    assert valid_until(NOW, 10_000_000) is None
    assert valid_until(NOW, 10**12) is None


def test_a_did_document_keeps_retired_keys_and_drops_compromised_ones() -> None:
    states = ("compromised", "retired", "active")
    keys = [PublicKey(f"{DID}#key-{n}", key, state) for n, (key, state) in enumerate(zip(KEYS, states, strict=True))]
    document = issuer_documents(ISSUER, keys, profile_url="https://badges.example.org/issuers/physics").controller
    assert document["assertionMethod"] == [f"{DID}#key-2", f"{DID}#key-1"]
    assert KEYS[0] not in str(document)


def test_the_probe_of_a_good_profile_passes_lint() -> None:
    assert not [one for one in lint.lint(probe_credential(ISSUER, NOW)).findings if one.pointer.startswith("/issuer")]
