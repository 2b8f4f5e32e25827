"""Keys that change while documents that list them are kept: a new key's badge is never told to be forged."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from laurel.credential import did
from laurel.credential.keys import Ed25519Signer
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import NOW, TestIssuer, issued
from tests.component.verifier.test_foreign import Foreign, foreign
from tests.component.verifier.test_verdicts import code

__all__ = ["foreign"]  # the fixture


@pytest.fixture
def changed_settings() -> dict[str, Any]:
    return {"allow_http_issuers": True}


def rotated(issuer: TestIssuer, number: int = 2) -> TestIssuer:
    """The same issuer with its next key."""
    new = TestIssuer(slug=issuer.slug, base_url=issuer.base_url)
    new.signer = Ed25519Signer(bytes([number]) * 32, f"{issuer.did}#key-{number}")
    return new


def both(*issuers: TestIssuer) -> dict[str, Any]:
    keys = [
        did.DidKey(one.signer.verification_method.partition("#")[2], one.signer.public_key_multibase) for one in issuers
    ]
    return did.build_did_document(issuers[0].did, keys)


async def test_a_badge_of_our_own_new_key_is_valid_at_once(
    verifier: Verifier, issuer: TestIssuer, one: dict[str, Any]
) -> None:
    assert (await verifier.verify(one))["verdict"] == "valid"  # the document is kept from here on
    new = rotated(issuer)
    badge = new.badge(2)
    await verifier.feed(issuer.published(2, did_document=both(issuer, new)), issued(badge, 2))
    assert (await verifier.verify(badge))["verdict"] == "valid"
    assert (await verifier.verify(one))["verdict"] == "valid"


async def test_while_the_register_lags_an_indexed_badge_of_a_new_key_could_not_be_checked(
    verifier: Verifier, issuer: TestIssuer, one: dict[str, Any]
) -> None:
    new = rotated(issuer)
    badge = new.badge(2)
    await verifier.feed(issued(badge, 2, issued_at=NOW + timedelta(seconds=3)))
    found = await verifier.verify(badge)
    assert (found["verdict"], code(found, "issuer")) == ("could_not_check", "key_not_found")
    forged = rotated(issuer, 3).badge(2)  # a key that is nobody's, in a document with the indexed badge's id
    found = await verifier.verify(forged)
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "key_not_found")
    unknown = rotated(issuer, 3).badge(7)
    assert (await verifier.verify(unknown))["verdict"] == "invalid"


async def test_a_key_that_was_taken_out_after_it_signed_makes_its_badges_invalid(
    verifier: Verifier, issuer: TestIssuer, one: dict[str, Any]
) -> None:
    taken_out = issuer.published(2, did_document=both(rotated(issuer)), published_at=NOW + timedelta(minutes=1))
    await verifier.feed(taken_out)
    found = await verifier.verify(one)
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "key_not_found")


async def test_a_foreign_issuers_new_key_is_looked_up_again_but_not_in_a_loop(
    verifier: Verifier, foreign: Foreign
) -> None:
    old = TestIssuer(slug="far", base_url=foreign.url)
    new = rotated(old)
    foreign.put("/issuers/far/did.json", both(old))
    assert (await verifier.verify(old.badge()))["verdict"] == "valid"
    assert len(foreign.asked) == 1
    foreign.put("/issuers/far/did.json", both(old, new))
    assert (await verifier.verify(new.badge()))["verdict"] == "valid"
    assert len(foreign.asked) == 2
    for number in range(3, 8):  # keys that are in no document: they do not make us ask again
        found = await verifier.verify(rotated(old, number).badge())
        assert (found["verdict"], code(found, "issuer")) == ("could_not_check", "key_not_found")
    assert len(foreign.asked) == 2
    assert (await verifier.verify(new.badge()))["verdict"] == "valid"
    assert len(foreign.asked) == 2


async def test_a_key_that_the_document_just_fetched_does_not_list_is_nobodys(
    verifier: Verifier, foreign: Foreign
) -> None:
    old = TestIssuer(slug="far", base_url=foreign.url)
    foreign.put("/issuers/far/did.json", both(old))
    found = await verifier.verify(rotated(old).badge())
    assert (found["verdict"], code(found, "issuer")) == ("invalid", "key_not_found")
    assert len(foreign.asked) == 1
