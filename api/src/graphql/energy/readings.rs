//! Readings of a device: pages of them, as they were recorded or by the hour, and totals.

use super::devices::Device;
use super::loader::{HourKey, RawKey, Series, TotalsKey};
use crate::graphql::audit::door::denied;
use crate::graphql::errors::{Code, error};
use crate::graphql::paging::{PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{at_least, parts};
use crate::graphql::scalars::{BigInt, Position};
use crate::graphql::sight::permit_some;
use async_graphql::connection::{Connection, EmptyFields};
use async_graphql::dataloader::DataLoader;
use async_graphql::{Context, Enum, Result, SimpleObject};
use chrono::{DateTime, SecondsFormat, Utc};
use daybook_app::Denied;
use daybook_domain::energy::values::TimeZone;
use daybook_domain::{Action, TenantId};
use daybook_projections::energy::readings::{HourRow, ReadingRow, ReadingsSeries, Span};
use daybook_projections::engine::Lanes;
use daybook_projections::read::{Limit, Page, Slice};
use daybook_projections::{ReadError, SeriesModel};
use std::ops::Range;

pub(super) const READ_MODELS: &[&str] = &[ReadingsSeries::NAME];

pub(super) type ReadingConnection = Connection<String, Reading, EmptyFields>;

/// In which slots readings are shown.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadingResolution {
    /// As they were recorded.
    #[default]
    Raw,
    /// Added up by the hour of UTC in which they begin; hours without readings are left out.
    Hour,
}

/// Where a value comes from.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_domain::energy::values::Quality")]
pub enum ReadingQuality {
    /// By the device.
    Measured,
    /// By whoever sent it.
    Estimated,
    /// Put in place of a faulty one.
    Substituted,
}

/// The energy of a slot, or of an hour.
#[derive(SimpleObject, Clone, Debug)]
pub struct Reading {
    /// When the slot begins.
    pub start: DateTime<Utc>,
    /// The same on the wall clocks of the device's site, with their offset, e.g. `"2016-10-30T02:15:00+02:00"`; in UTC
    /// if the site's time zone is not known here.
    pub local_start: String,
    /// In watt-hours.
    pub energy_wh: BigInt,
    /// Where the value comes from; null for an hour.
    pub quality: Option<ReadingQuality>,
    /// How many readings it is made of: 1, or for an hour as many as it has.
    pub count: i32,
}

impl Reading {
    pub(super) fn of(row: ReadingRow, zone: &TimeZone) -> Self {
        Reading {
            start: row.start,
            local_start: local(row.start, zone),
            energy_wh: BigInt(row.energy_wh),
            quality: Some(row.quality.into()),
            count: 1,
        }
    }

    fn of_hour(row: HourRow, zone: &TimeZone) -> Self {
        Reading {
            start: row.hour,
            local_start: local(row.hour, zone),
            energy_wh: BigInt(row.sum_wh),
            quality: None,
            count: row.count,
        }
    }
}

fn local(instant: DateTime<Utc>, zone: &TimeZone) -> String {
    match zone.tz() {
        Some(zone) => instant.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, true),
        None => instant.to_rfc3339_opts(SecondsFormat::Secs, true),
    }
}

/// Readings added up.
#[derive(SimpleObject, Clone, Copy, Debug)]
pub struct ReadingTotals {
    /// How many there are.
    pub count: BigInt,
    /// Their sum in watt-hours.
    pub energy_wh: BigInt,
}

/// The zone as stored. It was known when it was registered: another clock in its place would tell wrong times.
pub(super) fn zone(name: &str) -> Result<TimeZone> {
    TimeZone::parse(name).map_err(|_| failed(ReadError::Damaged { read_model: "devices" }))
}

/// Whether readings of this very device may be read: rules of readings look at their device.
async fn permit_of(ctx: &Context<'_>, device: &Device, tenant: TenantId) -> Result<()> {
    let sight = permit_some(ctx, Action::ReadingsRead, tenant).await?;
    let refused = || denied(ctx, &Denied { action: Action::ReadingsRead }, tenant);
    if sight.shows(&device.row) { Ok(()) } else { Err(refused()) }
}

fn span(device: &Device, time: &Range<DateTime<Utc>>) -> Result<Span> {
    if time.start > time.end {
        return Err(error(Code::BadUserInput, "from is after to: swap them"));
    }
    Ok(Span { tenant: TenantId(device.tenant_id), from: time.start, to: time.end })
}

pub(super) async fn page(
    ctx: &Context<'_>,
    device: &Device,
    time: Range<DateTime<Utc>>,
    resolution: ReadingResolution,
    args: PageArgs,
    shown: Option<Position>,
) -> Result<ReadingConnection> {
    let span = span(device, &time)?;
    permit_of(ctx, device, span.tenant).await?;
    let opaque = &parts(ctx)?.opaque;
    let list = format!("readings v1 {} {} {resolution:?}", span.tenant, device.id);
    let page = args.page(opaque, &list)?;
    at_least(ctx, READ_MODELS, Lanes::Of(span.tenant), shown).await?;
    let loader = ctx.data::<DataLoader<Series>>()?;
    let (zone, device) = (zone(&device.site.time_zone)?, device.id);
    match resolution {
        ReadingResolution::Raw => {
            let rows = loader.load_one(RawKey { device, span, page: page.clone() }).await?;
            let rows = rows.unwrap_or_else(|| none(&page));
            connection(opaque, &list, rows, EmptyFields, |row| row.start, |row| Reading::of(row, &zone))
        }
        ReadingResolution::Hour => {
            let rows = loader.load_one(HourKey { device, span, page: page.clone() }).await?;
            let rows = rows.unwrap_or_else(|| none(&page));
            connection(opaque, &list, rows, EmptyFields, |row| row.hour, |row| Reading::of_hour(row, &zone))
        }
    }
}

/// The page of a device that has nothing there.
fn none<R>(page: &Page<DateTime<Utc>>) -> Slice<R> {
    let forwards = matches!(page.limit, Limit::First(_));
    Slice {
        rows: Vec::new(),
        has_next: !forwards && page.before.is_some(),
        has_previous: forwards && page.after.is_some(),
    }
}

pub(super) async fn totals(
    ctx: &Context<'_>,
    device: &Device,
    time: Range<DateTime<Utc>>,
    shown: Option<Position>,
) -> Result<ReadingTotals> {
    let span = span(device, &time)?;
    permit_of(ctx, device, span.tenant).await?;
    at_least(ctx, READ_MODELS, Lanes::Of(span.tenant), shown).await?;
    let totals = ctx.data::<DataLoader<Series>>()?.load_one(TotalsKey { device: device.id, span }).await?;
    let totals = totals.unwrap_or_default();
    Ok(ReadingTotals { count: BigInt::from(totals.count), energy_wh: BigInt(totals.sum_wh) })
}
