"""What may become of a credential, and what its status lists show of it, as values to values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential import status
from laurel_issuer.standing import (
    Change,
    Refusal,
    Standing,
    cache_seconds,
    decide,
    entry_sizes,
    list_bits,
    place_key,
    places_from,
    shown_value,
)

NOW = datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)
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
