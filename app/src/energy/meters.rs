//! The devices that a call names, for the length of the call: who they are, and how far their wall clocks have come.

use super::report::Rejected;
use super::states::states;
use super::{IngestError, SentRow};
use crate::authorize::Credential;
use crate::executor::Executor;
use chrono::{DateTime, Utc};
use daybook_domain::TenantId;
use daybook_domain::condition::Claims;
use daybook_domain::energy::Device;
use daybook_domain::energy::device::{Profile, SERIAL_KEY, Serial, field_of};
use daybook_domain::energy::local_time::{InOrder, Stamp};
use daybook_domain::energy::values::{DeviceId, Resolution, TimeZone};
use daybook_domain::rules::Verdict;
use daybook_store::journal::ClaimKey;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Devices of one call.
const DEVICES_MAX: usize = 20_000;
/// Devices of one look-up.
const LOOK_UP_MAX: usize = 1_000;

pub(super) struct Meters {
    /// Of which devices the caller may record readings. Others are not there for it.
    permitted: Verdict,
    claims: Claims,
    /// By the text that names them; one device may have several.
    known: HashMap<String, usize>,
    places: HashMap<Uuid, usize>,
    devices: Vec<Meter>,
}

struct Meter {
    id: DeviceId,
    /// None if this program does not know the zone of the site.
    clock: Option<InOrder>,
    /// What the clock was made of.
    site: (TimeZone, Resolution),
    /// A local time was told by it.
    told: bool,
}

impl Meters {
    pub(super) fn of(permitted: Verdict, credential: &Credential) -> Self {
        Meters {
            permitted,
            claims: credential.claims(),
            known: HashMap::new(),
            places: HashMap::new(),
            devices: Vec::new(),
        }
    }

    /// Whether readings of a device as it is may be recorded.
    pub(super) fn permits(&self, device: &Device, id: Uuid) -> bool {
        match &self.permitted {
            Verdict::Always => true,
            Verdict::Never => false,
            Verdict::If(condition) => condition.judge(&|field: &str| field_of(device, id, field), &self.claims).holds(),
        }
    }

    /// Finds the devices that are named for the first time: two look-ups, however many rows there are.
    pub(super) async fn look_up(
        &mut self,
        executor: &Executor,
        tenant: TenantId,
        rows: &[SentRow],
    ) -> Result<(), IngestError> {
        if self.known.len() >= 2 * DEVICES_MAX {
            self.known.clear();
        }
        let mut new = HashSet::new();
        let (mut ids, mut serials) = (Vec::new(), Vec::new());
        for row in rows {
            if self.known.contains_key(&row.device) || !new.insert(row.device.as_str()) {
                continue;
            }
            match (row.device.parse::<Uuid>(), Serial::parse(&row.device)) {
                (Ok(id), _) => ids.push((row.device.as_str(), id)),
                (Err(_), Ok(serial)) => serials.push((row.device.as_str(), serial)),
                (Err(_), Err(_)) => {}
            }
        }
        for chunk in serials.chunks(LOOK_UP_MAX) {
            let claim = |serial: &Serial| ClaimKey {
                scope: tenant,
                kind: SERIAL_KEY,
                hash: executor.files.unique_hash(SERIAL_KEY, &serial.key()),
            };
            let keys: Vec<ClaimKey> = chunk.iter().map(|(_, serial)| claim(serial)).collect();
            let (_, holders) = executor.journal.holders(&keys).await?;
            ids.extend(chunk.iter().zip(holders).filter_map(|((text, _), holder)| Some((*text, holder?))));
        }
        for chunk in ids.chunks(LOOK_UP_MAX) {
            let wanted: HashSet<Uuid> = chunk.iter().map(|(_, id)| *id).collect();
            let states = states::<Device>(executor, &executor.cache, tenant, wanted.into_iter()).await?;
            for (text, id) in chunk {
                let device = states.get(id).map(|cached| &cached.state).filter(|device| self.permits(device, *id));
                let Some(profile) = device.and_then(Device::profile) else { continue };
                if self.devices.len() == DEVICES_MAX && !self.places.contains_key(id) {
                    continue;
                }
                let clock = profile.site.time_zone.tz().map(|zone| InOrder::new(zone, profile.resolution_s.seconds()));
                let place = *self.places.entry(*id).or_insert(self.devices.len());
                if place == self.devices.len() {
                    let site = (profile.site.time_zone.clone(), profile.resolution_s);
                    self.devices.push(Meter { id: DeviceId(*id), clock, site, told: false });
                }
                self.known.insert((*text).to_owned(), place);
            }
        }
        Ok(())
    }

    /// Whether the rows of a device that were placed before would be placed alike by what it is now.
    pub(super) fn is_as_placed(&self, device: DeviceId, now: Option<&Profile>) -> bool {
        let meter = self.places.get(&device.0).and_then(|place| self.devices.get(*place)).filter(|meter| meter.told);
        meter.is_none_or(|meter| {
            now.is_some_and(|now| (&now.site.time_zone, &now.resolution_s) == (&meter.site.0, &meter.site.1))
        })
    }

    /// The device and the instant of a row. Rows of a device come in the order in which they were sent.
    ///
    /// # Errors
    /// What is not clear is refused.
    pub(super) fn place(&mut self, row: &SentRow) -> Result<(DeviceId, DateTime<Utc>), Rejected> {
        let refused =
            |code, field, message: String| Err(Rejected { index: row.index, code, field: Some(field), message });
        let full = self.devices.len() == DEVICES_MAX;
        let place = self.known.get(&row.device).copied();
        let Some(meter) = place.and_then(|place| self.devices.get_mut(place)) else {
            if full {
                let message =
                    format!("a call has readings of at most {DEVICES_MAX} devices; send the others in another one");
                return refused("TOO_MANY_DEVICES", "device", message);
            }
            return Err(unknown(row.index));
        };
        match (row.time, &mut meter.clock) {
            (Stamp::Instant(instant), _) => Ok((meter.id, instant)),
            (Stamp::Local(local), Some(clock)) => match clock.next(local) {
                Ok(instant) => {
                    meter.told = true;
                    Ok((meter.id, instant))
                }
                Err(refusal) => Err(Rejected { field: Some("time"), ..Rejected::of(row.index, &refusal) }),
            },
            (Stamp::Local(_), None) => {
                let message = "the time zone of the device's site is not known here; send times with an offset";
                refused("TIME_ZONE_UNKNOWN", "time", message.into())
            }
        }
    }
}

/// A row of a device that there is not, or that is not there for the caller: the same for both.
pub(super) fn unknown(index: u64) -> Rejected {
    let message = "there is no device with this id or serial number; register it first, then send the row again";
    Rejected { index, code: "DEVICE_UNKNOWN", field: Some("device"), message: message.to_owned() }
}
