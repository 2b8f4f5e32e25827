"""A few thousand of the mutants at each change of the code; `python -m tests.mutants` tries a hundred thousand."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from laurel.credential import model
from tests.mutants.kinds import KINDS
from tests.mutants.lists import LISTS
from tests.mutants.meaning import same, statements
from tests.mutants.specimens import specimens
from tests.mutants.trial import mutant, try_mutants, unmutated
from tests.unit.credential.samples import badge

ALL = len(KINDS) + len(LISTS)


def test_the_specimens_are_what_they_are_called() -> None:
    verdicts = unmutated()
    assert {one.name: one.state for one in specimens()} == verdicts
    assert sum(verdict == "valid" for verdict in verdicts.values()) >= 7


@pytest.mark.parametrize("part", range(2))
def test_no_mutant_is_valid(part: int) -> None:
    count = 5 * len(specimens()) * ALL  # each kind with each specimen, five times
    report = try_mutants(4, range(part * count, (part + 1) * count))
    assert report.escaped == []
    assert report.mutants + report.same.total() == count
    assert report.mutants > count * 0.75
    # Equal in meaning, and valid where nothing else is wrong: else the verifier would refuse everything.
    assert report.same_valid.total() > 30
    assert report.verdicts.keys() >= {"invalid", "valid", "could_not_check", "expired", "revoked", "suspended"}


def test_a_mutant_is_the_same_each_time() -> None:
    assert [mutant(7, number) for number in range(ALL)] == [mutant(7, number) for number in range(ALL)]


DOCUMENT = {**badge(), "proof": {"type": "DataIntegrityProof", "cryptosuite": "eddsa-rdfc-2022", "proofValue": "z1"}}


def changed(*path: Any, to: Any) -> dict[str, Any]:
    made = copy.deepcopy(DOCUMENT)
    target: Any = made
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = to
    return made


def test_what_counts_as_the_same() -> None:
    tags = ("credentialSubject", "achievement", "tag")
    for same_statements in (
        changed(*tags, to=["statistics", "data", "data"]), changed("evidence", to=DOCUMENT["evidence"][0]),
        changed("name", to=[DOCUMENT["name"]]), changed("proof", to=[DOCUMENT["proof"]]),
        changed("@context", to=[*DOCUMENT["@context"], DOCUMENT["@context"][0]]),
    ):  # fmt: skip
        assert same(same_statements, DOCUMENT, "rdfc")
        if same_statements["proof"] == DOCUMENT["proof"] and same_statements["@context"] == DOCUMENT["@context"]:
            assert not same(same_statements, DOCUMENT, "jcs")
    earned = ("credentialSubject", "creditsEarned")
    assert same(changed(*earned, to=2.4999999999999996), DOCUMENT, "rdfc")
    assert not same(changed(*earned, to=2.4999999999999996), DOCUMENT, "jcs")
    assert same(dict(reversed(DOCUMENT.items())), DOCUMENT, "jcs")
    for other in (
        changed(*tags, to=["data"]), changed("name", to="x"), changed("@context", to=DOCUMENT["@context"][:1]),
        changed("validFrom", to="2026-05-04T12:30:01Z"), changed("proof", "proofValue", to="z2"), None, [],
        changed("credentialSubject", "creditsEarned", to="2.5"), changed("proof", to=None),
    ):  # fmt: skip
        assert not same(other, DOCUMENT, "rdfc")
        assert not same(other, DOCUMENT, "jcs")


def test_the_other_processor_reads_what_is_issued() -> None:
    found = statements(badge())
    assert found is not None
    assert found.count(b"\n") > 30
    assert statements(badge(recipient=model.Recipient(id="did:example:other"))) != found
