//! Old and new values of real events.

use super::*;
use daybook_domain::registry::event_contracts;
use serde_json::json;

fn event(kind: &str, name: &str, sequence: u64, payload: Value) -> RecordedEvent {
    RecordedEvent {
        position: sequence,
        tenant: TenantId(Uuid::nil()),
        tenant_position: sequence,
        stream_type: kind.to_owned(),
        stream_id: Uuid::nil(),
        sequence,
        event_id: Uuid::from_u128(sequence.into()),
        event_type: name.to_owned(),
        event_version: 1,
        recorded_at: chrono::DateTime::UNIX_EPOCH,
        payload: payload.to_string(),
        metadata: "{}".to_owned(),
    }
}

fn tenant(sequence: u64, name: &str, payload: Value) -> RecordedEvent {
    event("tenant", &format!("platform.tenant.{name}"), sequence, payload)
}

fn registered(name: &str) -> Value {
    json!({ "name": name, "plan": "FREE", "contact": null, "domain": null })
}

fn told(events: Vec<RecordedEvent>, whole: bool) -> Vec<Detail> {
    let payloads: Vec<_> = events.iter().map(|event| Some(event.payload.clone())).collect();
    told_of(events, &payloads, whole)
}

fn told_of(events: Vec<RecordedEvent>, payloads: &[Option<String>], whole: bool) -> Vec<Detail> {
    let wanted = events.iter().map(|event| event.event_id).collect();
    let story = Story { events, whole };
    let mut details = HashMap::new();
    tell(&story, payloads, &wanted, &mut details);
    story.events.iter().map(|event| details.remove(&event.event_id).unwrap()).collect()
}

fn change(path: &[&str], old: Option<Value>, new: Option<Value>) -> Change {
    Change { path: path.iter().map(|part| (*part).to_owned()).collect(), old, new, erased: false, personal: false }
}

#[test]
fn a_rename_tells_the_old_and_the_new_name_and_nothing_else() {
    let details =
        told(vec![tenant(1, "registered", registered("Acme")), tenant(2, "renamed", json!({ "name": "Zeta" }))], true);
    assert_eq!(details[1].changes, [change(&["name"], Some(json!("Acme")), Some(json!("Zeta")))]);
    assert!(!details[1].truncated && !details[1].sealed);
    let first: Vec<_> = details[0].changes.iter().map(|change| change.path.join(".")).collect();
    assert_eq!(first, ["name", "plan", "status"], "what is null before and after has not changed");
}

#[test]
fn a_suspension_is_a_status_and_a_reason_and_not_a_new_tenant() {
    let details = told(
        vec![tenant(1, "registered", registered("Acme")), tenant(2, "suspended", json!({ "reason": "unpaid" }))],
        true,
    );
    assert_eq!(
        details[1].changes,
        [
            change(&["reason"], None, Some(json!("unpaid"))),
            change(&["status"], Some(json!("active")), Some(json!("suspended")))
        ]
    );
}

#[test]
fn settings_are_told_one_by_one_with_their_dots() {
    let set = |value: i64| json!({ "set": { "fiscal.year_start": value }, "unset": [] });
    let details = told(
        vec![
            tenant(1, "registered", registered("Acme")),
            tenant(2, "settings_changed", set(4)),
            tenant(3, "settings_changed", set(7)),
            tenant(4, "settings_changed", json!({ "set": {}, "unset": ["fiscal.year_start"] })),
        ],
        true,
    );
    let path = ["settings", "fiscal.year_start"];
    assert_eq!(details[1].changes, [change(&path, None, Some(json!(4)))]);
    assert_eq!(details[2].changes, [change(&path, Some(json!(4)), Some(json!(7)))]);
    assert_eq!(details[3].changes, [change(&path, Some(json!(7)), None)]);
}

#[test]
fn an_erased_person_is_told_as_erased_before_and_after() {
    let contact = |subject: u128, value: Option<Value>| match value {
        Some(value) => json!({ "contact": { "$subject": Uuid::from_u128(subject), "value": value } }),
        None => json!({ "contact": { "$subject": Uuid::from_u128(subject), "erased": true } }),
    };
    let ada = json!({ "name": "Ada", "email": "ada@example.com" });
    let details = told(
        vec![
            tenant(1, "registered", registered("Acme")),
            tenant(2, "contact_changed", contact(1, None)),
            tenant(3, "contact_changed", contact(1, None)),
            tenant(4, "contact_changed", contact(2, Some(ada.clone()))),
        ],
        true,
    );
    let erased = Change { erased: true, personal: true, ..change(&["contact"], None, None) };
    assert_eq!(details[1].changes, std::slice::from_ref(&erased));
    assert_eq!(details[2].changes, [erased], "although it reads the same before and after");
    assert_eq!(details[3].changes, [Change { erased: true, personal: true, ..change(&["contact"], None, Some(ada)) }]);
}

#[test]
fn without_the_whole_history_old_values_are_absent_and_it_says_so() {
    let details = told(vec![tenant(7, "renamed", json!({ "name": "Zeta" }))], false);
    assert_eq!(details[0].changes, [change(&["name"], None, Some(json!("Zeta")))]);
    assert!(details[0].truncated);
}

#[test]
fn an_event_that_does_not_open_is_sealed_and_those_after_it_do_not_guess() {
    let events = vec![
        tenant(1, "registered", registered("Acme")),
        tenant(2, "renamed", json!({ "name": "?" })),
        tenant(3, "renamed", json!({ "name": "Zeta" })),
    ];
    let mut payloads: Vec<_> = events.iter().map(|event| Some(event.payload.clone())).collect();
    payloads[1] = None;
    let details = told_of(events, &payloads, true);
    assert!(details[1].sealed && details[1].changes.is_empty());
    assert!(!details[2].sealed && details[2].truncated);
    assert_eq!(details[2].changes, [change(&["name"], None, Some(json!("Zeta")))]);
}

#[test]
fn readings_tell_how_many_and_of_when_and_no_value() {
    let contracts = event_contracts();
    let contract = contracts.iter().find(|contract| contract.event_type == "energy.readings.recorded").unwrap();
    let details = told(vec![event("readings", &contract.event_type, 1, contract.samples[0].clone())], false);
    let paths: Vec<_> = details[0].changes.iter().map(|change| change.path.join(".")).collect();
    assert_eq!(paths, ["device", "day", "count", "first", "last"]);
    assert!(details[0].changes[2].new.as_ref().and_then(Value::as_u64).unwrap() > 0);
    assert!(!details[0].truncated);
}

#[test]
fn a_bulk_change_is_cut_and_says_so() {
    let many: serde_json::Map<String, Value> = (0..CHANGES_MAX + 5).map(|n| (format!("k{n:04}"), json!(n))).collect();
    let details = told(vec![event("thing", "test.thing.happened", 1, Value::Object(many))], true);
    assert_eq!(details[0].changes.len(), CHANGES_MAX);
    assert!(details[0].truncated);
}

#[test]
fn where_a_request_came_from_is_told_until_its_actor_is_erased() {
    let caller = |metadata: Option<Value>| {
        let mut detail = Detail::default();
        tell_caller(metadata.map(|m| m.to_string()).as_deref(), &mut detail);
        detail
    };
    let subject = Uuid::from_u128(9);
    let known = caller(Some(json!({ "ip": { "$subject": subject, "value": "192.0.2.7" } })));
    assert_eq!((known.ip.as_deref(), known.caller_erased), (Some("192.0.2.7"), false));
    let erased = caller(Some(json!({ "ip": { "$subject": subject, "erased": true } })));
    assert_eq!((erased.ip, erased.caller_erased), (None, true));
    assert!(caller(None).sealed);
}
