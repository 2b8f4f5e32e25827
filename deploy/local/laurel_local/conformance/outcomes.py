"""What came of a request, as problem details (RFC 9457): each names the step, the property and the clause.

The types are those of the verifier (`laurel_verifier.checks`): who asks here reads what people read there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import Response

from laurel.credential.lint_rules import Finding
from laurel.problems import PROBLEM_JSON, Problem
from laurel.web import json_response
from laurel_verifier.checks import CLAUSES, STEPS, Check, Step, problem_details

Where = Step | Literal["challenge", "domain", "limit", "enveloped", "options"]
"""A step of the verifier's, or one that only these routes have."""

VC_API = "VC API (W3C Credentials Community Group), options"
# Each step: at which of the verifier's it would be, and the clause where a problem names none of its own.
_STEPS: dict[str, tuple[Step, str]] = {
    **{step: (step, CLAUSES[step]) for step in STEPS},
    "challenge": ("signature", "VC Data Integrity 1.0 §4.4"),
    "domain": ("signature", "VC Data Integrity 1.0 §4.4"),
    "limit": ("context", 'Laurel; RDF Dataset Canonicalization 1.0, "Dataset Poisoning"'),
    "enveloped": ("format", "VC Data Model 2.0 §4.13; VC-JOSE-COSE 1.0 §3.1"),
    "options": ("format", VC_API),
}
_DATA_LOSS = "https://w3id.org/security#DATA_LOSS_DETECTION_ERROR"  # VC Data Integrity 1.0 §4.6
NO_STORE = {"Cache-Control": "no-store"}


def problem(
    step: Where, code: str, detail: str, pointer: str = "", clause: str | None = None, kind: str | None = None
) -> dict[str, Any]:
    """One thing that is wrong. pointer: JSON Pointer to it. clause, kind (a problem type): where the step's and the
    code's are not meant."""
    near, usual = _STEPS[step]
    kind = kind or problem_details(near, "failed", code, detail).type
    return {
        "type": kind, "title": code, "detail": detail, "step": step, "pointer": pointer, "clause": clause or usual,
    }  # fmt: skip


@dataclass
class Outcome:
    """What came of a verification. problems: none when it is verified. at: JSON Pointer to what was verified."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    at: str = ""

    @property
    def verified(self) -> bool:
        return not self.problems

    def add(
        self,
        step: Where,
        code: str,
        detail: str,
        pointer: str = "",
        clause: str | None = None,
        kind: str | None = None,
    ) -> None:
        """Say what is wrong, as `problem`."""
        self.problems.append(problem(step, code, detail, self.at + pointer, clause, kind))

    def add_check(self, check: Check) -> None:
        """What a step of the verifier's has against it. A schema that nobody has a copy of takes nothing from it, and
        what was not reached says nothing that the step before it has not said."""
        if check.outcome not in ("failed", "not_checked") or (check.outcome, check.step) == ("not_checked", "schema"):
            return
        if check.code == "not_reached" and self.problems:
            return
        kind = check.problem.type if check.problem is not None else None
        self.add(check.step, check.code or check.outcome, check.detail, check.pointer or "", check.clause, kind)

    def add_findings(self, findings: Collection[Finding], step: Step = "format") -> None:
        """What the data model has against it."""
        for one in findings:
            lost = one.rule == "processable"
            detail, kind = f"{one.pointer or '/'}: {one.message}", _DATA_LOSS if lost else None
            self.add("context" if lost else step, one.rule, detail, one.pointer, one.clause, kind)


def refused(problems: Sequence[dict[str, Any]], title: str, status: int) -> Response:
    """The answer, headed by the first of the problems."""
    first = {name: problems[0][name] for name in ("type", "detail", "step", "pointer", "clause")}
    document = {**first, "title": title, "status": status, "verified": False, "problemDetails": list(problems)}
    return json_response(document, status, headers={**NO_STORE, "Content-Type": PROBLEM_JSON})


class Refusal(Problem):
    """A request that goes no further, and the `problem` that it has."""

    def __init__(self, status: int, found: dict[str, Any]) -> None:
        super().__init__(status, found["title"], found["detail"])
        self.found = found

    def response(self, instance: str | None = None) -> Response:
        return refused([self.found], "not understood", self.status)


def not_understood(pointer: str, why: str, code: str = "invalid_input", clause: str = VC_API) -> Refusal:
    """What a member of the request says, or that it is said at all. pointer: into the request."""
    kind = f"urn:laurel:problem:{code}"
    return Refusal(422, problem("options", code, f"{pointer or 'the body'}: {why}", pointer, clause, kind))
