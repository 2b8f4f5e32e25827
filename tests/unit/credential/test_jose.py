from __future__ import annotations

import base64
import contextlib
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laurel.credential import contexts, jose, jose_keys, keys, lint, model, multibase, multikey, proof_sets, proofs
from laurel.credential.did import DidError
from tests.unit.credential.samples import (
    CREATED,
    DID,
    NOW,
    P256_SIGNER,
    P384_SIGNER,
    RSA_SIGNER,
    SIGNER,
    badge,
    status_list,
)

END = NOW + timedelta(days=365)
HOLDER = "did:example:ada"


def linted(**changes: Any) -> lint.Linted:
    return lint.lint(badge(**{"valid_until": END, **changes}), issuer=DID)


BADGE = linted()
WITH_ID = linted(recipient=model.Recipient(id=HOLDER))
FORMATS: tuple[tuple[str, keys.Signer, Callable[..., bytes]], ...] = (
    ("RS256", RSA_SIGNER, jose.sign_vc_jwt),
    ("ES256", P256_SIGNER, jose.sign_vc_jwt),
    ("EdDSA", SIGNER, jose.sign_vc_jose),
    ("ES256", P256_SIGNER, jose.sign_vc_jose),
    ("ES384", P384_SIGNER, jose.sign_vc_jose),
)
EACH = pytest.mark.parametrize(
    ("algorithm", "signer", "sign"), FORMATS, ids=[f"{a}-{s.__name__}" for a, _, s in FORMATS]
)


def decoded(part: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def encoded(value: object) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return multibase.base64url_encode(text)


def forge(header: object, payload: object, signer: keys.Signer = SIGNER) -> str:
    """A token of any header and payload, well signed."""
    signed = f"{encoded(header)}.{encoded(payload)}"
    return f"{signed}.{multibase.base64url_encode(signer.sign(signed.encode()))}"


def token(signer: keys.Signer = SIGNER, **changes: Any) -> str:
    """A vc+jwt whose header and payload are changed: `header_x` is a header parameter, None takes a member out."""
    header: dict[str, Any] = {"alg": "EdDSA", "kid": signer.verification_method, "typ": "vc+jwt"}
    payload: dict[str, Any] = WITH_ID.document()
    for name, value in changes.items():
        part, key = (header, name.removeprefix("header_")) if name.startswith("header_") else (payload, name)
        part[key] = value
        if value is None:
            del part[key]
    return forge(header, payload, signer)


# --- what we sign ---------------------------------------------------------------------------------------------------


@EACH
def test_what_is_signed_is_read_and_verifies(algorithm: str, signer: keys.Signer, sign: Callable[..., bytes]) -> None:
    compact = sign(WITH_ID, signer)
    assert compact == sign(WITH_ID, signer)
    envelope = jose.parse(compact.decode())
    assert (envelope.algorithm, envelope.kid, envelope.key) == (algorithm, signer.verification_method, None)
    assert envelope.document == WITH_ID.document()
    assert jose.verify(envelope, signer.public_key_multibase, now=NOW).ok
    for _, other, _ in FORMATS:
        if other is not signer:
            assert not jose.verify(envelope, other.public_key_multibase).ok


def test_vc_jwt_by_open_badges() -> None:
    header, payload, _ = jose.sign_vc_jwt(WITH_ID, RSA_SIGNER).decode().split(".")
    assert decoded(header) == {"alg": "RS256", "kid": f"{DID}#key-rsa", "typ": "JWT"}
    claims = {"iss": DID, "jti": badge()["id"], "sub": HOLDER, "nbf": int(NOW.timestamp()), "exp": int(END.timestamp())}
    assert decoded(payload) == {**WITH_ID.document(), **claims}
    assert jose.parse(jose.sign_vc_jwt(WITH_ID, RSA_SIGNER).decode()).format == "vc-jwt"


def test_vc_jwt_for_somebody_who_has_no_id_has_no_sub() -> None:
    payload = decoded(jose.sign_vc_jwt(BADGE, RSA_SIGNER).decode().split(".")[1])
    assert "sub" not in payload
    assert jose.parse(jose.sign_vc_jwt(BADGE, RSA_SIGNER).decode()).document == BADGE.document()


def test_vc_jwt_without_an_end_has_no_exp() -> None:
    payload = decoded(jose.sign_vc_jwt(linted(valid_until=None), RSA_SIGNER).decode().split(".")[1])
    assert "exp" not in payload


@pytest.mark.parametrize(("reference", "names"), [("kid", {"kid"}), ("jwk", {"jwk"}), ("kid+jwk", {"kid", "jwk"})])
def test_the_key_of_a_vc_jwt_is_named_or_shown(reference: Any, names: set[str]) -> None:
    compact = jose.sign_vc_jwt(WITH_ID, RSA_SIGNER, reference=reference).decode()
    header = decoded(compact.split(".")[0])
    assert header.keys() == {"alg", "typ", *names}
    if "jwk" in names:
        assert header["jwk"].keys() == {"kty", "n", "e"}
    envelope = jose.parse(compact)
    assert envelope.key == (RSA_SIGNER.public_key_multibase if "jwk" in names else None)
    assert jose.verify(envelope, RSA_SIGNER.public_key_multibase).ok


def test_vc_jose_by_w3c() -> None:
    header, payload, _ = jose.sign_vc_jose(WITH_ID, SIGNER).decode().split(".")
    assert decoded(header) == {"alg": "EdDSA", "kid": f"{DID}#key-1", "typ": "vc+jwt", "cty": "vc"}
    assert decoded(payload) == WITH_ID.document()


def test_a_status_list_can_be_a_token() -> None:
    passed = lint.lint(status_list(7), profile="statuslist", issuer=DID)
    assert jose.parse(jose.sign_vc_jose(passed, SIGNER).decode()).document == status_list(7)


@pytest.mark.parametrize("sign", [jose.sign_vc_jwt, jose.sign_vc_jose])
def test_a_token_can_hold_an_embedded_proof_as_well(sign: Callable[..., bytes]) -> None:
    order = proofs.Order(SIGNER, proofs.RDFC, CREATED)
    envelope = jose.parse(sign(WITH_ID, P256_SIGNER, embedded=[order]).decode())
    assert envelope.document == proofs.sign_all(WITH_ID, [order])
    assert [one.ok for one in proof_sets.verify_proofs(envelope.document, lambda _: SIGNER.public_key_multibase)] == [
        True
    ]
    assert jose.verify(envelope, P256_SIGNER.public_key_multibase).ok


@pytest.mark.parametrize("sign", [jose.sign_vc_jwt, jose.sign_vc_jose])
def test_only_what_lint_passed_can_be_signed_and_only_by_its_issuer(sign: Callable[..., bytes]) -> None:
    with pytest.raises(TypeError, match="Linted"):
        sign(badge(), P256_SIGNER)
    stranger = keys.EcdsaSigner("P-256", bytes(range(32)), "did:web:other.example#k")
    with pytest.raises(proofs.ProofError, match="wrong_controller"):
        sign(BADGE, stranger)


@pytest.mark.parametrize(
    ("sign", "signer"),
    [(jose.sign_vc_jwt, SIGNER), (jose.sign_vc_jwt, P384_SIGNER), (jose.sign_vc_jose, RSA_SIGNER)],
)
def test_a_format_takes_its_kinds_of_keys(sign: Callable[..., bytes], signer: keys.Signer) -> None:
    with pytest.raises(proofs.ProofError, match="wrong_key_type"):
        sign(BADGE, signer)


# --- what we refuse to read -----------------------------------------------------------------------------------------

GOOD = token()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed_jwt"),
        ("a.b", "malformed_jwt"),
        (GOOD + ".x", "malformed_jwt"),
        (GOOD + "=", "malformed_jwt"),
        (" " + GOOD, "malformed_jwt"),
        (GOOD + "\n", "malformed_jwt"),
        (GOOD.replace("_", "/"), "malformed_jwt"),
        ("é" + GOOD[1:], "malformed_jwt"),
        (GOOD[:-1] + ("B" if GOOD[-1] == "A" else chr(ord(GOOD[-1]) + 1)), "malformed_jwt"),  # its unused bits
        (GOOD[:-2], "malformed_signature"),
        (GOOD.rpartition(".")[0] + ".", "malformed_signature"),
        ("." + GOOD.partition(".")[2], "not_json"),
        ("A" * 2_000_000, "too_large"),
        (forge({"alg": "EdDSA", "kid": "x" * 9000}, {}), "too_large"),
        (forge(["alg"], {}), "malformed_jwt"),
        (forge({"alg": "EdDSA", "kid": "k"}, []), "malformed_jwt"),
        (forge(b'{"alg":"EdDSA","alg":"EdDSA"}', {}), "duplicate_key"),
        (forge({"alg": "EdDSA", "kid": "k"}, b'{"id":1,"id":1}'), "duplicate_key"),
        (forge({"alg": "EdDSA", "kid": "k"}, b'{"a":NaN}'), "not_finite"),
        (forge({"alg": "EdDSA", "kid": "k"}, b'{"a":"\\ud800"}'), "bad_string"),
        (forge({"alg": "EdDSA", "kid": "k"}, b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"), "too_deep"),
        (forge({"alg": "EdDSA", "kid": "k"}, b"\xff"), "not_utf8"),
        (token(header_alg="none"), "insecure_algorithm"),
        (token(header_alg="nOnE"), "insecure_algorithm"),
        (token(header_alg="HS256"), "insecure_algorithm"),
        (token(header_alg="RS1"), "unknown_algorithm"),
        (token(header_alg="PS256"), "unknown_algorithm"),
        (token(header_alg="ES256K"), "unknown_algorithm"),
        (token(header_alg="eddsa"), "unknown_algorithm"),
        (token(header_alg=None), "malformed_header"),
        (token(header_alg=["EdDSA"]), "malformed_header"),
        (token(header_crit=["exp"]), "critical_header"),
        (token(header_crit=[]), "critical_header"),
        (token(header_b64=False), "critical_header"),
        (token(header_b64=True), "critical_header"),
        (token(header_kid=7), "malformed_header"),
        (token(header_kid=""), "malformed_header"),
        (token(header_kid="k" * 3000), "malformed_header"),
        (token(header_jwk="x"), "malformed_header"),
        (token(header_jwk={"kty": "oct", "k": "AAAA"}), "secret_key_published"),
        (token(header_jwk={**multikey.to_jwk(SIGNER.public_key_multibase), "d": "AAAA"}), "secret_key_published"),
        (token(header_jwk={"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "unsupported_key"),
        (token(header_typ="at+jwt"), "wrong_typ"),
        (token(header_typ=""), "wrong_typ"),
        (token(header_typ=1), "malformed_header"),
        (token(vc={}), "forbidden_claim"),
        (token(vp={}), "forbidden_claim"),
        (token(header_typ="JWT", vp={}), "forbidden_claim"),
        (token(iss="did:web:other.example"), "claim_mismatch"),
        (token(iss=7), "malformed_claim"),
        (token(jti="urn:uuid:other"), "claim_mismatch"),
        (token(sub="did:example:eve"), "claim_mismatch"),
        (token(aud="https://verifier.example"), "wrong_audience"),
        (token(aud=[]), "wrong_audience"),
        (token(exp="2030-01-01T00:00:00Z"), "malformed_claim"),
        (token(exp=True), "malformed_claim"),
        (token(exp=-1), "malformed_claim"),
        (token(exp=10**30), "malformed_claim"),
        (token(nbf={}), "malformed_claim"),
        (forge({"alg": "ES256", "kid": "k"}, {}, P384_SIGNER), "malformed_signature"),
        (token(header_typ="vp+jwt", holder=DID, iss=HOLDER), "claim_mismatch"),
        (token(header_typ="vp+jwt", holder=DID, nonce=1), "malformed_claim"),
        (token(header_typ="vp+jwt", holder=DID, aud=[1]), "malformed_claim"),
    ],
)  # fmt: skip
def test_what_is_no_token(text: str, code: str) -> None:
    with pytest.raises(jose.JoseError) as refused:
        jose.parse(text)
    assert refused.value.code == code
    again = pickle.loads(pickle.dumps(refused.value))
    assert (again.detail, again.pointer) == (refused.value.detail, refused.value.pointer)
    about = {
        "insecure_algorithm": "/alg", "unknown_algorithm": "/alg", "secret_key_published": "/jwk",
        "unsupported_key": "/jwk", "wrong_typ": "/typ", "wrong_audience": "/aud",
    }  # fmt: skip
    if code in about:
        assert refused.value.pointer == about[code]
    if "claim" in code or code in ("malformed_header", "critical_header"):
        assert str(refused.value.pointer).removeprefix("/") in refused.value.detail
    assert len(refused.value.detail) < 700


@pytest.mark.parametrize("spelling", ["{}", "application/{}", "{}+ld+json", "application/{}+LD+JSON"])
def test_cty_says_what_typ_says_in_its_older_spelling_too(spelling: str) -> None:
    """RFC 8725 §3.11: a credential is never taken for a presentation, nor the other way round."""
    for typ, held, other in (("vc+jwt", "vc", "vp"), ("vp+jwt", "vp", "vc")):
        presentation = {"holder": DID} if typ == "vp+jwt" else {}
        assert jose.parse(token(header_typ=typ, header_cty=spelling.format(held), **presentation))
        with pytest.raises(jose.JoseError) as refused:
            jose.parse(token(header_typ=typ, header_cty=spelling.format(other), **presentation))
        assert (refused.value.code, refused.value.pointer) == ("wrong_typ", "/cty")


OPEN_BADGE = decoded(jose.sign_vc_jwt(WITH_ID, RSA_SIGNER).decode().split(".")[1])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"iss": None}, "missing_claim"),
        ({"iss": "did:web:other.example"}, "claim_mismatch"),
        ({"jti": None}, "missing_claim"),
        ({"jti": "urn:uuid:other"}, "claim_mismatch"),
        ({"sub": None}, "missing_claim"),
        ({"sub": "did:example:eve"}, "claim_mismatch"),
        ({"sub": ["did:example:ada"]}, "malformed_claim"),
        ({"nbf": None}, "missing_claim"),
        ({"nbf": OPEN_BADGE["nbf"] + 1}, "claim_mismatch"),
        ({"nbf": str(OPEN_BADGE["nbf"])}, "malformed_claim"),
        ({"exp": OPEN_BADGE["exp"] - 1}, "claim_mismatch"),
        ({"exp": OPEN_BADGE["exp"] + 1}, "claim_mismatch"),
        ({"validFrom": None}, "claim_mismatch"),
        ({"issuer": None}, "claim_mismatch"),
        ({"credentialSubject": None}, "claim_mismatch"),
        ({"credentialSubject": []}, "claim_mismatch"),
        ({"aud": "x"}, "wrong_audience"),
        ({"vp": {}}, "forbidden_claim"),
        ({"vc": {"@context": [contexts.CREDENTIALS_V2]}}, "forbidden_claim"),
        ({"vc": {"@context": [contexts.CREDENTIALS_V1]}}, "forbidden_claim"),  # and a credential beside it
        ({"vc": "x"}, "malformed_claim"),
    ],
)
def test_the_claims_of_a_vc_jwt_repeat_the_credential(change: dict[str, Any], code: str) -> None:
    payload = {name: value for name, value in {**OPEN_BADGE, **change}.items() if value is not None}
    for header in ({"alg": "EdDSA", "kid": "k"}, {"alg": "EdDSA", "kid": "k", "typ": "JWT"}):
        with pytest.raises(jose.JoseError) as refused:
            jose.parse(forge(header, payload))
        assert refused.value.code == code
        named = next(iter(change))
        assert named in refused.value.detail or named in ("validFrom", "issuer", "credentialSubject", "vp", "vc")
        claim = {"validFrom": "nbf", "issuer": "iss", "credentialSubject": "sub"}.get(named, named)
        beside = {"/@context", "/vc", "/vc/@context"} if claim == "vc" else {f"/{claim}"}
        assert refused.value.pointer in beside


def test_a_vc_jwt_must_name_its_key() -> None:
    with pytest.raises(jose.JoseError, match="no_key_named"):
        jose.parse(forge({"alg": "EdDSA", "typ": "JWT"}, OPEN_BADGE))


def test_a_vc_jwts_exp_sets_an_end_that_is_missing_and_may_be_left_out() -> None:
    payload = {name: value for name, value in OPEN_BADGE.items() if name != "validUntil"}
    document = jose.parse(forge({"alg": "EdDSA", "kid": "k"}, payload)).document
    assert document["validUntil"] == OPEN_BADGE["validUntil"]
    payload = {name: value for name, value in OPEN_BADGE.items() if name != "exp"}
    assert jose.parse(forge({"alg": "EdDSA", "kid": "k"}, payload)).document == WITH_ID.document()


def test_dates_agree_to_the_second() -> None:
    for fraction in (0, 0.25):
        payload = {**OPEN_BADGE, "validFrom": "2026-05-04T14:30:00.25+02:00", "nbf": OPEN_BADGE["nbf"] + fraction}
        assert jose.parse(forge({"alg": "EdDSA", "kid": "k"}, payload)).document["validFrom"] == payload["validFrom"]


def test_claims_are_no_words_of_the_credential_and_others_are() -> None:
    claims: dict[str, Any] = {
        "iss": DID,
        "sub": HOLDER,
        "iat": "2010-01-01T19:23:24Z",
        "exp": 4_000_000_000,
        "cnf": {"kid": "x"},
    }
    envelope = jose.parse(token(**claims, nbf=1, color="red"))
    assert envelope.document == {**WITH_ID.document(), "color": "red"}
    assert envelope.claims.expires == datetime(2096, 10, 2, 7, 6, 40, tzinfo=UTC)


def test_typ_is_read_as_media_types_are() -> None:
    for typ in ("vc+jwt", "VC+JWT", "application/vc+jwt"):
        assert jose.parse(token(header_typ=typ)).format == "vc+jwt"
    assert jose.parse(token(header_typ="vp+jwt", holder=DID, nonce="n", aud="d")).claims.nonce == "n"
    # Open Badges' rules are about Open Badges.
    assert jose.parse(token(header_typ="JWT", type=["VerifiableCredential"])).format == "vc+jwt"
    with pytest.raises(jose.JoseError, match="missing_claim"):
        jose.parse(token(header_typ="JWT"))


# --- data model 1.1 in the claim vc ---------------------------------------------------------------------------------

INNER = {
    "@context": [contexts.CREDENTIALS_V1, contexts.OPEN_BADGES],
    "type": ["VerifiableCredential", "OpenBadgeCredential"],
    "credentialSubject": {"type": ["AchievementSubject"]},
}
OUTER = {"iss": DID, "sub": HOLDER, "jti": "urn:uuid:1", "nbf": 1_700_000_000, "exp": 1_800_000_000, "vc": INNER}


def test_the_claims_complete_a_credential_of_data_model_1_1() -> None:
    assert jose.parse(forge({"alg": "EdDSA", "kid": "k"}, OUTER)).document == {
        **INNER,
        "issuer": DID,
        "id": "urn:uuid:1",
        "issuanceDate": "2023-11-14T22:13:20Z",
        "expirationDate": "2027-01-15T08:00:00Z",
        "credentialSubject": {"id": HOLDER, "type": ["AchievementSubject"]},
    }


@pytest.mark.parametrize(
    ("inner", "outer", "code"),
    [
        ({"issuer": "did:web:other.example"}, {}, "claim_mismatch"),
        ({"id": "urn:uuid:2"}, {}, "claim_mismatch"),
        ({"issuanceDate": "2023-11-14T22:13:21Z"}, {}, "claim_mismatch"),
        ({"expirationDate": "2030-01-15T08:00:00Z"}, {}, "claim_mismatch"),
        ({"credentialSubject": {"id": "did:example:eve"}}, {}, "claim_mismatch"),
        ({}, {"iss": None}, "missing_claim"),
        ({}, {"nbf": None}, "missing_claim"),
        ({}, {"jti": None}, "missing_claim"),
        ({}, {"issuer": DID}, "forbidden_claim"),
        ({"@context": [contexts.CREDENTIALS_V2]}, {}, "forbidden_claim"),
    ],
)
def test_a_vc_claim_that_is_contradicted(inner: dict[str, Any], outer: dict[str, Any], code: str) -> None:
    payload = {**OUTER, **outer, "vc": {**INNER, **inner}}
    with pytest.raises(jose.JoseError) as refused:
        jose.parse(forge({"alg": "EdDSA", "kid": "k"}, {k: v for k, v in payload.items() if v is not None}))
    assert refused.value.code == code


def test_what_is_no_open_badge_needs_no_id_in_data_model_1_1() -> None:
    """VC Data Model 1.1 §6.3.1: jti is the id, which is optional (§4.2)."""
    inner = {**INNER, "type": ["VerifiableCredential"]}
    payload = {name: value for name, value in {**OUTER, "vc": inner}.items() if name != "jti"}
    for header in ({"alg": "EdDSA"}, {"alg": "EdDSA", "kid": "k"}):  # nor does it name a key: RFC 7515 §4.1.4
        assert "id" not in jose.parse(forge(header, payload)).document
    for name in ("iss", "nbf"):
        with pytest.raises(jose.JoseError, match=r"VC Data Model 1\.1 §6\.3\.1"):
            jose.parse(forge({"alg": "EdDSA"}, {key: value for key, value in payload.items() if key != name}))
    with pytest.raises(jose.JoseError, match="the claim jti is missing"):
        jose.parse(forge({"alg": "EdDSA"}, {**payload, "vc": {**inner, "id": "urn:uuid:1"}}))


# --- envelopes ------------------------------------------------------------------------------------------------------


def test_an_enveloped_credential() -> None:
    compact = jose.sign_vc_jose(WITH_ID, SIGNER)
    envelope = jose.unwrap(jose.enveloped(compact))
    assert (envelope.format, envelope.document) == ("vc+jwt", WITH_ID.document())
    # A token that does not say what it is is what the media type says.
    bare = forge({"alg": "EdDSA", "kid": "k"}, WITH_ID.document())
    assert jose.unwrap(jose.enveloped(bare.encode())).format == "vc+jwt"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": GOOD}, "malformed_envelope"),
        ({"id": 7}, "malformed_envelope"),
        ({"id": None}, "malformed_envelope"),
        ({"id": "data:application/vc+jwt"}, "malformed_envelope"),
        ({"id": "data:application/vc+jwt,"}, "malformed_jwt"),
        ({"id": f"data:application/vp+jwt,{GOOD}"}, "malformed_envelope"),
        ({"id": f"data:application/jwt,{GOOD}"}, "unknown_envelope"),
        ({"id": f"data:application/vc+sd-jwt,{GOOD}~"}, "unknown_envelope"),
        ({"id": f"data:application/vc+jwt;base64,{GOOD}"}, "unknown_envelope"),
        ({"type": "VerifiableCredential"}, "malformed_envelope"),
        ({"type": ["EnvelopedVerifiableCredential", "VerifiableCredential"]}, "malformed_envelope"),
        ({"id": f"data:application/vc+jwt,{token(header_typ='JWT')}"}, "wrong_typ"),
        ({"id": f"data:application/vc+jwt,{token(header_typ='vp+jwt')}"}, "wrong_typ"),
    ],
)
def test_what_is_no_envelope(change: dict[str, Any], code: str) -> None:
    with pytest.raises(jose.JoseError) as refused:
        jose.unwrap({**jose.enveloped(GOOD.encode()), **change})
    assert refused.value.code == code


def test_a_credential_as_it_is_stored() -> None:
    compact = jose.sign_vc_jose(WITH_ID, SIGNER)
    assert jose.opened(b'"' + compact + b'"') == (WITH_ID.document(), compact.decode())
    assert jose.parse(compact.decode()).compact == compact.decode()
    signed = proofs.sign(WITH_ID, SIGNER, CREATED)
    assert jose.opened(json.dumps(signed).encode()) == (signed, None)
    for wrong in (b"[]", b"7", b"{", b"null"):
        with pytest.raises(ValueError, match=r"neither|Expecting"):
            jose.opened(wrong)
    with pytest.raises(jose.JoseError, match="malformed_jwt"):
        jose.opened(b'"x"')


# --- signatures -----------------------------------------------------------------------------------------------------

RFC_7515_PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
# Signing input, signature and public key of RFC 7515 A.2 (RS256) and A.3 (ES256), and of RFC 8037 A.4 (EdDSA).
KNOWN: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        f"eyJhbGciOiJSUzI1NiJ9.{RFC_7515_PAYLOAD}",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU"
        "Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"
        "O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig"
        "cN_IoypGlUPQGe77Rw",
        {
            "kty": "RSA",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-"
            "yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBE"
            "Ma2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2P"
            "AcDTW9gb54h4FRWyuXpoQ",
            "e": "AQAB",
        },
    ),
    (
        f"eyJhbGciOiJFUzI1NiJ9.{RFC_7515_PAYLOAD}",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
    ),
    (
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ),
)  # fmt: skip


@pytest.mark.parametrize(("signed", "signature", "jwk"), KNOWN, ids=["RS256", "ES256", "EdDSA"])
def test_known_answers(signed: str, signature: str, jwk: dict[str, str]) -> None:
    key = multikey.decode_public(multikey.from_jwk(jwk))
    raw = multibase.base64url_decode(signature)
    assert keys.verify_signature(key, raw, signed.encode())
    assert not keys.verify_signature(key, raw, signed.encode() + b"A")
    assert multikey.to_jwk(key.multikey) == jwk


def test_the_known_signature_of_ed25519_is_ours() -> None:
    signed, signature, _ = KNOWN[2]
    seed = multibase.base64url_decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    assert multibase.base64url_encode(keys.Ed25519Signer(seed, "x:y#z").sign(signed.encode())) == signature


def test_both_names_of_ed25519_are_read() -> None:
    for name in ("EdDSA", "Ed25519"):
        assert jose.verify(jose.parse(token(header_alg=name)), SIGNER.public_key_multibase).ok


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        (GOOD, P256_SIGNER.public_key_multibase, "wrong_key_type"),
        (GOOD, RSA_SIGNER.public_key_multibase, "wrong_key_type"),
        (GOOD, "z6Mk", "unsupported_key"),
        (GOOD, keys.Ed25519Signer(bytes(32), "x:y#z").public_key_multibase, "bad_signature"),
        (token(exp=int(NOW.timestamp())), SIGNER.public_key_multibase, "proof_expired"),
        (token(nbf=int(NOW.timestamp()) + 1), SIGNER.public_key_multibase, "not_yet_valid"),
        (
            token(header_jwk=multikey.to_jwk(keys.Ed25519Signer(bytes(32), "x:y#z").public_key_multibase)),
            SIGNER.public_key_multibase,
            "wrong_key",
        ),
        # The public key of RSA as the secret of an HMAC, the old confusion, does not even come so far.
        (forge({"alg": "RS256", "kid": "k"}, WITH_ID.document()), RSA_SIGNER.public_key_multibase, "bad_signature"),
        (forge({"alg": "RS256", "kid": "k"}, WITH_ID.document()), SIGNER.public_key_multibase, "wrong_key_type"),
    ],
)
def test_a_signature_that_is_not_true(text: str, key: str, reason: str) -> None:
    result = jose.verify(jose.parse(_as_w3c(text)), key, now=NOW)
    assert (result.ok, result.reason) == (False, reason)


def _as_w3c(text: str) -> str:
    """RS256 tokens above have no claims of Open Badges: say that they are W3C's."""
    header, payload, signature = text.split(".")
    return (
        f"{encoded({**decoded(header), 'typ': 'vc+jwt'})}.{payload}.{signature}"
        if "typ" not in decoded(header)
        else text
    )


MUTABLE = [sign(WITH_ID, signer).decode() for _, signer, sign in FORMATS]
THEIR_KEYS = [signer.public_key_multibase for _, signer, _ in FORMATS]


@given(st.data())
@pytest.mark.parametrize("place", range(len(FORMATS)), ids=[f"{a}-{s.__name__}" for a, _, s in FORMATS])
def test_no_character_of_a_token_can_be_changed(place: int, data: st.DataObject) -> None:
    text, key = MUTABLE[place], THEIR_KEYS[place]
    at = data.draw(st.integers(0, len(text) - 1))
    replacement = data.draw(
        st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n") | st.characters()
    )
    kind = data.draw(st.sampled_from(["replace", "insert", "delete", "swap"]))
    if kind == "insert":
        mutant = text[:at] + replacement + text[at:]
    elif kind == "delete":
        mutant = text[:at] + text[at + 1 :]
    elif kind == "swap":
        mutant = text[:at] + text[at : at + 2][::-1] + text[at + 2 :]
    else:
        mutant = text[:at] + replacement + text[at + 1 :]
    if mutant == text:
        return
    with contextlib.suppress(jose.JoseError):
        assert not jose.verify(jose.parse(mutant), key).ok


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "jwk", "typ", "crit", "b64"]), st.sampled_from(
        ["EdDSA", "none", "RS256", "JWT", "vc+jwt", "vp+jwt", None, 7, [], {}, {"kty": "OKP"}]
    )),
    st.dictionaries(st.sampled_from([*OPEN_BADGE, "vc", "vp", "aud", "nonce", "holder"]), st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "@context", "type"]), inner),
    )),
)  # fmt: skip
def test_nothing_makes_it_raise_anything_else(header: dict[str, Any], payload: dict[str, Any]) -> None:
    with contextlib.suppress(jose.JoseError):
        text = forge({"alg": "EdDSA", **header}, {**OPEN_BADGE, **payload})
        envelope = jose.parse(text)
        assert not jose.verify(envelope, P256_SIGNER.public_key_multibase).ok


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_text_makes_it_raise_anything_else(text: str) -> None:
    for candidate in (text, f"{text}.{text}.{text}", f"{encoded({'alg': 'EdDSA', 'kid': 'k'})}.{text}.{text}"):
        with contextlib.suppress(jose.JoseError):
            jose.parse(candidate)


# --- whose key it was -----------------------------------------------------------------------------------------------


def method(name: str, signer: keys.Signer, **more: Any) -> dict[str, Any]:
    jwk = multikey.to_jwk(signer.public_key_multibase)
    return {"id": f"{DID}#{name}", "type": "JsonWebKey", "controller": DID, "publicKeyJwk": {**jwk, **more}}


def listing(*methods: dict[str, Any]) -> dict[str, Any]:
    return {"id": DID, "verificationMethod": list(methods), "assertionMethod": [one["id"] for one in methods]}


DOCUMENT = listing(method("key-1", SIGNER, kid="thumb"), method("key-rsa", RSA_SIGNER))
OTHER = keys.Ed25519Signer(bytes(32), f"{DID}#key-2")


@pytest.mark.parametrize("kid", [f"{DID}#key-1", "key-1", "#key-1", "thumb", None])
def test_the_key_that_the_header_names(kid: str | None) -> None:
    envelope = jose.parse(token(header_kid=kid))
    assert jose_keys.find_key(envelope, DOCUMENT) == SIGNER.public_key_multibase


def test_the_key_that_the_header_holds_counts_when_the_issuer_has_it_too() -> None:
    changes: tuple[dict[str, Any], ...] = ({"header_kid": None}, {})
    for change in changes:
        envelope = jose.parse(token(**change, header_jwk=multikey.to_jwk(SIGNER.public_key_multibase)))
        assert jose_keys.find_key(envelope, DOCUMENT) == SIGNER.public_key_multibase
    embedded = listing()
    embedded["assertionMethod"] = [method("key-1", SIGNER)]
    assert jose_keys.find_key(jose.parse(token(header_kid=None)), embedded) == SIGNER.public_key_multibase


@pytest.mark.parametrize(
    ("changes", "document", "code"),
    [
        ({"header_kid": f"{DID}#key-9"}, DOCUMENT, "key_not_found"),
        ({"header_kid": "key-9"}, DOCUMENT, "key_not_found"),
        ({"header_kid": "did:web:other.example#key-1"}, DOCUMENT, "wrong_document"),
        ({"header_kid": None, "header_jwk": multikey.to_jwk(OTHER.public_key_multibase)}, DOCUMENT, "key_not_found"),
        ({"header_kid": None}, listing(method("a", SIGNER), method("b", OTHER)), "ambiguous_key"),
        ({"header_kid": None}, listing(method("a", RSA_SIGNER)), "key_not_found"),
        ({"header_kid": None}, {"id": DID}, "key_not_found"),
        ({"header_kid": None}, None, "key_not_found"),
        ({"header_kid": "k"}, {"id": DID, "assertionMethod": ["#k"]}, "key_not_found"),
        ({"header_kid": "k"}, listing({**method("k", SIGNER), "controller": "did:web:x"}), "wrong_controller"),
        ({"header_kid": "k"}, listing({**method("k", SIGNER), "revoked": "2026-01-01T00:00:00Z"}), "key_revoked"),
        ({"header_kid": "k"}, listing({**method("k", SIGNER), "expires": "2026-01-01T00:00:00Z"}), "key_expired"),
        ({"header_kid": "k"}, {**listing(method("k", SIGNER)), "assertionMethod": []}, "key_not_found"),
        ({}, {**DOCUMENT, "assertionMethod": []}, "not_for_assertion"),
    ],
)
def test_no_key_of_the_issuer(changes: dict[str, Any], document: Any, code: str) -> None:
    with pytest.raises(DidError) as refused:
        jose_keys.find_key(jose.parse(token(**changes)), document, now=NOW)
    assert refused.value.code == code
