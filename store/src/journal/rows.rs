//! One batch as one statement: one transaction, one round trip.

use super::machine::{Batch, EventRow, HeadRow, Prepared};
use super::recorded::signed;
use crate::system::utc;
use futures_util::future::try_join;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

/// Inserts a batch with everything that belongs to it. A data-modifying WITH runs each part once
/// and to its end, in one snapshot; any refusal rolls all of it back. The batch is the main statement
/// because that runs first: a stale writer must meet the fence, not some row that its successor wrote.
/// The arrays are taken apart in the select list, in step with each other: in the FROM clause each of
/// them would be stored once more before the first row comes out.
const ROWS: &str = "
with e as (
    insert into journal.events (position, tenant_id, tenant_position, stream_type, stream_id, sequence, event_id,
                                event_type, event_version, recorded_at, payload, metadata, leaf_hash)
    select generate_series($3::bigint, $4::bigint), unnest($6::uuid[]), unnest($7::bigint[]), unnest($8::text[]),
           unnest($9::uuid[]), unnest($10::bigint[]), unnest($11::uuid[]), unnest($12::text[]), unnest($13::int[]),
           $5::timestamptz, unnest($14::text[]), unnest($15::text[]), unnest($16::bytea[])
), s as (
    insert into journal.stream_events (tenant_id, stream_type, stream_id, sequence, position)
    select unnest($6::uuid[]), unnest($8::text[]), unnest($9::uuid[]), unnest($10::bigint[]),
           generate_series($3::bigint, $4::bigint)
), h as (
    insert into journal.tenant_heads (tenant_id, size, last_position, batch, edge)
    select unnest($17::uuid[]), unnest($18::bigint[]), unnest($19::bigint[]), $1, unnest($20::bytea[])
), c as (
    insert into journal.commands (tenant_id, command_id, request_hash, hash_key, event_tenant_id, first_tenant_position,
                                  last_tenant_position, last_position, stream_ids, recorded_at, expires_at)
    select t, i, r, k, et, f, l, lp, s::uuid[], $5, x
    from (select unnest($21::uuid[]), unnest($22::uuid[]), unnest($23::bytea[]), unnest($24::bytea[]),
                 unnest($25::uuid[]), unnest($26::bigint[]), unnest($27::bigint[]), unnest($28::bigint[]),
                 unnest($29::text[]), unnest($30::timestamptz[])) u(t, i, r, k, et, f, l, lp, s, x)
)";

/// The unique keys of a batch. Most batches have none, and a part that does nothing still costs.
const KEYS: &str = ", d as (
    delete from journal.claims c using unnest($31::uuid[], $32::text[], $33::bytea[]) u(s, k, h)
    where c.scope_id = s and c.kind = k and c.key_hash = h
), k as (
    insert into journal.claims (scope_id, kind, key_hash, tenant_id, stream_type, stream_id, position)
    select s, k, h, t, st, si, p
    from unnest($34::uuid[], $35::text[], $36::bytea[], $37::uuid[], $38::text[], $39::uuid[], $40::bigint[])
         u(s, k, h, t, st, si, p)
)";

/// The fence.
const BATCH: &str = "
insert into journal.batches (batch, epoch, first_position, last_position, recorded_at)
select $1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::timestamptz";

/// Of a batch that was sent before its predecessor was seen to be committed: unless that was, and in the same epoch, this
/// divides by zero, which nothing else here can.
const AFTER: &str = "
where 1 / (select count(*) from journal.batches where batch = $1 - 1 and epoch = $2) = 1";

/// The same for the batch of one append of one event, which is most of them where few write at a time:
/// taking arrays apart costs as much again as the rows.
const ONE: &str = "
with e as (
    insert into journal.events (position, tenant_id, tenant_position, stream_type, stream_id, sequence, event_id,
                                event_type, event_version, recorded_at, payload, metadata, leaf_hash)
    values ($3, $5, $6, $7, $8, $9, $10, $11, $12, $4, $13, $14, $15)
), s as (
    insert into journal.stream_events (tenant_id, stream_type, stream_id, sequence, position) values ($5, $7, $8, $9, $3)
), h as (
    insert into journal.tenant_heads (tenant_id, size, last_position, batch, edge) values ($5, $6, $3, $1, $16)
), c as (
    insert into journal.commands (tenant_id, command_id, request_hash, hash_key, event_tenant_id, first_tenant_position,
                                  last_tenant_position, last_position, stream_ids, recorded_at)
    values ($17, $18, $19, $20, $5, $6, $6, $3, array[$8::uuid], $4)
)
insert into journal.batches (batch, epoch, first_position, last_position, recorded_at)
select $1::bigint, $2::bigint, $3::bigint, $3::bigint, $4::timestamptz";

/// One statement for batches that follow another which is still under way, and one for the others: a condition that does
/// not apply costs as well.
struct Either {
    plain: Statement,
    after: Statement,
}

impl Either {
    async fn prepare(client: &Client, statement: &str) -> Result<Self, Error> {
        Ok(Either {
            plain: client.prepare(statement).await?,
            after: client.prepare(&format!("{statement} {AFTER}")).await?,
        })
    }

    fn of(&self, batch: &Batch) -> &Statement {
        if batch.follows { &self.after } else { &self.plain }
    }
}

/// The statements of one session, whose commits do not wait for the disk when it begins.
pub struct Statements {
    one: Either,
    without_keys: Either,
    with_keys: Either,
    /// Whether commits wait for the disk as the session is set by now.
    waits: AtomicBool,
}

impl Statements {
    /// # Errors
    /// When the schema is not there, or not this version's.
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Statements {
            one: Either::prepare(client, ONE).await?,
            without_keys: Either::prepare(client, &format!("{ROWS} {BATCH}")).await?,
            with_keys: Either::prepare(client, &format!("{ROWS} {KEYS} {BATCH}")).await?,
            waits: AtomicBool::new(false),
        })
    }
}

#[derive(Default)]
struct Events<'a> {
    tenant: Vec<Uuid>,
    tenant_position: Vec<i64>,
    stream_type: Vec<&'a str>,
    stream_id: Vec<Uuid>,
    sequence: Vec<i64>,
    id: Vec<Uuid>,
    kind: Vec<&'a str>,
    version: Vec<i32>,
    payload: Vec<&'a str>,
    metadata: Vec<&'a str>,
    leaf: Vec<&'a [u8]>,
}

/// Inserts a batch in one transaction. With `flush` it is on the disk when this returns; otherwise
/// its commit only keeps its place in the order.
///
/// # Errors
/// Whatever PostgreSQL says; nothing is written then, unless the connection failed.
pub async fn insert(client: &Client, statements: &Statements, batch: &Batch, flush: bool) -> Result<(), Error> {
    if statements.waits.swap(flush, Ordering::Relaxed) == flush {
        return insert_rows(client, statements, batch).await;
    }
    // Once for many batches, since whoever is alone is so for a while. Both leave together, in this order.
    let set = if flush { "set synchronous_commit = on" } else { "set synchronous_commit = off" };
    try_join(client.batch_execute(set), insert_rows(client, statements, batch)).await.map(|_| ())
}

async fn insert_rows(client: &Client, statements: &Statements, batch: &Batch) -> Result<(), Error> {
    if let ([row], [head], [member]) = (&*batch.events, &*batch.heads, &*batch.members)
        && let [_] = &*member.append.streams
        && member.append.claims.is_empty()
        && member.append.releases.is_empty()
    {
        return insert_one(client, statements.one.of(batch), batch, (row, head, member)).await;
    }
    let mut e = Events::default();
    for row in &batch.events {
        let (append, stream, event) = batch.source(row);
        e.tenant.push(append.tenant.0);
        e.tenant_position.push(signed(row.tenant_position));
        e.stream_type.push(stream.kind);
        e.stream_id.push(stream.id);
        e.sequence.push(signed(row.sequence));
        e.id.push(event.event_id);
        e.kind.push(&event.event_type);
        e.version.push(i32::try_from(event.event_version).unwrap_or(i32::MAX));
        e.payload.push(&event.payload);
        e.metadata.push(&event.metadata);
        e.leaf.push(&row.leaf_hash);
    }
    let edges: Vec<Vec<u8>> = batch.heads.iter().map(|h| h.edge.to_bytes()).collect();
    let head_tenant: Vec<Uuid> = batch.heads.iter().map(|h| h.tenant.0).collect();
    let head_size: Vec<i64> = batch.heads.iter().map(|h| signed(h.edge.size())).collect();
    let head_last: Vec<i64> = batch.heads.iter().map(|h| signed(h.last_position)).collect();

    let commands: Vec<_> = batch.commands().collect();
    let expires = utc(batch.nothing_expires_us);
    let c_tenant: Vec<Uuid> = commands.iter().map(|(c, ..)| c.tenant.0).collect();
    let c_id: Vec<Uuid> = commands.iter().map(|(c, ..)| c.id).collect();
    let c_hash: Vec<&[u8]> = commands.iter().map(|(_, h, _)| h.as_slice()).collect();
    let c_key: Vec<&[u8]> = commands.iter().map(|(c, ..)| c.hash_key.as_slice()).collect();
    let c_event_tenant: Vec<Uuid> = commands.iter().map(|(.., o)| o.tenant.0).collect();
    let c_first: Vec<i64> = commands.iter().map(|(.., o)| signed(o.first_tenant_position)).collect();
    let c_last: Vec<i64> = commands.iter().map(|(.., o)| signed(o.last_tenant_position)).collect();
    let c_position: Vec<i64> = commands.iter().map(|(.., o)| signed(o.last_position)).collect();
    // An array of arrays must be rectangular in PostgreSQL; their literals need not be.
    let c_streams: Vec<String> = commands
        .iter()
        .map(|(.., o)| format!("{{{}}}", o.stream_ids.iter().map(Uuid::to_string).collect::<Vec<_>>().join(",")))
        .collect();
    let c_expires: Vec<_> =
        commands.iter().map(|(.., o)| (o.last_tenant_position < o.first_tenant_position).then_some(expires)).collect();

    let releases: Vec<_> = batch.releases().collect();
    let r_scope: Vec<Uuid> = releases.iter().map(|r| r.scope.0).collect();
    let r_kind: Vec<&str> = releases.iter().map(|r| r.kind).collect();
    let r_hash: Vec<&[u8]> = releases.iter().map(|r| r.hash.as_slice()).collect();
    let claims: Vec<_> = batch.claims().collect();
    let k_scope: Vec<Uuid> = claims.iter().map(|(k, ..)| k.scope.0).collect();
    let k_kind: Vec<&str> = claims.iter().map(|(k, ..)| k.kind).collect();
    let k_hash: Vec<&[u8]> = claims.iter().map(|(k, ..)| k.hash.as_slice()).collect();
    let k_tenant: Vec<Uuid> = claims.iter().map(|(.., o)| o.tenant.0).collect();
    let k_stream_type: Vec<&str> = claims.iter().map(|(_, s, _)| s.kind).collect();
    let k_stream_id: Vec<Uuid> = claims.iter().map(|(_, s, _)| s.id).collect();
    let k_position: Vec<i64> = claims.iter().map(|(.., o)| signed(o.last_position)).collect();

    let (number, epoch) = (signed(batch.number), signed(batch.epoch));
    let (first, last, recorded) =
        (signed(batch.first_position), signed(batch.last_position), utc(batch.recorded_at_us));
    #[rustfmt::skip]
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![
        &number, &epoch, &first, &last, &recorded,
        &e.tenant, &e.tenant_position, &e.stream_type, &e.stream_id, &e.sequence, &e.id, &e.kind, &e.version,
        &e.payload, &e.metadata, &e.leaf,
        &head_tenant, &head_size, &head_last, &edges,
        &c_tenant, &c_id, &c_hash, &c_key, &c_event_tenant, &c_first, &c_last, &c_position, &c_streams, &c_expires,
    ];
    if claims.is_empty() && releases.is_empty() {
        return client.execute(statements.without_keys.of(batch), &values).await.map(|_| ());
    }
    #[rustfmt::skip]
    values.extend([
        &r_scope as &(dyn ToSql + Sync), &r_kind, &r_hash,
        &k_scope, &k_kind, &k_hash, &k_tenant, &k_stream_type, &k_stream_id, &k_position,
    ]);
    client.execute(statements.with_keys.of(batch), &values).await.map(|_| ())
}

async fn insert_one(
    client: &Client,
    statement: &Statement,
    batch: &Batch,
    (row, head, member): (&EventRow, &HeadRow, &Prepared),
) -> Result<(), Error> {
    let (append, stream, event) = batch.source(row);
    let (command, edge) = (&append.command, head.edge.to_bytes());
    #[rustfmt::skip]
    let values: &[&(dyn ToSql + Sync)] = &[
        &signed(batch.number), &signed(batch.epoch), &signed(row.position), &utc(batch.recorded_at_us),
        &append.tenant.0, &signed(row.tenant_position), &stream.kind, &stream.id, &signed(row.sequence),
        &event.event_id, &event.event_type, &i32::try_from(event.event_version).unwrap_or(i32::MAX),
        &event.payload, &event.metadata, &row.leaf_hash.as_slice(), &edge,
        &command.tenant.0, &command.id, &member.request_hash.as_slice(), &command.hash_key.as_slice(),
    ];
    client.execute(statement, values).await.map(|_| ())
}
