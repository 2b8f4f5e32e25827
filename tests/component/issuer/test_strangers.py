"""What we issue under each kind of issuer id, put before Digital Bazaar's verifier with what the issuer serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.component.issuer.kit import BASE_URL, Issuer, passed_of
from tests.component.issuer.test_formats import body_of, make_profile, resolve
from tests.conformance.conftest import node_verify  # noqa: F401 - a fixture
from tests.conformance.node_oracle import Verdict

pytestmark = pytest.mark.node


@pytest.mark.parametrize(
    ("identity", "names"),
    [
        ("https", ["eddsa-rdfc-2022"]),
        ("https", ["ecdsa-rdfc-2019:P-384", "eddsa-rdfc-2022"]),
        ("did:key", ["ecdsa-rdfc-2019"]),
        ("did:web", ["eddsa-rdfc-2022", "ecdsa-rdfc-2019"]),
    ],
)
async def test_digital_bazaar_accepts_every_kind_of_issuer(
    issuer: Issuer, identity: str, names: list[str], node_verify: Callable[..., Verdict]  # noqa: F811
) -> None:  # fmt: skip
    issuer.clock.now = datetime.now(UTC)  # the library judges status lists by its own clock
    tenant = await issuer.tenant()
    profile = await make_profile(issuer, tenant, identity=identity, securing=names)
    achievement = await issuer.achievement(tenant, profile["profile_id"])
    passed = passed_of(achievement, 1)
    await issuer.process([passed])
    credential = json.loads(await body_of(issuer, passed.credential_id))
    controller = await resolve(issuer, profile["did"])
    url = credential["credentialStatus"]["statusListCredential"]
    status_list = await issuer.get(None, url.removeprefix(BASE_URL))
    verdict = node_verify(credential, controller, status_list)
    assert verdict.verified, verdict.error
    assert verdict.proofs == (True,) * len(names)
    credential["credentialSubject"]["achievement"]["name"] = "Quantum field theory"
    assert not node_verify(credential, controller, status_list).verified
