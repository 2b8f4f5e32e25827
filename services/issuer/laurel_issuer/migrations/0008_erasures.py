"""Credentials whose learner was erased: a tombstone for each, and the row of an issued one without its document."""

from __future__ import annotations

from alembic import op

from laurel.erasure import tombstone_table

revision = "issuer_0008"
down_revision = "issuer_0007"
branch_labels = None
depends_on = None

# Of an erased credential stay its ids, times, achievement and places in status lists; its bit must be set for ever.
_CHANGES = [
    "ALTER TABLE credentials ADD COLUMN erased_at timestamptz",
    "CREATE INDEX credentials_erased ON credentials (tenant_id) WHERE erased_at IS NOT NULL",
]


def upgrade() -> None:
    for statement in (*tombstone_table("issuer"), *_CHANGES):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
