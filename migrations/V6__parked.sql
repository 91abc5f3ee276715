-- Streams that a read model leaves aside because one of their events cannot be applied. The events stay in the
-- journal; here is only from where on. Written in the transaction in which the lane's checkpoint moves past them.
create table projection.parked (
    read_model      text        not null,
    version         integer     not null,
    tenant_id       uuid        not null,
    stream_type     text        not null,
    stream_id       uuid        not null,
    lane            integer     not null,
    -- The first event that is not in the rows: in the journal, in its tenant, in its stream.
    position        bigint      not null,
    tenant_position bigint      not null,
    sequence        bigint      not null,
    -- The last one, and how many of them there are.
    last_position   bigint      not null check (last_position >= position),
    events          bigint      not null check (events > 0),
    reason          text        not null,
    since           timestamptz not null,
    tried_at        timestamptz not null,
    primary key (read_model, version, tenant_id, stream_type, stream_id)
) with (fillfactor = 80);
create index parked_by_lane on projection.parked (read_model, version, lane, position);

alter table projection.parked enable row level security;
alter table projection.parked force row level security;
create policy own_tenant on projection.parked for select to daybook_reader
    using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
create policy projector on projection.parked to daybook_projector using (true) with check (true);

-- Events that an operator has decided to leave out of a read model, of whatever version. Why and by whom is in the
-- journal.
create table projection.skips (
    read_model text        not null,
    position   bigint      not null,
    skipped_at timestamptz not null,
    primary key (read_model, position)
);

-- What operators ask of the node that keeps the read models up to date.
create table projection.requests (
    id           uuid        primary key,
    kind         text        not null check (kind in ('retry', 'skip')),
    read_model   text        not null,
    -- Of a retry; none means every parked stream.
    stream_type  text,
    stream_id    uuid,
    -- Of a skip: the event, why, and who asks.
    position     bigint,
    reason       text,
    operator     text        not null,
    requested_at timestamptz not null,
    -- What came of it; none while nobody has taken it up.
    done_at      timestamptz,
    refused      text,
    check ((stream_type is null) = (stream_id is null)),
    check ((kind = 'skip') = (position is not null and reason is not null))
);
create index requests_open on projection.requests (requested_at, id) where done_at is null;

-- Why a lane has stopped, for those who ask from outside the node that keeps it. Cleared when it moves.
alter table projection.checkpoints
    add column stopped_position bigint,
    add column stopped_reason   text,
    add column stopped_at       timestamptz;

grant select, insert, update, delete on projection.parked, projection.skips, projection.requests to daybook_projector;
grant select on projection.parked to daybook_reader;
