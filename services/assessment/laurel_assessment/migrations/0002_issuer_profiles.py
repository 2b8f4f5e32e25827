"""A replica of issuer profiles: an achievement may only name one that its organisation has.

Revision ID: assessment_0002
Revises: assessment_0001
"""

from __future__ import annotations

from alembic import op

from laurel.tables import row_level_security

revision = "assessment_0002"
down_revision = "assessment_0001"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE issuer_profiles (
    profile_id text COLLATE "C" PRIMARY KEY,
    tenant_id  text COLLATE "C" NOT NULL,
    version    integer NOT NULL
);
"""


def upgrade() -> None:
    for statement in (TABLE + row_level_security("issuer_profiles", "assessment")).split(";\n"):
        if statement.strip():
            op.execute(statement)
