"""The verifier whole, from bytes to a verdict: any verdict, never an exception, and no change is valid.

The first byte says what is handed in: a credential with changed values (below 0x80), the file of one, as JSON or baked
into a picture, with changed bytes (below 0xC0), or the data itself.
"""

from __future__ import annotations

import asyncio
import base64
from functools import cache
from typing import Any

from laurel.credential import baking
from laurel_verifier import documents
from tests.fuzz.shaping import Bytes
from tests.mutants.meaning import same
from tests.mutants.specimens import Specimen, specimens
from tests.mutants.value_kinds import text_of
from tests.mutants.world import Desk
from tests.unit.credential.samples import PNG

_EDITED, _RAW = 0x80, 0xC0
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"><g/></svg>'
SEEDS = (
    b"\x00" + bytes(12), *(bytes([which, 1, place, *range(9)]) for which in range(6) for place in (3, 30, 60)),
    *(bytes([_EDITED, which, form, 0, place, 40, how, 65]) for which in range(6) for form in range(3)
      for place in (0, 2) for how in range(4)),
    b"\xff{}", b'\xff{"a":1e999}', b"\xffhttps://x.example/c/1", b"\xffeyJhbGciOiJFUzI1NiJ9.e30.AA",
)  # fmt: skip


@cache
def _desks() -> list[Desk]:
    return [Desk(one.documents) for one in specimens()]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@cache
def _files(number: int) -> tuple[bytes, ...]:
    text = text_of(specimens()[number].document)
    picture = base64.b64decode(PNG.partition(",")[2])
    return text, baking.bake_png(picture, text), baking.bake_svg(_SVG, text)


def _verdict(number: int, body: bytes) -> str:
    return _loop().run_until_complete(_desks()[number].verdict(body))


def read(data: bytes) -> None:
    if data[:1] >= bytes([_RAW]):
        assert _verdict(0, data[1:]) in ("invalid", "could_not_check")
        return
    edited = data[:1] >= bytes([_EDITED])
    source = Bytes(data[1:] if edited else data)
    number = source.number() % len(specimens())
    one = specimens()[number]
    if edited:
        body = _with_edits(source, _files(number))
        if _verdict(number, body) == "valid":
            found = documents.read(body)
            assert isinstance(found, documents.Document)
            _same(one, found.value)
        return
    changed = source.changed(one.document)
    if _verdict(number, text_of(changed)) == "valid":
        _same(one, changed)


def _same(one: Specimen, changed: Any) -> None:
    assert one.state == "valid"
    assert same(changed, one.document, one.form), changed


def _with_edits(source: Bytes, files: tuple[bytes, ...]) -> bytes:
    body = bytearray(source.choice(files))
    for _ in range(4):
        if not source.left:
            break
        place = (source.number() << 8 | source.number()) % len(body)
        match source.number() % 4:
            case 0:
                body[place] = source.number()
            case 1:
                body[place:place] = source.take()
            case 2:
                del body[place : place + 1 + source.number() % 16]
            case _:
                other = (source.number() << 8 | source.number()) % len(body)
                body[place:place] = body[other : other + source.number()]
    return bytes(body)
