"""Webhook endpoints, messages and their deliveries, and the e-mails to learners."""

from __future__ import annotations

from alembic import op

from laurel.tables import kernel_tables, row_level_security

revision = "notifier_0001"
down_revision = None

# There are no foreign keys: their checks run as the tables' owner, whom forced row-level security shows nothing.
_TABLES = """
-- Where a tenant wants to hear of events. Secrets are sealed (laurel.security.seal, purpose webhook-secret).
CREATE TABLE endpoints (
    endpoint_id           uuid PRIMARY KEY,
    tenant_id             text NOT NULL,
    url                   text NOT NULL,
    description           text NOT NULL,
    event_types           text[] NOT NULL,
    enabled               boolean NOT NULL DEFAULT true,
    disabled_reason       text,
    secret                text NOT NULL,
    previous_secret       text,
    previous_secret_until timestamptz,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    deleted_at            timestamptz
);
CREATE INDEX endpoints_tenant ON endpoints (tenant_id, endpoint_id);

-- One row an event that somebody subscribes to: the bytes that every endpoint gets, once.
CREATE TABLE messages (
    message_no    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id    text COLLATE "C" NOT NULL UNIQUE,
    tenant_id     text NOT NULL,
    event_type    text NOT NULL,
    credential_id text COLLATE "C",
    course_run    text,
    traceparent   text,
    body          bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
) WITH (toast_tuple_target = 8160);
ALTER TABLE messages ALTER COLUMN body SET STORAGE EXTERNAL;

-- One row an event and endpoint. A pending row is due at next_attempt_at unless a worker holds it until lease_until;
-- the lease is in no index, so that taking one rewrites no index entry.
CREATE TABLE deliveries (
    delivery_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    tenant_id        text NOT NULL,
    endpoint_id      uuid NOT NULL,
    message_no       bigint NOT NULL,
    state            text NOT NULL DEFAULT 'pending'
                     CHECK (state IN ('pending', 'delivered', 'failed', 'held', 'cancelled')),
    next_attempt_at  timestamptz NOT NULL DEFAULT now(),
    lease            uuid,
    lease_until      timestamptz,
    attempt_count    integer NOT NULL DEFAULT 0,
    retrying_since   timestamptz,
    last_status      integer,
    last_error       text,
    attempts         jsonb NOT NULL DEFAULT '[]',
    created_at       timestamptz NOT NULL DEFAULT now(),
    settled_at       timestamptz,
    UNIQUE (message_no, endpoint_id)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_attempt_at, delivery_id) WHERE state = 'pending';
CREATE INDEX deliveries_tenant ON deliveries (tenant_id, delivery_id);

-- One row a credential whose learner can be written to. The contact is sealed and forgotten once the mail is out.
CREATE TABLE emails (
    credential_id    text COLLATE "C" PRIMARY KEY,
    tenant_id        text NOT NULL,
    course_run       text,
    contact          text,
    achievement_id   text NOT NULL,
    achievement_name text NOT NULL,
    issuer_name      text NOT NULL,
    locale           text,
    valid_until      timestamptz,
    issued_at        timestamptz NOT NULL,
    traceparent      text,
    state            text NOT NULL
                     CHECK (state IN ('pending', 'held', 'sending', 'sent', 'failed', 'uncertain', 'cancelled')),
    next_attempt_at  timestamptz NOT NULL DEFAULT now(),
    sending_by       uuid,
    sending_until    timestamptz,
    attempt_count    integer NOT NULL DEFAULT 0,
    last_error       text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    sent_at          timestamptz
);
CREATE INDEX emails_due ON emails (next_attempt_at) WHERE state = 'pending';
CREATE INDEX emails_unfinished ON emails (state) WHERE state IN ('held', 'sending', 'uncertain');
CREATE INDEX emails_tenant ON emails (tenant_id, credential_id);
"""


def upgrade() -> None:
    """Create everything."""
    script = kernel_tables("notifier") + _TABLES
    for table in ("endpoints", "messages", "deliveries", "emails"):
        script += row_level_security(table, "notifier")
    for statement in script.split(";\n"):
        if statement.strip():
            op.get_bind().exec_driver_sql(statement)
