//! Rows that no event stands behind. The pass over the events has met every row that belongs to one; where
//! there are more, the rest is looked for.

use super::report::{Finding, Kind, Report};
use super::walk::Counted;
use crate::database::DatabaseError;
use crate::journal::recorded::{signed, unsigned};
use daybook_domain::TenantId;
use tokio_postgres::Client;
use uuid::Uuid;

const PAGE: i64 = 50_000;

/// Extra rows that are named; beyond that their number is enough.
const NAMED: i64 = 20;

// Per page: rows, rows up to the head, rows at positions that are not written even at this very moment, last key.
const INDEXED: &str = "
with page as materialized (
    select tenant_id, stream_type, stream_id, sequence, position from journal.stream_events
    where (tenant_id, stream_type, stream_id, sequence) > ($1, $2, $3, $4)
    order by tenant_id, stream_type, stream_id, sequence limit $5
), now as (
    select greatest($6, coalesce((select last_position from journal.batches order by batch desc limit 1), 0)) as position
), counted as (
    select count(*) as all_rows, count(*) filter (where p.position <= $6) as known,
           count(*) filter (where p.position between 1 and now.position is not true) as beyond
    from page p cross join now
)
select c.all_rows, c.known, c.beyond, l.tenant_id, l.stream_type, l.stream_id, l.sequence
from counted c cross join lateral (
    select * from page order by tenant_id desc, stream_type desc, stream_id desc, sequence desc limit 1) l";

const HEADS: &str = "
with page as materialized (
    select tenant_id, size, last_position from journal.tenant_heads
    where (tenant_id, size) > ($1, $2) order by tenant_id, size limit $3
), now as (
    select greatest($4, coalesce((select last_position from journal.batches order by batch desc limit 1), 0)) as position
), counted as (
    select count(*) as all_rows, count(*) filter (where p.last_position <= $4) as known,
           count(*) filter (where p.last_position between 1 and now.position is not true) as beyond
    from page p cross join now
)
select c.all_rows, c.known, c.beyond, l.tenant_id, l.size
from counted c cross join lateral (select * from page order by tenant_id desc, size desc limit 1) l";

const EXTRA_INDEXED: &str = "
select coalesce(s.position, 0), s.tenant_id, s.stream_type, s.stream_id, s.sequence
from journal.stream_events s
left join journal.events e on e.position = s.position and e.tenant_id = s.tenant_id and e.stream_type = s.stream_type
                          and e.stream_id = s.stream_id and e.sequence = s.sequence
where e.position is null order by s.position limit $1";

const EXTRA_HEADS: &str = "
select coalesce(h.last_position, 0), h.tenant_id, h.size
from journal.tenant_heads h
left join journal.events e on e.tenant_id = h.tenant_id and e.tenant_position = h.size
where e.position is null order by h.last_position limit $1";

#[derive(Default)]
struct Rows {
    known: u64,
    beyond: u64,
}

pub(super) async fn check(session: &Client, head: u64, met: Counted, report: &mut Report) -> Result<(), DatabaseError> {
    let query = DatabaseError::Query;
    let indexed = count_indexed(session, head).await?;
    if indexed.known > met.indexed || indexed.beyond > 0 {
        for row in session.query(EXTRA_INDEXED, &[&NAMED]).await.map_err(query)? {
            let message =
                format!("the index of streams has sequence {}, of which there is no event here", row.get::<_, i64>(4));
            let finding = Finding::new(Kind::Stream, message).at(unsigned(row.get(0))).of(TenantId(row.get(1)));
            report.found(finding.in_stream(row.get(2), row.get::<_, Uuid>(3)));
        }
    }
    let heads = count_heads(session, head).await?;
    if heads.known > met.heads || heads.beyond > 0 {
        for row in session.query(EXTRA_HEADS, &[&NAMED]).await.map_err(query)? {
            let size = unsigned(row.get(2));
            let finding = Finding::new(Kind::Head, "the tenant has a head of a size for which there are no events");
            report.found(finding.at(unsigned(row.get(0))).of(TenantId(row.get(1))).among(size..=size));
        }
    }
    Ok(())
}

async fn count_indexed(session: &Client, head: u64) -> Result<Rows, DatabaseError> {
    let statement = session.prepare(INDEXED).await.map_err(DatabaseError::Query)?;
    let mut rows = Rows::default();
    let (mut tenant, mut kind, mut stream, mut sequence) = (Uuid::nil(), String::new(), Uuid::nil(), i64::MIN);
    loop {
        let page = session
            .query_opt(&statement, &[&tenant, &kind, &stream, &sequence, &PAGE, &signed(head)])
            .await
            .map_err(DatabaseError::Query)?;
        let Some(row) = page else { return Ok(rows) };
        rows.known += unsigned(row.get(1));
        rows.beyond += unsigned(row.get(2));
        if row.get::<_, i64>(0) < PAGE {
            return Ok(rows);
        }
        (tenant, kind, stream, sequence) = (row.get(3), row.get(4), row.get(5), row.get(6));
    }
}

async fn count_heads(session: &Client, head: u64) -> Result<Rows, DatabaseError> {
    let statement = session.prepare(HEADS).await.map_err(DatabaseError::Query)?;
    let mut rows = Rows::default();
    let (mut tenant, mut size) = (Uuid::nil(), i64::MIN);
    loop {
        let page = session
            .query_opt(&statement, &[&tenant, &size, &PAGE, &signed(head)])
            .await
            .map_err(DatabaseError::Query)?;
        let Some(row) = page else { return Ok(rows) };
        rows.known += unsigned(row.get(1));
        rows.beyond += unsigned(row.get(2));
        if row.get::<_, i64>(0) < PAGE {
            return Ok(rows);
        }
        (tenant, size) = (row.get(3), row.get(4));
    }
}
