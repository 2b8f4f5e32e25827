"""The shapes of the VC API, both sides: what suites put into `options`, and what they get for what they should not."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from laurel.credential import keys, multikey, status
from laurel.credential.contexts import OPEN_BADGES_SCHEMA
from laurel.http import Fetched, GuardedClient
from laurel_local.conformance.ring import KINDS, new_ring
from laurel_verifier.sandbox import Sandbox, SandboxLimit
from tests.component.conformance.conftest import (
    EXAMPLES,
    HOLDER,
    HOLDER_DID,
    V1_1,
    V2,
    Suite,
    credential,
    signed,
    signed_by_holder,
)
from tests.component.verifier.test_hostile import clique, poison

ROUTES = ("credentials/issue", "credentials/verify", "presentations/verify")
NAMES = dict(zip(ROUTES, ("credential", "verifiableCredential", "verifiablePresentation"), strict=True))
ECDSA = [(kind, suite) for kind in ("P-256", "P-384") for suite in ("ecdsa-rdfc-2019", "ecdsa-jcs-2019")]


# --- issuing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "cryptosuite"), ECDSA)
@pytest.mark.parametrize("body", [credential(), V1_1], ids=["2.0", "1.1"])
async def test_ecdsa_with_the_key_that_was_asked_for(
    suite: Suite, kind: str, cryptosuite: str, body: dict[str, Any]
) -> None:
    issued = await suite.issue(body, cryptosuite=cryptosuite, keyType=kind)
    assert issued["issuer"] == suite.issuers[kind]
    assert issued["proof"]["cryptosuite"] == cryptosuite
    key = multikey.decode_public(issued["proof"]["verificationMethod"].partition("#")[2])
    assert key.type == kind
    assert (await suite.verify(issued)).status_code == 200
    changed = {**issued, "credentialSubject": {"id": "did:example:another"}}
    assert (await suite.verify(changed)).status_code == 400


@pytest.mark.parametrize("kind", ["Ed25519", "P-256", "P-384"])
@pytest.mark.parametrize("fragment", ["", "#key"])
async def test_the_issuer_chooses_the_key(suite: Suite, kind: str, fragment: str) -> None:
    """A manifest names each issuer by its did:key, and says nothing else about the key."""
    issued = await suite.issue(credential(issuer={"id": suite.issuers[kind] + fragment, "name": "A suite"}))
    assert issued["issuer"] == {"id": suite.issuers[kind], "name": "A suite"}
    assert issued["proof"]["cryptosuite"] == ("eddsa-rdfc-2022" if kind == "Ed25519" else "ecdsa-rdfc-2019")
    assert (await suite.verify(issued)).status_code == 200


async def test_the_cryptosuite_outweighs_an_issuer_whose_key_it_does_not_take(suite: Suite) -> None:
    issued = await suite.issue(credential(issuer=suite.issuer), cryptosuite="ecdsa-jcs-2019")
    assert issued["issuer"] == suite.issuers["P-256"]
    answer = await suite.post(
        "credentials/issue?cryptosuite=ecdsa-rdfc-2019&keyType=P-384", {"credential": credential()}
    )
    assert answer.json()["verifiableCredential"]["issuer"] == suite.issuers["P-384"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"cryptosuite": "eddsa-rdfc-2022", "keyType": "P-256"}, "keyType"), ({"keyType": "P-521"}, "keyType"),
        ({"keyType": ["P-256"]}, "keyType"), ({"cryptosuite": "ecdsa-sd-2023"}, "cryptosuite"),
        ({"cryptosuite": "bbs-2023"}, "cryptosuite"), ({"type": "Ed25519Signature2020"}, "cryptosuite"),
        ({"cryptosuite": ["eddsa-rdfc-2022"]}, "cryptosuite"),
        ({"mandatoryPointers": ["/issuer"]}, "mandatoryPointers"),
        ({"proofPurpose": "authentication"}, "proofPurpose"), ({"previousProof": 7}, "previousProof"),
        ({"previousProof": [""]}, "previousProof"),
        ({"proofId": 7}, "proofId"), ({"proofId": "one"}, "proofId"),
        ({"format": "vc+jwt", "proofId": "urn:x:y"}, "proofId"), ({"credentialId": {}}, "credentialId"),
        ({"challenge": "c"}, "challenge"), ({"domain": "one.example"}, "domain"), ({"created": 7}, "created"),
        ({"created": "yesterday"}, "created"), ({"expires": ["2044-01-01T00:00:00Z"]}, "expires"),
        ({"verificationMethod": {}}, "verificationMethod"),
        ({"format": "vc+jwt", "previousProof": "urn:x"}, "previousProof"),
        ({"format": "vc+jwt", "created": "2024-01-01T00:00:00Z"}, "created"),
        ({"format": "vc-jwt", "expires": "2044-01-01T00:00:00Z"}, "expires"),
    ],
)  # fmt: skip
async def test_what_is_not_done_here_is_refused_by_its_name(suite: Suite, options: dict[str, Any], word: str) -> None:
    answer = await suite.post("credentials/issue", {"credential": credential(), "options": options})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"/options/{word}" in answer.json()["detail"]
    (problem,) = answer.json()["problemDetails"]
    assert (problem["step"], problem["pointer"]) == ("options", f"/options/{word}")
    assert problem["type"].startswith("urn:laurel:problem:")
    assert problem["clause"]


async def test_when_a_proof_was_made_and_ends(suite: Suite) -> None:
    made = await suite.issue(credential(), created="2024-01-01T00:00:00Z", expires="2044-01-01T00:00:00Z")
    assert (made["proof"]["created"], made["proof"]["expires"]) == ("2024-01-01T00:00:00Z", "2044-01-01T00:00:00Z")
    assert (await suite.verify(made)).status_code == 200
    over = await suite.issue(credential(), expires="2024-01-01T00:00:00Z")
    answer = await suite.verify(over)
    assert (answer.status_code, answer.json()["problemDetails"][0]["title"]) == (400, "proof_expired")


@pytest.mark.parametrize(
    "options",
    [
        {"challenge": "c"}, {"challenge": 7}, {"domain": "one.example"}, {"domain": {}},
        {"expectedProofPurpose": "authentication"}, {"expectedProofPurpose": 7},
    ],
)  # fmt: skip
async def test_what_is_not_asked_of_credentials(suite: Suite, options: dict[str, Any]) -> None:
    issued = await suite.issue(credential())
    answer = await suite.verify(issued, **options)
    assert answer.status_code == 422
    assert f"/options/{next(iter(options))}" in answer.json()["detail"]
    assert (await suite.verify(issued, expectedProofPurpose="assertionMethod")).status_code == 200


async def test_options_that_mean_nothing_here_are_let_be(suite: Suite) -> None:
    """Suites hand each implementation whatever its manifest says."""
    await suite.issue(credential(), type="DataIntegrityProof", mandatoryPointers=[], representation="anything")


@pytest.mark.parametrize(
    "body",
    [
        {"verifiableCredential": credential()},
        {"credential": {name: value for name, value in credential().items() if name != "issuer"}},
        {"credential": credential(issuer=None)}, {"credential": credential(issuer=[])},
        {"credential": credential(issuer={"name": "without an id"})}, {"credential": credential(issuer=4)},
        {"credential": credential(type=4)}, {"credential": credential(credentialSubject="did:example:1234")},
        {"credential": {**credential(), "@context": {"foo": True}}},
        {"credential": {**credential(undefined="x"), "@context": [V2]}},
    ],
)  # fmt: skip
async def test_what_does_not_conform_is_not_issued(suite: Suite, body: dict[str, Any]) -> None:
    answer = await suite.post("credentials/issue", body)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


# --- proof sets and chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cryptosuite", ["eddsa-rdfc-2022", "eddsa-jcs-2022"])
async def test_a_second_proof_makes_a_set(suite: Suite, cryptosuite: str) -> None:
    first = await suite.issue(credential(issuer=suite.issuer))
    both = await suite.issue(first, cryptosuite=cryptosuite)
    assert both["proof"][0] == first["proof"]
    assert {name: value for name, value in both.items() if name != "proof"} == {
        name: value for name, value in first.items() if name != "proof"
    }
    assert (await suite.verify(both)).status_code == 200
    both["proof"][0]["created"] = "2020-01-01T00:00:00Z"
    assert (await suite.verify(both)).status_code == 400  # one that fails fails the document


async def test_a_chain_builds_on_proofs_that_are_there(suite: Suite) -> None:
    """The holder's key signs first, in the issuer's name: as a witness would."""
    bare = {**credential(issuer=suite.issuer), "validFrom": "2020-01-01T00:00:00Z"}
    witnessed = signed(bare, HOLDER, id="urn:uuid:00000000-0000-4000-8000-00000000000a")
    chain = await suite.issue(witnessed, previousProof="urn:uuid:00000000-0000-4000-8000-00000000000a")
    assert [proof.get("previousProof") for proof in chain["proof"]] == [None, witnessed["proof"]["id"]]
    assert (await suite.verify(chain)).status_code == 200
    for broken in (
        {**chain, "proof": chain["proof"][1:]},
        {**chain, "proof": [{**chain["proof"][0], "id": "urn:uuid:other"}, chain["proof"][1]]},
        {**chain, "proof": [{**chain["proof"][0], "proofValue": chain["proof"][1]["proofValue"]}, chain["proof"][1]]},
    ):
        assert (await suite.verify(broken)).status_code == 400
    missing = await suite.post(
        "credentials/issue", {"credential": witnessed, "options": {"previousProof": "urn:uuid:missing"}}
    )
    assert missing.status_code == 400
    assert missing.json()["problemDetails"][0]["title"] == "missing_previous_proof"


@pytest.mark.parametrize("cryptosuite", ["eddsa-rdfc-2022", "eddsa-jcs-2022", "ecdsa-rdfc-2019", "ecdsa-jcs-2019"])
async def test_a_chain_is_made_by_calls_to_the_route(suite: Suite, cryptosuite: str) -> None:
    ids = [f"urn:uuid:00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
    first = await suite.issue(credential(), cryptosuite=cryptosuite, proofId=ids[0])
    assert first["proof"]["id"] == ids[0]
    assert (await suite.verify(first)).status_code == 200
    second = await suite.issue(first, cryptosuite=cryptosuite, proofId=ids[1], previousProof=ids[0])
    third = await suite.issue(second, cryptosuite=cryptosuite, proofId=ids[2], previousProof=ids[:2])
    assert [proof.get("previousProof") for proof in third["proof"]] == [None, ids[0], ids[:2]]
    assert (await suite.verify(third)).status_code == 200
    without = {**third, "proof": third["proof"][1:]}  # what the others build on is gone
    assert (await suite.verify(without)).json()["problemDetails"][0]["title"] == "missing_previous_proof"
    again = {"credential": first, "options": {"cryptosuite": cryptosuite, "proofId": ids[0]}}
    answer = await suite.post("credentials/issue", again)
    assert (answer.status_code, answer.json()["problemDetails"][0]["title"]) == (400, "malformed_proof")


async def test_a_foreign_proof_is_not_made_untrue(suite: Suite) -> None:
    """Its issuer would have to become ours, and its proof would no longer hold: it says so instead."""
    answer = await suite.post("credentials/issue", {"credential": signed(credential(issuer=HOLDER_DID), HOLDER)})
    assert answer.status_code == 400
    assert answer.json()["problemDetails"][0]["title"] == "no-proof"


# --- verifying --------------------------------------------------------------------------------------------------


async def test_a_true_proof_by_another_key_than_the_issuers(suite: Suite) -> None:
    """W3C's vectors name an issuer that nobody can ask. A DID can be asked, unless the proof alone was wanted."""
    vector = signed(credential(issuer="https://vc.example/issuers/5678"), HOLDER)
    answer = await suite.verify(vector)
    assert answer.status_code == 200
    assert "not_the_issuers_key" in answer.json()["warnings"][0]
    assert (await suite.verify(vector, checks=["proof"])).status_code == 200
    assert (await suite.verify(vector, checks=["proof", "issuer"])).status_code == 400
    stolen = signed(credential(issuer=suite.issuer), HOLDER)
    answer = await suite.verify(stolen)
    assert answer.status_code == 400
    assert answer.json()["problemDetails"][0]["title"] == "not_the_issuers_key"
    assert (await suite.verify(stolen, checks=["proof", "issuer"])).status_code == 400
    proof_alone = await suite.verify(stolen, checks=["proof"])
    assert proof_alone.status_code == 200
    assert proof_alone.json()["warnings"]
    untrue = {**vector, "name": "changed since"}
    assert (await suite.verify(untrue, checks=["proof"])).status_code == 400
    unknown = {**vector, "proof": {**vector["proof"], "verificationMethod": "https://vc.example/issuers/1#key"}}
    assert (await suite.verify(unknown)).status_code == 400


@pytest.mark.parametrize(
    ("issuer", "status"),
    [
        ("https://vc.example/issuers/5678", 200), ("https://WWW.Example.ORG/1", 200), ("https://example.net", 200),
        ("https://issuer.test:8443/1", 200), ("https://a.b.invalid./1", 200),
        ("urn:uuid:0b9a2b4e-5f0e-4d0c-9a53-1a2b3c4d5e6f", 400), ("http://vc.example/issuers/5678", 400),
        ("https://vc.example.laurel-nobody.org/1", 400), ("https://notexample.org/1", 400),
        ("https://laurel-nobody.org/.example", 400), ("https://localhost/1", 400), ("did:example:anybody", 400),
    ],
)  # fmt: skip
async def test_a_strangers_key_is_let_pass_for_nobody_who_could_exist(suite: Suite, issuer: str, status: int) -> None:
    """RFC 2606, RFC 6761: who is at such a host, nobody can ever be. An issuer that is only away is not one of them."""
    answer = await suite.verify(signed(credential(issuer=issuer), HOLDER))
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["problemDetails"][0]["title"] == "not_the_issuers_key"


async def test_what_was_verified_comes_back_when_asked_for(suite: Suite) -> None:
    issued = await suite.issue(credential())
    assert "credential" not in (await suite.verify(issued)).json()
    answer = (await suite.verify(issued, returnCredential=True)).json()
    assert (answer["verified"], answer["credential"], answer["problemDetails"]) == (True, issued, [])
    assert (await suite.verify(issued, returnCredential="yes")).status_code == 422
    bare = {"@context": [V2], "type": ["VerifiablePresentation"], "verifiableCredential": [issued]}
    assert (await suite.present(bare, returnPresentation=True)).json()["verifiablePresentation"] == bare


async def test_challenge_and_domain_of_presentations(suite: Suite) -> None:
    issued = await suite.issue(V1_1, keyType="P-384")
    bare = {
        "@context": [V2],
        "type": "VerifiablePresentation",
        "holder": {"id": HOLDER_DID},
        "verifiableCredential": issued,
    }
    made = signed_by_holder(bare, challenge="c", domain=["one.example", "two.example"])
    for options, expected in (
        ({"challenge": "c"}, 200),
        ({"domain": ["two.example", "one.example"]}, 200),  # a set (VC Data Integrity 1.0 §2.1)
        ({"challenge": "c", "domain": "one.example"}, 400),
        ({"challenge": "d"}, 400),
        ({"challenge": ""}, 422),
        ({"domain": [7]}, 422),
    ):
        assert (await suite.present(made, **options)).status_code == expected, options
    unsigned = {name: value for name, value in made.items() if name != "proof"}
    assert (await suite.present(unsigned)).status_code == 200
    twice = {**made, "proof": [made["proof"], {**made["proof"], "challenge": "other"}]}
    assert (await suite.present(twice)).status_code == 400
    bad: list[Any] = ["a text", 7, {}, [], [[]], [None], {"type": "DataIntegrityProof"}]
    for proof in bad:
        assert (await suite.present({**made, "proof": proof})).status_code == 400, proof


@pytest.mark.parametrize(
    ("key", "lists", "purpose", "title"),
    [
        ({}, ["authentication"], "authentication", None),
        ({}, ["assertionMethod"], "assertionMethod", None),
        ({}, ["authentication"], "assertionMethod", "not_for_assertion"),
        ({}, ["assertionMethod"], "authentication", "not_for_assertion"),
        ({}, ["authentication"], "keyAgreement", "wrong_purpose"),
        ({"expires": "2024-01-01T00:00:00Z"}, ["authentication"], "authentication", "key_expired"),
        ({"expires": "2044-01-01T00:00:00Z"}, ["authentication"], "authentication", None),
        ({"revoked": "2024-01-01T00:00:00Z"}, ["authentication"], "authentication", "key_revoked"),
        ({"revoked": "2044-01-01T00:00:00Z"}, ["authentication"], "authentication", None),
    ],
)  # fmt: skip
async def test_a_holders_key_is_for_the_proofs_purpose_and_in_its_time(
    suite: Suite,
    monkeypatch: pytest.MonkeyPatch,
    key: dict[str, Any],
    lists: list[str],
    purpose: str,
    title: str | None,
) -> None:
    """VC Data Integrity 1.0 §4.4; Controlled Identifiers 1.0 §2.2, §3.3."""
    holder = "did:web:holder.example"
    method = {
        "id": f"{holder}#k", "type": "Multikey", "controller": holder,
        "publicKeyMultibase": HOLDER.public_key_multibase, **key,
    }  # fmt: skip
    document = {"id": holder, "verificationMethod": [method], **{name: [method["id"]] for name in lists}}

    async def get(self: GuardedClient, url: str, **options: Any) -> Fetched:
        return Fetched(200, "application/did+json", json.dumps(document).encode(), url)

    monkeypatch.setattr(GuardedClient, "get", get)
    bare = {"@context": [V2], "type": ["VerifiablePresentation"], "holder": holder}
    answer = await suite.present(signed(bare, HOLDER, verificationMethod=method["id"], proofPurpose=purpose))
    if title is None:
        assert answer.status_code == 200, answer.text
        return
    assert answer.status_code == 400
    assert [problem["title"] for problem in answer.json()["problemDetails"]] == [title]


async def test_proofs_of_several_purposes_are_told_apart(suite: Suite) -> None:
    bare = {"@context": [V2], "type": ["VerifiablePresentation"], "holder": HOLDER_DID}
    one, other = signed_by_holder(bare)["proof"], signed_by_holder(bare, proofPurpose="assertionMethod")["proof"]
    assert (await suite.present({**bare, "proof": [other, other]})).status_code == 200
    for odd in (other, {**other, "proofPurpose": []}, {**other, "proofPurpose": {}}):
        answer = await suite.present({**bare, "proof": [one, odd]})
        assert answer.status_code == 400
        assert "proofPurpose" in answer.json()["problemDetails"][0]["pointer"]


async def test_a_status_is_taken_back(suite: Suite) -> None:
    issued = await suite.issue(credential(), keyType="P-256")
    entry = issued["credentialStatus"]
    for revoked in (True, False):
        answer = await suite.post("credentials/status", {"credentialId": issued["id"], "status": revoked})
        assert answer.json() == {"credentialId": issued["id"], "revoked": revoked}
        listed = (await suite.get(entry["statusListCredential"])).json()
        assert listed["issuer"] == issued["issuer"]  # a list per key: whose credential it is, says so
        bits = status.decode_list(listed["credentialSubject"]["encodedList"])
        assert status.value(bits, int(entry["statusListIndex"])) == int(revoked)
    assert (await suite.verify(issued)).status_code == 200
    assert (await suite.post("credentials/status", {"credentialId": issued["id"], "status": "on"})).status_code == 422
    unnamed = {name: value for name, value in credential().items() if name != "id"}
    issued = await suite.issue(unnamed, credentialId="urn:x:1")
    assert "id" not in issued
    assert (await suite.post("credentials/status", {"credentialId": "urn:x:1"})).status_code == 200
    assert (await suite.verify(issued)).status_code == 400


# --- refusals ---------------------------------------------------------------------------------------------------


def problems(answer: httpx.Response) -> list[tuple[str, str, str, str]]:
    """Step, pointer, code and the last part of the type. Each names a clause, and the first heads the answer."""
    body = answer.json()
    assert {name: body[name] for name in ("type", "detail", "step", "pointer", "clause")} == {
        name: body["problemDetails"][0][name] for name in ("type", "detail", "step", "pointer", "clause")
    }
    assert all(one["clause"] for one in body["problemDetails"]), body
    return [
        (one["step"], one["pointer"], one["title"], re.split("[#:]", one["type"])[-1]) for one in body["problemDetails"]
    ]


async def test_a_refusal_says_what_the_verifier_says(suite: Suite) -> None:
    """Step, property, clause and problem type are those of the verifier's check; what was not reached is no problem."""
    issued = await suite.issue(credential())
    changed = {**issued, "name": "changed since"}
    assert problems(await suite.verify(changed)) == [
        ("signature", "/proof/proofValue", "bad_signature", "CRYPTOGRAPHIC_SECURITY_ERROR")
    ]
    unknown = {**issued, "proof": {**issued["proof"], "verificationMethod": suite.issuer + "#nobody"}}
    assert problems(await suite.verify(unknown)) == [
        ("issuer", "/proof/verificationMethod", "key_not_found", "INVALID_VERIFICATION_METHOD"),
        ("signature", "/proof/verificationMethod", "no_key", "PROOF_VERIFICATION_ERROR"),
    ]
    over = await suite.issue(credential(validUntil="2020-01-01T00:00:00Z"))
    assert problems(await suite.verify(over)) == [("dates", "/validUntil", "expired", "RANGE_ERROR")]
    unproved = {name: value for name, value in issued.items() if name != "proof"}
    (only,) = problems(await suite.verify(unproved))
    assert only[:2] == ("format", "/proof")
    bare = {"@context": [V2], "type": ["VerifiablePresentation"], "verifiableCredential": [issued, changed]}
    (only,) = problems(await suite.present(bare))
    assert only[:2] == ("signature", "/verifiableCredential/1/proof/proofValue")
    untrue = await suite.post("credentials/issue", {"credential": changed})
    assert problems(untrue) == [("signature", "/proof/0", "bad_signature", "CRYPTOGRAPHIC_SECURITY_ERROR")]


async def test_a_refusal_of_a_presentation_names_its_clause(suite: Suite) -> None:
    bare = {"@context": [V2], "type": ["VerifiablePresentation"], "holder": HOLDER_DID}
    made = signed_by_holder(bare, challenge="c", domain="one.example")
    for options, expected in (
        ({"challenge": "d"}, ("challenge", "/proof/challenge", "wrong_challenge", "INVALID_CHALLENGE_ERROR")),
        ({"domain": "two.example"}, ("domain", "/proof/domain", "wrong_domain", "INVALID_DOMAIN_ERROR")),
    ):
        assert problems(await suite.present(made, **options)) == [expected]
    assert problems(await suite.present(bare, challenge="c")) == [
        ("challenge", "/proof", "wrong_challenge", "INVALID_CHALLENGE_ERROR")
    ]
    stolen = {**made, "holder": "did:example:somebody-else"}
    assert problems(await suite.present(stolen)) == [
        ("issuer", "/proof/verificationMethod", "not_the_holders_key", "PROOF_VERIFICATION_ERROR")
    ]
    another = signed_by_holder({**bare, "id": "urn:x:another"})["proof"]
    both = {**made, "proof": [made["proof"], {**made["proof"], "proofValue": another["proofValue"]}]}
    assert problems(await suite.present(both)) == [
        ("signature", "/proof/1/proofValue", "bad_signature", "CRYPTOGRAPHIC_SECURITY_ERROR")
    ]


async def test_a_refusal_of_what_takes_too_long_names_its_clause(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    async def exchange(*_: object) -> bytes:
        raise SandboxLimit("it took too long")

    monkeypatch.setattr(Sandbox, "exchange", exchange)
    bare = {"@context": [V2], "type": ["VerifiablePresentation"]}
    issuing = await suite.post("credentials/issue", {"credential": credential()})
    assert (issuing.status_code, problems(issuing)) == (
        422, [("limit", "/credential", "limit_exceeded", "limit_exceeded")],
    )  # fmt: skip
    for answer in (await suite.verify(credential()), await suite.present(bare)):
        assert (answer.status_code, problems(answer)) == (
            400, [("limit", "", "limit_exceeded", "limit_exceeded")],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], ("options", "", "invalid_input", "invalid_input")),
        ({"verifiableCredential": 7}, ("options", "/verifiableCredential", "invalid_input", "invalid_input")),
        ({"verifiableCredential": {}, "options": []}, ("options", "/options", "invalid_input", "invalid_input")),
        (
            {"verifiableCredential": {}, "options": {"checks": ["horoscope"]}},
            ("options", "/options/checks", "unknown_check", "unknown_check"),
        ),
    ],
)
async def test_a_request_that_is_not_understood_names_the_member(
    suite: Suite, body: Any, expected: tuple[str, str, str, str]
) -> None:
    answer = await suite.post("credentials/verify", body)
    assert (answer.status_code, problems(answer)) == (422, [expected])


# --- bad input --------------------------------------------------------------------------------------------------


def bombs(name: str) -> dict[str, bytes]:
    deep = '{"a":' * 900 + "1" + "}" * 900
    whole = json.dumps({name: credential()})
    return {
        "20 MB": b'{"' + name.encode() + b'": {"a": "' + b"x" * 20_000_000 + b'"}}',
        "900 deep": f'{{"{name}": {deep}}}'.encode(),
        "twice the same key": f'{{"{name}": {{}}, "{name}": {{}}}}'.encode(),
        "twice, within": whole.replace('"type":', '"type": [], "type":', 1).encode(),
        "NaN": f'{{"{name}": {{"a": NaN}}}}'.encode(),
        "1e999": f'{{"{name}": {{"a": 1e999}}}}'.encode(),
        "a lone surrogate": (f'{{"{name}": {{"a": "' + chr(92) + 'ud800"}}').encode(),
        "NUL": (f'{{"{name}": {{"a": "' + chr(92) + 'u0000"}}').encode(),
        "not UTF-8": f'{{"{name}": "'.encode() + b"\xff" + b'"}',
        "not JSON": whole[:-1].encode(),
        "empty": b"",
        "a number": b"1",
        "null": f'{{"{name}": null}}'.encode(),
        "options are a list": f'{{"{name}": {{}}, "options": [1]}}'.encode(),
    }  # fmt: skip


@pytest.mark.parametrize("kind", bombs("x"))
@pytest.mark.parametrize("route", ROUTES)
async def test_bombs_are_refused_at_the_door(
    suite: Suite, route: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(Sandbox, "exchange", lambda *_: asked.append(kind))
    answer = await suite.send(route, bombs(NAMES[route])[kind])
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    assert not asked  # no process was troubled with it


@pytest.mark.parametrize(
    "document",
    [
        {}, {"@context": [V2]}, {"@context": V2, "type": "VerifiableCredential"}, {"type": [[]], "@context": [[]]},
        {**credential(), "proof": None}, {**credential(), "proof": "x"}, {**credential(), "proof": []},
        {**credential(), "proof": [[]]}, {**credential(), "proof": [{}] * 200},
        {**credential(), "proof": {"type": "DataIntegrityProof", "verificationMethod": {"id": 1}}},
        {**credential(), "issuer": "did:web:", "proof": {"verificationMethod": "did:web:#x"}},
        {**credential(), "@context": [V2, {"@import": "https://a.example/c"}]},
        {**credential(), "@context": [V2, "https://a.example/nobody-has-it"]},
        {**credential(), "credentialStatus": [{"type": "BitstringStatusListEntry"}] * 50},
        {**credential(), "type": ["EnvelopedVerifiableCredential"], "id": "data:application/vc+jwt,x"},
        {"type": "EnvelopedVerifiablePresentation", "@context": V2, "id": 7},
        {"@context": [V2], "type": ["VerifiablePresentation"], "verifiableCredential": [{"type": 7}, "x", None]},
    ],
)  # fmt: skip
async def test_whatever_is_handed_in_to_be_verified_is_a_4xx(suite: Suite, document: dict[str, Any]) -> None:
    for answer in (await suite.verify(document), await suite.present(document)):
        assert answer.status_code in (400, 422), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


async def test_a_poison_graph_costs_its_own_request(suite: Suite) -> None:
    issued = await suite.issue(credential())
    graph = poison(clique(12))
    bare = {name: value for name, value in graph.items() if name != "proof"}
    presentation = {"@context": [V2], "type": ["VerifiablePresentation"], "verifiableCredential": [graph]}
    answers = await asyncio.gather(
        suite.verify(graph), suite.present(presentation), suite.post("credentials/issue", {"credential": bare})
    )
    for answer in answers:
        assert answer.status_code in (400, 422), answer.text
    assert (await suite.verify(issued)).status_code == 200


def test_no_key_is_ever_shown() -> None:

    ring = new_ring()
    for kind in KINDS:
        key = ring.of_kind(kind)
        assert repr(key.secret) not in repr(key)
        assert isinstance(key.signer(), keys.Ed25519Signer | keys.EcdsaSigner)


# --- proofs that are attached already ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proof", "title"),
    [
        ({}, "typed-objects"),
        ({"type": "DataIntegrityProof"}, "unknown_cryptosuite"),
        ({"created": "2023-07-28T22:25:05Z", "proofPurpose": "assertionMethod", "proofValue": "z1"}, "typed-objects"),
        ({"type": "Ed25519Signature2020", "proofPurpose": "authentication"}, "wrong_purpose"),
    ],
)
async def test_no_proof_is_added_to_a_malformed_one(suite: Suite, proof: dict[str, Any], title: str) -> None:
    sent = {**credential(issuer=suite.issuer), "proof": {"id": "urn:uuid:x", **proof} if proof else proof}
    answer = await suite.post("credentials/issue", {"credential": sent, "options": {"previousProof": "urn:uuid:x"}})
    assert answer.status_code == 400, answer.text
    assert answer.json()["problemDetails"][0]["title"] == title


async def test_no_proof_is_added_to_an_untrue_one(suite: Suite) -> None:
    issued = await suite.issue(credential(issuer=suite.issuer))
    changed = {**issued, "credentialSubject": {"id": "did:example:another"}}
    for sent in (changed, {**changed, "proof": [issued["proof"], issued["proof"]]}):
        answer = await suite.post("credentials/issue", {"credential": sent})
        assert answer.status_code == 400, answer.text
        (problem, *_) = answer.json()["problemDetails"]
        assert problem["title"] == "bad_signature"
        assert problem["pointer"] == "/proof/0"
        assert "§4.5" in problem["clause"]


async def test_a_proof_whose_key_nobody_looks_up_stands_beside_but_not_below(suite: Suite) -> None:
    elsewhere = {"verificationMethod": "https://vc.example/issuers/1#key", "id": "urn:uuid:elsewhere"}
    sent = signed(credential(issuer=suite.issuer), HOLDER, **elsewhere)
    assert len((await suite.issue(sent))["proof"]) == 2
    answer = await suite.post(
        "credentials/issue", {"credential": sent, "options": {"previousProof": "urn:uuid:elsewhere"}}
    )
    assert (answer.status_code, answer.json()["problemDetails"][0]["title"]) == (400, "no_key")


async def test_no_more_proofs_than_are_checked(suite: Suite) -> None:
    issued = await suite.issue(credential(issuer=suite.issuer), cryptosuite="eddsa-jcs-2022")
    full = {**issued, "proof": [issued["proof"]] * 7}
    eight = await suite.issue(full, cryptosuite="eddsa-jcs-2022")
    assert len(eight["proof"]) == 8
    assert (await suite.verify(eight)).status_code == 200
    answer = await suite.post("credentials/issue", {"credential": eight})
    assert (answer.status_code, answer.json()["problemDetails"][0]["title"]) == (400, "too-many-proofs")


async def test_challenge_and_domain_of_presentations_that_nobody_signed(suite: Suite) -> None:
    bare = {"@context": [V2], "type": "VerifiablePresentation", "verifiableCredential": await suite.issue(credential())}
    assert (await suite.present(bare)).status_code == 200
    for options, kinds in (
        ({"challenge": "c"}, ["INVALID_CHALLENGE_ERROR"]),
        ({"domain": "one.example"}, ["INVALID_DOMAIN_ERROR"]),
        ({"challenge": "c", "domain": ["one.example"]}, ["INVALID_CHALLENGE_ERROR", "INVALID_DOMAIN_ERROR"]),
    ):
        answer = await suite.present(bare, **options)
        assert answer.status_code == 400
        found = [problem["type"].rpartition("#")[2] for problem in answer.json()["problemDetails"]]
        assert found == kinds


async def test_an_issuer_that_answers_is_asked_for_its_keys(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mild with issuers that nobody can ask, strict with one whose document lists other keys."""
    issuer = "https://issuer.example/issuers/1"
    listed = {
        "@context": ["https://www.w3.org/ns/cid/v1"],
        "id": issuer,
        "verificationMethod": [],
        "assertionMethod": [suite.issuer + "#other"],
    }
    vector = signed(credential(issuer=issuer), HOLDER)
    assert (await suite.verify(vector)).status_code == 200
    fetch = GuardedClient.get
    asked = []

    async def get(self: GuardedClient, url: str, **options: Any) -> Fetched:
        if url != "https://issuer.example/issuers/2":
            return await fetch(self, url, **options)
        asked.append(url)
        return Fetched(200, "application/cid", json.dumps({**listed, "id": url}).encode(), url)

    monkeypatch.setattr(GuardedClient, "get", get)
    answer = await suite.verify(signed(credential(issuer="https://issuer.example/issuers/2"), HOLDER))
    assert (answer.status_code, answer.json()["problemDetails"][0]["title"]) == (400, "not_the_issuers_key")
    assert asked


@pytest.mark.parametrize(
    ("member", "checks", "title"),
    [
        ({"validUntil": "2024-01-01T00:00:00Z"}, ["validity"], "expired"),
        ({"validFrom": "2044-01-01T00:00:00Z"}, ["validity"], "not_yet_valid"),
        ({"credentialStatus": {"type": "BitstringStatusListEntry"}}, ["status"], "bad_status_entry"),
        (
            {"credentialSchema": {"id": OPEN_BADGES_SCHEMA, "type": "1EdTechJsonSchemaValidator2019"}},
            ["credentialSchema"],
            "schema_violated",
        ),
    ],
)
async def test_what_a_holder_says_of_himself_is_checked_but_for_its_proof(
    suite: Suite, member: dict[str, Any], checks: list[str], title: str
) -> None:
    own = credential(issuer=HOLDER_DID)
    bare = {"@context": [V2, EXAMPLES], "type": "VerifiablePresentation", "holder": HOLDER_DID}
    assert (await suite.present(signed_by_holder({**bare, "verifiableCredential": [own]}))).status_code == 200
    made = signed_by_holder({**bare, "verifiableCredential": [{**own, **member}]})
    for options in ({}, {"checks": checks}):
        answer = await suite.present(made, **options)
        assert answer.status_code == 400, answer.text
        assert answer.json()["problemDetails"][0]["title"] == title
    assert (await suite.present(made, checks=["proof"])).status_code == 200


async def test_a_revocation_is_seen_at_once_by_all_that_bear_the_id(suite: Suite) -> None:
    both = [await suite.issue(credential()) for _ in range(2)]
    for revoked, expected in ((False, 200), (True, 400), (False, 200)):
        answer = await suite.post("credentials/status", {"credentialId": both[0]["id"], "status": revoked})
        assert answer.status_code == 200
        assert [(await suite.verify(one)).status_code for one in both] == [expected] * 2
