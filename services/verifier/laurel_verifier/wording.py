"""The words of the pages: what each verdict and each step means to somebody who has never heard of a proof."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from laurel_verifier.domain import Step, Verdict


@dataclass(frozen=True, slots=True)
class Words:
    """title: the banner's heading; text: a sentence; tone: good, warn, bad or unsure; icon: its sign."""

    title: str
    text: str
    tone: str
    icon: str


VERDICTS: dict[Verdict, Words] = {
    "valid": Words(
        "Valid", "Genuine, unchanged since it was issued, in its time, and not taken back.", "good", "check"
    ),
    "invalid": Words(
        "Not valid", "Do not rely on this credential: it was changed, or was never issued like this.", "bad", "cross"
    ),
    "revoked": Words("Revoked", "It is genuine, but its issuer has taken it back for good.", "bad", "cross"),
    "suspended": Words(
        "Suspended", "It is genuine, but its issuer has suspended it for the time being.", "warn", "pause"
    ),
    "expired": Words("Expired", "It is genuine, but the time for which it was issued is over.", "warn", "clock"),
    "not_yet_valid": Words("Not yet valid", "It is genuine, but its time has not come yet.", "warn", "clock"),
    "unknown_issuer": Words(
        "Unknown issuer",
        "Nobody that could be asked knows this issuer, so nobody can say whether it is genuine.",
        "unsure",
        "question",
    ),
    "could_not_check": Words(
        "Could not be checked",
        "Something that the check needs was out of reach. This says nothing about the credential: try again later.",
        "unsure",
        "question",
    ),
}

STEPS: dict[Step, str] = {
    "format": "Form",
    "context": "Meaning of its words",
    "schema": "Schema",
    "issuer": "The issuer’s key",
    "signature": "Signature",
    "dates": "Dates",
    "status": "Revocation and suspension",
    "recipient": "Holder",
}


@dataclass(frozen=True, slots=True)
class ServiceWords:
    """A service, as the start page names it."""

    name: str
    docs: str
    text: str


SERVICES: tuple[ServiceWords, ...] = (
    ServiceWords("Assessment", "/assessment/v1/docs", "Achievements, their criteria, and learners’ results."),
    ServiceWords("Issuer", "/issuer/v1/docs", "Issuer profiles and keys; issuing, revoking, suspending."),
    ServiceWords("Notifier", "/notifier/v1/docs", "Webhooks to your systems and e-mail to learners."),
    ServiceWords("Verifier", "/verifier/v1/docs", "Verify any credential; look up what was issued here."),
)


def day(moment: datetime) -> str:
    """ "22 November 2026" (UTC)."""
    at = moment.astimezone(UTC)
    return f"{at.day} {at:%B} {at.year}"
