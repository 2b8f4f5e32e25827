"""Results are vacuumed as they are written, not a fifth of the table later."""

from __future__ import annotations

from alembic import op

from laurel.tables import vacuumed_as_it_grows

revision = "assessment_0009"
down_revision = "assessment_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(vacuumed_as_it_grows("results"))


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
