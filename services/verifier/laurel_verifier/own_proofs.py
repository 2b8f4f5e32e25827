"""The proof of a credential of ours, checked in microseconds: its canonical form from a template, not from the sandbox.

1. `after` learns: when the sandbox has found nothing wrong with a credential of the index, the shape of its achievement
   is compiled (`laurel.credential.lint_template`, ADR 0006), once it was met often enough to pay.
2. `findings` fills in: the values of another credential go into the templates of its achievement. The one whose JSON is
   then the indexed document, byte for byte, has its canonical form.
3. The signature is checked over that form, under the key that the issuer's document lists now.

This way only ever says yes. Whatever is not plainly right goes the full way, which says what is wrong.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, NamedTuple

from laurel.credential.lint import LintedTemplate, LintError, lint_template
from laurel.credential.proof_bytes import verify_bytes
from laurel.credential.proofs import unsecured
from laurel.credential.slots import varying_paths
from laurel.credential.template import NeedsFullWay, Path, value_at
from laurel_verifier.sandbox import Findings, ProofFinding

MOST_ACHIEVEMENTS = 256  # a template takes some 100 kB
_MOST_SHAPES = 4  # of one achievement: with or without evidence, an end, …
_MET = 3  # compiling takes as long as checking some ten credentials

_TRUE = Findings(proofs=(ProofFinding(True),))


class _Shape(NamedTuple):
    paths: tuple[Path, ...]
    template: LintedTemplate


class _Known:
    """What is known of an achievement's credentials."""

    def __init__(self) -> None:
        self.met = 0
        self.shapes: list[_Shape] = []


class OwnProofs:
    """Templates of the achievements that were met last."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._compiling = False

    def findings(self, document: dict[str, Any], raw: bytes, keys: tuple[str, ...]) -> Findings | None:
        """What the sandbox would find, where that is nothing wrong; None where it has to be asked.

        document: of the index; raw: its indexed bytes; keys: those of its proofs.
        """
        known = self._known.get(_achievement(document))
        if known is None or len(keys) != 1 or not keys[0]:
            return None
        for shape in known.shapes:
            values = [value_at(document, path) for path in shape.paths]
            if not all(type(value) is str for value in values):
                continue
            try:
                linted = shape.template.linted(values)
            except NeedsFullWay:
                continue
            if verify_bytes(linted, raw, keys[0]).ok:
                return _TRUE
        return None

    async def after(self, document: dict[str, Any], findings: Findings) -> None:
        """Learn from a credential of the index that the sandbox was asked about."""
        if findings != _TRUE:
            return
        known = self._known.setdefault(_achievement(document), _Known())
        self._known.move_to_end(_achievement(document))
        while len(self._known) > MOST_ACHIEVEMENTS:
            self._known.popitem(last=False)
        known.met += 1
        if known.met < _MET or len(known.shapes) >= _MOST_SHAPES or self._compiling:
            return
        known.met = 0
        self._compiling = True
        try:
            shape = await asyncio.to_thread(_compiled, unsecured(document))
        finally:
            self._compiling = False
        if shape is not None:
            known.shapes.append(shape)


def _achievement(document: dict[str, Any]) -> tuple[str, str]:
    return str(value_at(document, ("issuer", "id"))), str(
        value_at(document, ("credentialSubject", "achievement", "id"))
    )


def _compiled(document: dict[str, Any]) -> _Shape | None:
    paths = tuple(varying_paths(document))
    try:
        return _Shape(paths, lint_template(document, paths))
    except (LintError, NeedsFullWay):
        return None
