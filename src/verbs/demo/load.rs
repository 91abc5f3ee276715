//! Readings on their way into the demo: the bulk of the year first, then slot by slot.

use super::client::{Caller, Recorded};
use super::data::{Day, Meter};
use super::seed::command;
use crate::exit::Failure;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Days that are loaded at once: more than a million readings. The rest comes slot by slot.
pub const LOAD_DAYS: usize = 262;
/// Days in one call.
const CALL_DAYS: usize = 20;
/// Callers at the same time, each with meters of its own, so that they share no stream.
const CALLERS: usize = 4;

/// What the load came to.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub recorded: Recorded,
    /// How long each call took.
    pub calls: Vec<Duration>,
}

/// The rows of some meters for some slots.
fn csv<'a>(
    meters: &[Meter],
    range: std::ops::Range<usize>,
    slots: impl Iterator<Item = &'a (String, Vec<i64>)>,
) -> String {
    let mut text = String::from("device,time,value,unit\n");
    for (stamp, values) in slots {
        for n in range.clone() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{},{stamp},{},Wh", meters[n].serial, values[n]);
        }
    }
    text
}

/// Loads days, telling `progress` of every reading that was taken. A repeated load records nothing twice.
pub async fn load(
    tenant: &Caller,
    meters: &[Meter],
    days: &[Day],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Loaded, Failure> {
    let share = meters.len().div_ceil(CALLERS);
    let callers = (0..CALLERS).map(|caller| async move {
        let range = (caller * share).min(meters.len())..((caller + 1) * share).min(meters.len());
        let mut loaded = Loaded::default();
        for chunk in days.chunks(CALL_DAYS) {
            let id = command(&format!("readings {caller} {} {}", chunk.len(), chunk[0].date));
            let rows = csv(meters, range.clone(), chunk.iter().flat_map(|day| &day.slots));
            let (recorded, took) = tenant.record(id, rows).await?;
            progress(recorded.accepted + recorded.duplicates + recorded.rejected);
            loaded.recorded.accepted += recorded.accepted;
            loaded.recorded.duplicates += recorded.duplicates;
            loaded.recorded.rejected += recorded.rejected;
            loaded.calls.push(took);
        }
        Ok::<_, Failure>(loaded)
    });
    let mut all = Loaded::default();
    for loaded in futures_util::future::try_join_all(callers).await? {
        all.recorded.accepted += loaded.recorded.accepted;
        all.recorded.duplicates += loaded.recorded.duplicates;
        all.recorded.rejected += loaded.recorded.rejected;
        all.calls.extend(loaded.calls);
    }
    all.calls.sort_unstable();
    Ok(all)
}

/// Records one slot of every meter. `n`: which one of the day, for the repeated hour has stamps twice.
pub async fn slot(tenant: &Caller, meters: &[Meter], day: &Day, n: usize) -> Result<Recorded, Failure> {
    let id = command(&format!("slot {} {n}", day.date));
    // The hour that comes twice is told apart by order alone, so the slots before it in that hour go along.
    let stamp = &day.slots[n].0;
    let from = day.slots[..n].iter().position(|(earlier, _)| earlier == stamp).unwrap_or(n);
    let rows = csv(meters, 0..meters.len(), day.slots[from..=n].iter());
    Ok(tenant.record(id, rows).await?.0)
}

/// How far the slots are, so that the next start goes on from there. Only a shortcut: what was recorded
/// already is known to the server.
pub struct Bookmark(PathBuf);

impl Bookmark {
    /// `loaded`: days that were loaded at once, after which the slots begin.
    pub fn new(data_dir: &Path, loaded: usize) -> Self {
        Bookmark(data_dir.join(format!("demo.slot.{loaded}")))
    }

    /// (day, slot of the day)
    pub fn read(&self) -> (usize, usize) {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let mut numbers = text.split_whitespace().map_while(|n| n.parse().ok());
        (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
    }

    pub fn write(&self, day: usize, slot: usize) {
        // A lost bookmark costs a few repeated calls.
        let _ = std::fs::write(&self.0, format!("{day} {slot}\n"));
    }
}
