"""What status entries and their values mean, as values to values."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential import status
from laurel_verifier.checks import failed, not_checked, passed
from laurel_verifier.status_lists import DEFAULT_SECONDS, MOST_SECONDS, _seconds
from laurel_verifier.statuses import BadEntry, Entry, Notice, Told, combine, judge, read_entry

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
URL = "https://else.example/status/1"


@given(st.integers(1, 256), st.integers(0, 131_071))
def test_what_laurel_writes_is_what_it_reads(count: int, index: int) -> None:
    messages = [f"meaning {number}" for number in range(count)]
    entry = read_entry(status.status_entry(URL, index, "message", messages, "https://else.example/m"))
    undefined = [status.UNDEFINED] * ((1 << entry.size) - count)
    assert entry == Entry("message", URL, index, entry.size, (*messages, *undefined), "https://else.example/m")
    assert read_entry(status.status_entry(URL, index)) == Entry("revocation", URL, index)


TWO = [{"status": "0x0", "message": "a"}, {"status": "0x1", "message": "b"}]


@pytest.mark.parametrize(
    ("changes", "unread"),
    [
        ({"statusSize": True}, False), ({"statusSize": 1.5}, False), ({"statusSize": 10**400}, True),
        ({"statusPurpose": 5}, False), ({"statusListIndex": "-1"}, False), ({"statusListIndex": "1" * 16}, False),
        ({"statusListIndex": True}, False),
        ({"statusListIndex": "05"}, False), ({"statusListIndex": "٣"}, False), ({"statusListCredential": "x"}, False),
        ({"statusMessage": {}}, False), ({"statusMessage": TWO[:1]}, False), ({"statusMessage": [*TWO, TWO[0]]}, False),
        ({"statusMessage": [TWO[0], TWO[0]]}, False), ({"statusMessage": [TWO[0], {**TWO[1], "status": "0x2"}]}, False),
        ({"statusMessage": [TWO[0], {**TWO[1], "status": "1"}]}, False), ({"statusMessage": ["a", "b"]}, False),
        ({"statusMessage": [TWO[0], {**TWO[1], "status": "0x"}]}, False),
        ({"statusMessage": [TWO[0], {**TWO[1], "message": None}]}, False),
        ({"statusMessage": [TWO[0], {**TWO[1], "status": "0x" + "1" * 9999}]}, False),
    ],
)  # fmt: skip
def test_entries_that_are_not_as_the_standard_has_them(changes: dict[str, Any], unread: bool) -> None:
    with pytest.raises(BadEntry) as refused:
        read_entry({**status.status_entry(URL, 5), **changes})
    assert refused.value.unread is unread


def test_messages_stand_where_their_status_says() -> None:
    entry = read_entry({**status.status_entry(URL, 5, "message"), "statusMessage": TWO[::-1]})
    assert entry.messages == ("a", "b")


def test_a_message_without_words_is_set_or_not() -> None:
    # §2.1: without statusMessage, the values of 1 and 0 are "set" and "unset".
    for value, word in ((0, "unset"), (1, "set")):
        told = judge(Entry("message", URL, 5), value, "here", {}, ())
        assert told.check.outcome == "passed"
        assert told.notice == Notice(purpose="message", value=value, message=word)


@pytest.mark.parametrize("purpose", ["refresh", "message", "anything"])
@given(value=st.integers(0, 255), words=st.text(max_size=400))
def test_only_revocation_and_suspension_speak_against_a_credential(purpose: str, value: int, words: str) -> None:
    told = judge(Entry(purpose, URL, 5, 8, (words,) * 256), value, "here", {}, ())
    assert told.check.outcome == "passed"
    assert told.check.detail.isprintable()
    assert len(told.check.detail) < 600
    assert (told.notice is None) == (value == 0 and purpose != "message")


@pytest.mark.parametrize(("purpose", "code"), [("revocation", "revoked"), ("suspension", "suspended")])
def test_every_value_but_nought_speaks_against_it(purpose: str, code: str) -> None:
    for value in range(256):
        check = judge(Entry(purpose, URL, 5, 8, ("x",) * 256), value, "here", {}, ()).check
        assert (check.outcome, check.code) == (("failed", code) if value else ("passed", None))


def test_the_worst_entry_counts_and_the_others_are_told() -> None:
    notice = Notice(purpose="message", value=1, message="under review")
    told = [
        Told(passed("status", "fine"), notice), Told(not_checked("status", "fetch_failed", "away")),
        Told(failed("status", "bad_status_entry", "odd")),
        Told(failed("status", "suspended", "held")), Told(failed("status", "revoked", "gone")),
    ]  # fmt: skip
    for order in itertools.permutations(told):
        check, notices = combine(order)
        assert (check.outcome, check.code, notices) == ("failed", "revoked", (notice,))
        assert check.detail.startswith("gone; ")
        assert sorted(check.detail.split("; ")) == ["away", "fine", "gone", "held", "odd"]
        assert check.problem is not None
        assert check.problem.detail == "gone"


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (None, DEFAULT_SECONDS), ("60000", DEFAULT_SECONDS), (True, DEFAULT_SECONDS), (60_000, 60.0), (1500.0, 1.5),
        (0, 0.0), (-5, 0.0), (10**400, MOST_SECONDS), (1e300, MOST_SECONDS), (-(10**400), 0.0),
    ],
)  # fmt: skip
def test_how_long_a_list_is_kept(ttl: Any, expected: float) -> None:
    assert _seconds(ttl, None, NOW) == expected
    assert _seconds(ttl, NOW + timedelta(seconds=7), NOW) == min(expected, 7.0)
    assert _seconds(ttl, NOW - timedelta(seconds=1), NOW) == 0.0
