//! What a caller looks up before it appends, each in one statement and so in one snapshot that
//! names its epoch and batch.

use super::append::{Append, AppendError, CommandStamp, Outcome, Seen, StreamKey};
use super::recorded::{COLUMNS, RecordedEvent, signed, unsigned};
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

pub(super) async fn load(pool: &Pool, key: &StreamKey, after: u64, limit: i64) -> Result<Loaded, DatabaseError> {
    let sql = format!(
        "select b.batch, b.epoch, {COLUMNS}
         from (select batch, epoch from journal.batches order by batch desc limit 1) b
         left join (select s.position from journal.stream_events s
                    where s.tenant_id = $1 and s.stream_type = $2 and s.stream_id = $3 and s.sequence > $4
                    order by s.sequence limit $5) s on true
         left join journal.events e on e.position = s.position
         order by e.sequence"
    );
    let rows = pool.query(&sql, &[&key.tenant.0, &key.stream.kind, &key.stream.id, &signed(after), &limit]).await?;
    let seen = match rows.first() {
        Some(row) => Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) },
        None => Seen::default(),
    };
    let events = rows
        .iter()
        .filter(|row| row.get::<_, Option<i64>>(2).is_some())
        .map(|row| RecordedEvent::from_row(row, 2))
        .collect();
    Ok(Loaded { events, seen })
}

pub(super) async fn facts(pool: &Pool, append: &Append) -> Result<Facts, DatabaseError> {
    let streams: Vec<_> = append.streams.iter().map(|s| &s.stream).chain(append.reads.iter().map(|r| &r.0)).collect();
    let kinds: Vec<&str> = streams.iter().map(|s| s.kind).collect();
    let ids: Vec<Uuid> = streams.iter().map(|s| s.id).collect();
    let scopes: Vec<Uuid> = append.claims.iter().map(|(c, _)| c.scope.0).collect();
    let claim_kinds: Vec<&str> = append.claims.iter().map(|(c, _)| c.kind).collect();
    let hashes: Vec<&[u8]> = append.claims.iter().map(|(c, _)| c.hash.as_slice()).collect();
    let rows = pool
        .query(
            &format!(
                "select b.batch, b.epoch,
                array(select coalesce((select s.sequence from journal.stream_events s
                                       where s.tenant_id = $1 and s.stream_type = k and s.stream_id = i
                                       order by s.sequence desc limit 1), 0)
                      from unnest($2::text[], $3::uuid[]) with ordinality u(k, i, n) order by n),
                array(select exists (select from journal.claims c where c.scope_id = s and c.kind = k and c.key_hash = h)
                      from unnest($4::uuid[], $5::text[], $6::bytea[]) with ordinality u(s, k, h, n) order by n),
                h.size, h.edge, {EARLIER}
             from (select batch, epoch from journal.batches order by batch desc limit 1) b
             left join lateral (select size, edge from journal.tenant_heads where tenant_id = $1
                                order by size desc limit 1) h on true
             left join journal.commands c on c.tenant_id = $7 and c.command_id = $8"
            ),
            &[&append.tenant.0, &kinds, &ids, &scopes, &claim_kinds, &hashes, &append.command.tenant.0, &append.command.id],
        )
        .await?;
    let unsuitable = |what: &str| DatabaseError::Unsuitable(what.into());
    let row = rows.first().ok_or_else(|| unsuitable("the journal has no batch yet: no writer has taken it over"))?;
    let seen = Seen { batch: unsigned(row.get(0)), epoch: unsigned(row.get(1)) };
    let head = match row.get::<_, Option<i64>>(4) {
        None => RightEdge::empty(),
        Some(size) => RightEdge::from_bytes(unsigned(size), row.get(5))
            .map_err(|_| unsuitable("a tenant head is damaged; run `daybook verify`"))?,
    };
    let earlier = Earlier::from_row(row, 6, seen);
    Ok(Facts {
        seen,
        versions: row.get::<_, Vec<i64>>(2).into_iter().map(unsigned).collect(),
        earlier,
        taken: row.get(3),
        head,
    })
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
