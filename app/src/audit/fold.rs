//! From the type of a stream to the aggregate that folds it.

use daybook_domain::EventSourced;
use daybook_domain::energy::Device;
use daybook_domain::platform::{
    AccessGrant, Account, Consent, DefinedRole, Membership, Module, ModuleSwitch, Projection, Service, Session, Tenant,
};
use daybook_domain::upcast::Origin;
use daybook_store::codec::{self, CodecError};
use serde::Serialize;
use serde_json::Value;

/// Streams whose state is as large as their events; each event tells of itself.
pub(super) const READINGS: &str = "readings";

/// The state of a stream, of whatever type.
pub(super) trait Folded: Send {
    /// Applies what the stored event is read as.
    fn apply(&mut self, origin: &Origin<'_>, payload: &str) -> Result<(), CodecError>;
    /// The payloads that the stored one is read as.
    fn payloads(&self, origin: &Origin<'_>, payload: &str) -> Result<Vec<Value>, CodecError>;
    fn json(&self) -> Value;
}

struct Of<A>(A);

impl<A: EventSourced + Serialize + Send> Folded for Of<A> {
    fn apply(&mut self, origin: &Origin<'_>, payload: &str) -> Result<(), CodecError> {
        codec::decode(origin, payload)?.into_iter().for_each(|event| self.0.apply(event));
        Ok(())
    }

    fn payloads(&self, origin: &Origin<'_>, payload: &str) -> Result<Vec<Value>, CodecError> {
        codec::payloads::<A::Event>(origin, payload)
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
    ("session", new::<Session>),
    ("membership", new::<Membership>),
    ("service", new::<Service>),
    ("role", new::<DefinedRole>),
    ("consent", new::<Consent>),
    ("module", new::<Module>),
    ("module_switch", new::<ModuleSwitch>),
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
    use daybook_domain::TenantId;
    use daybook_domain::registry::event_contracts;
    use uuid::Uuid;

    #[test]
    fn every_aggregate_has_its_fold_and_every_sample_folds() {
        for contract in event_contracts() {
            if contract.stream_type == READINGS {
                continue;
            }
            let mut state = of(contract.stream_type).unwrap_or_else(|| panic!("no fold of {}", contract.stream_type));
            let origin = Origin {
                event_type: &contract.event_type,
                event_version: contract.version.parse().unwrap(),
                tenant: TenantId(Uuid::nil()),
                stream_type: contract.stream_type,
                stream_id: Uuid::nil(),
                sequence: 1,
                position: 1,
                recorded_at: chrono::DateTime::UNIX_EPOCH,
            };
            for sample in &contract.samples {
                state.apply(&origin, &sample.to_string()).unwrap();
            }
        }
    }
}
