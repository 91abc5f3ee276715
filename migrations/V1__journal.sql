-- The journal: what did happen. Append-only, positions 1..N without gaps, in commit order.
-- Everything here runs as daybook_owner; the roles and the empty schemas are made by the bootstrap
-- (store/src/schema.rs), because only a role administrator may make them.

-- ── identity ────────────────────────────────────────────────────────────────────────────────────
create table journal.identity (
    one            boolean primary key default true check (one),
    journal_id     uuid        not null,
    -- Renewed by a restore: a position that names another incarnation is refused, never guessed.
    incarnation_id uuid        not null,
    partition_size bigint      not null check (partition_size > 0),
    created_at     timestamptz not null default clock_timestamp()
);

-- ── events ──────────────────────────────────────────────────────────────────────────────────────
create table journal.events (
    position        bigint      not null check (position > 0),
    tenant_id       uuid        not null,
    tenant_position bigint      not null check (tenant_position > 0),
    stream_type     text        not null,
    stream_id       uuid        not null,
    sequence        bigint      not null check (sequence > 0),
    event_id        uuid        not null,
    event_type      text        not null,
    event_version   integer     not null,
    recorded_at     timestamptz not null,
    -- text, not jsonb: the leaf hashes these exact bytes, and jsonb does not keep them.
    payload         text        not null,
    metadata        text        not null,
    leaf_hash       bytea       not null check (octet_length(leaf_hash) = 32),
    primary key (position)
) partition by range (position);

-- A tenant's own log, in order: replay, export, proofs, subscriptions from a position.
create index events_tenant on journal.events (tenant_id, tenant_position);

-- Uniqueness that is not by position cannot live in a table partitioned by position.
create table journal.stream_events (
    tenant_id   uuid   not null,
    stream_type text   not null,
    stream_id   uuid   not null,
    sequence    bigint not null,
    position    bigint not null,
    primary key (tenant_id, stream_type, stream_id, sequence)
);

-- One row per append transaction, also when it carries no events: the fence. A writer that was
-- replaced while it slept collides with its successor's number and steps down.
create table journal.batches (
    batch          bigint      primary key check (batch > 0),
    epoch          bigint      not null,
    first_position bigint      not null,
    last_position  bigint      not null check (last_position >= first_position - 1),
    recorded_at    timestamptz not null
);

-- The audit tree of each tenant after each batch that touched it (RFC 6962): the hashes of the
-- perfect subtrees on the right edge, left to right, 32 bytes each. Inserted, never updated.
create table journal.tenant_heads (
    tenant_id     uuid   not null,
    size          bigint not null check (size > 0),
    last_position bigint not null,
    batch         bigint not null,
    edge          bytea  not null check (octet_length(edge) % 32 = 0 and octet_length(edge) > 0),
    primary key (tenant_id, size)
);

-- ── commands, unique keys ───────────────────────────────────────────────────────────────────────
-- What a repeated command is answered with. Outcome, positions and ids; never a payload.
create table journal.commands (
    tenant_id             uuid        not null,
    command_id            uuid        not null,
    -- HMAC-SHA256 over the digest of the request and its actor. The key is destroyed by erasure;
    -- from then on a repeat is answered from the id alone.
    request_hash          bytea       not null,
    hash_key              bytea,
    event_tenant_id       uuid        not null,
    first_tenant_position bigint      not null,
    last_tenant_position  bigint      not null,
    last_position         bigint      not null,
    stream_ids            uuid[]      not null,
    recorded_at           timestamptz not null,
    -- Only for commands that produced no event; those with events are kept for ever.
    expires_at            timestamptz,
    primary key (tenant_id, command_id),
    check (expires_at is null or last_tenant_position < first_tenant_position)
);
create index commands_expiring on journal.commands (expires_at) where expires_at is not null;

-- Unique keys in use. Keys are HMACs: the journal does not tell whose domain is whose.
create table journal.claims (
    scope_id    uuid   not null,
    kind        text   not null,
    key_hash    bytea  not null,
    tenant_id   uuid   not null,
    stream_type text   not null,
    stream_id   uuid   not null,
    position    bigint not null,
    primary key (scope_id, kind, key_hash)
);

-- ── lease ───────────────────────────────────────────────────────────────────────────────────────
-- Who tries to write. The fence, not this row, keeps two writers apart.
create table journal.lease (
    one           boolean     primary key default true check (one),
    epoch         bigint      not null,
    holder_id     uuid,
    backend_pid   integer,
    backend_start timestamptz,
    address       text,
    expires_at    timestamptz not null
);
insert into journal.lease (epoch, expires_at) values (0, '-infinity');

-- ── guards ──────────────────────────────────────────────────────────────────────────────────────
create function journal.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: the journal is append-only', tg_op, tg_table_name
        using errcode = 'restrict_violation',
              hint = 'Write a correcting event instead.';
end $$;

create trigger append_only before update or delete or truncate on journal.events
    for each statement execute function journal.refuse_change();
create trigger append_only before update or delete or truncate on journal.stream_events
    for each statement execute function journal.refuse_change();
create trigger append_only before update or delete or truncate on journal.batches
    for each statement execute function journal.refuse_change();
create trigger append_only before update or delete or truncate on journal.tenant_heads
    for each statement execute function journal.refuse_change();
create trigger append_only before delete or truncate on journal.identity
    for each statement execute function journal.refuse_change();

-- A command record may lose its hash key (erasure) and, if it produced nothing, expire. No more.
create function journal.guard_command() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        if old.expires_at is null or old.expires_at > clock_timestamp() then
            raise exception 'DELETE of command % is refused: only a record past its expiry goes', old.command_id
                using errcode = 'restrict_violation';
        end if;
        return old;
    end if;
    if new.hash_key is not null or (to_jsonb(new) - 'hash_key') <> (to_jsonb(old) - 'hash_key') then
        raise exception 'UPDATE of command % is refused: only its hash key can be destroyed', old.command_id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger guarded before update or delete on journal.commands
    for each row execute function journal.guard_command();
create trigger append_only before truncate on journal.commands
    for each statement execute function journal.refuse_change();

-- Partitions are made ahead of the writer. The guards must stand on each of them: a statement that
-- names a partition does not fire the triggers of its parent.
create function journal.ensure_partitions(up_to bigint) returns integer
language plpgsql security definer set search_path = pg_catalog as $$
declare
    size   bigint;
    n      bigint;
    made   integer := 0;
    name   text;
begin
    perform pg_advisory_xact_lock(hashtext('journal.ensure_partitions'));
    select partition_size into strict size from journal.identity;
    for n in 0 .. (up_to / size) loop
        name := format('events_p%s', lpad(n::text, 6, '0'));
        continue when to_regclass(format('journal.%I', name)) is not null;
        -- Made apart and attached: that needs no lock that a reader of the journal would wait for.
        execute format('create table journal.%I (like journal.events including defaults including constraints)', name);
        execute format('alter table journal.events attach partition journal.%I for values from (%s) to (%s)',
                       name, n * size, (n + 1) * size);
        execute format('create trigger append_only before update or delete or truncate on journal.%I
                        for each statement execute function journal.refuse_change()', name);
        execute format('alter table journal.%I enable row level security', name);
        execute format('alter table journal.%I force row level security', name);
        made := made + 1;
    end loop;
    return made;
end $$;
revoke all on function journal.ensure_partitions(bigint) from public;

-- ── the shape of postgres-es ────────────────────────────────────────────────────────────────────
-- An unmodified postgres-es loads aggregates from here (security_invoker: row policies stay in force).
create view journal.postgres_es_events with (security_invoker = true) as
select stream_type          as aggregate_type,
       stream_id::text      as aggregate_id,
       sequence,
       event_type,
       event_version::text  as event_version,
       ('{' || to_json(split_part(event_type, '.', 3)) || ':' || payload || '}')::json as payload,
       '{}'::json           as metadata,
       recorded_at          as "timestamp"
from journal.events;

-- ── who may do what ─────────────────────────────────────────────────────────────────────────────
-- The backstop, not the boundary: a read transaction sets app.tenant; without it there are no rows.

do $$
declare t text;
begin
    foreach t in array array['events', 'stream_events', 'tenant_heads', 'commands'] loop
        execute format('alter table journal.%I enable row level security', t);
        execute format('alter table journal.%I force row level security', t);
        execute format('create policy own_tenant on journal.%I for select to daybook_reader
                        using (tenant_id = (select nullif(current_setting(''app.tenant'', true), '''')::uuid))', t);
        execute format('create policy writer on journal.%I to daybook_writer using (true) with check (true)', t);
        execute format('create policy projector on journal.%I for select to daybook_projector using (true)', t);
    end loop;
end $$;

grant usage on schema journal to daybook_writer, daybook_projector, daybook_reader;
grant select, insert on journal.events, journal.stream_events, journal.batches, journal.tenant_heads to daybook_writer;
grant select, insert, delete, update (hash_key) on journal.commands to daybook_writer;
grant select, insert, delete on journal.claims to daybook_writer;
grant select, update on journal.lease to daybook_writer;
grant select on journal.identity to daybook_writer, daybook_projector, daybook_reader;
grant execute on function journal.ensure_partitions(bigint) to daybook_writer;
grant select on journal.events, journal.stream_events, journal.batches, journal.tenant_heads to daybook_projector;
grant select on journal.events, journal.stream_events, journal.tenant_heads, journal.postgres_es_events to daybook_reader;
grant select on journal.batches to daybook_reader;
