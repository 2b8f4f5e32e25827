# ruff: noqa: E501 - tables of values

"""One test for each known way in which a template could differ from the full way; each ends equal, or steps aside."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from laurel.credential import jsonld, lint, lint_rules, model, proof_bytes, proofs, schema, slots, status, template
from laurel.credential.contexts import OPEN_BADGES_SCHEMA
from laurel.credential.template import CanonicalTemplate, NeedsFullWay, NotCompilable, Path, Slot
from tests.unit.credential.samples import (
    ACHIEVEMENT,
    BASE,
    CREATED,
    DID,
    LIST_URL,
    RESULT_DESCRIPTION,
    SIGNER,
    badge,
)
from tests.unit.credential.test_template import assert_same, lint_way, values_of, with_values

Changes = dict[Path, str]
VALUE: Path = ("credentialSubject", "result", 0, "value")
HASH: Path = ("credentialSubject", "identifier", 0, "identityHash")


def made_of(document: dict[str, Any]) -> tuple[lint.LintedTemplate, list[Path]]:
    paths = list(slots.varying_paths(document))
    return lint.lint_template(document, paths, issuer=DID), paths


def filled(document: dict[str, Any], changes: Changes) -> tuple[lint.Linted, dict[str, Any]]:
    """The template's word on the document with these changes, and the changed document."""
    made, paths = made_of(document)
    assert changes.keys() <= set(paths)
    values = [changes.get(path, value) for path, value in zip(paths, values_of(document, paths), strict=True)]
    return made.linted(values), with_values(document, paths, values)


def assert_steps_aside(document: dict[str, Any], changes: Changes, message: str) -> None:
    with pytest.raises(NeedsFullWay, match=message):
        filled(document, changes)


def undescribed(*values: str) -> dict[str, Any]:
    return badge(results=tuple(model.Result(value) for value in values))


def test_equal_first_degree_hashes() -> None:
    document = undescribed("1", "2")
    other: Path = ("credentialSubject", "result", 1, "value")
    assert_same(*filled(document, {VALUE: "2", other: "1"}))
    assert_steps_aside(document, {VALUE: "2"}, "equal first-degree hashes")
    with pytest.raises(NotCompilable, match="equal first-degree hashes"):
        made_of(undescribed("2", "2"))
    twins = badge(
        achievement=model.Achievement(ACHIEVEMENT.id, "n", "d", "c", alignment=ACHIEVEMENT.alignment[:1] * 2),
        results=(),
    )
    with pytest.raises(NotCompilable, match="equal first-degree hashes"):
        made_of(twins)


def test_an_identifier_equal_to_another_varying_one() -> None:
    document = badge()
    assert_steps_aside(document, {("evidence", 0, "id"): document["id"]}, "two identifiers are equal")


@pytest.mark.parametrize("fixed", [DID, ACHIEVEMENT.id, LIST_URL, RESULT_DESCRIPTION, OPEN_BADGES_SCHEMA])
def test_an_identifier_equal_to_a_fixed_one(fixed: str) -> None:
    on_the_web = fixed.startswith("https:")  # other identifiers are no evidence
    assert_steps_aside(
        badge(), {("evidence", 0, "id"): fixed}, "stands elsewhere" if on_the_web else "out of the ordinary"
    )
    assert_steps_aside(badge(), {("id",): fixed}, "stands elsewhere")


def test_varying_identifiers_in_a_property_of_several_values_are_sorted_each_time() -> None:
    document = badge(evidence=tuple(model.Evidence(f"https://lms.example/{name}") for name in "abc"))
    for names in itertools.permutations(["a", "~", "b/x"]):
        changes: Changes = {("evidence", n, "id"): f"https://lms.example/{name}" for n, name in enumerate(names)}
        assert_same(*filled(document, changes))
    entries = [status.status_entry(LIST_URL, 1), status.status_entry(f"{BASE}/status/8", 2, "suspension")]
    assert_same(*filled(badge(status=entries), {("credentialStatus", 0, "id"): f"{BASE}/status/9#1"}))


def test_a_varying_literal_in_a_property_of_several_values_has_no_template() -> None:
    with pytest.raises(NotCompilable, match="one of several values"):
        CanonicalTemplate(badge(), [Slot(("credentialSubject", "achievement", "tag", 0), False, str)])


@pytest.mark.parametrize(
    "identifier",
    ["_:b0", "relative", "/c/1", "//x.example/c", "#x", "name:x", "schema:name", "id", "https:x", "https://",
     "https://x.example/%zz", "https://é.example/", "https://x.example/a b", "https://x.example/>", "x" * 9],
)  # fmt: skip
def test_identifiers_that_could_mean_something_else(identifier: str) -> None:
    assert not template.is_plain_iri(identifier)
    assert_steps_aside(badge(), {("evidence", 0, "id"): identifier}, "out of the ordinary")


def test_no_bundled_context_has_a_term_that_would_read_our_identifiers_as_prefixed() -> None:
    assert not template._reserved() & {"http", "https", "urn", "did"}


def test_contexts_of_the_documents_own_have_no_template() -> None:
    document = badge()
    document["credentialSubject"]["achievement"]["@context"] = {"name": "https://schema.org/name"}
    with pytest.raises(NotCompilable, match="context of its own"):
        CanonicalTemplate(document, [Slot(("id",), True, str)])


@pytest.mark.parametrize("path", [("credentialSubject", "creditsEarned"), ("type",), ("credentialSubject", "identifier", 0, "hashed")])  # fmt: skip
def test_what_is_no_string_may_not_vary(path: Path) -> None:
    with pytest.raises(NotCompilable, match="not a string"):
        CanonicalTemplate(badge(), [Slot(path, False, str)])
    with pytest.raises(NotCompilable, match="may not vary"):
        slots.slot_at(badge(), path)


@pytest.mark.parametrize("path", [("name",), ("issuer", "id"), ("credentialSubject", "achievement", "name"),
                                  ("credentialStatus", "statusListCredential"), ("@context", 0), ("type", 0)])  # fmt: skip
def test_what_an_organisation_says_may_not_vary(path: Path) -> None:
    with pytest.raises(NotCompilable, match="may not vary"):
        slots.slot_at(badge(), path)


def test_text_that_its_datatype_would_rewrite_has_no_template() -> None:
    for datatype in ("http://www.w3.org/2001/XMLSchema#double", "@json"):
        document = badge()
        document["credentialSubject"]["achievement"]["version"] = {"@value": "1", "@type": datatype}
        path: Path = ("credentialSubject", "achievement", "version", "@value")
        with pytest.raises(NotCompilable, match=r"rewritten|part of a term"):
            CanonicalTemplate(document, [Slot(path, False, str)])


def test_labels_depend_on_the_values_and_every_order_is_right() -> None:
    document = undescribed("1", "2", "3")
    made, paths = made_of(document)
    orders = set()
    for number in range(300):
        changes: Changes = {("credentialSubject", "result", place, "value"): f"{number}-{place}" for place in range(3)}
        values = [changes.get(path, value) for path, value in zip(paths, values_of(document, paths), strict=True)]
        linted = made.linted(values)
        orders.add(tuple(line for line in linted.canonical_nquads.split(b"\n") if b"vocab.html#result> _:" in line))
        assert linted.canonical_nquads == jsonld.canonical_nquads(with_values(document, paths, values))
    assert len(orders) > 10


def test_orders_are_kept_up_to_a_bound_and_sorted_each_time_beyond_it() -> None:
    document = undescribed(*"123456")
    made, paths = made_of(document)
    layouts = made._canonical._layouts
    for number in range(300):
        values = [
            f"{number}-{path[2]}" if path[1:2] == ("result",) else value
            for path, value in zip(paths, values_of(document, paths), strict=True)
        ]
        linted = made.linted(values)
        if number > 250:
            assert linted.canonical_nquads == jsonld.canonical_nquads(with_values(document, paths, values))
    assert len(layouts) == template._MAX_LAYOUTS


def test_the_oddities_of_the_open_badges_context_are_kept() -> None:
    linted, document = filled(badge(), {("awardedDate",): "2026-05-04T12:30:01Z"})
    text = linted.canonical_nquads.decode()
    assert '#hashed> "true"^^<https://www.w3.org/2001/XMLSchema#boolean> .' in text
    assert '#awardedDate> "2026-05-04T12:30:01Z"^^<xsd:dateTime> .' in text
    assert f'#resultDescription> "{RESULT_DESCRIPTION}"^^<https://www.w3.org/2001/XMLSchema#anyURI> .' in text
    assert_same(linted, document)


def test_the_creator_who_is_the_issuer_is_said_once() -> None:
    linted, document = filled(badge(), {VALUE: "94"})
    assert linted.canonical_nquads.count(f"<{DID}> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type>".encode()) == 1
    assert_same(linted, document)


@pytest.mark.parametrize("text", ['"', "\\", "\n", "\x7f", "\u2028", "\ud800", "e\u0301", " ", "", "\x00", "\ufffe"])
def test_text_that_would_be_escaped_or_refused_steps_aside(text: str) -> None:
    assert_steps_aside(badge(), {("credentialSubject", "identifier", 0, "salt"): text}, "out of the ordinary")
    assert_steps_aside(badge(), {("evidence", 0, "narrative"): text}, "out of the ordinary")


REFUSED: list[tuple[Path, str]] = [
    (VALUE, "101"), (VALUE, "-1"), (HASH, "sha256$abc"), (HASH, "ada@example.org"), (("evidence", 0, "name"), "<b>x</b>"),
    (("evidence", 0, "name"), "undefined"), (("evidence", 0, "narrative"), "Dear {{name}}"),
    (("validFrom",), "2026-02-30T00:00:00Z"), (("awardedDate",), "2026-05-04"), (("awardedDate",), "0000-01-01T00:00:00Z"),
    (("credentialStatus", "statusListIndex"), "007"), (("credentialStatus", "id"), LIST_URL), (("id",), "badge-1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), REFUSED)
def test_what_lint_refuses_no_template_takes(path: Path, value: str) -> None:
    document = badge()
    assert lint_way(with_values(document, [path], [value])) is None
    with pytest.raises(NeedsFullWay):
        filled(document, {path: value})


def test_a_learner_whose_did_key_holds_no_key() -> None:
    document = badge(recipient=model.Recipient("did:web:x.example"))
    assert lint_way(with_values(document, [("credentialSubject", "id")], ["did:key:zzz"])) is None
    assert_steps_aside(document, {("credentialSubject", "id"): "did:key:zzz"}, "out of the ordinary")
    learner = "did:key:" + SIGNER.public_key_multibase
    assert_same(*filled(document, {("credentialSubject", "id"): learner}))


def test_a_period_that_ends_before_it_starts_and_one_that_varies_at_one_end() -> None:
    document = badge(valid_until=CREATED)
    assert_steps_aside(document, {("validUntil",): "2026-05-04T12:29:59Z"}, "ends before it starts")
    for path, good, bad in (
        ("validFrom", "2026-05-04T12:31:05Z", "2026-05-04T12:31:06Z"),
        ("validUntil", "2026-05-04T12:30:00Z", "2026-05-04T12:29:59Z"),
    ):
        made = lint.lint_template(document, [(path,)], issuer=DID)
        assert_same(made.linted([good]), {**document, path: good})
        with pytest.raises(NeedsFullWay, match="ends before it starts"):
            made.linted([bad])
    document["validUntil"] = "2027-05-04T12:31:05.5+02:00"
    with pytest.raises(NotCompilable, match="another form"):
        lint.lint_template(document, [("validFrom",)], issuer=DID)


def test_what_is_awarded_later_on_the_same_day_has_a_template_and_on_the_next_day_goes_the_full_way() -> None:
    assert_same(*filled(badge(), {("awardedDate",): "2026-05-04T23:59:59Z"}))
    assert_steps_aside(badge(), {("awardedDate",): "2026-05-05T00:00:00Z"}, "awarded after it became valid")


def test_a_key_that_was_retired_has_no_template() -> None:
    document = badge()
    keys = (lint.SigningKey(SIGNER.verification_method, active_until=CREATED),)
    assert lint.lint(document, issuer=DID, keys=keys).findings == ()
    with pytest.raises(NotCompilable, match="retired key"):
        lint.lint_template(document, [("id",)], issuer=DID, keys=keys)


def test_two_entries_in_one_status_list_have_no_template() -> None:
    entries = [status.status_entry(LIST_URL, 1), status.status_entry(LIST_URL, 2, "suspension")]
    with pytest.raises(NotCompilable, match="in one list"):
        made_of(badge(status=entries))


def test_a_document_that_grows_too_large() -> None:
    document, salt = badge(), ("credentialSubject", "identifier", 0, "salt")
    assert_steps_aside(document, {salt: "x" * 262_144}, "too large")
    made, paths = made_of(document)
    room = lint_rules.MAX_BYTES - made._size - sum(
        len(value.encode()) for path, value in zip(paths, values_of(document, paths), strict=True) if path != salt
    )  # fmt: skip
    assert_same(*filled(document, {salt: "x" * room}))
    assert_steps_aside(document, {salt: "x" * (room + 1)}, "too large")
    assert lint_way(with_values(document, [salt], ["x" * (room + 1)])) is None


def test_the_json_schema_asks_of_varying_values_only_that_they_are_strings_and_times() -> None:
    """The premise of the slots' rules: else they would have to know more of the schema."""
    document = badge(recipient=model.Recipient("did:example:a", model.IdentityHash("sha256$", "s")), license_number="1",
                     role="r", term="t", valid_until=CREATED, activity_start_date=CREATED)  # fmt: skip
    paths = list(slots.varying_paths(document))
    assert len(paths) > 12
    for path in paths:
        is_time = path[-1] in lint_rules.TIME_KEYS
        for text in (
            ("2026-05-04T12:30:00Z", "2026-05-04T23:59:59Z") if is_time else ("x", " ", '"', "ext:", "é\n", "0")
        ):
            assert not schema.open_badge_findings(with_values(document, [path], [text])), (path, text)


def test_only_lint_makes_tokens_and_templates() -> None:
    made, paths = made_of(badge())
    with pytest.raises(TypeError, match="lint_template"):
        lint.LintedTemplate(object(), lint.lint(badge()), ())
    with pytest.raises(lint.LintError):
        lint.lint_template({**badge(), "name": "undefined"}, [("id",)], issuer=DID)
    with pytest.raises(lint.LintError):
        lint.lint_template(badge(), [("id",)], issuer="did:web:elsewhere.example")
    with pytest.raises(TypeError):
        proof_bytes.sign_bytes(badge(), SIGNER, CREATED)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        made.linted([*values_of(badge(), paths), "one too many"])


def test_our_own_check_sees_every_change() -> None:
    linted = lint.lint(badge(), issuer=DID)
    body = proof_bytes.sign_bytes(linted, SIGNER, CREATED)
    key = SIGNER.public_key_multibase
    assert proof_bytes.verify_bytes(linted, body, key).ok
    assert proofs.verify_proof(linted.document(), msgspec.json.decode(body)["proof"], key).ok
    for position in range(0, len(body), 7):
        changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
        assert not proof_bytes.verify_bytes(linted, changed, key).ok, position
    other = lint.lint(badge(role="r"), issuer=DID)
    assert proof_bytes.verify_bytes(other, body, key).reason == "malformed_proof"
    assert proof_bytes.verify_bytes(linted, b"", key).reason == "malformed_proof"
    assert not proof_bytes.verify_bytes(linted, linted.encoded(), key).ok
    with_more = body[:-2] + b',"nonce":"x"}}'
    assert proof_bytes.verify_bytes(linted, with_more, key).reason == "malformed_proof"
    start = len(linted.encoded()) - 1
    proof = msgspec.json.decode(body)["proof"]
    turned = msgspec.json.encode({"proofValue": proof.pop("proofValue"), **proof})
    assert not proof_bytes.verify_bytes(linted, body[:start] + b',"proof":' + turned + b"}", key).ok
    short = body[:-6] + body[-3:]
    assert proof_bytes.verify_bytes(linted, short, key).reason == "malformed_proof_value"
    later = proof_bytes.sign_bytes(linted, SIGNER, CREATED + timedelta(seconds=1))
    assert proof_bytes.verify_bytes(linted, later, key).ok
    mixed = later[: -len(proof_value(later)) - 3] + proof_value(body) + body[-3:]
    assert proof_bytes.verify_bytes(linted, mixed, key).reason == "bad_signature"


def test_our_own_check_of_many_names_the_one_that_is_wrong() -> None:
    linted = [lint.lint(badge(role=f"role {number}"), issuer=DID) for number in range(5)]
    made = [(one, proof_bytes.sign_bytes(one, SIGNER, CREATED)) for one in linted]
    key = SIGNER.public_key_multibase
    assert [(one.ok, one.proof) for one in proof_bytes.verify_made(made, key)] == [
        (True, proof_bytes.verify_bytes(*one, key).proof) for one in made
    ]
    for wrong, reason in (
        (made[1][1], "malformed_proof"),  # of another document
        (b"", "malformed_proof"),
        (made[2][1][: -len(proof_value(made[2][1])) - 3] + proof_value(made[1][1]) + b'"}}', "bad_signature"),
    ):
        found = proof_bytes.verify_made([*made[:2], (linted[2], wrong), *made[3:]], key)
        assert [one.reason for one in found] == [None, None, reason, None, None]
    assert {one.reason for one in proof_bytes.verify_made(made, "zWrong")} == {"unsupported_key"}
    assert proof_bytes.verify_made([], key) == []


def proof_value(body: bytes) -> bytes:
    value: str = msgspec.json.decode(body)["proof"]["proofValue"]
    return value.encode()
