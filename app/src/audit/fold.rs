//! From the type of a stream to the aggregate that folds it.

use daybook_domain::EventSourced;
use daybook_domain::energy::Device;
use daybook_domain::platform::{AccessGrant, Account, Membership, Module, Projection, Tenant};
use daybook_store::codec::{self, CodecError};
use serde::Serialize;
use serde_json::Value;

/// Streams whose state is as large as their events; each event tells of itself.
pub(super) const READINGS: &str = "readings";

/// The state of a stream, of whatever type.
pub(super) trait Folded: Send {
    fn apply(&mut self, event_type: &str, version: u32, payload: &str) -> Result<(), CodecError>;
    fn json(&self) -> Value;
}

struct Of<A>(A);

impl<A: EventSourced + Serialize + Send> Folded for Of<A> {
    fn apply(&mut self, event_type: &str, version: u32, payload: &str) -> Result<(), CodecError> {
        self.0.apply(codec::decode(event_type, version, payload)?);
        Ok(())
    }

    fn json(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}

fn new<A: EventSourced + Serialize + Send + 'static>() -> Box<dyn Folded> {
    Box::new(Of(A::default()))
}

type Fresh = fn() -> Box<dyn Folded>;

/// Every aggregate but [`READINGS`]. A new one is a line here.
const FOLDS: &[(&str, Fresh)] = &[
    ("tenant", new::<Tenant>),
    ("account", new::<Account>),
    ("membership", new::<Membership>),
    ("module", new::<Module>),
    ("grant", new::<AccessGrant>),
    ("projection", new::<Projection>),
    ("device", new::<Device>),
];

/// The state before the first event of a stream.
pub(super) fn of(stream_type: &str) -> Option<Box<dyn Folded>> {
    FOLDS.iter().find(|(name, _)| *name == stream_type).map(|(_, fresh)| fresh())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_domain::registry::event_contracts;

    #[test]
    fn every_aggregate_has_its_fold_and_every_sample_folds() {
        for contract in event_contracts() {
            if contract.stream_type == READINGS {
                continue;
            }
            let mut state = of(contract.stream_type).unwrap_or_else(|| panic!("no fold of {}", contract.stream_type));
            let version = contract.version.parse().unwrap();
            for sample in &contract.samples {
                state.apply(&contract.event_type, version, &sample.to_string()).unwrap();
            }
        }
    }
}
