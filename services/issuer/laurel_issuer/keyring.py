"""Signing keys of every kind: made, sealed under the key-encryption key, opened where they sign."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

import structlog
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from laurel.credential import did, multibase, multikey
from laurel.credential.keys import EcdsaSigner, Ed25519Signer, RsaSigner, Signer
from laurel.credential.lint import SigningKey
from laurel.credential.multikey import KeyType
from laurel.database import Database, Transaction
from laurel.ids import uuid7
from laurel.security import CannotUnseal, seal, unseal
from laurel_issuer import store
from laurel_issuer.domain import Inconsistent

log = structlog.get_logger()

KEY_PURPOSE = "signing-key"
RSA_BITS = 2048  # RFC 7518 §3.3 asks for no less; 3072 would make every token half as long again


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A signing key as it lies in the database. sealed_seed: its secret of whatever kind, sealed under the KEK.

    ended_at: when it was retired; None: it is active.
    """

    key_id: str
    verification_method: str
    public_key_multibase: str
    sealed_seed: str
    key_type: KeyType = "Ed25519"
    ended_at: datetime | None = None

    @property
    def for_lint(self) -> SigningKey:
        """What lint has to know of it."""
        return SigningKey(self.verification_method, active_until=self.ended_at)


def new_secret(kind: KeyType) -> bytes:
    """The secret of a new key: a seed, a scalar, or an RSAPrivateKey in DER. RSA takes some hundred milliseconds."""
    if kind == "Ed25519":
        return os.urandom(32)
    if kind == "RSA":
        return multikey.rsa_secret(rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS))
    scalar = ec.generate_private_key(multikey.CURVES[kind]).private_numbers().private_value
    return scalar.to_bytes(multikey.SECRET_SIZES[kind], "big")


def signer_of(kind: KeyType, secret: bytes, verification_method: str) -> Signer:
    """The signer of a secret that `new_secret` has made."""
    if kind == "Ed25519":
        return Ed25519Signer(secret, verification_method)
    if kind == "RSA":
        return RsaSigner(secret, verification_method)
    return EcdsaSigner(kind, secret, verification_method)


@functools.lru_cache(maxsize=256)
def open_key(kek: bytes, key: SealedKey) -> Signer:
    """The key, ready to sign. Raises Inconsistent: not sealed by `kek`, or not the key that it is said to be."""
    try:
        secret = unseal(kek, key.sealed_seed, purpose=KEY_PURPOSE)
        signer = signer_of(key.key_type, secret, key.verification_method)
    except CannotUnseal as error:
        raise Inconsistent(f"signing key {key.key_id}: {error}; is LAUREL_KEK the one it was made with?") from None
    except (multibase.MultibaseError, ValueError) as error:
        raise Inconsistent(f"signing key {key.key_id} is no key of {key.key_type}: {error}") from None
    if signer.public_key_multibase != key.public_key_multibase:
        raise Inconsistent(f"signing key {key.key_id} does not belong to its public key; the database was changed")
    return signer


def did_key_of(kind: KeyType, secret: bytes) -> str:
    """The did:key of a secret."""
    return did.did_key(signer_of(kind, secret, "x:y#z").public_key_multibase)


async def new_secrets(kinds: Collection[KeyType]) -> dict[KeyType, bytes]:
    """New secrets, made beside the event loop."""
    return {kind: await asyncio.to_thread(new_secret, kind) for kind in sorted(kinds)}


async def add_key(
    tx: Transaction, profile: store.Row, kind: KeyType, secret: bytes, *, kek: bytes, now: datetime
) -> store.NewKey:
    """Make a secret the profile's active key of its kind. The profile must be locked; publish it afterwards."""
    number = await store.next_key_number(tx, profile["profile_id"])
    fragment = f"key-{number}"
    if profile["identity"] == "did:key":
        fragment = profile["did"].removeprefix("did:key:")  # did:key §3.1.1
    signer = signer_of(kind, secret, f"{profile['did']}#{fragment}")
    key = store.NewKey(
        uuid7(), signer.verification_method, signer.public_key_multibase, seal(kek, secret, purpose=KEY_PURPOSE), kind
    )
    await store.rotate(tx, tenant_id=profile["tenant_id"], profile_id=profile["profile_id"], key=key, now=now)
    return key


async def add_missing(
    tx: Transaction, profile: store.Row, secrets: dict[KeyType, bytes], *, kek: bytes, now: datetime
) -> list[store.NewKey]:
    """Those of the keys of whose kind the profile never had one. The profile must be locked; publish it afterwards."""
    made = {row["key_type"] for row in await store.signing_keys(tx, profile["profile_id"])}
    return [
        await add_key(tx, profile, kind, secret, kek=kek, now=now)
        for kind, secret in secrets.items()
        if kind not in made
    ]


class KeyMaker:
    """Makes keys of kinds that are needed for the first time, while issuing."""

    def __init__(self, database: Database, *, kek: bytes, base_url: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._kek = kek
        self._base_url = base_url
        self._clock = clock

    async def make_missing(self, profile_id: str, kinds: Collection[KeyType]) -> None:
        """Keys of these kinds, where the profile never had one; published before anything is signed with them."""
        secrets = await new_secrets(kinds)
        now = self._clock()
        async with self._database.transaction() as tx:
            profile = await store.profile(tx, profile_id, lock=True)
            if profile is None or profile["identity"] == "did:key":
                return
            made = await add_missing(tx, profile, secrets, kek=self._kek, now=now)
            if made:
                url = f"{self._base_url}/issuers/{profile['slug']}"
                await store.publish_profile(tx, profile_id, profile_url=url, now=now)
        for key in made:
            log.info("a key was made", profile=profile_id, kind=key.key_type, method=key.verification_method)
