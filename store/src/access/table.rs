//! The rows of the access log.

use super::pending::Counters;
use crate::database::{DatabaseError, Pool};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Rows that one statement deletes, and statements of one purge: the rest waits for the next.
const PURGE_ROWS: i64 = 5_000;
const PURGE_STEPS_MAX: usize = 200;

/// Adds counters to their rows, in one statement. Should its outcome be lost with the connection, they may be counted
/// twice; a log of refusals can bear that.
pub(super) async fn add(pool: &Pool, counters: &Counters) -> Result<(), DatabaseError> {
    let mut sorted: Vec<_> = counters.iter().collect();
    // The order of time, and the same on every node: two of them never wait for each other in a circle.
    sorted.sort_by(|((a_minute, a), _), ((b_minute, b), _)| {
        let key = |minute, attempt: &super::Attempt| {
            (minute, attempt.tenant, attempt.kind, attempt.actor, attempt.action, attempt.target.clone())
        };
        key(*a_minute, a).cmp(&key(*b_minute, b))
    });
    let tenants: Vec<Uuid> = sorted.iter().map(|((_, attempt), _)| attempt.tenant.0).collect();
    let minutes: Vec<DateTime<Utc>> = sorted.iter().map(|((minute, _), _)| *minute).collect();
    let kinds: Vec<&str> = sorted.iter().map(|((_, attempt), _)| attempt.kind.as_str()).collect();
    let actors: Vec<Option<Uuid>> = sorted.iter().map(|((_, attempt), _)| attempt.actor).collect();
    let actions: Vec<&str> = sorted.iter().map(|((_, attempt), _)| attempt.action).collect();
    let targets: Vec<Option<&str>> = sorted.iter().map(|((_, attempt), _)| attempt.target.as_deref()).collect();
    let firsts: Vec<DateTime<Utc>> = sorted.iter().map(|(_, counted)| counted.first_at).collect();
    let lasts: Vec<DateTime<Utc>> = sorted.iter().map(|(_, counted)| counted.last_at).collect();
    let counts: Vec<i64> = sorted.iter().map(|(_, counted)| i64::try_from(counted.count).unwrap_or(i64::MAX)).collect();
    pool.query(ADD, &[&tenants, &minutes, &kinds, &actors, &actions, &targets, &firsts, &lasts, &counts]).await?;
    Ok(())
}

const ADD: &str = "insert into projection.denied_attempts as d
 (tenant_id, minute, kind, actor, action, target, first_at, last_at, count)
 select * from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::uuid[], $5::text[], $6::text[],
                      $7::timestamptz[], $8::timestamptz[], $9::bigint[])
 on conflict (tenant_id, minute, kind, actor, action, target) do update
 set first_at = least(d.first_at, excluded.first_at), last_at = greatest(d.last_at, excluded.last_at),
     count = d.count + excluded.count";

/// Deletes rows from before a moment, in short transactions; says how many.
pub(super) async fn purge(pool: &Pool, before: DateTime<Utc>) -> Result<u64, DatabaseError> {
    let mut deleted = 0;
    for _ in 0..PURGE_STEPS_MAX {
        let rows = pool
            .query(
                "with gone as (delete from projection.denied_attempts where ctid = any(array(
                     select ctid from projection.denied_attempts where minute < $1 limit $2)) returning 1)
                 select count(*) from gone",
                &[&before, &PURGE_ROWS],
            )
            .await?;
        let step: i64 = rows.first().map_or(0, |row| row.get(0));
        deleted += u64::try_from(step).unwrap_or_default();
        if step < PURGE_ROWS {
            break;
        }
    }
    Ok(deleted)
}
