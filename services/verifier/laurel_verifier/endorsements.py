"""What others say about a badge, its achievement or its issuer: the endorsements that a credential holds. Purely.

An EndorsementCredential is a credential of its own, with an issuer and proofs of its own (Open Badges 3.0 §9.2). It is
verified like any other, and its verdict stands beside the badge's: an endorsement that is expired or forged takes
nothing from the badge, and a good one adds nothing to its signature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from laurel.credential.text import pointer
from laurel_verifier.checks import Check, failed, not_applicable, not_checked, passed
from laurel_verifier.domain import Verdict, listed, objects

MOST_ENDORSEMENTS = 4  # of one credential; each costs as much as a credential
_MOST_COUNTED = 1000
_MAX_DEPTH = 16
_ENDORSEMENT_TYPE = "EndorsementCredential"


@dataclass(frozen=True, slots=True)
class Attached:
    """An endorsement where it stands. document: a JSON object, or the text of a JWT. of: the id of what holds it."""

    pointer: str
    document: dict[str, Any] | str
    of: str | None


class Endorsement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was found about one endorsement. pointer: JSON Pointer to it; verdict, checks, issuer: as of any credential.

    concerns: whether it speaks of the very thing that holds it; None: that, or it, has no id.
    """

    pointer: str
    verdict: Verdict
    checks: tuple[Check, ...] = ()
    concerns: bool | None = None
    id: str | None = None
    issuer: str | None = None
    issuer_name: str | None = None
    issuer_known: bool = False

    @property
    def good(self) -> bool:
        """Valid, and about what it is attached to."""
        return self.verdict == "valid" and self.concerns is not False


def named_in(raw: bytes) -> bool:
    """Whether `attached` may find any in this JSON: nearly all documents have none, and need no walk."""
    return b"endorsement" in raw or b"\\u" in raw


def attached(document: dict[str, Any]) -> list[Attached]:
    """The endorsements of a credential, of its issuer, its achievement and whatever else in it may have some.

    Those of endorsements are not among them.
    """
    found = []
    for one in _walk(document, ()):
        found.append(one)
        if len(found) == _MOST_COUNTED:
            break
    return found


def _walk(value: Any, path: tuple[str | int, ...]) -> Iterator[Attached]:
    if len(path) > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _walk(one, (*path, place))
        return
    if not isinstance(value, dict):
        return
    of = value.get("id")
    for name, held in value.items():
        if name in ("endorsement", "endorsementJwt"):
            several = isinstance(held, list)
            for place, one in enumerate(listed(held)):
                if isinstance(one, dict | str):
                    where = pointer((*path, name, place) if several else (*path, name))
                    yield Attached(where, one, of if isinstance(of, str) else None)
        elif name not in ("@context", "proof"):
            yield from _walk(held, (*path, name))


def concerns(one: Attached, document: dict[str, Any] | None) -> bool | None:
    """Whether an endorsement's subject is what holds it (Open Badges 3.0, EndorsementSubject.id)."""
    subjects = [subject.get("id") for subject in objects((document or {}).get("credentialSubject"))]
    return None if one.of is None or not subjects else one.of in subjects


def wrong_type(document: dict[str, Any]) -> Check | None:
    """What is wrong with a document that stands where an endorsement should."""
    if _ENDORSEMENT_TYPE in listed(document.get("type")):
        return None
    return failed("format", "not_an_endorsement", f"type does not hold {_ENDORSEMENT_TYPE}", pointer="/type")


def check(found: Sequence[Endorsement], count: int) -> Check:
    """Step "endorsements". count: how many there are; no more than MOST_ENDORSEMENTS are looked at."""
    if not count:
        return not_applicable("endorsements", "it holds no endorsements")
    bad = [one for one in found if not one.good]
    wrong = [one for one in bad if one.verdict != "could_not_check"]
    if wrong:
        why = "speaks of something else" if wrong[0].verdict == "valid" else wrong[0].verdict.replace("_", " ")
        detail = f"{len(wrong)} of {count} endorsements cannot be relied on; the first of them: {why}"
        return failed("endorsements", "endorsement_not_valid", detail, pointer=wrong[0].pointer)
    if bad or count > len(found):
        good = len(found) - len(bad)
        detail = (
            f"{good} of {count} endorsements are valid; the others were not checked (at most {MOST_ENDORSEMENTS} are)"
        )
        first = bad[0] if bad else found[0]
        return not_checked("endorsements", "endorsement_not_checked", detail, pointer=first.pointer)
    return passed("endorsements", f"{count} endorsement{'s' if count > 1 else ''}, valid and about what holds them")


def check_refresh(document: dict[str, Any]) -> Check:
    """Step "refresh": the document that was handed in is the one that is judged; a newer one is named, not fetched.

    (Open Badges 3.0 §9.1 step 3 lets the verification go on with the original.)
    """
    services = objects(document.get("refreshService"))
    if not services:
        return not_applicable("refresh", "its issuer has not said where a newer one would be")
    where = str(services[0].get("id", "an address that it does not name"))[:300]
    detail = f"its issuer offers a newer one at {where}; what was handed in was judged, not that one"
    return not_checked("refresh", "refresh_not_followed", detail, pointer="/refreshService")
