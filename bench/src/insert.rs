//! `insert`: what the writer's one statement costs PostgreSQL, by the size of the batch.

use crate::error::BenchError;
use crate::load::{Cpu, text};
use crate::server::{self, Latency};
use daybook_domain::TenantId;
use daybook_store::Role;
use daybook_store::journal::machine::{Batch, EventRow, HeadRow, Prepared};
use daybook_store::journal::{Append, BY_KEY, CommandStamp, NewEvent, Outcome, Seen, StreamAppend, StreamId, rows};
use daybook_store::system::{Real, System};
use daybook_tlog::RightEdge;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Appends of one event in one batch.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32, 128, 512])]
    sizes: Vec<usize>,
    /// Events to write per size.
    #[arg(long, default_value_t = 50_000)]
    events: usize,
    /// Tenants among which a batch's events are spread.
    #[arg(long, default_value_t = 16)]
    tenants: usize,
    /// SQL to run as superuser beforehand, e.g. to drop an index and see what it costs.
    #[arg(long)]
    before: Option<String>,
    /// Directory on the disk to be measured [default: in memory].
    #[arg(long)]
    disk_dir: Option<PathBuf>,
}

/// # Errors
/// When anything fails.
pub async fn run(options: Options) -> Result<String, BenchError> {
    let latency = if options.disk_dir.is_some() { Latency::Disk } else { Latency::TwoMs };
    let server = server::start(latency, options.disk_dir, 20).await?;
    let database = server::create(&server, "bench_insert").await?;
    if let Some(sql) = options.before {
        database.connect(Role::Login, "").await?.batch_execute(&sql).await?;
    }
    // As the writer's session: nobody waits for the disk here.
    let session = database.connect(Role::Writer, &format!("-c synchronous_commit=off {BY_KEY}")).await?;
    let statements = rows::Statements::prepare(&session).await?;
    let mut table = String::from(
        "| appends in a batch | µs per batch | µs per event | CPU µs per event | events/s |\n|---|---|---|---|---|\n",
    );
    let mut made = Maker {
        number: 0,
        position: 0,
        tenants: (0..options.tenants).map(|_| (TenantId(Real.uuid_v4()), RightEdge::empty())).collect(),
    };
    for size in options.sizes {
        let batches: Vec<Batch> = (0..(options.events / size).max(1)).map(|_| made.batch(size)).collect();
        let before = server::cpu(&session).await?;
        let mut times = Vec::with_capacity(batches.len());
        for batch in &batches {
            let begun = Instant::now();
            rows::insert(&session, &statements, batch, false).await?;
            times.push(begun.elapsed());
        }
        let after = server::cpu(&session).await?;
        times.sort_unstable();
        let us = times[times.len() / 2].as_secs_f64() * 1e6;
        #[allow(clippy::cast_precision_loss)]
        let (per_event, written) = (us / size as f64, (times.len() * size) as f64);
        let cpu = Cpu {
            client_us: (after.client_us - before.client_us) / written,
            server_us: (after.server_us - before.server_us) / written,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| {size} | {us:.0} | {per_event:.1} | {:.1} + {:.1} | {:.0} |",
            cpu.client_us,
            cpu.server_us,
            1e6 / per_event
        );
    }
    server.stop().await;
    Ok(table)
}

/// Makes batches that fit one after another.
struct Maker {
    number: u64,
    position: u64,
    tenants: Vec<(TenantId, RightEdge)>,
}

impl Maker {
    fn batch(&mut self, size: usize) -> Batch {
        self.number += 1;
        let mut batch = Batch::empty(self.number, 1, self.position + 1, Real.now().wall_us);
        let mut touched = std::collections::BTreeMap::new();
        for member in 0..size {
            self.position += 1;
            let at = member % self.tenants.len();
            let (tenant, edge) = &mut self.tenants[at];
            edge.push([7; 32]);
            touched.insert(at, self.position);
            let stream = StreamId { kind: "thing", id: Real.uuid_v4() };
            batch.events.push(EventRow {
                position: self.position,
                tenant_position: edge.size(),
                sequence: 1,
                leaf_hash: [7; 32],
                source: (member, 0, 0),
            });
            batch.outcomes.push(Outcome {
                tenant: *tenant,
                first_tenant_position: edge.size(),
                last_tenant_position: edge.size(),
                last_position: self.position,
                stream_ids: vec![stream.id],
                recorded_at_us: batch.recorded_at_us,
                seen: Seen { epoch: 1, batch: self.number },
                deduplicated: false,
            });
            batch.members.push(Arc::new(prepared(*tenant, stream)));
        }
        batch.last_position = self.position;
        batch.heads = touched
            .into_iter()
            .map(|(at, last_position)| HeadRow {
                tenant: self.tenants[at].0,
                last_position,
                edge: self.tenants[at].1.clone(),
            })
            .collect();
        batch
    }
}

fn prepared(tenant: TenantId, stream: StreamId) -> Prepared {
    let event = NewEvent {
        event_id: Real.uuid_v7(),
        event_type: "bench.thing.happened".into(),
        event_version: 1,
        payload: text(250),
        metadata: text(250),
    };
    let command = CommandStamp { tenant, id: Real.uuid_v7(), digest: [7; 32], hash_key: [9; 32], fresh: true };
    Prepared {
        ticket: 0,
        append: Append {
            tenant,
            command,
            streams: vec![StreamAppend { stream, expected: 0, events: vec![event] }],
            reads: vec![],
            claims: vec![],
            releases: vec![],
            not_after: None,
        },
        seen: Seen::default(),
        head: None,
        digests: vec![vec![([7; 32], [7; 32])]],
        request_hash: [7; 32],
        asks: false,
    }
}
