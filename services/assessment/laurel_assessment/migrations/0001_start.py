"""Achievements, policies, results and imports.

Revision ID: assessment_0001
Revises:
"""

from __future__ import annotations

from alembic import op

from laurel.tables import kernel_tables, row_level_security

revision = "assessment_0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE achievements (
    achievement_id uuid PRIMARY KEY,
    tenant_id      text COLLATE "C" NOT NULL,
    version        integer NOT NULL,
    policy_version integer NOT NULL,
    profile_id     text,
    name           text NOT NULL,
    language       text,
    document       jsonb NOT NULL,
    image_digest   text,
    repeatable     boolean NOT NULL,
    created_at     timestamptz NOT NULL,
    published_at   timestamptz NOT NULL,
    retired_at     timestamptz
);
CREATE INDEX achievements_tenant ON achievements (tenant_id, achievement_id);
CREATE TABLE achievement_versions (
    achievement_id uuid NOT NULL REFERENCES achievements,
    version        integer NOT NULL,
    tenant_id      text COLLATE "C" NOT NULL,
    policy_version integer NOT NULL,
    definition     jsonb NOT NULL,
    document       jsonb NOT NULL,
    published_at   timestamptz NOT NULL,
    PRIMARY KEY (achievement_id, version)
);
CREATE TABLE achievement_images (
    achievement_id uuid NOT NULL,
    digest         text NOT NULL,
    tenant_id      text COLLATE "C" NOT NULL,
    media_type     text NOT NULL,
    content        bytea NOT NULL,
    PRIMARY KEY (achievement_id, digest)
);
CREATE TABLE policies (
    achievement_id uuid NOT NULL REFERENCES achievements,
    version        integer NOT NULL,
    tenant_id      text COLLATE "C" NOT NULL,
    minimum_score  double precision,
    required_parts jsonb NOT NULL,
    max_attempts   integer,
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (achievement_id, version)
);
-- Every row that was ever taken in, whatever became of it: promise 1 is counted here.
CREATE TABLE results (
    tenant_id           text COLLATE "C" NOT NULL,
    result_id           uuid NOT NULL,
    outcome             text NOT NULL CHECK (outcome IN ('passed', 'not_passed', 'duplicate', 'rejected')),
    reasons             jsonb NOT NULL,
    achievement_id      uuid,
    achievement_version integer,
    policy_version      integer,
    learner             text,
    learner_key         bytea,
    attempt             integer,
    award               integer,
    credential_id       uuid,
    duplicate_of        uuid,
    course_run          text,
    external_id         text,
    score               double precision,
    parts               jsonb,
    content             bytea,
    completed_at        timestamptz,
    recorded_at         timestamptz NOT NULL,
    import_id           uuid,
    line                bigint,
    errors              jsonb,
    row_text            text,
    PRIMARY KEY (tenant_id, result_id),
    CHECK (outcome IN ('duplicate', 'rejected')
           OR (achievement_id IS NOT NULL AND learner_key IS NOT NULL AND attempt IS NOT NULL AND content IS NOT NULL)),
    CHECK (outcome <> 'passed' OR (credential_id IS NOT NULL AND award IS NOT NULL)),
    CHECK (outcome <> 'rejected' OR errors IS NOT NULL)
);
-- learner_key is a keyed hash of (tenant, learner), so the tenant is part of this identity without a column of its own.
CREATE UNIQUE INDEX results_attempt ON results (learner_key, achievement_id, attempt)
    WHERE outcome IN ('passed', 'not_passed');
CREATE UNIQUE INDEX results_credential ON results (tenant_id, credential_id) WHERE outcome = 'passed';
CREATE UNIQUE INDEX results_import ON results (import_id, line) WHERE import_id IS NOT NULL;
CREATE INDEX results_other ON results (learner_key) WHERE outcome IN ('duplicate', 'rejected');
CREATE INDEX results_course_run ON results (tenant_id, course_run, outcome);
CREATE TABLE imports (
    import_id        uuid PRIMARY KEY,
    tenant_id        text COLLATE "C" NOT NULL,
    status           text NOT NULL CHECK (status IN ('receiving', 'processing', 'done', 'failed')),
    failure          text,
    form             jsonb NOT NULL,
    achievement_id   text,
    course_run       text,
    bytes            bigint NOT NULL DEFAULT 0,
    sha256           bytea,
    rows             bigint NOT NULL DEFAULT 0,
    chunks           integer NOT NULL DEFAULT 0,
    chunks_processed integer NOT NULL DEFAULT 0,
    processed        bigint NOT NULL DEFAULT 0,
    passed           bigint NOT NULL DEFAULT 0,
    not_passed       bigint NOT NULL DEFAULT 0,
    duplicate        bigint NOT NULL DEFAULT 0,
    rejected         bigint NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL,
    heard_at         timestamptz NOT NULL DEFAULT now(),
    worked_at        timestamptz,
    finished_at      timestamptz,
    traceparent      text
) WITH (fillfactor = 50);
CREATE INDEX imports_tenant ON imports (tenant_id, import_id);
CREATE INDEX imports_open ON imports (status) WHERE status IN ('receiving', 'processing');
-- An upload waits here in whole records until a worker has settled them; a row here is a chunk that is still owed.
CREATE TABLE import_chunks (
    import_id uuid NOT NULL REFERENCES imports,
    seq       integer NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    rows      integer NOT NULL,
    payload   bytea NOT NULL,
    PRIMARY KEY (import_id, seq)
);
ALTER TABLE import_chunks ALTER COLUMN payload SET STORAGE EXTERNAL;
CREATE TABLE idempotency_keys (
    tenant_id   text COLLATE "C" NOT NULL,
    operation   text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea,
    status      smallint,
    answer      bytea,
    import_id   uuid,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, operation, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_import ON idempotency_keys (import_id) WHERE import_id IS NOT NULL;
"""

PUBLIC = {"achievements": "achievement_id", "achievement_images": "achievement_id"}
PRIVATE = ("achievement_versions", "policies", "results", "imports", "import_chunks", "idempotency_keys")


def upgrade() -> None:
    policies = [row_level_security(table, "assessment", public_id=column) for table, column in PUBLIC.items()]
    policies += [row_level_security(table, "assessment") for table in PRIVATE]
    for statement in (TABLES + kernel_tables("assessment") + "".join(policies)).split(";\n"):
        if statement.strip():
            op.execute(statement)
