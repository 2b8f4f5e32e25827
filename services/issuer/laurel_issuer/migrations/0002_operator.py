"""The operator finds an organisation by its slug, to make it a key when it has lost its own."""

from __future__ import annotations

from alembic import op

revision = "issuer_0002"
down_revision = "issuer_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(
        "CREATE POLICY public_row ON organisations FOR SELECT TO laurel_issuer "
        "USING (slug = nullif(current_setting('laurel.public_id', true), ''))"
    )


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
