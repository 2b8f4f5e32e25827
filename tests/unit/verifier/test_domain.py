"""From checks to a verdict: the precedence that the docstring promises."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from laurel_verifier import domain
from laurel_verifier.checks import STEPS, Check, Step, complete, failed, not_applicable, not_checked, passed
from laurel_verifier.domain import decide

NOW = datetime(2026, 11, 22, tzinfo=UTC)
GOOD = {step: passed(step, "") for step in STEPS}


def verdict(*changed: Check) -> str:
    return decide({**GOOD, **{check.step: check for check in changed}}.values())


def test_all_passed_is_valid() -> None:
    assert verdict() == "valid"
    nothing_to_check = (not_applicable(step, "") for step in ("schema", "status", "recipient"))
    assert verdict(*nothing_to_check) == "valid"
    assert verdict(not_checked("schema", "unknown_schema", "")) == "valid"


# In the order of precedence: each with a check that alone leads to it.
LADDER: list[tuple[str, Check]] = [
    ("invalid", failed("signature", "bad_signature", "")),
    ("unknown_issuer", failed("issuer", "unknown_issuer", "")),
    ("could_not_check", not_checked("context", "unknown_context", "")),
    ("revoked", failed("status", "revoked", "")),
    ("expired", failed("dates", "expired", "")),
]


@pytest.mark.parametrize(("expected", "check"), LADDER)
def test_each_alone(expected: str, check: Check) -> None:
    assert verdict(check) == expected


def test_the_first_of_several_wins() -> None:
    for (stronger, one), (_, two) in itertools.combinations(LADDER, 2):
        assert verdict(one, two) == stronger, (one, two)


@pytest.mark.parametrize("code", ["revoked", "suspended"])
def test_status_before_dates(code: str) -> None:
    assert verdict(failed("status", code, ""), failed("dates", "not_yet_valid", "")) == code


def test_an_unknown_status_hides_no_certain_fact() -> None:
    away = not_checked("status", "fetch_failed", "")
    assert verdict(away) == "could_not_check"
    assert verdict(away, failed("dates", "expired", "")) == "expired"
    assert verdict(away, failed("signature", "bad_signature", "")) == "invalid"


def test_what_was_not_reached_is_never_valid() -> None:
    for count in range(STEPS.index("dates") + 1):
        assert decide([GOOD[step] for step in STEPS[:count]]) == "could_not_check"


@pytest.mark.parametrize("step", ["format", "context", "schema", "issuer", "signature", "dates", "status"])
def test_any_unexpected_failure_is_invalid(step: Step) -> None:
    assert verdict(failed(step, "something_new", "")) == "invalid"


def test_whose_it_is_changes_no_verdict() -> None:
    assert verdict(failed("recipient", "recipient_mismatch", "")) == "valid"
    assert verdict(failed("recipient", "recipient_mismatch", ""), failed("status", "revoked", "")) == "revoked"


def test_complete_keeps_the_order_and_says_what_was_not_reached() -> None:
    made = complete([failed("format", "no_proof", "x")])
    assert [check.step for check in made] == list(STEPS)
    assert {check.outcome for check in made[1:]} == {"not_checked"}


# --- documents ----------------------------------------------------------------------------------------------------

MINIMAL: dict[str, Any] = {
    "@context": ["https://www.w3.org/ns/credentials/v2"],
    "type": ["VerifiableCredential"],
    "issuer": "did:key:z6Mk",
    "credentialSubject": {"id": "did:example:a"},
    "proof": {"type": "DataIntegrityProof"},
}


def test_a_minimal_credential_has_the_form() -> None:
    assert domain.check_format(MINIMAL, 10).outcome == "passed"
    old = {**MINIMAL, "@context": ["https://www.w3.org/2018/credentials/v1"], "issuanceDate": "2020-01-01T00:00:00Z"}
    assert "1.1" in domain.check_format(old, 10).detail


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"@context": "https://www.w3.org/ns/credentials/v2"}, "no_credential_context"),
        ({"@context": []}, "no_credential_context"),
        ({"@context": [["https://www.w3.org/ns/credentials/v2"]]}, "no_credential_context"),
        ({"@context": ["https://www.w3.org/ns/credentials/v2", 7]}, "bad_context"),
        ({"type": []}, "not_a_credential"),
        ({"type": ["VerifiableCredential", 7]}, "not_a_credential"),
        ({"id": 7}, "bad_id"),
        ({"id": None}, "null_member"),
        ({"id": "relative"}, "bad_id"),
        ({"issuer": {}}, "bad_issuer"),
        ({"issuer": "did:web:" + "x" * 3000}, "bad_issuer"),
        ({"credentialSubject": []}, "no_subject"),
        ({"credentialSubject": {}}, "no_subject"),
        ({"credentialSubject": "did:x:y"}, "no_subject"),
        ({"credentialStatus": {"id": "x"}}, "bad_member"),
        ({"credentialStatus": [{"type": "x"}] * 9}, "too_many_statuses"),
        ({"credentialSchema": "x"}, "bad_member"),
        ({"validFrom": "yesterday"}, "bad_date"),
        ({"validUntil": 7}, "bad_date"),
        ({"proof": []}, "no_proof"),
        ({"proof": "x"}, "bad_proof"),
        ({"proof": [{}] * 9}, "too_many_proofs"),
    ],
)
def test_what_is_not_the_form(change: dict[str, Any], code: str) -> None:
    found = domain.check_format({**MINIMAL, **change}, 10)
    assert (found.outcome, found.code) == ("failed", code)


@pytest.mark.parametrize("document", [None, 7, "x", [], [MINIMAL]])
def test_what_is_no_object(document: Any) -> None:
    assert domain.check_format(document, 10).code == "not_an_object"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({}, None),
        ({"validFrom": "2026-11-22T00:00:00Z"}, None),
        ({"validFrom": "2026-11-22T00:00:01Z"}, "not_yet_valid"),
        ({"validUntil": "2026-11-22T00:00:00Z"}, None),
        ({"validUntil": "2026-11-21T23:59:59Z"}, "expired"),
        ({"validUntil": "2026-11-22T02:00:00+03:00"}, "expired"),
        ({"validFrom": "2026-12-01T00:00:00Z", "validUntil": "2026-11-01T00:00:00Z"}, "dates_reversed"),
        ({"issuanceDate": "2027-01-01T00:00:00Z"}, "not_yet_valid"),
        ({"expirationDate": "2020-01-01T00:00:00Z"}, "expired"),
    ],
)
def test_dates(document: dict[str, Any], code: str | None) -> None:
    found = domain.check_dates(document, NOW)
    assert found.code == code
    assert "2026-11-22T00:00:00Z" in found.detail or code == "dates_reversed"


def test_the_worst_status_counts() -> None:
    fine, away = passed("status", ""), not_checked("status", "fetch_failed", "")
    revoked, suspended = failed("status", "revoked", ""), failed("status", "suspended", "")
    assert domain.worst_status([fine, suspended, away, revoked]) is revoked
    assert domain.worst_status([fine, away, suspended]) is suspended
    assert domain.worst_status([fine, away]) is away
    odd = failed("status", "bad_status_entry", "")
    for order in ([fine, away, odd], [odd, away, fine]):
        assert domain.worst_status(order) is odd
    assert domain.worst_status([odd, suspended]) is suspended
    assert domain.indexed_status("active", None, NOW).outcome == "passed"
    assert domain.indexed_status("suspended", NOW - timedelta(days=1), NOW).code == "suspended"


# --- whose it is ----------------------------------------------------------------------------------------------------


def holder(identity: Any, subject_id: Any = None) -> dict[str, Any]:
    subject: dict[str, Any] = {"identifier": identity}
    return {"credentialSubject": {**subject, "id": subject_id} if subject_id is not None else subject}


def hashed(address: str, salt: str, algorithm: str = "sha256") -> dict[str, Any]:
    digest = hashlib.new(algorithm, (address + salt).encode()).hexdigest()
    return {"type": "IdentityObject", "hashed": True, "identityHash": f"{algorithm}${digest}", "salt": salt}


@pytest.mark.parametrize(
    ("document", "expected", "outcome"),
    [
        (holder([hashed("a@x.org", "s")]), "a@x.org", "passed"),
        (holder(hashed("a@x.org", "s")), " A@X.org ", "passed"),
        (holder([hashed("A@X.org", "s")]), "A@X.org", "passed"),  # an issuer that hashed it as it was typed
        (holder([hashed("a@x.org", "s", "md5")]), "a@x.org", "passed"),
        (holder([hashed("b@x.org", "s"), hashed("a@x.org", "t")]), "a@x.org", "passed"),
        (holder([hashed("a@x.org", "s")]), "b@x.org", "failed"),
        (holder([{"hashed": False, "identityHash": "A@x.org"}]), "a@x.org", "passed"),
        (holder([{"hashed": True, "identityHash": "sha3$00"}]), "a@x.org", "not_checked"),
        (holder([{"hashed": True, "identityHash": "sha256$ünï", "salt": 7}, 7, None]), "a@x.org", "failed"),
        (holder(None, "did:example:a"), "did:example:a", "passed"),
        (holder(None, "did:example:a"), "did:example:b", "failed"),
        (holder(None, "mailto:a@x.org"), "A@x.org", "passed"),
        ({"credentialSubject": {"name": "x"}}, "a@x.org", "failed"),
        (holder([hashed("a@x.org", "s")]), None, "not_applicable"),
        (holder([hashed("a@x.org", "s")]), "  ", "not_applicable"),
    ],
)
def test_recipient(document: dict[str, Any], expected: str | None, outcome: str) -> None:
    found = domain.check_recipient(document, expected)
    assert found.outcome == outcome
    assert "a@x.org" not in found.detail.lower()  # the answer repeats nobody's address


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("http://l.test/c/00000000-0000-8000-8000-000000000001", "00000000-0000-8000-8000-000000000001"),
        ("http://l.test/c/", None),
        ("http://l.test/c/a/b", None),
        ("http://l.test/c/a?b", None),
        ("http://l.test/c/" + "a" * 65, None),
        ("http://l.test/c/é", None),
        ("http://l.test.evil/c/a", None),
        (7, None),
    ],
)
def test_own_credential_id(identifier: Any, expected: str | None) -> None:
    assert domain.own_credential_id({"id": identifier}, "http://l.test") == expected
