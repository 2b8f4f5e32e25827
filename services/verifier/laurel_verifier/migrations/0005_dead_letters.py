"""Dead letters get a state, and a record of who asked for what and what came of it."""

from __future__ import annotations

from alembic import op

from laurel.tables import kernel_tables_2

revision = "verifier_0005"
down_revision = "verifier_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in kernel_tables_2("verifier").split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
