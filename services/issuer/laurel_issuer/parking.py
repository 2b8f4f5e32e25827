"""Issues what was parked, once the achievement, the issuer profile or the key that it waited for is there."""

from __future__ import annotations

import asyncio

from laurel.bus import Bus
from laurel.crash_points import reach
from laurel.database import Database
from laurel.service import Consumer, Engine
from laurel_issuer import store_parked
from laurel_issuer.handlers import Prepared
from laurel_issuer.watching import watch

_LOOK_S = 10.0


class ParkedIssuer:
    """Takes parked events through the very engine and handler that they would have gone through on arrival."""

    def __init__(self, database: Database, bus: Bus, consumer: Consumer[Prepared], *, batch_size: int) -> None:
        self._database = database
        self._group = consumer.group
        self._batch_size = batch_size
        self._engine = Engine(consumer, bus=bus, database=database, member_id="parked")

    async def issue_ready(self, stop: asyncio.Event) -> int:
        """Issue up to one batch of what is ready by now; how many events were settled (0: nothing is left to do)."""
        async with self._database.transaction() as tx:
            ready = await store_parked.ready_parked(tx, self._batch_size)
        if not ready:
            return 0
        reach("parked.found")
        if not await self._engine.process(list(ready.values()), stop):
            return 0
        reach("parked.issued")
        async with self._database.transaction() as tx:
            await store_parked.unpark_dead(tx, self._group, ready)
            return len(ready) - await store_parked.still_parked(tx, ready)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`."""
        await watch(self._database, "parked", lambda: self.issue_ready(stop), stop, look_s=_LOOK_S)
