//! Sends the mutations on their schedule, whatever becomes of those before.

use super::LatencyError;
use super::plan::Plan;
use super::program::Api;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

/// Mutations without an answer, at most.
const IN_FLIGHT_MAX: usize = 4_096;

const RECORD: &str = "mutation($i: RecordReadingsInput!) { recordReadings(input: $i) {
    accepted position userErrors { code message } } }";

/// What became of one mutation.
pub(super) struct Sent {
    /// When it was really on its way, for the most part a little after its time.
    pub(super) at: Instant,
    pub(super) answered: Instant,
    pub(super) position: String,
}

/// What became of all of them, by number.
pub(super) struct AllSent {
    pub(super) each: Vec<Sent>,
    /// Unanswered at once, at most.
    pub(super) in_flight_max: usize,
}

type Under = JoinHandle<Result<Sent, LatencyError>>;

pub(super) struct Feed {
    ended: oneshot::Receiver<Result<(Vec<Under>, usize), LatencyError>>,
}

impl Feed {
    pub(super) fn start(plan: Plan, api: Api) -> Self {
        let (end, ended) = oneshot::channel();
        let runtime = Handle::current();
        // A thread of its own: the runtime's timers are as coarse as what is measured, and late when it is busy.
        std::thread::spawn(move || end.send(tick(&plan, &api, &runtime)).is_ok());
        Feed { ended }
    }

    /// Waits until all are answered.
    ///
    /// # Errors
    /// When one failed or recorded nothing.
    pub(super) async fn end(self) -> Result<AllSent, LatencyError> {
        let (under_way, in_flight_max) = self.ended.await.map_err(|_| LatencyError::Ended("the schedule"))??;
        let mut each = Vec::with_capacity(under_way.len());
        for sent in under_way {
            each.push(sent.await??);
        }
        Ok(AllSent { each, in_flight_max })
    }
}

fn tick(plan: &Plan, api: &Api, runtime: &Handle) -> Result<(Vec<Under>, usize), LatencyError> {
    let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut under_way = Vec::with_capacity(plan.total());
    let mut in_flight_max = 0;
    for event in 0..plan.total() {
        let (device, start, energy_wh) = plan.reading(event);
        let row = json!({ "device": device, "time": start.to_rfc3339(), "value": energy_wh.to_string(), "unit": "WH" });
        let variables = json!({ "i": { "tenant": plan.tenant(), "rows": [row] } });
        std::thread::sleep(plan.due(event).saturating_duration_since(Instant::now()));
        let permit = permits.clone().try_acquire_owned().map_err(|_| LatencyError::TooSlow(IN_FLIGHT_MAX))?;
        in_flight_max = in_flight_max.max(IN_FLIGHT_MAX - permits.available_permits());
        let api = api.clone();
        under_way.push(runtime.spawn(async move {
            let sent = record(&api, variables).await;
            drop(permit);
            sent
        }));
    }
    Ok((under_way, in_flight_max))
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "recordReadings")]
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    accepted: String,
    position: Option<String>,
    user_errors: Vec<Value>,
}

async fn record(api: &Api, variables: Value) -> Result<Sent, LatencyError> {
    let at = Instant::now();
    let Data { payload } = api.ask(RECORD, &variables).await?;
    let answered = Instant::now();
    match (payload.accepted.as_str(), payload.position) {
        ("1", Some(position)) => Ok(Sent { at, answered, position }),
        (accepted, _) => {
            Err(LatencyError::Refused(format!("{accepted} readings accepted of 1: {:?}", payload.user_errors)))
        }
    }
}
