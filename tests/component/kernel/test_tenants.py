"""Row-level security: a forgotten WHERE shows nobody else's rows."""

from __future__ import annotations

import asyncpg
import pytest

from tests.component.kernel.conftest import Kernel


async def fill(kernel: Kernel) -> None:
    async with kernel.worker.transaction() as tx:
        await tx.execute("INSERT INTO effects (tenant_id, id) VALUES ('t1', 'a'), ('t1', 'b'), ('t2', 'c')")


async def test_a_transaction_sees_the_tenants_that_it_named(kernel: Kernel) -> None:
    await fill(kernel)
    for tenants, seen in ((["t1"], ["a", "b"]), (["t2"], ["c"]), (["t1", "t2"], ["a", "b", "c"]), ([], [])):
        async with kernel.api.transaction(tenants) as tx:
            assert [row["id"] for row in await tx.fetch("SELECT id FROM effects ORDER BY id")] == seen


async def test_tenants_do_not_outlive_their_transaction(kernel: Kernel) -> None:
    await fill(kernel)
    async with kernel.api.transaction(["t1"]):
        pass
    for _ in range(4):  # every connection of the pool
        async with kernel.api.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM effects") == 0


async def test_a_public_read_sees_the_one_row_that_it_names_and_changes_nothing(kernel: Kernel) -> None:
    await fill(kernel)
    async with kernel.api.transaction(public_id="c") as tx:
        assert [row["id"] for row in await tx.fetch("SELECT id FROM effects")] == ["c"]
        assert await tx.execute("UPDATE effects SET seen = 99") == "UPDATE 0"
        assert await tx.execute("DELETE FROM effects") == "DELETE 0"


async def test_the_api_cannot_write_for_another_tenant(kernel: Kernel) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with kernel.api.transaction(["t1"]) as tx:
            await tx.execute("INSERT INTO effects (tenant_id, id) VALUES ('t2', 'x')")


async def test_neither_role_owns_or_bypasses(kernel: Kernel) -> None:
    async with kernel.worker.transaction() as tx:
        roles = await tx.fetch(
            "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname LIKE $1", f"laurel_{kernel.schema}%"
        )
        owners = await tx.fetch("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = $1", kernel.schema)
        forced = await tx.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = $1::regnamespace AND relkind = 'r' "
            "AND NOT (relrowsecurity AND relforcerowsecurity)",
            kernel.schema,
        )
    assert len(roles) == 2
    assert not any(row["rolsuper"] or row["rolbypassrls"] for row in roles)
    assert not {row["tableowner"] for row in owners} & {row["rolname"] for row in roles}
    assert not forced
