"""What suites write into `options`, under the names that the VC API and its implementations use.

What is understood is read here; what would be understood and is not done here is refused (422), never passed over.
Members that nobody has defined are let be: suites hand each implementation whatever its manifest says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from laurel.credential import proofs
from laurel.credential.multikey import KeyType
from laurel.credential.text import is_absolute_identifier, usual_timestamp
from laurel_local.conformance.outcomes import VC_API, Refusal, not_understood
from laurel_local.conformance.ring import KINDS, Ring, RunKey, kinds_of
from laurel_verifier.domain import issuer_id

CRYPTOSUITES = proofs.CRYPTOSUITES
_SUITE_NAMES = ("cryptosuite", "suite", "type", "proofType")
_NOT_SUITES = ("DataIntegrityProof",)
FORMATS = ("ldp_vc", "vc+jwt", "vc-jwt")  # embedded; VC-JOSE-COSE 1.0, enveloped; Open Badges 3.0 §8.2, a bare token
_OF_PROOFS = "VC Data Integrity 1.0 §2.1"
_KEY_NAMES = {name: kind for kind in KINDS for name in (kind.lower(), kind.lower().replace("-", ""))}


@dataclass(frozen=True)
class Issuing:
    """How a credential is to be secured. previous: the ids of the proofs that the new one builds on.

    proof_id: of the new proof, so that a later one can build on it. credential_id: what the caller calls a credential
    without an id. format: of FORMATS. created, expires: of the proof; created now where it is None.
    """

    key: RunKey
    cryptosuite: str
    previous: tuple[str, ...] = ()
    proof_id: str | None = None
    credential_id: str | None = None
    format: str = "ldp_vc"
    created: datetime | None = None
    expires: datetime | None = None


def issuing(options: dict[str, Any], query: Mapping[str, str], credential: dict[str, Any], ring: Ring) -> Issuing:
    """Read the options of an issue request. query: of the URL; it has `cryptosuite` and `keyType` too.

    The key is that of the kind asked for; else that of the credential's issuer, where this is one of ours and the
    cryptosuite takes it; else the first that the cryptosuite takes. Raises Refusal.
    """
    suite = _cryptosuite(options, query)
    kind = _key_kind(options.get("keyType", query.get("keyType")))
    method = text(options, "verificationMethod")
    named = ring.of_issuer(issuer_id(credential)) or ring.of_issuer(method)
    if kind is None and named is not None and (suite is None or named.kind in kinds_of(suite)):
        kind = named.kind
    form = text(options, "format") or "ldp_vc"
    if form not in FORMATS:
        raise _refused("format", f"one of {', '.join(FORMATS)}")
    if kind is None and form == "vc-jwt":
        kind = "P-256"
    if form == "vc-jwt" and kind != "P-256":
        raise _refused("keyType", "VC-JWT is signed by ES256 here, with the key of P-256")
    suite = suite or (proofs.RDFC if kind in (None, "Ed25519") else proofs.ECDSA_RDFC)
    kind = kind or kinds_of(suite)[0]
    if kind not in kinds_of(suite):
        raise _refused("keyType", f"{suite} takes a key of {' or '.join(kinds_of(suite))}, not of {kind}")
    if options.get("mandatoryPointers"):
        raise _refused("mandatoryPointers", "selective disclosure is not supported: no cryptosuite here has it")
    purpose = options.get("proofPurpose", "assertionMethod")
    if purpose != "assertionMethod":
        raise _refused("proofPurpose", "credentials are signed for assertionMethod", clause=_OF_PROOFS)
    for name in ("challenge", "domain"):
        if options.get(name) is not None:
            raise _refused(
                name, "proofs of credentials answer no challenge and are made for nobody alone", clause=_OF_PROOFS
            )
    previous, created, expires = _texts(options, "previousProof"), _time(options, "created"), _time(options, "expires")
    proof_id = text(options, "proofId")
    if proof_id is not None and not is_absolute_identifier(proof_id):
        raise _refused("proofId", "must be a URL or URN, as the id of a proof is", clause=_OF_PROOFS)
    if form != "ldp_vc":
        embedded = {"previousProof": previous, "proofId": proof_id, "created": created, "expires": expires}
        for name, value in embedded.items():
            if value:
                raise _refused(name, f"an embedded proof has it, the token of the format {form} does not")
    return Issuing(
        key=ring.of_kind(kind),
        cryptosuite=suite,
        previous=previous,
        proof_id=proof_id,
        credential_id=text(options, "credentialId"),
        format=form,
        created=created,
        expires=expires,
    )


def nothing_asked_of_presentations(options: dict[str, Any]) -> None:
    """A credential is verified for no challenge, no domain, and the purpose assertionMethod. Raises Refusal."""
    for name in ("challenge", "domain"):
        if options.get(name) is not None:
            raise _refused(
                name, "of presentations; proofs of credentials are verified for nobody in particular", clause=_OF_PROOFS
            )
    expected_purpose(options, ("assertionMethod",))


def expected_purpose(options: dict[str, Any], known: tuple[str, ...]) -> str | None:
    """`expectedProofPurpose`: one of `known`; None when it is not there. Raises Refusal."""
    found = text(options, "expectedProofPurpose")
    if found is not None and found not in known:
        raise _refused("expectedProofPurpose", f"proofs are verified for {' or '.join(known)} here")
    return found


def text(options: dict[str, Any], name: str, at: str = "/options") -> str | None:
    """A text that is not empty; None when it is not there. at: where `options` stands. Raises Refusal."""
    found = options.get(name)
    if found is not None and (not isinstance(found, str) or not found):
        raise _refused(name, "must be a text that is not empty", at)
    return found


def domains(options: dict[str, Any]) -> tuple[str, ...] | None:
    """`domain`: one or several (VC Data Integrity 1.0 §2.1); None when it is not there. Raises Refusal."""
    return _texts(options, "domain") or None


def flag(options: dict[str, Any], name: str, at: str = "/options") -> bool:
    """A boolean; False when it is not there. at: where `options` stands. Raises Refusal."""
    found = options.get(name)
    if not isinstance(found, bool | None):
        raise _refused(name, "must be true or false", at)
    return bool(found)


def checks(options: dict[str, Any], known: Mapping[str, Any]) -> list[str] | None:
    """`checks`: which ones; None for all. Raises Refusal."""
    found = options.get("checks")
    if found is None or found == []:
        return None
    if not isinstance(found, list) or not all(isinstance(one, str) and one in known for one in found):
        raise _refused("checks", f"a list of {', '.join(known)}", code="unknown_check")
    return found


def _cryptosuite(options: dict[str, Any], query: Mapping[str, str]) -> str | None:
    asked = [options[name] for name in _SUITE_NAMES if options.get(name) not in (None, *_NOT_SUITES)]
    wanted = (asked or [query.get("cryptosuite")])[0]
    if wanted is not None and wanted not in CRYPTOSUITES:
        raise _refused("cryptosuite", f"one of {', '.join(CRYPTOSUITES)}", code="unknown_cryptosuite")
    return None if wanted is None else str(wanted)


def _key_kind(wanted: object) -> KeyType | None:
    if wanted is None:
        return None
    kind = _KEY_NAMES.get(wanted.lower()) if isinstance(wanted, str) else None
    if kind is None:
        raise _refused("keyType", f"one of {', '.join(KINDS)}")
    return kind


def _texts(options: dict[str, Any], name: str) -> tuple[str, ...]:
    found = options.get(name)
    listed = [] if found is None else found if isinstance(found, list) else [found]
    if not all(isinstance(one, str) and one for one in listed) or len(listed) > 16:
        raise _refused(name, "must be a text, or a list of at most 16 of them")
    return tuple(listed)


def _time(options: dict[str, Any], name: str) -> datetime | None:
    found = options.get(name)
    moment = None if found is None else usual_timestamp(found)
    if found is not None and moment is None:
        raise _refused(
            name, "must be a date and time with a time zone (XML Schema 1.1 dateTimeStamp)", clause=_OF_PROOFS
        )
    return moment


def _refused(
    name: str, why: str, at: str = "/options", *, code: str = "invalid_input", clause: str = VC_API
) -> Refusal:
    return not_understood(f"{at}/{name}", why, code, clause)
