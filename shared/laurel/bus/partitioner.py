"""Which partition a key belongs to: Kafka's default partitioner, so that other producers find the same."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF  # Kafka takes the hash for a signed integer, and drops its sign
_MULTIPLIER = 0x5BD1E995
_SIDE_BY_SIDE = 4  # keys, from which on it costs less
_LONGEST = 64  # bytes of a key, up to which it does: it grows with the square of the length


def partition_for(key: bytes, partitions: int) -> int:
    """The partition of ``key`` among ``partitions``."""
    return (murmur2(key) & _POSITIVE) % partitions


def positions(keys: Sequence[bytes]) -> Sequence[int]:
    """What `partition_for` divides by the number of partitions, of each key; of equally long ones, as ids are, for a
    quarter of the cost."""
    length = len(keys[0]) if keys else 0
    if len(keys) < _SIDE_BY_SIDE or length > _LONGEST or any(len(key) != length for key in keys):
        return [murmur2(key) & _POSITIVE for key in keys]
    return _side_by_side(keys, length)


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit MurmurHash2 (seed 0x9747B28C), as an unsigned integer."""
    length = len(data)
    h = _SEED ^ length
    whole = length & ~3
    for four in struct.unpack_from(f"<{length // 4}I", data):
        k = (four * _MULTIPLIER) & _MASK
        h = ((h * _MULTIPLIER) ^ ((k ^ (k >> 24)) * _MULTIPLIER)) & _MASK
    if length > whole:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER) & _MASK
    h = ((h ^ (h >> 13)) * _MULTIPLIER) & _MASK
    return h ^ (h >> 15)


def _side_by_side(keys: Sequence[bytes], length: int) -> Sequence[int]:
    """The same for keys of one length, each in a lane of one long integer. A lane has room for a product: 64 bits."""
    lane = max(8, (length + 3) & ~3)
    every = _in_every_lane(lane, len(keys))
    low = every * _MASK
    data = int.from_bytes(bytes(lane - length).join(keys), "little")
    whole = (length & ~3) * 8
    h = every * (_SEED ^ length)
    for at in range(0, whole, 32):
        k = ((data >> at) & low) * _MULTIPLIER & low
        h = (h * _MULTIPLIER ^ (k ^ (k >> 24 & low)) * _MULTIPLIER) & low
    if length & 3:
        h = (h ^ (data >> whole & low)) * _MULTIPLIER & low
    h = (h ^ (h >> 13 & low)) * _MULTIPLIER & low
    h ^= h >> 15 & low
    h &= every * _POSITIVE
    words = h.to_bytes(lane * len(keys), "little")
    return struct.unpack(f"<{len(words) // 4}I", words)[:: lane // 4]


@lru_cache(maxsize=64)
def _in_every_lane(lane: int, lanes: int) -> int:
    """1 in each lane."""
    return int.from_bytes((b"\1" + bytes(lane - 1)) * lanes, "little")
