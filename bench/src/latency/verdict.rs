//! Whether everything arrived once and in order, and only then how long it took.

use super::LatencyError;
use super::feed::{AllSent, Sent};
use super::listen::{Heard, Place};
use super::plan::Plan;
use super::program::Api;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::time::Instant;
use uuid::Uuid;

/// Latencies beyond this count as this.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Histograms of µs since the scheduled moment, without the warm-up.
pub(super) struct Measured {
    /// Of this program itself.
    pub(super) behind: Histogram<u64>,
    pub(super) answered: Histogram<u64>,
    pub(super) subscribed: Histogram<u64>,
    pub(super) published: Option<Histogram<u64>>,
}

/// Position → place in the order of the tenant's events, as the audit trail tells it.
pub(super) struct Trail {
    ordinals: HashMap<String, u64>,
}

const TRAIL: &str = "query($t: UUID!, $a: String) { auditTrail(tenant: $t, first: 200, after: $a) {
    nodes { position ordinal } pageInfo { hasNextPage endCursor } } }";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    audit_trail: Page,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    nodes: Vec<Entry>,
    page_info: PageInfo,
}

#[derive(Deserialize)]
struct Entry {
    position: String,
    ordinal: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl Trail {
    pub(super) async fn read(api: &Api, tenant: Uuid) -> Result<Self, LatencyError> {
        let (mut ordinals, mut after) = (HashMap::new(), None);
        loop {
            let Data { audit_trail: page } = api.ask(TRAIL, &json!({ "t": tenant, "a": after })).await?;
            for Entry { position, ordinal } in page.nodes {
                let number = ordinal.parse().map_err(|_| LatencyError::Unexpected(ordinal))?;
                ordinals.insert(position, number);
            }
            after = page.page_info.end_cursor;
            if !page.page_info.has_next_page {
                return Ok(Trail { ordinals });
            }
        }
    }
}

/// # Errors
/// Whatever is missing, double or out of order.
pub(super) fn judge(plan: &Plan, sent: &AllSent, heard: &[Heard], trail: &Trail) -> Result<Measured, LatencyError> {
    let arrived = |place| -> Result<Histogram<u64>, LatencyError> {
        let at = arrivals(plan, &sent.each, heard, place, trail)?;
        Ok(times(plan, |event| at[event]))
    };
    let has_nats = heard.iter().any(|heard| heard.place == Place::Nats);
    Ok(Measured {
        behind: times(plan, |event| sent.each[event].at),
        answered: times(plan, |event| sent.each[event].answered),
        subscribed: arrived(Place::Subscription)?,
        published: if has_nats { Some(arrived(Place::Nats)?) } else { None },
    })
}

fn times(plan: &Plan, at: impl Fn(usize) -> Instant) -> Histogram<u64> {
    let mut times = Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are those of the documentation");
    for event in plan.first()..plan.total() {
        let us = at(event).saturating_duration_since(plan.due(event)).as_micros();
        times.saturating_record(u64::try_from(us).unwrap_or(LATENCY_US_MAX));
    }
    times
}

/// When each event arrived.
fn arrivals(
    plan: &Plan,
    sent: &[Sent],
    heard: &[Heard],
    place: Place,
    trail: &Trail,
) -> Result<Vec<Instant>, LatencyError> {
    let name = place.name();
    let mut at = vec![None; plan.total()];
    for heard in heard.iter().filter(|heard| heard.place == place) {
        let mut last = 0;
        for arrival in &heard.arrivals {
            let event = plan.event(arrival.device, arrival.start, arrival.energy_wh);
            let strange = || LatencyError::Strange { place: name, what: format!("{arrival:?}") };
            let event = event.ok_or_else(strange)?;
            if at[event].replace(arrival.at).is_some() {
                return Err(LatencyError::Twice { place: name, event });
            }
            if sent[event].position != arrival.position {
                return Err(LatencyError::OtherPosition { place: name, event });
            }
            let ordinal = *trail.ordinals.get(&arrival.position).ok_or_else(strange)?;
            if ordinal <= last {
                return Err(LatencyError::OutOfOrder { place: name, event });
            }
            last = ordinal;
        }
    }
    let missing = at.iter().filter(|at| at.is_none()).count();
    let first = at.iter().position(Option::is_none).unwrap_or_default();
    let all: Option<Vec<Instant>> = at.into_iter().collect();
    all.ok_or(LatencyError::Missing { place: name, missing, of: plan.total(), first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::listen::Arrival;
    use crate::latency::plan::plan;
    use std::time::Duration;

    /// Four events of two devices, the last two of them measured; everything arrives 5 ms after its time.
    fn scene() -> (Plan, AllSent, Heard, Trail) {
        let plan = plan(2, 1, 1, 2).unwrap();
        let (mut each, mut arrivals, mut ordinals) = (vec![], vec![], HashMap::new());
        for event in 0..plan.total() {
            let (position, at) = (format!("p{event}"), plan.due(event));
            let answered = at + Duration::from_millis(3);
            each.push(Sent { at, answered, position: position.clone() });
            let (device, start, energy_wh) = plan.reading(event);
            let at = at + Duration::from_millis(5);
            arrivals.push(Arrival { at, position: position.clone(), device, start, energy_wh });
            ordinals.insert(position, event as u64 + 10);
        }
        let heard = Heard { place: Place::Subscription, arrivals };
        (plan, AllSent { each, in_flight_max: 1 }, heard, Trail { ordinals })
    }

    fn judged(change: impl FnOnce(&mut Heard)) -> Result<Measured, LatencyError> {
        let (plan, sent, mut heard, trail) = scene();
        change(&mut heard);
        judge(&plan, &sent, &[heard], &trail)
    }

    #[test]
    fn times_count_from_the_schedule_and_leave_the_warm_up_out() {
        let measured = judged(|_| ()).unwrap();
        assert_eq!((measured.subscribed.len(), measured.answered.len()), (2, 2));
        assert!((4_990..=5_010).contains(&measured.subscribed.max()), "{}", measured.subscribed.max());
        assert!((2_990..=3_010).contains(&measured.answered.max()), "{}", measured.answered.max());
        assert_eq!(measured.behind.max(), 0);
        assert!(measured.published.is_none());
    }

    #[test]
    fn what_is_missing_double_strange_or_out_of_order_gives_no_figures() {
        let missing = judged(|heard| drop(heard.arrivals.remove(2)));
        assert!(matches!(missing, Err(LatencyError::Missing { missing: 1, of: 4, first: 2, .. })));
        let twice = judged(|heard| {
            let Arrival { at, ref position, device, start, energy_wh } = heard.arrivals[1];
            let again = Arrival { at, position: position.clone(), device, start, energy_wh };
            heard.arrivals.push(again);
        });
        assert!(matches!(twice, Err(LatencyError::Twice { event: 1, .. })));
        let order = judged(|heard| heard.arrivals.swap(0, 1));
        assert!(matches!(order, Err(LatencyError::OutOfOrder { event: 0, .. })));
        let strange = judged(|heard| heard.arrivals[3].energy_wh += 1);
        assert!(matches!(strange, Err(LatencyError::Strange { .. })));
        let position = judged(|heard| heard.arrivals[3].position = "p2".into());
        assert!(matches!(position, Err(LatencyError::OtherPosition { event: 3, .. })));
    }
}
