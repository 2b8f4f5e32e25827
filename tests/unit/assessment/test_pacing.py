"""How long the line before the issuer may be: the arithmetic."""

from __future__ import annotations

from laurel_assessment.pacing import LEAST_AHEAD, Reading, read_again, room


def test_the_first_reading_knows_no_rate() -> None:
    reading = read_again(None, at=10.0, waiting=40, settled=40)
    assert reading == Reading(10.0, 40, 0.0)
    assert room(reading, settled=0, ahead_s=2.0) == LEAST_AHEAD - 40


def test_the_rate_is_what_left_the_line() -> None:
    """1,000 stood there, 3,000 came, 2,000 stand there: 2,000 were worked off in half a second."""
    reading = read_again(Reading(0.0, 1_000, 4_000.0), at=0.5, waiting=2_000, settled=3_000)
    assert reading.rate == 4_000.0
    assert room(reading, settled=0, ahead_s=2.0) == 8_000 - 2_000
    assert room(reading, settled=7_000, ahead_s=2.0) == -1_000


def test_an_issuer_that_stands_still_gets_nothing_more() -> None:
    reading = Reading(0.0, 1_000, 4_000.0)
    for tick in range(1, 30):
        reading = read_again(reading, at=tick * 0.5, waiting=1_000, settled=0)
    assert reading.rate < 2.0
    assert room(reading, settled=0, ahead_s=2.0) == 0


def test_a_line_that_grows_beyond_what_we_sent_is_not_worked_off_backwards() -> None:
    """Single passes and other workers stand in the same line."""
    reading = read_again(Reading(0.0, 100, 0.0), at=0.5, waiting=5_000, settled=10)
    assert reading.rate == 0.0
    assert room(reading, settled=0, ahead_s=2.0) < 0


def test_a_quiet_hour_says_nothing_of_how_fast_the_issuer_is() -> None:
    reading = Reading(0.0, 0, 4_000.0)
    for tick in range(1, 100):
        reading = read_again(reading, at=float(tick), waiting=0, settled=0)
    assert room(reading, settled=0, ahead_s=2.0) == 8_000


def test_the_line_grows_to_what_a_fast_issuer_needs() -> None:
    """From the least: whatever is put in line is gone at the next reading, so more is put there each time."""
    reading = Reading(0.0, 0, 0.0)
    rooms = []
    for tick in range(1, 8):
        rooms.append(room(reading, settled=0, ahead_s=2.0))
        reading = read_again(reading, at=tick * 0.5, waiting=0, settled=rooms[-1])
    assert rooms == sorted(rooms)
    assert rooms[-1] > 10 * rooms[0]
