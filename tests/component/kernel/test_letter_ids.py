"""Letters that had consecutive numbers have UUIDs after the migration, in their order, with their actions."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic import command

from laurel import dead_letter_store as letters
from laurel import migrate as migrations
from laurel.database import Database
from laurel.dead_letter_store import Redrive, Which
from laurel.settings import with_role
from tests.component.kernel.conftest import Kernel
from tests.component.kernel.test_engine import message
from tests.component.kernel.test_redrive import kill

BEFORE = {
    "assessment": "assessment_0007", "issuer": "issuer_0008", "notifier": "notifier_0005", "verifier": "verifier_0008",
}  # fmt: skip
SHAPE = """
    SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename LIKE 'dead_letter%' ORDER BY indexname
"""
POLICIES = """
    SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
    WHERE relnamespace = $1::regnamespace AND relname IN ('dead_letters', 'dead_letter_actions') ORDER BY 1
"""


async def _write(admin: asyncpg.Connection[Any], count: int) -> None:
    """Letters of two organisations, in an order that is not the one in which they lie on disk; two with actions."""
    for number in range(count):
        await admin.execute(
            "INSERT INTO dead_letters (tenant_id, consumer, topic, partition, \"offset\", key, value, headers, code, "
            "detail) VALUES ($1, 'c', 't', 0, $2, $3, 'v', '\\x90', 'x', 'd')",
            f"t{number % 2}", count - number, b"k%d" % number,
        )  # fmt: skip
    await admin.execute("UPDATE dead_letters SET attempts = attempts + 1 WHERE id % 3 = 0")
    for letter, outcome in ((3, "died_again"), (3, None), (7, "redriven"), (99, "discarded"), (99, "redriven")):
        await admin.execute(
            "INSERT INTO dead_letter_actions (tenant_id, letter_id, request_id, action, asked_by, was, outcome, "
            "finished_at) VALUES ('t0', $1, 'r', 'redrive', 'o', 'x', $2, CASE WHEN $2::text IS NULL THEN NULL "
            "ELSE now() END)",
            letter, outcome,
        )  # fmt: skip
    await admin.execute("UPDATE dead_letters SET state = 'queued' WHERE id = 3")


@pytest.mark.parametrize("service", BEFORE)
async def test_letters_of_the_version_before_keep_order_and_actions(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    name = f"t_{uuid.uuid4().hex[:10]}"
    admin = await asyncpg.connect(postgres_dsn)
    # The owner of the tables is no superuser: forced policies bind it, too.
    await admin.execute(f"CREATE ROLE {name} LOGIN NOSUPERUSER CREATEROLE")
    await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
    dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    owner = with_role(dsn, name)
    inside = None
    try:
        upgrade = command.upgrade
        monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, BEFORE[service]))
        await migrations.migrate(owner, service)
        inside = await asyncpg.connect(dsn, server_settings={"search_path": service})
        await _write(inside, 40)
        indexes, forced = await inside.fetch(SHAPE, service), await inside.fetch(POLICIES, service)
        before = await inside.fetch("SELECT * FROM dead_letters ORDER BY id")
        acts = await inside.fetch("SELECT * FROM dead_letter_actions ORDER BY id")

        monkeypatch.setattr(command, "upgrade", upgrade)
        await migrations.migrate(owner, service)
        after = await inside.fetch("SELECT * FROM dead_letters ORDER BY id")
        assert [{**row, "id": 0} for row in after] == [{**row, "id": 0} for row in before]
        assert {row["id"].version for row in after} == {7}
        named = {old["id"]: new["id"] for old, new in zip(before, after, strict=True)}
        found = await inside.fetch("SELECT * FROM dead_letter_actions ORDER BY id")
        gone = {row["letter_id"] for row in found} - set(named.values())
        assert len(gone) == 1, "two acts on a letter that was deleted: still on one"
        named[99] = gone.pop()
        assert [dict(row) for row in found] == [{**row, "letter_id": named[row["letter_id"]]} for row in acts]
        assert await inside.fetch(SHAPE, service) == indexes
        assert await inside.fetch(POLICIES, service) == forced

        await inside.execute(
            'INSERT INTO dead_letters (tenant_id, consumer, topic, partition, "offset", key, value, headers, code, '
            "detail) SELECT 't0', 'c', 't', 1, n, 'new', '', '\\x90', 'x', '' FROM generate_series(1, 5) AS n"
        )
        async with (
            Database(with_role(dsn, f"laurel_{service}"), schema=service, size=1) as api,
            api.transaction(["t0"]) as tx,
        ):
            rows = await letters.find(tx, Which(), after=after[-1]["id"])
            assert [row["key"] for row in rows] == [b"new"] * 5, "what dies later comes behind"
            _, found = await letters.ask(tx, Redrive(Which(states=["waiting"]), "key:k"))
            assert sum(found.queued.values()) == 19 + 5, "all that wait of this organisation, but none of the other"
            assert len(await letters.actions(tx, named[3])) == 2
    finally:
        if inside is not None:
            await inside.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {name}")
        await admin.close()


async def test_ids_cannot_be_counted_through(kernel: Kernel) -> None:
    """Letters of one batch, in their order; the 62 bits of chance in each id are not those of another one plus some."""
    await kill(kernel, *(message(f"e{n}", n) for n in range(100)))
    async with kernel.worker.transaction() as tx:
        rows = await letters.find(tx, Which())
    assert [row["offset"] for row in rows] == list(range(100))
    by_chance = [row["id"].int & (1 << 62) - 1 for row in rows]
    assert by_chance != sorted(by_chance)
    steps = {abs(after - before) for before, after in pairwise(by_chance)}
    assert len(steps) == 99
    assert min(steps) > 1 << 32
