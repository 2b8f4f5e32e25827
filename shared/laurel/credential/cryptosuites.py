"""The cryptosuites that Laurel reads, as data, and the bytes that each of them signs.

1. Transform: the document without its proof, and the proof without its value (the "proof configuration", which takes
   the document's @context), become canonical bytes: RDFC-1.0 N-Quads or JCS.
2. Hash: of the configuration, then of the document. SHA-256; with a key of P-384 it is SHA-384, which RDFC-1.0 then
   uses within too.

(VC DI EdDSA 1.0 §3.2, §3.3, §3.4; VC DI ECDSA 1.0 §3.2, §3.3.)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from laurel.credential import jcs, jsonld
from laurel.credential.multikey import KeyType

DATA_INTEGRITY = "DataIntegrityProof"
RDFC = "eddsa-rdfc-2022"
JCS = "eddsa-jcs-2022"
ECDSA_RDFC = "ecdsa-rdfc-2019"
ECDSA_JCS = "ecdsa-jcs-2019"
ED25519_2020 = "Ed25519Signature2020"  # a proof type of its own, older than cryptosuites: read, never written


@dataclass(frozen=True, slots=True)
class Cryptosuite:
    """signature_sizes: bytes of a proof value, by the kind of the key that signs."""

    name: str
    proof_type: str
    canonicalization: Literal["RDFC-1.0", "JCS"]
    signature_sizes: dict[KeyType, int]
    clause: str


_EDDSA: dict[KeyType, int] = {"Ed25519": 64}  # RFC 8032 §5.1.6
_ECDSA: dict[KeyType, int] = {"P-256": 64, "P-384": 96}  # VC DI ECDSA 1.0 §3.2.6

SUITES: dict[str, Cryptosuite] = {
    suite.name: suite
    for suite in (
        Cryptosuite(RDFC, DATA_INTEGRITY, "RDFC-1.0", _EDDSA, "VC DI EdDSA 1.0 §3.2"),
        Cryptosuite(JCS, DATA_INTEGRITY, "JCS", _EDDSA, "VC DI EdDSA 1.0 §3.3"),
        Cryptosuite(ECDSA_RDFC, DATA_INTEGRITY, "RDFC-1.0", _ECDSA, "VC DI ECDSA 1.0 §3.2"),
        Cryptosuite(ECDSA_JCS, DATA_INTEGRITY, "JCS", _ECDSA, "VC DI ECDSA 1.0 §3.3"),
        Cryptosuite(ED25519_2020, ED25519_2020, "RDFC-1.0", _EDDSA, "VC DI EdDSA 1.0 §3.4"),
    )
}


def canonical(document: dict[str, Any], cryptosuite: str, key_type: KeyType = "Ed25519") -> bytes:
    """Step 1 for a document or a proof configuration. Raises jsonld.UnsafeDocument, contexts.UnknownContext,
    jcs.NotCanonicalizable."""
    if SUITES[cryptosuite].canonicalization == "JCS":
        return jcs.canonical(document)
    return jsonld.canonical_nquads(document, sha384=key_type == "P-384")


def hash_data(canonical_configuration: bytes, canonical_document: bytes, key_type: KeyType = "Ed25519") -> bytes:
    """Step 2: the bytes that are signed (64, or 96 for P-384); the configuration's hash comes first."""
    digest = hashlib.sha384 if key_type == "P-384" else hashlib.sha256
    return digest(canonical_configuration).digest() + digest(canonical_document).digest()
