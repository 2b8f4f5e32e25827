"""Status lists in memory, as long-lived as the key that signs them: one bit for each issued credential."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from laurel.credential import status

TTL_MS = 1000


class Lists:
    """Allocates entries, and tells the list documents. base: the URL below which the lists are served."""

    def __init__(self, base: str, issuer: str, place_key: bytes) -> None:
        self._base = base
        self._issuer = issuer
        self._place_key = place_key
        self._bits: list[bytearray] = []
        self._allocated = 0
        self._of_credential: dict[str, tuple[int, int]] = {}

    def entry(self, credential_id: object) -> dict[str, Any]:
        """A `BitstringStatusListEntry` (1 bit, "revocation") of its own."""
        number, position = divmod(self._allocated, status.MINIMUM_ENTRIES)
        self._allocated += 1
        if number == len(self._bits):
            self._bits.append(bytearray(status.MINIMUM_ENTRIES // 8))
        index = status.permute(position, self._place_key, status.MINIMUM_ENTRIES)
        if isinstance(credential_id, str):
            self._of_credential[credential_id] = (number, index)
        return status.status_entry(f"{self._base}/{number}", index)

    def revoke(self, credential_id: str) -> bool:
        """Whether there was such a credential."""
        place = self._of_credential.get(credential_id)
        if place is None:
            return False
        status.set_bit(self._bits[place[0]], place[1])
        return True

    def document(self, number: int, valid_from: datetime) -> dict[str, Any] | None:
        """The unsigned list credential as it is now; None when there is no such list."""
        if not 0 <= number < len(self._bits):
            return None
        encoded = status.encode_list(self._bits[number])
        return status.build_status_list(
            f"{self._base}/{number}", self._issuer, "revocation", encoded, valid_from, TTL_MS
        )
