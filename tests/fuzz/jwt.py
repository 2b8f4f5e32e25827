"""JSON Web Tokens that hold credentials: parsed or refused with a reason; none that was changed is true."""

from __future__ import annotations

import json
from typing import Any

from laurel.credential import jose, lint
from laurel.credential.multibase import base64url_decode, base64url_encode
from tests.fuzz.shaping import Bytes
from tests.mutants.specimens import P256
from tests.unit.credential.samples import CREATED, DID, badge

_LINTED = lint.lint(badge(), issuer=DID)
TOKENS = (jose.sign_vc_jwt(_LINTED, P256).decode(), jose.sign_vc_jose(_LINTED, P256).decode())
_PARTS: list[tuple[dict[str, Any], dict[str, Any], str]] = []
for _token in TOKENS:
    _header, _payload, _signature = _token.split(".")
    _PARTS.append((json.loads(base64url_decode(_header)), json.loads(base64url_decode(_payload)), _signature))
SEEDS = (
    b"\x00e30.e30.AA", *(b"\x00" + one.encode() for one in TOKENS), b"\x00..", b"\x01\x00\x00\x01\x02",
    b"\x01\x01\x01\x05\x06\x07",
    b"\x00eyJhbGciOiJub25lIn0.e30.",
)  # fmt: skip


def read(data: bytes) -> None:
    source = Bytes(data)
    if source.number() % 2:
        header, payload, signature = source.choice(_PARTS)
        if source.number() % 2:
            header = source.changed(header)
        else:
            payload = source.changed(payload)
        parts = [json.dumps(part, ensure_ascii=False).encode("utf-8", "replace") for part in (header, payload)]
        text = ".".join([*(base64url_encode(part) for part in parts), signature])
    else:
        text = data[1:].decode("utf-8", "replace")
    try:
        envelope = jose.parse(text)
    except jose.JoseError as error:
        assert error.code
        assert error.detail
        return
    result = jose.verify(envelope, P256.public_key_multibase, now=CREATED)
    assert not result.ok or text in TOKENS, text
