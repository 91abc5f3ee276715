-- States of long streams, so that they need not be folded from their first event. A cache: outside the append
-- transaction and the audit log, and losing all of it loses nothing. See docs/decisions/0004-snapshots.md.
create table journal.snapshots (
    tenant_id   uuid   not null,
    stream_type text   not null,
    stream_id   uuid   not null,
    -- The state after this event, which is named because another may stand at its sequence after a crash.
    sequence    bigint not null check (sequence > 0),
    event_id    uuid   not null,
    -- Version of the state's JSON form; any other is ignored.
    shape       int    not null,
    -- Authenticated with every sealed field, as an event's id is with an event's.
    snapshot_id uuid   not null,
    -- Whose data is in it, sealed: it goes when one of them is erased.
    subjects    uuid[] not null,
    state       text   not null,
    primary key (tenant_id, stream_type, stream_id)
);

grant select, insert, update, delete on journal.snapshots to daybook_writer;
