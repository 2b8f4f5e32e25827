"""A schema with the kernel's tables only, its two roles, and an embedded bus in the same database."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI

from laurel import bus as buses
from laurel.bus import Bus
from laurel.database import Database
from laurel.dead_letters import letters_get_uuids
from laurel.outbox import Relay
from laurel.process import ensure_topics
from laurel.service import Service
from laurel.settings import Settings, with_role
from laurel.tables import access_and_audit_tables, kernel_tables, kernel_tables_2, row_level_security


@dataclass
class Kernel:
    """What a kernel test needs."""

    api: Database
    worker: Database
    bus: Bus
    admin_dsn: str
    schema: str


def settings(kernel: Kernel, **given: Any) -> Settings:
    secret = "aWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWk="
    values = {"bus_url": "postgres://x", "database_url": kernel.admin_dsn, "id_key": secret, "contact_key": secret}
    return Settings(**values, **given)


def service(kernel: Kernel, **parts: Any) -> Service:
    return Service(
        name=kernel.schema, api=FastAPI(), database=kernel.api, worker_database=kernel.worker,
        relay=parts.pop("relay", None) or Relay(kernel.worker, kernel.bus, service=kernel.schema), **parts,
    )  # fmt: skip


@pytest.fixture
async def kernel(postgres_dsn: str) -> AsyncIterator[Kernel]:
    name = f"k{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f"CREATE SCHEMA {name}")
        await admin.execute(f"CREATE ROLE laurel_{name} LOGIN; CREATE ROLE laurel_{name}_worker LOGIN")
        roles = f"laurel_{name}, laurel_{name}_worker"
        await admin.execute(f"GRANT USAGE ON SCHEMA {name} TO {roles}; SET search_path TO {name}")
        await admin.execute(
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {roles}"
        )
        await admin.execute(
            kernel_tables(name)
            + kernel_tables_2(name)
            + ";".join([*access_and_audit_tables(name), "BEGIN", *letters_get_uuids(), "COMMIT"])
            + ";"
            + "CREATE TABLE effects (tenant_id text NOT NULL, id text PRIMARY KEY, seen int NOT NULL DEFAULT 1);"
            + row_level_security("effects", name, public_id="id")
        )
    finally:
        await admin.close()
    separator = "&" if "?" in postgres_dsn else "?"
    bus = buses.connect(f"{postgres_dsn}{separator}bus_schema=bus_{name}")
    await ensure_topics(bus)
    async with (
        Database(with_role(postgres_dsn, f"laurel_{name}"), schema=name, size=4) as api,
        Database(with_role(postgres_dsn, f"laurel_{name}_worker"), schema=name, size=4) as worker,
    ):
        yield Kernel(api, worker, bus, postgres_dsn, name)
    await bus.close()
