"""RFC 8785: what passes the guard has a canonical form or a reason, and a canonical form is its own."""

from __future__ import annotations

import json

from laurel.credential import jcs
from laurel.security import BadJson, guard_json

SEEDS = (
    b'{"b": 1e21, "a": [1.0, -0.0, 333333333.33333329, 4.50, 2e-3, 0.000000000000000000000000001]}',
    b'{"\\u20ac": "\\u000f\\n\\u0041\'\\u0042\\u0022\\u005c", "\\ud83d\\ude00": [null, true]}', b"[9007199254740993]",
    b'""',
)  # fmt: skip


def read(data: bytes) -> None:
    try:
        value = guard_json(data, max_bytes=4096)
        canonical = jcs.canonical(value)
    except (BadJson, jcs.NotCanonicalizable):
        return
    assert jcs.canonical(json.loads(canonical)) == canonical
