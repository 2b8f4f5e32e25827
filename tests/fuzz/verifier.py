"""The verifier whole, from bytes to a verdict: any verdict, never an exception, and no change is valid."""

from __future__ import annotations

import asyncio
from functools import cache

from tests.fuzz.shaping import Bytes
from tests.mutants.meaning import same
from tests.mutants.specimens import specimens
from tests.mutants.value_kinds import text_of
from tests.mutants.world import Desk

SEEDS = (
    b"\x00" + bytes(12), *(bytes([which, 1, place, *range(9)]) for which in range(6) for place in (3, 30, 60)),
    b"\xff{}", b'\xff{"a":1e999}',
)  # fmt: skip


@cache
def _desks() -> list[Desk]:
    return [Desk(one.documents) for one in specimens()]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def read(data: bytes) -> None:
    if data[:1] == b"\xff":
        assert _loop().run_until_complete(_desks()[0].verdict(data[1:])) in ("invalid", "could_not_check")
        return
    source = Bytes(data)
    number = source.number() % len(specimens())
    one = specimens()[number]
    changed = source.changed(one.document)
    verdict = _loop().run_until_complete(_desks()[number].verdict(text_of(changed)))
    if verdict == "valid":
        assert one.state == "valid"
        assert same(changed, one.document, one.form), changed
