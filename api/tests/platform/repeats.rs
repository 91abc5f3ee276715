//! The id of a command that somebody else has sent, or that one may not send any more.

use crate::harness::{World, admin, code};
use crate::rules::on_the_roof;
use daybook_app::Credential;
use daybook_domain::{Actor, ActorKind};
use serde_json::{Value, json};
use uuid::Uuid;

/// Whoever repeats a command of another with its id is told that the id is taken, and nothing of what came of it.
#[tokio::test]
async fn the_id_of_anothers_command_answers_nobody_else() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let roof = w.device(&boss, "Roof1", "Roof").await;
    // With the same roles in the same tenant, and the same input to the letter.
    let actor = Actor { id: Uuid::from_u128(0xbad), kind: ActorKind::Account };
    let other = Credential { actor, ..boss.clone() };
    let ask = async |who: &Credential, field: &str, input: &Value| {
        let upper = format!("{}{}", field[..1].to_uppercase(), &field[1..]);
        let fields = if field == "recordReadings" { "accepted" } else { "device { id name }" };
        let query = format!(
            "mutation($i: {upper}Input!) {{ a: {field}(input: $i) {{ {fields} position deduplicated userErrors {{ code }} }} }}"
        );
        w.ask(who, &query, json!({ "i": input })).await
    };
    let row = json!({ "device": roof, "time": "2025-01-01T00:00:00Z", "value": "7", "unit": "WH" });
    for (n, (field, input)) in [
        ("renameDevice", json!({ "id": roof, "name": "Renamed" })),
        ("recordReadings", json!({ "rows": [row] })),
        ("decommissionDevice", json!({ "id": roof, "reason": "old" })),
    ]
    .into_iter()
    .enumerate()
    {
        let mut input = input;
        input["clientMutationId"] = json!(Uuid::from_u128(100 + n as u128));
        let first = ask(&boss, field, &input).await;
        assert_eq!(first["data"]["a"]["deduplicated"], false, "{first}");
        let again = ask(&boss, field, &input).await;
        assert_eq!(again["data"]["a"]["deduplicated"], true, "{again}");
        let foreign = ask(&other, field, &input).await;
        assert_eq!((code(&foreign), foreign["data"]["a"].is_null()), ("CONFLICT", true), "{field}: {foreign}");
        let position = first["data"]["a"]["position"].as_str().unwrap();
        assert!(!foreign.to_string().contains(position), "{foreign}");
    }
}

/// Its author is told again what it was told, and no more of the record than it may see now.
#[tokio::test]
async fn a_repeat_shows_its_author_nothing_of_a_record_that_has_left_its_sight() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let roof = w.device(&boss, "Roof1", "Roof").await;
    w.role(&boss, "roofer", &["device.read", "device.rename"].map(on_the_roof), &[]).await;
    let (who, member) = w.holder(&boss, tenant, 1, "roofer").await;
    let input = json!({ "id": roof, "name": "Renamed", "clientMutationId": Uuid::from_u128(100) });
    let fields = "device { name site { name } }";
    let first = w.mutate(&who, "renameDevice", input.clone(), fields).await;
    assert_eq!(first["device"]["name"], "Renamed", "{first}");
    let cellar = json!({ "id": roof, "site": { "name": "Cellar", "timeZone": "Europe/Berlin" } });
    // Asked for, so that the read model has passed it.
    w.mutate(&boss, "changeDeviceSite", cellar, "device { id }").await;
    let again = w.mutate(&who, "renameDevice", input.clone(), fields).await;
    assert_eq!((&again["deduplicated"], &again["device"]), (&json!(true), &Value::Null), "{again}");
    assert_eq!(again["position"], first["position"], "what it was told before, and nothing newer");
    // Without the right to the command, not even that.
    w.role(&boss, "nothing", &[], &[]).await;
    let change = json!({ "id": member, "roles": [], "customRoles": ["nothing"] });
    w.mutate(&boss, "changeMemberRoles", change, "member { id }").await;
    assert_eq!(w.outcome(&who, "renameDevice", input).await, "FORBIDDEN");
}
