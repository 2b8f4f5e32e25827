# ruff: noqa: E501 - tables of values

"""The issuer's templates: the same bytes as without them, canaries that sing, and what goes the full way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from laurel.credential import lint, proof_bytes, proofs
from laurel.credential.lint import LintedTemplate
from laurel.credential.template import CanonicalTemplate
from laurel.events import AssessmentPassed, Recipient, ResultValue
from laurel_issuer import signing, templates
from laurel_issuer.domain import Inconsistent, StatusPlace, build_credential
from laurel_issuer.signing import Group, Item, Made
from tests.unit.issuer.test_signing import DEFINITION, DID, KEK, NOW, SIGNER, group, item

GRADES = [f"urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e0{number}" for number in range(4)]
GRADED = {
    **DEFINITION,
    "resultDescription": [
        {"id": one, "type": ["ResultDescription"], "name": "Grade", "resultType": "Percent", "valueMin": "0", "valueMax": "100"}
        for one in GRADES
    ],
}  # fmt: skip


def begin(canary_every: int = 1000) -> templates.Templates:
    signing._begin_thread(KEK, canary_every)
    kept: templates.Templates = signing._local.templates
    return kept


def make(of: Group, items: Sequence[Item]) -> list[Any]:
    return signing._make_chunk(of, items)


def in_full(of: Group, one: Item) -> bytes | None:
    document = build_credential(
        msgspec.json.decode(one.passed, type=AssessmentPassed),
        document_url=one.document_url, created=one.created, definition=msgspec.json.decode(of.definition),
        issuer=of.issuer, places=one.places, validity_days=of.validity_days,
    )  # fmt: skip
    try:
        return msgspec.json.encode(proofs.sign(lint.lint(document, issuer=DID), SIGNER, one.created))
    except lint.LintError:
        return None


def any_item(rng: random.Random, number: int) -> Item:
    text = rng.choice(["s", "s4lt", "é", "", '"', "\u202e"])
    recipient = rng.choice([
        Recipient(identity_hash="sha256$" + f"{number:064x}", salt=f"s{number}"),
        Recipient(identity_hash=rng.choice(["sha256$" + f"{number:064x}", "md5$" + f"{number:032x}", "ada"]), salt=text),
        Recipient(identity_hash="sha256$" + f"{number:064x}"),
        Recipient(did=f"did:web:x{number}.example"),
        Recipient(did=rng.choice(["did:web", "https://x.example/ada", DID, "urn:isbn:1", ""])),
        Recipient(did=f"did:key:z{number}", identity_hash="sha256$" + f"{number:064x}", salt="s", identity_type="ext:x"),
    ])  # fmt: skip
    shown = rng.choice([0, 0, 1, 2, 4])
    passed = AssessmentPassed(
        tenant_id="t", credential_id=f"c{number}", result_id="r", achievement_id="a", achievement_version=1, award=1,
        recipient=recipient,
        results=tuple(
            ResultValue(value=rng.choice(["93", str(number % 105), "7.5", ""]), result_description=rng.choice([one, one, None]))
            for one in GRADES[:shown]
        ),
        evidence=tuple(f"https://lms.example/{rng.randrange(1000)}" for _ in range(rng.choice([0, 0, 1, 2]))),
        achieved_at=NOW - timedelta(seconds=number), decided_at=NOW,
    )  # fmt: skip
    places = [StatusPlace("https://badges.example.org/status/1", number, "revocation")]
    if rng.random() < 0.3:
        places.append(StatusPlace("https://badges.example.org/status/2", number * 7, "suspension"))
    created = NOW + timedelta(seconds=rng.randrange(3))
    return Item(
        f"c{number}", f"https://badges.example.org/c/{number}", created, msgspec.json.encode(passed), tuple(places)
    )


@pytest.mark.parametrize("validity_days", [None, 365, 10_000_000])
def test_every_shape_that_the_issuer_makes_has_the_bytes_of_the_full_way(validity_days: int | None) -> None:
    kept = begin()
    rng = random.Random(f"shapes {validity_days}")
    items = [any_item(rng, number) for number in range(300)]
    of = group(definition=msgspec.json.encode(GRADED), validity_days=validity_days)
    made = [make(of, [one])[0] for one in items]
    assert [one.body if isinstance(one, Made) else None for one in made] == [in_full(of, one) for one in items]
    assert sum(one.filled for one in kept._kept.values()) > 40


def test_entries_for_refresh_and_messages_have_the_bytes_of_the_full_way() -> None:
    kept = begin()
    rng = random.Random("entries")
    base = "https://badges.example.org/status"
    texts = [("fine",), ("fine", "under review"), ("fine", "é \U0001f393", "replaced"), tuple("abcdefghi")]
    items = []
    for number in range(400):
        places = [StatusPlace(f"{base}/1", number, "revocation")]
        if number % 2:
            places.append(StatusPlace(f"{base}/3", rng.randrange(131_072), "refresh"))
        messages, reference = rng.choice(texts), rng.choice([None, "https://badges.example.org/meanings"])
        places.append(StatusPlace(f"{base}/m{len(messages)}", rng.randrange(131_072), "message", messages, reference))
        items.append(replace(item(number), places=tuple(places)))
    of = group()
    made = [make(of, [one])[0] for one in items]
    assert [one.body for one in made] == [in_full(of, one) for one in items]
    assert sum(one.filled for one in kept._kept.values()) == 400 - 16  # what a list tells is part of the shape
    for one in made:
        entry = msgspec.json.decode(one.body)["credentialStatus"][-1]
        assert len(entry["statusMessage"]) == 2 ** entry["statusSize"]


def test_canaries_are_many_at_the_beginning_and_then_one_in_n(monkeypatch: pytest.MonkeyPatch) -> None:
    begin(canary_every=10)
    built = []
    build = signing._build
    monkeypatch.setattr(
        signing, "_build", lambda *arguments: built.append(arguments[2].credential_id) or build(*arguments)
    )
    make(group(), [item(number) for number in range(41)])
    canaries = [1, 2, 4, 8, 10, 16, 20, 30, 32, 40]
    assert built == ["c0", *(f"c{number}" for number in canaries)]  # c0 is what the template is made of


def _lying(template: CanonicalTemplate, fields: Sequence[bytes]) -> bytes:
    return _fill(template, fields).replace(b"Heat", b"Heap")


_fill = CanonicalTemplate.fill


def test_a_template_that_lies_stops_issuing_at_its_first_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    make(group(), [item(0)])
    monkeypatch.setattr(CanonicalTemplate, "fill", _lying)
    with pytest.raises(Inconsistent, match="another credential than the full way"):
        make(group(), [item(1)])


@pytest.mark.parametrize("what", ["canonical form", "JSON", "acceptance"])
def test_a_template_that_starts_to_lie_stops_issuing_within_n(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(canary_every=8)
    assert len(make(group(), [item(number) for number in range(3)])) == 3
    if what == "canonical form":
        monkeypatch.setattr(CanonicalTemplate, "fill", _lying)
    elif what == "JSON":
        linted = LintedTemplate.linted
        monkeypatch.setattr(
            LintedTemplate, "linted", lambda made, values: linted(made, [*values[:1], values[2], *values[2:]])
        )
    items = [item(number) for number in range(3, 12)]
    if what == "acceptance":
        monkeypatch.setattr(signing.lint, "lint", _refuse)
    elif what == "JSON":
        items = [_created_later(one) for one in items]
    with pytest.raises(Inconsistent, match="template"):
        make(group(), items)


def _created_later(one: Item) -> Item:
    return Item(one.credential_id, one.document_url, one.created + timedelta(days=1), one.passed, one.places)


def _refuse(*_: object, **__: object) -> lint.Linted:
    raise lint.LintError((lint.Finding("dates", "error", "/validFrom", "no", "Laurel"),))


def test_the_own_check_does_not_pass_a_wrong_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    make(group(), [item(0), item(1)])
    sign = proof_bytes.sign_bytes
    monkeypatch.setattr(proof_bytes, "sign_bytes", lambda linted, *rest: sign(linted, *rest).replace(b"Heat", b"Heap"))
    with pytest.raises(Inconsistent, match="does not verify"):
        make(group(), [item(2)])


def test_shapes_without_a_template_are_tried_a_few_times_and_go_the_full_way(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = begin()
    tried = []
    lint_template = lint.lint_template
    monkeypatch.setattr(templates.lint, "lint_template", lambda *a, **k: tried.append(1) or lint_template(*a, **k))
    twins = {
        **DEFINITION,
        "alignment": [{"type": ["Alignment"], "targetName": "n", "targetUrl": "https://x.example/"}] * 2,
    }
    of = group(definition=msgspec.json.encode(twins))
    made = make(of, [item(number) for number in range(6)])
    assert [one.body for one in made] == [in_full(of, item(number)) for number in range(6)]
    assert len(tried) == 3
    assert all(one.template is None for one in kept._kept.values())


def test_templates_are_bounded_and_another_version_has_another_one() -> None:
    kept = begin()
    for number in range(templates._MAX_TEMPLATES + 5):
        of = group(definition=msgspec.json.encode({**DEFINITION, "name": f"Version {number}"}))
        for one in make(of, [item(0), item(1)]):
            assert isinstance(one, Made)
            assert f"Version {number}".encode() in one.body
    assert len(kept._kept) == templates._MAX_TEMPLATES
