"""What a result means: the rules of a policy, and how an attempt stands to those that came before it. Pure.

Time, keys and history come in as arguments; nothing here reads a clock, a table or a socket.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

Outcome = Literal["passed", "not_passed", "duplicate", "rejected"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with an input. field: JSON pointer or column; code: stable; detail: what, and the fix."""

    field: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Policy:
    """When a result is a pass. No rule at all: taking part is enough.

    required_parts: the least number of points for each part that must be there. max_attempts: None means no limit.
    """

    version: int = 1
    minimum_score: float | None = None
    required_parts: Mapping[str, float] = field(default_factory=dict)
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class ResultDescription:
    """Where a value goes in the credential, and its range. part: None stands for the score."""

    id: str
    part: str | None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What intake needs to know of an achievement."""

    achievement_id: str
    version: int
    policy: Policy
    repeatable: bool
    retired: bool
    descriptions: tuple[ResultDescription, ...] = ()


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One learner's one attempt, checked field by field (laurel_assessment.rows.check)."""

    achievement_id: str
    learner: str
    attempt: int
    email: str | None
    did: str | None
    name: str | None
    score: float | None
    parts: Mapping[str, float]
    completed_at: datetime | None
    course_run: str | None
    external_id: str | None
    evidence: tuple[str, ...]
    locale: str | None


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What the policy says. reasons: "code: sentence", for passes as well."""

    passed: bool
    reasons: tuple[str, ...]


def written(number: float) -> str:
    """A number exactly: the fewest digits that mean it and no other, without an exponent; 12 rather than 12.0."""
    digits = repr(float(number))
    if "e" in digits:
        digits = format(Decimal(digits), "f")
    digits = digits.removesuffix(".0")
    return "0" if digits == "-0" else digits


def decide(policy: Policy, *, score: float | None, parts: Mapping[str, float], attempt: int) -> Decision:
    """Apply a policy to one attempt. Every rule that fails is named, not only the first."""
    failed: list[str] = []
    reached: list[str] = []
    if policy.max_attempts is not None and attempt > policy.max_attempts:
        failed.append(f"attempts_exhausted: attempt {attempt}; at most {policy.max_attempts} count")
    if policy.minimum_score is not None:
        if score is None:
            failed.append(
                f"score_missing: a score of at least {written(policy.minimum_score)} is required and none was sent"
            )
        elif score < policy.minimum_score:
            failed.append(f"score_below_minimum: {written(score)} is below {written(policy.minimum_score)}")
        else:
            reached.append(f"score_reached: {written(score)} of at least {written(policy.minimum_score)}")
    for part, minimum in policy.required_parts.items():
        points = parts.get(part)
        if points is None:
            failed.append(f"part_missing: {part} is required (at least {written(minimum)}) and was not sent")
        elif points < minimum:
            failed.append(f"part_below_minimum: {part} {written(points)} is below {written(minimum)}")
        else:
            reached.append(f"part_reached: {part} {written(points)} of at least {written(minimum)}")
    if failed:
        return Decision(False, tuple(failed))
    return Decision(True, tuple(reached) or ("no_requirement: the policy asks for nothing more than a result",))


class Stored(msgspec.Struct, frozen=True, gc=False):
    """An attempt that was decided before."""

    result_id: str
    content: bytes
    passed: bool
    credential_id: str | None


@dataclass(slots=True)
class History:
    """What is known of one learner and one achievement: decided attempts by number, and the first pass among them."""

    attempts: dict[int, Stored] = field(default_factory=dict)
    earned: Stored | None = None

    def add(self, attempt: int, stored: Stored) -> None:
        """Remember a decided attempt."""
        self.attempts[attempt] = stored
        if stored.passed and self.earned is None:
            self.earned = stored


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What becomes of one attempt. award: set for a pass; duplicate_of: the result that stands in its place."""

    outcome: Outcome
    reasons: tuple[str, ...] = ()
    award: int | None = None
    duplicate_of: Stored | None = None
    finding: Finding | None = None


def settle(attempt: Attempt, rules: Rules, history: History, content: bytes) -> Settlement:
    """Decide one attempt against its policy and against what this learner already has. `history` is not changed."""
    before = history.attempts.get(attempt.attempt)
    if before is not None:
        if before.content == content:
            return Settlement(
                "duplicate", ("same_attempt: this attempt was sent before with the same content",), duplicate_of=before
            )
        detail = (
            f"attempt {attempt.attempt} of this learner is already decided with other content; "
            f"send a new attempt as `attempt`: {max(history.attempts) + 1}"
        )
        return Settlement("rejected", finding=Finding("/attempt", "conflicting_result", detail))
    if rules.retired:
        detail = "this achievement is retired and can no longer be earned; name another one"
        return Settlement("rejected", finding=Finding("/achievement", "achievement_retired", detail))
    unfit = out_of_range(attempt, rules)
    if unfit is not None:
        return Settlement("rejected", finding=unfit)
    decision = decide(rules.policy, score=attempt.score, parts=attempt.parts, attempt=attempt.attempt)
    if not decision.passed:
        return Settlement("not_passed", decision.reasons)
    if history.earned is not None and not rules.repeatable:
        reason = "already_earned: the learner has this achievement, which can be earned once"
        return Settlement("duplicate", (reason,), duplicate_of=history.earned)
    return Settlement("passed", decision.reasons, award=attempt.attempt if rules.repeatable else 1)


def out_of_range(attempt: Attempt, rules: Rules) -> Finding | None:
    """What does not fit the range that the achievement gives for it: no credential could show such a value."""
    for described in rules.descriptions:
        points = attempt.score if described.part is None else attempt.parts.get(described.part)
        if points is None:
            continue
        place = "/score" if described.part is None else f"/parts/{described.part}"
        if described.maximum is not None and points > described.maximum:
            bound = f"{written(described.maximum)}, the most that the achievement's description allows"
            return Finding(place, "above_maximum", f"{written(points)} is above {bound}")
        if described.minimum is not None and points < described.minimum:
            bound = f"{written(described.minimum)}, the least that the achievement's description allows"
            return Finding(place, "below_minimum", f"{written(points)} is below {bound}")
    return None


def content_of(attempt: Attempt, *, key: bytes) -> bytes:
    """A keyed fingerprint (16 bytes) of what makes two sendings of one attempt the same.

    A learner's name, locale and the platform's own id of the row are not part of it: correcting them is no attempt.
    """
    completed_at = attempt.completed_at.timestamp() if attempt.completed_at is not None else None
    parts = sorted(attempt.parts.items()) if attempt.parts else None
    email = attempt.email.casefold() if attempt.email is not None else None
    content = (attempt.score, parts, completed_at, attempt.course_run, attempt.did, email, sorted(attempt.evidence))
    return hashlib.blake2b(msgspec.json.encode(content), key=key[:64], digest_size=16, person=b"content").digest()


def salt_of(credential_id: str, *, key: bytes) -> str:
    """The salt of a credential's identity hash: a redelivery yields the same one; without `key` nobody can guess it."""
    return hashlib.blake2b(credential_id.encode(), key=key[:64], digest_size=16, person=b"salt").hexdigest()
