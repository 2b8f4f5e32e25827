"""Status entries for refresh and messages, wider entries, and lists that end.

The new indexes are partial and begin empty; making them reads the credentials once.
"""

from __future__ import annotations

from alembic import op

revision = "issuer_0003"
down_revision = "issuer_0002"
branch_labels = None
depends_on = None

_CHANGES = """
ALTER TABLE achievements
    ADD status_messages  text[] NOT NULL DEFAULT '{}',
    ADD status_reference text;
ALTER TABLE status_lists
    ADD size        smallint NOT NULL DEFAULT 1 CHECK (size BETWEEN 1 AND 8),
    ADD ttl_s       integer,
    ADD valid_until timestamptz,
    DROP CONSTRAINT status_lists_purpose_check,
    ADD CONSTRAINT status_lists_purpose_check CHECK (purpose IN ('revocation', 'suspension', 'refresh', 'message'));
DROP INDEX one_open_list;
CREATE UNIQUE INDEX one_open_list ON status_lists (profile_id, purpose, size) WHERE allocated < capacity;
ALTER TABLE intents
    ADD refresh_list  uuid,
    ADD refresh_index integer,
    ADD message_list  uuid,
    ADD message_index integer,
    ADD CHECK ((refresh_list IS NULL) = (refresh_index IS NULL) AND (message_list IS NULL) = (message_index IS NULL));
ALTER TABLE credentials
    ADD refresh_list  uuid,
    ADD refresh_index integer,
    ADD message_list  uuid,
    ADD message_index integer,
    ADD refresh       boolean NOT NULL DEFAULT false,
    ADD message       smallint NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX credentials_refresh_place ON credentials (refresh_list, refresh_index)
    WHERE refresh_list IS NOT NULL;
CREATE UNIQUE INDEX credentials_message_place ON credentials (message_list, message_index)
    WHERE message_list IS NOT NULL;
CREATE INDEX credentials_refresh_bits ON credentials (refresh_list) WHERE refresh;
CREATE INDEX credentials_message_bits ON credentials (message_list) WHERE message <> 0;
-- What changed: the status, or one of what takes nothing from a credential's validity.
ALTER TABLE status_changes
    ADD change  text NOT NULL DEFAULT 'status' CHECK (change IN ('status', 'refresh', 'message')),
    ADD message smallint;
"""


def upgrade() -> None:
    connection = op.get_bind()
    for statement in _CHANGES.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
