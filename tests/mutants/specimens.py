"""Credentials as Laurel issues them, in every format and state, and what the world knows about them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import rsa

from laurel.credential import baking, did, jose, keys, lint, model, multikey, proofs, status
from tests.mutants.world import NOW
from tests.unit.credential.samples import (
    BASE,
    DID,
    INDEX,
    LIST_URL,
    PNG,
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
# Two primes: a key of RSA is nothing that a counted range of bytes could be, and mutants must be the same each time.
_P = int(
    "f208bda879df18cb28fece91b1f5b52f5630be1a6f99479e3d7d3910df0fd49e2471d8048e8da423955923f74e89b0143bae"
    "78f5b87142736f3fdf4ff87fd031973f4e1d82052bfbad793bedb62b2969f360cb0636a4aa0c01faa3fdcf716c79a4fce2de"
    "8ef96880719019d545d2d2667e7e750db4388cea5265fb76822b856d",
    16,
)
_Q = int(
    "c5c0f59cb9e45f50e33b8b669953152107f38b29d01afba4aaed8ed89796b31544936fe5f2253dd3ca116c6e1532057c8179"
    "8912b87c648363e7d307a050395f94523396ce119dbf0517d28f8fb9b4d6c2e3340b324ee46677249621b294d7bc9b4e31ce"
    "b7dc1434609ca2a30626ce8de06d2b9b682342a7bd5adebafe9fe96f",
    16,
)
_E = 65_537


def _rsa_key() -> rsa.RSAPrivateKey:
    d = rsa.rsa_recover_private_exponent(_E, _P, _Q)
    further = (rsa.rsa_crt_dmp1(d, _P), rsa.rsa_crt_dmq1(d, _Q), rsa.rsa_crt_iqmp(_P, _Q))
    return rsa.RSAPrivateNumbers(_P, _Q, d, *further, rsa.RSAPublicNumbers(_E, _P * _Q)).private_key()


RSA = keys.RsaSigner(multikey.rsa_secret(_rsa_key()), f"{DID}#key-5")
OTHER_DID = did.did_web(BASE, "other-university")
OTHER = keys.Ed25519Signer(bytes(range(3, 35)), f"{OTHER_DID}#key-1")
_MALLORY = keys.Ed25519Signer(bytes(range(4, 36)), "x:y#z").public_key_multibase
MALLORY = keys.Ed25519Signer(bytes(range(4, 36)), f"{did.did_key(_MALLORY)}#{_MALLORY}")
_MALLORY_P256 = keys.EcdsaSigner("P-256", bytes(range(4, 36)), "x:y#z").public_key_multibase
MALLORY_P256 = keys.EcdsaSigner("P-256", bytes(range(4, 36)), f"{did.did_key(_MALLORY_P256)}#{_MALLORY_P256}")

_SIGNERS: dict[str, keys.Signer] = {
    proofs.RDFC: SIGNER, proofs.JCS: SIGNER, proofs.ECDSA_RDFC: P256, proofs.ECDSA_JCS: P384,
}  # fmt: skip


@dataclass(frozen=True)
class Specimen:
    """A credential, what it is, and the documents that the world serves about it.

    token: the JSON Web Token that holds `document`; picture: what the token or the document is baked into. b"": none.
    """

    name: str
    document: dict[str, Any]
    documents: Mapping[str, Any]
    state: State
    form: Form
    token: bytes = b""
    picture: bytes = b""


def did_documents() -> dict[str, Any]:
    """URL → DID document of the two issuers."""
    signers = (SIGNER, P256, P384, SECOND, RSA)
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
    made += _tokens()
    return (*made, *_pictures({one.name: one for one in made}))


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


@cache
def strangers_tokens() -> tuple[bytes, ...]:
    """The same as tokens: those of the issuer first, then one of Mallory's."""
    *own, foreign, mallory = (lint.lint(proofs.unsecured(one), issuer=issuer_of(one)) for one in strangers())
    return (
        jose.sign_vc_jwt(own[0], RSA), jose.sign_vc_jwt(own[0], P256), jose.sign_vc_jose(own[0], SIGNER),
        jose.sign_vc_jose(own[0], P256), jose.sign_vc_jose(foreign, OTHER), jose.sign_vc_jose(mallory, MALLORY),
    )  # fmt: skip


def issuer_of(document: Mapping[str, Any]) -> str:
    """The issuer's id."""
    issuer = document["issuer"]
    return str(issuer["id"] if isinstance(issuer, dict) else issuer)


def _signed(document: dict[str, Any], suite: str, signer: keys.Signer | None = None) -> dict[str, Any]:
    signer = signer or _SIGNERS[suite]
    return proofs.sign(lint.lint(document, issuer=signer.verification_method.partition("#")[0]), signer, CREATED, suite)


def _end(state: State) -> datetime:
    return NOW - timedelta(days=1) if state == "expired" else NOW + timedelta(days=365)


def _purpose(state: State) -> str:
    return "suspension" if state == "suspended" else "revocation"


def _badge(state: State, **changes: Any) -> dict[str, Any]:
    entry = status.status_entry(LIST_URL, INDEX, _purpose(state))
    return badge(valid_until=_end(state), status=entry, **changes)


def _documents(state: State) -> dict[str, Any]:
    bits = (INDEX,) if state in ("revoked", "suspended") else (INDEX - 1, INDEX + 1)
    return {**did_documents(), LIST_URL: signed_list(bits, purpose=_purpose(state))}


def _specimen(name: str, suite: str, state: State = "valid") -> Specimen:
    return Specimen(name, _signed(_badge(state), suite), _documents(state), state, _form(suite))


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


def _tokens() -> list[Specimen]:
    inside = proofs.Order(SECOND, proofs.RDFC, CREATED)
    learner = {"recipient": model.Recipient(id="did:example:learner")}  # so that the claim `sub` is there
    made = [
        _token("vc-jwt RS256", lambda one: jose.sign_vc_jwt(one, RSA), **learner),
        _token("vc-jwt ES256, kid and jwk", lambda one: jose.sign_vc_jwt(one, P256, reference="kid+jwk"), **learner),
        _token("vc-jwt ES256, jwk", lambda one: jose.sign_vc_jwt(one, P256, reference="jwk")),
        _token("vc+jwt EdDSA", lambda one: jose.sign_vc_jose(one, SIGNER)),
        _token("vc+jwt ES256", lambda one: jose.sign_vc_jose(one, P256), **learner),
        _token("vc+jwt EdDSA, and a proof", lambda one: jose.sign_vc_jose(one, SIGNER, embedded=[inside])),
    ]
    states: tuple[State, ...] = ("expired", "revoked", "suspended")
    made += [_token(f"vc-jwt ES256 {one}", lambda one: jose.sign_vc_jwt(one, P256), one) for one in states]
    made += [_token(f"vc+jwt EdDSA {one}", lambda one: jose.sign_vc_jose(one, SIGNER), one) for one in states]
    return made


def _token(name: str, sign: Callable[[lint.Linted], bytes], state: State = "valid", **changes: Any) -> Specimen:
    token = sign(lint.lint(_badge(state, **changes), issuer=DID))
    document = jose.parse(token.decode()).document
    return Specimen(name, document, _documents(state), state, "rdfc", token)


_ART = b"""<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><title>Data</title><path d="M0 0h9v9z"/></svg>
"""


def _pictures(bare: Mapping[str, Specimen]) -> list[Specimen]:
    names = (
        "eddsa-rdfc",
        "ecdsa-jcs",
        "vc-jwt ES256, jwk",
        "vc+jwt EdDSA",
        "eddsa-rdfc revoked",
        "vc-jwt ES256 expired",
    )
    png = base64.b64decode(PNG.partition(",")[2])
    made = []
    for one in (bare[name] for name in names):
        inside = one.token or json.dumps(one.document, ensure_ascii=False, separators=(",", ":")).encode()
        made += [
            replace(one, name=f"{one.name} in a PNG", picture=baking.bake_png(png, inside)),
            replace(one, name=f"{one.name} in an SVG", picture=baking.bake_svg(_ART, inside)),
        ]
    return made
