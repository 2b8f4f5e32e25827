"""One step of a verification as data: what was checked, against what, when, by which clause, and what is wrong.

The order of STEPS is that of Open Badges 3.0 §9.1 "OpenBadgeCredential Verification": does it conform (format, context,
schema), is its proof true (issuer, signature), is there a newer one (refresh), what of its status (status, dates),
whose is it (recipient), what do others say of it (endorsements).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

Step = Literal[
    "format", "context", "schema", "issuer", "signature", "refresh", "status", "dates", "recipient", "endorsements"
]
Outcome = Literal["passed", "failed", "not_checked", "not_applicable"]
Kind = Literal["context", "schema", "issuer", "key", "status_list", "status", "clock"]
From = Literal["bundled", "register", "identifier", "document", "fetched", "index", "clock"]

STEPS: tuple[Step, ...] = (
    "format", "context", "schema", "issuer", "signature", "refresh", "status", "dates", "recipient", "endorsements",
)  # fmt: skip

CLAUSES: Mapping[Step, str] = {
    "format": "Open Badges 3.0 §9.1 step 1; VC Data Model 2.0 §4",
    "context": "VC Data Integrity 1.0 §4.6; VC Data Model 2.0 §4.3",
    "schema": "Open Badges 3.0 §9.1 step 1, CredentialSchema; VC Data Model 2.0 §4.11",
    "issuer": "Open Badges 3.0 §8.5; Controlled Identifiers 1.0 §3.3; VC Data Model 2.0 §4.7",
    "signature": "Open Badges 3.0 §9.1 step 2; VC Data Integrity 1.0 §4.4, §4.5; "
    "VC DI EdDSA 1.0 §3; VC DI ECDSA 1.0 §3; Open Badges 3.0 §8.2.5; VC-JOSE-COSE 1.0 §4.1",
    "status": "Open Badges 3.0 §9.1 step 4; Bitstring Status List 1.0 §3.2; VC Data Model 2.0 §4.10",
    "dates": "Open Badges 3.0 §9.1 step 4; VC Data Model 2.0 §4.9",
    "recipient": "Open Badges 3.0 §9.1 step 5, §9.3, IdentityObject",
    "refresh": "Open Badges 3.0 §9.1 step 3; VC Data Model 2.0 §4.12",
    "endorsements": "Open Badges 3.0 §9.1 step 6, §9.2",
}


class Against(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that a step was checked against.

    id: its URL, DID or key id. url: its address, where that is another. source: where Laurel has it from: bundled and
    pinned, our register of issuers, the identifier itself (did:key), the document itself, fetched, our index, a clock.
    version: of a context, schema or register entry; of a key, the cryptosuite. digest: "sha256:" and hex. at: when it
    was fetched or published; until: how long it says it holds (both RFC 3339). index: of a status entry in its list.
    """

    kind: Kind
    id: str
    source: From
    url: str | None = None
    version: str | None = None
    digest: str | None = None
    at: str | None = None
    until: str | None = None
    index: int | None = None


class ProblemDetails(msgspec.Struct, frozen=True):
    """What went wrong, as RFC 9457 §3.1 and VC Data Model 2.0 §7.1 "Problem Details" have it."""

    type: str
    title: str
    detail: str


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a verification. detail: for a human: what was checked, against what. code: why not, for a program.

    at: when (RFC 3339). against: what it was held against. pointer: JSON Pointer (RFC 6901) of the property that is
    wrong, "" for the whole document; of a token, into the credential in it, or into its claims or its header where
    these are what is wrong. problem: for what failed or could not be checked.
    """

    step: Step
    outcome: Outcome
    detail: str
    clause: str | None = None
    code: str | None = None
    pointer: str | None = None
    at: str | None = None
    against: tuple[Against, ...] = ()
    problem: ProblemDetails | None = None


def passed(step: Step, detail: str, *, against: Iterable[Against] = ()) -> Check:
    """The step found nothing wrong."""
    return Check(step=step, outcome="passed", detail=detail, clause=CLAUSES[step], against=tuple(against))


def failed(
    step: Step,
    code: str,
    detail: str,
    *,
    pointer: str = "",
    against: Iterable[Against] = (),
    clause: str | None = None,
) -> Check:
    """The step found what `code` says. clause: where it is known more exactly than CLAUSES has it."""
    found = _wrong(step, "failed", code, detail, pointer, against)
    return found if clause is None else msgspec.structs.replace(found, clause=clause)


def not_checked(step: Step, code: str, detail: str, *, pointer: str = "", against: Iterable[Against] = ()) -> Check:
    """The step could not be taken."""
    return _wrong(step, "not_checked", code, detail, pointer, against)


def not_applicable(step: Step, detail: str) -> Check:
    """There is nothing to check at this step."""
    return Check(step=step, outcome="not_applicable", detail=detail, clause=CLAUSES[step])


def _wrong(step: Step, outcome: Outcome, code: str, detail: str, pointer: str, against: Iterable[Against]) -> Check:
    return Check(
        step=step, outcome=outcome, code=code, detail=detail, clause=CLAUSES[step], pointer=pointer,
        against=tuple(against), problem=problem_details(step, outcome, code, detail),
    )  # fmt: skip


def complete(checks: Iterable[Check], at: str | None = None) -> tuple[Check, ...]:
    """The checks in the order of STEPS, made `at`; a step that was not reached is said to be so."""
    found = {check.step: check for check in checks}
    skipped = "not reached, because of what another step found"
    every = [found.get(step) or not_checked(step, "not_reached", skipped) for step in STEPS]
    return tuple([check if check.at else msgspec.structs.replace(check, at=at) for check in every])


def short(text: str) -> str:
    """For a sentence: the middle of what is very long is left out."""
    return text if len(text) <= 200 else text[:160] + "…" + text[-30:]


# --- problem types ----------------------------------------------------------------------------------------------

_VCDM = "https://www.w3.org/TR/vc-data-model#"  # VC Data Model 2.0 §7.1
_SECURITY = "https://w3id.org/security#"  # VC Data Integrity 1.0 §4.7, Controlled Identifiers 1.0 §3.5
_STATUS = "https://www.w3.org/ns/credentials/status-list#"  # Bitstring Status List 1.0 §3.5
_OURS = "urn:laurel:problem:"  # for what no standard has a type

# What a code is called among the published types. Other codes: by their step, see below.
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "not_json", "not_utf8", "too_deep", "too_large", "duplicate_key", "not_finite", "bad_string",
            "unsupported_format", "not_an_object", "malformed_jwt", "malformed_header", "malformed_envelope",
            # of what was handed in, before there is a document
            "empty", "wrong_file", "web_page", "wallet_link", "open_badges_2", "not_baked", "several_credentials",
            "bad_baking", "not_a_png", "damaged_png", "not_an_svg", "svg_doctype", "too_complex",
        ),
        _VCDM + "PARSING_ERROR",
    ),
    **dict.fromkeys(
        ("insecure_algorithm", "claim_mismatch", "missing_claim", "malformed_claim", "forbidden_claim"),
        _VCDM + "CRYPTOGRAPHIC_SECURITY_ERROR",
    ),
    "bad_signature": _VCDM + "CRYPTOGRAPHIC_SECURITY_ERROR",
    "context_mismatch": _VCDM + "CRYPTOGRAPHIC_SECURITY_ERROR",
    "unsafe_document": _SECURITY + "PROOF_TRANSFORMATION_ERROR",
    "wrong_challenge": _SECURITY + "INVALID_CHALLENGE_ERROR",
    "wrong_domain": _SECURITY + "INVALID_DOMAIN_ERROR",
    "missing_verification_method": _SECURITY + "INVALID_VERIFICATION_METHOD_URL",
    "malformed_did": _SECURITY + "INVALID_VERIFICATION_METHOD_URL",
    "wrong_document": _SECURITY + "INVALID_CONTROLLED_IDENTIFIER_DOCUMENT_ID",
    "malformed_document": _SECURITY + "INVALID_CONTROLLED_IDENTIFIER_DOCUMENT",
    "bad_answer": _SECURITY + "INVALID_CONTROLLED_IDENTIFIER_DOCUMENT",
    **dict.fromkeys(
        ("key_not_found", "wrong_controller", "unsupported_key", "key_revoked", "key_expired", "secret_key_published"),
        _SECURITY + "INVALID_VERIFICATION_METHOD",
    ),
    "not_for_assertion": _SECURITY + "INVALID_RELATIONSHIP_FOR_VERIFICATION_METHOD",
    "list_too_short": _STATUS + "STATUS_LIST_LENGTH_ERROR",
    "range": _VCDM + "RANGE_ERROR",
    # No standard has a type for these: nothing is malformed, and nobody tampered with anything.
    **{
        code: _OURS + code
        for code in (
            "unknown_issuer", "revoked", "suspended", "limit_exceeded", "busy", "not_reached", "unknown_context",
            "check_broke_down", "unknown_schema", "unknown_proof_type", "unknown_cryptosuite", "unsupported_method",
            "fetch_refused", "fetch_failed", "not_found", "not_the_indexed_document", "unknown_algorithm",
            "unknown_envelope",
        )
    },
}  # fmt: skip
_BY_STEP: Mapping[Step, str] = {
    "format": _VCDM + "MALFORMED_VALUE_ERROR",
    "context": _VCDM + "MALFORMED_VALUE_ERROR",
    "schema": _VCDM + "MALFORMED_VALUE_ERROR",
    "issuer": _SECURITY + "PROOF_VERIFICATION_ERROR",
    "signature": _SECURITY + "PROOF_VERIFICATION_ERROR",
    "status": _STATUS + "STATUS_VERIFICATION_ERROR",
    "dates": _VCDM + "RANGE_ERROR",
}
# The list could be had, and is not what Bitstring Status List 1.0 §3.2 wants.
_LISTS_AT_HAND = {"not_reached", "list_too_short", "list_not_genuine", "wrong_purpose", "foreign_list"}
_MAX_TITLE = 80


def problem_details(step: Step, outcome: Outcome, code: str, detail: str) -> ProblemDetails:
    """The problem of a check that did not pass."""
    kind = _TYPES.get(code)
    if step == "status" and outcome == "not_checked" and code not in _LISTS_AT_HAND:
        kind = _STATUS + "STATUS_RETRIEVAL_ERROR"
    kind = kind or _BY_STEP.get(step, _OURS + code)
    title = code.replace("_", " ").capitalize()
    return ProblemDetails(type=kind, title=title[:_MAX_TITLE], detail=detail)
