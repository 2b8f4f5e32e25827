"""What every service's migrations need: policies of row-level security, and the tables of the kernel.

Migrations that have run call these: their text stays as it is, and what is new gets a function of its own.
"""

from __future__ import annotations


def row_level_security(table: str, service: str, *, public_id: str | None = None) -> str:
    """SQL that forces tenancy on a table with a `tenant_id` column.

    public_id: a column by which one row may be read without naming its tenant (a credential's page, a DID document).
    """
    app, worker = f"laurel_{service}", f"laurel_{service}_worker"
    own = "tenant_id = ANY (string_to_array(current_setting('laurel.tenants', true), ','))"
    statements = [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY tenant ON {table} TO {app} USING ({own}) WITH CHECK ({own})",
        f"CREATE POLICY every_tenant ON {table} TO {worker} USING (true) WITH CHECK (true)",
    ]
    if public_id is not None:
        named = f"{public_id}::text = nullif(current_setting('laurel.public_id', true), '')"
        statements.append(f"CREATE POLICY public_row ON {table} FOR SELECT TO {app} USING ({named})")
    return ";\n".join(statements) + ";\n"


def kernel_tables(service: str) -> str:
    """SQL of the tables that every service has: outbox, dead letters, API keys. Never edit; add a version 2."""
    return (
        """
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL,
    shard       smallint NOT NULL,
    topic       text NOT NULL,
    key         bytea NOT NULL,
    event_id    text NOT NULL,
    type        text NOT NULL,
    occurred_at timestamptz NOT NULL,
    traceparent text,
    data        bytea NOT NULL
);
ALTER TABLE outbox ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
                        autovacuum_vacuum_cost_delay = 0, toast_tuple_target = 8160);
CREATE TABLE dead_letters (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL,
    consumer    text NOT NULL,
    topic       text NOT NULL,
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    key         bytea NOT NULL,
    value       bytea NOT NULL,
    headers     bytea NOT NULL,
    event_type  text,
    code        text NOT NULL,
    detail      text NOT NULL,
    died_at     timestamptz NOT NULL DEFAULT now(),
    redriven_at timestamptz,
    UNIQUE (consumer, topic, partition, "offset")
);
CREATE TABLE api_keys (
    key_id      text PRIMARY KEY,
    tenant_id   text NOT NULL,
    secret_hash text NOT NULL,
    scopes      text[] NOT NULL,
    label       text NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz,
    revoked_at  timestamptz
);
CREATE INDEX api_keys_tenant ON api_keys (tenant_id);
"""
        + row_level_security("outbox", service)
        + row_level_security("dead_letters", service)
        + row_level_security("api_keys", service, public_id="key_id")
    )


def kernel_tables_2(service: str) -> str:
    """SQL on top of `kernel_tables`: what becomes of dead letters, and who asked for it. Never edit."""
    return """
ALTER TABLE dead_letters
    ADD COLUMN state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'queued', 'redriven', 'discarded')),
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN timestamp_ms bigint;
CREATE INDEX dead_letters_tenant ON dead_letters (tenant_id, id);
CREATE INDEX dead_letters_queued ON dead_letters (consumer, topic, partition, "offset") WHERE state = 'queued';
CREATE INDEX dead_letters_queued_keys ON dead_letters (consumer, topic, key) WHERE state = 'queued';
-- Both the queue (finished_at IS NULL) and the record of who asked for what, when, and what came of it.
CREATE TABLE dead_letter_actions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL,
    letter_id   bigint NOT NULL,
    request_id  text NOT NULL,
    action      text NOT NULL CHECK (action IN ('redrive', 'replay', 'discard')),
    asked_by    text NOT NULL,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    note        text NOT NULL DEFAULT '',
    was         text NOT NULL,
    rate        double precision,
    starts      integer NOT NULL DEFAULT 0,
    outcome     text CHECK (outcome IN ('redriven', 'died_again', 'discarded')),
    code        text,
    detail      text,
    finished_at timestamptz
);
CREATE UNIQUE INDEX dead_letter_actions_open ON dead_letter_actions (letter_id) WHERE finished_at IS NULL;
CREATE INDEX dead_letter_actions_letter ON dead_letter_actions (letter_id, id);
CREATE INDEX dead_letter_actions_request ON dead_letter_actions (request_id);
""" + row_level_security("dead_letter_actions", service)


def access_and_audit_tables(service: str) -> list[str]:
    """Statements of the kernel's second version: secrets that rotate, keys of access tokens, the audit log."""
    app, worker = f"laurel_{service}", f"laurel_{service}_worker"
    return [
        """
ALTER TABLE api_keys
    ADD COLUMN previous_secrets jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN rotated_at timestamptz,
    ADD COLUMN last_used_at timestamptz
""",
        # Scopes that were made of wider ones: what a key could do, it still can. Its owner is no exception from
        # policies while they are forced.
        "ALTER TABLE api_keys NO FORCE ROW LEVEL SECURITY",
        """
UPDATE api_keys SET scopes = (
    SELECT array_agg(DISTINCT scope ORDER BY scope) FROM (
        SELECT unnest(scopes) AS scope
        UNION ALL SELECT 'profiles:read'
        UNION ALL SELECT 'achievements:read' WHERE 'results:read' = ANY (scopes)
        UNION ALL SELECT 'keys:read' WHERE 'keys:write' = ANY (scopes)
    ) AS every)
""",
        "ALTER TABLE api_keys FORCE ROW LEVEL SECURITY",
        """
CREATE TABLE token_keys (
    kid        text PRIMARY KEY,
    tenant_id  text NOT NULL,
    public_key bytea NOT NULL,
    created_at timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL
)
""",
        *row_level_security("token_keys", service, public_id="kid").rstrip(";\n").split(";\n"),
        """
CREATE TABLE audit_log (
    tenant_id     text NOT NULL,
    seq           bigint NOT NULL,
    at            timestamptz NOT NULL,
    actor         text NOT NULL,
    token_id      text,
    action        text NOT NULL,
    subject       text NOT NULL,
    outcome       text NOT NULL,
    details       jsonb NOT NULL,
    trace_id      text,
    request_id    text,
    previous_hash bytea NOT NULL,
    hash          bytea NOT NULL,
    PRIMARY KEY (tenant_id, seq)
)
""",
        "CREATE INDEX audit_log_subject ON audit_log (tenant_id, subject, seq)",
        f"REVOKE UPDATE, DELETE, TRUNCATE ON audit_log FROM {app}, {worker}",
        """
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END
$body$
""",
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_log "
        "FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only()",
        "CREATE TRIGGER append_only_whole BEFORE TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()",
        *row_level_security("audit_log", service).rstrip(";\n").split(";\n"),
    ]


def vacuumed_as_it_grows(table: str) -> str:
    """SQL for a table of rows that are written once: vacuumed while their pages are in memory and whole in the log.

    By a fifth of its rows, as is the default, a large one is vacuumed late: each page is then read again, and written
    into the log whole. Analysed at every half more, not every tenth: what its columns hold changes little.
    """
    return (
        f"ALTER TABLE {table} SET (autovacuum_vacuum_insert_scale_factor = 0, "
        "autovacuum_vacuum_insert_threshold = 20000, autovacuum_analyze_scale_factor = 0.5)"
    )
