//! What holds for any sequence of commands, sensible or not.

use super::tests::context;
use super::*;
use crate::ids::SubjectId;
use cqrs_es::event_sink::EventSink;
use cqrs_es::test::TestFramework;
use cqrs_es::{Aggregate, DomainEvent};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use uuid::Uuid;

fn any_name() -> impl Strategy<Value = Name> {
    prop_oneof!["[A-C]", "\\PC{1,20}"].prop_filter_map("no name", |text| Name::parse(&text).ok())
}

fn any_reason() -> impl Strategy<Value = Reason> {
    "[a-c]{1,3}".prop_filter_map("no reason", |text| Reason::parse(&text).ok())
}

fn any_plan() -> impl Strategy<Value = Plan> {
    proptest::sample::select(Plan::ALL)
}

fn any_key() -> impl Strategy<Value = SettingKey> {
    "[a-d]".prop_filter_map("no key", |text| SettingKey::parse(&text).ok())
}

fn any_value() -> impl Strategy<Value = SettingValue> {
    prop_oneof![
        any::<bool>().prop_map(SettingValue::Flag),
        any::<i64>().prop_map(SettingValue::Whole),
        "\\PC{0,10}".prop_filter_map("no text", |text| SettingValue::text(&text).ok()),
    ]
}

fn any_contact() -> impl Strategy<Value = Option<Personal<Contact>>> {
    let known = |(subject, name): (u128, String)| {
        Some(Personal::known(SubjectId(Uuid::from_u128(subject)), Contact::parse(&name, "a@b.example").ok()?))
    };
    prop_oneof![
        Just(None),
        Just(Some(Personal::Erased { subject: SubjectId(Uuid::from_u128(1)) })),
        (0..3_u128, "[A-C]").prop_map(known),
    ]
}

fn any_command() -> impl Strategy<Value = TenantCommand> {
    use TenantCommand as C;
    let domain = prop_oneof![Just(None), "[ab]\\.example".prop_map(|text| Domain::parse(&text).ok())];
    prop_oneof![
        2 => (any_name(), any_plan(), any_contact(), domain)
            .prop_map(|(name, plan, contact, domain)| C::Register { name, plan, contact, domain }),
        2 => any_name().prop_map(|name| C::Rename { name }),
        2 => any_plan().prop_map(|plan| C::ChangePlan { plan }),
        4 => (btree_map(any_key(), any_value(), 0..4), btree_set(any_key(), 0..3)).prop_map(|(set, unset)| C::ChangeSettings { set, unset }),
        2 => any_contact().prop_map(|contact| C::ChangeContact { contact }),
        2 => "[ab]\\.example".prop_filter_map("no domain", |text| Some(C::ClaimDomain { domain: Domain::parse(&text).ok()? })),
        1 => Just(C::ReleaseDomain),
        1 => any_reason().prop_map(|reason| C::Suspend { reason }),
        2 => Just(C::Reopen),
        1 => any_reason().prop_map(|reason| C::Close { reason }),
    ]
}

/// An event that no decision need have led to.
fn any_event() -> impl Strategy<Value = TenantEvent> {
    use TenantEvent as E;
    prop_oneof![
        (any_name(), any_plan(), any_contact()).prop_map(|(name, plan, contact)| E::Registered {
            name,
            plan,
            contact,
            domain: None
        }),
        any_name().prop_map(|name| E::Renamed { name }),
        any_plan().prop_map(|plan| E::PlanChanged { plan }),
        (btree_map(any_key(), any_value(), 0..4), btree_set(any_key(), 0..3))
            .prop_map(|(set, unset)| E::SettingsChanged { set, unset }),
        any_contact().prop_map(|contact| E::ContactChanged { contact }),
        any_reason().prop_map(|reason| E::Suspended { reason }),
        Just(E::Reopened {}),
        any_reason().prop_map(|reason| E::Closed { reason }),
    ]
}

fn applied(tenant: &Tenant, events: &[TenantEvent]) -> Tenant {
    let mut tenant = tenant.clone();
    events.iter().cloned().for_each(|event| tenant.apply(event));
    tenant
}

fn through_json<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("serializes");
    serde_json::from_str(&text).expect("decodes")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_decision_is_the_same_each_time_and_carried_out_twice_it_changes_nothing(commands in vec(any_command(), 0..30)) {
        let mut tenant = Tenant::default();
        for command in commands {
            let decided = tenant.decide(&context(), command.clone());
            prop_assert_eq!(&decided, &tenant.decide(&context(), command.clone()));
            if let Ok(events) = decided {
                let after = applied(&tenant, &events);
                prop_assert_eq!(events.is_empty(), after == tenant, "no events means already so, and only that");
                match after.decide(&context(), command) {
                    Ok(again) => prop_assert_eq!(again, vec![]),
                    Err(refusal) => prop_assert_eq!(refusal, TenantError::AlreadyRegistered),
                }
                tenant = after;
            }
        }
    }

    #[test]
    fn what_is_written_down_gives_the_same_tenant_when_read_back(commands in vec(any_command(), 0..30)) {
        let (mut tenant, mut replayed) = (Tenant::default(), Tenant::default());
        for command in commands {
            for event in tenant.decide(&context(), command).unwrap_or_default() {
                replayed.apply(through_json(&event));
                tenant.apply(event);
            }
            prop_assert_eq!(&replayed, &tenant);
            prop_assert_eq!(&through_json(&tenant), &tenant, "a snapshot is the state");
        }
    }

    #[test]
    fn a_domain_is_held_exactly_while_the_tenant_is_open(commands in vec(any_command(), 0..30)) {
        let (mut tenant, mut held) = (Tenant::default(), BTreeSet::new());
        for command in commands {
            let events = tenant.decide(&context(), command).unwrap_or_default();
            for change in tenant.keys(&events) {
                let changed = if change.claim { held.insert(change.key) } else { held.remove(&change.key) };
                prop_assert!(changed, "a key is taken once and released once");
            }
            tenant = applied(&tenant, &events);
            let domain = tenant.profile().and_then(|profile| profile.domain.as_ref());
            prop_assert_eq!(held.iter().map(String::as_str).collect::<Vec<_>>(), domain.map(Domain::as_str).into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_history_makes_a_tenant_panic(events in vec(any_event(), 0..30), command in any_command()) {
        let tenant = applied(&Tenant::default(), &events);
        let decided = tenant.decide(&context(), command);
        prop_assert!(decided.iter().flatten().all(|event| event.event_type().starts_with("platform.tenant.")));
    }

    #[test]
    fn the_adapter_for_foreign_stores_decides_as_the_executor_does(history in vec(any_event(), 0..6), command in any_command()) {
        let decided = applied(&Tenant::default(), &history).decide(&context(), command.clone());
        let handled = TestFramework::<Tenant>::with(context()).given(history).when(command).inspect_result();
        prop_assert_eq!(decided, handled);
    }

    #[test]
    fn a_refused_command_writes_nothing_and_changes_nothing(history in vec(any_event(), 0..6), command in any_command()) {
        let before = applied(&Tenant::default(), &history);
        prop_assume!(before.decide(&context(), command.clone()).is_err());
        let (mut tenant, sink) = (before.clone(), EventSink::default());
        let (refused, written) = block_on(async {
            let outcome = tenant.handle(command, &context(), &sink).await;
            (outcome.is_err(), sink.collect().await)
        });
        prop_assert!(refused);
        prop_assert_eq!(written, vec![]);
        prop_assert_eq!(tenant, before);
    }
}

/// Nothing here waits for anything, so one poll is enough and no runtime is needed.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a decision does not wait"),
    }
}
