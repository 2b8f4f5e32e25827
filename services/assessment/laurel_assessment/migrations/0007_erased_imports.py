"""Which imports were under way when a learner was erased: their rows of this learner are refused, by no clock."""

from __future__ import annotations

from alembic import op

revision = "assessment_0007"
down_revision = "assessment_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. NULL: as the version before wrote it, which went by the times of both."""
    op.get_bind().exec_driver_sql("ALTER TABLE erasures ADD COLUMN imports uuid[]")


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
