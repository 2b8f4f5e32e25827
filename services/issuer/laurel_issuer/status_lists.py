"""Publishes status lists: rebuilt from rows, signed, with the next version, within a second of a change.

A list ends (`validUntil`), so that nobody can show an old one for ever in which a badge was not yet revoked. It is
published anew, without a change, when half of its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from laurel import telemetry
from laurel.crash_points import reach
from laurel.credential import status
from laurel.database import Database
from laurel_issuer import store_status
from laurel_issuer.signing import Signers
from laurel_issuer.standing import list_bits
from laurel_issuer.store_issuance import require_usable_keys
from laurel_issuer.watching import watch

_LOOK_S = 1.0  # how often to look without having been told
_AT_ONCE = 50


class Publisher:
    """`publish` for one list; `run` for whatever has changed. valid_s: how long a list is valid; 0: without end."""

    def __init__(
        self, database: Database, signers: Signers, *, ttl_s: int, valid_s: int, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._signers = signers
        self._ttl_s = ttl_s
        self._valid = timedelta(seconds=valid_s) if valid_s else None
        self._clock = clock

    async def publish(self, list_id: UUID, *, only_first: bool = False) -> bool:
        """Publish the next version of a list; only_first: unless it has one. False: nothing to do, or no key yet.

        The list stays locked from the reading of its rows to the writing of its bytes, so versions never step back.
        Raises NotNow (also when its key was compromised meanwhile), Inconsistent.
        """
        async with self._database.transaction() as tx:
            state = await store_status.lock_list(tx, list_id)
            if state is None or state.key is None or (only_first and state.version > 0):
                return False
            reach("list.locked")
            now = self._clock().replace(microsecond=0)
            until = None if self._valid is None else now + self._valid
            encoded = status.encode_list(list_bits(state.values, state.size))
            ttl_ms = self._ttl_s * 1000  # Bitstring Status List 1.0 §2.2: milliseconds
            document = status.build_status_list(state.url, state.did, state.purpose, encoded, now, ttl_ms, until)
            body = await self._signers.sign_list(document, state.securing, state.key, now)
            reach("list.signed")
            await require_usable_keys(tx, [state.key.key_id])
            await store_status.store_list(
                tx, list_id, state, key_id=state.key.key_id, body=body, now=now, ttl_s=self._ttl_s, valid_until=until
            )
            reach("list.stored")
        reach("list.published")
        telemetry.count("laurel_status_lists_published_total")
        return True

    async def publish_dirty(self) -> int:
        """Publish every list that has changed or comes to its end; how many."""
        ending = None if self._valid is None else self._clock() + self._valid / 2
        async with self._database.transaction() as tx:
            lists = await store_status.due_lists(tx, _AT_ONCE, ending=ending)
        published = [await self.publish(list_id) for list_id in lists]
        return sum(published)

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`. A database out of reach is waited for."""
        await watch(self._database, "status", self.publish_dirty, stop, look_s=_LOOK_S)
