"""Learners that were erased: by a pseudonym that nobody can reverse, so that nothing brings them back."""

from __future__ import annotations

from alembic import op

from laurel.tables import row_level_security

revision = "assessment_0006"
down_revision = "assessment_0005"
branch_labels = None
depends_on = None

# learner_key: the keyed hash of (tenant, learner); relation: how often the learner had been erased before.
# erased_at: what was received before it and is decided later (rows of an import that waits) is refused.
_TABLE = """
CREATE TABLE erasures (
    erasure_id   uuid PRIMARY KEY,
    tenant_id    text COLLATE "C" NOT NULL,
    learner_key  bytea NOT NULL,
    relation     integer NOT NULL,
    results      bigint NOT NULL,
    credentials  bigint NOT NULL,
    requested_at timestamptz NOT NULL,
    erased_at    timestamptz NOT NULL,
    UNIQUE (learner_key, relation)
);
"""


def upgrade() -> None:
    for statement in (_TABLE + row_level_security("erasures", "assessment")).split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
