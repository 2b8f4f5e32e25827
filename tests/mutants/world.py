"""The verifier as it is, with an outside world of a dict: no network, no database, no second process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from laurel.database import Database
from laurel.http import Fetched, GuardedClient
from laurel_verifier.documents import Unreadable
from laurel_verifier.intake import Intake
from laurel_verifier.lookups import Lookups
from laurel_verifier.resolution import Issuers, Resolved
from laurel_verifier.sandbox import Findings, Job, Sandbox, examine
from laurel_verifier.status_lists import StatusLists
from laurel_verifier.verification import Verifier

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass
class Web:
    """What strangers' addresses answer: URL → a JSON document."""

    documents: Mapping[str, Any] = field(default_factory=dict)

    async def get(self, url: str, *, accept: str = "", allow_http: bool = False, **_: Any) -> Fetched:
        if url not in self.documents:
            return Fetched(404, "text/plain", b"", url)
        answer = self.documents[url]
        return Fetched(200, "application/json", answer if isinstance(answer, bytes) else _json(answer), url)


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogateescape")


class _Strangers(Issuers):
    """Nobody is in the register: every issuer is a stranger whose keys are asked for."""

    async def _replica(self, issuer: str) -> Resolved | None:
        return None


class _HereAndNow:
    """`sandbox.examine` in this very process: what a worker of the sandbox runs."""

    async def examine(self, job: Job) -> Findings:
        return examine(job)


class Desk:
    """The verifier behind its one way in, knowing these documents; it remembers the lists and keys that it has seen."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        client = cast(GuardedClient, Web(documents))
        sandbox = cast(Sandbox, _HereAndNow())
        base_url = "https://nobody.example"  # no credential claims to be one of ours, so that the database is not asked
        database = cast(Database, None)
        index = Lookups(database)
        verifier = Verifier(
            index=index,
            issuers=_Strangers(database, client, base_url=base_url, allow_http=False, clock=lambda: NOW),
            lists=StatusLists(client),
            own=sandbox,
            foreign=sandbox,
            base_url=base_url,
            clock=lambda: NOW,
        )
        self._intake = Intake(index, verifier, client, base_url)

    async def verdict(self, body: bytes) -> str:
        """The verdict on any bytes."""
        try:
            return (await self._intake.examine(body)).verification.verdict
        except Unreadable as error:
            return self._intake.unreadable(error).verification.verdict
