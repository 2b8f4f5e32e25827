"""The lint: a document is checked against the standards and against common sense before anything is signed.

`lint` hands out the `Linted` token, and `proofs.sign` takes nothing else: what did not pass can not be signed. Rules
stand in `lint_table`, each with its name, level, clause and fix (docs/lint.md); what they do, in the `lint_…` modules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from laurel.credential import lint_rules as common
from laurel.credential import slots, vcdm
from laurel.credential.lint_rules import Checker, Finding, SigningKey, Subject
from laurel.credential.lint_table import BY_NAME, RULES, Profile, of_profile
from laurel.credential.template import (
    CanonicalTemplate,
    JsonTemplate,
    NeedsFullWay,
    NotCompilable,
    Path,
    value_at,
)
from laurel.errors import LaurelError

__all__ = [
    "RULES", "Finding", "LintError", "Linted", "LintedTemplate", "Profile", "SigningKey", "lint", "lint_template",
    "rules",
]  # fmt: skip

_PLAIN_JSON = BY_NAME["plain-json"]
_PROFILES: dict[Profile, tuple[Checker, ...]] = {
    profile: tuple(rule for rule in of_profile(profile) if rule is not _PLAIN_JSON)
    for profile in ("openbadge", "endorsement", "statuslist")
}
# What the data model asks and no more: for credentials of any kind that others bring to a conformance test.
_PROFILES["vcdm"] = (
    *(rule for rule in of_profile("vcdm") if rule is not _PLAIN_JSON),
    *vcdm.CREDENTIAL_RULES,
)

_TOKEN = object()


class LintError(LaurelError):
    """The document must not be signed. `findings` says why; at least one of them is an error."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        errors = [finding for finding in findings if finding.level == "error"]
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        fix = f"; {first.fix}" if first.fix else ""
        super().__init__(f"{first.rule} at {first.pointer or '/'}: {first.message}{fix}{more}")
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
        keep = object.__setattr__
        keep(self, "_text", text)
        keep(self, "canonical_nquads", canonical)
        keep(self, "contexts", contexts)
        keep(self, "issuer", issuer)
        keep(self, "profile", profile)
        keep(self, "findings", findings)

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
        self._ordered, self._fixed_times = slots.ordered(document, paths)
        self._canonical = CanonicalTemplate(document, [slots.slot_at(document, path) for path in paths])
        self._json = JsonTemplate(document, paths, msgspec.json.encode)
        self._size = _size(document) - sum(len(str(value_at(document, path)).encode()) for path in paths)

    def linted(self, values: Sequence[str]) -> Linted:
        """What `lint` would give for the document with these values. Raises NeedsFullWay where that is not plain."""
        fields = self._canonical.fields(values)
        times = (*values, *self._fixed_times) if self._fixed_times else values
        for first, last, length in self._ordered:
            if times[last][:length] < times[first][:length]:
                raise NeedsFullWay("a period ends before it starts, or it was awarded after it became valid")
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


def lint(
    document: dict[str, Any],
    *,
    profile: Profile = "openbadge",
    issuer: str | None = None,
    keys: tuple[SigningKey, ...] = (),
) -> Linted:
    """Check `document` by the rules of `profile`. With `issuer`, the document's issuer must be exactly that id.

    keys: all keys that will sign, as the signer knows them; they must be the issuer's, and active.
    Raises LintError when a rule finds an error; warnings are on the token's `findings`.
    """
    broken = tuple(_PLAIN_JSON(Subject(document, None, 0)))
    if broken:  # the other rules rely on plain, bounded JSON
        raise LintError(broken)
    text = _text(document)
    copy: dict[str, Any] = json.loads(text)
    subject = Subject(copy, issuer, len(text.encode("utf-8")), keys=keys, endorsement=profile == "endorsement")
    for rule in _PROFILES[profile]:
        subject.findings.extend(rule(subject))
    findings = tuple(subject.findings)
    if any(finding.level == "error" for finding in findings):
        raise LintError(findings)
    assert subject.canonical is not None
    return Linted(_TOKEN, text, subject.canonical, tuple(copy["@context"]), subject.issuer_id, profile, findings)


def lint_template(
    document: dict[str, Any],
    paths: Sequence[Path],
    *,
    issuer: str | None = None,
    keys: tuple[SigningKey, ...] = (),
) -> LintedTemplate:
    """Check an Open Badge by all rules, and make a template of it whose values differ at `paths`.

    Raises LintError; NotCompilable when the document has no template, or does not come out of it as it went in.
    """
    linted = lint(document, issuer=issuer, keys=keys)
    if any(key.active_until is not None for key in keys):
        raise NotCompilable("a retired key signs what is dated before its end alone: each date has to be looked at")
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
    return tuple(rule.name for rule in of_profile(profile))
