"""Secrets of API keys that rotate, narrower scopes, access tokens, and the audit log."""

from __future__ import annotations

from alembic import op

from laurel.tables import access_and_audit_tables

revision = "notifier_0004"
down_revision = "notifier_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in access_and_audit_tables("notifier"):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
