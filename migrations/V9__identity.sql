-- Secrets that let people and machines in, as hashes. They are never in events, so that they can be replaced and
-- forgotten; whether one counts is the journal's to say. See docs/decisions/0011-sessions.md.
create table identity.passwords (
    account_id    uuid        not null,
    -- The name under which the journal knows it: a row that no event names lets nobody in.
    credential_id uuid        not null,
    -- Argon2id in the PHC format, or bcrypt where it was imported and its owner has not logged in since.
    hash          text        not null,
    created_at    timestamptz not null,
    primary key (account_id, credential_id)
);

-- One row per session: its refresh token, and the one before it, as SHA-256.
create table identity.refresh_tokens (
    session_id   uuid        primary key,
    generation   bigint      not null check (generation >= 0),
    current_hash bytea       not null check (octet_length(current_hash) = 32),
    parent_hash  bytea       check (octet_length(parent_hash) = 32),
    -- When the parent was exchanged for the current one.
    rotated_at   timestamptz not null,
    -- When the session ends at the latest.
    expires_at   timestamptz not null
);
create index refresh_tokens_expiring on identity.refresh_tokens (expires_at);

create table identity.api_keys (
    key_id       uuid        primary key,
    tenant_id    uuid        not null,
    service_id   uuid        not null,
    -- SHA-256 of the secret part.
    hash         bytea       not null check (octet_length(hash) = 32),
    created_at   timestamptz not null,
    -- To the minute or so; no event, for it is of every request.
    last_used_at timestamptz
);

-- Nobody but the writer: not who reads for callers, not who keeps the read models.
grant usage on schema identity to daybook_writer;
grant select, insert, update (hash), delete on identity.passwords to daybook_writer;
grant select, insert, update (generation, current_hash, parent_hash, rotated_at), delete on identity.refresh_tokens
    to daybook_writer;
grant select, insert, update (last_used_at) on identity.api_keys to daybook_writer;

alter table projection.denied_attempts drop constraint denied_attempts_kind_check;
alter table projection.denied_attempts add constraint denied_attempts_kind_check
    check (kind in ('command', 'read', 'unknown_token', 'foreign_origin', 'failed_login'));
