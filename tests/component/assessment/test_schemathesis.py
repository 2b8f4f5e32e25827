from __future__ import annotations

from laurel.security import SCOPES
from tests.component.assessment.conftest import World
from tests.component.openapi import try_methods, try_operations

URL = "/assessment/v1/openapi.json"


async def test_the_api_keeps_its_promises_to_schemathesis(world: World) -> None:
    caller = await world.caller(scopes=SCOPES)
    await caller.achievement()
    assert set(await try_operations(world.http, URL, caller.headers)) > {200}


async def test_nobody_gets_an_answer_that_is_not_promised(world: World) -> None:
    seen = await try_operations(world.http, URL, None)
    assert seen[401]


async def test_methods_that_are_not_declared(world: World) -> None:
    assert await try_methods(world.http, URL, (await world.caller(scopes=SCOPES)).headers) > 10
