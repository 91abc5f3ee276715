//! What every aggregate promises beyond cqrs-es.

use crate::condition::Value;
use crate::context::Context;
use crate::snapshot::SnapshotForm;
use crate::upcast::Versioned;
use uuid::Uuid;

/// A unique key that an event takes or gives up, e.g. a tenant's domain.
/// The journal keeps only a keyed hash of `key`, and checks it in the transaction of the event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyChange {
    pub scope: KeyScope,
    /// What kind of key, e.g. `tenant.domain`. Keys of different kinds never collide.
    pub kind: &'static str,
    /// The key in its normal form (lower case, trimmed, …).
    pub key: String,
    /// `true` takes the key, `false` releases it.
    pub claim: bool,
}

/// Within what a key is unique.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyScope {
    Tenant,
    Platform,
}

/// An expected refusal: data for the caller, who can act on it. `Display` is the message.
pub trait Refusal: std::error::Error + Send + Sync + 'static {
    /// UPPER_SNAKE, stable: clients match on it.
    fn code(&self) -> &'static str;
    /// Path of the input field that is at fault, e.g. `["name"]`; empty for the whole command.
    fn path(&self) -> &'static [&'static str];
}

/// An aggregate as Daybook runs it: a pure decision over a state folded from events.
///
/// `cqrs_es::Aggregate::handle` is a thin adapter over [`EventSourced::decide`]
/// (see the macro [`crate::cqrs_aggregate!`]): it exists for the test framework and for
/// foreign stores; the executor calls `decide`.
pub trait EventSourced: cqrs_es::Aggregate<Services = Context, Event: Versioned, Error: Refusal> + Clone {
    /// The context folder it belongs to, e.g. `platform`. First part of an event's type.
    const CONTEXT: &'static str;

    /// How its state is kept, where streams can become long. `None`: every load folds all of its events.
    const SNAPSHOT: Option<SnapshotForm<Self>> = None;

    /// Pure. Nothing is changed here; no events means "already so".
    fn decide(&self, context: &Context, command: Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// A field of its present state, by the name that rules know it by; `id` is that of its stream. None before there is
    /// anything, and where conditions cannot be asked of such a record at all.
    fn field(&self, _id: Uuid, _field: &str) -> Option<Value> {
        None
    }

    /// The unique keys that `events`, decided in this state, take and release.
    fn keys(&self, _events: &[Self::Event]) -> Vec<KeyChange> {
        Vec::new()
    }
}

/// Implements `cqrs_es::Aggregate` for an [`EventSourced`] type with a method `apply_event(&mut self, Event)`.
#[macro_export]
macro_rules! cqrs_aggregate {
    ($aggregate:ty, type = $type:literal, command = $command:ty, event = $event:ty, error = $error:ty) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = $type;
            type Command = $command;
            type Event = $event;
            type Error = $error;
            type Services = $crate::Context;

            async fn handle(
                &mut self,
                command: Self::Command,
                context: &Self::Services,
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), Self::Error> {
                for event in $crate::EventSourced::decide(self, context, command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: Self::Event) {
                self.apply_event(event);
            }
        }
    };
}
