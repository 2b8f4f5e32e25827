"""Credentials as Laurel issues them, in every format and state, and what the world knows about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal

from laurel.credential import did, keys, lint, model, proofs, status
from tests.mutants.world import NOW
from tests.unit.credential.samples import (
    BASE,
    DID,
    INDEX,
    LIST_URL,
    PROFILE,
    SIGNER,
    badge,
)  # fmt: skip

State = Literal["valid", "expired", "revoked", "suspended"]
Form = Literal["rdfc", "jcs"]
CREATED = NOW - timedelta(days=30)

P256 = keys.EcdsaSigner("P-256", bytes(range(1, 33)), f"{DID}#key-2")
P384 = keys.EcdsaSigner("P-384", bytes(range(1, 49)), f"{DID}#key-3")
SECOND = keys.Ed25519Signer(bytes(range(2, 34)), f"{DID}#key-4")
OTHER_DID = did.did_web(BASE, "other-university")
OTHER = keys.Ed25519Signer(bytes(range(3, 35)), f"{OTHER_DID}#key-1")
_MALLORY = keys.Ed25519Signer(bytes(range(4, 36)), "x:y#z").public_key_multibase
MALLORY = keys.Ed25519Signer(bytes(range(4, 36)), f"{did.did_key(_MALLORY)}#{_MALLORY}")

_SIGNERS: dict[str, keys.Signer] = {
    proofs.RDFC: SIGNER, proofs.JCS: SIGNER, proofs.ECDSA_RDFC: P256, proofs.ECDSA_JCS: P384,
}  # fmt: skip


@dataclass(frozen=True)
class Specimen:
    """A credential, what it is, and the documents that the world serves about it."""

    name: str
    document: dict[str, Any]
    documents: Mapping[str, Any]
    state: State
    form: Form


def did_documents() -> dict[str, Any]:
    """URL → DID document of the two issuers."""
    signers = (SIGNER, P256, P384, SECOND)
    own = [did.DidKey(one.verification_method.partition("#")[2], one.public_key_multibase) for one in signers]
    other = [did.DidKey("key-1", OTHER.public_key_multibase)]
    return {
        did.did_web_url(DID): did.build_did_document(DID, own),
        did.did_web_url(OTHER_DID): did.build_did_document(OTHER_DID, other),
    }


def signed_list(
    bits: Sequence[int] = (), *, url: str = LIST_URL, purpose: str = "revocation", signer: keys.Signer = SIGNER
) -> dict[str, Any]:
    """A status list with these bits set, signed by the issuer whom the signer belongs to."""
    data = bytearray(status.MINIMUM_ENTRIES // 8)
    for index in bits:
        status.set_value(data, index, 1)
    issuer = signer.verification_method.partition("#")[0]
    document = status.build_status_list(url, issuer, purpose, status.encode_list(data), CREATED, 300_000)
    return proofs.sign(lint.lint(document, profile="statuslist", issuer=issuer), signer, CREATED)


@cache
def specimens() -> tuple[Specimen, ...]:
    """What is mutated. The first are valid; the others no mutant may bring back to life."""
    made = [_specimen("eddsa-rdfc", proofs.RDFC), _specimen("eddsa-jcs", proofs.JCS)]
    made += [_specimen("ecdsa-rdfc", proofs.ECDSA_RDFC), _specimen("ecdsa-jcs", proofs.ECDSA_JCS)]
    made += [
        _small(),
        _several("proof set", ()),
        _several("proof chain", ("urn:uuid:00000000-0000-4000-8000-00000000000a",)),
    ]
    for state in ("expired", "revoked", "suspended"):
        made += [
            _specimen(f"eddsa-rdfc {state}", proofs.RDFC, state),
            _specimen(f"ecdsa-jcs {state}", proofs.ECDSA_JCS, state),
        ]
    return tuple(made)


@cache
def strangers() -> tuple[dict[str, Any], ...]:
    """Genuine credentials to take parts from: another badge of the issuer, one of another issuer, one of Mallory's."""
    second = {
        "id": f"{BASE}/c/7c9e6679-7425-40de-944b-e07fc1f90ae8",
        "recipient": model.Recipient(id="did:example:eve"),
    }
    mallory = model.Profile(id=MALLORY.verification_method.partition("#")[0], name="M")
    foreign = model.Profile(id=OTHER_DID, name="Other University", url="https://other.example/")
    return (
        _signed(badge(**second), proofs.RDFC), _signed(badge(**second), proofs.JCS),
        _signed(badge(**second, issuer=foreign), proofs.RDFC, OTHER),
        _signed(badge(**second, issuer=mallory), proofs.RDFC, MALLORY),
    )  # fmt: skip


def _signed(document: dict[str, Any], suite: str, signer: keys.Signer | None = None) -> dict[str, Any]:
    signer = signer or _SIGNERS[suite]
    return proofs.sign(lint.lint(document, issuer=signer.verification_method.partition("#")[0]), signer, CREATED, suite)


def _end(state: State) -> datetime:
    return NOW - timedelta(days=1) if state == "expired" else NOW + timedelta(days=365)


def _specimen(name: str, suite: str, state: State = "valid") -> Specimen:
    purpose = "suspension" if state == "suspended" else "revocation"
    document = badge(valid_until=_end(state), status=status.status_entry(LIST_URL, INDEX, purpose))
    bits = (INDEX,) if state in ("revoked", "suspended") else (INDEX - 1, INDEX + 1)
    documents = {**did_documents(), LIST_URL: signed_list(bits, purpose=purpose)}
    return Specimen(name, _signed(document, suite), documents, state, _form(suite))


def _small() -> Specimen:
    document = badge(
        recipient=model.Recipient(id="did:example:learner"), status=None, evidence=(), results=(), valid_until=None,
        achievement=model.Achievement(
            id=f"{BASE}/achievements/1", name="Ṩmall Bадge", description="Small.", criteria_narrative="Do it.",
        ), issuer=PROFILE,
    )  # fmt: skip
    return Specimen("eddsa-rdfc without status", _signed(document, proofs.RDFC), did_documents(), "valid", "rdfc")


def _several(name: str, previous: tuple[str, ...]) -> Specimen:
    document = badge(valid_until=_end("valid"))
    first = "urn:uuid:00000000-0000-4000-8000-00000000000a"
    orders = [
        proofs.Order(SIGNER, proofs.RDFC, CREATED, id=first),
        proofs.Order(P256, proofs.ECDSA_RDFC, CREATED, previous=previous),
    ]
    signed = proofs.sign_all(lint.lint(document, issuer=DID), orders)
    return Specimen(name, signed, {**did_documents(), LIST_URL: signed_list()}, "valid", "rdfc")


def _form(suite: str) -> Form:
    return "jcs" if suite in (proofs.JCS, proofs.ECDSA_JCS) else "rdfc"
