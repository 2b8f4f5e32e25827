"""The guard that every JSON body passes: it refuses, or what it returns can be written again and read as the same."""

from __future__ import annotations

import json

from laurel.security import MAX_DEPTH, BadJson, guard_json

SEEDS = (
    b'{"a": [1, 2.5e3, true, null, "\\u00e9\\ud83d\\ude00"], "b": {"c": ""}}', b"[" * 40, b'{"a":1,"a":2}',
    b'"\\ud800"',
    b"[NaN, -Infinity, 1e999, -0.0]", b'{"\\u0000": 1}', b"\xef\xbb\xbf{}", b"9" * 60, b'"' + b"\\" * 9,
    b'{"a":"\x00"}',
)  # fmt: skip


def read(data: bytes) -> None:
    try:
        value = guard_json(data, max_bytes=4096)
    except BadJson as error:
        assert error.code in {
            "too_large", "not_utf8", "too_deep", "not_json", "not_finite", "duplicate_key", "bad_string",
        }  # fmt: skip
        assert error.detail
        return
    again = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    assert guard_json(again, max_bytes=1 << 16, max_depth=MAX_DEPTH) == value
