"""Enveloped credentials and presentations, and bare tokens, on the conformance routes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from laurel.credential import jose, multibase
from tests.component.conformance.conftest import HOLDER, HOLDER_DID, V2, Suite, credential

METHOD = f"{HOLDER_DID}#{HOLDER.public_key_multibase}"
DOCUMENT = credential(issuer=HOLDER_DID)


def token(document: dict[str, Any], typ: str = "vc+jwt", **header: Any) -> str:
    """A token of the holder's, who issues as well."""
    parts = [{"alg": "EdDSA", "kid": METHOD, "typ": typ, **header}, document]
    signed = ".".join(multibase.base64url_encode(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{multibase.base64url_encode(HOLDER.sign(signed.encode()))}"


def enveloped(text: str, kind: str = "Credential", media: str = "vc+jwt") -> dict[str, Any]:
    return {"@context": V2, "type": f"EnvelopedVerifiable{kind}", "id": f"data:application/{media},{text}"}


def presentation(*credentials: dict[str, Any], **more: Any) -> dict[str, Any]:
    held = {"verifiableCredential": list(credentials)} if credentials else {}
    return {"@context": [V2], "type": ["VerifiablePresentation"], "holder": HOLDER_DID, **held, **more}


async def test_a_credential_in_a_token(suite: Suite) -> None:
    text = token(DOCUMENT)
    for sent in (text, enveloped(text), token(DOCUMENT, "JWT")):
        answer = await suite.verify(sent)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (enveloped("e30.e30.e30"), 400),
        ({**enveloped(token(DOCUMENT)), "@context": []}, 400),
        ({**enveloped(token(DOCUMENT)), "type": "EnvelopedVerifiablePresentation"}, 400),
        (enveloped(token(DOCUMENT), media="vc+cose"), 422),
        (enveloped(token(DOCUMENT)[:-4] + "AAAA"), 400),
        (enveloped(token({**DOCUMENT, "vc": {}})), 400),
        (enveloped(token({**DOCUMENT, "iss": "did:example:x"})), 400),
        (enveloped(token({**DOCUMENT, "validUntil": "2020-01-01T00:00:00Z"})), 400),
        (enveloped(token({**DOCUMENT, "exp": 1})), 400),
        (enveloped(token({**DOCUMENT, "credentialSubject": {}})), 400),
        (enveloped(token({**DOCUMENT, "issuer": "did:example:anybody"})), 400),
        (enveloped(token(presentation(), "vp+jwt")), 400),
        (enveloped(token(DOCUMENT, "JWT")), 400),  # the media type says another
        (token(DOCUMENT, "bad+typ"), 400),
        ("x", 400),
    ],
)
async def test_a_credential_in_a_bad_token(suite: Suite, sent: Any, status: int) -> None:
    answer = await suite.verify(sent)
    assert answer.status_code == status, answer.text
    assert answer.json()["problemDetails"][0]["detail"]


async def test_a_presentation_in_a_token(suite: Suite) -> None:
    held = enveloped(token(DOCUMENT))
    text = token(presentation(held, nonce="n", aud=["https://verifier.example"]), "vp+jwt")
    domain = "https://verifier.example"
    both = token(presentation(held, aud=[domain, "https://another.example"]), "vp+jwt")
    assert (await suite.present(both, domain=domain)).status_code == 200  # RFC 7519 §4.1.3: one of them is enough
    for sent in (text, enveloped(text, "Presentation", "vp+jwt")):
        assert (await suite.present(sent)).status_code == 200
        assert (await suite.present(sent, challenge="n", domain=domain)).status_code == 200
        for asked in ({"challenge": "m"}, {"domain": "https://else.example"}):
            answer = await suite.present(sent, **asked)
            assert (answer.status_code, answer.json()["problemDetails"][0]["title"]) == (
                400, "wrong_challenge" if "challenge" in asked else "wrong_domain",
            )  # fmt: skip
    assert (await suite.present(presentation(held))).status_code == 200  # nobody has signed this one


@pytest.mark.parametrize(
    "text",
    [
        token(presentation(enveloped(token(DOCUMENT)[:-4] + "AAAA")), "vp+jwt"),
        token(presentation(DOCUMENT), "vp+jwt"),  # VC-JOSE-COSE 1.0 §3.1.2: the credentials in it are secured
        token(presentation({**enveloped(""), "id": "not-a-credential"}), "vp+jwt"),
        token({**presentation(), "holder": "did:example:somebody"}, "vp+jwt"),
        token(presentation(vp={}), "vp+jwt"),
        token(presentation(exp=1), "vp+jwt"),
        token(presentation(), "vp+jwt")[:-4] + "AAAA",
        token(presentation(), "vc+jwt"),
        token(DOCUMENT, "vc+jwt"),
    ],
)
async def test_a_presentation_in_a_bad_token(suite: Suite, text: str) -> None:
    answer = await suite.present(enveloped(text, "Presentation", "vp+jwt"))
    assert answer.status_code == 400, answer.text


async def test_a_token_by_somebody_else_than_the_issuer(suite: Suite) -> None:
    issued = await suite.issue(credential())
    unsigned = {name: value for name, value in issued.items() if name != "proof"}
    forged = {**unsigned, "issuer": suite.issuer}
    answer = await suite.verify(enveloped(token(forged)))
    assert (answer.status_code, answer.json()["problemDetails"][0]["title"]) == (400, "not_the_issuers_key")
    assert jose.unwrap(enveloped(token(forged))).document == forged


@pytest.mark.parametrize("kind", ["Ed25519", "P-256", "P-384"])
async def test_what_is_issued_as_a_token_verifies_as_one(suite: Suite, kind: str) -> None:
    issued = await suite.issue(credential(), format="vc+jwt", keyType=kind)
    assert issued["type"] == "EnvelopedVerifiableCredential"
    inside = jose.unwrap(issued)
    assert (inside.document["issuer"], "proof" in inside.document) == (suite.issuers[kind], False)
    assert (await suite.verify(issued)).status_code == 200
    assert (await suite.present(presentation(issued))).status_code == 200
    head, body, signature = issued["id"].split(".")
    other = jose.unwrap(await suite.issue(credential(name="Another"), format="vc+jwt", keyType=kind))
    assert (await suite.verify({**issued, "id": f"{head}.{body}.{signature[:-8]}AAAAAAAA"})).status_code == 400
    assert other.document["name"] == "Another"


async def test_a_bare_token_as_open_badges_has_it(suite: Suite) -> None:
    answer = await suite.post("credentials/issue", {"credential": credential(), "options": {"format": "vc-jwt"}})
    text = answer.json()["verifiableCredential"]
    assert answer.status_code == 201
    assert jose.parse(text).format in ("vc-jwt", "vc+jwt")
    assert (await suite.verify(text)).status_code == 200
    for options in ({"format": "vc-jwt", "keyType": "P-384"}, {"format": "mso_mdoc"}, {"format": 7}):
        answer = await suite.post("credentials/issue", {"credential": credential(), "options": options})
        assert answer.status_code == 422
