"""A thousand revocations at the same time while their status list is published: none is lost, and when are they seen?

    python -m tests.faults.revocations [--n 1000] [--json]

Four services as processes of their own. n credentials are issued; then n revocations are sent at once, and somebody
reads the published list over HTTP again and again. Seconds are from the answer that accepts a revocation to the first
reading that shows it, so the reader's own pause is in them. Exit status 1: one was lost, or not seen within `_SEEN_S`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import private_postgres
from tests.e2e.cluster import Cluster, cluster
from tests.faults.cohort import places_set

PATIENCE_S = 120.0
_SEEN_S = 5.0
_READ_EVERY_S = 0.1
_LINES = 80  # connections at a time: the client is not what is tried here
Place = tuple[str, int]


async def issue(laurel: Cluster, count: int) -> dict[str, Place]:
    """Credentials, and where each stands in its list."""
    rows = [json.dumps({"learner": f"l{n}", "did": f"did:example:{n}", "score": 90}) for n in range(count)]
    await laurel.call(
        "POST", f"/assessment/v1/results/imports?achievement={laurel.achievement_id}", 202,
        content="\n".join(rows).encode(), headers={"Content-Type": "application/x-ndjson"},
    )  # fmt: skip

    async def indexed() -> bool:
        (row,) = await laurel.database("SELECT count(*) FROM verifier.credentials")
        return bool(row[0] == count)

    await laurel.until("all are issued", indexed, 300)
    found = await laurel.database(
        "SELECT credential_id::text, revocation_list::text, revocation_index FROM issuer.credentials"
    )
    return {row[0]: (row[1], row[2]) for row in found}


async def revoke_all(laurel: Cluster, places: dict[str, Place]) -> dict[str, Any]:
    """Revoke all of them at once. accepted: when each was answered, shown: when each was first seen in its list."""
    accepted: dict[str, float] = {}
    shown: dict[Place, float] = {}
    come_again = 0
    base = f"http://127.0.0.1:{laurel.ports['issuer']}"
    lines = asyncio.Semaphore(_LINES)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:

        async def revoke(credential_id: str) -> None:
            nonlocal come_again
            while True:
                async with lines:
                    answer = await client.post(
                        f"{base}/issuer/v1/credentials/{credential_id}/revoke",
                        headers={"Authorization": f"Bearer {laurel.api_key}"}, json={"reason": "all at once"},
                    )  # fmt: skip
                if answer.status_code != 503:
                    break
                come_again += 1
                await asyncio.sleep(float(answer.headers["Retry-After"]))
            assert answer.status_code == 200, answer.text
            accepted[credential_id] = time.monotonic()

        async def read() -> None:
            etags: dict[str, str] = {}
            until = time.monotonic() + PATIENCE_S
            while len(shown) < len(places) and time.monotonic() < until:
                for list_id in {list_id for list_id, _ in places.values()}:
                    answer = await reader.get(
                        f"{base}/status/{list_id}", headers={"If-None-Match": etags.get(list_id, "none")}
                    )
                    if answer.status_code == 200:
                        now, etags[list_id] = time.monotonic(), answer.headers["ETag"]
                        for index in await asyncio.to_thread(places_set, answer.content):
                            shown.setdefault((list_id, index), now)
                await asyncio.sleep(_READ_EVERY_S)

        async with httpx.AsyncClient(timeout=60, trust_env=False) as reader:
            reading = asyncio.create_task(read())
            await asyncio.gather(*map(revoke, places))
            await reading
    lags = [max(0.0, shown[place] - accepted[one]) for one, place in places.items() if place in shown]
    versions = await laurel.database("SELECT max(version) FROM issuer.status_lists")
    return {
        "revoked": len(accepted),
        "shown": len(lags),
        "lost": len(places) - len(lags),
        "told_to_come_again": come_again,
        "list_versions": versions[0][0],
        "accepted_in_s": round(max(accepted.values()) - min(accepted.values()), 2),
        "seen_after_p50_s": round(statistics.median(lags), 2) if lags else None,
        "seen_after_max_s": round(max(lags), 2) if lags else None,
    }


async def run(count: int) -> dict[str, Any]:
    """All of it, with a durable database of its own."""
    with private_postgres() as server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        dsn = server.get_uri()
        async with cluster(postgres_dsn=dsn, bus_url=dsn, logs=Path(folder)) as laurel:
            await laurel.organise()
            return await revoke_all(laurel, await issue(laurel, count))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.revocations", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    report = asyncio.run(run(given.n))
    print(json.dumps(report, indent=None if given.json else 2))
    sys.exit(bool(report["lost"] or report["seen_after_max_s"] > _SEEN_S))


if __name__ == "__main__":
    main()
