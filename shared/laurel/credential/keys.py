"""Signing keys. A `Signer` is the seam behind which a file, an HSM or a cloud KMS holds the key."""

from __future__ import annotations

import functools
from typing import Protocol

from nacl.bindings import crypto_sign
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from laurel.credential import multibase


class Signer(Protocol):
    """Signs bytes with one key. Picklable, because signing happens in worker processes."""

    @property
    def verification_method(self) -> str:
        """The DID URL of the key, for example `did:web:example.org:issuers:x#key-1`."""
        ...

    @property
    def public_key_multibase(self) -> str:
        """The public key as a Multikey value."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The raw signature over `data` (Ed25519: 64 bytes, deterministic by RFC 8032)."""
        ...


class Ed25519Signer:
    """A key in memory: 32 seed bytes. Its repr never shows them."""

    __slots__ = ("_key", "_secret", "public_key_multibase", "verification_method")

    def __init__(self, seed: bytes, verification_method: str) -> None:
        self._key = SigningKey(seed)
        self._secret = seed + bytes(self._key.verify_key)  # as libsodium takes it
        self.verification_method = verification_method
        self.public_key_multibase = multibase.ed25519_public_encode(bytes(self._key.verify_key))

    def sign(self, data: bytes) -> bytes:
        return crypto_sign(data, self._secret)[:64]

    def __reduce__(self) -> tuple[type[Ed25519Signer], tuple[bytes, str]]:
        return type(self), (bytes(self._key), self.verification_method)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.verification_method!r})"


def verify_ed25519(public_key_multibase: str, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is the key's over `data`. False, never an error, for a bad signature length or point.

    Raises multibase.MultibaseError when `public_key_multibase` is not an Ed25519 Multikey.
    """
    key = _verify_key(public_key_multibase)
    if len(signature) != 64:
        return False
    try:
        key.verify(data, signature)
    except BadSignatureError:
        return False
    return True


@functools.lru_cache(maxsize=256)
def _verify_key(public_key_multibase: str) -> VerifyKey:
    return VerifyKey(multibase.ed25519_public_decode(public_key_multibase))
