"""Public and secret keys as text, for the four kinds of keys that Laurel reads: Multikey and JSON Web Key.

A Multikey is base58btc of a multicodec prefix and the key: 32 bytes of Ed25519, the compressed point of P-256 (33
bytes) or P-384 (49 bytes), or the RSAPublicKey of RFC 8017 A.1.1 in DER. RSA signs JSON Web Tokens alone; it has no
cryptosuite. (Controlled Identifiers 1.0 §2.2.2 Multikey, §2.2.3 JsonWebKey; VC DI ECDSA 1.0 §2.1.1.)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from laurel.credential import multibase
from laurel.credential.multibase import MultibaseError

KeyType = Literal["Ed25519", "P-256", "P-384", "RSA"]

_PUBLIC: dict[bytes, KeyType] = {
    multibase.ED25519_PUBLIC: "Ed25519",
    b"\x80\x24": "P-256",  # multicodec p256-pub 0x1200 as varint
    b"\x81\x24": "P-384",  # multicodec p384-pub 0x1201
    b"\x85\x24": "RSA",  # multicodec rsa-pub 0x1205
}
_SECRET: dict[bytes, KeyType] = {
    multibase.ED25519_SECRET: "Ed25519",
    b"\x86\x26": "P-256",  # multicodec p256-priv 0x1306
    b"\x87\x26": "P-384",  # multicodec p384-priv 0x1307
    b"\x85\x26": "RSA",  # multicodec rsa-priv 0x1305
}
_PUBLIC_SIZES: dict[KeyType, int] = {"Ed25519": 32, "P-256": 33, "P-384": 49}
SECRET_SIZES: dict[KeyType, int] = {"Ed25519": 32, "P-256": 32, "P-384": 48}
CURVES: dict[KeyType, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
RSA_BITS = range(2048, 4097)  # RFC 7518 §3.3: at least 2048; more than 4096 cost a verifier more than they give
_MAX_EXPONENT = 1 << 32
_MAX_SECRET_TEXT = 4096  # characters: the secret key of RSA-4096 has some 2,350 bytes
# What a JWK may be meant for (RFC 7517 §4.4), by its kind: RFC 8725 §3.1 wants one algorithm for one key.
JWK_ALGORITHMS: dict[KeyType, frozenset[str]] = {
    "Ed25519": frozenset({"EdDSA", "Ed25519"}),  # RFC 8037 §3.1; RFC 9864 §2.2
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "RSA": frozenset({"RS256"}),
}
# A published key that carries one of these has published its secret (CID 1.0 §2.2.3; RFC 7518 §6.2.2, RFC 8037 §2).
SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key. raw: 32 bytes of Ed25519, the compressed point of the curve, or the RSAPublicKey in DER."""

    type: KeyType
    raw: bytes

    @property
    def multikey(self) -> str:
        """`publicKeyMultibase`: "z6Mk…" (Ed25519), "zDn…" (P-256), "z82…" (P-384) or "z4MX…", "zgg…" (RSA)."""
        codec = next(prefix for prefix, name in _PUBLIC.items() if name == self.type)
        return multibase.encode(codec + self.raw)

    def point(self) -> ec.EllipticCurvePublicKey:
        """The key of a curve, for ECDSA. Raises MultibaseError for bytes that are no point of it."""
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(CURVES[self.type], self.raw)
        except ValueError:
            raise MultibaseError(f"not a point of the curve {self.type}") from None

    def rsa(self) -> rsa.RSAPublicKey:
        """The key of RSA. Raises MultibaseError: no RSAPublicKey in DER, or not of a size that RSA_BITS has."""
        try:
            key = load_der_public_key(self.raw)
        except ValueError:
            raise MultibaseError("not an RSAPublicKey in DER") from None
        if not isinstance(key, rsa.RSAPublicKey) or self.raw != key.public_bytes(Encoding.DER, PublicFormat.PKCS1):
            raise MultibaseError("not an RSAPublicKey in DER")
        _check_rsa_size(key.public_numbers())
        return key


def _check_rsa_size(numbers: rsa.RSAPublicNumbers) -> None:
    if numbers.n.bit_length() not in RSA_BITS:
        limits = f"{RSA_BITS.start} to {RSA_BITS.stop - 1}"
        raise MultibaseError(f"an RSA key of {numbers.n.bit_length()} bits; {limits} are read (RFC 7518 §3.3)")
    if not (2 < numbers.e < _MAX_EXPONENT and numbers.e % 2):
        raise MultibaseError("an RSA key with such an exponent is not read")


@functools.lru_cache(maxsize=1024)  # an issuer's key is read again for each of its credentials
def decode_public(text: str) -> PublicKey:
    """`publicKeyMultibase` → the key. Raises MultibaseError: not a Multikey, another kind of key, not on its curve."""
    if text[:1] != "z":
        raise MultibaseError("a Multikey value is base58btc and starts with 'z'")
    data = multibase.decode(text)
    kind = _PUBLIC.get(data[:2])
    if kind is None:
        raise MultibaseError("not an Ed25519, P-256, P-384 or RSA public key in Multikey form")
    key = PublicKey(kind, data[2:])
    if kind == "RSA":
        key.rsa()
        return key
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


def encode_rsa(key: rsa.RSAPublicKey) -> str:
    """The Multikey value of a public key of RSA. Raises MultibaseError for one of a size that RSA_BITS has not."""
    _check_rsa_size(key.public_numbers())
    return PublicKey("RSA", key.public_bytes(Encoding.DER, PublicFormat.PKCS1)).multikey


def decode_secret(text: str) -> tuple[KeyType, bytes]:
    """`secretKeyMultibase` → the kind, and the seed (Ed25519), the scalar, big-endian, or the RSAPrivateKey in DER.

    Raises MultibaseError.
    """
    if text[:1] != "z":
        raise MultibaseError("a Multikey value is base58btc and starts with 'z'")
    data = multibase.decode(text, max_length=_MAX_SECRET_TEXT)
    kind = _SECRET.get(data[:2])
    if kind == "RSA":
        load_rsa(data[2:])
    elif kind is None or len(data) - 2 != SECRET_SIZES[kind]:
        raise MultibaseError("not an Ed25519, P-256, P-384 or RSA secret key in Multikey form")
    return kind, data[2:]


def load_rsa(secret: bytes) -> rsa.RSAPrivateKey:
    """An RSAPrivateKey (RFC 8017 A.1.2) in DER → the key. Raises MultibaseError: something else, or a bad size."""
    try:
        key = load_der_private_key(secret, None)
    except (ValueError, TypeError):
        raise MultibaseError("not an RSAPrivateKey in DER") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise MultibaseError("not an RSAPrivateKey in DER")
    _check_rsa_size(key.public_key().public_numbers())
    return key


def rsa_secret(key: rsa.RSAPrivateKey) -> bytes:
    """The RSAPrivateKey in DER. Secret: never log it."""
    return key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def encode_secret(kind: KeyType, secret: bytes) -> str:
    """The seed, scalar or RSAPrivateKey → `secretKeyMultibase`. Secret: never log it. Raises MultibaseError for another
    length, or what is no such key."""
    if kind == "RSA":
        load_rsa(secret)
    elif len(secret) != SECRET_SIZES[kind]:
        raise MultibaseError(f"a secret key of {kind} has {SECRET_SIZES[kind]} bytes, not {len(secret)}")
    codec = next(prefix for prefix, name in _SECRET.items() if name == kind)
    return multibase.encode(codec + secret)


def from_jwk(jwk: Mapping[str, Any]) -> str:
    """`publicKeyJwk` → the same key's Multikey value (RFC 7517, RFC 7518 §6.2.1, §6.3.1, RFC 8037 §2).

    Raises MultibaseError: another kind of key, a point that is not on its curve, an RSA key of a size that RSA_BITS has
    not, a JWK that holds a secret member, and one that is meant for something else than verifying our algorithms.
    """
    if SECRET_MEMBERS & jwk.keys():
        raise MultibaseError("the published JWK holds the secret key: nothing that it signs can be relied on")
    kind, text = _read_jwk(jwk)
    if jwk.get("use", "sig") != "sig" or ("key_ops" in jwk and "verify" not in _listed(jwk["key_ops"])):
        raise MultibaseError("the JWK is not meant for signatures (RFC 7517 §4.2, §4.3)")
    algorithm = jwk.get("alg")
    if algorithm is not None and not (isinstance(algorithm, str) and algorithm in JWK_ALGORITHMS[kind]):
        raise MultibaseError(
            f"the JWK is meant for {str(algorithm)[:60]!r}, not for {' or '.join(sorted(JWK_ALGORITHMS[kind]))}"
        )
    return text


def _read_jwk(jwk: Mapping[str, Any]) -> tuple[KeyType, str]:
    family, curve, x = jwk.get("kty"), jwk.get("crv"), jwk.get("x")
    if family == "OKP" and curve == "Ed25519":
        return "Ed25519", multibase.ed25519_public_encode(_coordinate(x, "x", 32))
    if family == "EC" and (curve == "P-256" or curve == "P-384"):
        kind: KeyType = curve
        size = SECRET_SIZES[kind]
        raw = b"\x04" + _coordinate(x, "x", size) + _coordinate(jwk.get("y"), "y", size)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[kind], raw)
        except ValueError:
            raise MultibaseError(f"not a point of the curve {kind}") from None
        return kind, encode_point(kind, point)
    if family == "RSA":
        numbers = rsa.RSAPublicNumbers(_integer(jwk.get("e"), "e"), _integer(jwk.get("n"), "n"))
        _check_rsa_size(numbers)
        try:
            return "RSA", encode_rsa(numbers.public_key())
        except ValueError:
            raise MultibaseError("n and e of the JWK are no RSA key") from None
    found = f"kty {str(family)[:60]!r}, crv {str(curve)[:60]!r}"
    raise MultibaseError(f"a JWK of {found}: Ed25519, P-256, P-384 and RSA are read")


def to_jwk(public_key_multibase: str) -> dict[str, str]:
    """A Multikey value → the same key as `publicKeyJwk`. Raises MultibaseError."""
    key = decode_public(public_key_multibase)
    if key.type == "Ed25519":
        return {"kty": "OKP", "crv": "Ed25519", "x": multibase.base64url_encode(key.raw)}
    if key.type == "RSA":
        numbers = key.rsa().public_numbers()
        return {"kty": "RSA", "n": _base64url_uint(numbers.n), "e": _base64url_uint(numbers.e)}
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


def _integer(value: object, name: str) -> int:
    """RFC 7518 §2 Base64urlUInt: big-endian, in as few bytes as hold it."""
    if not isinstance(value, str) or not 0 < len(value) <= 700:  # 4096 bits have 683 characters
        raise MultibaseError(f"{name} of the JWK is not a base64url number of at most {RSA_BITS.stop - 1} bits")
    raw = multibase.base64url_decode(value)
    if raw[:1] == b"\0":
        raise MultibaseError(f"{name} of the JWK starts with a zero byte (RFC 7518 §6.3.1.1)")
    return int.from_bytes(raw, "big")


def _base64url_uint(number: int) -> str:
    return multibase.base64url_encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
