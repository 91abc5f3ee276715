-- How far the relay has published, per stream of the message server. A stream is known by its name and the
-- moment it was made: one that was lost and made anew, or one on another server, starts from the beginning.
create table projection.relays (
    stream     text        not null,
    created    text        not null,
    -- Journal position up to which everything public is acknowledged by the stream.
    position   bigint      not null,
    -- Sequence of the last of it within the stream.
    sequence   bigint      not null,
    updated_at timestamptz not null,
    primary key (stream, created)
) with (fillfactor = 50);

grant select, insert, update on projection.relays to daybook_projector;
