"""Data Integrity proofs over documents that were changed: a result, never an exception, and no change is true.

Graphs that only RDFC-1.0's worst case could tell apart are left to the sandbox: documents here have few blank nodes.
"""

from __future__ import annotations

from typing import Any

from laurel.credential import lint, proofs
from laurel.credential.proof_sets import verify_proofs
from laurel.credential.status import build_status_list, encode_list
from tests.fuzz.shaping import Bytes
from tests.mutants.specimens import MALLORY, P256
from tests.unit.credential.samples import CREATED, DID, SIGNER

_ISSUERS = {one.verification_method.partition("#")[0]: one for one in (SIGNER, MALLORY)}
_KEYS = {one.verification_method: one.public_key_multibase for one in (SIGNER, P256, MALLORY)}


def _signed(suite: str) -> dict[str, Any]:
    signer = P256 if suite.startswith("ecdsa") else SIGNER
    document = build_status_list(
        "https://badges.example/status/1", DID, "revocation", encode_list(bytes(16_384)), CREATED
    )
    return proofs.sign(lint.lint(document, profile="statuslist", issuer=DID), signer, CREATED, suite)


DOCUMENTS = tuple(_signed(suite) for suite in (proofs.RDFC, proofs.JCS, proofs.ECDSA_RDFC))
SEEDS = tuple(
    bytes([which, changes, place, how, *range(9)])
    for which in range(3)
    for changes in (0, 3)
    for place in (1, 9, 14)
    for how in (0, 4)
)


def _key(method: str) -> str:
    key = _KEYS.get(method)
    if key is None:
        raise proofs.ProofError("no_key", "nobody has that key")
    return key


def read(data: bytes) -> None:
    source = Bytes(data)
    document = source.choice(DOCUMENTS)
    changed = source.changed(document)
    results = verify_proofs(changed, _key, now=CREATED)
    for result in results:
        assert result.ok or (result.reason and result.detail)
