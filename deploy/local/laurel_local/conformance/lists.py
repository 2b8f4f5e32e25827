"""Status lists in memory, as long-lived as the keys that sign them: one bit for each issued credential."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from laurel.credential import status

TTL_MS = 1000
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII).fullmatch  # what an anonymous caller writes may have any length


@dataclass
class _List:
    """issuer: whose credentials it is about, and who signs it."""

    issuer: str
    allocated: int = 0
    bits: bytearray = field(default_factory=lambda: bytearray(status.MINIMUM_ENTRIES // 8))


class Lists:
    """Allocates entries, and tells the list documents. base: the URL below which the lists are served."""

    def __init__(self, base: str, place_key: bytes) -> None:
        self._base = base
        self._place_key = place_key
        self._lists: list[_List] = []
        self._open: dict[str, int] = {}  # issuer → the number of the list that it fills
        self._of_credential: dict[str, list[tuple[int, int]]] = {}

    def entry(self, issuer: str, credential_id: object) -> dict[str, Any]:
        """A `BitstringStatusListEntry` (1 bit, "revocation") of its own, in a list of that issuer's."""
        number = self._open.get(issuer)
        if number is None or self._lists[number].allocated == status.MINIMUM_ENTRIES:
            number = self._open[issuer] = len(self._lists)
            self._lists.append(_List(issuer))
        index = status.permute(self._lists[number].allocated, self._place_key, status.MINIMUM_ENTRIES)
        self._lists[number].allocated += 1
        if isinstance(credential_id, str):
            self._of_credential.setdefault(credential_id, []).append((number, index))
        return status.status_entry(f"{self._base}/{number}", index, reference=self._base)

    def revoke(self, credential_id: str, revoked: bool = True) -> set[str]:
        """Set the bits of all that was issued with this id, or take them back. The URLs of the lists that they are in.

        Empty: nothing was issued with it.
        """
        places = self._of_credential.get(credential_id, [])
        for number, index in places:
            status.set_value(self._lists[number].bits, index, int(revoked))
        return {f"{self._base}/{number}" for number, _ in places}

    def document(self, name: str, valid_from: datetime) -> dict[str, Any] | None:
        """The unsigned list credential as it is now; None when there is no such list. name: its number, in its URL."""
        number = int(name) if _NUMBER(name) else len(self._lists)
        if number >= len(self._lists):
            return None
        found = self._lists[number]
        encoded = status.encode_list(found.bits)
        return status.build_status_list(
            f"{self._base}/{number}", found.issuer, "revocation", encoded, valid_from, TTL_MS
        )
