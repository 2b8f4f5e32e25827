"""Every verdict, each reached by a real document."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest

from laurel.credential import did, model
from laurel_verifier import domain
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import BASE_URL, NOW, TestIssuer, changed, credential_id, issued, to_bytes

STEPS = [
    "format", "context", "schema", "issuer", "signature", "refresh", "status", "dates", "recipient", "endorsements",
]  # fmt: skip


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    assert [check["step"] for check in found["checks"]] == STEPS
    return {check["step"]: check["outcome"] for check in found["checks"]}


def pointer_of(found: dict[str, Any], step: str) -> str | None:
    return next((check.get("pointer") for check in found["checks"] if check["step"] == step), None)


def code(found: dict[str, Any], step: str) -> str | None:
    codes: list[str | None] = [check.get("code") for check in found["checks"] if check["step"] == step]
    return codes[0]


async def test_valid(verifier: Verifier, one: dict[str, Any], issuer: TestIssuer) -> None:
    found = await verifier.verify(one)
    assert found["verdict"] == "valid"
    assert outcomes(found) == {
        "format": "passed", "context": "passed", "schema": "passed", "issuer": "passed", "signature": "passed",
        "refresh": "not_applicable", "status": "passed", "dates": "passed", "recipient": "not_applicable",
        "endorsements": "not_applicable",
    }  # fmt: skip
    assert found["issuer"] == issuer.did
    assert found["issuer_name"] == "Open University"
    assert found["id"] == one["id"]
    assert one["id"].endswith(found["credential_id"])
    assert all(check["detail"] for check in found["checks"])
    assert (await verifier.verify({"credential": one}))["verdict"] == "valid"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("name",), "Master of Everything"),
        (("validFrom",), "2026-01-01T00:00:00Z"),
        (("credentialSubject", "achievement", "name"), "Master of Everything"),
        (("credentialSubject", "result", 0, "value"), "100"),
        (("proof", "created"), "2026-01-01T00:00:00Z"),
    ],
)
async def test_tampered_is_invalid(verifier: Verifier, one: dict[str, Any], place: tuple[Any, ...], value: str) -> None:
    forged = copy.deepcopy(one)
    target: Any = forged
    for step in place[:-1]:
        target = target[step]
    assert target[place[-1]] != value
    target[place[-1]] = value
    found = await verifier.verify(forged)
    assert found["verdict"] == "invalid"
    assert code(found, "signature") == "bad_signature"
    found = await verifier.verify({"credential": forged, "expected_recipient": "ada@example.org"})
    assert outcomes(found)["status"] == "not_applicable"  # a forgery gets no kind word from the index
    assert code(found, "recipient") == "not_genuine"


async def test_an_added_word_is_invalid(verifier: Verifier, one: dict[str, Any]) -> None:
    found = await verifier.verify({**one, "honours": "summa cum laude"})
    assert found["verdict"] == "invalid"
    assert code(found, "context") == "unsafe_document"


async def test_without_proof_is_invalid(verifier: Verifier, one: dict[str, Any]) -> None:
    found = await verifier.verify({key: value for key, value in one.items() if key != "proof"})
    assert found["verdict"] == "invalid"
    assert code(found, "format") == "no_proof"
    assert outcomes(found)["signature"] == "not_checked"


async def test_revoked_suspended_and_reinstated(verifier: Verifier, one: dict[str, Any]) -> None:
    await verifier.feed(changed(1, 1, "suspended"))
    found = await verifier.verify(one)
    assert (found["verdict"], outcomes(found)["status"]) == ("suspended", "failed")
    await verifier.feed(changed(1, 2, "active"))
    assert (await verifier.verify(one))["verdict"] == "valid"
    await verifier.feed(changed(1, 3, "revoked"))
    assert (await verifier.verify(one))["verdict"] == "revoked"


async def test_expired_and_not_yet_valid(verifier: Verifier, issuer: TestIssuer) -> None:
    document = issuer.badge(valid_until=NOW + timedelta(days=10))
    await verifier.feed(issuer.published(), issued(document))
    assert (await verifier.verify(document))["verdict"] == "valid"
    verifier.clock.now = NOW + timedelta(days=11)
    assert (await verifier.verify(document))["verdict"] == "expired"
    verifier.clock.now = NOW - timedelta(days=2)
    assert (await verifier.verify(document))["verdict"] == "not_yet_valid"


async def test_revoked_is_said_before_expired_and_forged_before_revoked(verifier: Verifier, issuer: TestIssuer) -> None:
    document = issuer.badge(valid_until=NOW + timedelta(days=10))
    await verifier.feed(issuer.published(), issued(document), changed(1, 1, "revoked"))
    verifier.clock.now = NOW + timedelta(days=11)
    assert (await verifier.verify(document))["verdict"] == "revoked"
    assert (await verifier.verify({**document, "name": "x"}))["verdict"] == "invalid"


async def test_unknown_issuer(verifier: Verifier) -> None:
    """A did:web below our own address that no event has told of: nobody needs to be asked."""
    found = await verifier.verify(TestIssuer(slug="nobody").badge())
    assert found["verdict"] == "unknown_issuer"
    assert outcomes(found)["signature"] == "not_checked"


async def test_an_issuer_of_ours_whose_event_is_on_its_way(verifier: Verifier, issuer: TestIssuer) -> None:
    document = issuer.badge()
    await verifier.feed(issued(document))
    assert (await verifier.verify(document))["verdict"] == "could_not_check"
    await verifier.feed(issuer.published())
    assert (await verifier.verify(document))["verdict"] == "valid"


async def test_could_not_check(verifier: Verifier) -> None:
    """A did:web whose server does not answer."""
    away = TestIssuer(slug="x", base_url="https://127.0.0.1:1")
    found = await verifier.verify(away.badge())
    assert found["verdict"] == "could_not_check"
    assert outcomes(found)["issuer"] == "not_checked"


async def test_private_addresses_are_not_fetched(verifier: Verifier) -> None:
    found = await verifier.verify(TestIssuer(slug="x", base_url="https://10.0.0.1").badge())
    assert found["verdict"] == "could_not_check"
    assert code(found, "issuer") == "fetch_refused"


async def test_did_key_needs_nobody(verifier: Verifier) -> None:
    foreign = TestIssuer(slug="", base_url="https://else.example")
    found = await verifier.verify(foreign.badge())
    assert found["verdict"] == "valid"
    assert outcomes(found)["status"] == "not_applicable"
    assert "credential_id" not in found


async def test_a_key_that_is_not_the_issuers(verifier: Verifier, one: dict[str, Any]) -> None:
    """Signed perfectly, by somebody else."""
    mallory = TestIssuer(slug="", seed=b"\x09" * 32)
    forged = mallory.badge()
    forged = {**forged, "issuer": one["issuer"]}
    found = await verifier.verify(forged)
    assert found["verdict"] == "invalid"
    assert code(found, "issuer") == "not_the_issuers_key"


async def test_our_address_in_a_strangers_document_gets_no_word_of_ours(
    verifier: Verifier, one: dict[str, Any]
) -> None:
    stranger = TestIssuer(slug="", seed=b"\x09" * 32)
    document = stranger.badge()
    assert document["id"] == one["id"]
    found = await verifier.verify(document)
    assert "credential_id" not in found
    assert (found["verdict"], code(found, "format")) == ("invalid", "not_the_indexed_document")
    nothing = await verifier.verify(stranger.badge(77))  # an address of ours where nothing is
    assert (nothing["verdict"], code(nothing, "format")) == ("invalid", "not_the_indexed_document")
    page = await verifier.client.post("/verify", data={"credential": json.dumps(document)})
    assert "it is not the credential that was issued under it" in page.text
    assert "tone-good" not in page.text


async def test_the_name_of_a_stranger_is_only_what_it_says(verifier: Verifier, one: dict[str, Any]) -> None:
    ours = await verifier.verify(one)
    assert (ours["issuer_known"], ours["issuer_name"]) == (True, "Open University")
    stranger = TestIssuer(slug="", seed=b"\x09" * 32, base_url="https://else.example")
    document = stranger.badge(achievement={"image": f"{BASE_URL}/achievements/a1/image"})
    found = await verifier.verify(document)
    assert (found["verdict"], found["issuer_known"]) == ("valid", False)
    page = (await verifier.client.post("/verify", data={"credential": json.dumps(document)})).text
    assert "nobody here vouches for that name" in page
    assert "Says it is issued by" in page
    assert "tone-good" not in page
    assert f"{BASE_URL}/achievements/a1/image" not in page  # a tenant's art does not adorn it


async def test_one_that_differs_only_in_true_and_1_is_not_the_indexed_document(
    verifier: Verifier, one: dict[str, Any]
) -> None:
    assert domain.same_json({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not domain.same_json({"a": 1}, {"a": True})
    found = await verifier.verify({**one, "name": True})
    assert (found["verdict"], code(found, "format")) == ("invalid", "not_the_indexed_document")


async def test_a_compromised_key_verifies_nothing(verifier: Verifier, one: dict[str, Any], issuer: TestIssuer) -> None:
    other = TestIssuer(seed=b"\x0a" * 32).signer.public_key_multibase
    remaining = did.build_did_document(issuer.did, [did.DidKey("key-2", other)])
    await verifier.feed(issuer.published(2, did_document=remaining, published_at=NOW + timedelta(hours=1)))
    found = await verifier.verify(one)
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "key_not_found")
    assert (await verifier.client.get(f"/c/{credential_id(1)}")).text.count("has been withdrawn by its issuer") == 1


async def test_expected_recipient(verifier: Verifier, one: dict[str, Any]) -> None:
    found = await verifier.verify({"credential": one, "expected_recipient": " Ada@Example.org "})
    assert (found["verdict"], found["recipient"]) == ("valid", {"matches": True})
    found = await verifier.verify({"credential": one, "expected_recipient": "eve@example.org"})
    assert (found["verdict"], code(found, "recipient")) == ("valid", "recipient_mismatch")
    assert found["recipient"] == {"matches": False}
    asked = {"credential": json.dumps(one), "recipient": "eve@example.org"}
    page = (await verifier.client.post("/verify", data=asked)).text
    assert "This badge is genuine, but it was not issued to eve@example.org." in page
    assert "it was changed" not in page
    await verifier.feed(changed(1, 1, "revoked"))
    found = await verifier.verify({"credential": one, "expected_recipient": "eve@example.org"})
    assert (found["verdict"], found["recipient"]) == ("revoked", {"matches": False})
    assert (await verifier.verify(one))["recipient"] == {"matches": None}


async def test_expected_recipient_by_did(verifier: Verifier) -> None:
    foreign = TestIssuer(slug="", base_url="https://else.example")
    learner = TestIssuer(slug="", seed=b"\x0b" * 32).did
    document = foreign.badge(recipient=model.Recipient(id=learner))
    found = await verifier.verify({"credential": document, "expected_recipient": learner})
    assert outcomes(found)["recipient"] == "passed"


async def test_an_unbundled_context_could_not_be_checked(verifier: Verifier) -> None:
    one = TestIssuer(slug="", base_url="https://else.example").badge()
    document = {**one, "@context": [*one["@context"], "https://contexts.example/v1"]}
    found = await verifier.verify(document)
    assert found["verdict"] == "could_not_check"
    assert code(found, "context") == "unknown_context"


async def test_an_unknown_cryptosuite_could_not_be_checked(verifier: Verifier) -> None:
    one = TestIssuer(slug="", base_url="https://else.example").badge()
    document = {**one, "proof": {**one["proof"], "cryptosuite": "ecdsa-sd-2023"}}
    found = await verifier.verify(document)
    assert (found["verdict"], code(found, "signature")) == ("could_not_check", "unknown_cryptosuite")


async def test_a_broken_schema_is_invalid(verifier: Verifier) -> None:
    """The issuer's own lint would never sign this; another one's might."""
    from laurel.credential import multibase
    from laurel.credential.proofs import RDFC, canonical, hash_data

    foreign = TestIssuer(slug="", base_url="https://else.example")
    document = foreign.badge()
    proof = {key: value for key, value in document.pop("proof").items() if key != "proofValue"}
    document["credentialSubject"]["achievement"].pop("criteria")
    data = hash_data(canonical({**proof, "@context": document["@context"]}, RDFC), canonical(document, RDFC))
    document["proof"] = {**proof, "proofValue": multibase.encode(foreign.signer.sign(data))}
    found = await verifier.verify(document)
    assert outcomes(found)["signature"] == "passed"
    assert (found["verdict"], code(found, "schema")) == ("invalid", "schema_violated")
    assert "criteria" in next(check["detail"] for check in found["checks"] if check["step"] == "schema")


async def test_lookup_by_id(verifier: Verifier, one: dict[str, Any]) -> None:
    await verifier.feed(changed(1, 1, "suspended"))
    answer = await verifier.client.get(f"/verifier/v1/credentials/{one['id'].rpartition('/')[2]}")
    found = answer.json()
    assert (found["status"], found["status_version"]) == ("suspended", 1)
    assert found["document"] == one
    assert to_bytes(one) in answer.content  # the very bytes, not a rendering of them
    for unknown in ("nothing", "00000000-0000-8000-8000-999999999999", "%00", "a b", "x" * 200, "é"):
        answer = await verifier.client.get(f"/verifier/v1/credentials/{unknown}")
        assert answer.status_code == 404, unknown
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_answer_carries_no_secret_of_the_reason(verifier: Verifier, one: dict[str, Any]) -> None:
    """Why a credential was taken back is between its issuer and its holder."""
    await verifier.feed(changed(1, 1, "revoked"))
    for path in (f"/verifier/v1/credentials/{one['id'].rpartition('/')[2]}", f"/c/{one['id'].rpartition('/')[2]}"):
        assert '"test"' not in (await verifier.client.get(path)).text


def test_the_ids_of_tests_are_below_our_address() -> None:
    assert TestIssuer().badge()["id"].startswith(BASE_URL)
