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
        status.set_value(bits, index, 1)
    encoded = status.encode_list(bits)
    assert encoded == status.encode_list(bytes(bits))
    decoded = status.decode_list(encoded, max_bytes=SIZE)
    assert {index for index in range(status.MINIMUM_ENTRIES) if status.value(decoded, index)} == indexes


def test_index_0_is_the_leftmost_bit() -> None:
    bits = bytearray(SIZE)
    status.set_value(bits, 0, 1)
    status.set_value(bits, 15, 1)
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
    assert status.decode_list(encoded[1:], multibase_prefix=False) == bytes(SIZE)  # Status List 2021
    with pytest.raises(status.StatusError, match="does not start with"):  # Bitstring Status List 1.0 §2.2
        status.decode_list(encoded[1:])


def test_small_lists_are_not_made() -> None:
    with pytest.raises(status.StatusError, match="131072"):
        status.encode_list(bytes(SIZE - 1))


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # test names may not depend on the time: workers compare them


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
        _multibase(_gzip(bytes(SIZE))[:-1]),
        _multibase(_gzip(bytes(SIZE)) + b"x"),
        _multibase(_gzip(bytes(SIZE)) + bytes(8)),  # GNU gzip takes zeros for padding, RFC 1952 does not
        _multibase(_gzip(bytes(SIZE)) + _gzip(b"")[:-1]),
        _multibase(_gzip(b"") * 17),
        _multibase(_gzip(bytes(SIZE))) + "=",  # §2.2: with no padding
        "u" + base64.b64encode(_gzip(bytes(range(256)) * 64)).decode().rstrip("="),  # not the URL alphabet
        "z" + _multibase(_gzip(bytes(SIZE)))[1:],
        _gzip(bytes(SIZE)).hex(),
        _multibase(zlib.compress(bytes(SIZE))[2:-4]),
        _multibase(_gzip(bytes(SIZE)).replace(b"\x1f\x8b", b"\x1f\x8c", 1)),
        _multibase(zlib.compress(bytes(SIZE))),
        _multibase(_gzip(bytes(SIZE)))[:-6] + "AAAAAA",
    ],
)  # fmt: skip
def test_malformed_lists_have_a_name(encoded: str) -> None:
    with pytest.raises(status.StatusError) as refused:
        status.decode_list(encoded)
    assert refused.value.code == "malformed_list"


def test_gzip_of_several_members_is_read_whole_and_within_the_limit() -> None:
    # RFC 1952 §2.2: a GZIP file is a series of members.
    halves = bytes(SIZE // 2), bytes(range(256)) * (SIZE // 512)
    packed = _multibase(b"".join(map(_gzip, halves)))
    assert status.decode_list(packed, max_bytes=SIZE) == halves[0] + halves[1]
    with pytest.raises(status.StatusError, match="list_too_large"):
        status.decode_list(packed, max_bytes=SIZE - 1)


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, status.MAX_SIZE),
    written=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=60),
    spare=st.integers(0, 3),
)
def test_values_are_what_a_string_of_bits_says(size: int, written: list[tuple[int, int]], spare: int) -> None:
    # The oracle is the text of §3.2: "the value in the bitstring at the position index × size".
    data = bytearray(400 * size // 8 + spare)
    digits = ["0"] * (len(data) * 8)
    for index, number in written:
        number %= 1 << size
        status.set_value(data, index, number, size)
        digits[index * size : (index + 1) * size] = f"{number:0{size}b}"
    text = "".join(digits)
    assert f"{int.from_bytes(data, 'big'):0{len(data) * 8}b}" == text
    for index in range(len(text) // size):
        assert status.value(data, index, size) == int(text[index * size : (index + 1) * size], 2)
    with pytest.raises(status.StatusError, match="range"):
        status.value(data, len(text) // size, size)


def test_single_bits_are_values_of_one_bit() -> None:
    data = bytearray(SIZE)
    status.set_value(data, 9, 1)
    assert (status.value(data, 9), status.value(data, 8)) == (1, 0)
    status.set_value(data, 9, 0)
    assert data == bytes(SIZE)


@pytest.mark.parametrize(("size", "new"), [(1, 2), (2, 4), (8, 256), (3, -1), (0, 0), (9, 1), (-1, 0)])
def test_what_does_not_fit_is_not_written(size: int, new: int) -> None:
    data = bytearray(SIZE)
    with pytest.raises(status.StatusError, match="bad_entry"):
        status.set_value(data, 0, new, size)
    assert data == bytes(SIZE)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_a_list_too_short_for_its_size_tells_nothing(size: int) -> None:
    # §3.2 step 9: the length divided by statusSize.
    data = bytearray(SIZE * size)
    status.set_value(data, status.MINIMUM_ENTRIES - 1, 1, size)
    assert status.lookup(data, status.MINIMUM_ENTRIES - 1, size) == 1
    with pytest.raises(status.StatusError, match="range"):
        status.lookup(data, status.MINIMUM_ENTRIES, size)
    for index in (0, status.MINIMUM_ENTRIES):
        with pytest.raises(status.StatusError, match="list_too_short"):
            status.lookup(data[:-1], index, size)


@pytest.mark.parametrize("index", [-1, SIZE * 8, 10**12])
def test_indexes_outside_are_range_errors(index: int) -> None:
    for call in (lambda: status.value(bytes(SIZE), index), lambda: status.set_value(bytearray(SIZE), index, 1)):
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


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4), (17, 5), (256, 8)])
def test_an_entry_with_messages_has_one_for_every_value(count: int, size: int) -> None:
    # §2.1: 2 elements if statusSize has 1 bit, 4 if 2, 8 if 3; an unassigned value says `undefined`.
    messages = [f"meaning {number}" for number in range(count)]
    entry = status.status_entry("https://x.example/status/2", 7, "message", messages, "https://x.example/meanings")
    assert (entry["statusSize"], entry["statusReference"]) == (size, "https://x.example/meanings")
    named = entry["statusMessage"]
    assert [one["status"] for one in named] == [hex(number) for number in range(2**size)]
    assert [one["message"] for one in named] == messages + ["undefined"] * (2**size - count)


def test_more_messages_than_bits_are_refused() -> None:
    for count in (0, 257):
        with pytest.raises(status.StatusError, match="bad_entry"):
            status.size_of(["x"] * count)


def test_the_list_of_the_standards_own_example() -> None:
    # Bitstring Status List 1.0, example 3: 16 KB, nothing set.
    encoded = "uH4sIAAAAAAAAA-3BMQEAAADCoPVPbQwfoAAAAAAAAAAAAAAAAAAAAIC3AYbSVKsAQAAA"
    assert status.decode_list(encoded, max_bytes=SIZE) == bytes(SIZE)
