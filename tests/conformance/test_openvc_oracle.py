"""Issued credentials before `openvc-core` 1.37, a Python library that shares no code with Laurel, and its before ours.

It verifies one embedded proof of eddsa-rdfc-2022, eddsa-jcs-2022, ecdsa-rdfc-2019 or ecdsa-jcs-2019 and the Bitstring
Status List. It can not do: proof sets; ecdsa-rdfc-2019 by P-384 on documents with blank nodes (it always labels them by
SHA-256); RS256; tokens without a claim `vc`, and so neither vc+jwt nor the VC-JWT of Open Badges; 1EdTech's type of
credentialSchema. The JCS proofs that it makes lack a member. Its clock is an argument for proofs alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import openvc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from openvc.did.did_web import DidWebResolver
from openvc.keys import Ed25519SigningKey, P256SigningKey, P384SigningKey, verify_signature
from openvc.proof.data_integrity import DataIntegrityProofSuite
from openvc.proof.di_ecdsa_rdfc import EcdsaRdfcProofSuite
from openvc.proof.di_jcs import EcdsaJcsProofSuite, EddsaJcsProofSuite
from openvc.proof.errors import CredentialExpired, CredentialNotYetValid, KeyResolutionError, SignatureInvalid
from openvc.proof.vc_jwt import VcJwtProofSuite
from openvc.resolvers import default_status_list_resolver
from openvc.status import (
    CredentialRevoked,
    CredentialSuspended,
    build_status_list_credential,
    new_bitstring,
    set_status_bit,
)
from openvc.verify import UnknownCredentialFormat

from laurel.credential import contexts, did, jose, keys, lint, multibase, multikey, proofs, status
from tests.unit.credential.samples import (
    BASE,
    CREATED,
    DID,
    INDEX,
    LIST_URL,
    NOW,
    P256_SIGNER,
    P384_SIGNER,
    SIGNER,
    SUITES,
    badge,
    did_document,
    endorsement,
    signed,
    signed_badge,
    status_list,
)

AT = datetime(2026, 6, 1, tzinfo=UTC)
CONTEXTS = {url: contexts.load(url) for url in contexts.manifest()}
EACH_SUITE = [pytest.param(suite, signer, id=f"{suite}-{signer.verification_method[-4:]}") for suite, signer in SUITES]
P384_RDFC = (proofs.ECDSA_RDFC, P384_SIGNER)
WITHOUT_P384_RDFC = [one for one, pair in zip(EACH_SUITE, SUITES, strict=True) if pair != P384_RDFC]


def issuers_document() -> dict[str, Any]:
    return did_document(
        *(
            did.DidKey(one.verification_method.partition("#")[2], one.public_key_multibase)
            for one in (P256_SIGNER, P384_SIGNER)
        )
    )


def verify(
    credential: Any,
    *lists: dict[str, Any],
    issuer: dict[str, Any] | None = None,
    now: datetime = AT,
) -> openvc.VerificationResult:
    """What openvc's pipeline makes of it, offline, with the sample's own status list unless others are given."""
    served = {document["id"]: json.dumps(document) for document in (signed(status_list(), "statuslist"), *lists)}
    resolver = DidWebResolver({did.did_web_url(DID): issuer or issuers_document()}.__getitem__)
    statuses = default_status_list_resolver(resolver=resolver, extra_contexts=CONTEXTS, fetch=served.__getitem__)
    policy = openvc.VerificationPolicy(now=now, require_status_issuer_binding=True)
    return openvc.verify_credential(
        credential, policy=policy, resolver=resolver, resolve_status_list=statuses, extra_contexts=CONTEXTS
    )


# --- what we issue --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suite", "signer"), WITHOUT_P384_RDFC)
def test_an_issued_badge_is_accepted_and_a_changed_one_refused(suite: str, signer: keys.Signer) -> None:
    document = signed_badge(suite, signer)
    result = verify(document)
    assert (result.format, result.issuer, result.subject) == (f"data-integrity:{suite}", DID, None)
    assert result.credential == document
    assert isinstance(result.status, openvc.status.StatusResult)
    assert [(one.entry.index, one.is_set) for one in result.status.entries] == [(INDEX, False)]
    document["credentialSubject"]["result"][0]["value"] = "100"
    with pytest.raises(SignatureInvalid):
        verify(document)


def test_p384_by_rdfc_is_accepted_where_there_are_no_blank_nodes_to_label() -> None:
    """RDFC-1.0 hashes by SHA-384 for P-384 (Data Integrity ECDSA 1.0 §3.2.3); openvc's labels are made by SHA-256."""
    suite, signer = P384_RDFC
    document = proofs.sign(lint.lint(endorsement(), profile="endorsement", issuer=DID), signer, CREATED, suite)
    assert verify(document).format == "data-integrity:ecdsa-rdfc-2019"
    document["name"] += "."
    with pytest.raises(SignatureInvalid):
        verify(document)
    with pytest.raises(SignatureInvalid):
        verify(signed_badge(suite, signer))


@pytest.mark.parametrize("what", ["name", "recipient", "status", "proof value", "created", "key", "list"])
def test_what_was_tampered_with_is_refused(what: str) -> None:
    document, issuer, listed = signed_badge(), issuers_document(), signed(status_list(INDEX), "statuslist")
    match what:
        case "name":
            document["name"] += "."
        case "recipient":
            document["credentialSubject"]["identifier"][0]["salt"] = "salt"
        case "status":
            document["credentialStatus"]["statusListIndex"] = str(INDEX + 1)
        case "proof value":
            raw = bytearray(multibase.decode(document["proof"]["proofValue"]))
            raw[5] ^= 1
            document["proof"]["proofValue"] = multibase.encode(bytes(raw))
        case "created":
            document["proof"]["created"] = "2026-05-04T12:31:06Z"
        case "key":
            other = keys.Ed25519Signer(bytes(32), SIGNER.verification_method)
            issuer = did.build_did_document(DID, [("key-1", other.public_key_multibase, True)])
        case "list":
            listed["credentialSubject"]["encodedList"] = status.encode_list(bytes(32_768))
    with pytest.raises(SignatureInvalid):
        verify(document, listed, issuer=issuer)


def test_a_key_that_was_removed_is_refused() -> None:
    issuer = did.build_did_document(DID, [("key-p256", P256_SIGNER.public_key_multibase, True)])
    with pytest.raises(KeyResolutionError):
        verify(signed_badge(), issuer=issuer)


def test_a_revoked_badge_is_refused_and_its_neighbours_are_not() -> None:
    verify(signed_badge(), signed(status_list(INDEX - 1, INDEX + 1), "statuslist"))
    with pytest.raises(CredentialRevoked):
        verify(signed_badge(), signed(status_list(INDEX), "statuslist"))


def test_a_suspended_badge_is_refused() -> None:
    url = LIST_URL + "-suspension"
    document = signed(badge(status=status.status_entry(url, INDEX, "suspension")))
    for suspended in (False, True):
        bits = bytearray(status.MINIMUM_ENTRIES // 8)
        if suspended:
            status.set_value(bits, INDEX, 1)
        listed = signed(status.build_status_list(url, DID, "suspension", status.encode_list(bits), NOW), "statuslist")
        if not suspended:
            verify(document, listed)
            continue
        with pytest.raises(CredentialSuspended):
            verify(document, listed)


def test_a_badge_is_refused_before_and_after_its_time() -> None:
    document = signed(badge(valid_until=CREATED.replace(month=5, day=20)))
    verify(document, now=CREATED.replace(day=19))
    with pytest.raises(CredentialExpired):
        verify(document)
    with pytest.raises(CredentialNotYetValid):
        verify(document, now=CREATED.replace(day=1))


def test_proof_sets_are_unknown_to_it() -> None:
    orders = [proofs.Order(SIGNER, proofs.RDFC, CREATED), proofs.Order(P256_SIGNER, proofs.ECDSA_RDFC, CREATED)]
    with pytest.raises(UnknownCredentialFormat):
        verify(proofs.sign_all(lint.lint(badge(), issuer=DID), orders))


@pytest.mark.parametrize(
    ("algorithm", "signer", "sign"),
    [
        ("ES256", P256_SIGNER, jose.sign_vc_jwt),
        ("EdDSA", SIGNER, jose.sign_vc_jose),
        ("ES256", P256_SIGNER, jose.sign_vc_jose),
        ("ES384", P384_SIGNER, jose.sign_vc_jose),
    ],
)
def test_the_signatures_of_our_tokens_are_true(
    algorithm: str, signer: keys.Signer, sign: Callable[[lint.Linted, Any], bytes]
) -> None:
    """Its pipeline asks for a claim `vc`, which VC-JOSE-COSE 1.0 §1.1.2.1 and Open Badges 3.0 §8.2 do not have."""
    token = sign(lint.lint(badge(), issuer=DID), signer).decode()
    with pytest.raises(openvc.OpenvcError, match=r"no issuer|no embedded `vc` object"):
        verify(token)
    text, _, last = token.rpartition(".")
    signature = bytearray(base64.urlsafe_b64decode(last + "=="))
    public = multikey.to_jwk(signer.public_key_multibase)

    def true(data: str) -> bool:
        return verify_signature(
            alg=algorithm, public_jwk=public, signing_input=data.encode(), signature=bytes(signature)
        )

    assert true(text)
    assert not true(text + "A")
    signature[0] ^= 1
    assert not true(text)


# --- what it issues -------------------------------------------------------------------------------------------------


def theirs(signer: keys.Signer) -> Any:
    """The same key as one of openvc's."""
    secret: bytes
    if isinstance(signer, keys.Ed25519Signer):
        secret = signer.__reduce__()[1][0]
        return Ed25519SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(secret), signer.verification_method)
    assert isinstance(signer, keys.EcdsaSigner)
    scalar = int.from_bytes(signer.__reduce__()[1][1], "big")
    if signer is P256_SIGNER:
        return P256SigningKey(ec.derive_private_key(scalar, ec.SECP256R1()), signer.verification_method)
    return P384SigningKey(ec.derive_private_key(scalar, ec.SECP384R1()), signer.verification_method)


def issued(document: dict[str, Any], suite: str, signer: keys.Signer) -> dict[str, Any]:
    """`document` as openvc signs it."""
    order: dict[str, Any] = {
        "signing_key": theirs(signer), "verification_method": signer.verification_method, "created": CREATED,
    }  # fmt: skip
    match suite:
        case proofs.RDFC:
            return DataIntegrityProofSuite().add_proof(document, extra_contexts=CONTEXTS, **order)
        case proofs.ECDSA_RDFC:
            return EcdsaRdfcProofSuite().add_proof(document, extra_contexts=CONTEXTS, **order)
        case proofs.JCS:
            return EddsaJcsProofSuite().add_proof(document, **order)
    return EcdsaJcsProofSuite().add_proof(document, **order)


@pytest.mark.parametrize(("suite", "signer"), EACH_SUITE)
def test_what_it_signs_verifies(suite: str, signer: keys.Signer) -> None:
    document = endorsement() if (suite, signer) == P384_RDFC else badge()
    found = issued(document, suite, signer)
    if "-jcs-" in suite:
        # VC DI EdDSA 1.0 §3.3.1 step 2: the proof carries the context that it is made with. Theirs does not.
        assert proofs.verify_proof(found, found["proof"], signer.public_key_multibase).reason == "bad_signature"
        found["proof"]["@context"] = document["@context"]
    result = proofs.verify_proof(found, found["proof"], signer.public_key_multibase)
    assert result.ok, result
    if signer is SIGNER:  # Ed25519 is deterministic
        assert found["proof"] == signed_badge(suite, signer)["proof"]
    found["name"] += "."
    assert proofs.verify_proof(found, found["proof"], signer.public_key_multibase).reason == "bad_signature"


@pytest.mark.parametrize(("suite", "signer"), [(proofs.RDFC, SIGNER), (proofs.ECDSA_RDFC, P256_SIGNER)])
def test_its_status_lists_are_read(suite: str, signer: keys.Signer) -> None:
    bits = new_bitstring(status.MINIMUM_ENTRIES)
    set_status_bit(bits, INDEX, True)
    unsigned = build_status_list_credential(id=LIST_URL, issuer=DID, bitstring=bits, valid_from=NOW, ttl=300_000)
    found = issued(unsigned, suite, signer)
    assert proofs.verify_proof(found, found["proof"], signer.public_key_multibase).ok
    data = status.decode_list(found["credentialSubject"]["encodedList"])
    assert [index for index in range(status.entries(data)) if status.value(data, index)] == [INDEX]
    assert status.decode_list(status_list(INDEX)["credentialSubject"]["encodedList"]) == data


@pytest.mark.parametrize("signer", [P256_SIGNER, P384_SIGNER, SIGNER], ids=["ES256", "ES384", "EdDSA"])
def test_its_tokens_are_read_where_they_follow_the_data_model(signer: keys.Signer) -> None:
    """It puts every credential into a claim `vc`, which VC Data Model 1.1 has for those of its own."""
    old = {
        "@context": [contexts.CREDENTIALS_V1, "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.1.json"],
        "id": f"{BASE}/c/old",
        "type": ["VerifiableCredential"],
        "issuer": DID,
        "credentialSubject": {"id": "did:example:ada"},
    }
    token = VcJwtProofSuite().sign(old, signing_key=theirs(signer))
    envelope = jose.parse(token)
    assert {**envelope.document, "issuanceDate": ...} == {**old, "issuanceDate": ...}
    assert jose.verify(envelope, signer.public_key_multibase).ok
    stranger = keys.Ed25519Signer(bytes(32), signer.verification_method)
    assert not jose.verify(envelope, stranger.public_key_multibase).ok
    body = token.rpartition(".")[2]
    forged = token[: -len(body)] + ("A" if body[0] != "A" else "B") + body[1:]
    assert jose.verify(jose.parse(forged), signer.public_key_multibase).reason == "bad_signature"
    with pytest.raises(jose.JoseError, match=r"VC Data Model 1\.1"):
        jose.parse(VcJwtProofSuite().sign(badge(), signing_key=theirs(signer)))
