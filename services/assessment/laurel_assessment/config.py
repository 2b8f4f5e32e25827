"""What the assessment service can be told beyond what every service knows."""

from __future__ import annotations

from pydantic import Field

import laurel.settings


class Settings(laurel.settings.Settings):
    """Settings of the assessment service."""

    import_max_bytes: int = Field(
        default=4 << 30, gt=0, description="Largest body of a bulk upload of results, in bytes."
    )
    import_idle_s: float = Field(
        default=60.0, gt=0, description="Seconds without a byte after which a bulk upload counts as broken off."
    )
    import_workers: int = Field(
        default=2, ge=1, le=16, description="Chunks of imports that one worker process handles at once."
    )
    import_ahead_s: float = Field(
        default=2.0,
        gt=0,
        description="How far imports may run ahead of the issuer, in seconds of its work: so long a single pass may "
        "have to wait behind a bulk upload.",
    )
    overload_bulk_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds that the oldest event may wait in the outbox before bulk uploads are refused with 429.",
    )
    overload_single_s: float = Field(
        default=120.0, gt=0, description="The same for single results, which are refused later than bulk."
    )
    overload_spooled_rows: int = Field(
        default=5_000_000,
        ge=1,
        description="Rows of uploads that may wait to be decided before further uploads are refused with 429.",
    )
    overload_waiting: int = Field(
        default=1000,
        ge=1,
        description="Requests that may wait for a database connection in one process before results are refused.",
    )
