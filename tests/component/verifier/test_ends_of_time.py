"""Dates that stand in no year that a datetime has: each is before or after every clock, wherever it may stand."""

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


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"allow_http_issuers": True}


@pytest.mark.parametrize(
    ("name", "moment", "verdict"),
    [
        ("validFrom", FIRST, "valid"), ("validFrom", "-0044-03-15T00:00:00Z", "valid"),
        ("validFrom", LAST, "not_yet_valid"), ("validFrom", "10000-01-01T00:00:00Z", "not_yet_valid"),
        ("validFrom", "2026-11-21T24:00:00Z", "valid"), ("validFrom", "2026-11-22T24:00:00Z", "not_yet_valid"),
        ("validUntil", LAST, "valid"), ("validUntil", "12000-01-01T00:00:00Z", "valid"),
        ("validUntil", "2026-11-21T24:00:00Z", "expired"),
    ],
)  # fmt: skip
async def test_of_a_credential(verifier: Verifier, name: str, moment: str, verdict: str) -> None:
    issuer, signer = by_did_key(ED25519)
    document = {**badge_of(issuer), name: moment}
    for sent in (
        with_proof(document, signer, proofs.JCS),
        {"credential": forged(document, {"kid": signer.verification_method}, signer)},
    ):
        found = await verifier.verify(sent)
        assert found["verdict"] == verdict, found


async def test_of_a_credential_that_ends_before_it_begins(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    found = await verifier.verify(with_proof({**badge_of(issuer), "validUntil": FIRST}, signer, proofs.JCS))
    assert (found["verdict"], code(found, "dates")) == ("invalid", "dates_reversed")


async def test_no_date_is_told_with_its_clause(verifier: Verifier) -> None:
    issuer, signer = by_did_key(ED25519)
    found = await verifier.verify(
        with_proof({**badge_of(issuer), "validFrom": "2026-02-30T00:00:00Z"}, signer, proofs.JCS)
    )
    check = found["checks"][0]
    assert (check["code"], check["pointer"], check["clause"]) == ("bad_date", "/validFrom", "VC Data Model 2.0 §4.9")


@pytest.mark.parametrize(
    ("name", "moment", "why"),
    [("created", FIRST, None), ("expires", LAST, None), ("expires", FIRST, "proof_expired")],
)
async def test_of_a_proof(verifier: Verifier, name: str, moment: str, why: str | None) -> None:
    issuer, signer = by_did_key(ED25519)
    changes: dict[str, Any] = {name: moment}
    found = await verifier.verify(with_proof(badge_of(issuer), signer, proofs.JCS, **changes))
    assert code(found, "signature") == why, found


@pytest.mark.parametrize(
    ("name", "moment", "why"),
    [
        ("expires", FIRST, "key_expired"), ("revoked", FIRST, "key_revoked"),
        ("expires", LAST, None), ("revoked", LAST, None),
    ],
)  # fmt: skip
async def test_of_a_key(verifier: Verifier, foreign: Foreign, name: str, moment: str, why: str | None) -> None:
    issuer = did.did_web(foreign.url, "uni")
    method = {
        "id": f"{issuer}#k", "type": "Multikey", "controller": issuer,
        "publicKeyMultibase": P256.public_key_multibase, name: moment,
    }  # fmt: skip
    foreign.put(
        "/issuers/uni/did.json", {"id": issuer, "verificationMethod": [method], "assertionMethod": [method["id"]]}
    )
    found = await verifier.verify(with_proof(badge_of(issuer), named(P256, f"{issuer}#k"), proofs.ECDSA_JCS))
    assert (found["verdict"], code(found, "issuer")) == ("invalid" if why else "valid", why)


@pytest.mark.parametrize(("moment", "verdict"), [(FIRST, "could_not_check"), (LAST, "valid")])
async def test_of_a_status_list(verifier: Verifier, foreign: Foreign, moment: str, verdict: str) -> None:
    stranger = TestIssuer(slug="", seed=b"\x0c" * 32, base_url="https://else.example")
    url = f"{foreign.url}/list"
    listed = stranger.status_list(url, set())
    del listed["proof"]
    foreign.put("/list", with_proof({**listed, "validUntil": moment}, stranger.signer, proofs.JCS))
    found = await verifier.verify(stranger.badge(status=status.status_entry(url, INDEX)))
    assert (found["verdict"], code(found, "status")) == (verdict, None if verdict == "valid" else "list_not_genuine")
