"""Dead letters are named by UUIDs: consecutive numbers told one organisation how many letters the others had."""

from __future__ import annotations

from alembic import op

from laurel.dead_letters import letters_get_uuids

revision = "notifier_0006"
down_revision = "notifier_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give each letter its UUID. Processes of before can bury letters, and not list or redrive them."""
    for statement in letters_get_uuids():
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
