"""Rows of organisations, API keys, issuer profiles, signing keys and the replica of achievements.

What is issued stands in store_issuance.py and store_parked.py, what became of it in store_status.py, what the API lists
in store_reports.py. Every function takes an open transaction; whose rows it sees is decided there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import asyncpg
import msgspec

from laurel import outbox
from laurel.access import previous_secrets, store_api_key, store_rotation
from laurel.credential.multikey import KeyType
from laurel.database import Transaction
from laurel.events import (
    AchievementPublished,
    AchievementRetired,
    ApiKeyCreated,
    ApiKeyRevoked,
    ApiKeyRotated,
    IssuerProfilePublished,
    OrganisationCreated,
    PreviousSecret,
)
from laurel_issuer.domain import Identity, IssuerProfile, PublicKey, issuer_documents

Row = asyncpg.Record

MOST_OLDER_SECRETS = 4
"""Of one API key, that work at the same time."""


class Taken(Exception):
    """Somebody has this slug already."""


class KeyEnded(Exception):
    """The key is revoked or expired."""


class TooManySecrets(Exception):
    """So many older secrets still work that another would be one too many."""


class LastKey(Exception):
    """Without this key nobody could make keys for the organisation any more."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A signing key to store: public parts, and its secret sealed under the KEK."""

    key_id: str
    verification_method: str
    public_key_multibase: str
    sealed_seed: str
    key_type: KeyType = "Ed25519"


@dataclass(frozen=True, slots=True)
class Choices:
    """What a profile's owner chooses for its credentials (credential/securing.py; Open Badges 3.0)."""

    securing: tuple[str, ...]
    credential_type: str


# --- organisations and API keys -----------------------------------------------------------------------------


async def create_organisation(tx: Transaction, created: OrganisationCreated, first_key: ApiKeyCreated) -> None:
    """A tenant and its first key, with their events. Raises Taken."""
    inserted = await tx.fetchval(
        "INSERT INTO organisations (tenant_id, slug, name, created_at) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (slug) DO NOTHING RETURNING tenant_id",
        created.tenant_id, created.slug, created.name, created.created_at,
    )  # fmt: skip
    if inserted is None:
        raise Taken(created.slug)
    await store_api_key(tx, first_key)
    await outbox.append(tx, [created, first_key])


async def organisation(tx: Transaction, tenant_id: str) -> Row | None:
    """The tenant's own row."""
    return await tx.fetchrow(
        "SELECT tenant_id, slug, name, created_at FROM organisations WHERE tenant_id = $1", tenant_id
    )


async def tenant_of(tx: Transaction, slug: str) -> str | None:
    """Whose slug this is, in a transaction that names it as public; None: nobody's."""
    tenant_id: str | None = await tx.fetchval("SELECT tenant_id FROM organisations WHERE slug = $1", slug)
    return tenant_id


async def create_api_key(tx: Transaction, created: ApiKeyCreated) -> None:
    """A key, with its event."""
    await store_api_key(tx, created)
    await outbox.append(tx, [created])


async def api_keys(tx: Transaction, tenant_id: str, *, after: str, limit: int) -> list[Row]:
    """Keys in the order of their ids, revoked ones included."""
    return await tx.fetch(
        "SELECT key_id, scopes, label, created_at, expires_at, revoked_at, rotated_at, previous_secrets, last_used_at "
        "FROM api_keys "
        "WHERE tenant_id = $1 AND key_id > $2 ORDER BY key_id LIMIT $3",
        tenant_id, after, limit,
    )  # fmt: skip


async def api_key(tx: Transaction, tenant_id: str, key_id: str) -> Row | None:
    """A key, locked: nobody else changes it before this transaction ends."""
    return await tx.fetchrow(
        "SELECT key_id, tenant_id, secret_hash, scopes, label, created_at, expires_at, revoked_at, rotated_at, "
        "previous_secrets FROM api_keys WHERE tenant_id = $1 AND key_id = $2 FOR UPDATE",
        tenant_id, key_id,
    )  # fmt: skip


async def rotate_api_key(
    tx: Transaction, row: Row, secret_hash: str, *, until: datetime, now: datetime, expires_at: datetime | None
) -> ApiKeyRotated:
    """Give a locked key another secret, with its event. until: when the older ones stop, at the latest.

    expires_at: when the key ends; None: as it was. Raises KeyEnded, TooManySecrets.
    """
    if row["revoked_at"] is not None or (row["expires_at"] is not None and row["expires_at"] <= now):
        raise KeyEnded(row["key_id"])
    older = [
        *previous_secrets(row["previous_secrets"]),
        PreviousSecret(secret_hash=row["secret_hash"], until=until),
    ]
    working = tuple(
        PreviousSecret(secret_hash=one.secret_hash, until=min(one.until, until))
        for one in older
        if min(one.until, until) > now
    )
    if len(working) > MOST_OLDER_SECRETS:
        raise TooManySecrets(len(working) - 1)
    # Later than the rotation before it, whatever the clock says: replicas keep the latest.
    after = row["rotated_at"]
    rotated = ApiKeyRotated(
        tenant_id=row["tenant_id"], key_id=row["key_id"], secret_hash=secret_hash, previous=working,
        rotated_at=now if after is None else max(now, after + timedelta(microseconds=1)),
        expires_at=expires_at or row["expires_at"],
    )  # fmt: skip
    await store_rotation(tx, rotated)
    await outbox.append(tx, [rotated])
    return rotated


async def revoke_api_key(tx: Transaction, tenant_id: str, key_id: str, now: datetime) -> bool | None:
    """Revoke a key, with its event. False: it was revoked before; None: there is no such key. Raises LastKey."""
    # All rows are locked, in one order: two callers that revoke the last two keys follow one another.
    rows = await tx.fetch(
        "SELECT key_id, revoked_at, revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) "
        "AND 'keys:write' = ANY (scopes) AS makes_keys FROM api_keys WHERE tenant_id = $1 ORDER BY key_id FOR UPDATE",
        tenant_id, now,
    )  # fmt: skip
    row = next((one for one in rows if one["key_id"] == key_id), None)
    if row is None:
        return None
    if row["makes_keys"] and sum(one["makes_keys"] for one in rows) == 1:
        raise LastKey(key_id)
    if row["revoked_at"] is not None:
        return False
    await tx.execute("UPDATE api_keys SET revoked_at = $2 WHERE key_id = $1", key_id, now)
    await outbox.append(tx, [ApiKeyRevoked(tenant_id=tenant_id, key_id=key_id, revoked_at=now)])
    return True


# --- issuer profiles ----------------------------------------------------------------------------------------

_PROFILE = (
    "SELECT profile_id, tenant_id, slug, did, identity, name, url, email, description, image, securing, "
    "credential_type, version, created_at, updated_at FROM issuer_profiles "
)


async def create_profile(
    tx: Transaction,
    *,
    tenant_id: str,
    profile_id: str,
    slug: str,
    identity: Identity,
    profile: IssuerProfile,
    choices: Choices,
    now: datetime,
) -> None:
    """A profile without keys; publish it afterwards. Raises Taken."""
    inserted = await tx.fetchval(
        "INSERT INTO issuer_profiles (profile_id, tenant_id, slug, did, name, url, email, description, image, version, "
        "profile, did_document, created_at, updated_at, identity, securing, credential_type) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, '', '', $10, $10, $11, $12, $13) "
        "ON CONFLICT DO NOTHING RETURNING profile_id",
        profile_id, tenant_id, slug, profile.did, profile.name, profile.url, profile.email, profile.description,
        profile.image, now, identity, list(choices.securing), choices.credential_type,
    )  # fmt: skip
    if inserted is None:
        raise Taken(slug)


async def change_profile(tx: Transaction, profile_id: str, profile: IssuerProfile, choices: Choices) -> None:
    """Replace what a profile says; slug, identity and id stay. Its row must be locked; publish it afterwards."""
    await tx.execute(
        "UPDATE issuer_profiles SET name = $2, url = $3, email = $4, description = $5, image = $6, securing = $7, "
        "credential_type = $8 WHERE profile_id = $1",
        profile_id, profile.name, profile.url, profile.email, profile.description, profile.image,
        list(choices.securing), choices.credential_type,
    )  # fmt: skip


async def publish_profile(tx: Transaction, profile_id: str, *, profile_url: str, now: datetime) -> Row:
    """Give a profile its next version: public documents, the version that intents pin, the event."""
    row = await profile(tx, profile_id, lock=True)
    if row is None:
        raise LookupError(profile_id)
    keys = await public_keys(tx, profile_id)
    issuer = issuer_of(row)
    document, controller = issuer_documents(issuer, keys, profile_url=profile_url)
    version = row["version"] + 1
    await tx.execute(
        "UPDATE issuer_profiles SET version = $2, profile = $3, did_document = $4, updated_at = $5 "
        "WHERE profile_id = $1",
        profile_id, version, msgspec.json.encode(document), msgspec.json.encode(controller), now,
    )  # fmt: skip
    await tx.execute(
        "INSERT INTO issuer_versions (profile_id, version, tenant_id, issuer, credential_type) "
        "VALUES ($1, $2, $3, $4, $5)",
        profile_id, version, row["tenant_id"], msgspec.json.encode(asdict(issuer)), row["credential_type"],
    )  # fmt: skip
    published = IssuerProfilePublished(
        tenant_id=row["tenant_id"], profile_id=profile_id, slug=row["slug"], version=version, did=row["did"],
        profile=document, did_document=controller, identity=row["identity"], securing=tuple(row["securing"]),
        published_at=now,
    )  # fmt: skip
    await outbox.append(tx, [published])
    await tx.execute("SELECT pg_notify(current_schema() || '_parked', '')")
    changed = await profile(tx, profile_id)
    assert changed is not None
    return changed


async def profile(tx: Transaction, profile_id: str, *, lock: bool = False) -> Row | None:
    """A profile that the transaction may see. lock: nobody else changes it or its keys before this transaction ends."""
    return await tx.fetchrow(_PROFILE + "WHERE profile_id = $1" + (" FOR UPDATE" if lock else ""), profile_id)


async def profiles(tx: Transaction, tenant_id: str, *, after: str, limit: int) -> list[Row]:
    """Profiles in the order of their ids."""
    return await tx.fetch(
        _PROFILE + "WHERE tenant_id = $1 AND profile_id > $2 ORDER BY profile_id LIMIT $3", tenant_id, after, limit
    )


async def public_documents(tx: Transaction, slug: str) -> Row | None:
    """The documents that the public may read, in a transaction that names the slug."""
    return await tx.fetchrow(
        "SELECT profile, did_document, version, identity FROM issuer_profiles WHERE slug = $1", slug
    )


def issuer_of(row: Row) -> IssuerProfile:
    """The profile as it stands in credentials."""
    return IssuerProfile(row["did"], row["name"], row["url"], row["email"], row["description"], row["image"])


# --- signing keys -------------------------------------------------------------------------------------------


async def next_key_number(tx: Transaction, profile_id: str) -> int:
    """1 for the profile's first key, and so on; a number is never used again. The profile's row must be locked."""
    number: int = await tx.fetchval(
        "UPDATE issuer_profiles SET keys_made = keys_made + 1 WHERE profile_id = $1 RETURNING keys_made", profile_id
    )
    return number


async def rotate(tx: Transaction, *, tenant_id: str, profile_id: str, key: NewKey, now: datetime) -> None:
    """Make `key` the active one of its kind; the one before stays published as retired. The profile must be locked."""
    await tx.execute(
        "UPDATE signing_keys SET state = 'retired', ended_at = $2 WHERE profile_id = $1 AND state = 'active' "
        "AND key_type = $3",
        profile_id, now, key.key_type,
    )  # fmt: skip
    await tx.execute(
        "INSERT INTO signing_keys (key_id, tenant_id, profile_id, verification_method, public_key_multibase, "
        "sealed_seed, state, created_at, key_type) VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $8)",
        key.key_id, tenant_id, profile_id, key.verification_method, key.public_key_multibase, key.sealed_seed, now,
        key.key_type,
    )  # fmt: skip


async def compromise(tx: Transaction, profile_id: str, key_id: str, now: datetime) -> bool | None:
    """Take a key out of use and out of the DID document. False: it was already; None: there is no such key."""
    state = await tx.fetchval(
        "SELECT state FROM signing_keys WHERE profile_id = $1 AND key_id = $2 FOR UPDATE", profile_id, key_id
    )
    if state is None:
        return None
    if state == "compromised":
        return False
    await tx.execute("UPDATE signing_keys SET state = 'compromised', ended_at = $2 WHERE key_id = $1", key_id, now)
    return True


async def signing_keys(tx: Transaction, profile_id: str) -> list[Row]:
    """A profile's keys, oldest first, without their secrets."""
    return await tx.fetch(
        "SELECT key_id, key_type, verification_method, public_key_multibase, state, created_at, ended_at "
        "FROM signing_keys "
        "WHERE profile_id = $1 ORDER BY created_at, key_id",
        profile_id,
    )


async def public_keys(tx: Transaction, profile_id: str) -> list[PublicKey]:
    """A profile's keys as the DID document needs them."""
    rows: Sequence[Row] = await signing_keys(tx, profile_id)
    return [PublicKey(row["verification_method"], row["public_key_multibase"], row["state"]) for row in rows]


# --- the replica of achievements ----------------------------------------------------------------------------


async def keep_achievement(tx: Transaction, published: AchievementPublished) -> None:
    """Keep one version of an achievement for ever: a passed assessment names the version that is issued."""
    await tx.execute(
        "INSERT INTO achievements (achievement_id, version, tenant_id, profile_id, definition, validity_days, "
        "status_purposes, status_messages, status_reference, published_at, securing, credential_type) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) "
        "ON CONFLICT (achievement_id, version) DO NOTHING",
        published.achievement_id, published.version, published.tenant_id, published.profile_id,
        msgspec.json.encode(published.achievement), published.validity_days, list(published.status_purposes),
        list(published.status_messages), published.status_reference, published.published_at,
        None if published.securing is None else list(published.securing), published.credential_type,
    )  # fmt: skip
    await tx.execute("SELECT pg_notify(current_schema() || '_parked', '')")


async def has_achievement(tx: Transaction, tenant_id: str, achievement_id: str) -> bool:
    """Whether the tenant has an achievement of this id."""
    found: bool = await tx.fetchval(
        "SELECT EXISTS (SELECT FROM achievements WHERE tenant_id = $1 AND achievement_id = $2)",
        tenant_id, achievement_id,
    )  # fmt: skip
    return found


async def retire_achievement(tx: Transaction, retired: AchievementRetired) -> None:
    """Note that nobody earns it any more; what was passed before is issued all the same."""
    await tx.execute(
        "UPDATE achievements SET retired_at = coalesce(retired_at, $3) WHERE achievement_id = $1 AND tenant_id = $2",
        retired.achievement_id, retired.tenant_id, retired.retired_at,
    )  # fmt: skip
