//! Devices and their readings, as those meet them who may see or record some of them only, or none.

use crate::harness::{World, admin, code, platform};
use crate::rules::{allow, on_the_roof};
use crate::site::{PASSWORD, Site, text};
use chrono::TimeDelta;
use daybook_app::energy::SentRow;
use daybook_app::{Call, Credential};
use daybook_domain::TenantId;
use daybook_domain::energy::local_time::Stamp;
use daybook_domain::energy::readings::Quality;
use daybook_projections::engine::Lanes;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use std::pin::pin;
use uuid::Uuid;

const TIME: &str = "2025-01-01T00:00:00Z";

fn row(device: &Value, time: &str) -> Value {
    json!({ "device": device, "time": time, "value": "7", "unit": "WH" })
}

impl World {
    /// What became of rows, as whoever sends them is told.
    async fn record(&self, who: &Credential, rows: &[Value]) -> Value {
        let query = "mutation($r: [ReadingInput!]!) { recordReadings(input: { rows: $r }) {
            accepted rejected position userErrors { path code message } } }";
        self.data(who, query, json!({ "r": rows })).await["recordReadings"].take()
    }

    /// How many readings of a device there are, as its administrator sees it.
    async fn count(&self, boss: &Credential, device: &Value) -> Value {
        let durable = self.parts.executor.journal().durable().borrow().position;
        self.parts.reads.wait(&["readings"], Lanes::All, durable).await.unwrap();
        let query = "query($d: UUID!) { device(id: $d) { readingTotals(
            from: \"2020-01-01T00:00:00Z\", to: \"2030-01-01T00:00:00Z\") { count } } }";
        self.data(boss, query, json!({ "d": device })).await["device"]["readingTotals"]["count"].take()
    }
}

async fn next(stream: &mut (impl Stream<Item = async_graphql::Response> + Unpin)) -> Value {
    serde_json::to_value(stream.next().await.expect("an answer")).unwrap()
}

/// Attack 6: sums of days and hours of a device that is another tenant's.
#[tokio::test]
async fn attack_06_nobody_adds_up_the_readings_of_another_tenants_device() {
    let w = World::new().await;
    let (own, other) = (w.tenant("Own").await, w.tenant("Other").await);
    let (nosy, owner) = (admin(own), admin(other));
    let (mine, theirs) = (w.device(&nosy, "Mill", "Roof").await, w.device(&owner, "Mill", "Roof").await);
    let elsewhere = w.device(&owner, "Else", "Elsewhere").await;
    w.record(&nosy, &[row(&mine, TIME)]).await;
    let many: Vec<Value> =
        ["00", "01", "02"].iter().map(|hour| row(&theirs, &format!("2025-01-01T{hour}:00:00Z"))).collect();
    let recorded = w.record(&owner, &many).await;
    w.record(&owner, &[row(&elsewhere, TIME)]).await;
    let span = "from: \"2025-01-01T00:00:00Z\", to: \"2025-01-03T00:00:00Z\"";
    let sums = format!(
        "id readingTotals({span}) {{ count energyWh }}
         days: readingTotals({span}) {{ energyWh }}
         readings({span}, resolution: HOUR, after: $c) {{ edges {{ cursor node {{ energyWh count }} }} }}"
    );
    let one = format!("query($d: UUID!, $t: UUID, $c: String) {{ device(id: $d, tenant: $t) {{ {sums} }} }}");
    let list = format!("query($t: UUID, $c: String) {{ devices(tenant: $t) {{ nodes {{ {sums} }} }} }}");
    let of_owner = w.data(&owner, &one, json!({ "d": theirs })).await["device"].take();
    assert_eq!(of_owner["readingTotals"], json!({ "count": "3", "energyWh": "21" }), "{of_owner}");
    assert_eq!(of_owner["readings"]["edges"].as_array().unwrap().len(), 3);
    let cursor = of_owner["readings"]["edges"][0]["cursor"].clone();

    // In one's own tenant, in the other one, in none: nothing, and the same for a device that is not there.
    for tenant in [Value::Null, json!(own), json!(other), json!(Uuid::from_u128(9))] {
        for device in [&theirs, &json!(Uuid::from_u128(9))] {
            let answer = w.ask(&nosy, &one, json!({ "d": device, "t": tenant })).await;
            assert_eq!(answer["data"]["device"], Value::Null, "{answer}");
            assert!(answer.get("errors").is_none(), "{answer}");
        }
    }
    let refused = w.ask(&nosy, &list, json!({ "t": other })).await;
    assert_eq!(code(&refused), "FORBIDDEN", "{refused}");
    // A cursor of theirs leads nowhere, and one's own sums are one's own.
    let foreign = w.ask(&nosy, &one, json!({ "d": mine, "c": cursor })).await;
    assert_eq!(code(&foreign), "BAD_USER_INPUT", "{foreign}");
    // Asked at the same moment, so that statements are shared where they can be.
    let (listed, of_others) = tokio::join!(w.data(&nosy, &list, json!({})), w.data(&owner, &list, json!({})));
    let own_sums = &listed["devices"]["nodes"];
    assert_eq!(own_sums.as_array().unwrap().len(), 1, "{own_sums}");
    assert_eq!(own_sums[0]["readingTotals"], json!({ "count": "1", "energyWh": "7" }));
    assert_eq!(of_others["devices"]["nodes"].as_array().unwrap().len(), 2);

    // Under a consent to see the devices of a site: those, and no sums of any.
    w.role(&nosy, "advisor", &[allow("consent.use")], &[]).await;
    let (who, _) = w.holder(&nosy, own, 1, "advisor").await;
    let consent = |actions: Value| {
        let until = w.parts.system.utc() + TimeDelta::days(1);
        json!({ "provider": own, "actions": actions, "site": "Roof", "until": until, "reason": "advice" })
    };
    w.mutate(&owner, "grantConsent", consent(json!(["READ_DEVICES"])), "consent { id }").await;
    let named = "query($d: UUID!, $t: UUID) { device(id: $d, tenant: $t) { name } }";
    assert_eq!(w.data(&who, named, json!({ "d": theirs, "t": other })).await["device"]["name"], "Mill");
    let refused = w.ask(&who, &one, json!({ "d": theirs, "t": other })).await;
    assert_eq!((code(&refused), refused["data"]["device"].is_null()), ("FORBIDDEN", true), "{refused}");
    let stream = "subscription($t: UUID, $d: UUID!, $a: Position) {
        readings(tenant: $t, device: $d, after: $a) { readings { energyWh } } }";
    let variables = json!({ "t": other, "d": theirs, "a": recorded["position"] });
    let mut stream = pin!(w.schema.execute_stream(World::request(&who, stream, variables)));
    assert_eq!(code(&next(&mut stream).await), "FORBIDDEN");
    // And to see what they measured: of this site, and of no other.
    let input = consent(json!(["READ_DEVICES", "READ_READINGS"]));
    w.mutate(&owner, "grantConsent", input, "consent { id }").await;
    let seen = w.data(&who, &list, json!({ "t": other })).await["devices"]["nodes"].take();
    assert_eq!((seen.as_array().unwrap().len(), &seen[0]["readingTotals"]["count"]), (1, &json!("3")), "{seen}");
    assert_eq!(w.data(&who, &one, json!({ "d": elsewhere, "t": other })).await["device"], Value::Null);
}

/// Attack 9: a batch by a role that may record readings of some devices.
#[tokio::test]
async fn attack_09_of_a_batch_only_the_rows_within_the_condition_are_recorded() {
    let site = Site::new().await;
    let w = &site.world;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let (roof, cellar) = (w.device(&boss, "Roof1", "Roof").await, w.device(&boss, "Cellar1", "Cellar").await);
    w.role(&boss, "recorder", &[on_the_roof("readings.record")], &[]).await;
    let (who, member) = w.holder(&boss, tenant, 1, "recorder").await;
    let set = json!({ "account": who.actor.id, "password": PASSWORD });
    w.mutate(&platform(), "setPassword", set, "account { id }").await;

    // Each row of a device outside is refused as one of a device that is not there; the others are recorded.
    let nobody = json!(Uuid::from_u128(9));
    let rows = [
        row(&roof, TIME),
        row(&cellar, TIME),
        row(&json!("Cellar1-12345678"), "2025-01-01T00:15:00Z"),
        row(&nobody, TIME),
        row(&json!("Roof1-12345678"), "2025-01-01T00:15:00Z"),
    ];
    let told = w.record(&who, &rows).await;
    assert_eq!((&told["accepted"], &told["rejected"]), (&json!("2"), &json!("3")), "{told}");
    let errors = told["userErrors"].as_array().unwrap();
    for (error, index) in errors.iter().zip(["1", "2", "3"]) {
        assert_eq!((&error["code"], &error["path"][2]), (&json!("DEVICE_UNKNOWN"), &json!(index)), "{told}");
        assert_eq!(error["message"], errors[2]["message"], "it cannot be told whether there is such a device");
    }
    assert_eq!((w.count(&boss, &roof).await, w.count(&boss, &cellar).await), (json!("2"), json!("0")));

    // The same over plain HTTP.
    let body = json!({ "email": "ada1@x.example", "password": PASSWORD, "tenant": tenant });
    let tokens = site.post("/auth/login", body).await;
    let token = text(&tokens.body, "accessToken");
    let csv = ["2025-01-02T00:00:00Z", "2025-01-02T00:15:00Z"].map(|time| {
        let line = |device: &Value| format!("{},{time},9,Wh\n", device.as_str().unwrap());
        format!("{}{}{}", line(&roof), line(&cellar), line(&nobody))
    });
    let request = site.http.post(site.url("/v1/readings")).bearer_auth(token).header("content-type", "text/csv");
    let told = Site::sent(request.body(format!("device,time,value,unit\n{}", csv.concat()))).await;
    assert_eq!((&told.body["accepted"], &told.body["rejected"]), (&json!(2), &json!(4)), "{}", told.body);
    assert_eq!(told.body.to_string().matches("DEVICE_UNKNOWN").count(), 4, "{}", told.body);
    assert_eq!((w.count(&boss, &roof).await, w.count(&boss, &cellar).await), (json!("4"), json!("0")));

    // Who may record nothing is refused as a whole.
    w.role(&boss, "nothing", &[], &[]).await;
    let change = json!({ "id": member, "roles": [], "customRoles": ["nothing"] });
    w.mutate(&boss, "changeMemberRoles", change, "member { id }").await;
    let query = "mutation($r: [ReadingInput!]!) { recordReadings(input: { rows: $r }) { accepted } }";
    assert_eq!(code(&w.ask(&who, query, json!({ "r": [row(&roof, TIME)] })).await), "FORBIDDEN");
}

/// Attack 9: the device leaves the condition between its rows' coming and their being recorded.
#[tokio::test]
async fn attack_09_a_device_that_leaves_the_condition_during_a_call_takes_its_rows_with_it() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let (stays, goes) = (w.device(&boss, "Stays", "Roof").await, w.device(&boss, "Goes", "Roof").await);
    w.role(&boss, "recorder", &[on_the_roof("readings.record")], &[]).await;
    let (who, _) = w.holder(&boss, tenant, 1, "recorder").await;
    let who = w.parts.rules.complete(who).await.unwrap();
    let sent = |index, device: &Value| SentRow {
        index,
        device: device.as_str().unwrap().to_owned(),
        time: Stamp::parse(TIME).unwrap(),
        energy_wh: 7,
        quality: Quality::Measured,
    };
    let mut call = w.parts.ingest.begin(&who, TenantId(tenant), Call::default()).await.unwrap();
    call.record(vec![sent(0, &stays), sent(1, &goes)]).await.unwrap();
    let cellar = json!({ "id": goes, "site": { "name": "Cellar", "timeZone": "Europe/Berlin" } });
    w.mutate(&boss, "changeDeviceSite", cellar, "device { id }").await;
    let report = call.finish().await.unwrap();
    assert_eq!((report.accepted, report.rejected), (1, 1));
    assert_eq!((report.rejections[0].index, report.rejections[0].code), (1, "DEVICE_UNKNOWN"));
    assert_eq!((w.count(&boss, &stays).await, w.count(&boss, &goes).await), (json!("1"), json!("0")));
}

/// Attack 15: a record that leaves one's condition while one listens.
#[tokio::test]
async fn attack_15_a_device_that_leaves_ones_sight_is_said_to_be_gone_and_nothing_more() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let (roof, other) = (w.device(&boss, "Roof1", "Roof").await, w.device(&boss, "Roof2", "Roof").await);
    w.role(&boss, "roofer", &["device.read", "device.list", "readings.read"].map(on_the_roof), &[]).await;
    let (who, _) = w.holder(&boss, tenant, 1, "roofer").await;
    let began = w.record(&boss, &[row(&other, TIME)]).await["position"].clone();
    let query = "subscription($d: UUID!, $a: Position) { readings(device: $d, after: $a) { readings { energyWh } } }";
    let listen = |device: &Value| {
        w.schema.execute_stream(World::request(&who, query, json!({ "d": device, "a": began }))).boxed()
    };
    let (mut leaving, mut staying) = (listen(&roof), listen(&other));
    w.record(&boss, &[row(&roof, TIME)]).await;
    let first = next(&mut leaving).await;
    assert_eq!(first["data"]["readings"]["readings"], json!([{ "energyWh": "7" }]), "{first}");
    // A change within the condition is none of the reader's business.
    w.mutate(&boss, "renameDevice", json!({ "id": roof, "name": "Renamed" }), "device { id }").await;
    w.record(&boss, &[row(&roof, "2025-01-01T00:15:00Z")]).await;
    let second = next(&mut leaving).await;
    assert_eq!(second["data"]["readings"]["readings"], json!([{ "energyWh": "7" }]), "{second}");

    // It leaves, and nothing is recorded of it: the reader is told at once that it is gone.
    let site = |id: &Value, site: &str| json!({ "id": id, "site": { "name": site, "timeZone": "Europe/Berlin" } });
    w.mutate(&boss, "changeDeviceSite", site(&roof, "Secret cellar"), "device { id }").await;
    let gone = next(&mut leaving).await;
    assert_eq!(code(&gone), "NOT_FOUND", "{gone}");
    assert!(!gone.to_string().contains("cellar") && !gone.to_string().contains("Renamed"), "{gone}");
    assert!(leaving.next().await.is_none(), "that is the last word");
    let listed = "{ devices { totalCount nodes { name } } }";
    let expected = json!({ "devices": { "totalCount": "1", "nodes": [{ "name": "Roof2" }] } });
    assert_eq!(w.data(&who, listed, json!({})).await, expected);
    let one = "query($d: UUID!) { device(id: $d) { name } }";
    assert_eq!(w.data(&who, one, json!({ "d": roof })).await["device"], Value::Null);
    let again = next(&mut listen(&roof)).await;
    assert_eq!(code(&again), "NOT_FOUND", "{again}");

    // What is recorded right after it has left is not told, however fast it comes.
    for n in 0..5 {
        let device = w.device(&boss, &format!("Fast{n}"), "Roof").await;
        let mut stream = listen(&device);
        let mut told = pin!(next(&mut stream));
        assert!(futures_util::poll!(&mut told).is_pending());
        w.mutate(&boss, "changeDeviceSite", site(&device, "Cellar"), "position").await;
        w.record(&boss, &[row(&device, TIME)]).await;
        let told = told.await;
        assert_eq!((code(&told), told["data"].is_null()), ("NOT_FOUND", true), "{told}");
    }
    // Others go on.
    w.record(&boss, &[row(&other, "2025-01-03T00:00:00Z")]).await;
    assert_eq!(next(&mut staying).await["data"]["readings"]["readings"], json!([{ "energyWh": "7" }]));
}

/// Attack 12, below a subscription.
#[tokio::test]
async fn attack_12_nothing_below_a_changed_grant_is_shown_to_who_may_not_read_it() {
    let w = World::new().await;
    let tenant = w.tenant("Acme").await;
    let boss = admin(tenant);
    let account = w.account(1).await;
    let member = w.member(&boss, account).await;
    let module = w.module(&boss, "sizing").await;
    let see = |actions: &[&str]| actions.iter().map(|action| allow(action)).collect::<Vec<_>>();
    let role = w.role(&boss, "all", &see(&["grant.list", "membership.read", "membership.readPerson"]), &[]).await;
    w.role(&boss, "lister", &see(&["grant.list"]), &[]).await;
    let began = w.role(&boss, "members", &see(&["grant.list", "membership.read", "module.read"]), &[]).await;
    let query = "subscription($a: Position) { grantChanged(after: $a) { node { role member { id person { name email } } module { name } } } }";
    let (lister, _) = w.holder(&boss, tenant, 2, "lister").await;
    let (members, _) = w.holder(&boss, tenant, 3, "members").await;
    let (all, _) = w.holder(&boss, tenant, 4, "all").await;
    let variables = json!({ "a": began["position"] });
    let mut streams = [&lister, &members, &all]
        .map(|who| w.schema.execute_stream(World::request(who, query, variables.clone())).boxed());
    w.grant(&boss, member, module, "reader").await;
    let node = |answer: &Value| answer["data"]["grantChanged"]["node"].clone();
    let told = next(&mut streams[0]).await;
    assert_eq!(node(&told), json!({ "role": "reader", "member": null, "module": null }), "{told}");
    let told = next(&mut streams[1]).await;
    assert_eq!(code(&told), "FORBIDDEN", "of the person: {told}");
    assert!(node(&told)["member"] == json!({ "id": member, "person": null }), "{told}");
    assert_eq!(node(&told)["module"]["name"], "Battery sizing");
    let told = next(&mut streams[2]).await;
    assert_eq!(node(&told)["member"]["person"]["name"], "Ada 1", "{told}");

    // A role that loses what is below, and keeps what is above: the stream ends, and tells nothing with the right of before.
    let change = json!({ "id": role["role"]["id"], "key": "all", "name": "Less",
        "rules": see(&["grant.list", "membership.read"]), "fields": [] });
    w.mutate(&boss, "changeRole", change, "role { version }").await;
    w.grant(&boss, member, module, "planner").await;
    let told = next(&mut streams[2]).await;
    assert_eq!(code(&told), "FORBIDDEN", "{told}");
    assert!(!told.to_string().contains("Ada 1"), "{told}");
    assert!(streams[2].next().await.is_none(), "that is the last word");
    // Those whose roles are as they were go on.
    let told = next(&mut streams[0]).await;
    assert_eq!(node(&told)["role"], "planner", "{told}");
}
