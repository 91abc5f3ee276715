-- In which life of the server something is seen. A crash takes the row away, for nothing in an unlogged table outlives one, and
-- whoever finds none makes another. An orderly stop, which takes back no commit, leaves it.
create unlogged table projection.life (
    one  boolean primary key default true check (one),
    life uuid    not null
);

grant select, insert on projection.life to daybook_projector;
grant select on projection.life to daybook_reader;
