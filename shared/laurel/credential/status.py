"""Bitstring Status List 1.0 (W3C Recommendation): what became of credentials, as a compressed string of bits.

An entry has `statusSize` bits, 1 to 8 here: one for revocation, suspension and refresh, more for messages. How wide a
list's entries are stands in the entries alone: `statusSize` and `statusMessages` of the list, of which §2.2 still
speaks, moved there before the Recommendation (w3c/vc-bitstring-status-list#175) and no context defines them.
"""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from collections.abc import Sequence
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
MAX_SIZE = 8  # bits of an entry that we write and read: 256 messages; the standard has no limit
UNDEFINED = "undefined"  # §2.1 statusMessage: what a value without a meaning says
_MOST_MEMBERS = 16  # of a GZIP file; each costs a copy of what follows it
_FEISTEL_ROUNDS = 6


class StatusError(LaurelError):
    """A status list or entry is not usable.

    `code`: malformed_list, list_too_large, list_too_short (§3.2 STATUS_LIST_LENGTH_ERROR), range (§3.2 RANGE_ERROR) or
    bad_entry (§2.1).
    """

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


def decode_list(encoded: str, *, max_bytes: int = 4 * 1024 * 1024, multibase_prefix: bool = True) -> bytes:
    """The bits of an `encodedList` (§3.4), at most `max_bytes` of them: a GZIP bomb is refused while it unfolds.

    Strict, so that no two readers find different bits: base64url without padding (§2.2); GZIP and not bare zlib; after
    its last member nothing (RFC 1952 §2.2, which allows several members). multibase_prefix: lists of Status List 2021
    have none. Raises StatusError "malformed_list" or "list_too_large".
    """
    if not isinstance(encoded, str):
        raise StatusError("malformed_list", "encodedList is not a string")
    if len(encoded) > max_bytes * 2:
        raise StatusError("list_too_large", f"encodedList has {len(encoded)} characters")
    if multibase_prefix and not encoded.startswith("u"):
        raise StatusError("malformed_list", 'encodedList is not multibase base64url: it does not start with "u"')
    try:
        packed = multibase.base64url_decode(encoded.removeprefix("u"))
    except multibase.MultibaseError as error:
        raise StatusError("malformed_list", f"encodedList is not multibase base64url: {error}") from None
    bits = b""
    for _ in range(_MOST_MEMBERS):
        inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            bits += inflate.decompress(packed, max_bytes + 1 - len(bits))
        except zlib.error as error:
            raise StatusError("malformed_list", f"encodedList is not GZIP: {error}") from None
        if len(bits) > max_bytes:
            raise StatusError("list_too_large", f"the list unfolds to more than {max_bytes} bytes")
        if not inflate.eof:
            raise StatusError("malformed_list", "encodedList is truncated")
        packed = inflate.unused_data
        if not packed:
            return bits
    raise StatusError("malformed_list", f"encodedList is GZIP of more than {_MOST_MEMBERS} members")


def entries(data: bytes | bytearray, size: int = 1) -> int:
    """How many entries of `size` bits a list holds."""
    return len(data) * 8 // size


def lookup(data: bytes | bytearray, index: int, size: int = 1) -> int:
    """The status at `index` of somebody's list: steps 9 and 10 of §3.2, so a list too short for a herd is refused.

    Raises StatusError "list_too_short", "range" or "bad_entry".
    """
    _check_size(size)
    if entries(data, size) < MINIMUM_ENTRIES:
        detail = f"the list has {entries(data, size)} entries of {size} bits; at least {MINIMUM_ENTRIES} are asked for"
        raise StatusError("list_too_short", detail)
    return value(data, index, size)


def value(data: bytes | bytearray, index: int, size: int = 1) -> int:
    """The `size` bits of the entry at `index`, most significant first; index 0 is left-most (§2.2, §3.2).

    Raises StatusError "range" or "bad_entry".
    """
    start, shift = _place(data, index, size)
    return int.from_bytes(data[start : start + 2].ljust(2, b"\0"), "big") >> shift & (1 << size) - 1


def set_value(data: bytearray, index: int, new: int, size: int = 1) -> None:
    """Write `new` into the `size` bits of the entry at `index`. Raises StatusError "range" or "bad_entry"."""
    start, shift = _place(data, index, size)
    if not 0 <= new < 1 << size:
        raise StatusError("bad_entry", f"the status {new} does not fit into {size} bits")
    pair = int.from_bytes(data[start : start + 2].ljust(2, b"\0"), "big")
    pair = pair & ~((1 << size) - 1 << shift) | new << shift
    data[start : start + 2] = pair.to_bytes(2, "big")[: len(data) - start]


def _place(data: bytes | bytearray, index: int, size: int) -> tuple[int, int]:
    """The byte in which the entry begins, and how far it is from the end of this byte and the next."""
    _check_size(size)
    if not 0 <= index < entries(data, size):
        raise StatusError("range", f"index {index} is outside of a list of {entries(data, size)} entries")
    first = index * size
    return first >> 3, 16 - size - (first & 7)


def _check_size(size: int) -> None:
    if not 1 <= size <= MAX_SIZE:
        raise StatusError("bad_entry", f"a statusSize of {size} bits; 1 to {MAX_SIZE} are read and written here")


# A list of 131,072 entries has 2,304 of these (rounds × values of a half): enough for the few that are being filled.
# More room would be taken by lists that are long full, for hours: memory that seems to leak.
@functools.lru_cache(maxsize=8_192)
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


def size_of(messages: Sequence[str]) -> int:
    """`statusSize` for a message for each value from 0 on: the bits of the last value, at least 1.

    Raises StatusError("bad_entry") for no message, or more than 2**MAX_SIZE.
    """
    if not 1 <= len(messages) <= 1 << MAX_SIZE:
        raise StatusError("bad_entry", f"{len(messages)} status messages; an entry has 1 to {1 << MAX_SIZE}")
    return max(1, (len(messages) - 1).bit_length())


def status_entry(
    list_url: str,
    index: int,
    purpose: str = "revocation",
    messages: Sequence[str] = (),
    reference: str | None = None,
) -> dict[str, Any]:
    """A `BitstringStatusListEntry` for `credentialStatus` (§2.1).

    messages: what the values from 0 on mean; they give the entry its `statusSize`, and values beyond them are
    `undefined`. reference: `statusReference`, the URL of a page about them. Raises StatusError("bad_entry").
    """
    entry: dict[str, Any] = {
        "id": f"{list_url}#{index}",
        "type": "BitstringStatusListEntry",
        "statusPurpose": purpose,
        "statusListIndex": str(index),
        "statusListCredential": list_url,
    }
    if messages:
        size = size_of(messages)
        named = [*messages, *[UNDEFINED] * ((1 << size) - len(messages))]
        entry["statusSize"] = size
        entry["statusMessage"] = [{"status": hex(status), "message": text} for status, text in enumerate(named)]
    if reference is not None:
        entry["statusReference"] = reference
    return entry


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
