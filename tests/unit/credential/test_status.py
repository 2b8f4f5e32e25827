from __future__ import annotations

import base64
import gzip
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laurel.credential import status
from tests.unit.credential.samples import status_list

SIZE = status.MINIMUM_ENTRIES // 8


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, status.MINIMUM_ENTRIES - 1), max_size=200))
def test_bits_survive_encoding(indexes: set[int]) -> None:
    bits = bytearray(SIZE)
    for index in indexes:
        status.set_bit(bits, index)
    encoded = status.encode_list(bits)
    assert encoded == status.encode_list(bytes(bits))
    decoded = status.decode_list(encoded, max_bytes=SIZE)
    assert {index for index in range(status.MINIMUM_ENTRIES) if status.bit(decoded, index)} == indexes


def test_index_0_is_the_leftmost_bit() -> None:
    bits = bytearray(SIZE)
    status.set_bit(bits, 0)
    status.set_bit(bits, 15)
    assert bits[:2] == b"\x80\x01"


def test_the_encoding_is_what_the_standard_asks_for() -> None:
    encoded = status.encode_list(bytes(SIZE))
    assert encoded[0] == "u"
    assert "=" not in encoded
    packed = base64.urlsafe_b64decode(encoded[1:] + "=" * (-len(encoded[1:]) % 4))
    assert gzip.decompress(packed) == bytes(SIZE)
    assert packed[4:8] == bytes(4)  # no time in it: the same list is the same text


def test_lists_without_the_multibase_prefix_are_read() -> None:
    encoded = status.encode_list(bytes(SIZE))
    assert status.decode_list(encoded[1:]) == bytes(SIZE)  # Status List 2021


def test_small_lists_are_not_made() -> None:
    with pytest.raises(status.StatusError, match="131072"):
        status.encode_list(bytes(SIZE - 1))


def _multibase(data: bytes) -> str:
    return "u" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def test_a_gzip_bomb_is_refused_while_it_unfolds() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(256)) + deflate.flush()
    assert len(bomb) < 1 << 19
    tracemalloc.start()
    try:
        with pytest.raises(status.StatusError) as refused:
            status.decode_list(_multibase(bomb), max_bytes=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.code == "list_too_large"
    assert peak < 1 << 24


@pytest.mark.parametrize(
    "encoded",
    [
        "", "u", "uAAAA", "u!!", "not base64", None, 5,
        _multibase(gzip.compress(bytes(SIZE))[:-1]),
        _multibase(gzip.compress(bytes(SIZE)) + b"x"),
        _multibase(gzip.compress(bytes(SIZE)).replace(b"\x1f\x8b", b"\x1f\x8c", 1)),
        _multibase(zlib.compress(bytes(SIZE))),
        _multibase(gzip.compress(bytes(SIZE)))[:-6] + "AAAAAA",
    ],
)  # fmt: skip
def test_malformed_lists_have_a_name(encoded: str) -> None:
    with pytest.raises(status.StatusError) as refused:
        status.decode_list(encoded)
    assert refused.value.code == "malformed_list"


@pytest.mark.parametrize("index", [-1, SIZE * 8, 10**12])
def test_indexes_outside_are_range_errors(index: int) -> None:
    for call in (lambda: status.bit(bytes(SIZE), index), lambda: status.set_bit(bytearray(SIZE), index)):
        with pytest.raises(status.StatusError, match="range"):
            call()


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 3000), key=st.binary(min_size=1, max_size=64))
def test_permute_is_a_bijection(size: int, key: bytes) -> None:
    assert sorted(status.permute(index, key, size) for index in range(size)) == list(range(size))


def test_permute_looks_random_and_depends_on_the_key() -> None:
    size = status.MINIMUM_ENTRIES
    places = [status.permute(index, b"list-1", size) for index in range(size)]
    assert len(set(places)) == size
    assert places[:100] != [status.permute(index, b"list-2", size) for index in range(100)]
    assert sum(abs(b - a) < 100 for a, b in pairwise(places)) < size / 100
    for half in range(2):  # the first tenth of the allocations is spread over the whole list
        tenth = places[: size // 10]
        inside = sum(half * size // 2 <= place < (half + 1) * size // 2 for place in tenth)
        assert abs(inside - len(tenth) / 2) < len(tenth) / 20
    with pytest.raises(status.StatusError):
        status.permute(size, b"list-1", size)


def test_permute_never_changes() -> None:
    # Indexes in issued credentials depend on it.
    assert [status.permute(index, b"k", 131_072) for index in range(5)] == [23469, 103488, 18090, 89001, 126548]


def test_documents() -> None:
    document = status_list(5)
    assert document["type"] == ["VerifiableCredential", "BitstringStatusListCredential"]
    assert document["credentialSubject"]["ttl"] == 300_000
    assert document["credentialSubject"]["id"] == document["id"] + "#list"
    entry = status.status_entry("https://x.example/status/1", 5, "suspension")
    assert entry == {
        "id": "https://x.example/status/1#5",
        "type": "BitstringStatusListEntry",
        "statusPurpose": "suspension",
        "statusListIndex": "5",
        "statusListCredential": "https://x.example/status/1",
    }
