"""Bitstring Status List 1.0 (W3C Recommendation): who was revoked, as a compressed string of bits."""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from datetime import datetime
from typing import Any

from laurel.credential import multibase
from laurel.credential.contexts import CREDENTIALS_V2
from laurel.credential.text import timestamp
from laurel.errors import LaurelError

MINIMUM_ENTRIES = 131_072  # Bitstring Status List 1.0 §3.4: at least 16 KB, for the privacy of the herd
_GZIP_HEADER = (
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"  # RFC 1952 §2.3: no name, mtime 0, best compression, OS unknown
)
_FEISTEL_ROUNDS = 6


class StatusError(LaurelError):
    """A status list or entry is not usable. `code`: malformed_list, list_too_large or range (§3.2 RANGE_ERROR)."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type[StatusError], tuple[str, str]]:
        return type(self), (self.code, self.detail)


def encode_list(bits: bytes | bytearray) -> str:
    """`encodedList`: multibase base64url of the GZIP of `bits` (§3.3). The same bits always give the same text.

    Raises StatusError("range") below MINIMUM_ENTRIES bits.
    """
    if len(bits) * 8 < MINIMUM_ENTRIES:
        raise StatusError("range", f"a list has at least {MINIMUM_ENTRIES} entries, not {len(bits) * 8}")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(bits) + deflate.flush()
    return "u" + multibase.base64url_encode(
        _GZIP_HEADER + body + struct.pack("<II", zlib.crc32(bits), len(bits) & 0xFFFFFFFF)
    )


def decode_list(encoded: str, *, max_bytes: int = 4 * 1024 * 1024) -> bytes:
    """The bits of an `encodedList`, at most `max_bytes` of them: a GZIP bomb is refused while it unfolds.

    Lists of the older Status List 2021 have no multibase prefix and are read too.
    Raises StatusError "malformed_list" or "list_too_large".
    """
    if not isinstance(encoded, str):
        raise StatusError("malformed_list", "encodedList is not a string")
    if len(encoded) > max_bytes * 2:
        raise StatusError("list_too_large", f"encodedList has {len(encoded)} characters")
    try:
        packed = multibase.base64url_decode(encoded[1:] if encoded.startswith("u") else encoded)
    except multibase.MultibaseError as error:
        raise StatusError("malformed_list", f"encodedList is not multibase base64url: {error}") from None
    inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        bits = inflate.decompress(packed, max_bytes + 1)
    except zlib.error as error:
        raise StatusError("malformed_list", f"encodedList is not GZIP: {error}") from None
    if len(bits) > max_bytes:
        raise StatusError("list_too_large", f"the list unfolds to more than {max_bytes} bytes")
    if not inflate.eof or inflate.unused_data:
        raise StatusError("malformed_list", "encodedList is truncated or has bytes after its end")
    return bits


def bit(data: bytes | bytearray, index: int) -> bool:
    """The bit at `index`; index 0 is the left-most bit of the first byte (§3.2). Raises StatusError("range")."""
    if not 0 <= index < len(data) * 8:
        raise StatusError("range", f"index {index} is outside of a list of {len(data) * 8} entries")
    return bool(data[index >> 3] >> (7 - (index & 7)) & 1)


def set_bit(data: bytearray, index: int) -> None:
    """Set the bit at `index`. Raises StatusError("range")."""
    if not 0 <= index < len(data) * 8:
        raise StatusError("range", f"index {index} is outside of a list of {len(data) * 8} entries")
    data[index >> 3] |= 0x80 >> (index & 7)


@functools.lru_cache(maxsize=65_536)
def _round(key: bytes, number: int, value: int) -> int:
    digest = hashlib.blake2b(
        value.to_bytes(8, "big"), digest_size=8, key=key, person=b"laurel-status%d" % number
    ).digest()
    return int.from_bytes(digest, "big")


def permute(index: int, key: bytes, size: int) -> int:
    """A keyed bijection on [0, size): the place of the `index`-th allocation, random-looking and without collisions.

    A Feistel network over the smallest power of two that holds `size`, walking its cycle until it is back in range
    (at most 2 steps on average). `key`: 1 to 64 bytes. Raises StatusError("range") for an index outside of the list.
    """
    if not 0 <= index < size:
        raise StatusError("range", f"index {index} is outside of a list of {size} entries")
    bits = max(2, (size - 1).bit_length())
    right_bits = bits // 2
    left_bits = bits - right_bits
    while True:
        left, right = index >> right_bits, index & ((1 << right_bits) - 1)
        for number in range(0, _FEISTEL_ROUNDS, 2):  # the halves may differ in width: change one, then the other
            left ^= _round(key, number, right) & ((1 << left_bits) - 1)
            right ^= _round(key, number + 1, left) & ((1 << right_bits) - 1)
        index = left << right_bits | right
        if index < size:
            return index


def status_entry(list_url: str, index: int, purpose: str = "revocation") -> dict[str, Any]:
    """A `BitstringStatusListEntry` for `credentialStatus` (§2.1)."""
    return {
        "id": f"{list_url}#{index}",
        "type": "BitstringStatusListEntry",
        "statusPurpose": purpose,
        "statusListIndex": str(index),
        "statusListCredential": list_url,
    }


def build_status_list(
    id: str,  # noqa: A002 - the field's name
    issuer: str,
    purpose: str,
    encoded: str,
    valid_from: datetime,
    ttl_ms: int | None = None,
    valid_until: datetime | None = None,
) -> dict[str, Any]:
    """An unsigned `BitstringStatusListCredential` (§2.2). `id` is its URL; `ttl_ms` in milliseconds; times aware."""
    subject: dict[str, Any] = {
        "id": f"{id}#list",
        "type": "BitstringStatusList",
        "statusPurpose": purpose,
        "encodedList": encoded,
    }
    if ttl_ms is not None:
        subject["ttl"] = ttl_ms
    document: dict[str, Any] = {
        "@context": [CREDENTIALS_V2],
        "id": id,
        "type": ["VerifiableCredential", "BitstringStatusListCredential"],
        "issuer": issuer,
        "validFrom": timestamp(valid_from),
        "credentialSubject": subject,
    }
    if valid_until is not None:
        document["validUntil"] = timestamp(valid_until)
    return document
