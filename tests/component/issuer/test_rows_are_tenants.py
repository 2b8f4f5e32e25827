"""Row-level security, in raw SQL under the service's own role: a forgotten WHERE shows nobody else's rows."""

from __future__ import annotations

import asyncpg
import pytest

from tests.component.issuer.kit import Issuer, passed_of

PUBLIC = {"issuer_profiles": "slug", "status_lists": "list_id", "api_keys": "key_id"}


async def test_every_table_is_forced_under_policies(issuer: Issuer) -> None:
    rows = await issuer.sql(
        "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class "
        "WHERE relnamespace = 'issuer'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'"
    )
    assert len(rows) >= 14
    assert [row["relname"] for row in rows if not (row["relrowsecurity"] and row["relforcerowsecurity"])] == []


async def test_a_role_sees_and_changes_only_the_named_tenants_rows(issuer: Issuer) -> None:
    tenant, other = await issuer.tenant(), await issuer.tenant("other")
    for one, slug in ((tenant, "physics"), (other, "chemistry")):
        profile = await issuer.profile(one, slug)
        achievement = await issuer.achievement(one, profile["profile_id"])
        passed = passed_of(achievement, 1)
        await issuer.process([passed, passed_of(achievement, 2, achievement_version=9)])
        await issuer.post(one, f"/issuer/v1/credentials/{passed.credential_id}/revoke", {"reason": "x"})
    tables = [
        row["relname"]
        for row in await issuer.sql(
            "SELECT relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
            "WHERE relnamespace = 'issuer'::regnamespace AND relkind = 'r'"
        )
    ]
    database = issuer.service.database
    filled = 0
    for table in tables:
        if table == "audit_log":  # nobody may: tests/component/kernel/test_audit.py
            continue
        async with database.transaction([tenant.tenant_id]) as tx:
            owners = {row["tenant_id"] for row in await tx.fetch(f"SELECT tenant_id FROM {table}")}
            assert owners <= {tenant.tenant_id}, table
            filled += bool(owners)
            touched = await tx.execute(
                f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = $1", other.tenant_id
            )
            assert touched == "UPDATE 0", table
            assert await tx.execute(f"DELETE FROM {table} WHERE tenant_id = $1", other.tenant_id) == "DELETE 0", table
        async with database.transaction() as tx:
            assert await tx.fetch(f"SELECT * FROM {table}") == [], table
    assert filled >= 10
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction([tenant.tenant_id]) as tx:
            await tx.execute("UPDATE credentials SET tenant_id = $1", other.tenant_id)


async def test_the_public_sees_the_one_row_that_it_names_and_changes_nothing(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    for slug in ("physics", "chemistry"):
        profile = await issuer.profile(tenant, slug)
        achievement = await issuer.achievement(tenant, profile["profile_id"])
        await issuer.process([passed_of(achievement, 1)])
    await issuer.rotate(tenant, profile)
    for table, column in PUBLIC.items():
        (named, *_) = [str(row[0]) for row in await issuer.sql(f"SELECT {column} FROM {table} ORDER BY 1")]
        async with issuer.service.database.transaction(public_id=named) as tx:
            assert [str(row[0]) for row in await tx.fetch(f"SELECT {column} FROM {table}")] == [named]
            assert await tx.execute(f"UPDATE {table} SET tenant_id = tenant_id") == "UPDATE 0"
    async with issuer.service.database.transaction(public_id="physics") as tx:
        assert await tx.fetch("SELECT * FROM signing_keys") == []
        assert await tx.fetch("SELECT * FROM credentials") == []


async def test_the_roles_own_nothing_and_bypass_nothing(issuer: Issuer) -> None:
    rows = await issuer.sql(
        "SELECT rolname FROM pg_roles "
        "WHERE rolname LIKE 'laurel_issuer%' AND (rolsuper OR rolbypassrls OR rolcreaterole)"
    )
    assert rows == []
    owned = await issuer.sql("SELECT tablename FROM pg_tables WHERE tableowner LIKE 'laurel_issuer%'")
    assert owned == []
