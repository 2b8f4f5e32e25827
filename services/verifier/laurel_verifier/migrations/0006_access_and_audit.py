"""Secrets of API keys that rotate, narrower scopes, access tokens, and the audit log."""

from __future__ import annotations

from alembic import op

from laurel.tables import access_and_audit_tables

revision = "verifier_0006"
down_revision = "verifier_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in access_and_audit_tables("verifier"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
