"""Rows by their ids in one statement, each of them under the policy that shows the row that is named."""

from __future__ import annotations

from alembic import op

revision = "verifier_0004"
down_revision = "verifier_0003"

# Runs as whoever calls it: row-level security stays in force, and what it names holds for the statement alone.
_LOOKUP = """
CREATE FUNCTION public_credentials(wanted text[])
RETURNS TABLE (credential_id text, tenant_id text, issuer text, document bytea, status text, status_version bigint,
               status_changed_at timestamptz, issued_at timestamptz, indexed_at timestamptz, refresh boolean,
               message smallint)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $body$
#variable_conflict use_column
DECLARE
    named text;
BEGIN
    FOREACH named IN ARRAY wanted LOOP
        PERFORM set_config('laurel.public_id', named, true);
        RETURN QUERY
            SELECT credential_id, tenant_id, issuer, document, status, status_version, status_changed_at, issued_at,
                   indexed_at, refresh, message
            FROM credentials WHERE credential_id = named;
    END LOOP;
    PERFORM set_config('laurel.public_id', '', true);
END
$body$
"""


def upgrade() -> None:
    """Add the function."""
    op.get_bind().exec_driver_sql(_LOOKUP)
