"""Organisations, issuer profiles, signing keys, intents, credentials, status lists."""

from __future__ import annotations

from alembic import op

from laurel.tables import kernel_tables, row_level_security

revision = "issuer_0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE organisations (
    tenant_id  text PRIMARY KEY,
    slug       text NOT NULL UNIQUE,
    name       text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE issuer_profiles (
    profile_id   text PRIMARY KEY,
    tenant_id    text NOT NULL REFERENCES organisations,
    slug         text NOT NULL UNIQUE,
    did          text NOT NULL UNIQUE,
    name         text NOT NULL,
    url          text NOT NULL,
    email        text,
    description  text,
    image        text,
    version      integer NOT NULL,
    keys_made    integer NOT NULL DEFAULT 0,
    profile      bytea NOT NULL,
    did_document bytea NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);
CREATE INDEX issuer_profiles_tenant ON issuer_profiles (tenant_id, created_at, profile_id);
-- What an intent pins: the issuer as it stood when the credential was reserved.
CREATE TABLE issuer_versions (
    profile_id text NOT NULL,
    version    integer NOT NULL,
    tenant_id  text NOT NULL,
    issuer     bytea NOT NULL,
    PRIMARY KEY (profile_id, version)
);
CREATE TABLE signing_keys (
    key_id               text PRIMARY KEY,
    tenant_id            text NOT NULL,
    profile_id           text NOT NULL REFERENCES issuer_profiles,
    verification_method  text NOT NULL UNIQUE,
    public_key_multibase text NOT NULL UNIQUE,
    sealed_seed          text NOT NULL,
    state                text NOT NULL CHECK (state IN ('active', 'retired', 'compromised')),
    created_at           timestamptz NOT NULL,
    ended_at             timestamptz
);
CREATE UNIQUE INDEX one_active_key ON signing_keys (profile_id) WHERE state = 'active';
CREATE INDEX signing_keys_profile ON signing_keys (profile_id, key_id);
CREATE TABLE achievements (
    achievement_id  text NOT NULL,
    version         integer NOT NULL,
    tenant_id       text NOT NULL,
    profile_id      text,
    definition      bytea NOT NULL,
    validity_days   integer,
    status_purposes text[] NOT NULL,
    published_at    timestamptz NOT NULL,
    retired_at      timestamptz,
    PRIMARY KEY (achievement_id, version)
);
CREATE TABLE status_lists (
    list_id      uuid PRIMARY KEY,
    tenant_id    text NOT NULL,
    profile_id   text NOT NULL,
    purpose      text NOT NULL CHECK (purpose IN ('revocation', 'suspension')),
    url          text NOT NULL UNIQUE,
    capacity     integer NOT NULL,
    allocated    integer NOT NULL DEFAULT 0,
    version      integer NOT NULL DEFAULT 0,
    key_id       text,
    body         bytea,
    published_at timestamptz,
    created_at   timestamptz NOT NULL,
    CHECK (allocated BETWEEN 0 AND capacity),
    CHECK ((version = 0) = (body IS NULL))
);
CREATE UNIQUE INDEX one_open_list ON status_lists (profile_id, purpose) WHERE allocated < capacity;
CREATE INDEX status_lists_profile ON status_lists (profile_id);
-- Lists that must be published anew; a publisher deletes the rows that it has taken into account.
CREATE TABLE status_list_dirt (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    list_id   uuid NOT NULL
);
CREATE INDEX status_list_dirt_list ON status_list_dirt (list_id, id);
-- Reserved and not yet finished. Finishing moves the row to credentials.
CREATE TABLE intents (
    credential_id       uuid PRIMARY KEY,
    tenant_id           text NOT NULL,
    document_url        text NOT NULL,
    profile_id          text NOT NULL,
    profile_version     integer NOT NULL,
    key_id              text NOT NULL,
    achievement_id      text NOT NULL,
    achievement_version integer NOT NULL,
    course_run          text,
    revocation_list     uuid NOT NULL,
    revocation_index    integer NOT NULL,
    suspension_list     uuid,
    suspension_index    integer,
    created_at          timestamptz NOT NULL,
    passed              bytea NOT NULL,
    CHECK ((suspension_list IS NULL) = (suspension_index IS NULL))
);
ALTER TABLE intents SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
                         autovacuum_vacuum_cost_delay = 0);
CREATE TABLE credentials (
    seq                 bigint GENERATED ALWAYS AS IDENTITY,
    credential_id       uuid PRIMARY KEY,
    tenant_id           text NOT NULL,
    result_id           text NOT NULL,
    achievement_id      text NOT NULL,
    achievement_version integer NOT NULL,
    profile_id          text NOT NULL,
    key_id              text NOT NULL,
    course_run          text,
    revocation_list     uuid NOT NULL,
    revocation_index    integer NOT NULL,
    suspension_list     uuid,
    suspension_index    integer,
    issued_at           timestamptz NOT NULL,
    valid_until         timestamptz,
    status              text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'revoked')),
    status_version      integer NOT NULL DEFAULT 0,
    status_reason       text,
    status_changed_at   timestamptz,
    body                bytea NOT NULL,
    UNIQUE (revocation_list, revocation_index)
);
ALTER TABLE credentials ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE credentials SET (toast_tuple_target = 8160);
CREATE INDEX credentials_issued ON credentials (tenant_id, seq);
CREATE INDEX credentials_achievement ON credentials (tenant_id, achievement_id, seq);
CREATE INDEX credentials_course_run ON credentials (tenant_id, course_run, seq);
CREATE INDEX credentials_changed ON credentials (tenant_id, course_run, status) WHERE status <> 'active';
CREATE UNIQUE INDEX credentials_suspension_place ON credentials (suspension_list, suspension_index)
    WHERE suspension_list IS NOT NULL;
CREATE INDEX credentials_revocation_bits ON credentials (revocation_list) WHERE status <> 'active';
CREATE INDEX credentials_suspension_bits ON credentials (suspension_list) WHERE status = 'suspended';
CREATE TABLE status_changes (
    credential_id uuid NOT NULL,
    version       integer NOT NULL,
    tenant_id     text NOT NULL,
    status        text NOT NULL CHECK (status IN ('active', 'suspended', 'revoked')),
    reason        text NOT NULL,
    key_id        text NOT NULL,
    changed_at    timestamptz NOT NULL,
    PRIMARY KEY (credential_id, version)
);
CREATE TABLE parked (
    credential_id       uuid PRIMARY KEY,
    tenant_id           text NOT NULL,
    achievement_id      text NOT NULL,
    achievement_version integer NOT NULL,
    course_run          text,
    reason              text NOT NULL,
    topic               text NOT NULL,
    partition           integer NOT NULL,
    "offset"            bigint NOT NULL,
    key                 bytea NOT NULL,
    value               bytea NOT NULL,
    headers             bytea NOT NULL,
    timestamp_ms        bigint NOT NULL,
    parked_at           timestamptz NOT NULL
);
CREATE INDEX parked_achievement ON parked (tenant_id, achievement_id, achievement_version);
"""

_OWN_ROWS = (
    "organisations", "issuer_versions", "signing_keys", "achievements", "status_list_dirt", "intents", "credentials",
    "status_changes", "parked",
)  # fmt: skip


def upgrade() -> None:
    sql = kernel_tables("issuer") + _TABLES
    sql += "".join(row_level_security(table, "issuer") for table in _OWN_ROWS)
    sql += row_level_security("issuer_profiles", "issuer", public_id="slug")
    sql += row_level_security("status_lists", "issuer", public_id="list_id")
    connection = op.get_bind()
    for statement in sql.split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def downgrade() -> None:
    raise NotImplementedError("Laurel migrates forward only; restore a backup instead")
