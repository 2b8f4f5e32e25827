"""Row-level security of every table of every schema, from PostgreSQL's own catalogue: a table that lacks it fails."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from laurel.migrate import SERVICES
from tests.security.estate import Estate

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOT_OF_TENANTS = {"alembic_version"}  # which migrations ran; nobody but the administrator may touch it
APPEND_ONLY = {"audit_log"}  # nobody changes a row of these, not even of their own
# The one row that an anonymous reader names: a column that is an id, for reading alone.
PUBLIC_ROWS = {
    *((service, "token_keys", "kid") for service in SERVICES),
    ("assessment", "achievement_images", "achievement_id"), ("issuer", "organisations", "slug"),
    ("assessment", "achievements", "achievement_id"),
    ("assessment", "api_keys", "key_id"), ("issuer", "api_keys", "key_id"), ("issuer", "issuer_profiles", "slug"),
    ("issuer", "status_lists", "list_id"), ("notifier", "api_keys", "key_id"), ("verifier", "api_keys", "key_id"),
    ("verifier", "credentials", "credential_id"), ("verifier", "known_issuers", "did"),
}  # fmt: skip
OURS, THEIRS = "tenant-ours", "tenant-theirs"


@asynccontextmanager
async def rolled_back(estate: Estate, schema: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """As the administrator, in a transaction that leaves nothing behind."""
    connection = await asyncpg.connect(estate.admin_dsn, server_settings={"search_path": schema})
    try:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


async def relations(connection: asyncpg.Connection[asyncpg.Record], schema: str, kinds: str) -> list[asyncpg.Record]:
    return await connection.fetch(
        "SELECT relname, relrowsecurity, relforcerowsecurity, relowner::regrole::text AS owner, c.oid FROM pg_class c "
        "WHERE relnamespace = $1::regnamespace AND relkind::text = ANY (string_to_array($2, NULL)) ORDER BY relname",
        schema, kinds,
    )  # fmt: skip


async def a_row(connection: asyncpg.Connection[asyncpg.Record], schema: str, table: str, tenant: str) -> dict[str, Any]:
    """A row of any table, in JSON: something in every column that must not be null."""
    columns = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS kind FROM pg_attribute WHERE attrelid = $1::regclass "
        "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = '' "
        "AND (attnotnull OR attname = 'tenant_id')",
        f"{schema}.{table}",
    )  # fmt: skip
    number = uuid.uuid4().int % 30_000
    values: dict[str, Any] = {
        "text": uuid.uuid4().hex, "uuid": str(uuid.uuid4()), "bytea": "\\x00", "boolean": True, "jsonb": {}, "json": {},
        "timestamp with time zone": "2026-01-01T00:00:00Z", "date": "2026-01-01", "text[]": [], "bytea[]": [],
        **dict.fromkeys(("smallint", "integer", "bigint", "double precision", "numeric", "real"), number),
    }  # fmt: skip
    row = {}
    for column in columns:
        assert column["kind"] in values or column["kind"].endswith("[]"), (
            f"{table}.{column['attname']}: {column['kind']}"
        )
        row[column["attname"]] = values.get(column["kind"], [])
    row["tenant_id"] = tenant
    return row


async def insert(connection: asyncpg.Connection[asyncpg.Record], table: str, row: dict[str, Any]) -> None:
    import json

    names = ", ".join(f'"{name}"' for name in row)
    await connection.execute(
        f'INSERT INTO "{table}" ({names}) SELECT {names} FROM jsonb_populate_record(NULL::"{table}", $1::jsonb)',
        json.dumps(row),
    )


@pytest.mark.parametrize("service", SERVICES)
async def test_every_table_is_forced_under_policies_and_owned_by_the_administrator(
    estate: Estate, service: str
) -> None:
    roles = {f"laurel_{service}", f"laurel_{service}_worker"}
    async with rolled_back(estate, service) as admin:
        tables = await relations(admin, service, "rp")
        assert len(tables) >= 5
        for table in tables:
            assert table["owner"] not in {f"laurel_{one}{end}" for one in SERVICES for end in ("", "_worker")}, table
            if table["relname"] in NOT_OF_TENANTS:
                for role in roles:
                    for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
                        assert not await admin.fetchval(
                            "SELECT has_table_privilege($1, $2::oid, $3)", role, table["oid"], privilege
                        )
                continue
            assert table["relrowsecurity"], table
            assert table["relforcerowsecurity"], table
            policies = await admin.fetch(
                "SELECT polname, polroles::regrole[]::text[] AS roles FROM pg_policy WHERE polrelid = $1", table["oid"]
            )
            assert policies, table
            for policy in policies:  # none for everybody, and every tenant's rows for the worker alone
                assert set(policy["roles"]) <= roles, (table["relname"], policy)
                assert policy["polname"] != "every_tenant" or policy["roles"] == [f"laurel_{service}_worker"]
            for privilege in ("TRUNCATE", "TRIGGER", "REFERENCES"):  # which row-level security does not cover
                assert not await admin.fetchval(
                    "SELECT has_table_privilege($1, $2::oid, $3)", f"laurel_{service}", table["oid"], privilege
                )
        # A view or a foreign table has no policies of its own; a definer's function has its owner's rights.
        assert await relations(admin, service, "vmf") == []
        assert (
            await admin.fetch(
                "SELECT proname FROM pg_proc WHERE pronamespace = $1::regnamespace AND prosecdef", service
            )
            == []
        )


async def test_no_role_of_a_service_has_more_than_its_own_schema(estate: Estate) -> None:
    roles = await estate.sql(
        "public",
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, "
        "ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid) AS member_of "
        "FROM pg_roles r WHERE rolname LIKE 'laurel\\_%'",
    )  # fmt: skip
    expected = {f"laurel_{service}{end}" for service in SERVICES for end in ("", "_worker")}
    found = {role["rolname"]: role for role in roles if role["rolname"] in expected}
    assert set(found) == expected
    for role in found.values():
        assert not any(
            role[name] for name in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication")
        )
        assert role["member_of"] == []
    schemas = await estate.sql(
        "public", "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$'"
    )
    for name in expected:
        service = name.split("_")[1]
        for schema in {row["nspname"] for row in schemas} - {service, "public"}:
            for privilege in ("USAGE", "CREATE"):
                allowed = await estate.sql(
                    "public", "SELECT has_schema_privilege($1, $2, $3) AS yes", name, schema, privilege
                )
                assert not allowed[0]["yes"], (name, schema, privilege)
        for schema in (service, "public"):
            allowed = await estate.sql("public", "SELECT has_schema_privilege($1, $2, 'CREATE') AS yes", name, schema)
            assert not allowed[0]["yes"], (name, schema)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_transaction_sees_and_changes_the_rows_of_its_own_tenant_alone(estate: Estate, service: str) -> None:
    async with rolled_back(estate, service) as admin:
        tables = [one for one in await relations(admin, service, "rp") if one["relname"] not in NOT_OF_TENANTS]
        await admin.execute("SET LOCAL session_replication_role = replica")  # rows without those that they point to
        for table in tables:
            name = table["relname"]
            checks = await admin.fetch(
                "SELECT conname FROM pg_constraint WHERE conrelid = $1 AND contype = 'c'", table["oid"]
            )
            for check in checks:
                await admin.execute(f'ALTER TABLE "{name}" DROP CONSTRAINT "{check["conname"]}"')
            for tenant in (OURS, THEIRS):
                await insert(admin, name, await a_row(admin, service, name, tenant))
        await admin.execute("SET LOCAL session_replication_role = origin")
        for table in tables:
            name = table["relname"]
            theirs, moved = await a_row(admin, service, name, THEIRS), 0
            await admin.execute(f"SET LOCAL ROLE laurel_{service}")
            await admin.execute("SELECT set_config('laurel.tenants', $1, true)", OURS)
            seen = await admin.fetch(f'SELECT DISTINCT tenant_id FROM "{name}"')
            assert [row["tenant_id"] for row in seen] == [OURS], name
            if name in APPEND_ONLY:
                for change in (f'DELETE FROM "{name}"', f'UPDATE "{name}" SET tenant_id = tenant_id'):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        async with admin.transaction():
                            await admin.execute(change)
                await admin.execute("RESET ROLE")
                continue
            assert await admin.execute(f'DELETE FROM "{name}" WHERE tenant_id = $1', THEIRS) == "DELETE 0", name
            changed = await admin.execute(f'UPDATE "{name}" SET tenant_id = tenant_id WHERE tenant_id = $1', THEIRS)
            assert changed == "UPDATE 0", name
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with admin.transaction():
                    await insert(admin, name, theirs)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with admin.transaction():
                    moved = await admin.execute(f'UPDATE "{name}" SET tenant_id = $1', THEIRS)
            assert moved == 0
            for nobody in ("", "no-such-tenant", "%", f"{THEIRS[:-1]}", f" {THEIRS}", "*"):
                await admin.execute("SELECT set_config('laurel.tenants', $1, true)", nobody)
                assert await admin.fetch(f'SELECT 1 FROM "{name}"') == [], (name, nobody)
                assert await admin.execute(f'DELETE FROM "{name}"') == "DELETE 0", name
            await admin.execute("RESET ROLE")
            rows = await admin.fetch(f'SELECT 1 FROM "{name}" WHERE tenant_id = $1', THEIRS)
            assert len(rows) == 1, f"{name}: the row that nobody could change is not there"


@pytest.mark.parametrize("service", SERVICES)
async def test_the_public_reads_one_named_row_of_few_tables(estate: Estate, service: str) -> None:
    rows = await estate.sql(
        service,
        "SELECT c.relname, p.polcmd::text, pg_get_expr(p.polqual, p.polrelid) AS rule FROM pg_policy p JOIN pg_class c "
        "ON c.oid = p.polrelid WHERE c.relnamespace = $1::regnamespace AND p.polname NOT IN ('tenant', 'every_tenant')",
        service,
    )  # fmt: skip
    found = set()
    for row in rows:
        assert row["polcmd"] == "r", row  # SELECT alone
        column = row["rule"].strip("(").split(" ")[0].split("::")[0].strip("()")
        assert "laurel.public_id" in row["rule"], row
        found.add((service, row["relname"], column))
    assert found == {one for one in PUBLIC_ROWS if one[0] == service}


async def test_a_table_without_row_level_security_would_be_noticed(estate: Estate) -> None:
    async with rolled_back(estate, "notifier") as admin:
        await admin.execute("CREATE TABLE forgotten (tenant_id text NOT NULL)")
        tables = {one["relname"]: one["relforcerowsecurity"] for one in await relations(admin, "notifier", "rp")}
        assert tables["forgotten"] is False
