"""What issuers say of credentials without a word against them: a newer one may be had, a message."""

from __future__ import annotations

from alembic import op

revision = "verifier_0002"
down_revision = "verifier_0001"


def upgrade() -> None:
    """Add the columns; every row has said nothing yet."""
    op.get_bind().exec_driver_sql(
        "ALTER TABLE credentials ADD refresh boolean NOT NULL DEFAULT false, ADD message smallint NOT NULL DEFAULT 0, "
        "ADD message_version bigint NOT NULL DEFAULT 0"
    )
