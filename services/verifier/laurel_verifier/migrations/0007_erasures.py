"""Credentials whose learner was erased: a tombstone for each, so that none of them is indexed again."""

from __future__ import annotations

from alembic import op

from laurel.erasure import tombstone_table

revision = "verifier_0007"
down_revision = "verifier_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in tombstone_table("verifier"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
