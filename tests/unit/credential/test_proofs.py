from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laurel.credential import jsonld, keys, lint, multibase, proofs
from tests.unit.credential.samples import CREATED, DID, P256_SIGNER, SIGNER, SUITES, badge, signed_badge, status_list

KEY = SIGNER.public_key_multibase
KEYS = {signer.verification_method.partition("#")[2]: signer.public_key_multibase for _, signer in SUITES}
Path = tuple[str | int, ...]


def verdict(document: dict[str, Any], **options: Any) -> proofs.ProofResult:
    proof = document.get("proof")
    fragment = str(proof.get("verificationMethod")).partition("#")[2] if isinstance(proof, dict) else ""
    return proofs.verify_proof(document, proof, KEYS.get(fragment, KEY), **options)


EVERY_SUITE = pytest.mark.parametrize(
    ("cryptosuite", "signer"), SUITES, ids=[f"{name}-{signer.public_key_multibase[:4]}" for name, signer in SUITES]
)


@EVERY_SUITE
def test_what_is_signed_verifies_and_is_always_the_same(cryptosuite: str, signer: keys.Signer) -> None:
    linted = lint.lint(badge(), issuer=DID)
    first = proofs.sign(linted, signer, CREATED, cryptosuite)
    again = proofs.sign(lint.lint(badge(), issuer=DID), pickle.loads(pickle.dumps(signer)), CREATED, cryptosuite)
    assert json.dumps(first) == json.dumps(again)
    assert {key: value for key, value in first.items() if key != "proof"} == badge()
    result = verdict(first)
    assert result.ok, result
    assert result.proof is not None
    assert result.proof.created == CREATED
    assert result.proof.controller == DID
    assert first["proof"]["proofPurpose"] == "assertionMethod"
    assert first["proof"]["created"] == "2026-05-04T12:31:05Z"


def test_a_status_list_is_linted_and_signed_too() -> None:
    linted = lint.lint(status_list(3, 99_999), profile="statuslist", issuer=DID)
    assert verdict(proofs.sign(linted, SIGNER, CREATED)).ok


def test_only_a_linted_document_can_be_signed() -> None:
    for impostor in (badge(), json.dumps(badge()), object(), None):
        with pytest.raises(TypeError, match="Linted"):
            proofs.sign(impostor, SIGNER, CREATED)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        lint.Linted(object(), "{}", b"", DID, "openbadge", ())
    linted = lint.lint(badge(), issuer=DID)
    with pytest.raises(AttributeError):
        linted.issuer = "did:web:evil.example"
    with pytest.raises(AttributeError):
        del linted.issuer
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            copied(linted)


def test_changing_the_document_after_the_lint_changes_nothing() -> None:
    document = badge()
    linted = lint.lint(document, issuer=DID)
    document["name"] = "undefined"
    linted.document()["name"] = "undefined"
    assert proofs.sign(linted, SIGNER, CREATED) == signed_badge()


def test_a_key_of_somebody_else_signs_nothing_in_the_issuers_name() -> None:
    stranger = keys.Ed25519Signer(bytes(32), "did:web:evil.example#key-1")
    with pytest.raises(proofs.ProofError) as refused:
        proofs.sign(lint.lint(badge()), stranger, CREATED)
    assert refused.value.code == "wrong_controller"
    with pytest.raises(ValueError, match="time zone"):
        proofs.sign(lint.lint(badge()), SIGNER, datetime(2026, 1, 1))
    with pytest.raises(proofs.ProofError, match="unknown_cryptosuite"):
        proofs.sign(lint.lint(badge()), SIGNER, CREATED, "eddsa-2022")


# -- tampering -------------------------------------------------------------------------------------------------


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


def at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def put(document: Any, path: Path, value: Any) -> None:
    at(document, path[:-1])[path[-1]] = value


JCS_SUITES = (proofs.JCS, proofs.ECDSA_JCS)
BADGE_LEAVES = sorted(leaves(signed_badge()), key=repr)
JSON_LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just({}) | st.just([])


def other_than(value: Any) -> st.SearchStrategy[Any]:
    """Another JSON value. 1 and 1.0 are the same JSON number, and True is not 1."""
    different = JSON_LEAF.filter(lambda new: type(new) is not type(value) or new != value)
    different = different.filter(lambda new: isinstance(new, bool | str | None) or new != value)
    if isinstance(value, str) and value:
        cut = st.integers(0, len(value) - 1)
        flipped = cut.map(lambda at: value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :])
        return different | flipped | cut.map(lambda at: value[:at]) | st.just(value + " ") | st.just(value.swapcase())
    return different


@EVERY_SUITE
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_any_changed_value_is_refused(cryptosuite: str, signer: keys.Signer, data: st.DataObject) -> None:
    document = signed_badge(cryptosuite, signer)
    path = data.draw(st.sampled_from(BADGE_LEAVES))
    if cryptosuite in JCS_SUITES and path[:1] == ("@context",):
        return  # covered below: what is signed there is the proof's @context
    old = at(document, path)
    new = data.draw(other_than(old))
    if new == old and type(new) is type(old):
        return
    put(document, path, new)
    result = verdict(document)
    assert not result.ok, (path, old, new)
    assert result.reason


@pytest.mark.parametrize("path", BADGE_LEAVES, ids=lambda path: "/".join(map(str, path)))
def test_any_removed_value_is_refused(path: Path) -> None:
    for cryptosuite, signer in SUITES:
        rdfc = cryptosuite not in JCS_SUITES
        if path == ("credentialSubject", "achievement", "creator", "type", 0) and rdfc:
            continue  # the creator is the issuer, and the issuer says that it is a Profile: still the same statements
        document = signed_badge(cryptosuite, signer)
        del at(document, path[:-1])[path[-1]]
        if path[0] == "@context" and path[1] == 2 and rdfc:
            assert verdict(document).reason == "unsafe_document"
        assert not verdict(document).ok


@pytest.mark.parametrize(
    "addition",
    [
        {"validUntil": "2099-01-01T00:00:00Z"},
        {"description": "and a medal"},
        {"unknownTerm": "free text"},
        {"@graph": []},
        {"@included": [{"id": "urn:x:y", "type": "Profile", "name": "x"}]},
        {"refreshService": None},
    ],
)
def test_any_added_value_is_refused(addition: dict[str, Any]) -> None:
    for place in ((), ("issuer",), ("credentialSubject", "achievement")):
        for cryptosuite, signer in SUITES:
            document = signed_badge(cryptosuite, signer)
            at(document, place).update(addition)
            if addition == {"@graph": []} and cryptosuite not in JCS_SUITES:
                continue  # an empty graph says nothing
            assert not verdict(document).ok, (place, cryptosuite)


def test_contexts_may_not_change_the_meaning() -> None:
    for change in (
        lambda contexts: contexts.append({"name": "https://evil.example/name"}),
        lambda contexts: contexts.append("https://evil.example/v1"),
        lambda contexts: contexts.insert(0, {"@language": "en"}),
        lambda contexts: contexts.__setitem__(1, "https://purl.imsglobal.org/spec/ob/v3p0/context.json"),
    ):
        document = signed_badge()
        change(document["@context"])
        assert not verdict(document).ok
    # eddsa-rdfc-2022 signs the meaning: with a context that defines nothing used here it is the same document.
    document = signed_badge()
    document["@context"].append({"unused": "https://x.example/unused"})
    assert verdict(document).ok


def test_jcs_signs_the_proofs_context_which_the_document_may_only_extend() -> None:
    longer = signed_badge(proofs.JCS)
    longer["@context"].append("https://w3id.org/security/data-integrity/v2")
    assert verdict(longer).ok  # VC DI EdDSA §3.3.2 step 4.1
    other = signed_badge(proofs.JCS)
    other["@context"][1] = "https://evil.example/v1"
    assert verdict(other).reason == "context_mismatch"


def test_another_key_does_not_verify() -> None:
    stranger = keys.Ed25519Signer(bytes(32), "did:web:evil.example#key-1").public_key_multibase
    document = signed_badge()
    assert proofs.verify_proof(document, document["proof"], stranger).reason == "bad_signature"
    assert proofs.verify_proof(document, document["proof"], "z6MkNope").reason == "unsupported_key"


# -- hostile proofs --------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p.update(type="Ed25519Signature2018"), "unknown_proof_type"),
        (lambda p: p.update(type="Ed25519Signature2020"), "malformed_proof"),
        (lambda p: p.pop("type"), "unknown_proof_type"),
        (lambda p: p.update(cryptosuite="ecdsa-rdfc-2019"), "wrong_key_type"),
        (lambda p: p.update(cryptosuite="ecdsa-sd-2023"), "unknown_cryptosuite"),
        (lambda p: p.update(cryptosuite="Ed25519Signature2020"), "unknown_cryptosuite"),
        (lambda p: p.update(cryptosuite=["eddsa-rdfc-2022"]), "unknown_cryptosuite"),
        (lambda p: p.update(proofPurpose="authentication"), "wrong_purpose"),
        (lambda p: p.pop("proofPurpose"), "wrong_purpose"),
        (lambda p: p.pop("verificationMethod"), "missing_verification_method"),
        (lambda p: p.update(verificationMethod="#key-1"), "missing_verification_method"),
        (lambda p: p.update(verificationMethod={"id": "did:web:x#y"}), "missing_verification_method"),
        (lambda p: p.update(created="2026-05-04"), "malformed_created"),
        (lambda p: p.update(created="2026-05-04T12:31:05"), "malformed_created"),
        (lambda p: p.update(created="2026-02-30T12:31:05Z"), "malformed_created"),
        (lambda p: p.update(created=None), "malformed_created"),
        (lambda p: p.update(expires="soon"), "malformed_expires"),
        (lambda p: p.pop("proofValue"), "malformed_proof_value"),
        (lambda p: p.update(proofValue="u" + p["proofValue"][1:]), "malformed_proof_value"),
        (lambda p: p.update(proofValue="z0OIl"), "malformed_proof_value"),
        (lambda p: p.update(proofValue="z" + "1" * 64 + "2"), "malformed_proof_value"),
        (lambda p: p.update(proofValue=p["proofValue"][:-3]), "malformed_proof_value"),
        (lambda p: p.update(proofValue="z" * 1_000_000), "malformed_proof_value"),
        (lambda p: p.update(previousProof="urn:x:none"), "missing_previous_proof"),
        (lambda p: p.update(previousProof=[5]), "malformed_proof"),
        (lambda p: p.update(previousProof=["urn:x:none"] * 2), "malformed_proof"),
        (lambda p: p.update(previousProof=[f"urn:x:{n}" for n in range(99)]), "malformed_proof"),
        (lambda p: p.update(id="urn:x:me", previousProof="urn:x:me"), "malformed_proof"),
        (lambda p: p.update(id="me"), "malformed_proof"),
        (lambda p: p.update(challenge=5), "malformed_proof"),
        (lambda p: p.update(domain={"x": 1}), "malformed_proof"),
        (lambda p: p.update(nonce=None), "malformed_proof"),
        (lambda p: p.update(id="urn:x:me"), "bad_signature"),
        (lambda p: p.update(challenge="abc"), "bad_signature"),
        (lambda p: p.update(created="2026-05-04T12:31:06Z"), "bad_signature"),
        (lambda p: p.update(verificationMethod=p["verificationMethod"] + "2"), "bad_signature"),
        (lambda p: p.update(domain="evil.example"), "bad_signature"),
        (lambda p: p.update(unheardOf=1), "unsafe_document"),
    ],
)
def test_each_flaw_of_a_proof_has_its_name(change: Change, reason: str) -> None:
    document = signed_badge()
    change(document["proof"])
    assert verdict(document).reason == reason


@given(proof=st.recursive(JSON_LEAF, lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner), max_leaves=8))
def test_no_proof_makes_the_verifier_raise(proof: Any) -> None:
    assert not proofs.verify_proof(badge(), proof, KEY).ok
    hostile = {**signed_badge()["proof"], "previousProof": proof}
    assert not proofs.verify_proof(badge(), hostile, KEY).ok or proof == []


@settings(deadline=None)
@given(
    document=st.recursive(
        JSON_LEAF,
        lambda inner: (
            st.dictionaries(
                st.sampled_from(
                    ["@context", "id", "type", "@id", "@type", "@value", "@list", "@graph", "name", "proof"]
                ),
                inner,
            )
            | st.lists(inner)
        ),
        max_leaves=12,
    )
)
def test_no_document_makes_the_verifier_raise(document: Any) -> None:
    proof = signed_badge()["proof"]
    assert not proofs.verify_proof(document, proof, KEY).ok
    if isinstance(document, dict):
        mixed = {**badge(), **document, "proof": proof}
        if proofs.verify_proof(mixed, proof, KEY).ok:  # only an addition that says nothing, like an empty list
            assert jsonld.canonical_nquads(mixed) == jsonld.canonical_nquads(signed_badge())


def test_an_expired_proof_is_refused_when_the_time_is_known() -> None:
    document = signed_badge()
    document["proof"]["expires"] = "2026-06-01T00:00:00Z"
    at_last = datetime(2026, 6, 1, tzinfo=UTC)
    assert verdict(document, now=at_last).reason == "bad_signature"  # it was not signed with an expiry
    assert verdict(document, now=at_last + timedelta(seconds=1)).reason == "proof_expired"


def test_signature_malleability_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493  # RFC 8032 §5.1
    document = signed_badge()
    raw = multibase.decode(document["proof"]["proofValue"])
    s = int.from_bytes(raw[32:], "little") + order
    document["proof"]["proofValue"] = multibase.encode(raw[:32] + s.to_bytes(32, "little"))
    assert verdict(document).reason == "bad_signature"


def test_a_cryptosuite_takes_its_kinds_of_keys_only() -> None:
    for suite, signer in ((proofs.RDFC, P256_SIGNER), (proofs.JCS, P256_SIGNER), (proofs.ECDSA_RDFC, SIGNER)):
        with pytest.raises(proofs.ProofError, match="wrong_key_type"):
            proofs.sign(lint.lint(badge(), issuer=DID), signer, CREATED, suite)
    document = signed_badge()
    assert proofs.verify_proof(document, document["proof"], P256_SIGNER.public_key_multibase).reason == "wrong_key_type"


def test_a_challenge_and_a_domain_that_were_asked_for_must_be_there() -> None:
    document = signed_badge()
    assert verdict(document, challenge="abc").reason == "wrong_challenge"
    document["proof"] |= {"challenge": "abc", "domain": ["b.example", "a.example"]}  # not what was signed
    assert verdict(document, challenge="abd").reason == "wrong_challenge"
    assert verdict(document, domain="a.example").reason == "wrong_domain"
    assert verdict(document, challenge="abc", domain={"a.example", "b.example"}).reason == "bad_signature"
    document["proof"]["domain"] = "a.example"
    assert verdict(document, domain="a.example").reason == "bad_signature"
    assert verdict(document, domain=["a.example", "b.example"]).reason == "wrong_domain"


def test_what_could_not_be_checked_is_told_apart() -> None:
    document = signed_badge()
    assert verdict(document).outcome == "passed"
    document["proof"]["cryptosuite"] = "bbs-2023"
    assert verdict(document).outcome == "not_checked"
    assert verdict({**signed_badge(), "name": "x"}).outcome == "failed"


def test_proofs_of_reads_none_one_and_sets() -> None:
    assert proofs.proofs_of({}) == []
    assert proofs.proofs_of({"proof": {"a": 1}}) == [{"a": 1}]
    assert proofs.proofs_of({"proof": [1, 2]}) == [1, 2]
