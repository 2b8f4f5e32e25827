"""Multibase, multicodec and base58btc: how keys and signatures are written in Data Integrity documents.

(Controlled Identifiers 1.0 §2.4 Multibase, §2.2.2 Multikey; VC DI EdDSA §2.1.1.)
"""

from __future__ import annotations

import base64
import binascii
import functools
import re

from laurel.errors import LaurelError

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = bytes.maketrans(_ALPHABET.encode(), bytes(range(58)))
_FOUR = 58**4  # below 2**30: Python divides a big number by a small one in one run
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]

ED25519_PUBLIC = b"\xed\x01"  # multicodec ed25519-pub 0xed as varint
ED25519_SECRET = b"\x80\x26"  # multicodec ed25519-priv 0x1300 as varint

# multicodec public keys by their varint, with the length of the key; None: any (an encoded structure).
_PUBLIC_KEYS: dict[bytes, int | None] = {
    ED25519_PUBLIC: 32, b"\xec\x01": 32, b"\xe7\x01": 33, b"\x80\x24": 33, b"\x81\x24": 49, b"\x82\x24": 67,
    b"\xeb\x01": 96, b"\x85\x24": None, b"\xd1\xd6\x03": None,
}  # fmt: skip  # ed25519, x25519, secp256k1, p256, p384, p521, bls12_381-g2; rsa, jwk_jcs

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class MultibaseError(LaurelError):
    """The text is not the multibase value that it should be; the message says what is wrong."""


def base58_encode(data: bytes) -> str:
    """Base58btc without a multibase prefix."""
    number = int.from_bytes(data, "big")
    pairs: list[str] = []
    while number:
        number, four = divmod(number, _FOUR)
        pairs.append(_PAIRS[four % 58**2])
        pairs.append(_PAIRS[four // 58**2])
    pairs.reverse()
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(pairs).lstrip("1")


def base58_decode(text: str) -> bytes:
    """The bytes of a base58btc text (no prefix). Raises MultibaseError for a foreign character."""
    raw = text.encode("utf-8", "surrogatepass")
    if foreign := raw.translate(None, _ALPHABET.encode()):
        raise MultibaseError(f"{foreign.decode('utf-8', 'surrogatepass')[0]!r} is not a base58btc character")
    number = int.from_bytes(raw.translate(_DIGITS), "big")  # a digit in each byte
    for width, base, right in _joints(len(raw)):
        number = (number >> width & right) * base + (number & right)
    zeros = len(raw) - len(raw.lstrip(b"1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


@functools.lru_cache(maxsize=256)
def _joints(length: int) -> list[tuple[int, int, int]]:
    """How so many digits become one number: neighbours are joined, all pairs at once, then pairs of pairs, and so on.

    Each step: the bits of a part, what the left one counts, and a mask over all the right ones.
    """
    steps: list[tuple[int, int, int]] = []
    size, base = 1, 58  # bytes of a part
    while size < length:
        pair = b"\0" * size + b"\xff" * size
        steps.append((8 * size, base, int.from_bytes(pair * -(-length // len(pair)), "big")))
        size, base = 2 * size, base * base
    return steps


def encode(data: bytes) -> str:
    """Multibase base58btc: "z" and the base58 text."""
    return "z" + base58_encode(data)


def decode(text: str, *, max_length: int = 1024) -> bytes:
    """The bytes of a multibase text in base58btc ("z") or base64url without padding ("u").

    `max_length` bounds the text, because base58 costs quadratic time. Raises MultibaseError.
    """
    if len(text) > max_length:
        raise MultibaseError(f"multibase text of {len(text)} characters; at most {max_length} are allowed")
    if text[:1] == "z":
        return base58_decode(text[1:])
    if text[:1] == "u":
        return base64url_decode(text[1:])
    raise MultibaseError(f"multibase prefix {text[:1]!r} is not supported: 'z' (base58btc) or 'u' (base64url)")


def is_public_key(data: bytes) -> bool:
    """Whether these bytes are a multicodec public key of a kind that did:key names, complete by its length."""
    for codec, length in _PUBLIC_KEYS.items():
        if data.startswith(codec):
            rest = len(data) - len(codec)
            return rest == length if length is not None else rest >= 32
    return False


def base64url_encode(data: bytes) -> str:
    """Base64url without padding and without a multibase prefix."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def base64url_decode(text: str) -> bytes:
    """The bytes of an unpadded base64url text. Strict: padding, other alphabets and stray bits are MultibaseErrors."""
    if not _BASE64URL.fullmatch(text):
        raise MultibaseError("not base64url without padding: only A-Z a-z 0-9 - _ are allowed")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise MultibaseError(f"not base64url: {error}") from None
    # RFC 4648 §3.5: other trailing bits would write one value in several ways.
    if len(text) % 4 and base64url_encode(data[-(len(data) % 3 or 3) :])[-1:] != text[-1:]:
        raise MultibaseError("not base64url: the unused bits of the last character are not zero")
    return data


def _multikey(codec: bytes, name: str, key: bytes) -> str:
    if len(key) != 32:
        raise MultibaseError(f"an Ed25519 {name} has 32 bytes, not {len(key)}")
    return encode(codec + key)


def _from_multikey(codec: bytes, name: str, text: str) -> bytes:
    if text[:1] != "z":
        raise MultibaseError("a Multikey value is base58btc and starts with 'z'")
    data = decode(text)
    if data[:2] != codec or len(data) != 34:
        raise MultibaseError(f"not an Ed25519 {name} in Multikey form")
    return data[2:]


def ed25519_public_encode(key: bytes) -> str:
    """32 public bytes → `publicKeyMultibase` ("z6Mk…")."""
    return _multikey(ED25519_PUBLIC, "public key", key)


def ed25519_public_decode(text: str) -> bytes:
    """`publicKeyMultibase` ("z6Mk…") → 32 bytes. Raises MultibaseError for any other key type."""
    return _from_multikey(ED25519_PUBLIC, "public key", text)


def ed25519_seed_encode(seed: bytes) -> str:
    """32 seed bytes → `secretKeyMultibase` ("z3u2…"). Secret: never log it."""
    return _multikey(ED25519_SECRET, "secret key", seed)


def ed25519_seed_decode(text: str) -> bytes:
    """`secretKeyMultibase` → the 32-byte seed. Raises MultibaseError."""
    return _from_multikey(ED25519_SECRET, "secret key", text)
