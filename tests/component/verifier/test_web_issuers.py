"""Issuers that are web addresses: whose key it is must be said by the issuer's document and by the key alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from laurel.credential import multikey, proofs
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import BASE_URL, TestIssuer
from tests.component.verifier.test_foreign import Foreign, foreign, serving
from tests.component.verifier.test_proofs import ED25519, P256, badge_of, named, with_proof
from tests.component.verifier.test_verdicts import code

__all__ = ["foreign"]  # a fixture


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    # Without TLS here; in production an http:// issuer is refused.
    return {"allow_http_issuers": True}


def check(found: dict[str, Any], step: str) -> dict[str, Any]:
    checks: list[dict[str, Any]] = [one for one in found["checks"] if one["step"] == step]
    return checks[0]


class WebIssuer:
    """An issuer at somebody's server. key: the URL of its key, a fragment of its own by default."""

    def __init__(self, foreign: Foreign, key: str = "", signer: Any = P256, path: str = "/issuers/1") -> None:
        self.id = foreign.url + path
        self.key = key or f"{self.id}#key-1"
        self.signer = named(signer, self.key)

    def method(self, **changes: Any) -> dict[str, Any]:
        found = {
            "id": self.key, "type": "JsonWebKey", "controller": self.id,
            "publicKeyJwk": multikey.to_jwk(self.signer.public_key_multibase),
        }  # fmt: skip
        return {**found, **changes}

    def document(self, *methods: dict[str, Any], **changes: Any) -> dict[str, Any]:
        found = {
            "@context": ["https://www.w3.org/ns/cid/v1"], "id": self.id, "type": ["Profile"], "name": "Far",
            "verificationMethod": list(methods), "assertionMethod": [self.key],
        }  # fmt: skip
        return {**found, **changes}

    def badge(self) -> dict[str, Any]:
        suite = proofs.ECDSA_RDFC if self.signer.public_key_multibase == P256.public_key_multibase else proofs.RDFC
        return with_proof(badge_of(self.id), self.signer, suite)


async def test_a_key_that_is_a_fragment(verifier: Verifier, foreign: Foreign) -> None:
    for signer, path in ((P256, "/issuers/1"), (ED25519, "/issuers/2")):
        issuer = WebIssuer(foreign, signer=signer, path=path)
        foreign.put(path, issuer.document(issuer.method()))
        found = await verifier.verify(issuer.badge())
        assert found["verdict"] == "valid", found
        against = check(found, "issuer")["against"]
        assert against == [
            {"kind": "issuer", "id": issuer.id, "source": "fetched", "at": "2026-11-22T12:00:00Z"},
            {"kind": "key", "id": issuer.key, "source": "fetched"},
        ]
        forged = issuer.badge()
        forged["name"] = "Forged"
        found = await verifier.verify(forged)
        assert (found["verdict"], code(found, "signature")) == ("invalid", "bad_signature")


async def test_relative_names_and_a_method_by_value(verifier: Verifier, foreign: Foreign) -> None:
    issuer = WebIssuer(foreign)
    foreign.put("/issuers/1", issuer.document(assertionMethod=[issuer.method(id="#key-1")]))
    assert (await verifier.verify(issuer.badge()))["verdict"] == "valid"


_PAST, _FUTURE = "2026-11-01T00:00:00Z", "2027-11-01T00:00:00Z"


@pytest.mark.parametrize(
    ("changed", "verdict", "why"),
    [
        ({"id": "HOST/issuers/2"}, "could_not_check", "wrong_document"),
        ({"id": "HOST/issuers/1/"}, "could_not_check", "wrong_document"),
        ({"id": None}, "could_not_check", "wrong_document"),
        ({"assertionMethod": [], "authentication": ["HOST/issuers/1#key-1"]}, "invalid", "not_for_assertion"),
        ({"assertionMethod": ["HOST/issuers/1#key-2"]}, "invalid", "not_for_assertion"),
        ({"verificationMethod": []}, "invalid", "key_not_found"),
        ({"verificationMethod": "nonsense", "assertionMethod": 7}, "invalid", "key_not_found"),
        ({"method": {"controller": "HOST/issuers/2"}}, "invalid", "wrong_controller"),
        ({"method": {"controller": None}}, "invalid", "wrong_controller"),
        ({"method": {"publicKeyJwk": {"kty": "oct", "k": "AAAA"}}}, "invalid", "secret_key_published"),
        ({"method": {"type": "Whatever"}}, "could_not_check", "unsupported_key"),
        ({"method": {"expires": _PAST}}, "invalid", "key_expired"),
        ({"method": {"expires": _FUTURE}}, "valid", None),
        ({"method": {"revoked": _PAST}}, "invalid", "key_revoked"),
        ({"method": {"revoked": "once"}}, "invalid", "key_revoked"),
        ({"method": {"revoked": _FUTURE}}, "valid", None),
    ],
)
async def test_what_the_issuers_document_must_say(
    verifier: Verifier, foreign: Foreign, changed: dict[str, Any], verdict: str, why: str | None
) -> None:
    def here(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("HOST", foreign.url)
        return [here(one) for one in value] if isinstance(value, list) else value

    issuer = WebIssuer(foreign)
    method = {name: here(value) for name, value in changed.pop("method", {}).items()}
    foreign.put(
        "/issuers/1",
        issuer.document(issuer.method(**method), **{name: here(value) for name, value in changed.items()}),
    )
    found = await verifier.verify(issuer.badge())
    assert (found["verdict"], code(found, "issuer")) == (verdict, why), found
    if why is not None:
        said = check(found, "issuer")
        assert said["pointer"] in ("/issuer", "/proof/0/verificationMethod")
        assert said["problem"]["type"].startswith("https://w3id.org/security#INVALID_")
        assert "Controlled Identifiers 1.0 §3.3" in said["clause"]


# --- keys at URLs of their own ---------------------------------------------------------------------------------------


def _method(issuer: WebIssuer) -> dict[str, Any]:
    return issuer.method()


def _document(issuer: WebIssuer) -> dict[str, Any]:
    return {"id": issuer.key.partition("#")[0], "verificationMethod": [issuer.method()]}


def _jwk(issuer: WebIssuer) -> dict[str, Any]:
    return {**multikey.to_jwk(issuer.signer.public_key_multibase), "kid": "x"}


def _jwks(issuer: WebIssuer) -> dict[str, Any]:
    return {"keys": [{"kty": "RSA", "kid": "other"}, {**_jwk(issuer), "kid": issuer.key.partition("#")[2]}]}


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/keys/1", _method), ("/keys/1", _jwk), ("/keys#one", _document), ("/keys#one", _jwks), ("/keys#one", _jwk)],
)
async def test_a_key_at_a_url_of_its_own(
    verifier: Verifier, foreign: Foreign, path: str, answer: Callable[[WebIssuer], Any]
) -> None:
    issuer = WebIssuer(foreign, foreign.url + path)
    foreign.put("/issuers/1", issuer.document())
    foreign.put(path.partition("#")[0], answer(issuer))
    assert (await verifier.verify(issuer.badge()))["verdict"] == "valid"
    asked = list(foreign.asked)
    assert (await verifier.verify(issuer.badge()))["verdict"] == "valid"
    assert foreign.asked == asked, "both are kept for a while"


async def test_a_key_that_is_not_listed_is_nobodys(verifier: Verifier, foreign: Foreign) -> None:
    """The forger's key says that the victim controls it; the victim's document says nothing of the kind."""
    async with serving() as forger:
        victim = WebIssuer(foreign, f"{forger.url}/keys/1")
        forger.put("/keys/1", victim.method())
        foreign.put("/issuers/1", victim.document(assertionMethod=[f"{victim.id}#key-1"]))
        found = await verifier.verify(victim.badge())
        assert (found["verdict"], code(found, "issuer")) == ("invalid", "not_the_issuers_key")
        assert forger.asked == [], "nobody is asked in the name of a document that nobody has signed"


async def test_a_key_of_another_origin(verifier: Verifier, foreign: Foreign) -> None:
    async with serving() as other:
        issuer = WebIssuer(foreign, f"{other.url}/keys/1")
        foreign.put("/issuers/1", issuer.document())
        other.put("/keys/1", _jwk(issuer))
        found = await verifier.verify(issuer.badge())
        assert (found["verdict"], code(found, "issuer")) == ("invalid", "wrong_controller")
        other.put("/keys/1", issuer.method(controller=f"{other.url}/issuers/1"))
        found = await verifier.verify(issuer.badge())
        assert (found["verdict"], code(found, "issuer")) == ("invalid", "wrong_controller")
        other.put("/keys/1", issuer.method())
        assert (await verifier.verify(issuer.badge()))["verdict"] == "valid"


async def test_an_issuer_that_lists_no_keys_leaves_it_open(verifier: Verifier, foreign: Foreign) -> None:
    issuer = WebIssuer(foreign, f"{foreign.url}/keys/1")
    foreign.put("/keys/1", issuer.method())
    foreign.put("/issuers/1", {"id": issuer.id, "type": ["Profile"]})
    found = await verifier.verify(issuer.badge())
    assert (found["verdict"], code(found, "issuer")) == ("could_not_check", "no_keys_listed")
    assert foreign.asked == ["/issuers/1"]


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"{}", 404, "not_found"),
        (b"{}", 302, "fetch_failed"),
        (b"{}", 500, "fetch_failed"),
        (b"<html>", 200, "bad_answer"),
        (b"[]", 200, "bad_answer"),
        (b'{"x":"' + b"y" * (300 << 10) + b'"}', 200, "bad_answer"),
        (b"{" + b'"a":{' * 900, 200, "bad_answer"),
        (b'{"id":1,"id":2}', 200, "bad_answer"),
    ],
)
async def test_servers_in_trouble(verifier: Verifier, foreign: Foreign, body: bytes, status: int, why: str) -> None:
    issuer = WebIssuer(foreign, f"{foreign.url}/keys/1")
    foreign.put("/issuers/1", issuer.document())
    foreign.put("/keys/1", body, status)
    found = await verifier.verify(issuer.badge())
    assert (found["verdict"], code(found, "issuer")) == ("could_not_check", why), found
    foreign.put("/issuers/2", body, status)
    found = await verifier.verify(WebIssuer(foreign, path="/issuers/2").badge())
    expected = ("unknown_issuer", "unknown_issuer") if status == 404 else ("could_not_check", why)
    assert (found["verdict"], code(found, "issuer")) == expected


async def test_many_at_once_are_one_request_and_so_is_trouble(verifier: Verifier, foreign: Foreign) -> None:
    issuer = WebIssuer(foreign)
    foreign.put("/issuers/1", issuer.document(issuer.method()))
    badge = issuer.badge()
    found = await asyncio.gather(*(verifier.verify(badge) for _ in range(4)))
    assert [one["verdict"] for one in found] == ["valid"] * 4
    assert foreign.asked == ["/issuers/1"]
    foreign.put("/issuers/2", b"", 500)
    for _ in range(3):
        assert (await verifier.verify(WebIssuer(foreign, path="/issuers/2").badge()))["verdict"] == "could_not_check"
    assert foreign.asked == ["/issuers/1", "/issuers/2"]


async def test_a_server_that_hangs_costs_its_deadline(
    verifier: Verifier, foreign: Foreign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laurel_verifier.issuer_keys.KEYS_S", 0.2)

    async def hang(*arguments: Any, **more: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("laurel_verifier.resolution.fetch_json", hang)
    found = await verifier.verify(WebIssuer(foreign).badge())
    assert (found["verdict"], code(found, "issuer")) == ("could_not_check", "timeout")


async def test_many_key_urls_are_not_many_requests(verifier: Verifier, foreign: Foreign) -> None:
    issuer = WebIssuer(foreign)
    names = [f"{foreign.url}/keys/{number}" for number in range(8)]
    document = badge_of(issuer.id)
    made: tuple[dict[str, Any], ...] = ()
    for name in names:
        made = tuple(with_proof(document, named(P256, name), proofs.ECDSA_RDFC, made)["proof"])
    foreign.put("/issuers/1", issuer.document(assertionMethod=names))
    found = await verifier.verify({**document, "proof": list(made)})
    assert found["verdict"] == "could_not_check"
    assert len(foreign.asked) == 5  # its document and four keys


async def test_plain_http_is_for_allowed_networks_alone(verifier: Verifier, foreign: Foreign) -> None:
    document = badge_of("http://93.184.216.34/issuers/1")
    found = await verifier.verify(with_proof(document, named(P256, f"{document['issuer']['id']}#k"), proofs.ECDSA_RDFC))
    assert (found["verdict"], code(found, "issuer")) == ("could_not_check", "fetch_refused")


# --- our own, ahead of their events -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "verdict"), [("2026-11-22T11:59:00Z", "could_not_check"), ("2026-11-21T00:00:00Z", "unknown_issuer")]
)
async def test_our_own_issuer_whose_event_is_on_its_way(
    verifier: Verifier, issuer: TestIssuer, made: str, verdict: str
) -> None:
    """made: when it says it was signed; no event takes a day."""
    document = with_proof(_unsigned(issuer), issuer.signer, proofs.RDFC, created=made)
    found = await verifier.verify(document)
    assert found["verdict"] == verdict, found
    if verdict == "could_not_check":
        assert "on its way" in check(found, "issuer")["detail"]
    await verifier.feed(issuer.published())
    assert (await verifier.verify(document))["verdict"] == "valid"


async def test_a_badge_of_a_key_that_the_register_has_not_heard_of(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issuer.published(published_at=verifier.clock.now.replace(hour=11)))
    newer = named(TestIssuer(seed=b"\x21" * 32).signer, f"{issuer.did}#key-2")
    for made, verdict in (("2026-11-22T11:59:00Z", "could_not_check"), ("2026-11-22T10:59:00Z", "invalid")):
        found = await verifier.verify(with_proof(_unsigned(issuer), newer, proofs.RDFC, created=made))
        assert (found["verdict"], code(found, "issuer")) == (verdict, "key_not_found"), made


def _unsigned(issuer: TestIssuer) -> dict[str, Any]:
    assert issuer.base_url == BASE_URL
    return {name: value for name, value in issuer.badge().items() if name != "proof"}
