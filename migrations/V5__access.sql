-- The access log: what was refused. The journal cannot be shortened, so what anybody may cause without limit is
-- kept here, counted per minute, and goes again after its retention.
create table projection.denied_attempts (
    id        bigint      generated always as identity primary key,
    -- Whose administrators see it: the caller's own tenant; the platform's where nobody knows the caller.
    tenant_id uuid        not null,
    -- When, to the minute; with the columns below it names what is counted.
    minute    timestamptz not null,
    kind      text        not null check (kind in ('command', 'read', 'unknown_token', 'foreign_origin')),
    actor     uuid,
    -- The permission that was missing, or the door that stayed shut.
    action    text        not null,
    -- What it was aimed at, where that is known: never a token, never content.
    target    text,
    first_at  timestamptz not null,
    last_at   timestamptz not null,
    count     bigint      not null check (count > 0)
);
create unique index denied_attempts_counted on projection.denied_attempts
    (tenant_id, minute, kind, actor, action, target) nulls not distinct;
create index denied_attempts_newest on projection.denied_attempts (tenant_id, minute, id);
create index denied_attempts_by_actor on projection.denied_attempts (tenant_id, actor, minute, id);
create index denied_attempts_by_kind on projection.denied_attempts (tenant_id, kind, minute, id);
-- For the purge alone: a page of one tenant must never be read by it.
create index denied_attempts_by_age on projection.denied_attempts using brin (minute)
    with (pages_per_range = 32, autosummarize = on);

alter table projection.denied_attempts enable row level security;
alter table projection.denied_attempts force row level security;
create policy own_tenant on projection.denied_attempts for select to daybook_reader
    using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
create policy writer on projection.denied_attempts to daybook_writer using (true) with check (true);
grant usage on schema projection to daybook_writer;
grant select, insert, update, delete on projection.denied_attempts to daybook_writer;
grant select on projection.denied_attempts to daybook_reader;
