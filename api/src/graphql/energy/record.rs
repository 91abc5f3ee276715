//! Recording a few readings by a mutation; many go through `POST /v1/readings`.

use super::devices::of_ingest;
use super::readings::ReadingQuality;
use crate::graphql::audit::door::count_ingest;
use crate::graphql::errors::{Code, UserError, error};
use crate::graphql::request::{Receipt, Written, call, credential, parts, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use daybook_app::energy::{Rejected, Report, SentRow};
use daybook_domain::Refusal;
use daybook_domain::energy::local_time::Stamp;
use daybook_domain::energy::quantity;
use uuid::Uuid;

/// Rows of one mutation.
const ROWS_MAX: usize = 1_000;

/// A unit of energy.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnergyUnit {
    /// Watt-hours.
    Wh,
    /// Thousands of watt-hours.
    Kwh,
    /// Millions of watt-hours.
    Mwh,
}

impl From<EnergyUnit> for quantity::EnergyUnit {
    fn from(unit: EnergyUnit) -> Self {
        match unit {
            EnergyUnit::Wh => Self::Wh,
            EnergyUnit::Kwh => Self::KWh,
            EnergyUnit::Mwh => Self::MWh,
        }
    }
}

/// The energy of a slot.
#[derive(InputObject)]
pub struct ReadingInput {
    /// Id or serial number of the device.
    pub device: String,
    /// When the slot begins, e.g. `"2016-03-27T00:15:00Z"`. Without an offset it is the wall time of the device's site;
    /// rows of a repeated hour are told apart by their order.
    pub time: String,
    /// A decimal number as text, e.g. `"1.25"`. It must be a whole number of watt-hours.
    pub value: String,
    /// The unit of the value.
    pub unit: EnergyUnit,
    /// Where the value comes from.
    #[graphql(default_with = "ReadingQuality::Measured")]
    pub quality: ReadingQuality,
}

/// Readings to record.
#[derive(InputObject)]
pub struct RecordReadingsInput {
    /// The tenant of the devices; your own unless told.
    pub tenant: Option<Uuid>,
    /// At most 1,000; each is judged by itself.
    pub rows: Vec<ReadingInput>,
    /// Id of this command, chosen by you: a repeat with the same id records nothing twice.
    pub client_mutation_id: Option<Uuid>,
}

/// What became of readings. `userErrors` names each refused row by its path, e.g. `["input", "rows", "3", "value"]`.
#[derive(SimpleObject)]
pub struct RecordReadingsPayload {
    #[graphql(flatten)]
    receipt: Receipt,
    /// How many rows were recorded.
    pub accepted: BigInt,
    /// How many rows were known already, with the same value.
    pub duplicates: BigInt,
    /// How many rows were refused.
    pub rejected: BigInt,
}

#[derive(Default)]
pub struct ReadingsMutation;

#[Object]
impl ReadingsMutation {
    /// Records readings: each row is accepted, a duplicate, or refused for a reason of its own. A slot's first value
    /// stays. For more rows there is `POST /v1/readings`.
    async fn record_readings(&self, ctx: &Context<'_>, input: RecordReadingsInput) -> Result<RecordReadingsPayload> {
        if input.rows.len() > ROWS_MAX {
            let message = format!("input.rows has {} rows: send at most {ROWS_MAX}", input.rows.len());
            return Err(error(Code::LimitExceeded, message));
        }
        let (parts, credential) = (parts(ctx)?, credential(ctx)?);
        let tenant = tenant_of(ctx, input.tenant)?;
        let call = call(ctx, input.client_mutation_id, None)?;
        let mut recording = parts.ingest.begin(credential, tenant, call).await.map_err(|failure| {
            count_ingest(&parts.audit.access, credential, tenant, &failure);
            of_ingest(failure)
        })?;
        let mut rows = Vec::with_capacity(input.rows.len());
        for (index, row) in (0..).zip(input.rows) {
            match sent(index, row) {
                Ok(row) => rows.push(row),
                Err(rejected) => recording.reject(rejected),
            }
        }
        recording.record(rows).await.map_err(of_ingest)?;
        let report = recording.finish().await.map_err(of_ingest)?;
        let written = report.written.map(|(tenant, tenant_position, journal_position)| {
            parts.reads.wrote(credential.actor.id, tenant, journal_position);
            let position = parts.opaque.position(tenant, tenant_position);
            ctx.insert_http_header(crate::transport::POSITION_HEADER, position.clone());
            (Position(position), Written { tenant, id: tenant.0, journal_position })
        });
        Ok(payload(report, written))
    }
}

fn sent(index: u64, row: ReadingInput) -> Result<SentRow, Rejected> {
    let refused = |refusal: &dyn Refusal, field| Rejected { field: Some(field), ..Rejected::of(index, refusal) };
    Ok(SentRow {
        index,
        device: row.device.trim().to_owned(),
        time: Stamp::parse(&row.time).map_err(|e| refused(&e, "time"))?,
        energy_wh: quantity::parse_energy(&row.value, row.unit.into()).map_err(|e| refused(&e, "value"))?,
        quality: row.quality.into(),
    })
}

fn payload(report: &Report, written: Option<(Position, Written)>) -> RecordReadingsPayload {
    let user_errors = report.rejections.iter().map(|rejected| {
        let index = rejected.index.to_string();
        let path: Vec<&str> = ["rows", index.as_str()].into_iter().chain(rejected.field).collect();
        UserError::new(&path, rejected.code, rejected.message.clone())
    });
    let (position, written) = written.unzip();
    RecordReadingsPayload {
        receipt: Receipt { position, deduplicated: report.repeated, user_errors: user_errors.collect(), written },
        accepted: BigInt::from(report.accepted),
        duplicates: BigInt::from(report.duplicates),
        rejected: BigInt::from(report.rejected),
    }
}
