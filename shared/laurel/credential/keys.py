"""Signing keys. A `Signer` is the seam behind which a file, an HSM or a cloud KMS holds the key."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_scalarmult_ed25519_noclamp,
    crypto_sign,
    crypto_sign_open,
)
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from laurel.credential import multibase, multikey
from laurel.credential.multikey import KeyType


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
        """The raw signature over `data`, deterministic.

        Ed25519: 64 bytes (RFC 8032). P-256 and P-384: r and s, 64 and 96 bytes (RFC 6979, RFC 7518 §3.4); the key
        hashes `data` by SHA-256 and SHA-384. RSA: as long as its modulus, RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518
        §3.3).
        """
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


class EcdsaSigner:
    """A key of P-256 or P-384 in memory: its secret scalar, big-endian. Its repr never shows it.

    Raises MultibaseError for a scalar of another length, ValueError for one that is not below the curve's order.
    """

    __slots__ = ("_key", "_kind", "public_key_multibase", "verification_method")

    def __init__(self, kind: KeyType, scalar: bytes, verification_method: str) -> None:
        multikey.encode_secret(kind, scalar)  # its length
        self._kind = kind
        self._key = ec.derive_private_key(int.from_bytes(scalar, "big"), multikey.CURVES[kind])
        self.verification_method = verification_method
        self.public_key_multibase = multikey.encode_point(kind, self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        size = multikey.SECRET_SIZES[self._kind]
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(_HASHES[self._kind], deterministic_signing=True)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def __reduce__(self) -> tuple[type[EcdsaSigner], tuple[KeyType, bytes, str]]:
        scalar = self._key.private_numbers().private_value.to_bytes(multikey.SECRET_SIZES[self._kind], "big")
        return type(self), (self._kind, scalar, self.verification_method)

    def __repr__(self) -> str:
        return f"EcdsaSigner({self._kind!r}, {self.verification_method!r})"


class RsaSigner:
    """A key of RSA in memory, for JSON Web Tokens: its RSAPrivateKey in DER. Its repr never shows it.

    Raises MultibaseError for another key, or one of another size than 2048 to 4096 bits.
    """

    __slots__ = ("_key", "public_key_multibase", "verification_method")

    def __init__(self, secret: bytes, verification_method: str) -> None:
        self._key = multikey.load_rsa(secret)
        self.verification_method = verification_method
        self.public_key_multibase = multikey.encode_rsa(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def __reduce__(self) -> tuple[type[RsaSigner], tuple[bytes, str]]:
        return type(self), (multikey.rsa_secret(self._key), self.verification_method)

    def __repr__(self) -> str:
        return f"RsaSigner({self.verification_method!r})"


_HASHES: dict[KeyType, hashes.HashAlgorithm] = {"P-256": hashes.SHA256(), "P-384": hashes.SHA384()}


def verify_signature(key: multikey.PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature`, written as `Signer.sign` writes it, is the key's over `data`. Else False."""
    if key.type == "Ed25519":
        return _verify_ed25519(key.raw, signature, data)
    if key.type == "RSA":
        try:
            key.rsa().verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, multibase.MultibaseError):
            return False
        return True
    size = multikey.SECRET_SIZES[key.type]
    if len(signature) != 2 * size:
        return False
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        key.point().verify(encode_dss_signature(r, s), data, ec.ECDSA(_HASHES[key.type]))
    except (InvalidSignature, multibase.MultibaseError):
        return False
    return True


def verify_ed25519(public_key_multibase: str, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is the key's over `data`. False, never an error, for a bad signature length or point.

    Raises multibase.MultibaseError when `public_key_multibase` is not an Ed25519 Multikey.
    """
    return _verify_ed25519(_raw_key(public_key_multibase), signature, data)


def _verify_ed25519(key: bytes, signature: bytes, data: bytes) -> bool:
    if len(signature) != 64 or len(key) != 32:  # libsodium reads so many bytes, whatever there are
        return False
    try:
        crypto_sign_open(signature + data, key)
    except BadSignatureError:
        return False
    return True


_ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point, RFC 8032 §5.1


def made_by_ed25519(public_key_multibase: str, signed: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether all (signature, data) are the key's. For signatures that this process has made; never a stranger's.

    The equation of RFC 8032 §5.1.7, [S]B = R + [k]A, summed over all of them: a fault in the key, in a signature or in
    what was signed breaks it, and costs a third as much to see. Who chooses signatures can choose two whose faults
    cancel out. False also where it cannot tell (sums of nothing, a libsodium without these operations): look at each.

    Raises multibase.MultibaseError when `public_key_multibase` is not an Ed25519 Multikey.
    """
    key = _raw_key(public_key_multibase)
    s, k, r = 0, 0, b""
    try:
        for signature, data in signed:
            point, scalar = signature[:32], int.from_bytes(signature[32:], "little")
            if len(signature) != 64 or scalar >= _ORDER:
                return False
            s += scalar
            k += int.from_bytes(hashlib.sha512(point + key + data).digest(), "little")
            r = crypto_core_ed25519_add(r, point) if r else point
        right = crypto_core_ed25519_add(r, crypto_scalarmult_ed25519_noclamp(_scalar(k), key))
        return crypto_scalarmult_ed25519_base_noclamp(_scalar(s)) == right
    except (RuntimeError, TypeError):  # no point of the curve, no scalar; no signature at all
        return False


def _scalar(number: int) -> bytes:
    return (number % _ORDER).to_bytes(32, "little")


_raw_key = functools.lru_cache(maxsize=256)(multibase.ed25519_public_decode)
