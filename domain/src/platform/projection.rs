//! What operators decide about a read model: which events it leaves out. A stream per read model, in the platform's tenant.
//!
//! It knows neither the rows nor whether an event can be applied: that is the projection engine's, which leaves an event
//! out only once the decision is durable here.

use crate::action::{Action, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::Context;
use crate::ids::{PLATFORM_TENANT, SubjectId};
use crate::personal::Personal;
use crate::value::{Name, Reason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The one stream of decisions about a read model: UUIDv5, in the platform's namespace, of its name.
pub fn projection_id(read_model: &str) -> Uuid {
    Uuid::new_v5(&PLATFORM_TENANT.0, format!("projection {read_model}").as_bytes())
}

/// Whose personal data an operator's name is, when all that is known of him is his name on the machine.
pub fn operator_subject(operator: &str) -> SubjectId {
    SubjectId(Uuid::new_v5(&PLATFORM_TENANT.0, format!("operator {operator}").as_bytes()))
}

/// What can be decided about a read model. Its JSON form is for the hash of a request; it is never read back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectionCommand {
    /// The event of this journal position is left out, for good and in every version.
    SkipEvent { read_model: Name, position: u64, reason: Reason, operator: Personal<Name> },
}

impl Guarded for ProjectionCommand {
    fn action(&self) -> Action {
        match self {
            Self::SkipEvent { .. } => Action::ProjectionSkipEvent,
        }
    }
}

/// What was decided. A payload in the journal is the inner object; its tag is in the event's type.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProjectionEvent {
    /// The read model leaves one event out, for good and in every version; the journal keeps it.
    EventSkipped {
        read_model: Name,
        /// The journal position of the event.
        position: u64,
        reason: Reason,
        /// Who asked for it, by the name on the machine.
        operator: Personal<Name>,
    },
}

impl cqrs_es::DomainEvent for ProjectionEvent {
    fn event_type(&self) -> String {
        let event = match self {
            Self::EventSkipped { .. } => "event_skipped",
        };
        format!("platform.projection.{event}")
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

/// Why a decision is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error("this is the stream of another read model; decide in its own")]
    ForeignStream,
}

impl Refusal for ProjectionError {
    fn code(&self) -> &'static str {
        match self {
            Self::ForeignStream => "PROJECTION_FOREIGN_STREAM",
        }
    }

    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::ForeignStream => &["readModel"],
        }
    }
}

/// What is left out of a read model.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Projection {
    skipped: BTreeSet<u64>,
}

impl Projection {
    /// Journal positions.
    pub fn skipped(&self) -> &BTreeSet<u64> {
        &self.skipped
    }

    fn apply_event(&mut self, event: ProjectionEvent) {
        match event {
            ProjectionEvent::EventSkipped { position, .. } => self.skipped.insert(position),
        };
    }
}

impl crate::Versioned for ProjectionEvent {}

crate::cqrs_aggregate!(
    Projection,
    type = "projection",
    command = ProjectionCommand,
    event = ProjectionEvent,
    error = ProjectionError
);

impl EventSourced for Projection {
    const CONTEXT: &'static str = "platform";

    fn decide(&self, context: &Context, command: ProjectionCommand) -> Result<Vec<ProjectionEvent>, ProjectionError> {
        let ProjectionCommand::SkipEvent { read_model, position, reason, operator } = command;
        if context.id != projection_id(read_model.as_str()) {
            return Err(ProjectionError::ForeignStream);
        }
        if self.skipped.contains(&position) {
            return Ok(vec![]);
        }
        Ok(vec![ProjectionEvent::EventSkipped { read_model, position, reason, operator }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::testing::{context, given, name, reason};

    fn skip(position: u64) -> ProjectionCommand {
        let operator = Personal::known(operator_subject("ada"), name("ada"));
        ProjectionCommand::SkipEvent { read_model: name("devices"), position, reason: reason("damaged"), operator }
    }

    fn skipped(position: u64) -> ProjectionEvent {
        let ProjectionCommand::SkipEvent { read_model, position, reason, operator } = skip(position);
        ProjectionEvent::EventSkipped { read_model, position, reason, operator }
    }

    #[test]
    fn an_event_is_skipped_once() {
        let own = context(projection_id("devices"));
        given::<Projection>(own, vec![]).when(skip(7)).then_expect_events(vec![skipped(7)]);
        given::<Projection>(own, vec![skipped(7)]).when(skip(7)).then_expect_events(vec![]);
        given::<Projection>(own, vec![skipped(7)]).when(skip(8)).then_expect_events(vec![skipped(8)]);
    }

    #[test]
    fn a_decision_about_another_read_model_is_refused() {
        let other = context(projection_id("tenants"));
        given::<Projection>(other, vec![]).when(skip(7)).then_expect_error(ProjectionError::ForeignStream);
    }
}
