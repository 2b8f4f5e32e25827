"""Identifiers: time-ordered ones for rows, keyed ones for what the outside may see but must not enumerate."""

from __future__ import annotations

import hashlib
import os
import time
from functools import lru_cache


def uuid7(now_ms: int | None = None, randomness: bytes | None = None) -> str:
    """A UUID version 7 (RFC 9562 §5.7) as text: inserts in key order, so indexes stay fast as tables grow.

    now_ms: Unix time in milliseconds; randomness: 10 bytes. Both default to the real thing.
    """
    time_part = f"{time.time_ns() // 1_000_000 if now_ms is None else now_ms:012x}"
    tail = _ten_bytes() if randomness is None else randomness.hex()
    # Sign by sign: three of these are made for every credential, and bytes would cost twice as much.
    return f"{time_part[:8]}-{time_part[8:]}-7{tail[1:4]}-{_VARIANT[tail[4]]}{tail[5:8]}-{tail[8:]}"


_AT_ONCE = 256
_stock: list[str] = []
os.register_at_fork(after_in_child=_stock.clear)  # else two processes would hand out the same


def _ten_bytes() -> str:
    """Ten random bytes, hexadecimal: fetched for many ids at once, as asking the system costs more than the rest."""
    try:
        return _stock.pop()
    except IndexError:
        fresh = os.urandom(10 * _AT_ONCE).hex()
        _stock.extend(fresh[at : at + 20] for at in range(20, 20 * _AT_ONCE, 20))
        return fresh[:20]


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # RFC 9562 §4.1: bits 10, two random


def credential_id(
    id_key: bytes, *, tenant_id: str, achievement_id: str, learner: str, award: int, relation: int = 0
) -> str:
    """The id of the credential that this award leads to: a keyed BLAKE2b in the shape of a UUID version 8.

    The same award always has the same id, so no redelivery can double it; without `id_key` nobody can compute or
    enumerate one (RFC 9562 §5.8 leaves the bits of version 8 to us). The first 32 bits are those of its achievement:
    what is earned together stands together in every index, however much was earned before (ADR 0004); of the others, 90
    are its own. relation: how often the learner was erased before; what is earned afterwards has ids of its own
    (ADR 0016).
    """
    again = (str(relation),) if relation else ()
    own = _keyed_uuid(id_key, b"credential", tenant_id, achievement_id, learner, str(award), *again)
    return _text(_achievement_prefix(id_key, tenant_id, achievement_id) + own[4:])


@lru_cache(maxsize=1024)
def _achievement_prefix(id_key: bytes, tenant_id: str, achievement_id: str) -> bytes:
    """How the ids of an achievement's credentials begin."""
    return _keyed_uuid(id_key, b"achievement", tenant_id, achievement_id)[:4]


def endorsement_id(id_key: bytes, *, tenant_id: str, profile_id: str, request: str) -> str:
    """The id of the endorsement that `request` (an idempotency key, or the content itself) leads to, made likewise."""
    return _text(_keyed_uuid(id_key, b"endorsement", tenant_id, profile_id, request))


def learner_key(id_key: bytes, *, tenant_id: str, learner: str, relation: int = 0) -> bytes:
    """A pseudonym of a learner within a tenant (16 bytes): equal for equal learners, meaningless without `id_key`.

    relation: as of `credential_id`.
    """
    return _keyed_uuid(id_key, b"learner", tenant_id, learner, *((str(relation),) if relation else ()))


def _keyed_uuid(id_key: bytes, purpose: bytes, *parts: str) -> bytes:
    if len(id_key) < 32:
        raise ValueError("id_key must have at least 32 bytes; make one with `laurel secrets`")
    digest = hashlib.blake2b(key=id_key[:64], digest_size=16, person=purpose.ljust(16, b"\0"))
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big"))  # length-prefixed: ("ab", "c") and ("a", "bc") must differ
        digest.update(encoded)
    raw = bytearray(digest.digest())
    raw[6] = 0x80 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return bytes(raw)


def _text(raw: bytes) -> str:
    # uuid.UUID says the same at six times the cost, and this runs several times for every result.
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
