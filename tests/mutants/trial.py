"""Mutants put before the verifier, and the count of what became of them."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.mutants import containers
from tests.mutants.kinds import kinds_for
from tests.mutants.lists import LISTS
from tests.mutants.meaning import same
from tests.mutants.specimens import Specimen, specimens
from tests.mutants.value_kinds import handed_in, text_of
from tests.mutants.world import Desk
from tests.unit.credential.samples import LIST_URL

_ROUNDS = 20  # throws of the dice for one mutant, where a kind finds nothing to change


@dataclass
class Report:
    """refused, same (spelt otherwise; `same_valid` of them were read as valid), forged: by kind. verdicts: of all.

    escaped: mutants that were valid and should not have been: their number, kind, specimen and bytes.
    """

    refused: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    same_valid: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    escaped: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, other: Report) -> None:
        """Count another report in."""
        for name in ("refused", "same", "same_valid", "verdicts"):
            getattr(self, name).update(getattr(other, name))
        self.escaped += other.escaped

    @property
    def mutants(self) -> int:
        """How many mutants said something else than the original."""
        return self.refused.total() + len(self.escaped)


@dataclass(frozen=True)
class Mutant:
    """Number `number` of a seed: the bytes handed in, and the world's list in its place. changed: the list is."""

    number: int
    kind: str
    specimen: Specimen
    body: bytes
    list_: Any = None


@cache
def pairs() -> tuple[tuple[str, Specimen], ...]:
    """Every kind of change with every specimen that it can be made to, a kind at a time."""
    lists = [(kind, one) for kind in LISTS for one in specimens() if LIST_URL in one.documents and not one.picture]
    return (*((kind, one) for one in specimens() for kind in kinds_for(one)), *lists)


def mutant(seed: int, number: int) -> Mutant:
    """The same for the same arguments."""
    kind, specimen = pairs()[number % len(pairs())]
    dice = random.Random(f"{seed}:{number}")
    kinds = kinds_for(specimen)
    for _ in range(_ROUNDS):
        if kind in LISTS:
            changed = LISTS[kind](dice, copy.deepcopy(specimen.documents[LIST_URL]))
            if changed is not None:
                return Mutant(number, kind, specimen, handed_in(specimen), changed)
        else:
            made = kinds[kind](dice, specimen)
            if made is not None:
                return Mutant(number, kind, specimen, made if isinstance(made, bytes) else text_of(made))
    kind = next(iter(kinds))  # this kind has nothing to change here
    return Mutant(number, kind, specimen, kinds[kind](dice, specimen) or b"")  # type: ignore[arg-type]


def says_the_same(one: Mutant) -> bool:
    """Whether nothing that is relied on was changed."""
    if one.list_ is None:
        return containers.says_the_same(one.body, one.specimen)
    original = one.specimen.documents[LIST_URL]
    served = one.list_ if isinstance(one.list_, dict) else containers.parsed(one.list_)
    return same(served, original, "rdfc")


async def judge(one: Mutant, desks: dict[str, Desk]) -> str:
    """The verifier's verdict."""
    if one.list_ is not None:
        return await Desk({**one.specimen.documents, LIST_URL: one.list_}).verdict(one.body)
    if one.specimen.name not in desks:
        desks[one.specimen.name] = Desk(one.specimen.documents)
    return await desks[one.specimen.name].verdict(one.body)


async def _try(seed: int, numbers: Iterable[int]) -> Report:
    report = Report()
    desks: dict[str, Desk] = {}
    for number in numbers:
        one = mutant(seed, number)
        verdict = await judge(one, desks)
        report.verdicts[verdict] += 1
        unchanged = says_the_same(one)
        alive = one.specimen.state == "valid"
        if verdict == "valid" and not (unchanged and alive):
            report.escaped.append((number, one.kind, one.specimen.name, repr(one.list_ or one.body)[:4000]))
        elif unchanged:
            report.same[one.kind] += 1
            report.same_valid[one.kind] += verdict == "valid"
        else:
            report.refused[one.kind] += 1
    return report


def try_mutants(seed: int, numbers: Iterable[int]) -> Report:
    """What became of these mutants of a seed."""
    return asyncio.run(_try(seed, numbers))


def unmutated() -> dict[str, str]:
    """The verdict on each specimen as it was issued."""

    async def ask() -> dict[str, str]:
        return {one.name: await Desk(one.documents).verdict(handed_in(one)) for one in specimens()}

    return asyncio.run(ask())
