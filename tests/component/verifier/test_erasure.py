"""An erased credential is out of the index for ever; whoever asks for it is told what is told of one that never was."""

from __future__ import annotations

import itertools

import pytest

from laurel.events import CredentialErased
from tests.component.verifier.conftest import Verifier
from tests.component.verifier.issuing import NOW, TENANT, TestIssuer, changed, credential_id, issued, refresh_offered

ERASURE = "019a0000-0000-7000-8000-00000000e7a5"


def erased(number: int = 1, tenant_id: str = TENANT) -> CredentialErased:
    return CredentialErased(
        tenant_id=tenant_id, credential_id=credential_id(number), erasure_id=ERASURE, version=1, erased_at=NOW
    )


async def indexed(verifier: Verifier) -> list[str]:
    return [row["credential_id"] for row in await verifier.rows("SELECT credential_id FROM credentials")]


async def test_its_page_is_that_of_one_that_never_was(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issued(issuer.badge(1)), issued(issuer.badge(2), 2))
    for path in (f"/c/{credential_id(1)}", f"/verifier/v1/credentials/{credential_id(1)}"):
        assert (await verifier.client.get(path)).status_code == 200
    await verifier.feed(erased(1), changed(1, 1, "revoked"))
    assert await indexed(verifier) == [credential_id(2)]
    assert await verifier.dead_letters() == []
    for path in ("/c/{}", "/c/{}/image", "/c/{}/badge.png", "/verifier/v1/credentials/{}"):
        gone, never = [await verifier.client.get(path.format(name)) for name in (credential_id(1), credential_id(9))]
        assert gone.status_code == never.status_code == 404, path
        assert gone.text.replace(credential_id(1), "…") == never.text.replace(credential_id(9), "…")


@pytest.mark.parametrize("together", [True, False])
async def test_no_order_of_events_brings_it_back(verifier: Verifier, issuer: TestIssuer, together: bool) -> None:
    orders = []
    for number, order in enumerate(itertools.permutations(range(4)), 1):
        if min(order[: 2 if together else 1]) > 1:
            continue  # a status before both is one of nothing: a dead letter, rightly
        events = [
            issued(issuer.badge(number), number), erased(number), changed(number, 1, "revoked"),
            refresh_offered(number, 2),
        ]  # fmt: skip
        orders.append([events[place] for place in order])
    if together:
        await verifier.feed(*itertools.chain(*orders))
    else:
        for step in zip(*orders, strict=True):
            await verifier.feed(*step)
    assert await indexed(verifier) == []
    assert await verifier.rows("SELECT count(*) AS n FROM erased_credentials") == [{"n": len(orders)}]
    assert await verifier.dead_letters() == []


async def test_a_dead_letter_of_it_is_emptied(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issued(issuer.badge(1), issuer="did:web:else.example"))
    assert await verifier.dead_letters() == ["issuer_mismatch"]
    await verifier.feed(erased(1))
    (letter,) = await verifier.rows("SELECT state, value, detail FROM dead_letters")
    assert (letter["state"], letter["value"]) == ("discarded", b"")


async def test_another_organisation_erases_nothing(verifier: Verifier, issuer: TestIssuer) -> None:
    await verifier.feed(issued(issuer.badge(1)), erased(1, tenant_id="another"))
    assert await indexed(verifier) == [credential_id(1)]
