"""Rows on their way into a statement."""

from __future__ import annotations

from laurel.database import columns


def test_a_column_of_nothing_is_empty_and_every_other_one_whole() -> None:
    rows = [("a", None, None, 0), ("b", None, 1, None), ("c", None, None, None)]
    assert columns(rows) == [("a", "b", "c"), (), (None, 1, None), (0, None, None)]


def test_no_rows_have_no_columns() -> None:
    assert columns([]) == []
