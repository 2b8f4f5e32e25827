"""What the issuer decides, as values to values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential import lint, status
from laurel.events import AssessmentPassed, Recipient, ResultValue
from laurel_issuer.domain import (
    IssuerProfile,
    Prerequisites,
    PublicKey,
    Refusal,
    StatusPlace,
    build_credential,
    decide_status,
    did_document,
    list_bits,
    place_key,
    places_from,
    probe_credential,
    shows_bit,
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


@pytest.mark.parametrize(
    ("current", "action", "expected"),
    [
        ("active", "revoke", "revoked"), ("active", "suspend", "suspended"), ("active", "reinstate", None),
        ("suspended", "revoke", "revoked"), ("suspended", "suspend", None), ("suspended", "reinstate", "active"),
        ("revoked", "revoke", None), ("revoked", "suspend", "revoked_is_final"),
        ("revoked", "reinstate", "revoked_is_final"),
    ],
)  # fmt: skip
def test_the_state_machine(current: Any, action: Any, expected: str | None) -> None:
    decided = decide_status(current, action)
    assert (decided.code if isinstance(decided, Refusal) else decided) == expected


@given(st.lists(st.sampled_from(["revoke", "suspend", "reinstate"]), max_size=12))
def test_nothing_follows_a_revocation(actions: list[Any]) -> None:
    current: Any = "active"
    for action in actions:
        decided = decide_status(current, action)
        if isinstance(decided, str):
            assert current != "revoked"
            assert decided != current
            current = decided
    assert ("revoke" in actions) == (current == "revoked")


def test_one_entry_covers_suspension_and_two_tell_apart() -> None:
    states: list[Any] = ["active", "suspended", "revoked"]
    one = [shows_bit("revocation", state, has_suspension_entry=False) for state in states]
    assert one == [False, True, True]
    assert [shows_bit("revocation", state, has_suspension_entry=True) for state in states] == [False, False, True]
    assert [shows_bit("suspension", state, has_suspension_entry=True) for state in states] == [False, True, False]


def test_what_a_reservation_waits_for() -> None:
    assert waits_for(Prerequisites()) == "achievement_unknown"
    assert waits_for(Prerequisites(achievement_id="a")) == "issuer_profile_unknown"
    assert waits_for(Prerequisites(achievement_id="a", profile_id="p", profile_version=1)) == "no_active_key"
    assert waits_for(Prerequisites("a", "p", 1, "k")) is None


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
    document = did_document(DID, keys, profile_url="https://badges.example.org/issuers/physics")
    assert document["assertionMethod"] == [f"{DID}#key-2", f"{DID}#key-1"]
    assert KEYS[0] not in str(document)


@given(st.sets(st.integers(0, 131_071), max_size=50))
def test_a_list_shows_exactly_its_rows(indexes: set[int]) -> None:
    bits = list_bits(indexes)
    assert len(bits) * 8 == 131_072
    assert sum(byte.bit_count() for byte in bits) == len(indexes)
    assert all(status.bit(bits, index) for index in indexes)


def test_places_never_repeat_and_differ_between_lists() -> None:
    key = place_key(bytes(32), "list-1")
    places = [place for start in range(0, 131_072, 16_384) for place in places_from(start, 16_384, key)]
    assert sorted(places) == list(range(131_072))
    assert places_from(0, 20, key) == places[:20]
    assert places_from(0, 20, place_key(bytes(32), "list-2")) != places[:20]
    assert places_from(0, 20, place_key(bytes([1]) * 32, "list-1")) != places[:20]


def test_the_probe_of_a_good_profile_passes_lint() -> None:
    assert not [one for one in lint.lint(probe_credential(ISSUER, NOW)).findings if one.pointer.startswith("/issuer")]
