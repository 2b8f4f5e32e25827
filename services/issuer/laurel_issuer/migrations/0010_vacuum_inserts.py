"""Credentials are vacuumed as they are written, not a fifth of the table later."""

from __future__ import annotations

from alembic import op

from laurel.tables import vacuumed_as_it_grows

revision = "issuer_0010"
down_revision = "issuer_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(vacuumed_as_it_grows("credentials"))


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
