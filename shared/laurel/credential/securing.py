"""How a credential can be secured, as data: the names that an issuer profile or an achievement may list.

Data Integrity proofs combine into a proof set (Data Integrity 1.0 §2.1.1), or with `proof-chain` before them into a
chain, in which each builds on the one before it (`previousProof`, §2.1.2). A JSON Web Token stands alone. A name says
the kind of key that signs: the form's usual one, or the one behind a colon.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from laurel.credential.multikey import KeyType

Form = Literal["data-integrity", "vc-jwt", "vc+jwt"]


@dataclass(frozen=True, slots=True)
class Securing:
    """One way. algorithm: the cryptosuite, or the JWS `alg` (RFC 7518 §3.1, RFC 8037 §3.1)."""

    name: str
    form: Form
    algorithm: str
    key_type: KeyType


SECURINGS: dict[str, Securing] = {
    one.name: one
    for one in (
        Securing("eddsa-rdfc-2022", "data-integrity", "eddsa-rdfc-2022", "Ed25519"),
        Securing("eddsa-jcs-2022", "data-integrity", "eddsa-jcs-2022", "Ed25519"),
        Securing("ecdsa-rdfc-2019", "data-integrity", "ecdsa-rdfc-2019", "P-256"),
        Securing("ecdsa-rdfc-2019:P-384", "data-integrity", "ecdsa-rdfc-2019", "P-384"),
        Securing("ecdsa-jcs-2019", "data-integrity", "ecdsa-jcs-2019", "P-256"),
        Securing("ecdsa-jcs-2019:P-384", "data-integrity", "ecdsa-jcs-2019", "P-384"),
        Securing("vc-jwt", "vc-jwt", "RS256", "RSA"),  # Open Badges 3.0 §8.2
        Securing("vc-jwt:ES256", "vc-jwt", "ES256", "P-256"),
        Securing("vc+jwt", "vc+jwt", "EdDSA", "Ed25519"),  # VC-JOSE-COSE 1.0 §3.1
        Securing("vc+jwt:ES256", "vc+jwt", "ES256", "P-256"),
        Securing("vc+jwt:ES384", "vc+jwt", "ES384", "P-384"),
    )
}
CHAIN = "proof-chain"
DEFAULT = ("eddsa-rdfc-2022",)
MOST = 4  # proofs on one credential
WORDS = (*SECURINGS, CHAIN)

_LIST_SUITES: dict[KeyType, str] = {"P-256": "ecdsa-rdfc-2019", "P-384": "ecdsa-rdfc-2019:P-384"}


def problem(names: Sequence[str]) -> str | None:
    """Why these names together are no way to secure a credential, in a sentence; None: they are one."""
    if names and names[0] == CHAIN:
        if len(names) < 3:
            return "a proof-chain has two proofs or more: name them behind it"
        names = names[1:]
    if not names:
        return "name at least one way to secure credentials"
    for name in names:
        if name == CHAIN:
            return "proof-chain stands before the proofs that it is made of"
        if name not in SECURINGS:
            return f"there is no {name[:80]!r}; use {', '.join(WORDS)}"
    if len(set(names)) < len(names):
        return "a way stands twice"
    if len(names) > 1 and (alone := [name for name in names if SECURINGS[name].form != "data-integrity"]):
        return f"{alone[0]!r} makes the whole credential a JSON Web Token, so it stands alone; only proofs combine"
    if len(names) > MOST:
        return f"at most {MOST} proofs stand on one credential"
    return None


def ways(names: Iterable[str]) -> tuple[Securing, ...]:
    """The ways of names that have no `problem`, in their order."""
    return tuple(SECURINGS[name] for name in names if name != CHAIN)


def of_lists(names: Sequence[str]) -> Securing:
    """How the status lists of a profile that secures its credentials by `names` are secured.

    Always a Data Integrity proof: whoever fetches a list expects JSON. The first proof that the profile itself uses,
    else one by the kind of key that its tokens are signed with; RSA has no cryptosuite.
    """
    first = ways(names)[0]
    return first if first.form == "data-integrity" else SECURINGS[_LIST_SUITES.get(first.key_type, DEFAULT[0])]


def key_types(names: Sequence[str], profile_names: Sequence[str]) -> tuple[KeyType, ...]:
    """The kinds of keys that a credential secured by `names` needs, its status list included; sorted."""
    return tuple(sorted({*(one.key_type for one in ways(names)), of_lists(profile_names).key_type}))
