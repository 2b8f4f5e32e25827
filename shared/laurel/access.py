"""The replica of API keys that every service keeps, so that each can tell who is calling without asking another.

With it come the public keys that access tokens are checked with.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from laurel.database import Database, Transaction
from laurel.envelope import Delivered
from laurel.events import ApiKeyCreated, ApiKeyRevoked, ApiKeyRotated, PreviousSecret, TokenKeyMade
from laurel.service import Consumer, Saving
from laurel.topics import ORGANISATION

_previous = msgspec.json.Decoder(tuple[PreviousSecret, ...])


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the replica has it. previous: its older secrets, each with the end of its time."""

    key_id: str
    tenant_id: str
    secret_hash: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    revoked: bool
    previous: tuple[PreviousSecret, ...]
    last_used_at: datetime | None


def access_consumer(service: str) -> Consumer[Sequence[Delivered]]:
    """The consumer that keeps `api_keys` and `token_keys` of a service up to date."""
    return Consumer(group=f"{service}.access", topics=(ORGANISATION,), handler=Saving(_save))


async def _save(tx: Transaction, events: Sequence[Delivered]) -> None:
    for delivered in events:
        match delivered.event:
            case ApiKeyCreated() as created:
                await store_api_key(tx, created)
            case ApiKeyRotated() as rotated:
                await store_rotation(tx, rotated)
            case ApiKeyRevoked() as revoked:
                await tx.execute(
                    "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE key_id = $1",
                    revoked.key_id, revoked.revoked_at,
                )  # fmt: skip
            case TokenKeyMade() as made:
                await store_token_key(tx, made)


async def store_api_key(tx: Transaction, created: ApiKeyCreated) -> None:
    """Write one key; a redelivered one changes nothing (a revocation that followed it stays)."""
    await tx.execute(
        "INSERT INTO api_keys (key_id, tenant_id, secret_hash, scopes, label, created_at, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key_id) DO NOTHING",
        created.key_id, created.tenant_id, created.secret_hash, list(created.scopes), created.label,
        created.created_at, created.expires_at,
    )  # fmt: skip


async def store_rotation(tx: Transaction, rotated: ApiKeyRotated) -> None:
    """Put a key's secrets in the place of those it had; one that is redelivered after a later one changes nothing."""
    await tx.execute(
        "UPDATE api_keys SET secret_hash = $2, previous_secrets = $3::text::jsonb, rotated_at = $4, expires_at = $5 "
        "WHERE key_id = $1 AND (rotated_at IS NULL OR rotated_at < $4)",
        rotated.key_id, rotated.secret_hash, msgspec.json.encode(rotated.previous).decode(), rotated.rotated_at,
        rotated.expires_at,
    )  # fmt: skip


async def store_token_key(tx: Transaction, made: TokenKeyMade) -> None:
    """Write one public key for access tokens."""
    await tx.execute(
        "INSERT INTO token_keys (kid, tenant_id, public_key, created_at, ends_at) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (kid) DO NOTHING",
        made.kid, made.tenant_id, base64.b64decode(made.public_key), made.created_at, made.ends_at,
    )  # fmt: skip


async def api_key(tx: Transaction, key_id: str) -> ApiKey | None:
    """A key, in a transaction that names its id as public."""
    row = await tx.fetchrow(
        "SELECT key_id, tenant_id, secret_hash, scopes, expires_at, revoked_at, previous_secrets, last_used_at "
        "FROM api_keys WHERE key_id = $1",
        key_id,
    )
    if row is None:
        return None
    return ApiKey(
        row["key_id"], row["tenant_id"], row["secret_hash"], tuple(row["scopes"]), row["expires_at"],
        row["revoked_at"] is not None, previous_secrets(row["previous_secrets"]), row["last_used_at"],
    )  # fmt: skip


def previous_secrets(text: str) -> tuple[PreviousSecret, ...]:
    """The column of that name."""
    return _previous.decode(text)


async def token_key(tx: Transaction, kid: str, now: datetime) -> bytes | None:
    """The public key of that name, while tokens of it are taken; in a transaction that names it as public."""
    found: bytes | None = await tx.fetchval(
        "SELECT public_key FROM token_keys WHERE kid = $1 AND ends_at > $2", kid, now
    )
    return found


async def note_use(database: Database, key: ApiKey) -> None:
    """Remember by the hour that a key was used in this service: one row an hour, not one a request."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    if key.last_used_at is not None and key.last_used_at >= hour:
        return
    async with database.transaction([key.tenant_id]) as tx:
        # Whoever else notes the same is not waited for.
        await tx.execute(
            "UPDATE api_keys SET last_used_at = $2 WHERE key_id = "
            "(SELECT key_id FROM api_keys WHERE key_id = $1 AND coalesce(last_used_at < $2, true) "
            "FOR UPDATE SKIP LOCKED)",
            key.key_id, hour,
        )  # fmt: skip
