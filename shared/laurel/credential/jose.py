"""Credentials inside a JSON Web Token: VC-JWT as Open Badges 3.0 §8.2 defines it, and vc+jwt of W3C VC-JOSE-COSE 1.0.

To sign, from the `Linted` token and a `keys.Signer`, and from nothing else:
1. the payload: the document itself; VC-JWT repeats five of its properties as claims (`jose_claims`);
2. the JOSE header: the algorithm of the signer's key, the key's name or the key, the type of the token;
3. the signature over both, in the compact serialisation (RFC 7515 §7.1).

To read: `parse` takes any text to an `Envelope` and trusts nothing in it; `jose_keys` finds the key that it must have
been signed with; `verify` says whether it was. No key is ever fetched from where a header says (`jku`, `x5u`).

RS256, ES256 and ES384 (RFC 7518), EdDSA (RFC 8037), which RFC 9864 calls Ed25519; nothing else, and never "none" or a
shared secret, which whoever verifies could have signed with (RFC 8725 §3.1, §3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec

from laurel.credential import contexts, jose_claims, keys, multibase, multikey, proofs
from laurel.credential.jose_claims import Claims, JoseError
from laurel.credential.lint import Linted
from laurel.credential.proofs import ProofResult
from laurel.credential.text import timestamp
from laurel.security import BadJson, guard_json

__all__ = [
    "Envelope", "Format", "JoseError", "enveloped", "opened", "parse", "sign_vc_jose", "sign_vc_jwt", "unwrap",
    "verify",
]  # fmt: skip

Format = Literal["vc-jwt", "vc+jwt", "vp+jwt"]
"""vc-jwt: by Open Badges 3.0 §8.2 or VC Data Model 1.1 §6.3.1. vc+jwt, vp+jwt: a credential and a presentation by
VC-JOSE-COSE 1.0 §3.1."""

MAX_PAYLOAD = 1 << 20  # bytes, as of a credential that comes as JSON
MAX_HEADER = 8 << 10  # bytes: a JWK of RSA-4096 has some 750
_MAX_TEXT = (MAX_PAYLOAD + MAX_HEADER) * 4 // 3 + 1024
_MAX_NAME = 2048  # characters of a `kid`
_DATA_URLS = {
    "application/vc+jwt": "EnvelopedVerifiableCredential",
    "application/vp+jwt": "EnvelopedVerifiablePresentation",
}

# RFC 7518 §3.1; RFC 8037 §3.1; RFC 9864 §2.2. One kind of key each, so that no key is used by another's rules.
ALGORITHMS: dict[str, multikey.KeyType] = {
    "RS256": "RSA", "ES256": "P-256", "ES384": "P-384", "EdDSA": "Ed25519", "Ed25519": "Ed25519",
}  # fmt: skip
_ALGORITHM_OF: dict[multikey.KeyType, str] = {"RSA": "RS256", "P-256": "ES256", "P-384": "ES384", "Ed25519": "EdDSA"}
_SIGNATURE_SIZES: dict[multikey.KeyType, int] = {"P-256": 64, "P-384": 96, "Ed25519": 64}
_INSECURE = frozenset({"none", "HS256", "HS384", "HS512"})  # nobody's signature, or anybody's who can verify it

_OPEN_BADGE_KEYS: tuple[multikey.KeyType, ...] = ("RSA", "P-256")
_W3C_KEYS: tuple[multikey.KeyType, ...] = ("Ed25519", "P-256", "P-384")


# --- signing ------------------------------------------------------------------------------------------------------


def sign_vc_jwt(
    linted: Linted,
    signer: keys.Signer,
    *,
    reference: Literal["kid", "jwk", "kid+jwk"] = "kid",
    embedded: Sequence[proofs.Order] = (),
) -> bytes:
    """The document as VC-JWT (Open Badges 3.0 §8.2): RS256 or ES256. The same arguments give the same bytes.

    reference: whether the header names the key (its verification method), holds it, or both. embedded: Data Integrity
    proofs that the payload holds besides (§8.2.3). Raises ProofError: wrong_key_type, wrong_controller, and as
    `proofs.sign_all`.
    """
    algorithm = _algorithm(linted, signer, _OPEN_BADGE_KEYS, "VC-JWT")
    body = _body(linted, embedded)
    claims = msgspec.json.encode(jose_claims.claims_of(linted.document()))
    header: dict[str, Any] = {"alg": algorithm}
    if reference != "jwk":
        header["kid"] = signer.verification_method
    if reference != "kid":
        header["jwk"] = multikey.to_jwk(signer.public_key_multibase)
    header["typ"] = "JWT"
    return _compact(header, body[:-1] + b"," + claims[1:], signer)


def sign_vc_jose(linted: Linted, signer: keys.Signer, *, embedded: Sequence[proofs.Order] = ()) -> bytes:
    """The document as vc+jwt (VC-JOSE-COSE 1.0 §3.1.1): EdDSA, ES256 or ES384. The payload is the document, unchanged.

    Arguments and errors as of `sign_vc_jwt`.
    """
    algorithm = _algorithm(linted, signer, _W3C_KEYS, "vc+jwt")
    header = {"alg": algorithm, "kid": signer.verification_method, "typ": "vc+jwt", "cty": "vc"}
    return _compact(header, _body(linted, embedded), signer)


def enveloped(compact: bytes) -> dict[str, Any]:
    """A vc+jwt as an object that may stand in a presentation (VC Data Model 2.0 §4.13.1)."""
    return {
        "@context": contexts.CREDENTIALS_V2,
        "id": "data:application/vc+jwt," + compact.decode("ascii"),
        "type": "EnvelopedVerifiableCredential",
    }


def _algorithm(linted: Linted, signer: keys.Signer, kinds: tuple[multikey.KeyType, ...], name: str) -> str:
    if not isinstance(linted, Linted):
        raise TypeError("only a Linted document can be signed; call laurel.credential.lint.lint first")
    proofs.require_controller(linted, signer)
    kind = multikey.decode_public(signer.public_key_multibase).type
    if kind not in kinds:
        raise proofs.ProofError("wrong_key_type", f"{name} takes a key of {' or '.join(kinds)}, not of {kind}")
    return _ALGORITHM_OF[kind]


def _body(linted: Linted, embedded: Sequence[proofs.Order]) -> bytes:
    return msgspec.json.encode(proofs.sign_all(linted, embedded)) if embedded else linted.encoded()


def _compact(header: dict[str, Any], payload: bytes, signer: keys.Signer) -> bytes:
    parts = (msgspec.json.encode(header), payload)
    signed = ".".join(multibase.base64url_encode(part) for part in parts).encode("ascii")
    return signed + b"." + multibase.base64url_encode(signer.sign(signed)).encode("ascii")


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Envelope:
    """A token that is well formed. Whether its signature is true is `verify`'s to say, whose it is `jose_keys`'.

    kid, key: the name of the key and its Multikey, as far as the header says them; at least one of them, or `claims`
    says who issued it. document: what the payload holds beside its claims: the credential or presentation to judge.
    """

    format: Format
    algorithm: str
    kid: str | None
    key: str | None
    claims: Claims
    document: dict[str, Any]
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def key_type(self) -> multikey.KeyType:
        """The kind of key that the algorithm takes."""
        return ALGORITHMS[self.algorithm]

    @property
    def compact(self) -> str:
        """The token as it was read: there is only one way to write it."""
        return f"{self.signed.decode('ascii')}.{multibase.base64url_encode(self.signature)}"


def parse(text: str, *, media_type: str | None = None) -> Envelope:
    """The compact JWS `text` as a token of a credential or presentation. Raises JoseError, never anything else.

    media_type: what the token was said to be where it was found, for tokens whose header does not say it:
    "application/vc+jwt" or "application/vp+jwt". Refused: more or less than three parts, base64url that is not the only
    way to write its bytes, JSON that `guard_json` refuses, critical header parameters and unencoded payloads (RFC 7515
    §4.1.11, RFC 7797), algorithms beside ALGORITHMS, and claims that contradict the credential.
    """
    if len(text) > _MAX_TEXT:
        raise JoseError("too_large", f"the token has {len(text):,} characters; {_MAX_TEXT:,} are read")
    parts = text.split(".")
    if len(parts) != 3:
        raise JoseError("malformed_jwt", f"a compact JWS has three parts, not {len(parts)} (RFC 7515 §7.1)")
    header = _json(_decoded(parts[0], "header"), "header", MAX_HEADER)
    algorithm = _read_algorithm(header)
    kid, key = _key_reference(header)
    signature = _decoded(parts[2], "signature")
    size = _SIGNATURE_SIZES.get(ALGORITHMS[algorithm])
    if size is not None and len(signature) != size:
        raise JoseError("malformed_signature", f"a signature of {algorithm} has {size} bytes, not {len(signature)}")
    payload = _json(_decoded(parts[1], "payload"), "payload", MAX_PAYLOAD)
    form = _format(header, payload, media_type)
    document, claims = jose_claims.split(payload, form)
    if kid is None and key is None and form == "vc-jwt" and jose_claims.is_open_badge(document):
        raise JoseError("no_key_named", "the header has neither kid nor jwk (Open Badges 3.0 §8.2.2)", "/kid")
    signed = f"{parts[0]}.{parts[1]}".encode("ascii")
    return Envelope(form, algorithm, kid, key, claims, document, signed, signature)


def opened(body: bytes) -> tuple[dict[str, Any], str | None]:
    """A credential of ours as it is stored and as events carry it: its JSON, or its token as a JSON string.

    → the document, and the token that secures it from outside (None: proofs inside do). Raises JoseError, and
    ValueError for what is neither.
    """
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(f"neither a JSON object nor a token: {error}") from error
    if isinstance(value, str):
        return parse(value).document, value
    if not isinstance(value, dict):
        raise ValueError("neither a JSON object nor a token")
    return value, None


def unwrap(document: dict[str, Any]) -> Envelope:
    """The token that an EnvelopedVerifiableCredential or EnvelopedVerifiablePresentation holds (VC Data Model 2.0
    §4.13.1, §4.13.2). Raises JoseError: as `parse`; malformed_envelope; unknown_envelope for another media type."""
    identifier = document.get("id")
    scheme, comma, text = identifier.partition(",") if isinstance(identifier, str) else ("", "", "")
    if not comma or not scheme.startswith("data:"):
        raise JoseError("malformed_envelope", "the id of an enveloped document is a data: URL (RFC 2397)", "/id")
    media_type, *parameters = scheme.removeprefix("data:").lower().split(";")
    if media_type not in _DATA_URLS or parameters:
        known = " and ".join(_DATA_URLS)
        detail = f"an envelope of {scheme[5:105]!r}; {known} are read, without parameters"
        raise JoseError("unknown_envelope", detail, "/id")
    if document.get("type") not in (_DATA_URLS[media_type], [_DATA_URLS[media_type]]):
        raise JoseError("malformed_envelope", f"{media_type} is the type of an {_DATA_URLS[media_type]}", "/type")
    return parse(text, media_type=media_type)


def _decoded(part: str, name: str) -> bytes:
    try:
        return multibase.base64url_decode(part)
    except multibase.MultibaseError as error:
        raise JoseError("malformed_jwt", f"the {name} is {error}") from None


def _json(data: bytes, name: str, limit: int) -> dict[str, Any]:
    try:
        value = guard_json(data, max_bytes=limit)
    except BadJson as error:
        raise JoseError(error.code, f"the {name} of the token: {error.detail}", error.pointer) from None
    if not isinstance(value, dict):
        raise JoseError("malformed_jwt", f"the {name} of the token is not a JSON object")
    return value


def _read_algorithm(header: dict[str, Any]) -> str:
    for name in ("crit", "b64"):  # an extension that must be understood, and one that must then be critical
        if name in header:
            raise JoseError("critical_header", f"the header has {name!r}; no extension is understood here", f"/{name}")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise JoseError("malformed_header", "the header has no alg (RFC 7515 §4.1.1)", "/alg")
    if algorithm in _INSECURE or algorithm.lower() == "none":
        raise JoseError("insecure_algorithm", f"alg {algorithm!r} is no signature of an issuer (RFC 8725 §3.2)", "/alg")
    if algorithm not in ALGORITHMS:
        raise JoseError("unknown_algorithm", f"alg {algorithm[:60]!r}; Laurel reads {', '.join(ALGORITHMS)}", "/alg")
    return algorithm


def _key_reference(header: dict[str, Any]) -> tuple[str | None, str | None]:
    kid, jwk = header.get("kid"), header.get("jwk")
    if kid is not None and (not isinstance(kid, str) or not kid or len(kid) > _MAX_NAME):
        raise JoseError("malformed_header", f"kid is not a string of at most {_MAX_NAME} characters", "/kid")
    if jwk is None:
        return kid, None
    if not isinstance(jwk, dict):
        raise JoseError("malformed_header", "jwk is not a JSON object (RFC 7515 §4.1.3)", "/jwk")
    if multikey.SECRET_MEMBERS & jwk.keys():
        detail = "jwk of the header holds the secret key (Open Badges 3.0 §8.2.2)"
        raise JoseError("secret_key_published", detail, "/jwk")
    try:
        return kid, multikey.from_jwk(jwk)
    except multibase.MultibaseError as error:
        raise JoseError("unsupported_key", f"jwk of the header: {error}", "/jwk") from None


def _format(header: dict[str, Any], payload: dict[str, Any], media_type: str | None) -> Format:
    typ = header.get("typ")
    if not isinstance(typ, str) and "typ" in header:
        raise JoseError("malformed_header", "typ is not a string (RFC 7515 §4.1.9)", "/typ")
    if typ is None and media_type is not None:
        typ = media_type
    name = "jwt" if typ is None else typ.lower().removeprefix("application/")
    held = header.get("cty")
    # "vc+ld+json" and "vp+ld+json" are what "vc" and "vp" were called before the media types were registered.
    held = held.lower().removeprefix("application/").removesuffix("+ld+json") if isinstance(held, str) else None
    if held == ("vc" if name == "vp+jwt" else "vp"):  # RFC 8725 §3.11: one kind of token is never taken for another
        raise JoseError("wrong_typ", f"typ of the header is {name}, and its cty {held}: one of them is wrong", "/cty")
    if name == "jwt" and media_type is None:
        return "vc-jwt" if jose_claims.is_vc_jwt(payload) else "vc+jwt"
    if name in ("vc+jwt", "vp+jwt") and media_type in (None, f"application/{name}"):
        return "vc+jwt" if name == "vc+jwt" else "vp+jwt"
    expected = media_type or "vc+jwt, vp+jwt or JWT"
    raise JoseError("wrong_typ", f"typ of the header is {str(typ)[:60]!r}; {expected} was expected", "/typ")


def verify(envelope: Envelope, key: str, *, now: datetime | None = None) -> ProofResult:
    """Whether the token was signed with `key`, a Multikey that the caller has found (`jose_keys`).

    With `now`, a token past its `exp` is refused, and one before its `nbf` (RFC 7519 §4.1.4, §4.1.5). Never raises.
    """
    try:
        public = multikey.decode_public(key)
    except multibase.MultibaseError as error:
        return ProofResult(False, "unsupported_key", str(error))
    if public.type != envelope.key_type:
        detail = f"{envelope.algorithm} takes a key of {envelope.key_type}, not of {public.type}"
        return ProofResult(False, "wrong_key_type", detail)
    if envelope.key is not None and envelope.key != key:
        return ProofResult(False, "wrong_key", "the jwk of the header is not the key that its kid names")
    if not keys.verify_signature(public, envelope.signature, envelope.signed):
        return ProofResult(False, "bad_signature", "the signature does not match the token and the key")
    expires, begins = envelope.claims.expires, envelope.claims.not_before
    if now is not None and expires is not None and expires <= now:
        return ProofResult(False, "proof_expired", f"the token expired at {timestamp(expires)} (exp)")
    if now is not None and begins is not None and now < begins:
        return ProofResult(False, "not_yet_valid", f"the token is valid from {timestamp(begins)} (nbf)")
    return ProofResult(True)
