from __future__ import annotations

from tests.component.issuer.kit import Issuer
from tests.component.openapi import try_methods, try_operations

URL = "/issuer/v1/openapi.json"


async def test_the_api_keeps_its_promises_to_schemathesis(issuer: Issuer) -> None:
    tenant = await issuer.tenant()
    await issuer.profile(tenant)
    assert set(await try_operations(issuer.http, URL, tenant.headers)) > {200}


async def test_nobody_gets_an_answer_that_is_not_promised(issuer: Issuer) -> None:
    seen = await try_operations(issuer.http, URL, None)
    assert seen[401]


async def test_methods_that_are_not_declared(issuer: Issuer) -> None:
    assert await try_methods(issuer.http, URL, (await issuer.tenant()).headers) > 10
