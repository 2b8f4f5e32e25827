"""When intake says "not now": readings and limits as values, with a clock that stands."""

from __future__ import annotations

import pytest

from laurel_assessment.import_store import Backlog
from laurel_assessment.pressure import (
    LEAST_RETRY_S,
    MOST_RETRY_S,
    UNKNOWN_RETRY_S,
    Most,
    Reading,
    read_again,
    refusal,
)

MOST = Most(bulk_s=30.0, single_s=120.0, spooled=1000, waiting=50)


def reading(
    *, outbox: int = 0, age: float = 0.0, spooled: int = 0, outbox_rate: float = 0.0, spool_rate: float = 0.0
) -> Reading:
    return Reading(0.0, Backlog(outbox, 1, age, spooled), outbox_rate, spool_rate)


def test_nothing_known_and_nothing_waiting_lets_everybody_in() -> None:
    for bulk in (True, False):
        assert refusal(None, 0, MOST, bulk=bulk) is None
        assert refusal(reading(), 0, MOST, bulk=bulk) is None


@pytest.mark.parametrize(("age", "bulk", "single"), [(30.0, False, False), (31.0, True, False), (121.0, True, True)])
def test_single_results_are_refused_later_than_bulk(age: float, bulk: bool, single: bool) -> None:
    standing = reading(outbox=500, age=age)
    assert (refusal(standing, 0, MOST, bulk=True) is not None) is bulk
    assert (refusal(standing, 0, MOST, bulk=False) is not None) is single


def test_a_long_spool_refuses_bulk_alone() -> None:
    standing = reading(spooled=1001)
    full = refusal(standing, 0, MOST, bulk=True)
    assert full is not None
    assert (full.queue, full.limit) == ("spool", "overload_spooled_rows")
    assert refusal(standing, 0, MOST, bulk=False) is None
    assert refusal(reading(spooled=1000), 0, MOST, bulk=True) is None


def test_requests_that_wait_for_the_database_refuse_everybody() -> None:
    for bulk in (True, False):
        full = refusal(None, 50, MOST, bulk=bulk)
        assert full is not None
        assert (full.queue, full.retry_s) == ("database", LEAST_RETRY_S)


@pytest.mark.parametrize(
    ("waiting", "rate", "seconds"),
    [(500, 100.0, 5), (500, 0.0, UNKNOWN_RETRY_S), (1, 1000.0, LEAST_RETRY_S), (10**9, 1.0, MOST_RETRY_S)],
)
def test_when_to_come_again_follows_from_the_speed_and_is_bounded(waiting: int, rate: float, seconds: int) -> None:
    full = refusal(reading(outbox=waiting, age=31.0, outbox_rate=rate), 0, MOST, bulk=True)
    assert full is not None
    assert full.retry_s == seconds
    full = refusal(reading(spooled=1000 + waiting, spool_rate=rate), 0, MOST, bulk=True)
    assert full is not None
    assert full.retry_s == seconds


def test_the_speed_is_measured_by_what_left() -> None:
    first = read_again(None, Backlog(1000, 1, 5.0, 5000), at=10.0)
    assert (first.outbox_rate, first.spool_rate) == (0.0, 0.0)
    second = read_again(first, Backlog(900, 201, 5.0, 4000), at=12.0)  # 200 left, 100 came
    assert (second.outbox_rate, second.spool_rate) == (50.0, 250.0)  # half of 100 and of 500: smoothed
    stands = second
    for at in range(13, 60):
        stands = read_again(stands, Backlog(900, 201, 5.0, 9000), at=float(at))
    assert stands.outbox_rate < 0.001
    assert refusal(stands, 0, MOST, bulk=True) is not None
    assert read_again(second, Backlog(0, 0, 0.0, 0), at=12.0) == Reading(12.0, Backlog(0, 0, 0.0, 0))


def test_a_queue_that_was_empty_says_nothing_of_the_speed() -> None:
    empty = read_again(None, Backlog(0, 0, 0.0, 0), at=1.0)
    assert read_again(empty, Backlog(10, 5_000_000, 0.0, 0), at=2.0).outbox_rate == 0.0
