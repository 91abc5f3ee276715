//! The journal as plain SQL finds it, past everything that could hide a fault.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio_postgres::Client;
use uuid::Uuid;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Event {
    pub position: i64,
    pub tenant: Uuid,
    pub tenant_position: i64,
    pub stream_type: String,
    pub stream: Uuid,
    pub sequence: i64,
    pub event: Uuid,
    pub event_type: String,
    pub payload: String,
    /// From the metadata.
    pub command: Option<Uuid>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub batch: i64,
    pub first: i64,
    pub last: i64,
}

#[derive(Clone, Default, Debug)]
pub struct Journal {
    /// By position.
    pub events: Vec<Event>,
    /// By number.
    pub batches: Vec<Batch>,
}

impl Journal {
    /// As the superuser, whom no row policy concerns.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn read(db: &Client) -> Result<Self, tokio_postgres::Error> {
        let sql = "select position, tenant_id, tenant_position, stream_type, stream_id, sequence, event_id, event_type,
                          payload, (metadata::jsonb->>'command_id')::uuid
                   from journal.events order by position";
        let events = db.query(sql, &[]).await?;
        let events = events.iter().map(|row| Event {
            position: row.get(0),
            tenant: row.get(1),
            tenant_position: row.get(2),
            stream_type: row.get(3),
            stream: row.get(4),
            sequence: row.get(5),
            event: row.get(6),
            event_type: row.get(7),
            payload: row.get(8),
            command: row.get(9),
        });
        let sql = "select batch, first_position, last_position from journal.batches order by batch";
        let batches = db.query(sql, &[]).await?;
        let batches = batches.iter().map(|row| Batch { batch: row.get(0), first: row.get(1), last: row.get(2) });
        Ok(Journal { events: events.collect(), batches: batches.collect() })
    }
}

/// A table of a read model, as the hash of its rows in whatever order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    pub rows: i64,
    pub hash: String,
}

/// The tables of the versions that answer, by name without version.
///
/// # Errors
/// When the database does not answer.
pub async fn tables(db: &Client) -> Result<BTreeMap<String, Table>, tokio_postgres::Error> {
    let sql = "select distinct c.relname, l.version
               from pg_class c join pg_namespace n on n.oid = c.relnamespace, projection.live l
               where n.nspname = 'read' and c.relkind in ('r', 'p') and not c.relispartition
                 and c.relname like l.read_model || '%' and c.relname like '%\\_v' || l.version";
    let mut tables = BTreeMap::new();
    for row in db.query(sql, &[]).await? {
        let (table, version): (String, i32) = (row.get(0), row.get(1));
        let sql = format!(
            "select count(*), coalesce(md5(string_agg(h, '' order by h)), '')
             from (select md5(t::text) h from read.{table} t) t"
        );
        let row = db.query_one(&sql, &[]).await?;
        let name = table.trim_end_matches(&format!("_v{version}")).to_owned();
        tables.insert(name, Table { rows: row.get(0), hash: row.get(1) });
    }
    Ok(tables)
}

/// Every read model that answers, and the position up to which all its lanes have seen the journal.
///
/// # Errors
/// When the database does not answer.
pub async fn read_models(db: &Client) -> Result<BTreeMap<String, i64>, tokio_postgres::Error> {
    let sql =
        "select read_model, min(position) from projection.live join projection.checkpoints using (read_model, version)
               group by read_model";
    Ok(db.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
