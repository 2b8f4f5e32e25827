"""Credentials in JSON Web Tokens at the verifier's door: VC-JWT of Open Badges, vc+jwt of W3C, enveloped ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from laurel.credential import did, jose, keys, multibase, multikey, proofs, status
from laurel.credential.lint import Linted, lint
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import NOW, TestIssuer, changed, issued
from tests.component.verifier.test_endorsements import badge, unsigned
from tests.component.verifier.test_foreign import INDEX, Foreign, foreign
from tests.component.verifier.test_proofs import ED25519, P256, P384, badge_of, by_did_key, named
from tests.component.verifier.test_verdicts import code, outcomes, pointer_of

__all__ = ["foreign"]  # a fixture

RSA = keys.RsaSigner(multikey.rsa_secret(rsa.generate_private_key(public_exponent=65537, key_size=2048)), "x:y#z")
FORMS: tuple[tuple[keys.Signer, Callable[..., bytes], str], ...] = (
    (RSA, jose.sign_vc_jwt, "RS256"),
    (P256, jose.sign_vc_jwt, "ES256"),
    (ED25519, jose.sign_vc_jose, "EdDSA"),
    (P256, jose.sign_vc_jose, "ES256"),
    (P384, jose.sign_vc_jose, "ES384"),
)
EACH = pytest.mark.parametrize(("key", "sign", "algorithm"), FORMS, ids=[f"{s.__name__}-{a}" for _, s, a in FORMS])


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"allow_http_issuers": True}


def linted(issuer: str, **changes: Any) -> Linted:
    return lint({**badge_of(issuer), **changes}, issuer=issuer)


def forged(document: dict[str, Any], header: dict[str, Any], signer: keys.Signer, **claims: Any) -> str:
    """A well-signed vc+jwt of anything, by somebody who does not use our lint."""
    parts = [{"alg": "EdDSA", "typ": "vc+jwt", **header}, {**document, **claims}]
    signed = ".".join(multibase.base64url_encode(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{multibase.base64url_encode(signer.sign(signed.encode()))}"


async def verify(verifier: Verifier, token: str | bytes, **more: Any) -> dict[str, Any]:
    return await verifier.verify({"credential": token.decode() if isinstance(token, bytes) else token, **more})


def method(identifier: str, controller: str, signer: keys.Signer, **more: Any) -> dict[str, Any]:
    jwk = multikey.to_jwk(signer.public_key_multibase)
    return {"id": identifier, "type": "JsonWebKey", "controller": controller, "publicKeyJwk": {**jwk, **more}}


def listing(issuer: str, *methods: dict[str, Any]) -> dict[str, Any]:
    return {"id": issuer, "verificationMethod": list(methods), "assertionMethod": [one["id"] for one in methods]}


@EACH
async def test_every_form(verifier: Verifier, key: keys.Signer, sign: Callable[..., bytes], algorithm: str) -> None:
    issuer, signer = by_did_key(key)
    token = sign(linted(issuer), signer)
    found = await verify(verifier, token, expected_recipient="ada@example.org")
    assert found["verdict"] == "valid", found
    steps = ("format", "context", "schema", "issuer", "signature", "dates", "recipient")
    assert {outcomes(found)[step] for step in steps} == {"passed"}
    assert (found["issuer"], found["recipient"]["matches"]) == (issuer, True)
    detail = next(check["detail"] for check in found["checks"] if check["step"] == "signature")
    assert algorithm in detail
    header, payload, signature = token.decode().split(".")
    document = json.loads(multibase.base64url_decode(payload))
    document["name"] += "."
    tampered = f"{header}.{multibase.base64url_encode(json.dumps(document).encode())}.{signature}"
    found = await verify(verifier, tampered, expected_recipient="ada@example.org")
    assert (found["verdict"], code(found, "signature")) == ("invalid", "bad_signature")
    assert code(found, "recipient") == "not_genuine"


async def test_an_enveloped_credential(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    envelope = jose.enveloped(jose.sign_vc_jose(linted(issuer), signer))
    for sent in (envelope, {"credential": envelope}):
        found = await verifier.verify(sent)
        assert (found["verdict"], found["issuer"]) == ("valid", issuer)
    found = await verifier.verify({**envelope, "id": envelope["id"][:-10]})
    assert (found["verdict"], code(found, "signature")) == ("invalid", "malformed_signature")
    found = await verifier.verify({**envelope, "id": "data:application/vc+cose;base64,AAAA"})
    assert (found["verdict"], code(found, "format")) == ("could_not_check", "unknown_envelope")
    found = await verifier.verify({**envelope, "id": "urn:uuid:x"})
    assert (found["verdict"], code(found, "format")) == ("invalid", "malformed_envelope")


@pytest.mark.parametrize(
    ("token", "verdict", "step", "why", "pointer"),
    [
        (forged({}, {}, ED25519)[:-2] + "_", "invalid", "format", "malformed_jwt", ""),
        (forged({}, {"alg": "none"}, ED25519), "invalid", "signature", "insecure_algorithm", "/alg"),
        (forged({}, {"alg": "HS256"}, ED25519), "invalid", "signature", "insecure_algorithm", "/alg"),
        (forged({}, {"alg": "ES512"}, ED25519), "could_not_check", "signature", "unknown_algorithm", "/alg"),
        (forged({}, {"crit": ["x"]}, ED25519), "invalid", "signature", "critical_header", "/crit"),
        (forged({}, {"jwk": {"kty": "oct", "k": "AA"}}, ED25519), "invalid", "issuer", "secret_key_published", "/jwk"),
        (forged({}, {"jwk": {"kty": "EC"}}, ED25519), "could_not_check", "issuer", "unsupported_key", "/jwk"),
        (forged({"vc": {}}, {}, ED25519), "invalid", "signature", "forbidden_claim", "/vc"),
        (forged({}, {"typ": "at+jwt"}, ED25519), "invalid", "format", "wrong_typ", "/typ"),
        (forged({}, {}, ED25519), "invalid", "format", "no_credential_context", "/@context"),
    ],
)
async def test_what_is_no_credential(
    verifier: Verifier, token: str, verdict: str, step: str, why: str, pointer: str | None
) -> None:
    found = await verify(verifier, token)
    assert (found["verdict"], code(found, step), pointer_of(found, step)) == (verdict, why, pointer), found


async def test_dates_of_the_credential_and_of_the_token(verifier: Verifier) -> None:
    issuer, signer = by_did_key(P256)
    over = linted(issuer, validUntil="2026-11-22T11:00:00Z")
    for sign in (jose.sign_vc_jose, jose.sign_vc_jwt):
        found = await verify(verifier, sign(over, signer))
        assert (found["verdict"], code(found, "dates")) == ("expired", "expired"), found
    issuer, signer = by_did_key(ED25519)
    document, header = linted(issuer).document(), {"kid": signer.verification_method}
    at = int(NOW.timestamp())
    for claims, verdict in (
        ({"exp": at}, "expired"),
        ({"exp": at + 1}, "valid"),
        ({"nbf": at + 1}, "not_yet_valid"),
        ({"nbf": at}, "valid"),
    ):  # fmt: skip
        found = await verify(verifier, forged(document, header, signer, **claims))
        assert found["verdict"] == verdict, (claims, found)
        assert pointer_of(found, "dates") == (None if verdict == "valid" else f"/{next(iter(claims))}")


async def test_claims_that_contradict_the_credential(verifier: Verifier) -> None:
    issuer, signer = by_did_key(P256)
    payload = json.loads(multibase.base64url_decode(jose.sign_vc_jwt(linted(issuer), signer).decode().split(".")[1]))
    header = {"alg": "ES256", "typ": "JWT", "kid": signer.verification_method}
    assert (await verify(verifier, forged(payload, header, signer)))["verdict"] == "valid"
    for name, value in (("iss", "did:web:x.example"), ("jti", "urn:uuid:1"), ("nbf", 1), ("sub", "did:x:y")):
        found = await verify(verifier, forged({**payload, name: value}, header, signer))
        assert (found["verdict"], code(found, "signature")) == ("invalid", "claim_mismatch"), name
        assert pointer_of(found, "signature") == f"/{name}"
    # There is no validUntil that this one could contradict: it sets it (Open Badges 3.0 §8.2.5.1).
    found = await verify(verifier, forged({**payload, "exp": payload["nbf"] + 1}, header, signer))
    assert (found["verdict"], code(found, "dates"), pointer_of(found, "dates")) == ("expired", "expired", "/exp")


async def test_the_key_of_a_web_issuer(verifier: Verifier, foreign: Foreign) -> None:
    issuer = did.did_web(foreign.url, "uni")
    listed = method(f"{issuer}#key-1", issuer, RSA, kid="thumb")
    foreign.put("/issuers/uni/did.json", listing(issuer, listed))
    document = linted(issuer)
    for signer, reference in (
        (named(RSA, f"{issuer}#key-1"), "kid"),
        (named(RSA, f"{issuer}#other"), "jwk"),
        (named(RSA, f"{issuer}#key-1"), "kid+jwk"),
    ):
        found = await verify(verifier, jose.sign_vc_jwt(document, signer, reference=reference))
        assert found["verdict"] == "valid", (reference, found)
    # Whoever signs with a key of their own, and says so in the header, is not the issuer.
    mallory = keys.RsaSigner(
        multikey.rsa_secret(rsa.generate_private_key(public_exponent=65537, key_size=2048)), f"{issuer}#key-1"
    )
    for reference, step, why in (
        ("kid", "signature", "bad_signature"),
        ("jwk", "issuer", "key_not_found"),
        ("kid+jwk", "signature", "wrong_key"),
    ):
        found = await verify(verifier, jose.sign_vc_jwt(document, mallory, reference=reference))
        assert (found["verdict"], code(found, step)) == ("invalid", why), (reference, found)
    assert all(path.startswith("/issuers/uni/") for path in foreign.asked)


async def test_the_key_of_another_issuer_is_nobodys(verifier: Verifier, foreign: Foreign) -> None:
    issuer, other = did.did_web(foreign.url, "uni"), did.did_web(foreign.url, "mill")
    for name, key in (("uni", ED25519), ("mill", P256)):
        own = did.did_web(foreign.url, name)
        foreign.put(f"/issuers/{name}/did.json", listing(own, method(f"{own}#k", own, key)))
    token = forged(linted(issuer).document(), {"alg": "ES256", "kid": f"{other}#k"}, P256)
    found = await verify(verifier, token)
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "not_the_issuers_key")
    assert (pointer_of(found, "issuer"), pointer_of(found, "signature")) == ("/kid", "/kid")
    assert foreign.asked == []  # nobody is asked in its name
    header = {"alg": "ES256", "kid": by_did_key(P256)[1].verification_method}
    found = await verify(verifier, forged(linted(issuer).document(), header, P256))
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "not_the_issuers_key")


async def test_no_address_in_a_header_is_asked(verifier: Verifier, foreign: Foreign) -> None:
    issuer, signer = by_did_key(ED25519)
    foreign.put("/keys", {"keys": [multikey.to_jwk(P256.public_key_multibase)]})
    bait = dict.fromkeys(("jku", "x5u"), f"{foreign.url}/keys")
    header = {"kid": signer.verification_method, "x5c": ["AAAA"], "x5t": "AAAA", **bait}
    assert (await verify(verifier, forged(linted(issuer).document(), header, signer)))["verdict"] == "valid"
    found = await verify(verifier, forged(linted(issuer).document(), {**bait, "alg": "ES256"}, P256))
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "key_not_found")
    assert foreign.asked == []


async def test_an_issuer_that_is_a_web_address(verifier: Verifier, foreign: Foreign) -> None:
    issuer = f"{foreign.url}/issuers/7"
    part, own = f"{issuer}#key-1", f"{foreign.url}/keys/9"
    document = {**linted(by_did_key(ED25519)[0]).document(), "issuer": {"id": issuer, "type": ["Profile"], "name": "U"}}
    bare = {"kid": "key-9", **multikey.to_jwk(P256.public_key_multibase)}
    foreign.put("/keys/9", bare)
    foreign.put("/issuers/7", {**listing(issuer, method(part, issuer, ED25519)), "assertionMethod": [part, own]})
    for header, key in (({"kid": part}, ED25519), ({"kid": own, "alg": "ES256"}, P256), ({"kid": "key-1"}, ED25519)):
        found = await verify(verifier, forged(document, header, key))
        assert found["verdict"] == "valid", (header, found)
    # A key that the issuer's document does not list is not its key, wherever it is.
    foreign.put("/keys/10", multikey.to_jwk(P384.public_key_multibase))
    found = await verify(verifier, forged(document, {"kid": f"{foreign.url}/keys/10", "alg": "ES384"}, P384))
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "not_the_issuers_key")


async def test_a_revoked_credential(verifier: Verifier, foreign: Foreign) -> None:
    stranger = TestIssuer(slug="", seed=b"\x0c" * 32, base_url="https://else.example")
    url = f"{foreign.url}/list"
    badge = stranger.badge(status=status.status_entry(url, INDEX))
    del badge["proof"]
    token = jose.sign_vc_jose(lint(badge, issuer=stranger.did), stranger.signer)
    foreign.put("/list", stranger.status_list(url, {INDEX}))
    found = await verify(verifier, token)
    assert (found["verdict"], outcomes(found)["signature"]) == ("revoked", "passed")


async def test_a_token_with_a_proof_inside(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    order = proofs.Order(signer, proofs.RDFC, NOW - timedelta(hours=1))
    document = linted(issuer)
    assert (await verify(verifier, jose.sign_vc_jose(document, signer, embedded=[order])))["verdict"] == "valid"
    both = proofs.sign_all(document, [order])
    both["proof"]["created"] = "2026-11-22T11:00:01Z"
    found = await verify(verifier, forged(both, {"kid": signer.verification_method}, signer))
    assert (found["verdict"], code(found, "signature")) == ("invalid", "bad_signature")


async def test_an_endorsement_in_a_token(verifier: Verifier) -> None:
    issuer, signer = by_did_key(P256)
    header = {"alg": "ES256", "kid": signer.verification_method}
    good = forged(unsigned(issuer), header, signer)
    for token, verdict, outcome in ((good, "valid", "passed"), (good[:-4] + "AAAA", "invalid", "failed")):
        found = await verifier.verify(badge(token, name="endorsementJwt"))
        assert (found["verdict"], outcomes(found)["endorsements"]) == ("valid", outcome), found
        assert found["endorsements"][0]["verdict"] == verdict
        assert found["endorsements"][0]["pointer"] == "/credentialSubject/achievement/endorsementJwt/0"


async def test_a_presentation_is_told_apart(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document = {"@context": linted(issuer).document()["@context"], "type": "VerifiablePresentation", "holder": issuer}
    found = await verify(verifier, forged(document, {"typ": "vp+jwt", "kid": signer.verification_method}, signer))
    assert (found["verdict"], code(found, "format")) == ("could_not_check", "unsupported_format")


async def test_a_credential_in_the_token_of_a_presentation(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document = linted(issuer).document()
    for header in ({"typ": "vp+jwt"}, {"typ": "vp+jwt", "cty": "vc"}, {"cty": "vp"}, {"typ": "JWT", "cty": "vp"}):
        found = await verify(verifier, forged(document, {"kid": signer.verification_method, **header}, signer))
        assert (found["verdict"], code(found, "format")) == ("invalid", "wrong_typ"), header


async def test_what_stands_around_an_enveloped_credential(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    envelope = jose.enveloped(jose.sign_vc_jose(linted(issuer), signer))
    for changes, place in (
        ({"@context": None}, "/@context"),
        ({"@context": ["https://else.example/"]}, "/@context"),
        ({"issuer": "did:web:university.example"}, "/issuer"),
        ({"credentialSubject": {"id": "did:example:eve"}}, "/credentialSubject"),
    ):
        found = await verifier.verify({**envelope, **changes})
        assert (found["verdict"], code(found, "format")) == ("invalid", "malformed_envelope"), changes
        assert found["checks"][0]["pointer"] == place


async def test_an_empty_proof_in_a_token(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document = {**linted(issuer).document(), "proof": []}
    found = await verify(verifier, forged(document, {"kid": signer.verification_method}, signer))
    assert (found["verdict"], code(found, "format")) == ("invalid", "no_proof")


async def test_a_broken_token_is_called_one(verifier: Verifier) -> None:
    token = forged({}, {}, ED25519)
    head, body, _ = token.split(".")
    for sent in (f"{head}.{body}.", f"{token}==", f"{token}.AAAA", f"{head}\n.{body}\n.AAAA"):
        answer = await verifier.client.post("/verifier/v1/credentials/verify", json={"credential": sent})
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (422, "malformed_jwt"), answer.text


async def test_a_secret_key_in_the_issuers_document(verifier: Verifier, foreign: Foreign) -> None:
    issuer = did.did_web(foreign.url, "uni")
    foreign.put("/issuers/uni/did.json", listing(issuer, method(f"{issuer}#k", issuer, P256, d="AAAA")))
    found = await verify(verifier, jose.sign_vc_jose(linted(issuer), named(P256, f"{issuer}#k")))
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "secret_key_published")


async def test_application_vc_is_a_media_type_of_credentials(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    envelope = jose.enveloped(jose.sign_vc_jose(linted(issuer), signer))
    for media_type in ("application/vc", "application/vc+ld+json"):
        answer = await verifier.client.post(
            "/verifier/v1/credentials/verify", content=json.dumps(envelope), headers={"Content-Type": media_type}
        )
        assert (answer.status_code, answer.json().get("verdict")) == (200, "valid"), media_type


@pytest.mark.parametrize("shape", ["token", "enveloped"])
async def test_a_status_list_in_a_token(verifier: Verifier, foreign: Foreign, shape: str) -> None:
    stranger = TestIssuer(slug="", seed=b"\x0c" * 32, base_url="https://else.example")
    url = f"{foreign.url}/list"
    header = {"kid": stranger.signer.verification_method}
    listed = {key: value for key, value in stranger.status_list(url, {INDEX}).items() if key != "proof"}
    subject = listed["credentialSubject"]
    for document, typ, verdict in (
        ({**listed, "credentialSubject": [subject, subject]}, "vc+jwt", "could_not_check"),
        (listed, "vp+jwt", "could_not_check"),
        (listed, "vc+jwt", "revoked"),
    ):
        token = forged(document, {**header, "typ": typ}, stranger.signer)
        foreign.put("/list", token.encode() if shape == "token" else jose.enveloped(token.encode()))
        found = await verifier.verify(stranger.badge(status=status.status_entry(url, INDEX)))
        assert found["verdict"] == verdict, (typ, found)


# --- our own ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def ours(verifier: Verifier, issuer: TestIssuer) -> str:
    """The token of a badge that was issued as one and indexed."""
    badge = issuer.badge()
    del badge["proof"]
    token = jose.sign_vc_jose(lint(badge, issuer=issuer.did), issuer.signer).decode()
    event = issued(badge)
    await verifier.feed(issuer.published(), msgspec.structs.replace(event, document=msgspec.Raw(f'"{token}"'.encode())))
    assert await verifier.dead_letters() == []
    return token


async def test_our_own_token_is_indexed_and_its_status_known(verifier: Verifier, ours: str) -> None:
    found = await verify(verifier, ours)
    assert (found["verdict"], found["issuer_known"]) == ("valid", True)
    assert found["credential_id"] in jose.parse(ours).document["id"]
    assert outcomes(found)["status"] == "passed"
    assert (await verifier.verify(jose.enveloped(ours.encode())))["credential_id"] == found["credential_id"]
    await verifier.feed(changed(1, 1, "revoked"))
    assert (await verify(verifier, ours))["verdict"] == "revoked"


async def test_only_the_very_token_is_the_credential_of_its_address(
    verifier: Verifier, ours: str, issuer: TestIssuer
) -> None:
    envelope = jose.parse(ours)
    again = forged(envelope.document, {"kid": envelope.kid}, issuer.signer)
    for other in (again, issuer.sign(envelope.document)):
        found = await verifier.verify({"credential": other})
        assert (found["verdict"], code(found, "format")) == ("invalid", "not_the_indexed_document")


async def test_a_token_of_somebody_elses_event_is_refused(verifier: Verifier, issuer: TestIssuer) -> None:
    badge = issuer.badge(2)
    del badge["proof"]
    token = jose.sign_vc_jose(lint(badge, issuer=issuer.did), issuer.signer)
    wrong = msgspec.structs.replace(issued(badge, 1), document=msgspec.Raw(b'"' + token + b'"'))
    broken = msgspec.structs.replace(issued(badge, 2), document=msgspec.Raw(b'"a.b.c"'))
    await verifier.feed(wrong, broken)
    assert await verifier.dead_letters() == ["id_mismatch", "bad_document"]


async def test_a_badge_that_names_no_schema_is_held_against_none(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    document, header = linted(issuer).document(), {"kid": signer.verification_method}
    del document["credentialSubject"]["achievement"]["criteria"]
    found = await verify(verifier, forged(document, header, signer))
    assert (found["verdict"], code(found, "schema")) == ("invalid", "schema_violated"), found
    del document["credentialSchema"]  # Open Badges 3.0 §9.1 step 1
    found = await verify(verifier, forged(document, header, signer))
    assert (found["verdict"], outcomes(found)["schema"]) == ("valid", "not_applicable"), found
