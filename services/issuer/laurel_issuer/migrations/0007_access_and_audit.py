"""Secrets of API keys that rotate, narrower scopes, access tokens, and the audit log."""

from __future__ import annotations

from alembic import op

from laurel.tables import access_and_audit_tables, row_level_security

revision = "issuer_0007"
down_revision = "issuer_0006"
branch_labels = None
depends_on = None

# The secrets of the keys that sign access tokens, sealed under the KEK. The API makes them and signs with them.
_SECRETS = """
CREATE TABLE token_secrets (
    kid         text PRIMARY KEY REFERENCES token_keys,
    tenant_id   text NOT NULL,
    sealed_seed text NOT NULL
);
"""


def upgrade() -> None:
    secrets = (_SECRETS + row_level_security("token_secrets", "issuer")).split(";\n")
    for statement in (*access_and_audit_tables("issuer"), *secrets[:-1]):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
