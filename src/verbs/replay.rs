//! `daybook replay`

use crate::base::Base;
use crate::config::Settled;
use crate::exit::Failure;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, ValueEnum};
use daybook_domain::TenantId;
use daybook_projections::read_models;
use daybook_projections::replay::replay;
use daybook_store::Role;
use daybook_store::journal::BY_KEY;
use daybook_store::journal::log::{self, Moment};
use daybook_store::keys::{KeyFiles, KeyStore, Sealer};
use daybook_store::system::{Real, SharedSystem};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use uuid::Uuid;

#[derive(Args)]
pub struct Arguments {
    /// Whose past
    #[arg(long, value_name = "ID")]
    tenant: Uuid,
    /// A position of the tenant's log (1, 2, 3 …) or an RFC 3339 time, inclusive [default: now]
    #[arg(long, value_name = "POSITION|TIME", value_parser = until)]
    until: Option<Until>,
    /// How to print the state
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy)]
enum Until {
    Position(u64),
    Time(DateTime<Utc>),
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn until(text: &str) -> Result<Until, String> {
    if let Ok(position) = text.parse() {
        return Ok(Until::Position(position));
    }
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|t| Until::Time(t.to_utc())).map_err(|_| {
        "name a position of the tenant's log, e.g. 1200, or a time with its offset, e.g. 2026-03-01T12:00:00Z".into()
    })
}

pub async fn run(settled: Settled, arguments: &Arguments) -> Result<(), Failure> {
    Base::with(&settled, async |base| carry_out(&settled, arguments, base).await).await
}

async fn carry_out(settled: &Settled, arguments: &Arguments, base: &Base) -> Result<(), Failure> {
    let tenant = TenantId(arguments.tenant);
    let client = base.database.connect(Role::Projector, "").await.map_err(|e| Failure::unavailable(&e))?;
    let (position, time) = match arguments.until {
        Some(Until::Position(position)) => (Some(position), None),
        Some(Until::Time(time)) => (None, Some(time)),
        None => (None, None),
    };
    let moment = log::moment(&client, tenant, position, time).await.map_err(|e| Failure::failed(&e))?;
    let Some(moment) = moment else {
        return Err(Failure {
            code: 1,
            message: format!("tenant {} has no events up to then: check --tenant and --until", arguments.tenant),
        });
    };
    let files = KeyFiles::open(&settled.keys_dir(), false, "", &Real).map_err(|e| Failure::failed(&e))?;
    let system: SharedSystem = Arc::new(Real);
    let keys = KeyStore::new(base.database.pool(Role::Writer, 2, BY_KEY), Arc::new(files), system.clone());
    let sealer = Sealer::new(Arc::new(keys), system);
    let bar = super::bar("events");
    let shown = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let rows = replay(&read_models(), &base.database, &sealer, tenant, moment, &shown)
        .await
        .map_err(|e| Failure::failed(&e))?;
    bar.finish_and_clear();
    match arguments.format {
        Format::Json => println!("{:#}", as_json(tenant, moment, rows)),
        Format::Text => print(tenant, moment, &rows),
    }
    Ok(())
}

fn recorded(moment: Moment) -> String {
    moment.recorded_at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn as_json(tenant: TenantId, moment: Moment, rows: Map<String, Value>) -> Value {
    json!({
        "tenant": tenant.0,
        "tenantPosition": moment.tenant_position,
        "recordedAt": recorded(moment),
        "state": rows,
    })
}

fn print(tenant: TenantId, moment: Moment, rows: &Map<String, Value>) {
    println!("Tenant {} at position {}, recorded {}", tenant.0, moment.tenant_position, recorded(moment));
    for (model, rows) in rows {
        let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        println!("\n{model}: {}", rows.len());
        for row in rows {
            println!("  {row}");
        }
    }
}
