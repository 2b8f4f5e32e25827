"""Encoded status lists: GZIP within base64url, bombs among them, held to a size however they unfold."""

from __future__ import annotations

import gzip
import zlib

from laurel.credential import multibase, status

MOST = 1 << 16
SEEDS = (
    b"\x00" + gzip.compress(bytes(16_384), mtime=0), b"\x00" + gzip.compress(bytes(1 << 20), mtime=0),
    b"\x01uH4sIAAAAAAAA",
    b"\x00" + gzip.compress(b"a" * 100, mtime=0) * 3, b"\x02" + bytes(40), b"\x00" + zlib.compress(bytes(100)),
    b"\x01" + b"=" * 9,
)  # fmt: skip


def read(data: bytes) -> None:
    kind = data[:1]
    if kind == b"\x01":
        encoded = data[1:].decode("utf-8", "replace")
    elif kind == b"\x02":
        encoded = "u" + multibase.base64url_encode(gzip.compress(data[1:] * 64, mtime=0))
    else:
        encoded = "u" + multibase.base64url_encode(data[1:])
    try:
        bits = status.decode_list(encoded, max_bytes=MOST)
    except status.StatusError as error:
        assert error.detail
        return
    assert len(bits) <= MOST
    for index in (0, 7, len(bits) * 8 - 1, len(bits) * 8, -1, 1 << 40):
        try:
            status.value(bits, index)
        except status.StatusError as error:
            assert error.code == "range"
