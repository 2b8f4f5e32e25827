from __future__ import annotations

from laurel.security import SCOPES
from tests.component.notifier.kit import TENANT, Notifier, api_key
from tests.component.openapi import try_methods, try_operations

URL = "/notifier/v1/openapi.json"


async def headers(notifier: Notifier) -> dict[str, str]:
    return {"Authorization": f"Bearer {await api_key(notifier.service.worker_database, TENANT, SCOPES)}"}


async def test_the_api_keeps_its_promises_to_schemathesis(notifier: Notifier) -> None:
    assert set(await try_operations(notifier.http, URL, await headers(notifier))) > {200}


async def test_nobody_gets_an_answer_that_is_not_promised(notifier: Notifier) -> None:
    seen = await try_operations(notifier.http, URL, None)
    assert seen[401]


async def test_methods_that_are_not_declared(notifier: Notifier) -> None:
    assert await try_methods(notifier.http, URL, await headers(notifier)) > 10
