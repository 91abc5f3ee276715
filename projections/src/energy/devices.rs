//! Devices as they are now: one row per device, seen by its tenant.

mod queries;
mod row;

pub use queries::{
    DeviceCursor, DeviceField, DeviceFilter, DeviceOrder, DeviceOrderBy, count, count_query, device, devices_of, page,
    page_query, places,
};
pub use row::{DeviceRow, DeviceStatus};

use crate::engine::{ApplyError, OpenedEvent, ReadModel};
use uuid::Uuid;

/// The read model `devices`.
pub struct Devices;

impl ReadModel for Devices {
    const NAME: &'static str = "devices";
    const LANES: u16 = 4;
    const KEY: &'static [&'static str] = &["tenant_id", "device_id"];
    const ID: &'static str = "device_id";
    const COLUMNS: &'static [&'static str] = row::COLUMNS;

    type Row = DeviceRow;

    fn create_sql(version: u32) -> String {
        let table = Self::table(version);
        format!(
            r#"create table {table} (
                tenant_id         uuid        not null,
                device_id         uuid        not null,
                name              text        not null,
                -- Lower case, for sorting; "C", so that an upgrade of the system's collations cannot make an
                -- index lie.
                name_key          text        collate "C" not null,
                kind              text        not null,
                serial            text,
                -- As it is unique: without spaces, in upper case.
                serial_key        text        collate "C",
                site_name         text        not null,
                time_zone         text        not null,
                resolution_s      integer     not null,
                direction         text        not null,
                max_power_w       bigint      not null,
                status            text        not null,
                decommissioned_at timestamptz,
                reason            text,
                version           bigint      not null,
                registered_at     timestamptz not null,
                changed_at        timestamptz not null,
                tenant_position   bigint      not null,
                position          bigint      not null,
                primary key (tenant_id, device_id)
            );
            alter table {table} enable row level security;
            alter table {table} force row level security;
            create policy projector on {table} to daybook_projector using (true) with check (true);
            create policy own_tenant on {table} for select to daybook_reader
                using (tenant_id = (select nullif(current_setting('app.tenant', true), '')::uuid));
            grant select on {table} to daybook_reader;"#
        )
    }

    fn index_sql(version: u32) -> String {
        let table = Self::table(version);
        let index = format!("devices_v{version}");
        format!(
            r#"create index {index}_by_registration on {table} (tenant_id, registered_at, device_id);
            create index {index}_by_name on {table} (tenant_id, name_key, device_id);
            create index {index}_by_kind on {table} (tenant_id, kind, registered_at, device_id);
            create index {index}_by_kind_and_name on {table} (tenant_id, kind, name_key, device_id);
            create index {index}_by_status on {table} (tenant_id, status, registered_at, device_id);
            create index {index}_by_serial on {table} (tenant_id, serial_key) where serial_key is not null;"#
        )
    }

    fn wants(event_type: &str) -> bool {
        event_type.starts_with("energy.device.")
    }

    fn id(event: &OpenedEvent) -> Uuid {
        event.stream_id
    }

    fn fold(row: Option<DeviceRow>, event: &OpenedEvent) -> Result<Option<DeviceRow>, ApplyError> {
        event.fold_into(row, row::folded)
    }
}
