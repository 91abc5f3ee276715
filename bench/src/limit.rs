//! How fast the same rows can go into the same tables at all: COPY over one connection, one
//! transaction, all indexes in place. Nothing that writes rows for others can be faster.

use crate::error::BenchError;
use crate::load::text;
use chrono::{DateTime, Utc};
use daybook_store::system::{Real, System};
use daybook_store::{Database, Role};
use std::pin::pin;
use std::time::Instant;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

const TENANTS: usize = 16;

/// Events per second, with the rows of `stream_events` and `commands` that belong to them.
///
/// # Errors
/// When the rows do not go in.
pub async fn copy(database: &Database, events: usize) -> Result<f64, BenchError> {
    // COPY does not go where row policies hold, so this is the superuser's session.
    let mut session = database.connect(Role::Login, "-c synchronous_commit=on").await?;
    let position: i64 = session.query_one("select coalesce(max(position), 0) from journal.events", &[]).await?.get(0);
    let count = i64::try_from(events).unwrap_or(i64::MAX);
    session.execute("select journal.ensure_partitions($1)", &[&(position + count)]).await?;
    let tenants: Vec<Uuid> = (0..TENANTS).map(|_| Real.uuid_v4()).collect();
    let (payload, metadata, hash, now) = (text(250), text(250), [7u8; 32], Real.utc());
    let rows: Vec<Row> = (0..events)
        .map(|n| Row {
            position: position + 1 + i64::try_from(n).unwrap_or_default(),
            tenant: tenants[n % TENANTS],
            tenant_position: i64::try_from(n / TENANTS).unwrap_or_default() + 1,
            stream: Real.uuid_v4(),
            event: Real.uuid_v7(),
            command: Real.uuid_v7(),
        })
        .collect();

    let begun = Instant::now();
    let transaction = session.transaction().await?;
    let sink = transaction
        .copy_in(
            "copy journal.events (position, tenant_id, tenant_position, stream_type, stream_id, sequence, event_id, event_type,
                                  event_version, recorded_at, payload, metadata, leaf_hash) from stdin binary",
        )
        .await?;
    let types = [
        Type::INT8,
        Type::UUID,
        Type::INT8,
        Type::TEXT,
        Type::UUID,
        Type::INT8,
        Type::UUID,
        Type::TEXT,
        Type::INT4,
        Type::TIMESTAMPTZ,
        Type::TEXT,
        Type::TEXT,
        Type::BYTEA,
    ];
    write(
        sink,
        &types,
        &rows,
        |row, now| {
            vec![
                Box::new(row.position),
                Box::new(row.tenant),
                Box::new(row.tenant_position),
                Box::new("thing"),
                Box::new(row.stream),
                Box::new(1i64),
                Box::new(row.event),
                Box::new("bench.thing.happened"),
                Box::new(1i32),
                Box::new(now),
                Box::new(payload.as_str()),
                Box::new(metadata.as_str()),
                Box::new(hash.as_slice()),
            ]
        },
        now,
    )
    .await?;
    let sink = transaction
        .copy_in("copy journal.stream_events (tenant_id, stream_type, stream_id, sequence, position) from stdin binary")
        .await?;
    write(
        sink,
        &[Type::UUID, Type::TEXT, Type::UUID, Type::INT8, Type::INT8],
        &rows,
        |row, _| {
            vec![Box::new(row.tenant), Box::new("thing"), Box::new(row.stream), Box::new(1i64), Box::new(row.position)]
        },
        now,
    )
    .await?;
    let sink = transaction
        .copy_in(
            "copy journal.commands (tenant_id, command_id, request_hash, hash_key, event_tenant_id, first_tenant_position,
                                    last_tenant_position, last_position, stream_ids, recorded_at) from stdin binary",
        )
        .await?;
    let types = [
        Type::UUID,
        Type::UUID,
        Type::BYTEA,
        Type::BYTEA,
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ,
    ];
    write(
        sink,
        &types,
        &rows,
        |row, now| {
            vec![
                Box::new(row.tenant),
                Box::new(row.command),
                Box::new(hash.as_slice()),
                Box::new(hash.as_slice()),
                Box::new(row.tenant),
                Box::new(row.tenant_position),
                Box::new(row.tenant_position),
                Box::new(row.position),
                Box::new(vec![row.stream]),
                Box::new(now),
            ]
        },
        now,
    )
    .await?;
    transaction.commit().await?;
    #[allow(clippy::cast_precision_loss)]
    Ok(events as f64 / begun.elapsed().as_secs_f64())
}

struct Row {
    position: i64,
    tenant: Uuid,
    tenant_position: i64,
    stream: Uuid,
    event: Uuid,
    command: Uuid,
}

type Value<'a> = Box<dyn ToSql + Sync + Send + 'a>;

async fn write<'a>(
    sink: tokio_postgres::CopyInSink<bytes::Bytes>,
    types: &[Type],
    rows: &'a [Row],
    values: impl Fn(&'a Row, DateTime<Utc>) -> Vec<Value<'a>>,
    now: DateTime<Utc>,
) -> Result<(), BenchError> {
    let mut writer = pin!(BinaryCopyInWriter::new(sink, types));
    for row in rows {
        let values = values(row, now);
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|v| &**v as &(dyn ToSql + Sync)).collect();
        writer.as_mut().write(&values).await?;
    }
    writer.finish().await?;
    Ok(())
}
