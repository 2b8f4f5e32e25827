"""A thousand revocations at once, while the list is published, over HTTP and through four processes: none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import private_postgres
from tests.e2e.cluster import cluster
from tests.faults.revocations import issue, revoke_all

COUNT = 1000


@pytest.mark.timeout(900)
async def test_a_thousand_revocations_at_once_are_all_told(tmp_path: Path) -> None:
    with private_postgres() as server:
        dsn = server.get_uri()
        async with cluster(postgres_dsn=dsn, bus_url=dsn, logs=tmp_path) as laurel:
            await laurel.organise()
            places = await issue(laurel, COUNT)
            found = await revoke_all(laurel, places)
            assert {name: found[name] for name in ("revoked", "shown", "lost")} == {
                "revoked": COUNT, "shown": COUNT, "lost": 0,
            }  # fmt: skip
            assert found["list_versions"] > 2, "published again and again meanwhile"
            changes = await laurel.database("SELECT credential_id::text, version FROM issuer.status_changes")
            assert sorted(map(tuple, changes)) == sorted((one, 1) for one in places), "each once"

            async def indexed() -> bool:
                (row,) = await laurel.database("SELECT count(*) FROM verifier.credentials WHERE status = 'revoked'")
                return bool(row[0] == COUNT)

            await laurel.until("the index knows", indexed)

            def webhooks() -> int:
                return len({i for i, event, _ in laurel.sink.received if event["type"] == "credential.revoked"})

            async def told() -> bool:
                return webhooks() >= COUNT

            await laurel.until("the partner knows", told)
            assert webhooks() == COUNT, "one webhook-id each"
