//! Devices: register, change, ask.

mod inputs;

pub use inputs::{
    ChangeDeviceMaxPowerInput, ChangeDeviceSiteInput, DecommissionDeviceInput, RegisterDeviceInput, RenameDeviceInput,
    SiteInput,
};

use super::readings::{ReadingConnection, ReadingResolution, ReadingTotals, page, totals};
use crate::graphql::Parts;
use crate::graphql::audit::door::denied;
use crate::graphql::errors::{Code, error};
use crate::graphql::filters::{DateTimeFilter, IdFilter, OrBare, TextFilter, enum_filter, filter, filter_input};
use crate::graphql::paging::{OrderDirection, PageArgs, connection};
use crate::graphql::reads::failed;
use crate::graphql::request::{Receipt, at_least, call, credential, parts, receipt, tenant_of};
use crate::graphql::scalars::{BigInt, Position};
use crate::graphql::sight::{Sight, as_seen, permit_some, sight};
use async_graphql::connection::Connection;
use async_graphql::{ComplexObject, Context, Enum, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use daybook_app::authorize;
use daybook_app::energy::{IngestError, open_tenant};
use daybook_domain::energy::device::{MaxPower, Resolution, Serial};
use daybook_domain::energy::values as domain;
use daybook_domain::energy::{Device as DeviceAggregate, DeviceCommand};
use daybook_domain::rules::FieldRead;
use daybook_domain::value::{Name, Reason};
use daybook_domain::{Action, InvalidValue, TenantId};
use daybook_projections::energy::devices::{self, DeviceField, DeviceOrder, DeviceOrderBy, DeviceRow, Devices};
use daybook_projections::engine::Lanes;
use daybook_projections::read::filter::Filter;
use daybook_projections::{ReadModel, Scope};
use inputs::Target;
use uuid::Uuid;

pub(super) const READ_MODELS: &[&str] = &[Devices::NAME];
/// As rules name them.
const RESOURCE: &str = "device";
const SERIAL: &str = "serial";

/// What a device is: which part of a site's balance its energy belongs to.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_domain::energy::values::DeviceKind")]
pub enum DeviceKind {
    /// The site's connection to the grid.
    Meter,
    /// Photovoltaics.
    Pv,
    /// A wind turbine.
    Wind,
    /// A battery that is charged and discharged.
    Battery,
    /// A charging point for electric vehicles.
    EvCharger,
    /// A heat pump.
    HeatPump,
    /// Any other consumer.
    Load,
}

/// Which way the energy of a device flows.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_domain::energy::values::Direction")]
pub enum EnergyDirection {
    /// Into the site or the device, never negative.
    Import,
    /// Out of it, never negative.
    Export,
    /// Import less export, so it has a sign.
    Net,
}

/// Whether a device is in service.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "daybook_projections::energy::devices::DeviceStatus")]
pub enum DeviceStatus {
    /// In service.
    Active,
    /// Out of service, for good. Its readings stay.
    Decommissioned,
}

/// What to sort devices by.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DeviceOrderField {
    /// When it was registered.
    #[default]
    RegisteredAt,
    /// Upper and lower case alike.
    Name,
}

/// How to sort devices.
#[derive(InputObject, Clone, Copy, Default)]
#[graphql(name = "DeviceOrder")]
pub struct Order {
    /// What to sort by.
    #[graphql(default)]
    pub field: DeviceOrderField,
    /// Which way.
    #[graphql(default)]
    pub direction: OrderDirection,
}

impl Order {
    fn order(self) -> DeviceOrder {
        let by = match self.field {
            DeviceOrderField::RegisteredAt => DeviceOrderBy::RegisteredAt,
            DeviceOrderField::Name => DeviceOrderBy::Name,
        };
        DeviceOrder { by, direction: self.direction.into() }
    }
}

enum_filter! {
    /// A condition on the kind of a device, e.g. `{ in: [PV, WIND] }`. Every operator that is given must hold.
    DeviceKindFilter of DeviceKind as daybook_domain::energy::values::DeviceKind, "`PV`.", "`[PV, WIND]`."
}

enum_filter! {
    /// A condition on the status of a device, e.g. `{ eq: ACTIVE }`. Every operator that is given must hold.
    DeviceStatusFilter of DeviceStatus as daybook_projections::energy::devices::DeviceStatus,
    "`ACTIVE`.", "`[ACTIVE]`."
}

filter_input! {
    /// Which devices; everything that is given must hold. E.g. what generates, but no test devices:
    /// `{ kind: { in: [PV, WIND] }, not: { name: { startsWith: "test" } } }`.
    DeviceFilter on DeviceField {
        /// The id, e.g. `{ eq: "0190f3e0-0000-7000-8000-000000000001" }`.
        id: IdFilter => DeviceField::Id,
        /// The name, upper and lower case alike, e.g. `{ startsWith: "roof" }`.
        name: TextFilter => DeviceField::Name,
        /// What it is, e.g. `{ in: [PV, WIND] }`; a bare `PV` is read as `{ eq: PV }`.
        kind: OrBare<DeviceKindFilter> => DeviceField::Kind,
        /// The serial number in any spelling: without spaces, upper and lower case alike, e.g. `{ startsWith: "sn 4" }`;
        /// null where there is none. A bare `"SN 42"` is read as `{ eq: "SN 42" }`.
        serial: OrBare<TextFilter> => DeviceField::Serial,
        /// Whether it is in service, e.g. `{ eq: ACTIVE }`.
        status: DeviceStatusFilter => DeviceField::Status,
        /// When it was registered, e.g. `{ gte: "2025-01-01T00:00:00Z" }`.
        registered_at: DateTimeFilter => DeviceField::RegisteredAt,
    }
}

/// Where a device stands.
#[derive(SimpleObject, Clone, Debug)]
pub struct Site {
    /// E.g. `"12 Mill Lane"`.
    pub name: String,
    /// Of the IANA database, e.g. `"Europe/Berlin"`.
    pub time_zone: String,
}

/// Something at a site whose energy is measured in slots of one length.
#[derive(SimpleObject, Clone)]
#[graphql(complex)]
pub struct Device {
    /// The id of the device.
    pub id: Uuid,
    /// The tenant it belongs to.
    pub tenant_id: Uuid,
    /// E.g. `"Roof, south"`.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Where it stands.
    pub site: Site,
    /// The length of a slot in seconds, e.g. 900.
    pub resolution_s: i32,
    /// Which way its energy flows.
    pub direction: EnergyDirection,
    /// What it can carry at most, in watts: readings above are refused.
    pub max_power_w: BigInt,
    /// Whether it is in service.
    pub status: DeviceStatus,
    /// The end of its service.
    pub decommissioned_at: Option<DateTime<Utc>>,
    /// Why it is out of service.
    pub reason: Option<String>,
    /// Number of changes so far; send it back as `expectedVersion` to change only what you have seen.
    pub version: BigInt,
    /// When it was registered.
    pub registered_at: DateTime<Utc>,
    /// When it changed last.
    pub changed_at: DateTime<Utc>,
    /// What rules look at.
    #[graphql(skip)]
    pub(super) row: DeviceRow,
}

#[ComplexObject]
impl Device {
    /// As printed on the device; unique among the tenant's devices in service. Null where there is none, or where a
    /// role of yours hides it; of a masked one the last characters show: see `maskedFields`.
    async fn serial(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        let access = credential(ctx)?.field(TenantId(self.tenant_id), RESOURCE, SERIAL);
        Ok(as_seen(access.read, self.row.serial.as_deref()))
    }

    /// Names of the fields that a role of yours hides or masks, e.g. `["serial"]`.
    async fn masked_fields(&self, ctx: &Context<'_>) -> Result<Vec<String>> {
        let access = credential(ctx)?.field(TenantId(self.tenant_id), RESOURCE, SERIAL);
        Ok(if access.read == FieldRead::Show { Vec::new() } else { vec![SERIAL.to_owned()] })
    }

    /// Readings that begin in a span of time, oldest first, a page at a time. Needs the permission `readings.read`.
    #[allow(clippy::too_many_arguments)]
    async fn readings(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From this instant, e.g. `\"2016-03-27T00:00:00+01:00\"`.")] from: DateTime<Utc>,
        #[graphql(desc = "Up to, but without, this instant.")] to: DateTime<Utc>,
        #[graphql(desc = "As they were recorded, or added up by the hour.", default)] resolution: ReadingResolution,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a call that recorded readings.")]
        at_least: Option<Position>,
    ) -> Result<ReadingConnection> {
        let args = PageArgs::new(first, after, last, before)?;
        page(ctx, self, from..to, resolution, args, at_least).await
    }

    /// Readings that begin in a span of time, added up. Needs the permission `readings.read`.
    async fn reading_totals(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From this instant.")] from: DateTime<Utc>,
        #[graphql(desc = "Up to, but without, this instant.")] to: DateTime<Utc>,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<ReadingTotals> {
        totals(ctx, self, from..to, at_least).await
    }
}

impl From<DeviceRow> for Device {
    fn from(row: DeviceRow) -> Self {
        Device {
            id: row.device_id,
            tenant_id: row.tenant_id,
            name: row.name.clone(),
            kind: row.kind.into(),
            site: Site { name: row.site_name.clone(), time_zone: row.time_zone.clone() },
            resolution_s: row.resolution_s,
            direction: row.direction.into(),
            max_power_w: BigInt(row.max_power_w),
            status: row.status.into(),
            decommissioned_at: row.decommissioned_at,
            reason: row.reason.clone(),
            version: BigInt(row.version),
            registered_at: row.registered_at,
            changed_at: row.changed_at,
            row,
        }
    }
}

/// A device, if the caller sees it.
pub(super) async fn one(ctx: &Context<'_>, tenant: TenantId, id: Uuid, sight: &Sight) -> Result<Option<Device>> {
    Ok(row(parts(ctx)?, tenant, id).await?.filter(|row| sight.shows(row)).map(Device::from))
}

/// The row of a device, whoever asks.
pub(crate) async fn row(parts: &Parts, tenant: TenantId, id: Uuid) -> Result<Option<DeviceRow>> {
    let reader = parts.reads.reader();
    let row = reader.transaction(Scope::Tenant(tenant), async |session| devices::device(session, tenant, id).await);
    row.await.map_err(failed)
}

/// Asking by a field that is hidden would tell what it is.
fn refuse_hidden(ctx: &Context<'_>, tenant: TenantId, filter: &Filter<DeviceField>) -> Result<()> {
    let access = credential(ctx)?.field(tenant, RESOURCE, SERIAL);
    if access.read == FieldRead::Show || !filter.names(DeviceField::Serial) {
        return Ok(());
    }
    Err(error(Code::Forbidden, "filter.serial is hidden from you by a role: leave it out"))
}

/// What a mutation of a device led to.
#[derive(SimpleObject)]
#[graphql(complex)]
pub struct DevicePayload {
    #[graphql(flatten)]
    receipt: Receipt,
}

#[ComplexObject]
impl DevicePayload {
    /// The device after the change. Null when the business refused, or when the caller may not read it.
    async fn device(&self, ctx: &Context<'_>) -> Result<Option<Device>> {
        match self.receipt.shown_some(ctx, Action::DeviceRead, READ_MODELS).await? {
            Some((written, sight)) => one(ctx, written.tenant, written.id, &sight).await,
            None => Ok(None),
        }
    }
}

#[derive(Default)]
pub struct DeviceQuery;

#[Object]
impl DeviceQuery {
    /// One device. Null when there is none with this id, or none that you may read.
    async fn device(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Id of the device.")] id: Uuid,
        #[graphql(desc = "The tenant of the device; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Wait until this moment shows, e.g. the `position` of a mutation.")] at_least: Option<
            Position,
        >,
    ) -> Result<Option<Device>> {
        let tenant = tenant_of(ctx, tenant)?;
        let Some(sight) = sight(ctx, Action::DeviceRead, tenant).await? else { return Ok(None) };
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        one(ctx, tenant, id, &sight).await
    }

    /// The devices of a tenant, a page at a time.
    #[allow(clippy::too_many_arguments)]
    async fn devices(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The tenant; your own unless told.")] tenant: Option<Uuid>,
        #[graphql(desc = "Which devices; all unless told.")] filter: Option<DeviceFilter>,
        #[graphql(desc = "How many from the start, 1–200; 50 unless told.")] first: Option<i32>,
        #[graphql(desc = "Continue after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many from the end, 1–200.")] last: Option<i32>,
        #[graphql(desc = "Continue before this cursor.")] before: Option<String>,
        #[graphql(desc = "What to sort by; the id decides between equals.", default)] order_by: Order,
        #[graphql(desc = "Wait until this moment shows.")] at_least: Option<Position>,
    ) -> Result<Connection<String, Device, DeviceCount>> {
        let tenant = tenant_of(ctx, tenant)?;
        let sight = permit_some(ctx, Action::DeviceList, tenant).await?;
        let filter = self::filter(filter)?;
        refuse_hidden(ctx, tenant, &filter)?;
        let args = PageArgs::new(first, after, last, before)?;
        let list = format!("devices v2 {tenant} {:?} {:?} {filter:?}", order_by.field, order_by.direction);
        let opaque = &parts(ctx)?.opaque;
        let page = args.page(opaque, &list)?;
        self::at_least(ctx, READ_MODELS, Lanes::Of(tenant), at_least).await?;
        let (reader, order) = (parts(ctx)?.reads.reader(), order_by.order());
        let slice = reader.transaction(Scope::Tenant(tenant), async |session| {
            devices::page(session, tenant, &filter, sight.rule(), order, &page).await
        });
        let slice = slice.await.map_err(failed)?;
        let counted = DeviceCount { tenant, filter, sight };
        connection(opaque, &list, slice, counted, |row| row.cursor(order.by), Device::from)
    }
}

/// Counted only when asked for.
pub struct DeviceCount {
    tenant: TenantId,
    filter: Filter<DeviceField>,
    sight: Sight,
}

#[Object]
impl DeviceCount {
    /// How many devices there are on all pages.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<BigInt> {
        let reader = parts(ctx)?.reads.reader();
        let count = reader.transaction(Scope::Tenant(self.tenant), async |session| {
            devices::count(session, self.tenant, &self.filter, self.sight.rule()).await
        });
        Ok(BigInt::from(count.await.map_err(failed)?))
    }
}

#[derive(Default)]
pub struct DeviceMutation;

#[Object]
impl DeviceMutation {
    /// Registers a device.
    async fn register_device(&self, ctx: &Context<'_>, input: RegisterDeviceInput) -> Result<DevicePayload> {
        // The id follows from the command, so a repeat is about the same device.
        let command_id = input.client_mutation_id.map_or_else(|| parts(ctx).map(|p| p.system.uuid_v7()), Ok)?;
        let id = Uuid::new_v5(&credential(ctx)?.actor.id, command_id.as_bytes());
        let command = || -> Result<DeviceCommand, InvalidValue> {
            Ok(DeviceCommand::Register {
                name: Name::parse(&input.name)?,
                kind: input.kind.into(),
                serial: input.serial.as_deref().map(Serial::parse).transpose()?,
                site: input.site.parse()?,
                resolution_s: Resolution::parse(i64::from(input.resolution_s))?,
                direction: domain::Direction::from(input.direction),
                max_power_w: MaxPower::parse(input.max_power_w.0)?,
            })
        };
        let command_id = input.client_mutation_id.map(|_| command_id);
        let target = Target { tenant: input.tenant, id, expected_version: None, command_id };
        carry_out(ctx, target, command()).await
    }

    /// Gives a device another name.
    async fn rename_device(&self, ctx: &Context<'_>, input: RenameDeviceInput) -> Result<DevicePayload> {
        let command = Name::parse(&input.name).map(|name| DeviceCommand::Rename { name });
        carry_out(ctx, input.target(), command).await
    }

    /// Puts a device elsewhere, or describes its site anew.
    async fn change_device_site(&self, ctx: &Context<'_>, input: ChangeDeviceSiteInput) -> Result<DevicePayload> {
        let command = input.site.parse().map(|site| DeviceCommand::ChangeSite { site });
        carry_out(ctx, input.target(), command).await
    }

    /// Changes what a device can carry at most.
    async fn change_device_max_power(
        &self,
        ctx: &Context<'_>,
        input: ChangeDeviceMaxPowerInput,
    ) -> Result<DevicePayload> {
        let command =
            MaxPower::parse(input.max_power_w.0).map(|max_power_w| DeviceCommand::ChangeMaxPower { max_power_w });
        carry_out(ctx, input.target(), command).await
    }

    /// Takes a device out of service, for good. Its serial number is free again; its readings stay.
    async fn decommission_device(&self, ctx: &Context<'_>, input: DecommissionDeviceInput) -> Result<DevicePayload> {
        let command = Reason::parse(&input.reason).map(|reason| DeviceCommand::Decommission { reason });
        carry_out(ctx, input.target(), command).await
    }
}

async fn carry_out(
    ctx: &Context<'_>,
    target: Target,
    command: Result<DeviceCommand, InvalidValue>,
) -> Result<DevicePayload> {
    let command = match command {
        Ok(command) => command,
        Err(invalid) => return Ok(DevicePayload { receipt: Receipt::refused(invalid) }),
    };
    let tenant = tenant_of(ctx, target.tenant)?;
    let authorized = authorize(credential(ctx)?, tenant, command).map_err(|d| denied(ctx, &d, tenant))?;
    let executor = &parts(ctx)?.executor;
    open_tenant(executor, tenant).await.map_err(of_ingest)?;
    let call = call(ctx, target.command_id, target.expected_version)?;
    let executed = executor.execute::<DeviceAggregate>(authorized, target.id, call).await;
    Ok(DevicePayload { receipt: receipt(ctx, target.id, executed)? })
}

/// What stops a call as a whole, in the client's terms.
pub(super) fn of_ingest(failure: IngestError) -> async_graphql::Error {
    match failure {
        IngestError::Denied(of) => crate::graphql::errors::denied(&of),
        IngestError::UnknownTenant => error(Code::NotFound, failure.to_string()),
        IngestError::TenantNotActive => error(Code::Conflict, failure.to_string()),
        IngestError::Append(append) => crate::graphql::errors::of_append(append),
        IngestError::Codec(cause) => crate::graphql::errors::internal(&cause),
        IngestError::Seal(cause) => crate::graphql::errors::internal(&cause),
    }
}
