"""Pictures that hold credentials: PNG chunks and XML of strangers, taken apart and put together again."""

from __future__ import annotations

import base64
import struct
import zlib

from laurel.credential import baking
from laurel.credential.images import PNG_SIGNATURE, BadImage
from tests.unit.credential.samples import PNG

CREDENTIAL = b'{"@context":["https://www.w3.org/ns/credentials/v2"],"name":"]]>&<\xc3\xa9"}'
_PNG = base64.b64decode(PNG.partition(",")[2])
_SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="1"><g a="1&gt;"/></svg>'
SEEDS = (
    _PNG, baking.bake_png(_PNG, CREDENTIAL), baking.bake_png(_PNG, b"e30.e30.AA"), _SVG,
    baking.bake_svg(_SVG, CREDENTIAL),
    baking.bake_svg(_SVG, b"e30.e30.AA"), b'<!DOCTYPE svg [<!ENTITY a "aa">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>',
    b'<svg xmlns="http://www.w3.org/2000/svg"/>', b"\xff\xfe<\x00s\x00",
)  # fmt: skip


def read(data: bytes) -> None:
    for image in {data, _with_checksums(data)}:
        try:
            found = baking.unbake(image)
            assert len(found) <= baking.MAX_CREDENTIAL
        except BadImage as error:
            assert error.code
        for bake in (baking.bake_png, baking.bake_svg):
            try:
                baked = bake(image, CREDENTIAL)
            except BadImage:
                continue
            assert baking.unbake(baked) == CREDENTIAL


def _with_checksums(data: bytes) -> bytes:
    """A PNG with the CRCs that its chunks should have, so that the fuzzer need not find them."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    made, place = PNG_SIGNATURE, len(PNG_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + min(length, len(data))
        body = data[place + 4 : end]
        made += struct.pack(">I", max(len(body) - 4, 0)) + body + struct.pack(">I", zlib.crc32(body))
        place = end + 4
    return made + data[place:]
