-- What every read model needs: how far it has seen, which version answers, what changed.
create table projection.checkpoints (
    read_model text        not null,
    version    integer     not null,
    lane       integer     not null,
    -- Journal position up to which this lane has seen everything, its own tenants' or not.
    position   bigint      not null,
    updated_at timestamptz not null,
    primary key (read_model, version, lane)
) with (fillfactor = 50);

-- The version that answers queries: a pointer, so that a switch is one row.
create table projection.live (
    read_model text    primary key,
    version    integer not null
);

create table projection.versions (
    read_model text        not null,
    version    integer     not null,
    lanes      integer     not null check (lanes > 0),
    created_at timestamptz not null,
    primary key (read_model, version)
);

-- One row per changed key and event: the source of subscriptions, with a stated retention.
create table projection.changes (
    read_model      text        not null,
    version         integer     not null,
    tenant_id       uuid        not null,
    tenant_position bigint      not null,
    key             uuid        not null,
    position        bigint      not null,
    before          jsonb,
    after           jsonb,
    recorded_at     timestamptz not null,
    primary key (read_model, version, tenant_id, tenant_position, key)
);
create index changes_by_age on projection.changes (read_model, version, recorded_at);

-- Up to which tenant position a tenant's change rows were purged: an older cursor is refused.
create table projection.purged (
    read_model      text   not null,
    version         integer not null,
    tenant_id       uuid   not null,
    tenant_position bigint not null,
    primary key (read_model, version, tenant_id)
);

do $$
declare t text;
begin
    foreach t in array array['changes', 'purged'] loop
        execute format('alter table projection.%I enable row level security', t);
        execute format('alter table projection.%I force row level security', t);
        execute format('create policy own_tenant on projection.%I for select to daybook_reader
                        using (tenant_id = (select nullif(current_setting(''app.tenant'', true), '''')::uuid))', t);
        execute format('create policy projector on projection.%I to daybook_projector using (true) with check (true)', t);
    end loop;
end $$;

grant usage on schema projection to daybook_projector, daybook_reader;
grant select, insert, update, delete on projection.checkpoints, projection.live, projection.versions,
    projection.changes, projection.purged to daybook_projector;
grant select on projection.checkpoints, projection.live, projection.versions, projection.changes,
    projection.purged to daybook_reader;
-- Each version of a read model is a table of its own; the projector makes and drops them.
grant usage, create on schema read to daybook_projector;
grant usage on schema read to daybook_reader;
