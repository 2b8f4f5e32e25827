"""The lint: a document is checked against the standards and against common sense before anything is signed.

`lint` hands out the `Linted` token, and `proofs.sign` takes nothing else: what did not pass can not be signed. Rules
stand in `lint_rules` and `lint_open_badge`, one function each; a rule yields findings and never raises.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from laurel.credential import lint_open_badge as badge
from laurel.credential import lint_rules as common
from laurel.credential import slots, vcdm
from laurel.credential.lint_rules import Finding, Rule, Subject, plain_json_findings
from laurel.credential.template import (
    CanonicalTemplate,
    JsonTemplate,
    NeedsFullWay,
    NotCompilable,
    Path,
    value_at,
)
from laurel.errors import LaurelError

Profile = Literal["openbadge", "statuslist", "vcdm"]

__all__ = ["Finding", "LintError", "Linted", "LintedTemplate", "lint", "lint_template", "rules"]

_COMMON: tuple[Rule, ...] = (
    common.size, common.no_proof, common.context_order, common.safe_expansion, common.absolute_ids, common.issuer_key,
    common.dates, common.clean_text, common.no_empty_values, common.status_entries,
)  # fmt: skip
_PROFILES: dict[Profile, tuple[Rule, ...]] = {
    "openbadge": (
        *_COMMON, badge.open_badge_type, badge.open_badge_schema, badge.credential_schema, badge.achievement_complete,
        badge.recipient, badge.images, badge.alignments, badge.languages, badge.results,
    ),
    "statuslist": (*_COMMON, common.status_list),
    # What the data model asks and no more: for credentials of any kind that others bring to a conformance test.
    "vcdm": (common.size, common.no_proof, common.issuer_key, *vcdm.CREDENTIAL_RULES),
}  # fmt: skip

_TOKEN = object()


class LintError(LaurelError):
    """The document must not be signed. `findings` says why; at least one of them is an error."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        errors = [finding for finding in findings if finding.level == "error"]
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{first.rule} at {first.pointer or '/'}: {first.message}{more}")
        self.findings = findings

    def __reduce__(self) -> tuple[type[LintError], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)


class Linted:
    """A document that passed. Only `lint` and a `LintedTemplate` make one; it can not be changed, copied or pickled.

    It keeps the document's text, not the caller's object, so that a later change there changes nothing here.
    """

    __slots__ = ("_text", "canonical_nquads", "contexts", "findings", "issuer", "profile")

    _text: str | bytes
    canonical_nquads: bytes
    """The RDFC-1.0 canonical form of the document, which is what is signed."""
    contexts: tuple[str, ...]
    """The document's @context: a list of URLs."""
    issuer: str
    profile: Profile
    findings: tuple[Finding, ...]

    def __init__(
        self,
        token: object,
        text: str | bytes,
        canonical: bytes,
        contexts: tuple[str, ...],
        issuer: str,
        profile: Profile,
        findings: tuple[Finding, ...],
    ) -> None:
        if token is not _TOKEN:
            raise TypeError("a Linted document comes from laurel.credential.lint.lint and from nowhere else")
        setattr_ = functools.partial(object.__setattr__, self)
        setattr_("_text", text)
        setattr_("canonical_nquads", canonical)
        setattr_("contexts", contexts)
        setattr_("issuer", issuer)
        setattr_("profile", profile)
        setattr_("findings", findings)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Linted document can not be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a Linted document can not be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Linted document can not be pickled or copied; lint where you sign")

    def document(self) -> dict[str, Any]:
        """A fresh copy of the document that was checked."""
        document: dict[str, Any] = json.loads(self._text)
        return document

    def encoded(self) -> bytes:
        """The document as compact JSON, as it will be stored."""
        return self._text if isinstance(self._text, bytes) else msgspec.json.encode(self.document())


class LintedTemplate:
    """A document that passed, and the places in which others may differ from it. Only `lint_template` makes one.

    A template judges values; what it does not know goes the full way, which is `lint`.
    """

    def __init__(self, token: object, linted: Linted, paths: tuple[Path, ...]) -> None:
        if token is not _TOKEN:
            raise TypeError("a LintedTemplate comes from laurel.credential.lint.lint_template and from nowhere else")
        document = linted.document()
        self._linted = linted
        self._ordered = slots.ordered(document, paths)
        self._canonical = CanonicalTemplate(document, [slots.slot_at(document, path) for path in paths])
        self._json = JsonTemplate(document, paths, msgspec.json.encode)
        self._size = _size(document) - sum(len(str(value_at(document, path)).encode()) for path in paths)

    def linted(self, values: Sequence[str]) -> Linted:
        """What `lint` would give for the document with these values. Raises NeedsFullWay where that is not plain."""
        fields = self._canonical.fields(values)
        for first, last in self._ordered:
            if values[last] < values[first]:
                raise NeedsFullWay("a period ends before it starts")
        if self._size + sum(map(len, fields)) > common.MAX_BYTES:
            raise NeedsFullWay("the document is too large")
        made = self._linted
        return Linted(
            _TOKEN,
            self._json.fill(fields),
            self._canonical.fill(fields),
            made.contexts,
            made.issuer,
            made.profile,
            made.findings,
        )


def lint(document: dict[str, Any], *, profile: Profile = "openbadge", issuer: str | None = None) -> Linted:
    """Check `document` by the rules of `profile`. With `issuer`, the document's issuer must be exactly that DID.

    Raises LintError when a rule finds an error; warnings are on the token's `findings`.
    """
    broken = tuple(plain_json_findings(document))
    if broken:  # the other rules rely on plain, bounded JSON
        raise LintError(broken)
    text = _text(document)
    copy: dict[str, Any] = json.loads(text)
    subject = Subject(copy, issuer, len(text.encode("utf-8")))
    findings = tuple(finding for rule in _PROFILES[profile] for finding in rule(subject))
    if any(finding.level == "error" for finding in findings):
        raise LintError(findings)
    assert subject.canonical is not None
    return Linted(_TOKEN, text, subject.canonical, tuple(copy["@context"]), subject.issuer_id, profile, findings)


def lint_template(document: dict[str, Any], paths: Sequence[Path], *, issuer: str | None = None) -> LintedTemplate:
    """Check an Open Badge by all rules, and make a template of it whose values differ at `paths`.

    Raises LintError; NotCompilable when the document has no template, or does not come out of it as it went in.
    """
    linted = lint(document, issuer=issuer)
    copy = linted.document()
    template = LintedTemplate(_TOKEN, linted, tuple(paths))
    try:
        made = template.linted([value_at(copy, path) for path in paths])
    except NeedsFullWay as error:
        raise NotCompilable(str(error)) from error
    if made.canonical_nquads != linted.canonical_nquads or made.encoded() != linted.encoded():
        raise NotCompilable("the template gives another document than the one that it was made of")
    return template


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _size(document: dict[str, Any]) -> int:
    return len(_text(document).encode("utf-8"))


def rules(profile: Profile = "openbadge") -> tuple[str, ...]:
    """The names of the profile's rules, in the order in which they run."""
    return ("plain-json", *(rule.__name__.replace("_", "-") for rule in _PROFILES[profile]))
