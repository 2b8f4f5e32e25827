"""Offers to refresh keep their version, and the version that is told is of the newest change, as the issuer's is."""

from __future__ import annotations

from alembic import op

revision = "verifier_0008"
down_revision = "verifier_0007"
branch_labels = None
depends_on = None

# As in 0004, but for `status_version`. Each kind of change keeps a version of its own, because each is applied by
# itself; the newest of them is how far the index has come. Offers from before this keep 0.
_LOOKUP = """
CREATE OR REPLACE FUNCTION public_credentials(wanted text[])
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
            SELECT credential_id, tenant_id, issuer, document, status,
                   greatest(status_version, refresh_version, message_version), status_changed_at, issued_at, indexed_at,
                   refresh, message
            FROM credentials WHERE credential_id = named;
    END LOOP;
    PERFORM set_config('laurel.public_id', '', true);
END
$body$
"""


def upgrade() -> None:
    connection = op.get_bind()
    connection.exec_driver_sql("ALTER TABLE credentials ADD refresh_version bigint NOT NULL DEFAULT 0")
    connection.exec_driver_sql(_LOOKUP)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
