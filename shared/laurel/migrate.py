"""Schemas, roles and migrations. Run as the database's administrator: `laurel migrate`, before anything starts."""

from __future__ import annotations

import asyncio
import importlib.resources
from collections.abc import Iterable

import asyncpg
import structlog
from alembic import command
from alembic.config import Config

from laurel.database import connect_arguments

log = structlog.get_logger()

SERVICES: tuple[str, ...] = ("assessment", "issuer", "notifier", "verifier")
_ROLE_LOCK = 0x1A17E1


async def migrate(admin_dsn: str, service: str, *, password: str = "") -> None:
    """Bring one service's schema up to date: roles, schema, privileges, then alembic's `upgrade head`. Repeatable.

    password: for the service's two login roles; empty where PostgreSQL trusts the socket.
    """
    connection = await asyncpg.connect(**connect_arguments(admin_dsn, schema=service, timeout=30.0))
    try:
        # Roles belong to the whole cluster: two migrations at once would race on them.
        await connection.execute("SELECT pg_advisory_lock($1)", _ROLE_LOCK)
        for role in (f"laurel_{service}", f"laurel_{service}_worker"):
            await _ensure_role(connection, role, password)
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{service}"')
        roles = f"laurel_{service}, laurel_{service}_worker"
        for statement in (
            f'GRANT USAGE ON SCHEMA "{service}" TO {roles}',
            f'ALTER DEFAULT PRIVILEGES IN SCHEMA "{service}" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {roles}',
            f'ALTER DEFAULT PRIVILEGES IN SCHEMA "{service}" GRANT USAGE ON SEQUENCES TO {roles}',
        ):
            await connection.execute(statement)
    finally:
        await connection.close()
    await asyncio.to_thread(_upgrade, admin_dsn, service)
    connection = await asyncpg.connect(**connect_arguments(admin_dsn, schema=service, timeout=30.0))
    try:
        # It holds no tenant's rows, so no policy guards it: the service's roles have no business there.
        await connection.execute(f'REVOKE ALL ON "{service}".alembic_version FROM {roles}')
    finally:
        await connection.close()
    log.info("migrated", service=service)


async def _ensure_role(connection: asyncpg.Connection[asyncpg.Record], role: str, password: str) -> None:
    known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    if not known:
        await connection.execute(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE")
    if password:
        quoted = await connection.fetchval("SELECT quote_literal($1::text)", password)
        await connection.execute(f"ALTER ROLE {role} PASSWORD {quoted}")


def _upgrade(admin_dsn: str, service: str) -> None:
    versions = importlib.resources.files(f"laurel_{service}") / "migrations"
    config = Config()
    config.set_main_option("script_location", str(importlib.resources.files("laurel") / "migrations"))
    config.set_main_option("version_locations", str(versions))
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = service
    config.attributes["connect_args"] = connect_arguments(admin_dsn, schema=service, timeout=30.0)
    command.upgrade(config, "heads")


async def migrate_all(admin_dsn: str, services: Iterable[str] = SERVICES, *, password: str = "") -> None:
    """Every service's schema in one database."""
    for service in services:
        await migrate(admin_dsn, service, password=password)
