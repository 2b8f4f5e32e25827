"""Formats of credentials, kinds of keys and identities of issuers; every column has a default that means "as before".

A process of before this migration goes on with Ed25519 and eddsa-rdfc-2022 until it is replaced.
"""

from __future__ import annotations

from alembic import op

revision = "issuer_0004"
down_revision = "issuer_0003"
branch_labels = None
depends_on = None

_CHANGES = """
ALTER TABLE issuer_profiles
    ADD COLUMN identity        text NOT NULL DEFAULT 'did:web' CHECK (identity IN ('did:web', 'did:key', 'https')),
    ADD COLUMN securing        text[] NOT NULL DEFAULT '{eddsa-rdfc-2022}',
    ADD COLUMN credential_type text NOT NULL DEFAULT 'OpenBadgeCredential';
ALTER TABLE issuer_versions ADD COLUMN credential_type text NOT NULL DEFAULT 'OpenBadgeCredential';
ALTER TABLE achievements
    ADD COLUMN securing        text[],
    ADD COLUMN credential_type text;
-- sealed_seed holds the secret of any kind: a seed, a scalar, or an RSAPrivateKey.
ALTER TABLE signing_keys ADD COLUMN key_type text NOT NULL DEFAULT 'Ed25519';
CREATE UNIQUE INDEX one_active_key_of_a_kind ON signing_keys (profile_id, key_type) WHERE state = 'active';
DROP INDEX one_active_key;
-- key_ids: one key for each way of `securing`; key_id is the first of them. Empty: that one alone.
ALTER TABLE intents
    ADD COLUMN securing text[] NOT NULL DEFAULT '{eddsa-rdfc-2022}',
    ADD COLUMN key_ids  text[] NOT NULL DEFAULT '{}';
"""


def upgrade() -> None:
    for statement in _CHANGES.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
