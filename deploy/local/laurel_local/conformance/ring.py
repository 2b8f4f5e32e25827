"""The keys of a conformance run, one of each kind that signs proofs: made at its start, gone at its end."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from laurel.credential import cryptosuites, keys, multikey
from laurel.credential.multikey import KeyType

KINDS: tuple[KeyType, ...] = ("Ed25519", "P-256", "P-384")


@dataclass(frozen=True)
class RunKey:
    """A key that is an issuer of its own, as a did:key. secret: 32 bytes of seed, or the scalar, big-endian."""

    kind: KeyType
    secret: bytes = field(repr=False)

    def signer(self, verification_method: str = "") -> keys.Signer:
        """The key, for signing."""
        if self.kind == "Ed25519":
            return keys.Ed25519Signer(self.secret, verification_method)
        return keys.EcdsaSigner(self.kind, self.secret, verification_method)

    @property
    def did(self) -> str:
        return f"did:key:{self.signer().public_key_multibase}"

    @property
    def verification_method(self) -> str:
        return f"{self.did}#{self.signer().public_key_multibase}"


class Ring:
    """The keys by kind, and by the did:key that they are."""

    def __init__(self, run_keys: Iterable[RunKey]) -> None:
        self._by_kind = {key.kind: key for key in run_keys}
        self._by_did = {key.did: key for key in self._by_kind.values()}

    def of_kind(self, kind: KeyType) -> RunKey:
        return self._by_kind[kind]

    def of_issuer(self, identifier: object) -> RunKey | None:
        """The key of an issuer id or of one of its verification methods, if it is one of ours."""
        return self._by_did.get(identifier.partition("#")[0]) if isinstance(identifier, str) else None

    @property
    def issuers(self) -> dict[str, str]:
        """Kind of key → did:key."""
        return {kind: key.did for kind, key in self._by_kind.items()}


def new_ring() -> Ring:
    """Fresh keys of all KINDS."""
    return Ring(RunKey(kind, _new_secret(kind)) for kind in KINDS)


def kinds_of(cryptosuite: str) -> tuple[KeyType, ...]:
    """The kinds of keys that the cryptosuite takes, that of its shortest signatures first."""
    return tuple(cryptosuites.SUITES[cryptosuite].signature_sizes)


def _new_secret(kind: KeyType) -> bytes:
    size = multikey.SECRET_SIZES[kind]
    if kind == "Ed25519":
        return secrets.token_bytes(size)
    made = ec.generate_private_key(multikey.CURVES[kind])
    return made.private_numbers().private_value.to_bytes(size, "big")
