"""Settings of the issuer."""

from __future__ import annotations

import os
from functools import cached_property

from pydantic import Field, SecretStr

from laurel.credential.status import MINIMUM_ENTRIES
from laurel.settings import SecretKey
from laurel.settings import Settings as CommonSettings


def _spare_cores() -> int:
    return max(1, (os.cpu_count() or 2) - 1)


class Settings(CommonSettings):
    """What the issuer needs to know beyond what every service does."""

    operator_token: SecretStr | None = Field(
        default=None, description="Opens POST /issuer/v1/organisations; unset: no organisation can be created."
    )
    kek: SecretKey = Field(description="32 bytes, base64. Encrypts signing keys at rest; losing it loses the keys.")
    token_ttl_s: int = Field(
        default=900, ge=60, le=3600, description="Seconds for which an access token of POST /oauth/token holds."
    )
    signers: int = Field(
        default_factory=_spare_cores,
        ge=0,
        le=256,
        description="Processes that lint and sign; 0: a thread of this process.",
    )
    issuance_members: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Batches that one process has in hand at once: one is stored while another is signed. Each is a "
        "member of the consumer group, with partitions of its own. More where there are many signers.",
    )
    canary_every: int = Field(
        default=1024,
        ge=1,
        description="One credential in so many is made without a template, too, and more of the first ones of each "
        "template; a difference stops issuing.",
    )
    status_list_entries: int = Field(
        default=MINIMUM_ENTRIES,
        ge=1,
        le=MINIMUM_ENTRIES,
        description="Credentials per status list, after which a new list is begun.",
    )
    status_ttl_s: int = Field(default=60, ge=1, description="Seconds for which a status list may be cached.")
    status_valid_s: int = Field(
        default=604_800,
        ge=0,
        description="Seconds for which a published status list is valid; half of them later it is published anew. "
        "0: without end.",
    )

    @cached_property
    def index_key(self) -> bytes:
        """The key under which places in status lists are spread; secret, so that they tell nothing about the order."""
        return self.id_key.get_secret_value()
