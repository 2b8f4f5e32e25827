"""Steps 2 and 3 by template: the credentials of an achievement are built and linted once, then values are filled in.

A template belongs to a definition, an issuer, its signing keys and a shape, all of which are its name here: what is
published anew has another name, so a template is never out of date. Canaries are also made the full way; a difference
is Inconsistent and stops issuing. What is wrong with a template itself shows soon, so the first, second, fourth, eighth
credential of each is a canary and so on; what depends on a rare value does not, so one in `canary_every` is one, too.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import structlog

from laurel.credential import lint
from laurel.credential.template import NeedsFullWay, NotCompilable, value_at
from laurel_issuer.domain import Inconsistent, IssuerProfile, Shape, Varying, varying_paths

log = structlog.get_logger()

_MAX_TEMPLATES = 64  # a template and its layouts take some hundred kilobytes
_ATTEMPTS = 3  # whether a document has a template may depend on its values; not for ever on bad luck

# Definition, issuer, type of the credential, keys that sign, shape.
Key = tuple[bytes, IssuerProfile, str, tuple[lint.SigningKey, ...], Shape]


@dataclass(slots=True)
class _Kept:
    template: lint.LintedTemplate | None = None
    attempts: int = 0
    filled: int = 0


@dataclass(slots=True)
class Templates:
    """The templates of one signing process or thread; the least recently used go first."""

    canary_every: int
    _kept: OrderedDict[Key, _Kept] = field(default_factory=OrderedDict)
    _recent: tuple[Key, _Kept] | None = None  # what was looked up last: most of a chunk is of one shape

    def fill(self, key: Key, values: list[str]) -> tuple[lint.Linted | None, bool]:
        """The credential, or None where it has to be made the full way; and whether it is a canary."""
        kept = self._find(key)
        if kept is None or kept.template is None:
            return None, False
        try:
            linted = kept.template.linted(values)
        except NeedsFullWay:
            return None, False
        kept.filled += 1
        power_of_two = kept.filled & (kept.filled - 1) == 0
        return linted, power_of_two or kept.filled % self.canary_every == 0

    def _find(self, key: Key) -> _Kept | None:
        if self._recent is None or self._recent[0] != key:
            kept = self._kept.get(key)
            if kept is None:
                return None
            self._kept.move_to_end(key)
            self._recent = key, kept
        return self._recent[1]

    def learn(self, key: Key, document: dict[str, Any], varying: Varying) -> None:
        """Make a template of a credential that went the full way and passed.

        Raises Inconsistent when the document does not hold the values where they should be.
        """
        kept = self._find(key)
        if kept is None:
            kept = self._kept[key] = _Kept()
            self._recent = key, kept
            if len(self._kept) > _MAX_TEMPLATES:
                self._kept.popitem(last=False)
        if kept.template is not None or kept.attempts >= _ATTEMPTS:
            return
        kept.attempts += 1
        _, issuer, _, keys, _ = key
        paths = varying_paths(varying.shape)
        if [value_at(document, path) or "" for path in paths] != varying.values:
            raise Inconsistent("the values of a credential do not stand where its template would put them")
        try:
            kept.template = lint.lint_template(document, paths, issuer=issuer.did, keys=keys)
        except NotCompilable as reason:
            log.info("credentials go the full way: no template", issuer=issuer.did, reason=str(reason))


def compare(filled: lint.Linted, full: lint.Linted, document_url: str) -> None:
    """The canary: both ways must say the same. Raises Inconsistent."""
    same = (
        filled.canonical_nquads == full.canonical_nquads
        and filled.encoded() == full.encoded()
        and (filled.issuer, filled.contexts, filled.findings) == (full.issuer, full.contexts, full.findings)
    )
    if not same:
        raise Inconsistent(f"the template of {document_url} gives another credential than the full way")
