"""Public and secret keys as text, for the three kinds of keys that Laurel reads: Multikey and JSON Web Key.

A Multikey is base58btc of a multicodec prefix and the key: 32 bytes of Ed25519, or the compressed point of P-256 (33
bytes) or P-384 (49 bytes). (Controlled Identifiers 1.0 §2.2.2 Multikey, §2.2.3 JsonWebKey; VC DI ECDSA 1.0 §2.1.1.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from laurel.credential import multibase
from laurel.credential.multibase import MultibaseError

KeyType = Literal["Ed25519", "P-256", "P-384"]

_PUBLIC: dict[bytes, KeyType] = {
    multibase.ED25519_PUBLIC: "Ed25519",
    b"\x80\x24": "P-256",  # multicodec p256-pub 0x1200 as varint
    b"\x81\x24": "P-384",  # multicodec p384-pub 0x1201
}
_SECRET: dict[bytes, KeyType] = {
    multibase.ED25519_SECRET: "Ed25519",
    b"\x86\x26": "P-256",  # multicodec p256-priv 0x1306
    b"\x87\x26": "P-384",  # multicodec p384-priv 0x1307
}
_PUBLIC_SIZES: dict[KeyType, int] = {"Ed25519": 32, "P-256": 33, "P-384": 49}
SECRET_SIZES: dict[KeyType, int] = {"Ed25519": 32, "P-256": 32, "P-384": 48}
CURVES: dict[KeyType, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
# A published key that carries one of these has published its secret (CID 1.0 §2.2.3; RFC 7518 §6.2.2, RFC 8037 §2).
_SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key. raw: 32 bytes of Ed25519, or the compressed point of the curve."""

    type: KeyType
    raw: bytes

    @property
    def multikey(self) -> str:
        """`publicKeyMultibase`: "z6Mk…" (Ed25519), "zDn…" (P-256) or "z82…" (P-384)."""
        codec = next(prefix for prefix, name in _PUBLIC.items() if name == self.type)
        return multibase.encode(codec + self.raw)

    def point(self) -> ec.EllipticCurvePublicKey:
        """The key of a curve, for ECDSA. Raises MultibaseError for bytes that are no point of it."""
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(CURVES[self.type], self.raw)
        except ValueError:
            raise MultibaseError(f"not a point of the curve {self.type}") from None


def decode_public(text: str) -> PublicKey:
    """`publicKeyMultibase` → the key. Raises MultibaseError: not a Multikey, another kind of key, not on its curve."""
    if text[:1] != "z":
        raise MultibaseError("a Multikey value is base58btc and starts with 'z'")
    data = multibase.decode(text)
    kind = _PUBLIC.get(data[:2])
    if kind is None:
        raise MultibaseError("not an Ed25519, P-256 or P-384 public key in Multikey form")
    key = PublicKey(kind, data[2:])
    if len(key.raw) != _PUBLIC_SIZES[kind]:
        raise MultibaseError(f"a public key of {kind} has {_PUBLIC_SIZES[kind]} bytes here, not {len(key.raw)}")
    if kind != "Ed25519":
        if key.raw[0] not in (2, 3):  # SEC 1 §2.3.3; other first bytes are no compressed point
            raise MultibaseError(f"a public key of {kind} is a compressed point in Multikey form")
        key.point()
    return key


def encode_point(kind: KeyType, key: ec.EllipticCurvePublicKey) -> str:
    """The Multikey value of a curve's public key."""
    return PublicKey(kind, key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)).multikey


def decode_secret(text: str) -> tuple[KeyType, bytes]:
    """`secretKeyMultibase` → the kind, and the seed (Ed25519) or the scalar, big-endian. Raises MultibaseError."""
    if text[:1] != "z":
        raise MultibaseError("a Multikey value is base58btc and starts with 'z'")
    data = multibase.decode(text)
    kind = _SECRET.get(data[:2])
    if kind is None or len(data) - 2 != SECRET_SIZES[kind]:
        raise MultibaseError("not an Ed25519, P-256 or P-384 secret key in Multikey form")
    return kind, data[2:]


def encode_secret(kind: KeyType, secret: bytes) -> str:
    """The seed or scalar → `secretKeyMultibase`. Secret: never log it. Raises MultibaseError for another length."""
    if len(secret) != SECRET_SIZES[kind]:
        raise MultibaseError(f"a secret key of {kind} has {SECRET_SIZES[kind]} bytes, not {len(secret)}")
    codec = next(prefix for prefix, name in _SECRET.items() if name == kind)
    return multibase.encode(codec + secret)


def from_jwk(jwk: Mapping[str, Any]) -> str:
    """`publicKeyJwk` → the same key's Multikey value (RFC 7517, RFC 7518 §6.2.1, RFC 8037 §2). Raises MultibaseError.

    Refused: other kinds of keys, a point that is not on its curve, and a JWK that holds a secret member.
    """
    if _SECRET_MEMBERS & jwk.keys():
        raise MultibaseError("the published JWK holds the secret key: nothing that it signs can be relied on")
    curve, x = jwk.get("crv"), jwk.get("x")
    if jwk.get("kty") == "OKP" and curve == "Ed25519":
        return multibase.ed25519_public_encode(_coordinate(x, "x", 32))
    if jwk.get("kty") == "EC" and (curve == "P-256" or curve == "P-384"):
        kind: KeyType = curve
        size = SECRET_SIZES[kind]
        raw = b"\x04" + _coordinate(x, "x", size) + _coordinate(jwk.get("y"), "y", size)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[kind], raw)
        except ValueError:
            raise MultibaseError(f"not a point of the curve {kind}") from None
        return encode_point(kind, point)
    raise MultibaseError(f"a JWK of kty {jwk.get('kty')!r}, crv {curve!r}: Ed25519, P-256 and P-384 are read")


def to_jwk(public_key_multibase: str) -> dict[str, str]:
    """A Multikey value → the same key as `publicKeyJwk`. Raises MultibaseError."""
    key = decode_public(public_key_multibase)
    if key.type == "Ed25519":
        return {"kty": "OKP", "crv": "Ed25519", "x": multibase.base64url_encode(key.raw)}
    raw = key.point().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    half = len(raw) // 2
    x, y = (multibase.base64url_encode(part) for part in (raw[:half], raw[half:]))
    return {"kty": "EC", "crv": key.type, "x": x, "y": y}


def _coordinate(value: object, name: str, size: int) -> bytes:
    if not isinstance(value, str) or len(value) > 100:
        raise MultibaseError(f"{name} of the JWK is not a base64url string")
    raw = multibase.base64url_decode(value)
    if len(raw) != size:  # RFC 7518 §6.2.1.2: the full size of a coordinate, leading zeros included
        raise MultibaseError(f"{name} of the JWK has {len(raw)} bytes, not {size}")
    return raw
