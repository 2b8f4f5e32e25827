"""Why records die: every code, what it means, whether a redrive can help. docs/dead-letters.md prints this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Helps = Literal["after_fix", "never"]


@dataclass(frozen=True, slots=True)
class Reason:
    """helps: `after_fix`: what stands in `remedy` first; `never`: the record itself is wrong and stays so."""

    code: str
    meaning: str
    helps: Helps
    remedy: str


REASONS: dict[str, Reason] = {
    one.code: one
    for one in (
        # The engine and the envelope.
        Reason(
            "not_a_cloudevent", "The record is no CloudEvent: a foreign producer, or damaged headers.", "never",
            "Find who writes to the topic; then discard it.",
        ),
        Reason(
            "unknown_type", "An event of a type that this version does not know: most often a newer producer.",
            "after_fix", "Bring this service up to the version of its producer, then redrive.",
        ),
        Reason(
            "bad_data", "The event's type is known, its data does not have that type's form.", "after_fix",
            "If a newer version understands it, upgrade and redrive; if a foreign producer wrote it, discard it.",
        ),
        Reason(
            "handler_error", "The handler failed on this record and could not say why: a fault of ours.", "after_fix",
            "Look for `handler failed` in the log, upgrade to a version that has the fault mended, then redrive.",
        ),
        Reason(
            "redrive_crashed", "The process ended each time this letter was redriven.", "after_fix",
            "Look at how it ended (memory, signal), mend that, then redrive this one alone.",
        ),
        # issuer.issuance and issuer.achievements
        Reason(
            "lint_failed", "The credential would break a rule of its format; it is not signed.", "after_fix",
            "`detail` names the rule, the place and the fix. Where the achievement or the profile is at fault, publish "
            "a corrected version, and send the result again: this one names the old version. Where a rule was wrong, "
            "upgrade and redrive.",
        ),
        Reason(
            "wrong_type", "An event on a topic on which it does not belong.", "never",
            "Find who writes to the topic; then discard it.",
        ),
        Reason(
            "bad_credential_id", "A passed assessment without a usable credential id.", "never",
            "Not of our assessment service. Find who writes to the topic; then discard it.",
        ),
        Reason(
            "foreign_credential_id", "Another organisation has a credential with this id.", "never",
            "Two installations with one LAUREL_ID_KEY, or a forged event. Look into it before you discard it.",
        ),
        Reason(
            "bad_securing", "An achievement asks for a way of securing that this version does not know.", "after_fix",
            "Upgrade the issuer to the version of the assessment service, then redrive.",
        ),
        # notifier.deliveries
        Reason(
            "contact_unsealable", "The learner's contact was sealed with another LAUREL_CONTACT_KEY, or is damaged.",
            "after_fix", "Give assessment and notifier the same key (an old one, if it was changed), then redrive.",
        ),
        Reason(
            "contact_malformed", "The contact opens, and is not {learner, email, name, locale}.", "after_fix",
            "If a newer version understands it, upgrade and redrive; else discard it and tell the learner yourself.",
        ),
        # verifier.index and verifier.issuers
        Reason(
            "unknown_credential", "A status of a credential that is not in the index.", "after_fix",
            "Its issue comes first: find that among the dead letters (same key) and redrive it, or "
            "`laurel replay --consumer verifier.index`; then redrive this one.",
        ),
        Reason(
            "bad_document", "The event's document is no credential that can be read.", "after_fix",
            "If a newer version understands it, upgrade and redrive; else look into where it came from.",
        ),
        Reason(
            "id_mismatch", "The event speaks of one credential, its document of another.", "never",
            "Not of our issuer. Look into it before you discard it.",
        ),
        Reason(
            "issuer_mismatch", "The event names one issuer, its document another.", "never",
            "Not of our issuer. Look into it before you discard it.",
        ),
        Reason(
            "document_differs", "The credential is indexed with other bytes; a credential never changes.", "never",
            "Two issuers with one LAUREL_ID_KEY, or a forged event. Look into it before you discard it.",
        ),
        Reason(
            "did_mismatch", "An issuer profile whose DID document describes another DID.", "never",
            "Publish the issuer profile again; then discard this one.",
        ),
    )
}  # fmt: skip

UNKNOWN = Reason(
    "", "A reason that this version does not know.", "after_fix", "Read `detail`; ask a newer version of Laurel."
)


def reason(code: str) -> Reason:
    """What a code means; UNKNOWN for one of another version."""
    return REASONS.get(code, UNKNOWN)
