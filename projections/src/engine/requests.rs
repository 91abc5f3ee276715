//! What operators ask of the node that keeps the read models up to date, left in the database for it to take up.

use super::{signed, unsigned};
use chrono::{DateTime, TimeDelta, Utc};
use daybook_store::database::DatabaseError;
use tokio_postgres::Client;
use uuid::Uuid;

/// Requests taken up at once.
const TAKEN_MAX: i64 = 10;
/// How long an answer is kept.
const ANSWER_KEPT: TimeDelta = TimeDelta::days(1);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Try parked streams now: that of this type and id, in whatever tenant, or all.
    Retry { stream: Option<(String, Uuid)> },
    /// Leave out the event of this journal position, and why.
    Skip { position: u64, reason: String },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub id: Uuid,
    pub read_model: String,
    pub wish: Wish,
    /// Who asks, by the name on the machine.
    pub operator: String,
}

/// Leaves a request.
///
/// # Errors
/// When the database cannot be asked.
pub async fn ask(client: &Client, request: &Request, now: DateTime<Utc>) -> Result<(), DatabaseError> {
    let Request { id, read_model, wish, operator } = request;
    let (kind, stream, position, reason) = match wish {
        Wish::Retry { stream } => ("retry", stream.clone(), None, None),
        Wish::Skip { position, reason } => ("skip", None, Some(signed(*position)), Some(reason)),
    };
    let (stream_type, stream_id) = stream.unzip();
    client
        .execute(
            "insert into projection.requests
             (id, kind, read_model, stream_type, stream_id, position, reason, operator, requested_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[id, &kind, read_model, &stream_type, &stream_id, &position, &reason, operator, &now],
        )
        .await
        .map(drop)
        .map_err(DatabaseError::Query)
}

/// The oldest requests that nobody has answered.
///
/// # Errors
/// When the database cannot be asked.
pub async fn open_requests(client: &Client) -> Result<Vec<Request>, DatabaseError> {
    let rows = client
        .query(
            "select id, read_model, operator, stream_type, stream_id, position, reason from projection.requests
             where done_at is null order by requested_at, id limit $1",
            &[&TAKEN_MAX],
        )
        .await
        .map_err(DatabaseError::Query)?;
    let request = |row: &tokio_postgres::Row| {
        let wish = match (row.get::<_, Option<i64>>(5), row.get::<_, Option<String>>(6)) {
            (Some(position), Some(reason)) => Wish::Skip { position: unsigned(position), reason },
            _ => Wish::Retry { stream: row.get::<_, Option<String>>(3).zip(row.get(4)) },
        };
        Request { id: row.get(0), read_model: row.get(1), operator: row.get(2), wish }
    };
    Ok(rows.iter().map(request).collect())
}

/// Says what came of a request; answers of yesterday go.
///
/// # Errors
/// When the database cannot be asked.
pub async fn answer(client: &Client, id: Uuid, refused: Option<&str>, now: DateTime<Utc>) -> Result<(), DatabaseError> {
    client
        .execute("update projection.requests set done_at = $2, refused = $3 where id = $1", &[&id, &now, &refused])
        .await
        .map_err(DatabaseError::Query)?;
    client
        .execute("delete from projection.requests where done_at < $1", &[&(now - ANSWER_KEPT)])
        .await
        .map(drop)
        .map_err(DatabaseError::Query)
}

/// What came of a request: nothing yet, or done, or why not.
///
/// # Errors
/// When the database cannot be asked.
pub async fn answered(client: &Client, id: Uuid) -> Result<Option<Result<(), String>>, DatabaseError> {
    let row = client
        .query_opt("select refused from projection.requests where id = $1 and done_at is not null", &[&id])
        .await
        .map_err(DatabaseError::Query)?;
    Ok(row.map(|row| match row.get::<_, Option<String>>(0) {
        None => Ok(()),
        Some(refused) => Err(refused),
    }))
}
