"""The numbers that the alerts ask for, as the tables tell them."""

from __future__ import annotations

from laurel_assessment.numbers import numbers
from tests.component.assessment.conftest import Caller, World, learner, ndjson

ROWS, SILENT = "laurel_import_rows_waiting", "laurel_import_silent_seconds"


async def told(world: World) -> dict[str, float]:
    async with world.service.worker_database.transaction() as tx:
        return dict(await numbers(tx))


async def test_an_upload_that_nobody_works_on_is_silent(world: World, ours: Caller) -> None:
    assert await told(world) == {ROWS: 0.0, SILENT: 0.0}
    name = await ours.achievement()
    assert (await ours.upload(ndjson(*(learner(n) for n in range(1500))), achievement=name)).status_code == 202
    await world.fetch("UPDATE imports SET created_at = now() - interval '1 hour' RETURNING import_id")
    found = await told(world)
    assert found[ROWS] == 1500
    assert 3600 <= found[SILENT] < 36000
    assert await world.worker.step()
    found = await told(world)
    assert found[ROWS] == 500
    assert found[SILENT] < 1800, "a chunk was worked on a moment ago"
    await world.settle()
    assert await told(world) == {ROWS: 0.0, SILENT: 0.0}
