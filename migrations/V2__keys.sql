-- Keys of data subjects, wrapped. The root key that unwraps them is a file outside the database.
create table keys.tenant_keys (
    tenant_id  uuid        primary key,
    -- ChaCha20-Poly1305 under the root key: nonce (12 bytes) + ciphertext + tag.
    wrapped    bytea       not null,
    created_at timestamptz not null
);

create table keys.subject_keys (
    tenant_id  uuid        not null references keys.tenant_keys,
    subject_id uuid        not null,
    -- Null once erased: a tombstone. A row that is missing altogether is a fault, not an erasure.
    wrapped    bytea,
    created_at timestamptz not null,
    erased_at  timestamptz,
    primary key (tenant_id, subject_id),
    check ((wrapped is null) = (erased_at is not null))
);

create function keys.guard_subject() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        raise exception 'DELETE of a subject key is refused: erase it, so that a tombstone stays'
            using errcode = 'restrict_violation';
    end if;
    if old.wrapped is null or new.wrapped is not null then
        raise exception 'UPDATE of a subject key is refused: it can only be erased, once'
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger guarded before update or delete on keys.subject_keys
    for each row execute function keys.guard_subject();

grant usage on schema keys to daybook_writer, daybook_projector, daybook_reader;
grant select, insert on keys.tenant_keys to daybook_writer;
grant select, insert, update (wrapped, erased_at) on keys.subject_keys to daybook_writer;
grant select on keys.tenant_keys, keys.subject_keys to daybook_projector;
