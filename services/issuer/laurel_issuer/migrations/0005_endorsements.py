"""Endorsements: what was asked for stands in a table of its own, what was signed beside the other credentials."""

from __future__ import annotations

from alembic import op

from laurel.tables import row_level_security

revision = "issuer_0005"
down_revision = "issuer_0004"
branch_labels = None
depends_on = None

_CHANGES = """
ALTER TABLE credentials
    ADD COLUMN kind text NOT NULL DEFAULT 'achievement' CHECK (kind IN ('achievement', 'endorsement'));
-- Few: so that the others can be counted without reading them.
CREATE INDEX credentials_endorsements ON credentials (tenant_id) WHERE kind = 'endorsement';
-- The reservation of an endorsement, kept: it says what the credential follows from.
CREATE TABLE endorsements (
    seq              bigint GENERATED ALWAYS AS IDENTITY,
    credential_id    uuid PRIMARY KEY,
    tenant_id        text NOT NULL,
    profile_id       text NOT NULL REFERENCES issuer_profiles,
    profile_version  integer NOT NULL,
    subject_id       text NOT NULL,
    subject_type     text NOT NULL,
    comment          text NOT NULL,
    name             text NOT NULL,
    valid_until      timestamptz,
    securing         text[] NOT NULL,
    key_ids          text[] NOT NULL,
    revocation_list  uuid NOT NULL,
    revocation_index integer NOT NULL,
    created_at       timestamptz NOT NULL,
    UNIQUE (revocation_list, revocation_index)
);
CREATE INDEX endorsements_tenant ON endorsements (tenant_id, seq);
"""


def upgrade() -> None:
    for statement in (_CHANGES + row_level_security("endorsements", "issuer")).split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
