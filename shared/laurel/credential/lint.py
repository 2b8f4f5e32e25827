"""The lint: a document is checked against the standards and against common sense before anything is signed.

`lint` hands out the `Linted` token, and `proofs.sign` takes nothing else: what did not pass can not be signed. Rules
stand in `lint_rules` and `lint_open_badge`, one function each; a rule yields findings and never raises.
"""

from __future__ import annotations

import functools
import json
from typing import Any, Literal

from laurel.credential import lint_open_badge as badge
from laurel.credential import lint_rules as common
from laurel.credential import vcdm
from laurel.credential.lint_rules import Finding, Rule, Subject, plain_json_findings
from laurel.errors import LaurelError

Profile = Literal["openbadge", "statuslist", "vcdm"]

__all__ = ["Finding", "LintError", "Linted", "lint", "rules"]

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
    """A document that passed. Only `lint` makes one; it can not be changed, copied or pickled.

    It keeps the document's text, not the caller's object, so that a later change there changes nothing here.
    """

    __slots__ = ("_text", "canonical_nquads", "findings", "issuer", "profile")

    _text: str
    canonical_nquads: bytes
    """The RDFC-1.0 canonical form of the document, which is what is signed."""
    issuer: str
    profile: Profile
    findings: tuple[Finding, ...]

    def __init__(
        self, token: object, text: str, canonical: bytes, issuer: str, profile: Profile, findings: tuple[Finding, ...]
    ) -> None:
        if token is not _TOKEN:
            raise TypeError("a Linted document comes from laurel.credential.lint.lint and from nowhere else")
        setattr_ = functools.partial(object.__setattr__, self)
        setattr_("_text", text)
        setattr_("canonical_nquads", canonical)
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


def lint(document: dict[str, Any], *, profile: Profile = "openbadge", issuer: str | None = None) -> Linted:
    """Check `document` by the rules of `profile`. With `issuer`, the document's issuer must be exactly that DID.

    Raises LintError when a rule finds an error; warnings are on the token's `findings`.
    """
    broken = tuple(plain_json_findings(document))
    if broken:  # the other rules rely on plain, bounded JSON
        raise LintError(broken)
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    copy: dict[str, Any] = json.loads(text)
    subject = Subject(copy, issuer, len(text.encode("utf-8")))
    findings = tuple(finding for rule in _PROFILES[profile] for finding in rule(subject))
    if any(finding.level == "error" for finding in findings):
        raise LintError(findings)
    assert subject.canonical is not None
    return Linted(_TOKEN, text, subject.canonical, subject.issuer_id, profile, findings)


def rules(profile: Profile = "openbadge") -> tuple[str, ...]:
    """The names of the profile's rules, in the order in which they run."""
    return ("plain-json", *(rule.__name__.replace("_", "-") for rule in _PROFILES[profile]))
