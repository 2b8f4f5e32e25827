"""Endorsements stand in the index beside the credentials of achievements, and are not counted with them."""

from __future__ import annotations

from alembic import op

revision = "verifier_0003"
down_revision = "verifier_0002"


def upgrade() -> None:
    """Every row of before is of an achievement."""
    op.get_bind().exec_driver_sql(
        "ALTER TABLE credentials ADD COLUMN kind text NOT NULL DEFAULT 'achievement' "
        "CHECK (kind IN ('achievement', 'endorsement'))"
    )
