"""Rows on their way into a statement."""

from __future__ import annotations

from laurel.database import as_table

_COLUMNS = "id uuid, tenant text, nothing int, some int, tags words"


def test_what_rows_have_in_common_is_sent_once() -> None:
    rows = [("a", "t", None, 0, "x y"), ("b", "t", None, None, "x y"), ("c", "t", None, 2, "x y")]
    given = as_table(_COLUMNS, rows, after=2)
    assert given.names == "id, tenant, nothing, some, tags"
    assert given.arguments == [("a", "b", "c"), "t", None, (0, None, 2), "x y"]
    assert given.table == (
        "(SELECT id AS id, $4::text AS tenant, $5::int AS nothing, some AS some, "
        "string_to_array($7::text, ' ') AS tags, place "
        "FROM unnest($3::uuid[], $6::int[]) WITH ORDINALITY AS v (id, some, place)) AS given"
    )


def test_a_row_alone_has_its_id_for_an_array() -> None:
    given = as_table(_COLUMNS, [("a", "t", 1, 2, "x")])
    assert given.arguments == [("a",), "t", 1, 2, "x"]
    assert "unnest($1::uuid[]) WITH ORDINALITY AS v (id, place)" in given.table
