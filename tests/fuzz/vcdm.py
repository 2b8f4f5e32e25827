"""The rules of the VC data model on changed credentials and presentations: findings, never an exception."""

from __future__ import annotations

from laurel.credential import vcdm
from tests.fuzz.proofs import DOCUMENTS
from tests.fuzz.shaping import Bytes

_PRESENTATION = {
    "@context": ["https://www.w3.org/ns/credentials/v2"], "type": "VerifiablePresentation",
    "verifiableCredential": [DOCUMENTS[0]], "holder": "did:example:holder",
}  # fmt: skip
SEEDS = tuple(
    bytes([which, changes, place, how, *range(9)])
    for which in range(2)
    for changes in (0, 3)
    for place in (0, 5, 9)
    for how in (0, 4)
)


def read(data: bytes) -> None:
    source = Bytes(data)
    if source.number() % 2:
        findings = vcdm.presentation_findings(source.changed(_PRESENTATION))
    else:
        findings = vcdm.credential_findings(source.changed(DOCUMENTS[0]))
    assert all(str(one) for one in findings)
