"""Our tokens before somebody else's library, and theirs before ours."""

from __future__ import annotations

import random
from typing import Any

import pytest

from laurel.credential import jose, keys, multibase, multikey
from tests.conformance import node_oracle
from tests.unit.credential.samples import P256_SIGNER, P384_SIGNER, RSA_SIGNER, SIGNER
from tests.unit.credential.test_jose import FORMATS, WITH_ID, decoded

pytestmark = pytest.mark.node

SIGNERS: tuple[tuple[str, keys.Signer], ...] = (
    ("RS256", RSA_SIGNER), ("ES256", P256_SIGNER), ("ES384", P384_SIGNER), ("EdDSA", SIGNER), ("Ed25519", SIGNER),
)  # fmt: skip


def public_jwk(signer: keys.Signer) -> dict[str, Any]:
    return multikey.to_jwk(signer.public_key_multibase)


def secret_jwk(signer: keys.Signer) -> dict[str, Any]:
    if isinstance(signer, keys.RsaSigner):
        numbers = multikey.load_rsa(signer.__reduce__()[1][0]).private_numbers()
        names = {
            "d": numbers.d,
            "p": numbers.p,
            "q": numbers.q,
            "dp": numbers.dmp1,
            "dq": numbers.dmq1,
            "qi": numbers.iqmp,
        }
        secret = {name: number.to_bytes((number.bit_length() + 7) // 8, "big") for name, number in names.items()}
    elif isinstance(signer, keys.EcdsaSigner):
        secret = {"d": signer.__reduce__()[1][1]}
    else:
        assert isinstance(signer, keys.Ed25519Signer)
        secret = {"d": signer.__reduce__()[1][0]}
    return {**public_jwk(signer), **{name: multibase.base64url_encode(raw) for name, raw in secret.items()}}


@pytest.fixture(autouse=True)
def _installed(node_verify: object) -> None:
    """The npm packages are there, or the test is left out."""


def test_they_read_what_we_sign() -> None:
    tokens = [sign(WITH_ID, signer).decode() for _, signer, sign in FORMATS]
    asked = [(token, public_jwk(signer), name) for token, (name, signer, _) in zip(tokens, FORMATS, strict=True)]
    found, _ = node_oracle.jose(asked)
    for token, answer in zip(tokens, found, strict=True):
        header, payload, _ = token.split(".")
        assert answer == {"header": decoded(header), "payload": decoded(payload)}


def test_we_read_what_they_sign() -> None:
    orders = [
        ({"alg": name, "kid": signer.verification_method, "typ": "vc+jwt"}, WITH_ID.document(), secret_jwk(signer))
        for name, signer in SIGNERS
    ]
    _, tokens = node_oracle.jose(sign=orders)
    for token, (name, signer) in zip(tokens, SIGNERS, strict=True):
        envelope = jose.parse(token)
        assert (envelope.algorithm, envelope.document) == (name, WITH_ID.document())
        assert jose.verify(envelope, signer.public_key_multibase).ok, name


def test_neither_takes_a_changed_token() -> None:
    chance = random.Random(8)
    asked, ours = [], []
    for name, signer, sign in FORMATS:
        token = sign(WITH_ID, signer).decode()
        for _ in range(200):
            at = chance.randrange(len(token))
            letter = chance.choice(
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".replace(token[at], "")
            )
            mutant = token[:at] + letter + token[at + 1 :]
            asked.append((mutant, public_jwk(signer), name))
            ours.append(_ours(mutant, signer))
    assert not any(ours)
    theirs, _ = node_oracle.jose(asked)
    # They read base64url leniently: a last letter whose unused bits differ is the same signature to them. Not to us.
    lenient = [place for place, answer in enumerate(theirs) if answer is not None]
    for place in lenient:
        mutant, original = asked[place][0], FORMATS[place // 200]
        assert mutant[:-1] == original[2](WITH_ID, original[1]).decode()[:-1]


def _ours(token: str, signer: keys.Signer) -> bool:
    try:
        return jose.verify(jose.parse(token), signer.public_key_multibase).ok
    except jose.JoseError:
        return False
