from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest

from laurel.credential import contexts, lint, lint_table, proofs, schema
from laurel.credential.lint_rules import Subject
from laurel.credential.text import pointer
from tests.unit.credential.samples import CREATED, DID, NOW, SIGNER, badge, endorsement, status_list
from tests.unit.credential.violations import CASES, METHOD, RIGHT, SAMPLES, Case, Change, ach

KEY = SIGNER.public_key_multibase


def findings_of(case: Case) -> tuple[lint.Finding, ...]:
    """All findings; whether there is a token follows from the rule's level alone."""
    issuer = DID if case.rule != "issuer-id" and not case.keys else None
    if lint_table.BY_NAME[case.rule].level == "warning":
        return lint.lint(case.document(), profile=case.profile, issuer=issuer, keys=case.keys).findings
    with pytest.raises(lint.LintError) as refused:
        lint.lint(case.document(), profile=case.profile, issuer=issuer, keys=case.keys)
    return refused.value.findings


@pytest.mark.parametrize("profile", ["openbadge", "endorsement", "statuslist"])
def test_the_samples_are_clean(profile: lint.Profile) -> None:
    document = SAMPLES[profile]()
    linted = lint.lint(document, profile=profile, issuer=DID, keys=(lint.SigningKey(METHOD),))
    assert linted.findings == ()
    assert (linted.issuer, linted.profile) == (DID, profile)
    assert linted.document() == SAMPLES[profile]()


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case.rule}" for number, case in enumerate(CASES)])
def test_each_rule_alone_finds_its_flaw(case: Case) -> None:
    found = findings_of(case)
    assert {finding.rule for finding in found} == {case.rule}, found
    assert case.place in {finding.pointer for finding in found}
    rule = lint_table.BY_NAME[case.rule]
    for finding in found:
        assert (finding.level, finding.clause, finding.fix) == (rule.level, rule.clause, rule.fix)
        assert finding.message


@pytest.mark.parametrize("rule", lint_table.RULES, ids=lambda rule: rule.name)
def test_each_rule_is_described_and_violated(rule: lint_table.Rule) -> None:
    assert rule.level in ("error", "warning")
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
    assert rule.clause
    assert rule.fix
    assert rule.asks.endswith(".")
    assert [case for case in CASES if case.rule == rule.name and case.profile in rule.profiles]


def test_names_are_unique_and_each_profile_has_its_rules() -> None:
    assert len(lint_table.BY_NAME) == len(lint_table.RULES) >= 40
    assert {"status-list", "status-bits"} == set(lint.rules("statuslist")) - set(lint.rules("openbadge"))
    assert {"endorsement-complete"} == set(lint.rules("endorsement")) - set(lint.rules("openbadge"))
    assert set(lint.rules("vcdm")) == {"plain-json", "size", "no-proof", "issuer-key", "key-active"}


_QUOTED = re.compile(r"(['\"]).*\1", re.DOTALL)


@pytest.mark.parametrize("case", CASES, ids=[f"{number}-{case.rule}" for number, case in enumerate(CASES)])
def test_values_stand_between_quotation_marks_where_they_can_be_masked(case: Case) -> None:
    """What the issuer's dead letters tell must hold no value of a learner's."""
    if lint_table.BY_NAME[case.rule].unmasked:
        return
    values = {pointer(path): value for path, _, value in Subject(case.document(), None, 0).strings}
    for finding in findings_of(case):
        value = values.get(finding.pointer, "")
        assert len(value) < 4 or value not in _QUOTED.sub("'…'", finding.message)


@pytest.mark.parametrize("change", RIGHT)
def test_what_is_right_passes(change: Change) -> None:
    document = badge()
    change(document)
    assert lint.lint(document, issuer=DID).findings == ()


def test_a_key_may_finish_what_was_dated_while_it_was_active() -> None:
    for end in (NOW, NOW - timedelta(minutes=4), NOW + timedelta(days=1)):
        keys = (lint.SigningKey(METHOD, active_until=end),)
        assert lint.lint(badge(), issuer=DID, keys=keys).findings == ()


def test_the_error_tells_the_operator_where_and_what_to_do() -> None:
    document = badge()
    del ach(document)["criteria"]
    with pytest.raises(lint.LintError) as refused:
        lint.lint(document, issuer=DID)
    assert str(refused.value) == (
        "criteria at /credentialSubject/achievement/criteria: the criteria have neither a narrative nor an id; "
        "write a narrative, or give the page's URL"
    )


def test_several_flaws_are_all_told_at_once() -> None:
    document = badge()
    document["name"] = "undefined"
    document["validUntil"] = "soon"
    ach(document)["achievementType"] = "Medal"
    ach(document)["colour"] = "blue"
    with pytest.raises(lint.LintError, match="and 3 more") as refused:
        lint.lint(document, issuer=DID)
    assert [one.rule for one in refused.value.findings] == [
        "timestamps", "text-leftovers", "vocabularies", "safe-expansion",
    ]  # fmt: skip


@pytest.mark.parametrize("document", [None, [], "x", {}, {"@context": 5}, {"issuer": 5}, {"credentialSubject": [1]}])
@pytest.mark.parametrize("profile", ["openbadge", "endorsement", "statuslist"])
def test_anything_else_is_refused_by_name(document: Any, profile: lint.Profile) -> None:
    with pytest.raises(lint.LintError):
        lint.lint(document, profile=profile)


def test_deep_documents_are_refused() -> None:
    document: dict[str, Any] = badge()
    for _ in range(5000):
        document = {"a": document}
    with pytest.raises(lint.LintError, match="levels"):
        lint.lint(document)


def test_the_schema_is_compiled_once() -> None:
    schema._validator.cache_clear()
    for _ in range(3):
        schema.open_badge_findings(json.loads(json.dumps(badge())))
        schema.open_badge_findings(json.loads(json.dumps(endorsement())), contexts.ENDORSEMENT_SCHEMA)
    assert schema._validator.cache_info().misses == 2


@pytest.mark.parametrize("identifier", ["https://x.example/%zz", "https://x.example/a[b", "https://x.example/\ue000"])
def test_whatever_passes_can_be_signed(identifier: str) -> None:
    """Oddities that only the RDF parser knows are found by the lint, not by the signer."""
    document = badge()
    document["evidence"][0]["id"] = identifier
    try:
        linted = lint.lint(document, issuer=DID)
    except lint.LintError:
        return
    assert identifier.encode() in linted.canonical_nquads
    assert proofs.verify_proof(signed := proofs.sign(linted, SIGNER, CREATED), signed["proof"], KEY).ok


def test_endorsements_and_status_lists_are_signed_too() -> None:
    for document, profile in ((endorsement(), "endorsement"), (status_list(3), "statuslist")):
        linted = lint.lint(document, profile=profile, issuer=DID)  # type: ignore[arg-type]
        signed = proofs.sign(linted, SIGNER, CREATED)
        assert proofs.verify_proof(signed, signed["proof"], KEY).ok
