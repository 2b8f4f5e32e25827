"""The words of the pages: what each verdict and each step means to somebody who has never heard of a proof."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from laurel_verifier.checks import Against, From, Step
from laurel_verifier.domain import Verdict
from laurel_verifier.verification import Verification


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

_GENUINE = ("valid", "revoked", "suspended", "expired", "not_yet_valid")


def words(verification: Verification, asked: str | None = None) -> Words:
    """The banner for this verification; asked: whose it was said to be."""
    found = VERDICTS[verification.verdict]
    codes = {check.code for check in verification.checks}
    if codes & {"open_badges_2", "unsupported_format"}:
        return replace(found, text="It is of a kind that is not verified here. This says nothing about the credential.")
    if verification.verdict == "invalid":
        if verification.issuer is None and verification.checks[0].outcome == "failed":
            return replace(found, text="No credential can be read from it; the first step says why.")
        if "not_the_indexed_document" in codes:
            text = "It bears an address of this Laurel, but it is not the credential that was issued under it."
            return replace(found, text="Do not rely on it: " + text[0].lower() + text[1:])
        if "key_not_found" in codes and verification.credential_id is not None:
            text = "The key that signed it has been withdrawn by its issuer, so its signature proves nothing any more."
            return replace(found, text="Do not rely on it. " + text)
        return found
    if verification.verdict not in _GENUINE:
        return found
    text, title, tone = found.text, found.title, found.tone
    if not verification.issuer_known:
        name, issuer = verification.issuer_name, verification.issuer or ""
        who = f"It says it is issued by “{name}”" if name else "It names its issuer by a key or address alone"
        who += f"; nobody here vouches for that name. What is certain is only the signature of {_shortened(issuer)}."
        if verification.verdict == "valid":
            title, tone = "Valid, issuer not known here", "unsure"
            text = "Unchanged since it was signed, in its time, and not taken back."
        text = f"{text} {who}"
    if asked and verification.recipient.matches is False:
        if verification.verdict == "valid" and verification.issuer_known:
            title, tone = "Genuine, but not theirs", "warn"
            text = f"This badge is genuine, but it was not issued to {asked}."
        else:
            text = f"{text} It was not issued to {asked}."
    if any(notice.purpose == "refresh" for notice in verification.notices):
        text = f"{text} Its issuer offers a newer one in its place."
    return replace(found, title=title, text=text, tone=tone)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:50] + "…" + text[-20:]


STEPS: dict[Step, str] = {
    "format": "Form",
    "context": "Meaning of its words",
    "schema": "Schema",
    "issuer": "The issuer’s key",
    "signature": "Signature",
    "refresh": "Newer version",
    "status": "Revocation and suspension",
    "dates": "Dates",
    "recipient": "Holder",
    "endorsements": "Endorsements",
}


_SOURCES: dict[From, str] = {
    "bundled": "pinned copy", "register": "Laurel’s register", "identifier": "the identifier itself",
    "document": "named by the document", "fetched": "fetched", "index": "Laurel’s index", "clock": "the clock",
}  # fmt: skip


def held_against(one: Against) -> str:
    """What a step was held against, as a line: "context https://… (version 2.0, pinned copy, sha256:599…)"."""
    facts = [
        f"version {one.version}" if one.version and one.kind != "key" else one.version,
        _SOURCES[one.source] + (f" from {one.url}" if one.url else ""),
        f"entry {one.index}" if one.index is not None else None,
        one.at and f"at {one.at}",
        one.until and f"until {one.until}",
        one.digest,
    ]
    return f"{one.kind.replace('_', ' ')} {one.id} ({', '.join(fact for fact in facts if fact)})"


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
