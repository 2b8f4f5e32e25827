"""Dates that stand in the calendar where they were written, and in no year of UTC: refused wherever they may stand."""

from __future__ import annotations

from typing import Any

import pytest

from laurel.credential import did, proofs, status
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import TestIssuer
from tests.component.verifier.test_foreign import INDEX, Foreign, foreign
from tests.component.verifier.test_proofs import ED25519, P256, badge_of, by_did_key, named, with_proof
from tests.component.verifier.test_tokens import forged
from tests.component.verifier.test_verdicts import code

__all__ = ["foreign"]  # a fixture

FIRST, LAST = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"
BOTH = pytest.mark.parametrize("moment", [FIRST, LAST])


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"allow_http_issuers": True}


@BOTH
@pytest.mark.parametrize("name", ["validFrom", "validUntil"])
async def test_of_a_credential(verifier: Verifier, name: str, moment: str) -> None:
    issuer, signer = by_did_key(ED25519)
    document = {**badge_of(issuer), name: moment}
    for sent in (
        with_proof(document, signer, proofs.JCS),
        {"credential": forged(document, {"kid": signer.verification_method}, signer)},
    ):
        found = await verifier.verify(sent)
        check = found["checks"][0]
        assert (found["verdict"], check["code"], check["pointer"]) == ("invalid", "bad_date", f"/{name}")


@BOTH
@pytest.mark.parametrize("name", ["created", "expires"])
async def test_of_a_proof(verifier: Verifier, name: str, moment: str) -> None:
    issuer, signer = by_did_key(ED25519)
    changes: dict[str, Any] = {name: moment}
    found = await verifier.verify(with_proof(badge_of(issuer), signer, proofs.JCS, **changes))
    assert (found["verdict"], code(found, "signature")) == ("invalid", f"malformed_{name}"), found


@BOTH
@pytest.mark.parametrize(("name", "why"), [("expires", "key_expired"), ("revoked", "key_revoked")])
async def test_of_a_key(verifier: Verifier, foreign: Foreign, name: str, why: str, moment: str) -> None:
    issuer = did.did_web(foreign.url, "uni")
    method = {
        "id": f"{issuer}#k", "type": "Multikey", "controller": issuer,
        "publicKeyMultibase": P256.public_key_multibase, name: moment,
    }  # fmt: skip
    foreign.put(
        "/issuers/uni/did.json", {"id": issuer, "verificationMethod": [method], "assertionMethod": [method["id"]]}
    )
    found = await verifier.verify(with_proof(badge_of(issuer), named(P256, f"{issuer}#k"), proofs.ECDSA_JCS))
    assert (found["verdict"], code(found, "issuer")) == ("invalid", why)


@BOTH
async def test_of_a_status_list(verifier: Verifier, foreign: Foreign, moment: str) -> None:
    stranger = TestIssuer(slug="", seed=b"\x0c" * 32, base_url="https://else.example")
    url = f"{foreign.url}/list"
    listed = stranger.status_list(url, set())
    del listed["proof"]
    foreign.put("/list", with_proof({**listed, "validUntil": moment}, stranger.signer, proofs.JCS))
    found = await verifier.verify(stranger.badge(status=status.status_entry(url, INDEX)))
    assert (found["verdict"], code(found, "status")) == ("could_not_check", "list_not_genuine")
