"""Attempts by achievement and learner, not by learner and achievement: what is earned together stands together.

Learners' keys are hashes. In their order each attempt fell on a page of its own, which is read, and whole in the log,
once the table is large. Making the index reads the results once.
"""

from __future__ import annotations

from alembic import op

revision = "assessment_0010"
down_revision = "assessment_0009"
branch_labels = None
depends_on = None

_CHANGES = (
    "DROP INDEX results_attempt",
    "CREATE UNIQUE INDEX results_attempt ON results (achievement_id, learner_key, attempt) "
    "WHERE outcome IN ('passed', 'not_passed')",
)


def upgrade() -> None:
    for statement in _CHANGES:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
