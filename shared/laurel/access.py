"""The replica of API keys that every service keeps, so that each can tell who is calling without asking another."""

from __future__ import annotations

from collections.abc import Sequence

from laurel.database import Transaction
from laurel.envelope import Delivered
from laurel.events import ApiKeyCreated, ApiKeyRevoked
from laurel.service import Consumer, Saving
from laurel.topics import ORGANISATION


def access_consumer(service: str) -> Consumer[Sequence[Delivered]]:
    """The consumer that keeps `api_keys` of a service up to date."""
    return Consumer(group=f"{service}.access", topics=(ORGANISATION,), handler=Saving(_save))


async def _save(tx: Transaction, events: Sequence[Delivered]) -> None:
    for delivered in events:
        match delivered.event:
            case ApiKeyCreated() as created:
                await store_api_key(tx, created)
            case ApiKeyRevoked() as revoked:
                await tx.execute(
                    "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE key_id = $1",
                    revoked.key_id, revoked.revoked_at,
                )  # fmt: skip


async def store_api_key(tx: Transaction, created: ApiKeyCreated) -> None:
    """Write one key; a redelivered one changes nothing (a revocation that followed it stays)."""
    await tx.execute(
        "INSERT INTO api_keys (key_id, tenant_id, secret_hash, scopes, label, created_at, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key_id) DO NOTHING",
        created.key_id, created.tenant_id, created.secret_hash, list(created.scopes), created.label,
        created.created_at, created.expires_at,
    )  # fmt: skip
