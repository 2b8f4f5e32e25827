"""The index of credentials and the issuers that we know of."""

from __future__ import annotations

from alembic import op

from laurel.tables import kernel_tables, row_level_security

revision = "verifier_0001"
down_revision = None

_TABLES = """
-- What was issued, byte for byte, and what became of it. Statuses change by version, never backwards.
CREATE TABLE credentials (
    credential_id     text PRIMARY KEY,
    tenant_id         text NOT NULL,
    result_id         text NOT NULL,
    achievement_id    text NOT NULL,
    achievement_name  text NOT NULL,
    profile_id        text NOT NULL,
    issuer            text NOT NULL,
    course_run        text,
    issued_at         timestamptz NOT NULL,
    valid_from        timestamptz NOT NULL,
    valid_until       timestamptz,
    document          bytea NOT NULL,
    status            text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'revoked')),
    status_version    bigint NOT NULL DEFAULT 0,
    status_reason     text,
    status_changed_at timestamptz,
    indexed_at        timestamptz NOT NULL DEFAULT now()
) WITH (toast_tuple_target = 8160, fillfactor = 95);
ALTER TABLE credentials ALTER COLUMN document SET STORAGE EXTERNAL;
CREATE INDEX credentials_report ON credentials (tenant_id, course_run, credential_id);

CREATE TABLE known_issuers (
    profile_id   text PRIMARY KEY,
    tenant_id    text NOT NULL,
    did          text NOT NULL UNIQUE,
    slug         text NOT NULL,
    version      bigint NOT NULL,
    profile      bytea NOT NULL,
    did_document bytea NOT NULL,
    published_at timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Create everything."""
    script = kernel_tables("verifier") + _TABLES
    script += row_level_security("credentials", "verifier", public_id="credential_id")
    script += row_level_security("known_issuers", "verifier", public_id="did")
    for statement in script.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
