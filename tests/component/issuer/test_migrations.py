"""What an older version left behind is there after the migrations, and works."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic import command

from laurel import migrate as migrations
from tests.component.issuer.kit import BASE_URL, START, Clock, opened

_LIST = uuid.UUID("01960000-0000-7000-8000-000000000001")
_CREDENTIAL = uuid.UUID("00000000-0000-8000-8000-000000000001")


async def test_lists_and_credentials_of_the_version_before_wider_entries(
    postgres_dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"t_{uuid.uuid4().hex[:10]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    try:
        upgrade = command.upgrade
        monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "issuer_0002"))
        await migrations.migrate(dsn, "issuer")
        before = await asyncpg.connect(dsn, server_settings={"search_path": "issuer"})
        await before.execute(
            "INSERT INTO status_lists (list_id, tenant_id, profile_id, purpose, url, capacity, allocated, version, "
            "body, created_at) VALUES ($1, 't', 'p', 'revocation', $2, 131072, 1, 7, '{}', $3)",
            _LIST, f"{BASE_URL}/status/{_LIST}", START,
        )  # fmt: skip
        await before.execute(
            "INSERT INTO achievements (achievement_id, version, tenant_id, definition, status_purposes, published_at) "
            "VALUES ('a', 1, 't', '{}', '{revocation}', $1)",
            START,
        )
        await before.execute(
            "INSERT INTO credentials (credential_id, tenant_id, result_id, achievement_id, achievement_version, "
            "profile_id, key_id, revocation_list, revocation_index, issued_at, status, status_version, body) "
            "VALUES ($1, 't', 'r', 'a', 1, 'p', 'k', $2, 5, $3, 'suspended', 1, '{}')",
            _CREDENTIAL, _LIST, START,
        )  # fmt: skip
        await before.execute(
            "INSERT INTO status_changes (credential_id, version, tenant_id, status, reason, key_id, changed_at) "
            "VALUES ($1, 1, 't', 'suspended', 'x', 'k', $2)",
            _CREDENTIAL, START,
        )  # fmt: skip
        await before.close()

        monkeypatch.setattr(command, "upgrade", upgrade)
        await migrations.migrate(dsn, "issuer")
        async with opened(dsn, clock) as issuer:
            assert await issuer.sql("SELECT purpose, size, ttl_s, valid_until FROM status_lists") == [
                ("revocation", 1, None, None)
            ]
            assert await issuer.sql("SELECT refresh, message, refresh_list, message_list FROM credentials") == [
                (False, 0, None, None)
            ]
            assert await issuer.sql("SELECT change, message FROM status_changes") == [("status", None)]
            assert await issuer.sql("SELECT status_messages FROM achievements") == [([],)]
            answer = await issuer.http.get(f"/status/{_LIST}")
            assert (answer.content, answer.headers["cache-control"]) == (b"{}", "public, max-age=60")
            with pytest.raises(asyncpg.UniqueViolationError):  # still one open list for each profile, purpose and size
                await issuer.sql(
                    "INSERT INTO status_lists (list_id, tenant_id, profile_id, purpose, url, capacity, created_at) "
                    "SELECT gen_random_uuid(), tenant_id, profile_id, purpose, 'u', capacity, created_at "
                    "FROM status_lists"
                )
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_keys_of_the_version_before_narrower_scopes_can_do_what_they_could(
    postgres_dsn: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"t_{uuid.uuid4().hex[:10]}"
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    dsn = urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    try:
        upgrade = command.upgrade
        monkeypatch.setattr(command, "upgrade", lambda config, _: upgrade(config, "issuer_0005"))
        await migrations.migrate(dsn, "issuer")
        before = await asyncpg.connect(dsn, server_settings={"search_path": "issuer"})
        for key_id, scopes in (("a", ["results:read"]), ("b", ["keys:write", "reports:read"]), ("c", [])):
            await before.execute(
                "INSERT INTO api_keys (key_id, tenant_id, secret_hash, scopes, label, created_at) "
                "VALUES ($1, 't', 'h', $2, 'l', $3)",
                key_id, scopes, START,
            )  # fmt: skip
        await before.close()
        monkeypatch.setattr(command, "upgrade", upgrade)
        await migrations.migrate(dsn, "issuer")
        async with opened(dsn, clock) as issuer:
            rows = await issuer.sql("SELECT key_id, scopes, previous_secrets FROM api_keys ORDER BY key_id")
            assert [tuple(row) for row in rows] == [
                ("a", ["achievements:read", "profiles:read", "results:read"], "[]"),
                ("b", ["keys:read", "keys:write", "profiles:read", "reports:read"], "[]"),
                ("c", ["profiles:read"], "[]"),
            ]
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()
