//! What every aggregate is tested for in the same way: its transition table, and what holds for any commands.

use crate::action::{Action, ActionKind, Guarded};
use crate::aggregate::{EventSourced, Refusal};
use crate::context::{Actor, ActorKind, Context, EventIds};
use crate::ids::TenantId;
use crate::value::{Name, Reason};
use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use cqrs_es::test::{AggregateTestExecutor, TestFramework};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use uuid::Uuid;

/// The tenant of all these tests.
pub(crate) const TENANT: TenantId = TenantId(Uuid::from_u128(7));

/// A decision of the stream `id` in [`TENANT`], at [`at`]`(0)`.
pub(crate) fn context(id: Uuid) -> Context {
    Context {
        id,
        tenant: TENANT,
        actor: Actor { id: Uuid::from_u128(1), kind: ActorKind::Account },
        now: at(0),
        ids: EventIds { seed: Uuid::from_u128(2) },
    }
}

/// So many hours after the moment of [`context`].
pub(crate) fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::hours(hours)
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

pub(crate) fn reason(text: &str) -> Reason {
    Reason::parse(text).expect("a reason")
}

pub(crate) fn given<A: EventSourced>(context: Context, history: Vec<A::Event>) -> AggregateTestExecutor<A> {
    TestFramework::<A>::with(context).given(history)
}

pub(crate) fn fold<A: EventSourced>(history: Vec<A::Event>) -> A {
    applied(&A::default(), &history)
}

pub(crate) fn applied<A: EventSourced>(before: &A, events: &[A::Event]) -> A {
    let mut state = before.clone();
    events.iter().cloned().for_each(|event| state.apply(event));
    state
}

pub(crate) fn through_json<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("serializes");
    serde_json::from_str(&text).expect("decodes")
}

/// Checks a table whose rows are actions and whose columns are states: what every command does in every state.
/// A row of the form `<action>-<variant>` is another command of the same action.
///
/// Its columns have to be `columns`, and its rows all commands whose action begins with the aggregate's type.
pub(crate) fn check_transitions<A>(
    table: &str,
    context: &Context,
    columns: &[&str],
    command_of: impl Fn(&str) -> A::Command,
    history_of: impl Fn(&str) -> Vec<A::Event>,
    column_of: impl Fn(&A) -> &'static str,
) where
    A: EventSourced,
    A::Command: Guarded,
{
    let mut rows =
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|cells| !cells.is_empty());
    let header = rows.next().expect("a header");
    assert_eq!(header[1..], *columns, "the columns are the states");
    for column in columns {
        assert_eq!(column_of(&fold::<A>(history_of(column))), *column, "the history of {column}");
    }

    let mut covered = BTreeSet::new();
    for row in rows {
        assert_eq!(row.len(), header.len(), "{row:?}");
        let action = row[0].split_once('-').map_or(row[0], |(action, _)| action);
        assert_eq!(command_of(row[0]).action().as_str(), action);
        covered.insert(action);
        for (column, expected) in columns.iter().zip(&row[1..]) {
            let outcome = match given::<A>(*context, history_of(column)).when(command_of(row[0])).inspect_result() {
                Ok(events) => outcome_of::<A>(&events),
                Err(refusal) => refusal.code().to_owned(),
            };
            assert_eq!(&outcome, expected, "{} while {column}", row[0]);
        }
    }
    let of_this = |action: &&Action| {
        action.kind() == ActionKind::Command && action.as_str().split_once('.').is_some_and(|(noun, _)| noun == A::TYPE)
    };
    let commands: BTreeSet<_> = Action::ALL.iter().filter(of_this).map(|action| action.as_str()).collect();
    assert_eq!(covered, commands, "the rows are the commands");
}

fn outcome_of<A: EventSourced>(events: &[A::Event]) -> String {
    match events {
        [] => "already-so".to_owned(),
        [event] => event.event_type().rsplit('.').next().unwrap_or_default().to_owned(),
        many => panic!("{} events where the table has room for one", many.len()),
    }
}

/// Checks what holds for any sequence of calls: a decision is the same each time; no events means "already so", and
/// only that; carried out twice it changes nothing (or is refused with one of `refused_again`); what is written down
/// gives the same state when read back; and the adapter for foreign stores decides as the executor does.
/// `inspect` sees the context and state after each call.
pub(crate) fn check_calls<A>(calls: &[(Context, A::Command)], refused_again: &[&str], inspect: impl Fn(&Context, &A))
where
    A: EventSourced + PartialEq + Debug,
    A::Command: Clone + Debug,
    A::Error: PartialEq,
{
    let (mut state, mut replayed, mut history) = (A::default(), A::default(), Vec::new());
    for (context, command) in calls {
        let decided = state.decide(context, command.clone());
        assert_eq!(decided, state.decide(context, command.clone()), "{command:?} is decided the same each time");
        let handled = given::<A>(*context, history.clone()).when(command.clone()).inspect_result();
        assert_eq!(decided, handled, "the adapter decides the same about {command:?}");

        let events = decided.unwrap_or_default();
        let after = applied(&state, &events);
        assert_eq!(events.is_empty(), after == state, "{command:?} of {state:?} led to {events:?}");
        if !events.is_empty() {
            match after.decide(context, command.clone()) {
                Ok(again) => assert_eq!(again, vec![], "{command:?} carried out twice"),
                Err(refusal) => assert!(refused_again.contains(&refusal.code()), "{command:?} twice: {refusal}"),
            }
        }
        events.iter().for_each(|event| replayed.apply(through_json(event)));
        history.extend(events);
        state = after;
        assert_eq!(replayed, state, "what is written down is what is known");
        assert_eq!(through_json(&state), state, "a snapshot is the state");
        inspect(context, &state);
    }
}
