"""Every target still reads its seeds, and seeds that were changed: what the fuzzer does by the million, a little."""

from __future__ import annotations

import importlib
import random

import pytest

from tests.fuzz import TARGETS

SLOW = {"proofs": 60, "verifier": 60, "vcdm": 150, "template": 150}


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_reads_its_seeds_and_what_becomes_of_them(name: str) -> None:
    target = importlib.import_module(f"tests.fuzz.{name}")
    dice = random.Random(name)
    for seed in target.SEEDS:
        target.read(seed)
    for _ in range(SLOW.get(name, 400)):
        data = bytearray(dice.choice(target.SEEDS))
        for _ in range(dice.randrange(1, 6)):
            match dice.randrange(4):
                case 0 if data:
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
                case 1 if data:
                    del data[dice.randrange(len(data)) :][:8]
                case 2:
                    data[dice.randrange(len(data) + 1) : 0] = dice.randbytes(dice.randrange(1, 12))
                case _:
                    data += dice.choice(target.SEEDS)[: dice.randrange(1, 64)]
        target.read(bytes(data))
