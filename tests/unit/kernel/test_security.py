"""The JSON guard, API keys and sealing."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel import ids
from laurel.paths import service_for
from laurel.security import (
    BadJson,
    CannotUnseal,
    guard_json,
    hash_secret,
    new_api_key,
    parse_api_key,
    seal,
    unseal,
)
from laurel.settings import with_role

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a":NaN}', "not_finite"),
        (b"[Infinity]", "not_finite"),
        (b"[-Infinity]", "not_finite"),
        (b"[1e999]", "not_finite"),
        (b"[" + b"9" * 5000 + b"]", "not_finite"),
        (b'{"a":1,"b":{"c":1,"c":2}}', "duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b'["\\u0000"]', "bad_string"),
        (b'["\\ud800"]', "bad_string"),
        (b'{"\\udfff":1}', "bad_string"),
        (b"[" * 900 + b"]" * 900, "too_deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
        (b"\xff", "not_utf8"),
        (b'"\xed\xa0\x80"', "not_utf8"),
        (b"", "not_json"),
        (b"{", "not_json"),
        (b'{"a":1}x', "not_json"),
        (b'"' + b"x" * 2000 + b'"', "too_large"),
        (b'["\x00"]', "not_json"),
    ],
)
def test_the_guard_refuses(body: bytes, code: str) -> None:
    with pytest.raises(BadJson) as caught:
        guard_json(body, max_bytes=6000 if code != "too_large" else 1000)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "pointer", "offset", "clause"),
    [
        (b'{"x":{"y/z":[0,NaN]}}', "/x/y~1z/1", 15, "RFC 8259 §6"),
        (b'[{"a":[]}, [-1e999]]', "/1/0", 12, "RFC 7493 §2.2"),
        (b"[1, -" + b"9" * 50 + b"]", "/1", 4, "RFC 7493 §2.2"),
        (b'{"a":1,"a":2,"b":{"c":1,"\\u0063":2,"c":3}}', "/b/c", 24, "RFC 8259 §4; RFC 7493 §2.3"),
        (b'{"\xc3\xa4":["", "\\ud800"]}', "/\u00e4/1", 11, "RFC 7493 §2.1; RFC 8259 §9"),
        (b'{"q":{"\\u0000":1}}', "/q", 6, "RFC 7493 §2.1; RFC 8259 §9"),  # of a name: what it is in
        (b'{"\\udfff":1,"\\udfff":2}', None, 12, "RFC 8259 §4; RFC 7493 §2.3"),  # no pointer can be written
        (b'{"' + b"k" * 2000 + b'":NaN}', None, 2004, "RFC 8259 §6"),
        (b"[" + b"0," * 200_000 + b"NaN]", None, None, "RFC 8259 §6"),
        (b"[" * 900, None, 32, "RFC 8259 §9"),
        (b'"\xed\xa0\x80"', None, 1, "RFC 8259 §8.1"),
        (b'{"\xc3\xa4":}', None, 6, "RFC 8259 §2"),
    ],
)
def test_the_guard_says_where_and_by_which_clause(
    body: bytes, pointer: str | None, offset: int | None, clause: str
) -> None:
    with pytest.raises(BadJson) as caught:
        guard_json(body, max_bytes=1 << 20)
    assert (caught.value.pointer, caught.value.offset, caught.value.clause) == (pointer, offset, clause)
    assert caught.value.detail.endswith(f"({clause})")


@pytest.mark.parametrize(
    "body", [b'{"a":[1,2.5,-0.0,"x\\u00e9\\ud83d\\ude00",null,true]}', b'"[[[[{{{{"', b"0", b'"\\"["']
)
def test_the_guard_lets_json_through(body: bytes) -> None:
    assert guard_json(body, max_bytes=1000, max_depth=2) == json.loads(body)


@given(st.binary(max_size=200))
def test_the_guard_raises_nothing_else(body: bytes) -> None:
    try:
        guard_json(body, max_bytes=150)
    except BadJson:
        return


@pytest.mark.parametrize("start", [b'"', b'{"a":"', b"[" * 30 + b'"'])
@pytest.mark.parametrize("part", [b'\\"', b"\\\\", b"x", b"\\"])
def test_a_string_that_does_not_end_is_read_once(start: bytes, part: bytes) -> None:
    """Read again from each quote in it, a megabyte would take hours."""
    body = start + part * (1 << 19)
    with pytest.raises(BadJson):
        guard_json(body, max_bytes=2 << 20)


NESTED = st.recursive(
    st.none() | st.integers() | st.text('a"\\[]{}\n'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\[{', max_size=3), inner, max_size=3),
    max_leaves=40,
)


def depth_of(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(NESTED)
def test_the_guard_measures_depth(value: object) -> None:
    body, depth = json.dumps([value] * 20).encode(), depth_of(value) + 1
    assert guard_json(body, max_bytes=1 << 20, max_depth=depth) == [value] * 20
    with pytest.raises(BadJson) as caught:
        guard_json(body, max_bytes=1 << 20, max_depth=depth - 1)
    assert caught.value.code == "too_deep"


def test_api_keys() -> None:
    key = new_api_key()
    parsed = parse_api_key(key.text)
    assert parsed is not None
    assert parsed[0] == key.key_id
    assert hash_secret(parsed[1]) == key.secret_hash
    assert new_api_key().text != key.text
    for broken in ("", key.text[:-1], key.text + "a", key.text.upper(), key.text.replace("laurel", "lauren"), "é" * 58):
        assert parse_api_key(broken) is None
    changed = "0" if key.text[-9] != "0" else "1"
    assert parse_api_key(key.text[:-9] + changed + key.text[-8:]) is None, "the checksum catches a typing error"


def test_sealing_is_bound_to_key_and_purpose() -> None:
    sealed = seal(KEY, b"learner@example.org", purpose="contact")
    assert unseal(KEY, sealed, purpose="contact") == b"learner@example.org"
    assert b"learner" not in sealed.encode()
    assert seal(KEY, b"x", purpose="p") != seal(KEY, b"x", purpose="p")
    for key, text, purpose in (
        (KEY[::-1], sealed, "contact"),
        (KEY, sealed, "other"),
        (KEY, sealed[:-4] + "AAAA", "contact"),
        (KEY, "?", "contact"),
    ):
        with pytest.raises(CannotUnseal):
            unseal(key, text, purpose=purpose)


def test_credential_ids_are_keyed_and_unambiguous() -> None:
    def made(**changes: object) -> str:
        given = {"tenant_id": "t", "achievement_id": "a", "learner": "l", "award": 1} | changes
        return ids.credential_id(KEY, **given)  # type: ignore[arg-type]

    assert made() == made()
    different = {
        made(),
        made(award=2),
        made(learner="m"),
        made(tenant_id="ta", achievement_id=""),
        made(tenant_id="", achievement_id="ta"),
    }
    assert len(different) == 5
    assert made()[14] == "8", "UUID version 8"
    assert made()[:8] == made(learner="m")[:8] == made(award=2)[:8], "one achievement's stand together"
    assert made()[:8] != made(achievement_id="b")[:8]
    assert made()[:8] != made(tenant_id="u")[:8]
    learners = [made(learner=str(number)) for number in range(1000)]
    assert len({one[9:] for one in learners}) == 1000, "the rest is each learner's own"
    assert ids.credential_id(KEY[::-1], tenant_id="t", achievement_id="a", learner="l", award=1) != made()
    with pytest.raises(ValueError, match="id_key"):
        ids.credential_id(b"short", tenant_id="t", achievement_id="a", learner="l", award=1)


def test_no_two_ids_are_made_of_the_same_randomness() -> None:
    made = {ids.uuid7(0) for _ in range(3000)}
    assert len(made) == 3000
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, "".join(ids.uuid7(0) for _ in range(300)).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as theirs:
        told = theirs.read()
    assert os.waitpid(child, 0)[1] == 0
    assert len(told) == 300 * 36
    ours = {ids.uuid7(0) for _ in range(300)}
    assert not ours & {told[at : at + 36] for at in range(0, len(told), 36)}


def test_uuid7_sorts_by_time() -> None:
    assert ids.uuid7(1) < ids.uuid7(2) < ids.uuid7()
    assert ids.uuid7(0x0123456789AB, bytes(10)) == "01234567-89ab-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/assessment/v1/results", "assessment"), ("/achievements/x", "assessment"), ("/issuers/u/did.json", "issuer"),
        ("/issuer/v1/docs", "issuer"), ("/status/1", "issuer"), ("/c/1", "verifier"), ("/verify", "verifier"),
        ("/", "verifier"), ("/verifyx", None), ("/nothing", None), ("", None), ("/c", None),
    ],
)  # fmt: skip
def test_paths(path: str, service: str | None) -> None:
    assert service_for(path) == service


def test_a_role_replaces_the_login_of_a_url() -> None:
    assert with_role("postgresql://postgres:@/db?host=/tmp/x", "r") == "postgresql://r@/db?host=/tmp/x"
    assert with_role("postgres://h:5432/db", "r", "p@:/") == "postgres://r:p%40%3A%2F@h:5432/db"
