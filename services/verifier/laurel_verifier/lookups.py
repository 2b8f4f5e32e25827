"""Credentials of the index by their ids: whoever asks while a question is on its way shares the next one.

A question costs much and a row in it little. Nobody shares a question that has left already: its answer may be older
than a revocation that the asker knows of.
"""

from __future__ import annotations

import asyncio

from laurel.database import Database
from laurel_verifier import store
from laurel_verifier.store import Indexed

_AT_ONCE = 2  # questions on their way
_TOGETHER = 64  # ids in one


class Lookups:
    """Finds credentials, whoever's they are: their addresses are all that a reader needs to know."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted: dict[str, list[asyncio.Future[Indexed | None]]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def credential(self, credential_id: str) -> Indexed | None:
        """The credential of this id, as it is now. Raises what the database raises."""
        answer: asyncio.Future[Indexed | None] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(credential_id, []).append(answer)
        if len(self._asking) < _AT_ONCE:
            task = asyncio.create_task(self._ask())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return await answer

    async def _ask(self) -> None:
        while self._wanted:
            ids = list(self._wanted)[:_TOGETHER]
            asked = {one: self._wanted.pop(one) for one in ids}
            try:
                found = await store.public_credentials(self._database, ids)
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                if isinstance(error, TimeoutError):  # whoever has come meanwhile would wait as long again
                    for one in list(self._wanted):
                        asked.setdefault(one, []).extend(self._wanted.pop(one))
                for answer in (each for answers in asked.values() for each in answers):
                    if not answer.done():
                        answer.set_exception(error)
            except asyncio.CancelledError:
                for answer in (each for answers in asked.values() for each in answers):
                    answer.cancel()
                raise
            else:
                for one, answers in asked.items():
                    for answer in answers:
                        if not answer.done():  # whoever asked may have gone
                            answer.set_result(found.get(one))
