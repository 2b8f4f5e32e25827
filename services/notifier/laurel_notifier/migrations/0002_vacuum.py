"""Vacuum deliveries by a fifth of their rows: at every fiftieth all their indexes were read again, ever longer ones.

Dead entries at the head of the index of what is due are passed over once and then marked as such; HOT updates (the
lease) clean up in their own page.
"""

from __future__ import annotations

from alembic import op

revision = "notifier_0002"
down_revision = "notifier_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql("ALTER TABLE deliveries SET (autovacuum_vacuum_scale_factor = 0.2)")


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
