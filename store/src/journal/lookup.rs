//! What a caller looks up before it appends, each in one statement and so in one snapshot that
//! names its epoch and batch.
//!
//! Rows are joined by `lateral ... limit 1`: that can only be a look into the index for each. A plain join may
//! be planned as one reading of the whole table, while it is small, and the plan is kept.

use super::append::{Append, AppendError, ClaimKey, CommandStamp, Outcome, Seen, StreamId, StreamKey};
use super::recorded::{COLUMNS, COLUMNS_COUNT, RecordedEvent, signed, unsigned};
use crate::combine;
use crate::database::{DatabaseError, Pool};
use crate::keys::keyed_hash;
use daybook_domain::TenantId;
use daybook_tlog::RightEdge;
use tokio_postgres::Row;
use uuid::Uuid;

/// Events of one stream, with the moment at which they were all there was.
#[derive(Debug)]
pub struct Loaded {
    pub events: Vec<RecordedEvent>,
    pub seen: Seen,
}

/// The record of an earlier command with the same id.
#[derive(Debug)]
pub(super) struct Earlier {
    pub(super) request_hash: Vec<u8>,
    /// `None` once erased: the id alone decides.
    pub(super) hash_key: Option<Vec<u8>>,
    pub(super) outcome: Outcome,
}

impl Earlier {
    pub(super) fn answer(&self, stamp: &CommandStamp) -> Result<Outcome, AppendError> {
        let same = self
            .hash_key
            .as_ref()
            .is_none_or(|key| keyed_hash(key, &stamp.digest).as_slice() == self.request_hash.as_slice());
        if same { Ok(self.outcome.clone()) } else { Err(AppendError::CommandReused(stamp.id)) }
    }

    /// From the columns [`EARLIER`] at `from`; `None` where the join found nothing.
    fn from_row(row: &Row, from: usize, seen: Seen) -> Option<Earlier> {
        Some(Earlier {
            request_hash: row.get::<_, Option<Vec<u8>>>(from)?,
            hash_key: row.get(from + 1),
            outcome: Outcome {
                tenant: TenantId(row.get(from + 2)),
                first_tenant_position: unsigned(row.get(from + 3)),
                last_tenant_position: unsigned(row.get(from + 4)),
                last_position: unsigned(row.get(from + 5)),
                stream_ids: row.get(from + 6),
                recorded_at_us: row.get(from + 7),
                seen,
                deduplicated: true,
            },
        })
    }
}

/// The columns of a command's record `c`.
const EARLIER: &str = "c.request_hash, c.hash_key, c.event_tenant_id, c.first_tenant_position, c.last_tenant_position,
 c.last_position, c.stream_ids, (extract(epoch from c.recorded_at) * 1000000)::bigint";

pub(super) async fn earlier(pool: &Pool, stamp: &CommandStamp) -> Result<(Seen, Option<Earlier>), DatabaseError> {
    let sql = format!(
        "select b.batch, b.epoch, {EARLIER}
         from (select batch, epoch from journal.batches order by batch desc limit 1) b
         left join journal.commands c on c.tenant_id = $1 and c.command_id = $2"
    );
    let rows = pool.query(&sql, &[&stamp.tenant.0, &stamp.id]).await?;
    let Some(row) = rows.first() else { return Ok((Seen::default(), None)) };
    let seen = Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) };
    Ok((seen, Earlier::from_row(row, 2, seen)))
}

/// Everything that the writer takes on trust from the caller.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) seen: Seen,
    /// Versions of the append's streams, then of its reads.
    pub(super) versions: Vec<u64>,
    pub(super) earlier: Option<Earlier>,
    /// Which of the claims are taken.
    pub(super) taken: Vec<bool>,
    pub(super) head: RightEdge,
}

/// Events of a stream, and the tree of its tenant as of the same moment: whoever loads is about to append.
pub(super) async fn load(
    pool: &Pool,
    key: &StreamKey,
    after: u64,
    limit: i64,
) -> Result<(Loaded, Option<RightEdge>), DatabaseError> {
    // The tree comes with the first event alone: it would be the same with every other.
    let rows =
        pool.query(&load_sql(), &[&key.tenant.0, &key.stream.kind, &key.stream.id, &signed(after), &limit]).await?;
    let (seen, head) = match rows.first() {
        Some(row) => {
            (Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) }, Some(head(row, 2 + COLUMNS_COUNT)?))
        }
        None => (Seen::default(), None),
    };
    let events = rows
        .iter()
        .filter(|row| row.get::<_, Option<i64>>(2).is_some())
        .map(|row| RecordedEvent::from_row(row, 2))
        .collect();
    Ok((Loaded { events, seen }, head))
}

/// Events that come with each of several streams that are loaded together; the rest follows in pages.
pub(super) const BEGINNING_MAX: i64 = 100;

/// A stream from its first event on, to be loaded together with others.
#[derive(Clone, Debug)]
pub(super) struct Beginning(pub(super) StreamKey);

impl Beginning {
    fn sql() -> String {
        format!(
            "select b.batch, b.epoch, q.n, {COLUMNS}, h.size, h.edge
             from (select batch, epoch from journal.batches order by batch desc limit 1) b
             cross join (select generate_series(1, array_length($1::uuid[], 1)), unnest($1::uuid[]), unnest($2::text[]),
                                unnest($3::uuid[])) q(n, tenant, kind, id)
             left join lateral (select s.position from journal.stream_events s
                                where s.tenant_id = q.tenant and s.stream_type = q.kind and s.stream_id = q.id
                                order by s.sequence limit $4) s on true
             left join lateral (select * from journal.events where position = s.position limit 1) e on true
             left join lateral (select size, edge from journal.tenant_heads where tenant_id = q.tenant
                                order by size desc limit 1) h on coalesce(e.sequence, 1) = 1
             order by q.n, e.sequence"
        )
    }
}

impl combine::Question for Beginning {
    type Answer = (Loaded, Option<RightEdge>);

    async fn ask(pool: &Pool, questions: &[Self]) -> Result<Vec<Self::Answer>, DatabaseError> {
        let tenants: Vec<Uuid> = questions.iter().map(|q| q.0.tenant.0).collect();
        let kinds: Vec<&str> = questions.iter().map(|q| q.0.stream.kind).collect();
        let ids: Vec<Uuid> = questions.iter().map(|q| q.0.stream.id).collect();
        let rows = pool.query(&Self::sql(), &[&tenants, &kinds, &ids, &BEGINNING_MAX]).await?;
        let mut loaded: Vec<Self::Answer> =
            questions.iter().map(|_| (Loaded { events: Vec::new(), seen: Seen::default() }, None)).collect();
        for row in &rows {
            let number = usize::try_from(row.get::<_, i32>(2)).unwrap_or_default();
            let Some((loaded, edge)) = number.checked_sub(1).and_then(|n| loaded.get_mut(n)) else { continue };
            if edge.is_none() {
                loaded.seen = Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) };
                *edge = Some(head(row, 3 + COLUMNS_COUNT)?);
            }
            if row.get::<_, Option<i64>>(3).is_some() {
                loaded.events.push(RecordedEvent::from_row(row, 3));
            }
        }
        Ok(loaded)
    }
}

/// Events of several streams of one tenant, each after a sequence number of its own: the number of the stream in
/// `streams` with each event, streams in their order and events oldest first. At most `limit` of them.
pub(super) async fn load_many(
    pool: &Pool,
    tenant: TenantId,
    streams: &[(StreamId, u64)],
    limit: i64,
) -> Result<(Seen, Vec<(usize, RecordedEvent)>), DatabaseError> {
    let kinds: Vec<&str> = streams.iter().map(|(stream, _)| stream.kind).collect();
    let ids: Vec<Uuid> = streams.iter().map(|(stream, _)| stream.id).collect();
    let after: Vec<i64> = streams.iter().map(|(_, after)| signed(*after)).collect();
    let rows = pool.query(&load_many_sql(), &[&tenant.0, &kinds, &ids, &after, &limit]).await?;
    let seen = match rows.first() {
        Some(row) => Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) },
        None => Seen::default(),
    };
    let events = rows.iter().filter_map(|row| {
        let number = usize::try_from(row.get::<_, Option<i64>>(2)?).ok()?;
        Some((number.checked_sub(1)?, RecordedEvent::from_row(row, 3)))
    });
    Ok((seen, events.collect()))
}

/// The streams that hold unique keys, in the order of the keys, with the moment at which they did.
pub(super) async fn holders(pool: &Pool, keys: &[ClaimKey]) -> Result<(Seen, Vec<Option<Uuid>>), DatabaseError> {
    let scopes: Vec<Uuid> = keys.iter().map(|key| key.scope.0).collect();
    let kinds: Vec<&str> = keys.iter().map(|key| key.kind).collect();
    let hashes: Vec<&[u8]> = keys.iter().map(|key| key.hash.as_slice()).collect();
    let rows = pool
        .query(
            "select b.batch, b.epoch,
                array(select (select c.stream_id from journal.claims c
                              where c.scope_id = s and c.kind = k and c.key_hash = h)
                      from unnest($1::uuid[], $2::text[], $3::bytea[]) with ordinality u(s, k, h, n) order by n)
             from (select batch, epoch from journal.batches order by batch desc limit 1) b",
            &[&scopes, &kinds, &hashes],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok((Seen::default(), vec![None; keys.len()])) };
    Ok((Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) }, row.get(2)))
}

/// What is to be looked up for one append.
#[derive(Clone, Debug)]
pub(super) struct Question {
    tenant: TenantId,
    command: (TenantId, Uuid),
    /// Its streams, then its reads.
    streams: Vec<StreamId>,
    claims: Vec<ClaimKey>,
}

impl Question {
    pub(super) fn of(append: &Append) -> Self {
        let reads = append.reads.iter().map(|(stream, _)| stream);
        Question {
            tenant: append.tenant,
            command: (append.command.tenant, append.command.id),
            streams: append.streams.iter().map(|s| &s.stream).chain(reads).cloned().collect(),
            claims: append.claims.iter().map(|(claim, _)| claim.clone()).collect(),
        }
    }
}

impl combine::Question for Question {
    type Answer = Facts;

    async fn ask(pool: &Pool, questions: &[Self]) -> Result<Vec<Facts>, DatabaseError> {
        facts(pool, questions).await
    }
}

/// The facts for each of the questions, all as of one moment. The streams and claims of all of them travel in
/// the same arrays, of which each has its stretch.
async fn facts(pool: &Pool, questions: &[Question]) -> Result<Vec<Facts>, DatabaseError> {
    let tenants: Vec<Uuid> = questions.iter().map(|q| q.tenant.0).collect();
    let command_tenants: Vec<Uuid> = questions.iter().map(|q| q.command.0.0).collect();
    let commands: Vec<Uuid> = questions.iter().map(|q| q.command.1).collect();
    let (streams_from, streams_to) = stretches(questions.iter().map(|q| q.streams.len()));
    let streams = || questions.iter().flat_map(|q| &q.streams);
    let kinds: Vec<&str> = streams().map(|s| s.kind).collect();
    let ids: Vec<Uuid> = streams().map(|s| s.id).collect();
    let (claims_from, claims_to) = stretches(questions.iter().map(|q| q.claims.len()));
    let claims = || questions.iter().flat_map(|q| &q.claims);
    let scopes: Vec<Uuid> = claims().map(|c| c.scope.0).collect();
    let claim_kinds: Vec<&str> = claims().map(|c| c.kind).collect();
    let hashes: Vec<&[u8]> = claims().map(|c| c.hash.as_slice()).collect();
    let rows = pool
        .query(
            &facts_sql(),
            &[
                &tenants,
                &command_tenants,
                &commands,
                &streams_from,
                &streams_to,
                &kinds,
                &ids,
                &claims_from,
                &claims_to,
                &scopes,
                &claim_kinds,
                &hashes,
            ],
        )
        .await?;
    if rows.len() != questions.len() {
        return Err(DatabaseError::Unsuitable("the journal has no batch yet: no writer has taken it over".into()));
    }
    rows.iter().map(Facts::from_row).collect()
}

fn load_sql() -> String {
    format!(
        "select b.batch, b.epoch, {COLUMNS}, h.size, h.edge
         from (select batch, epoch from journal.batches order by batch desc limit 1) b
         left join (select s.position from journal.stream_events s
                    where s.tenant_id = $1 and s.stream_type = $2 and s.stream_id = $3 and s.sequence > $4
                    order by s.sequence limit $5) s on true
         left join lateral (select * from journal.events where position = s.position limit 1) e on true
         left join lateral (select size, edge from journal.tenant_heads where tenant_id = $1
                            order by size desc limit 1) h on coalesce(e.sequence, $4 + 1) = $4 + 1
         order by e.sequence"
    )
}

fn load_many_sql() -> String {
    format!(
        "select b.batch, b.epoch, s.n, {COLUMNS}
         from (select batch, epoch from journal.batches order by batch desc limit 1) b
         left join (select k.n, s.position
                    from unnest($2::text[], $3::uuid[], $4::bigint[]) with ordinality k(kind, id, after, n)
                    cross join lateral (select position, sequence from journal.stream_events
                                        where tenant_id = $1 and stream_type = k.kind and stream_id = k.id
                                          and sequence > k.after
                                        order by sequence limit $5) s
                    order by k.n, s.sequence limit $5) s on true
         left join lateral (select * from journal.events where position = s.position limit 1) e on true
         order by s.n, e.sequence"
    )
}

fn facts_sql() -> String {
    format!(
        "select b.batch, b.epoch,
            array(select coalesce((select s.sequence from journal.stream_events s
                                   where s.tenant_id = q.tenant and s.stream_type = k and s.stream_id = i
                                   order by s.sequence desc limit 1), 0)
                  from unnest(($6::text[])[q.sf:q.st], ($7::uuid[])[q.sf:q.st]) with ordinality u(k, i, n) order by n),
            array(select coalesce((select true from journal.claims c
                                   where c.scope_id = s and c.kind = k and c.key_hash = h), false)
                  from unnest(($10::uuid[])[q.cf:q.ct], ($11::text[])[q.cf:q.ct], ($12::bytea[])[q.cf:q.ct])
                       with ordinality u(s, k, h, n) order by n),
            h.size, h.edge, {EARLIER}
         from (select batch, epoch from journal.batches order by batch desc limit 1) b
         cross join (select generate_series(1, array_length($1::uuid[], 1)), unnest($1::uuid[]), unnest($2::uuid[]),
                            unnest($3::uuid[]), unnest($4::int[]), unnest($5::int[]), unnest($8::int[]),
                            unnest($9::int[])) q(n, tenant, command_tenant, command, sf, st, cf, ct)
         left join lateral (select size, edge from journal.tenant_heads where tenant_id = q.tenant
                            order by size desc limit 1) h on true
         left join lateral (select * from journal.commands
                            where tenant_id = q.command_tenant and command_id = q.command limit 1) c on true
         order by q.n"
    )
}

/// The statements that look up for many callers at once, for a look at their plans.
pub fn statements() -> [String; 4] {
    [facts_sql(), Beginning::sql(), load_sql(), load_many_sql()]
}

/// Where each stretch begins and ends, from 1 and inclusive, as PostgreSQL counts.
fn stretches(lengths: impl Iterator<Item = usize>) -> (Vec<i32>, Vec<i32>) {
    let mut end = 0;
    lengths
        .map(|length| {
            let from = end + 1;
            end += i32::try_from(length).unwrap_or(i32::MAX - end);
            (from, end)
        })
        .unzip()
}

/// A tenant's tree from the columns size and edge at `from`; empty where there are none.
fn head(row: &Row, from: usize) -> Result<RightEdge, DatabaseError> {
    match row.get::<_, Option<i64>>(from) {
        None => Ok(RightEdge::empty()),
        Some(size) => RightEdge::from_bytes(unsigned(size), row.get(from + 1))
            .map_err(|_| DatabaseError::Unsuitable("a tenant head is damaged; run `daybook verify`".into())),
    }
}

impl Facts {
    fn from_row(row: &Row) -> Result<Facts, DatabaseError> {
        let seen = Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) };
        Ok(Facts {
            seen,
            versions: row.get::<_, Vec<i64>>(2).into_iter().map(unsigned).collect(),
            earlier: Earlier::from_row(row, 6, seen),
            taken: row.get(3),
            head: head(row, 4)?,
        })
    }
}

/// The journal position of the last event of a tenant up to a tenant position: where a token points.
/// `None` when the tenant has no such event.
///
/// # Errors
/// When the database cannot be asked.
pub async fn resolve(pool: &Pool, tenant: TenantId, tenant_position: u64) -> Result<Option<u64>, DatabaseError> {
    let rows = pool
        .query(
            "select last_position from journal.tenant_heads where tenant_id = $1 and size >= $2 order by size limit 1",
            &[&tenant.0, &signed(tenant_position)],
        )
        .await?;
    Ok(rows.first().map(|row| unsigned(row.get(0))))
}
