"""What the issuer decides, as values to values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential import lint, status
from laurel.events import AssessmentPassed, Recipient, ResultValue
from laurel_issuer.domain import (
    Change,
    IssuerProfile,
    Prerequisites,
    PublicKey,
    Refusal,
    Standing,
    StatusPlace,
    build_credential,
    cache_seconds,
    decide,
    entry_sizes,
    issuer_documents,
    list_bits,
    place_key,
    places_from,
    probe_credential,
    shown_value,
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
    decided = decide(Standing(current), Change(action), has=("revocation",), messages=())
    found = decided.code if isinstance(decided, Refusal) else decided and decided.status
    assert found == expected


@pytest.mark.parametrize(
    ("current", "change", "has", "expected"),
    [
        (Standing(), Change("refresh"), ALL, Standing(refresh=True)),
        (Standing(refresh=True), Change("refresh"), ALL, None),  # the standard: not reversible
        (Standing(), Change("refresh"), ALL[:2], "no_such_entry"),
        (Standing("revoked"), Change("refresh"), ALL, Standing("revoked", True)),
        (Standing(), Change("message", 1), ALL, Standing(message=1)),
        (Standing(message=1), Change("message", 1), ALL, None),
        (Standing(message=3), Change("message", 0), ALL, Standing()),
        (Standing("suspended", True), Change("message", 3), ALL, Standing("suspended", True, 3)),
        (Standing(), Change("message", 2), ALL, "unknown_message"),  # undefined
        (Standing(), Change("message", 4), ALL, "unknown_message"),
        (Standing(), Change("message", -1), ALL, "unknown_message"),
        (Standing(), Change("message", 1), ALL[:3], "no_such_entry"),
        (Standing("active", True, 3), Change("revoke"), ALL, Standing("revoked", True, 3)),
    ],
)
def test_what_takes_nothing_from_validity(
    current: Standing, change: Change, has: tuple[str, ...], expected: Standing | str | None
) -> None:
    decided = decide(current, change, has=has, messages=MESSAGES)
    assert (decided.code if isinstance(decided, Refusal) else decided) == expected


changes = st.builds(
    Change, st.sampled_from(["revoke", "suspend", "reinstate", "refresh", "message"]), st.integers(0, 4)
)


@given(st.lists(changes, max_size=12))
def test_nothing_follows_a_revocation_and_no_offer_is_taken_back(asked: list[Any]) -> None:
    current = Standing()
    for change in asked:
        decided = decide(current, change, has=ALL, messages=MESSAGES)
        if isinstance(decided, Standing):
            assert decided != current
            assert current.status != "revoked" or decided.status == "revoked"
            assert decided.refresh >= current.refresh
            differs = [decided.status != current.status, decided.refresh != current.refresh]
            assert sum([*differs, decided.message != current.message]) == 1
            current = decided
    assert ("revoke" in [change.action for change in asked]) == (current.status == "revoked")


def test_one_entry_covers_suspension_and_two_tell_apart() -> None:
    states = [Standing("active"), Standing("suspended"), Standing("revoked")]
    one = [shown_value("revocation", state, has_suspension_entry=False) for state in states]
    assert one == [0, 1, 1]
    assert [shown_value("revocation", state, has_suspension_entry=True) for state in states] == [0, 0, 1]
    assert [shown_value("suspension", state, has_suspension_entry=True) for state in states] == [0, 1, 0]


@pytest.mark.parametrize("state", ["active", "suspended", "revoked"])
def test_refresh_and_message_are_told_whatever_the_status(state: Any) -> None:
    told = Standing(state, refresh=True, message=3)
    assert [shown_value(purpose, told, has_suspension_entry=False) for purpose in ("refresh", "message")] == [1, 3]
    assert [shown_value(purpose, Standing(state), has_suspension_entry=False) for purpose in ALL[2:]] == [0, 0]


def test_which_entries_a_credential_gets() -> None:
    assert entry_sizes((), ()) == {"revocation": 1}
    assert entry_sizes(("message", "refresh", "suspension"), MESSAGES) == {
        "revocation": 1, "suspension": 1, "refresh": 1, "message": 2,
    }  # fmt: skip
    assert entry_sizes(("message",), ()) == {"revocation": 1}
    assert entry_sizes(("revocation",), MESSAGES) == {"revocation": 1}


@pytest.mark.parametrize(("left", "expected"), [(None, 60), (86_400, 60), (60, 60), (59, 59), (0, 0), (-5, 0)])
def test_a_list_is_never_cached_beyond_its_end(left: int | None, expected: int) -> None:
    until = None if left is None else NOW + timedelta(seconds=left)
    assert cache_seconds(60, until, NOW) == expected


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


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@given(values=st.dictionaries(st.integers(0, 131_071), st.integers(1, 255), max_size=50))
def test_a_list_shows_exactly_its_rows(size: int, values: dict[int, int]) -> None:
    values = {index: 1 + value % ((1 << size) - 1) for index, value in values.items()}
    bits = list_bits(values.items(), size)
    assert status.entries(bits, size) == 131_072
    assert {index: status.lookup(bits, index, size) for index in values} == values
    assert sum(byte.bit_count() for byte in bits) == sum(value.bit_count() for value in values.values())


def test_places_never_repeat_and_differ_between_lists() -> None:
    key = place_key(bytes(32), "list-1")
    places = [place for start in range(0, 131_072, 16_384) for place in places_from(start, 16_384, key)]
    assert sorted(places) == list(range(131_072))
    assert places_from(0, 20, key) == places[:20]
    assert places_from(0, 20, place_key(bytes(32), "list-2")) != places[:20]
    assert places_from(0, 20, place_key(bytes([1]) * 32, "list-1")) != places[:20]


def test_the_probe_of_a_good_profile_passes_lint() -> None:
    assert not [one for one in lint.lint(probe_credential(ISSUER, NOW)).findings if one.pointer.startswith("/issuer")]
