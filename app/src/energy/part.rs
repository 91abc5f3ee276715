//! One part of a call: what fits into one append, in the order in which it was sent.

use chrono::NaiveDate;
use daybook_domain::energy::readings::{ROWS_MAX as DAY_ROWS_MAX, Row, readings_stream, utc_day};
use daybook_domain::energy::values::DeviceId;
use daybook_store::journal::append::STREAMS_MAX;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Rows of one append.
pub(super) const ROWS_MAX: usize = 20_000;

/// The rows of one device and one UTC day.
pub(super) struct Group {
    pub(super) device: DeviceId,
    pub(super) day: NaiveDate,
    /// The id of their stream.
    pub(super) stream: Uuid,
    pub(super) rows: Vec<Row>,
    /// The place of each row in the call.
    pub(super) indexes: Vec<u64>,
}

/// Rows that wait to be judged.
#[derive(Default)]
pub(super) struct Part {
    pub(super) groups: Vec<Group>,
    places: HashMap<(DeviceId, NaiveDate), usize>,
    devices: HashSet<DeviceId>,
    rows: usize,
    content: Sha256,
}

impl Part {
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether a row still fits. Each device counts as a stream as well: its append reads it.
    pub(super) fn fits(&self, device: DeviceId, row: &Row) -> bool {
        match self.places.get(&(device, utc_day(row.start))) {
            _ if self.rows >= ROWS_MAX => false,
            Some(place) => self.groups[*place].rows.len() < DAY_ROWS_MAX,
            None => {
                let devices = self.devices.len() + usize::from(!self.devices.contains(&device));
                self.groups.len() + 1 + devices <= STREAMS_MAX
            }
        }
    }

    pub(super) fn push(&mut self, index: u64, device: DeviceId, row: Row) {
        let day = utc_day(row.start);
        let place = *self.places.entry((device, day)).or_insert_with(|| {
            let stream = readings_stream(device, day);
            self.groups.push(Group { device, day, stream, rows: Vec::new(), indexes: Vec::new() });
            self.groups.len() - 1
        });
        self.devices.insert(device);
        self.rows += 1;
        self.content.update(device.0.as_bytes());
        self.content.update(row.start.timestamp_micros().to_be_bytes());
        self.content.update(row.energy_wh.to_be_bytes());
        self.content.update([row.quality as u8]);
        self.groups[place].rows.push(row);
        self.groups[place].indexes.push(index);
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.devices.iter().copied()
    }

    /// What makes two requests the same: who, where, and the rows in their order.
    pub(super) fn digest(&self, action: &str, tenant: Uuid, actor: Uuid) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(action.as_bytes());
        hasher.update([0]);
        hasher.update(tenant.as_bytes());
        hasher.update(actor.as_bytes());
        hasher.update(self.content.clone().finalize());
        hasher.finalize().into()
    }
}
