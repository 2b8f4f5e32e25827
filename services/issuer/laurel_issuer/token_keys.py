"""The keys that sign access tokens: made here when they are needed, sealed under the KEK; the public side is an event.

A key signs for 30 days and is taken for one day more, so that no token outlives it. Its successor signs from a minute
after it was made, when every service has heard of it.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from laurel import access, outbox
from laurel.crash_points import reach
from laurel.database import Database, Transaction
from laurel.events import TokenKeyMade
from laurel.ids import uuid7
from laurel.security import CannotUnseal, seal, unseal
from laurel.tokens import public_key_of

NOBODY = "-"
"""The tenant of what belongs to none; ids of tenants are UUIDs."""

_PURPOSE = "access token key"
_SIGNS_FOR = timedelta(days=30)
_ENDS_AFTER = timedelta(days=31)
_SETTLES_IN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that signs. seed: 32 bytes, Ed25519."""

    kid: str
    seed: bytes = field(repr=False)
    made_at: datetime


class TokenKeys:
    """Finds the key to sign with, and makes it. clock: real time, as every service checks tokens by its own."""

    def __init__(self, database: Database, *, kek: bytes, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._kek = kek
        self._clock = clock

    async def current(self) -> TokenKey:
        """The key to sign with now."""
        now, made = self._clock(), False
        async with self._database.transaction([NOBODY]) as tx:
            keys = await self._usable(tx, now)
            if not keys or keys[0].made_at <= now - _SIGNS_FOR:
                await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':token key', 0))")
                keys = await self._usable(tx, now)  # another may have made it while we waited
                if not keys or keys[0].made_at <= now - _SIGNS_FOR:
                    keys.insert(0, await self._make(tx, now))
                    made = True
        if made:
            reach("access.token_key_made")
        return next((one for one in keys if one.made_at <= now - _SETTLES_IN), keys[0])

    async def _usable(self, tx: Transaction, now: datetime) -> list[TokenKey]:
        """The newest first, of the keys that tokens of now do not outlive. Those under another KEK are of no use."""
        rows = await tx.fetch(
            "SELECT kid, created_at, sealed_seed FROM token_keys JOIN token_secrets USING (kid) "
            "WHERE ends_at > $1 ORDER BY created_at DESC, kid DESC",
            now + (_ENDS_AFTER - _SIGNS_FOR) / 2,
        )
        keys = []
        for row in rows:
            with contextlib.suppress(CannotUnseal):
                seed = unseal(self._kek, row["sealed_seed"], purpose=_PURPOSE)
                keys.append(TokenKey(row["kid"], seed, row["created_at"]))
        return keys

    async def _make(self, tx: Transaction, now: datetime) -> TokenKey:
        seed, kid = os.urandom(32), uuid7()
        made = TokenKeyMade(
            tenant_id=NOBODY, kid=kid, public_key=base64.b64encode(public_key_of(seed)).decode(), created_at=now,
            ends_at=now + _ENDS_AFTER,
        )  # fmt: skip
        sealed = seal(self._kek, seed, purpose=_PURPOSE)
        await access.store_token_key(tx, made)
        await tx.execute(
            "INSERT INTO token_secrets (kid, tenant_id, sealed_seed) VALUES ($1, $2, $3)", kid, NOBODY, sealed
        )
        await outbox.append(tx, [made], now=now)
        return TokenKey(kid, seed, now)
