"""What an older version left behind is there after the migrations."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic import command

from laurel import migrate as migrations
from tests.component.verifier.issuing import NOW


async def test_the_index_of_the_version_before_notices(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"t_{uuid.uuid4().hex[:10]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    try:
        upgrade = command.upgrade
        monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "verifier_0001"))
        await migrations.migrate(dsn, "verifier")
        index = await asyncpg.connect(dsn, server_settings={"search_path": "verifier"})
        try:
            await index.execute(
                "INSERT INTO credentials (credential_id, tenant_id, result_id, achievement_id, achievement_name, "
                "profile_id, issuer, issued_at, valid_from, document, status, status_version) "
                "VALUES ('c', 't', 'r', 'a', 'A', 'p', 'i', $1, $1, '{}', 'suspended', 3)",
                NOW,
            )
            monkeypatch.setattr(command, "upgrade", upgrade)
            await migrations.migrate(dsn, "verifier")
            rows = await index.fetch(
                "SELECT status, status_version, refresh, refresh_version, message, message_version FROM credentials"
            )
            assert rows == [("suspended", 3, False, 0, 0, 0)]
            assert await index.fetchval("SELECT status_version FROM public_credentials('{c}')") == 3
        finally:
            await index.close()
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()
