from __future__ import annotations

from typing import Any

from laurel.security import SCOPES
from tests.component.openapi import try_methods, try_operations
from tests.component.verifier.conftest import Verifier

URL = "/verifier/v1/openapi.json"


async def test_the_api_keeps_its_promises_to_schemathesis(verifier: Verifier, one: dict[str, Any]) -> None:
    headers = await verifier.api_key(scopes=SCOPES)
    assert set(await try_operations(verifier.client, URL, headers)) > {200}


async def test_nobody_gets_an_answer_that_is_not_promised(verifier: Verifier) -> None:
    seen = await try_operations(verifier.client, URL, None)
    assert seen[401]


async def test_methods_that_are_not_declared(verifier: Verifier) -> None:
    assert await try_methods(verifier.client, URL, await verifier.api_key(scopes=SCOPES)) > 10
