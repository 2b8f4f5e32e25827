"""Credentials whose learner was erased: a tombstone for each, so that none of them is told or written about again."""

from __future__ import annotations

from alembic import op

from laurel.erasure import tombstone_table

revision = "notifier_0005"
down_revision = "notifier_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in tombstone_table("notifier"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
