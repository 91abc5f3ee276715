//! An aggregate of these tests alone: a till, whose events have a past, and whose stream is long.

use cqrs_es::DomainEvent;
use daybook_domain::upcast::{Origin, Upcast, UpcastError, Upcaster};
use daybook_domain::{
    Action, Context, EventSourced, Guarded, Personal, Refusal, SnapshotForm, Versioned, cqrs_aggregate,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum TillCommand {
    /// An event for each.
    Deposit {
        cents: Vec<u64>,
    },
    Hand {
        to: Personal<String>,
    },
}

impl Guarded for TillCommand {
    fn action(&self) -> Action {
        Action::TenantRename
    }
}

/// A deposit was a list once, and opening the till was an event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TillEvent {
    Deposited { cents: u64, position: Option<u64> },
    Handed { to: Personal<String> },
}

impl DomainEvent for TillEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Deposited { .. } => "test.till.deposited".to_owned(),
            Self::Handed { .. } => "test.till.handed".to_owned(),
        }
    }

    fn event_version(&self) -> String {
        match self {
            Self::Deposited { .. } => "3".to_owned(),
            Self::Handed { .. } => "1".to_owned(),
        }
    }
}

impl Versioned for TillEvent {
    const UPCASTERS: &'static [Upcaster] = &[
        Upcaster { event: "deposited", from: 1, step: one_by_one },
        Upcaster { event: "deposited", from: 2, step: with_position },
        Upcaster { event: "opened", from: 1, step: |_, _| Ok(Vec::new()) },
    ];
}

fn one_by_one(payload: Value, _: &Origin<'_>) -> Result<Vec<Upcast>, UpcastError> {
    let list = payload.get("list").and_then(Value::as_array).ok_or(UpcastError::Missing("list"))?;
    Ok(list.iter().map(|cents| Upcast::new("deposited", 2, json!({ "cents": cents }))).collect())
}

fn with_position(payload: Value, origin: &Origin<'_>) -> Result<Vec<Upcast>, UpcastError> {
    let cents = payload.get("cents").ok_or(UpcastError::Missing("cents"))?;
    Ok(vec![Upcast::new("deposited", 3, json!({ "cents": cents, "position": origin.position }))])
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("never")]
pub(crate) struct TillError;

impl Refusal for TillError {
    fn code(&self) -> &'static str {
        "NEVER"
    }

    fn path(&self) -> &'static [&'static str] {
        &[]
    }
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Till {
    pub(crate) cents: u64,
    pub(crate) deposits: u64,
    pub(crate) holder: Option<Personal<String>>,
    /// Of the deposits that were written before they told.
    pub(crate) positions: Vec<u64>,
}

cqrs_aggregate!(Till, type = "till", command = TillCommand, event = TillEvent, error = TillError);

impl EventSourced for Till {
    const CONTEXT: &'static str = "test";
    const SNAPSHOT: Option<SnapshotForm<Self>> = Some(SnapshotForm::version(7));

    fn decide(&self, _: &Context, command: TillCommand) -> Result<Vec<TillEvent>, TillError> {
        Ok(match command {
            TillCommand::Deposit { cents } => {
                cents.into_iter().map(|cents| TillEvent::Deposited { cents, position: None }).collect()
            }
            TillCommand::Hand { to } => vec![TillEvent::Handed { to }],
        })
    }
}

impl Till {
    fn apply_event(&mut self, event: TillEvent) {
        match event {
            TillEvent::Deposited { cents, position } => {
                self.cents += cents;
                self.deposits += 1;
                self.positions.extend(position);
            }
            TillEvent::Handed { to } => self.holder = Some(to),
        }
    }
}
